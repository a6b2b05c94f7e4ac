-- Requests inside this one: ngx.location.capture and capture_multi; ngx.is_subrequest.
local support, address, natives = ...
local ngx = ngx
local ffi = require "ffi"
local str, type, error, tostring, select, pairs = ffi.string, type, error, tostring, select, pairs
local unpack, format = unpack, string.format
-- Requests of one capture_multi: each takes some KB before anything of it has come.
local MOST = 1000
local bridge, check, check_request, wait = support.bridge, support.check, support.check_request, support.wait

ffi.cdef [[
typedef struct {
    const char *uri; size_t uri_len;
    const char *args; size_t args_len;
    const char *method; size_t method_len;
    const char *body; size_t body_len;
    int has_body; int forwards_body; int variables; int has_args; double ctx;
} pm_capture;
typedef struct {
    int (*is_inner)(pm_bridge *);
    void (*begin)(pm_bridge *);
    int (*add)(pm_bridge *, const pm_capture *);
    int (*set)(pm_bridge *, const char *, size_t, const char *, size_t);
    int (*status)(pm_bridge *, int);
    int (*body)(pm_bridge *, int);
    void (*finish)(pm_bridge *);
    double (*ctx)(pm_bridge *);
} pm_subrequest;
]]
local C = ffi.cast("const pm_subrequest *", address)
local c_ctx = C.ctx
local capture_t = ffi.typeof("pm_capture")
local CAPTURE = support.allowed "ngx.location.capture"
local CAPTURE_MULTI = support.allowed "ngx.location.capture_multi"
local METHODS = support.methods
local OWN, COPIED, SHARED = 0, 1, 2
local headers_of = natives.headers

function support.getters.is_subrequest()
    check_request()
    return C.is_inner(bridge) == 1
end

-- The tables that requests inside others get as their ngx.ctx.
local ctxs, last_ctx = {}, 0

function support.given_ctx()
    local number = c_ctx(bridge)
    local ctx = number > 0 and ctxs[number] or nil
    return ctx
end

local function text_of(value, what, level)
    local kind = type(value)
    if kind == "number" then
        return tostring(value)
    elseif kind ~= "string" then
        error("Bad http request " .. what, level + 1)
    end
    return value
end

-- Asks for one request. Keeps every string alive until C has copied it.
local function add(uri, options, given, level)
    local wanted = capture_t()
    local args, method, body = "", "GET", nil
    if options ~= nil then
        if type(options) ~= "table" then
            error(format("bad argument #2 to 'capture' (table expected, got %s)", type(options)), level + 1)
        end
        if options.args ~= nil then
            if type(options.args) == "table" then
                args = support.encode_args(options.args, level + 1)
            elseif type(options.args) == "string" or type(options.args) == "number" then
                args = tostring(options.args)
            else
                error("Bad args option value", level + 1)
            end
            wanted.has_args = 1
        end
        if options.method ~= nil then
            if type(options.method) ~= "number" then
                error("Bad http request method", level + 1)
            end
            method = METHODS[options.method]
            if not method then
                error("unsupported HTTP method: " .. options.method, level + 1)
            end
        end
        if options.body ~= nil then
            body = text_of(options.body, "body", level + 1)
        end
        if options.always_forward_body then
            wanted.forwards_body = 1
        end
        if options.share_all_vars then
            wanted.variables = SHARED
        elseif options.copy_all_vars then
            wanted.variables = COPIED
        end
        if options.ctx ~= nil then
            if type(options.ctx) ~= "table" then
                error("Bad ctx option value type " .. type(options.ctx) .. ", expected a Lua table", level + 1)
            end
            last_ctx = last_ctx + 1
            ctxs[last_ctx] = options.ctx
            given[#given + 1] = last_ctx
            wanted.ctx = last_ctx
        end
    end
    if body or method == "POST" or method == "PUT" then
        wanted.forwards_body = wanted.forwards_body + (body and 0 or 1)
    end
    wanted.uri, wanted.uri_len, wanted.args, wanted.args_len = uri, #uri, args, #args
    wanted.method, wanted.method_len = method, #method
    if body then
        wanted.body, wanted.body_len, wanted.has_body = body, #body, 1
    end
    if C.add(bridge, wanted) == -1 then
        error("unsafe uri in argument #1: " .. support.for_log(uri), level + 1)
    end
    if options ~= nil and options.vars ~= nil then
        if type(options.vars) ~= "table" then
            error("Bad vars option value type " .. type(options.vars) .. ", expected a Lua table", level + 1)
        end
        for name, value in pairs(options.vars) do
            name = text_of(name, "variable name", level + 1)
            if type(value) ~= "string" and type(value) ~= "number" then
                error("attempt to use bad variable value type " .. type(value), level + 1)
            end
            value = tostring(value)
            local done = C.set(bridge, name, #name, value, #value)
            if done ~= 1 then
                ngx.log(ngx.ERR, 'variable "', name, done == -1 and '" not changeable'
                    or '" cannot be assigned a value (maybe you forgot to define it first?)')
                error("failed to adjust the subrequest: " .. (done == -1 and 500 or -1), level + 1)
            end
        end
    end
end

local function responses(count, given)
    wait()
    for number = 1, #given do
        ctxs[given[number]] = nil
    end
    local all = {}
    for number = 0, count - 1 do
        local status = C.status(bridge, number)
        if status == 0 then
            C.finish(bridge)
            error("a request inside this one has no answer", 3)
        end
        local truncated = C.body(bridge, number) == 0
        all[number + 1] = { status = status, body = str(bridge.text, bridge.text_len), truncated = truncated,
            header = headers_of(number) }
    end
    C.finish(bridge)
    return all
end

local location = {}
ngx.location = location

function location.capture(...)
    local n = select("#", ...)
    if n ~= 1 and n ~= 2 then
        error("expecting one or two arguments", 2)
    end
    local uri, options = ...
    uri = support.text_argument(uri, 1)
    if uri == "" then
        error("The uri argument is empty", 2)
    end
    check(CAPTURE)
    local given = {}
    C.begin(bridge)
    add(uri, options, given, 2)
    return responses(1, given)[1]
end

function location.capture_multi(...)
    if select("#", ...) ~= 1 then
        error("only one argument is expected, but got " .. select("#", ...), 2)
    end
    local list = ...
    if type(list) ~= "table" then
        error(format("bad argument #1 to 'capture_multi' (table expected, got %s)", type(list)), 2)
    end
    if #list == 0 then
        error("at least one subrequest should be specified", 2)
    end
    if #list > MOST then
        error("too many subrequests in one call: " .. #list .. ", at most " .. MOST .. " are supported", 2)
    end
    check(CAPTURE_MULTI)
    local given = {}
    C.begin(bridge)
    for number = 1, #list do
        local query = list[number]
        if type(query) ~= "table" then
            error(format("the query argument %d is not a table, but a %s", number, type(query)), 2)
        end
        local uri = query[1]
        if type(uri) ~= "string" and type(uri) ~= "number" then
            error("expecting one or two arguments", 2)
        end
        add(tostring(uri), query[2], given, 2)
    end
    return unpack(responses(#list, given), 1, #list)
end
