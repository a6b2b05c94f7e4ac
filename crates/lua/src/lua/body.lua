-- The request's body.
local support, address, natives = ...
local req = ngx.req
local ffi = require "ffi"
local str, type, error, tostring, tonumber, select = ffi.string, type, error, tostring, tonumber, select
local bridge, check, check_request, wait = support.bridge, support.check, support.check_request, support.wait

ffi.cdef [[
typedef struct {
    int (*read)(pm_bridge *);
    void (*discard)(pm_bridge *);
    int (*state)(pm_bridge *);
    int (*data)(pm_bridge *);
    int (*file)(pm_bridge *);
    int (*set_data)(pm_bridge *, const char *, size_t);
    int (*set_file)(pm_bridge *, const char *, size_t, int);
    void (*init)(pm_bridge *);
    int (*append)(pm_bridge *, const char *, size_t);
    int (*finish)(pm_bridge *);
} pm_body;
]]
local C = ffi.cast("const pm_body *", address)
local text_argument = support.text_argument
local READ = support.allowed "ngx.req.read_body"

local function no_arguments(n)
    if n ~= 0 then
        error("expecting 0 arguments but seen " .. n, 3)
    end
end

function req.read_body(...)
    no_arguments(select("#", ...))
    check(READ)
    if C.read(bridge) == 1 then
        wait()
    end
end

function req.discard_body(...)
    no_arguments(select("#", ...))
    check_request()
    C.discard(bridge)
end

function req.get_body_data(...)
    no_arguments(select("#", ...))
    check_request()
    if C.data(bridge) == 0 then
        return nil
    end
    local data = str(bridge.text, bridge.text_len)
    return data
end

function req.get_body_file(...)
    no_arguments(select("#", ...))
    check_request()
    if C.file(bridge) == 0 then
        return nil
    end
    local path = str(bridge.text, bridge.text_len)
    return path
end

local native_get_post_args = natives.get_post_args

function req.get_post_args(...)
    local n = select("#", ...)
    if n > 1 then
        error("expecting 0 or 1 arguments but seen " .. n, 2)
    end
    check_request()
    local max = n == 1 and tonumber((...)) or 100
    if C.state(bridge) == 0 then
        error("no request body found; maybe you should turn on lua_need_request_body?", 2)
    end
    return native_get_post_args(max < 0 and 100 or max)
end

-- Raises ngx_lua's errors unless the body was read and was not discarded.
local function check_read()
    local state = C.state(bridge)
    if state == 2 then
        error("request body already discarded asynchronously", 3)
    elseif state == 0 then
        error("request body not read yet", 3)
    end
end

function req.set_body_data(...)
    if select("#", ...) ~= 1 then
        error("expecting 1 arguments but seen " .. select("#", ...), 2)
    end
    local data = text_argument((...), 1)
    check_request()
    check_read()
    if C.set_data(bridge, data, #data) == 0 then
        error(support.no_room, 2)
    end
end

function req.set_body_file(...)
    local n = select("#", ...)
    if n ~= 1 and n ~= 2 then
        error("expecting 1 or 2 arguments but seen " .. n, 2)
    end
    local path, removes = ...
    path = text_argument(path, 1)
    check_request()
    check_read()
    if C.set_file(bridge, path, #path, removes and 1 or 0) == 0 then
        error('open() "' .. path .. '" failed', 2)
    end
end

function req.init_body(...)
    local n = select("#", ...)
    if n > 1 then
        error("expecting 0 or 1 argument but seen " .. n, 2)
    end
    check_request()
    check_read()
    if n == 1 and (tonumber((...)) or -1) < 0 then
        error("bad size argument: " .. tostring((...)), 2)
    end
    C.init(bridge)
end

function req.append_body(...)
    if select("#", ...) ~= 1 then
        error("expecting 1 arguments but seen " .. select("#", ...), 2)
    end
    local data = text_argument((...), 1)
    check_request()
    local done = C.append(bridge, data, #data)
    if done ~= 1 then
        error(done == 0 and "request_body not initialized" or support.no_room, 2)
    end
end

function req.finish_body(...)
    local n = select("#", ...)
    if n ~= 0 then
        error("expecting 0 argument but seen " .. n, 2)
    end
    check_request()
    if C.finish(bridge) == 0 then
        error("request_body not initialized", 2)
    end
end
