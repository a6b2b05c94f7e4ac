-- The module ngx.balancer.
local support, address = ...
local ffi = require "ffi"
local bridge, str = support.bridge, ffi.string
local error, type, tonumber = error, type, tonumber
local BALANCER, REQUEST_OR_TIMER = 0x200, 0x82ff

ffi.cdef [[
typedef struct {
    int (*is_proxied)(pm_bridge *);
    int (*set_peer)(pm_bridge *, const char *, size_t, int, const char *, size_t);
    int (*more_tries)(pm_bridge *, int);
    int (*last_failure)(pm_bridge *);
    void (*set_times)(pm_bridge *, double, double, double);
    int (*keepalive)(pm_bridge *, double, double);
    void (*recreate)(pm_bridge *);
    int (*set_tls)(pm_bridge *, int);
    int (*bind)(pm_bridge *, const char *, size_t);
} pm_balancer;
]]
local C = ffi.cast("const pm_balancer *", address)
local NAMES = { [2] = "next", [4] = "failed" }

-- Why nothing can be said about a peer now, or nil. `level` as for error().
local function refusal(level)
    local phase = bridge.phase
    if phase == BALANCER then
        return nil
    elseif bit.band(phase, REQUEST_OR_TIMER) == 0 then
        error("no request found", level + 1)
    end
    return C.is_proxied(bridge) == 1 and "API disabled in the current context" or "no upstream found"
end

-- A number that may be left out.
local function optional(value, number, name, default)
    if not value then
        return default
    elseif type(value) ~= "number" then
        error("bad argument #" .. number .. " to '" .. name .. "' (number expected, got " .. type(value) .. ")", 3)
    elseif value < 0 then
        error("bad argument #" .. number .. " to '" .. name .. "' (expected >= 0)", 3)
    end
    return value
end

local function timeout(seconds, name)
    if not seconds then
        return 0
    elseif type(seconds) ~= "number" or seconds <= 0 then
        error("bad " .. name .. " timeout", 3)
    end
    return seconds * 1000
end

package.preload["ngx.balancer"] = function()
    local balancer = { version = "0.1.25" }

    function balancer.set_current_peer(addr, port, host)
        local length = #addr
        port = tonumber(port or 0)
        if not port then
            error("bad argument #2 to 'set_current_peer' (number expected)", 2)
        end
        if host ~= nil and type(host) ~= "string" then
            error("bad argument #3 to 'set_current_peer' (string expected, got " .. type(host) .. ")", 2)
        end
        local err = refusal(2)
        if err then
            return nil, err
        end
        if C.set_peer(bridge, addr, length, port, host or "", host and #host or 0) == 1 then
            return true
        end
        return nil, str(bridge.text, bridge.text_len)
    end

    function balancer.set_more_tries(count)
        local err = refusal(2)
        if err then
            return nil, err
        end
        if C.more_tries(bridge, count) == 1 then
            return true, "reduced tries due to limit"
        end
        return true
    end

    function balancer.get_last_failure()
        local err = refusal(2)
        if err then
            return nil, nil, err
        end
        local state = C.last_failure(bridge)
        if state == 0 then
            return nil
        end
        return NAMES[state], bridge.number
    end

    function balancer.set_timeouts(connect, send, read)
        connect, send, read = timeout(connect, "connect"), timeout(send, "send"), timeout(read, "read")
        local err = refusal(2)
        if err then
            return false, err
        end
        C.set_times(bridge, connect, send, read)
        return true
    end

    function balancer.recreate_request()
        local err = refusal(2)
        if err then
            return nil, err
        end
        C.recreate(bridge)
        return true
    end

    function balancer.enable_keepalive(idle_timeout, max_requests)
        idle_timeout = optional(idle_timeout, 1, "enable_keepalive", 60)
        max_requests = optional(max_requests, 2, "enable_keepalive", 100)
        local err = refusal(2)
        if err then
            return nil, err
        end
        if C.keepalive(bridge, idle_timeout * 1000, max_requests) == 1 then
            return true
        end
        return nil, "no current peer set"
    end

    function balancer.set_upstream_tls(on)
        local err = refusal(2)
        if err then
            return nil, err
        end
        if C.set_tls(bridge, (on == 0 or on == false) and 0 or 1) == 1 then
            return true
        end
        return nil, "no TLS settings in this location: its proxy_pass must begin with https://"
    end

    function balancer.bind_to_local_addr(addr)
        if type(addr) ~= "string" then
            error("bad argument #1 to 'bind_to_local_addr' (string expected, got " .. type(addr) .. ")", 2)
        end
        local err = refusal(2)
        if err then
            return nil, err
        end
        if C.bind(bridge, addr, #addr) == 1 then
            return true
        end
        return nil, "invalid addr " .. addr
    end

    return balancer
end
