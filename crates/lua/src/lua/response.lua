-- The answer's head.
local support, address, natives = ...
local ngx = ngx
local ffi = require "ffi"
local str, type, error, tostring, tonumber, lower, gsub =
    ffi.string, type, error, tostring, tonumber, string.lower, string.gsub
local rawget, setmetatable = rawget, setmetatable
local bridge, check, check_request = support.bridge, support.check, support.check_request
local getters, setters = support.getters, support.setters

ffi.cdef [[
typedef struct {
    int (*status)(pm_bridge *);
    int (*set_status)(pm_bridge *, int);
    int (*headers_sent)(pm_bridge *);
    int (*get)(pm_bridge *, const char *, size_t);
    void (*get_next)(pm_bridge *, const char *, size_t, int);
    int (*set)(pm_bridge *, const char *, size_t, const char *, size_t, int);
} pm_response;
]]
local C = ffi.cast("const pm_response *", address)
local c_status, c_set_status, c_headers_sent, c_get, c_get_next, c_set =
    C.status, C.set_status, C.headers_sent, C.get, C.get_next, C.set

function getters.status()
    check_request()
    local status = c_status(bridge)
    return status
end

function setters.status(status)
    check_request()
    if type(status) ~= "number" then
        status = tonumber(status)
    end
    if c_set_status(bridge, status) == 0 then
        error("bad ngx.status: " .. tostring(status) .. " is no final status (from 200 to 999)", 2)
    end
end

function getters.headers_sent()
    check_request()
    return c_headers_sent(bridge) == 1
end

local function get(_, name)
    check_request()
    if type(name) ~= "string" then
        name = tostring(name)
    end
    local count = c_get(bridge, name, #name)
    if count == 0 then
        return nil
    elseif count == 1 then
        local value = str(bridge.text, bridge.text_len)
        return value
    end
    local values = {}
    for number = 1, count do
        c_get_next(bridge, name, #name, number - 1)
        values[number] = str(bridge.text, bridge.text_len)
    end
    return values
end

local REMOVE, REPLACE, ADD = 0, 1, 2

local function set(_, name, value, keep)
    check_request()
    if type(name) ~= "string" then
        name = tostring(name)
    end
    local done, first = 1, keep and ADD or REPLACE
    if value == nil then
        c_set(bridge, name, #name, nil, 0, REMOVE)
    elseif type(value) == "table" then
        local count = #value
        if count == 0 then
            c_set(bridge, name, #name, nil, 0, REMOVE)
        end
        for number = 1, count do
            local text = value[number]
            if type(text) ~= "string" then
                text = tostring(text)
            end
            done = c_set(bridge, name, #name, text, #text, number == 1 and first or ADD)
            if done == -1 then
                break
            end
        end
    else
        local text = type(value) == "string" and value or tostring(value)
        done = c_set(bridge, name, #name, text, #text, first)
    end
    if done < 1 then
        error(done == 0 and "failed to set header" or support.no_room, 2)
    end
end

ngx.header = setmetatable({}, { __index = get, __newindex = set })

-- The function of lua-resty-core that `ngx.resp` builds on.
local core = package.preload["resty.core.response"]
package.preload["resty.core.response"] = function(...)
    local module = core(...)
    module.set_resp_header = set
    return module
end

-- Tables of headers take names in any spelling.
support.headers_metatable = {
    __index = function(headers, name)
        return rawget(headers, (gsub(lower(name), "_", "-")))
    end,
}

-- The arguments of get_headers, of requests and answers alike.
function support.header_limit(max)
    if max == nil then
        return 100
    end
    return max < 0 and 100 or max
end

local native_get_headers, native_send_headers = natives.get_headers, natives.send_headers
local SEND = support.allowed "ngx.send_headers"

ngx.resp = {}

function ngx.resp.get_headers(max, raw)
    check_request()
    local headers, err = native_get_headers(support.header_limit(max), raw)
    if not raw then
        setmetatable(headers, support.headers_metatable)
    end
    return headers, err
end

function ngx.send_headers()
    check(SEND)
    return native_send_headers()
end
