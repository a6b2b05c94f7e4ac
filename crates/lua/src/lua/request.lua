-- The request.
local support, address, natives = ...
local ngx = ngx
local ffi = require "ffi"
local str, type, error, tostring, tonumber, select = ffi.string, type, error, tostring, tonumber, select
local format, setmetatable = string.format, setmetatable
local clear_table = require "table.clear"
local bridge, check_request, wait = support.bridge, support.check_request, support.wait

ffi.cdef [[
typedef struct {
    void (*method)(pm_bridge *);
    void (*set_method)(pm_bridge *, const char *, size_t);
    int (*set_header)(pm_bridge *, const char *, size_t, const char *, size_t, int);
    void (*raw_header)(pm_bridge *, int);
    void (*set_args)(pm_bridge *, const char *, size_t);
    int (*set_uri)(pm_bridge *, const char *, size_t, int);
    double (*version)(pm_bridge *);
    double (*start_time)(pm_bridge *);
    int (*is_internal)(pm_bridge *);
} pm_request;
]]
local C = ffi.cast("const pm_request *", address)
local c_method, c_set_method, c_set_header, c_raw_header = C.method, C.set_method, C.set_header, C.raw_header
local c_set_args, c_set_uri, c_version, c_start_time, c_is_internal =
    C.set_args, C.set_uri, C.version, C.start_time, C.is_internal

local req = {}
ngx.req = req

function req.get_method()
    check_request()
    c_method(bridge)
    local name = str(bridge.text, bridge.text_len)
    return name
end

local METHODS = {}
support.methods = METHODS
for _, name in ipairs {
    "GET", "HEAD", "POST", "PUT", "DELETE", "MKCOL", "COPY", "MOVE", "OPTIONS", "PROPFIND", "PROPPATCH",
    "LOCK", "UNLOCK", "PATCH", "TRACE",
} do
    METHODS[ngx["HTTP_" .. name]] = name
end

function req.set_method(method)
    check_request()
    if type(method) ~= "number" then
        error("bad method number", 2)
    end
    local name = METHODS[method]
    if not name then
        error("unsupported HTTP method: " .. method, 2)
    end
    c_set_method(bridge, name, #name)
end

local native_get_headers, native_get_uri_args = natives.get_headers, natives.get_uri_args

function req.get_headers(max, raw)
    check_request()
    -- The limit and the metatable are those of the answer's headers.
    local headers, err = native_get_headers(support.header_limit(max), raw)
    if not raw then
        setmetatable(headers, support.headers_metatable)
    end
    return headers, err
end

local REMOVE, REPLACE, ADD = 0, 1, 2

local function put_header(name, text, how)
    if c_set_header(bridge, name, #name, text, #text, how) == -1 then
        error(support.no_room, 3)
    end
end

function req.set_header(name, value)
    check_request()
    if name == nil then
        error("bad 'name' argument: string expected, got nil", 2)
    end
    if type(name) ~= "string" then
        name = tostring(name)
    end
    if value == nil then
        c_set_header(bridge, name, #name, nil, 0, REMOVE)
    elseif type(value) == "table" then
        local count = #value
        if count == 0 then
            c_set_header(bridge, name, #name, nil, 0, REMOVE)
        end
        for number = 1, count do
            local text = tostring(value[number])
            put_header(name, text, number == 1 and REPLACE or ADD)
        end
    else
        local text = type(value) == "string" and value or tostring(value)
        put_header(name, text, REPLACE)
    end
end

-- ngx.req.add_header of the module ngx.req: beside the fields of this name.
function support.add_request_header(name, value)
    check_request()
    if name == nil then
        error("bad 'name' argument: string expected, got nil", 2)
    elseif value == nil then
        error("bad 'value' argument: string or table expected, got nil", 2)
    elseif type(value) == "table" and #value == 0 then
        error("bad 'value' argument: non-empty table expected", 2)
    end
    name = tostring(name)
    for _, text in ipairs(type(value) == "table" and value or { value }) do
        put_header(name, tostring(text), ADD)
    end
end

function req.clear_header(name)
    check_request()
    if type(name) ~= "string" then
        name = tostring(name)
    end
    c_set_header(bridge, name, #name, nil, 0, REMOVE)
end

function req.raw_header(...)
    local n = select("#", ...)
    if n > 1 then
        error("expecting 0 or 1 arguments but seen " .. n, 2)
    end
    check_request()
    if req.http_version() == 2 then
        error("http v2 not supported yet", 2)
    end
    c_raw_header(bridge, (...) and 1 or 0)
    local text = str(bridge.text, bridge.text_len)
    return text
end

function req.get_uri_args(max, args)
    check_request()
    if max == nil or max < 0 then
        max = 100
    end
    if args then
        clear_table(args)
    end
    return native_get_uri_args(max, args)
end

function req.set_uri_args(...)
    local n = select("#", ...)
    if n ~= 1 then
        error("expecting 1 argument but seen " .. n, 2)
    end
    check_request()
    local args = ...
    if type(args) == "table" then
        args = support.encode_args(args, 2)
    elseif type(args) == "number" then
        args = tostring(args)
    elseif type(args) ~= "string" then
        local kind = args == nil and "nil" or type(args)
        support.argument_error(1, "string, number, or table expected, but got " .. kind)
    end
    c_set_args(bridge, args, #args)
end

local REWRITE = 0x2 + 0x8000

local function boolean_argument(value, number)
    if type(value) ~= "boolean" then
        support.argument_error(number, "boolean expected, got " .. (value == nil and "nil" or type(value)), 1)
    end
    return value
end

function req.set_uri(...)
    local n = select("#", ...)
    if n < 1 or n > 3 then
        error("expecting 1, 2 or 3 arguments but seen " .. n, 2)
    end
    check_request()
    local uri, jump, binary = ...
    uri = support.text_argument(uri, 1)
    if uri == "" then
        error("attempt to use zero-length uri", 2)
    end
    binary = n >= 3 and boolean_argument(binary, 3)
    local bad = not binary and support.unsafe_byte(uri)
    if bad then
        error(format('unsafe byte "0x%02x" in uri "%s" (maybe you want to set the \'binary\' argument?)', bad,
            support.for_log(uri)), 2)
    end
    jump = n >= 2 and boolean_argument(jump, 2)
    if jump then
        support.check(REWRITE)
    end
    if c_set_uri(bridge, uri, #uri, jump and 1 or 0) == 0 then
        error("attempt to abort with pending subrequests", 2)
    end
    if jump then
        return wait()
    end
end

function req.http_version()
    check_request()
    local version = c_version(bridge)
    return version
end

function req.start_time()
    check_request()
    local seconds = c_start_time(bridge)
    return seconds
end

function req.is_internal()
    check_request()
    return c_is_internal(bridge) == 1
end
