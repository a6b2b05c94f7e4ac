-- Coroutines of scripts. A call that waits yields a token to the scheduler; when the script runs it inside a coroutine
-- of its own, that yield comes out of coroutine.resume first, and is passed on here, however deep.
local support, tidy, has_room = ...
local coroutine, error, tonumber, type = coroutine, error, tonumber, type
local create, resume, yield, status = coroutine.create, coroutine.resume, coroutine.yield, coroutine.status

local TOKEN = support.token

local function pass(co, ok, ...)
    if ok and (...) == TOKEN then
        return pass(co, resume(co, yield(TOKEN)))
    end
    return ok, ...
end

-- A coroutine that another resumes takes C stack; see machine/c_stack.rs.
local OVERFLOW = "C stack overflow"

function coroutine.resume(co, ...)
    if not has_room() then
        return false, OVERFLOW
    end
    return pass(co, resume(co, ...))
end

local function unwrap(ok, ...)
    if ok then
        return ...
    end
    error((...), 0)
end

function coroutine.wrap(f)
    local co = create(f)
    return function(...)
        if not has_room() then
            error(OVERFLOW, 2)
        end
        return unwrap(pass(co, resume(co, ...)))
    end
end

-- API functions call this to wait; it returns the scheduler's values.
local isyieldable = coroutine.isyieldable
function support.wait()
    if not isyieldable() then
        error("attempt to yield across C-call boundary", 0)
    end
    return yield(TOKEN)
end

-- Inline scripts are function bodies to LuaJIT, and main chunks to their authors.
local debug, gsub, tostring = debug, string.gsub, tostring
local native = debug.traceback

function debug.traceback(a, b, c)
    local text
    if type(a) == "thread" then
        text = native(a, b, c)
    else
        text = native(a, (tonumber(b) or 1) + 1)
    end
    if type(text) ~= "string" then
        return text
    end
    text = tidy(text)
    return (gsub(text, "in function <[^\n]*_by_lua%([^\n]*%):1>$", "in main chunk"))
end
