-- Ending, redirecting and waiting; ngx.ctx, ngx.arg, ngx.worker.
local support, address = ...
local ngx = ngx
local ffi = require "ffi"
local str, type, error, tonumber, tostring, select = ffi.string, type, error, tonumber, tostring, select
local find, gsub, byte, format, concat = string.find, string.gsub, string.byte, string.format, table.concat
local setmetatable, isyieldable, log, DEBUG = setmetatable, coroutine.isyieldable, ngx.log, ngx.DEBUG
local bridge, check, check_request, wait = support.bridge, support.check, support.check_request, support.wait
local allowed, argument_error, text_argument = support.allowed, support.argument_error, support.text_argument

ffi.cdef [[
typedef struct {
    int (*exit)(pm_bridge *, int);
    int (*redirect)(pm_bridge *, const char *, size_t, int);
    int (*exec)(pm_bridge *, const char *, size_t, const char *, size_t);
    void (*sleep)(pm_bridge *, double);
    int (*set_arg)(pm_bridge *, int);
    void (*chunk)(pm_bridge *);
    int (*set_chunk)(pm_bridge *, const char *, size_t);
    int (*is_last)(pm_bridge *);
    void (*set_last)(pm_bridge *, int);
    int (*is_exiting)(pm_bridge *);
} pm_control;
]]
local C = ffi.cast("const pm_control *", address)
local c_exit, c_redirect, c_exec, c_sleep = C.exit, C.redirect, C.exec, C.sleep
local c_set_arg, c_chunk, c_set_chunk, c_is_last, c_set_last = C.set_arg, C.chunk, C.set_chunk, C.is_last, C.set_last

local EXIT, REDIRECT, EXEC, SLEEP =
    allowed "ngx.exit", allowed "ngx.redirect", allowed "ngx.exec", allowed "ngx.sleep"
local SET, HEADER_FILTER, BODY_FILTER, BALANCER = 0x1, 0x20, 0x40, 0x200

function ngx.exit(code)
    if code == -2 or code == -4 then
        error("bad argument to 'ngx.exit': does not accept NGX_AGAIN or NGX_DONE", 2)
    end
    check(EXIT)
    if c_exit(bridge, code) == 0 then
        error("attempt to abort with pending subrequests", 2)
    end
    -- There the script goes on.
    if bridge.phase == HEADER_FILTER or bridge.phase == BALANCER then
        return
    end
    return wait()
end

-- The first byte that is not allowed in a URI, or nil.
function support.unsafe_byte(uri)
    local at = find(uri, "[%z\1-\8\10-\31\127]")
    return at and byte(uri, at)
end

-- A URI as ngx_lua's messages show it.
function support.for_log(uri)
    return (gsub(uri, "[%z\1-\31\"\\\127-\255]", function(char)
        return format("\\x%02X", byte(char))
    end))
end

local REDIRECTS = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

