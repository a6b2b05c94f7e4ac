-- ngx.socket.udp: sockets of datagrams.
local support, address = ...
local ngx = ngx
local ffi = require "ffi"
local str, type, error, tonumber, tostring, select = ffi.string, type, error, tonumber, tostring, select
local setmetatable, floor = setmetatable, math.floor
local bridge, check, wait = support.bridge, support.check, support.wait
local sockets = support.sockets
local handle_of, ended, flat, milliseconds = sockets.handle_of, sockets.ended, sockets.flat, sockets.milliseconds
local argument_error, text_argument = sockets.argument_error, sockets.text_argument

ffi.cdef [[
typedef struct { void *handle; } pm_udp_handle;
typedef struct {
    void *(*udp)(pm_bridge *);
    void (*forget)(void *);
    int (*set_peer)(pm_bridge *, void *, const char *, size_t, int);
    int (*has_peer)(pm_bridge *, void *);
    int (*send)(pm_bridge *, void *, const char *, size_t);
    int (*receive)(pm_bridge *, void *, double);
    int (*received)(pm_bridge *, void *);
    int (*close)(pm_bridge *, void *);
    void (*set_times)(pm_bridge *, void *, int, int, int);
    int (*bind)(pm_bridge *, void *, const char *, size_t);
} pm_udp;
]]
local C = ffi.cast("const pm_udp *", address)
local udp_t = ffi.metatype("pm_udp_handle", {
    __gc = function(udp)
        C.forget(udp.handle)
    end,
})
local UDP = support.allowed "ngx.socket.udp"
local WAIT, DONE, LARGEST = 0, 1, 8192

local methods = {}
local metatable = { __index = methods }

function ngx.socket.udp(...)
    local n = select("#", ...)
    if n ~= 0 then
        error("expecting zero arguments, but got " .. n, 2)
    end
    check(UDP)
    local handle = C.udp(bridge)
    if handle == nil then
        error("no request found", 2)
    end
    return setmetatable({ udp_t(handle) }, metatable)
end

function methods.setpeername(...)
    local n = select("#", ...)
    if n ~= 2 and n ~= 3 then
        error("ngx.socket.udp setpeername: expecting 2 or 3 arguments (including the object), but seen " .. n, 2)
    end
    check(UDP)
    local self, host, port = ...
    local handle = handle_of(self)
    host = text_argument(host, 1)
    if n == 3 then
        port = tonumber(port)
        if not port then
            argument_error(2, "number expected, got " .. type((select(3, ...))))
        end
        port = floor(port)
        if port < 0 or port > 65535 then
            return nil, "bad port number: " .. port
        end
    end
    local code = C.set_peer(bridge, handle, host, #host, port or 0)
    if code == WAIT then
        wait()
        code = C.has_peer(bridge, handle)
    end
    return ended(code, 1)
end

function methods.send(...)
    local n = select("#", ...)
    if n ~= 2 then
        error("expecting 2 arguments (including the object), but got " .. n, 2)
    end
    local self, data = ...
    local handle = handle_of(self)
    data = flat(data)
    return ended(C.send(bridge, handle, data, #data), 1)
end

function methods.receive(...)
    local n = select("#", ...)
    if n ~= 1 and n ~= 2 then
        error("expecting 1 or 2 arguments (including the object), but got " .. n, 2)
    end
    local self, size = ...
    local handle = handle_of(self)
    if size ~= nil then
        size = tonumber(size) or argument_error(1, "number expected, got " .. type(size))
        size = size > 0 and size < LARGEST and floor(size) or LARGEST
    end
    local code = C.receive(bridge, handle, size or LARGEST)
    if code == WAIT then
        wait()
        code = C.received(bridge, handle)
    end
    if code == DONE then
        local text = str(bridge.text, bridge.text_len)
        return text
    end
    return ended(code)
end

function methods.settimeout(...)
    local n = select("#", ...)
    if n ~= 2 then
        error("ngx.socket settimeout: expecting at least 2 arguments (including the object) but seen " .. n, 2)
    end
    local self, ms = ...
    ms = milliseconds(ms)
    C.set_times(bridge, handle_of(self), ms, ms, ms)
end

function methods.bind(...)
    local n = select("#", ...)
    if n ~= 2 then
        error("expecting 2 arguments, but got " .. n, 2)
    end
    check(UDP)
    local self, ip = ...
    local handle = handle_of(self)
    ip = text_argument(ip, 1)
    return ended(C.bind(bridge, handle, ip, #ip), true)
end

function methods.close(...)
    local n = select("#", ...)
    if n ~= 1 then
        error("expecting 1 argument (including the object) but seen " .. n, 2)
    end
    return ended(C.close(bridge, handle_of((...))), 1)
end
