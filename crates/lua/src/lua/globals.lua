-- Scripts and modules see _G through an empty table, so that a new global can be told from an existing one: a warning is
-- logged once. With `lua_isolate_globals on` a global that a request makes by accident is its own; others are shared still:
-- by _G.name = value, by a module while it is loaded, or before the first request.
local support = ...
local log, WARN, traceback, tostring = ngx.log, ngx.WARN, debug.traceback, tostring
local MESSAGE = { "writing a global Lua variable ('", "') which may lead to race conditions between concurrent requests, so prefer the use of 'local' variables" }
local shared, keep = _G, nil
local function newindex(_, key, value)
    if keep(key, value) then
        return
    end -- What follows is line 12, as in OpenResty's guard: tools look for it in logs.
    log(WARN, MESSAGE[1], tostring(key), MESSAGE[2], traceback("", 2))
end

local bridge, private = support.bridge, support.settings.private_globals
local getinfo, require, rawset, rawget, tonumber, band = debug.getinfo, require, rawset, rawget, tonumber, bit.band
-- Phases in which a global is shared.
local SHARED = 0x10000 + 0x100
-- The globals of each request, by its number.
local own = {}

-- Whether a module is being loaded further up the stack.
local function loading()
    for level = 3, 100 do
        local frame = getinfo(level, "f")
        if not frame then
            return false
        end
        if frame.func == require then
            return true
        end
    end
end

-- Whether this global is shared; if not, it is the request's own.
function keep(key, value)
    if rawget(shared, key) ~= nil or band(bridge.phase, SHARED) ~= 0 then
        rawset(shared, key, value)
        return true
    end
    if not private or loading() then
        rawset(shared, key, value)
        return false
    end
    local request = tonumber(bridge.request)
    own[request] = own[request] or {}
    own[request][key] = value
    bridge.touched = 1
    return false
end

local function index(_, key)
    local mine = own[tonumber(bridge.request)]
    if mine then
        return mine[key]
    end
end

setmetatable(shared, { __index = private and index or nil })
setfenv(0, setmetatable({}, { __index = shared, __newindex = newindex }))

-- Forgets what a request kept in Lua.
local ctxs, threads = support.ctxs, support.threads
function support.forget(request)
    own[request] = nil
    ctxs[request] = nil
    threads[request] = nil
end