function ngx.redirect(...)
    local n = select("#", ...)
    if n ~= 1 and n ~= 2 then
        error("expecting one or two arguments", 2)
    end
    local uri, status = ...
    uri = text_argument(uri, 1)
    if n == 2 then
        status = tonumber(status)
        if not REDIRECTS[status] then
            error("only ngx.HTTP_MOVED_TEMPORARILY, ngx.HTTP_MOVED_PERMANENTLY, ngx.HTTP_PERMANENT_REDIRECT, "
                .. "ngx.HTTP_SEE_OTHER, and ngx.HTTP_TEMPORARY_REDIRECT are allowed", 2)
        end
    else
        status = 302
    end
    check(REDIRECT)
    local bad = support.unsafe_byte(uri)
    if bad then
        error(format('unsafe byte "0x%02x" in redirect uri "%s"', bad, support.for_log(uri)), 2)
    end
    local done = c_redirect(bridge, uri, #uri, status)
    if done == -2 then
        error("attempt to abort with pending subrequests", 2)
    elseif done == 0 then
        error("attempt to call ngx.redirect after sending out the headers", 2)
    end
    return wait()
end

function ngx.exec(...)
    local n = select("#", ...)
    if n ~= 1 and n ~= 2 then
        error("expecting one or two arguments, but got " .. n, 2)
    end
    local uri, args = ...
    uri = text_argument(uri, 1)
    if uri == "" then
        error("The uri argument is empty", 2)
    end
    check(EXEC)
    if args == nil then
        args = ""
    elseif type(args) == "table" then
        args = support.encode_args(args, 2)
    elseif type(args) == "number" then
        args = tostring(args)
    elseif type(args) ~= "string" then
        argument_error(2, "string, number, or table expected, but got " .. type(args))
    end
    local done = c_exec(bridge, uri, #uri, args, #args)
    if done == -1 then
        error("unsafe uri", 2)
    elseif done == -2 then
        error("attempt to abort with pending subrequests", 2)
    elseif done == 0 then
        error("attempt to call ngx.exec after sending out response headers", 2)
    end
    return wait()
end

function ngx.sleep(...)
    local n = select("#", ...)
    if n ~= 1 then
        error("attempt to pass " .. n .. " arguments, but accepted 1", 2)
    end
    local seconds = tonumber((...))
    if not seconds then
        local kind = (...) == nil and "nil" or type((...))
        argument_error(1, "number expected, got " .. kind)
    end
    if seconds < 0 then
        error(format('invalid sleep duration "%d"', seconds * 1000), 2)
    end
    check(SLEEP)
    c_sleep(bridge, seconds * 1000)
    if not isyieldable() then
        log(DEBUG, "lua clean up the timer for pending ngx.sleep")
    end
    wait()
end

-- ngx.ctx: one table for each request.
local ctxs = {}
support.ctxs = ctxs

local TIMER, HANDSHAKE, band = 0x80, 0x4400, bit.band

function support.getters.ctx()
    if bridge.phase ~= TIMER and band(bridge.phase, HANDSHAKE) == 0 then
        check_request()
    end
    local request = tonumber(bridge.request)
    local ctx = ctxs[request]
    if not ctx then
        ctx = support.given_ctx() or {}
        ctxs[request] = ctx
        bridge.touched = 1
    end
    return ctx
end

function support.setters.ctx(ctx)
    if type(ctx) ~= "table" then
        error("ctx should be a table while getting a " .. type(ctx), 3)
    end
    if bridge.phase ~= TIMER and band(bridge.phase, HANDSHAKE) == 0 then
        check_request()
    end
    ctxs[tonumber(bridge.request)] = ctx
    bridge.touched = 1
end

-- ngx.arg: the arguments of set_by_lua, and the body filter's piece of the body.
local function get_arg(_, number)
    local phase = bridge.phase
    if phase == BODY_FILTER then
        if number == 1 then
            c_chunk(bridge)
            local chunk = str(bridge.text, bridge.text_len)
            return chunk
        elseif number == 2 then
            return c_is_last(bridge) == 1
        end
        return nil
    elseif phase == SET then
        number = tonumber(number)
        if not number or c_set_arg(bridge, number) == 0 then
            return nil
        end
        local value = str(bridge.text, bridge.text_len)
        return value
    end
    check_request()
    error("API disabled in the current context", 2)
end

-- The strings and numbers of a list, also of lists in it.
local function joined(list, out)
    for number = 1, #list do
        local value = list[number]
        if type(value) == "table" then
            joined(value, out)
        elseif type(value) == "string" or type(value) == "number" then
            out[#out + 1] = tostring(value)
        else
            support.argument_error(3, "bad data type " .. type(value) .. " found", 1)
        end
    end
    return out
end

local function set_arg(_, number, value)
    if bridge.phase ~= BODY_FILTER then
        check_request()
        error("API disabled in the context of " .. support.phases.directives[tonumber(bridge.phase)], 2)
    end
    if number == 1 then
        if value == nil then
            value = ""
        elseif type(value) == "table" then
            value = concat(joined(value, {}))
        elseif type(value) == "number" then
            value = tostring(value)
        elseif type(value) ~= "string" then
            error("bad chunk data type: " .. type(value), 2)
        end
        if c_set_chunk(bridge, value, #value) == 0 then
            error(support.no_room, 2)
        end
    elseif number == 2 then
        c_set_last(bridge, value and 1 or 0)
    else
        error("bad index: " .. tostring(number), 2)
    end
end

ngx.arg = setmetatable({}, { __index = get_arg, __newindex = set_arg })

local settings = support.settings
local INIT = 0x10000

ngx.worker = {
    id = function()
        if bridge.phase == INIT then
            return nil
        end
        return settings.worker_id
    end,
    count = function()
        return settings.worker_count
    end,
    pid = function()
        return settings.worker_pid
    end,
    pids = function()
        if bridge.phase == INIT or bridge.phase == 0x100 then
            return nil, "API disabled in the current context"
        end
        local pids = {}
        for number = 1, settings.worker_count do
            pids[number] = settings.worker_pid
        end
        return pids
    end,
    exiting = function()
        return C.is_exiting(bridge) == 1
    end,
}
