-- ngx.timer: functions that run later, apart from any request.
local support, address = ...
local ngx = ngx
local ffi = require "ffi"
local type, error, tonumber, select, unpack = type, error, tonumber, select, unpack
local getinfo = debug.getinfo
local bridge, argument_error = support.bridge, support.argument_error

ffi.cdef [[
typedef struct {
    int (*add)(pm_bridge *, double, int);
    int (*pending)(pm_bridge *);
    int (*running)(pm_bridge *);
} pm_timer;
]]
local C = ffi.cast("const pm_timer *", address)
local INIT, TIMER_AT = 0x10000, support.allowed "ngx.timer.at"
local check = support.check

-- The calls of the timers that wait: a function, the number of arguments, the arguments.
local calls = {}

local function add(every, n, delay, callback, ...)
    if n < 2 then
        error("expecting at least 2 arguments but got " .. n, 2)
    end
    local seconds = tonumber(delay)
    if not seconds then
        argument_error(1, "number expected, got " .. (delay == nil and "nil" or type(delay)))
    end
    -- What is no number is refused too.
    if every == 1 and not (seconds * 1000 >= 1) then
        error("delay cannot be zero", 2)
    end
    if type(callback) ~= "function" or getinfo(callback, "S").what == "C" then
        argument_error(2, "Lua function expected")
    end
    if bridge.phase == INIT then
        error("no request", 2)
    end
    check(TIMER_AT)
    local timer = C.add(bridge, seconds * 1000, every)
    if timer == 0 then
        return nil, "too many pending timers"
    elseif timer < 0 then
        return nil, "process exiting"
    end
    calls[timer] = { callback, n - 2, ... }
    return 1
end

local function count(get)
    return function()
        if bridge.phase == INIT then
            error("no request", 2)
        end
        return get(bridge)
    end
end

ngx.timer = {
    at = function(...)
        return add(0, select("#", ...), ...)
    end,
    every = function(...)
        return add(1, select("#", ...), ...)
    end,
    pending_count = count(C.pending),
    running_count = count(C.running),
}

function support.run_timer(timer, premature, again)
    local call = calls[timer]
    if not again then
        calls[timer] = nil
    end
    -- In tail position, so that tracebacks begin with the timer's function.
    return call[1](premature, unpack(call, 3, call[2] + 2))
end

function support.drop_timer(timer, again)
    local info = getinfo(calls[timer][1], "S")
    if not again then
        calls[timer] = nil
    end
    return info.source .. ":" .. info.linedefined
end
