-- Coroutines of scripts. A call that waits yields a token to the scheduler; when the script runs it inside a coroutine
-- of its own, that yield comes out of coroutine.resume first, and is passed on here, however deep.
local support, tidy, has_room = ...
local coroutine, error, tonumber, type, rawequal = coroutine, error, tonumber, type, rawequal
local create, resume, yield, status = coroutine.create, coroutine.resume, coroutine.yield, coroutine.status
local running = coroutine.running

local bridge, band = support.bridge, bit.band
-- init, header_filter, body_filter
local NO_WAIT = 0x10060
local TOKEN = support.token
support.native_create, support.native_status = create, status
-- Coroutines in which a call waits, or that have resumed such a one, and what they are said to do.
local waiting = setmetatable({}, { __mode = "k" })

-- The coroutines that scripts begin in, of every request. The scheduler alone resumes them.
local entries = setmetatable({}, { __mode = "k" })
support.entries = entries

local pass

local function go_on(me, co, ...)
    waiting[me], waiting[co] = nil, nil
    return pass(co, resume(co, ...))
end

function pass(co, ok, ...)
    if ok and (...) == TOKEN then
        local me = running()
        waiting[me], waiting[co] = "normal", waiting[co] or "running"
        return go_on(me, co, yield(TOKEN))
    end
    return ok, ...
end

local function status_of(co)
    local state = support.thread_status(co)
    if state and state ~= "running" then
        return state
    end
    return waiting[co] or state or status(co)
end

local argument_error = support.argument_error

function coroutine.create(f)
    if type(f) ~= "function" then
        argument_error(1, "Lua function expected")
    end
    return create(f)
end

-- Why a coroutine cannot be resumed, or nil. One that another resumes takes C stack; see machine/c_stack.rs.
local function obstacle(co)
    local state = status_of(co)
    if state == "suspended" and entries[co] then
        state = "running"
    end
    if state ~= "suspended" then
        return "cannot resume " .. state .. " coroutine"
    end
end

local OVERFLOW = "C stack overflow"

function coroutine.status(co)
    if type(co) ~= "thread" then
        argument_error(1, "coroutine expected")
    end
    return status_of(co)
end

function coroutine.resume(co, ...)
    if type(co) ~= "thread" then
        argument_error(1, "coroutine expected")
    end
    local reason = obstacle(co) or not has_room() and OVERFLOW
    if reason then
        return false, reason
    end
    return pass(co, resume(co, ...))
end

-- The last error that left a coroutine by way of coroutine.wrap, and these coroutines, from the innermost: the traceback of
-- the entry coroutine shows them if it fails with the same value.
local trail = {}
support.trail = trail

local function unwrap(co, ok, ...)
    if ok then
        return ...
    end
    local value = ...
    if value == nil or not rawequal(trail[1], value) then
        for at = #trail, 1, -1 do
            trail[at] = nil
        end
        trail[1] = value
    end
    if value ~= nil then
        trail[#trail + 1] = co
    end
    -- Where nothing waits, ngx_lua leaves it to Lua's own function, which says where it was called.
    error(value, band(bridge.phase, NO_WAIT) ~= 0 and 2 or 0)
end

function coroutine.wrap(f)
    if type(f) ~= "function" then
        argument_error(1, "Lua function expected")
    end
    local co = create(f)
    return function(...)
        local reason = obstacle(co)
        if reason then
            -- As in ngx_lua, which raises nothing here.
            return false, reason
        end
        if not has_room() then
            error(OVERFLOW, 2)
        end
        return unwrap(co, pass(co, resume(co, ...)))
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
