-- Globals that a request makes by accident are its own, and a warning is logged; what a module makes while it is
-- loaded, and what is made before the first request, is for all.
local support = ...
local log, WARN, traceback, getinfo, rawset = ngx.log, ngx.WARN, debug.traceback, debug.getinfo, rawset
local bridge, require, tostring, tonumber = support.bridge, require, tostring, tonumber
local private = support.settings.private_globals
local SHARED = 0x10000 + 0x100
local own, loading = {}
local function keep(t, k, v) if not private or loading() then rawset(t, k, v) else local n = tonumber(bridge.request) own[n] = own[n] or {} own[n][k] = v bridge.touched = 1 end end
local function newindex(t, key, value)
    if bit.band(bridge.phase, SHARED) ~= 0 then rawset(t, key, value) return end
    keep(t, key, value) log(WARN, "writing a global Lua variable ('", tostring(key), "') which may lead to race conditions between concurrent requests, so prefer the use of 'local' variables", traceback("", 2))
end

-- Whether a module is being loaded further up.
function loading()
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

local function index(_, key)
    local mine = own[tonumber(bridge.request)]
    if mine then
        return mine[key]
    end
end

setmetatable(_G, { __newindex = newindex, __index = private and index or nil })

-- Forgets what a request kept in Lua.
local ctxs = support.ctxs
return function(request)
    own[request] = nil
    ctxs[request] = nil
end
