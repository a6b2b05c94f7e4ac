-- Modules of lua-resty-core beside resty.core itself, and those of LuaJIT: what they do without cosockets is done here; what
-- they cannot do says so when it is called.
local support, _, natives = ...
local ngx, package, coroutine = ngx, package, coroutine
local preload, setmetatable, error, type, tonumber, tostring = package.preload, setmetatable, error, type, tonumber, tostring
local select, assert, loadstring, require = select, assert, loadstring, require
local sub, gsub, find = string.sub, string.gsub, string.find
local bridge, get_phase, match = support.bridge, ngx.get_phase, ngx.re.match
local raw_log, filter_level, parent_pid, jit_source =
    natives.raw_log, natives.filter_level, natives.parent_pid, natives.jit_source
local VERSION = "0.1.25"

local function unsupported(name)
    return function()
        error(name .. " is not supported by pointsman", 2)
    end
end

-- ngx.re: pieces of a text between matches; the first group of a match is a piece too.
preload["ngx.re"] = function()
    local re = { version = VERSION }

    function re.split(subject, regex, options, ctx, max, list)
        subject, max = tostring(subject), max or 0
        if list == nil then
            list = {}
        elseif type(list) ~= "table" then
            error("res is not a table", 2)
        end
        local length, count, pieces = #subject, 0, 1
        local search = { pos = ctx and ctx.pos or 1 }
        local start = search.pos
        if start > length then
            list[1] = nil
            return list
        end
        while start <= length and (max <= 0 or pieces < max) do
            local found, err = match(subject, regex, options, search)
            if err then
                return nil, err
            elseif not found then
                break
            end
            local past = search.pos
            local from = past - #found[0]
            if from == past then
                search.pos = past + 1
            end
            -- An empty match where a piece begins cuts nothing off.
            if from < past or from > start then
                count, pieces = count + 1, pieces + 1
                list[count] = sub(subject, start, from - 1)
                if found[1] then
                    count = count + 1
                    list[count] = found[1]
                end
                start = past
            end
            if search.pos > length + 1 then
                break
            end
        end
        if max > 0 or start <= length then
            count = count + 1
            list[count] = sub(subject, start)
        else
            while count > 0 and list[count] == "" do
                list[count] = nil
                count = count - 1
            end
        end
        list[count + 1] = nil
        if ctx then
            ctx.pos = search.pos
        end
        return list
    end

    function re.opt(option)
        if option ~= "jit_stack_size" then
            error("unrecognized option name", 2)
        end
        -- PCRE2's matches take their memory from the heap.
    end

    return re
end

preload["ngx.base64"] = function()
    local base64 = { version = VERSION }
    local TO, FROM = { ["+"] = "-", ["/"] = "_" }, { ["-"] = "+", ["_"] = "/" }

    function base64.encode_base64url(s)
        if type(s) ~= "string" then
            return nil, "must provide a string"
        end
        return (gsub(ngx.encode_base64(s, true), "[+/]", TO))
    end

    function base64.decode_base64url(s)
        if type(s) ~= "string" then
            return nil, "must provide a string"
        end
        local decoded = not find(s, "[+/]") and ngx.decode_base64((gsub(s, "[-_]", FROM)))
        if not decoded then
            return nil, "invalid input"
        end
        return decoded
    end

    return base64
end

-- Fields beside those of the same name.
preload["ngx.resp"] = function()
    return {
        version = VERSION,
        add_header = function(key, value)
            require "resty.core.response".set_resp_header(nil, key, value, true)
        end,
    }
end

preload["ngx.req"] = function()
    return { version = VERSION, add_header = support.add_request_header }
end

preload["ngx.errlog"] = function()
    local errlog = { version = VERSION }
    local UNSET = 'directive "lua_capture_error_log" is not set'

    function errlog.raw_log(level, message)
        if type(level) ~= "number" then
            error("bad argument #1 to 'raw_log' (must be a number)", 2)
        elseif type(message) ~= "string" then
            error("bad argument #2 to 'raw_log' (must be a string)", 2)
        elseif level < 0 or level > 8 then
            error("bad log level", 2)
        end
        raw_log(level, message)
    end

    errlog.get_sys_filter_level = filter_level

    function errlog.set_filter_level(level)
        if not level then
            return nil, 'missing "level" argument'
        end
        return nil, UNSET
    end

    function errlog.get_logs()
        return nil, UNSET
    end

    return errlog
end

preload["ngx.process"] = function()
    return {
        version = VERSION,
        type = function()
            return "worker"
        end,
        get_master_pid = parent_pid,
        enable_privileged_agent = function()
            if get_phase() ~= "init" then
                return nil, "API disabled in the current context"
            end
            return nil, "a privileged agent is not supported by pointsman"
        end,
        signal_graceful_exit = unsupported "ngx.process.signal_graceful_exit",
    }
end

-- What belongs to TLS and processes.
for _, name in ipairs { "ngx.ssl.session", "ngx.ocsp", "ngx.pipe" } do
    preload[name] = function()
        return setmetatable({ version = VERSION }, {
            __index = function(_, key)
                return unsupported(name .. "." .. tostring(key))
            end,
        })
    end
end

-- A value of the running coroutine, for as long as its request runs.
local running = coroutine.running
for _, name in ipairs { "thread.exdata", "thread.exdata2" } do
    preload[name] = function()
        local values, main = setmetatable({}, { __mode = "k" }), {}
        return function(...)
            local co, request = running() or main, tonumber(bridge.request)
            if select("#", ...) > 0 then
                values[co] = { request, (...) }
                return
            end
            local value = values[co]
            return value and value[1] == request and value[2] or nil
        end
    end
end

for _, name in ipairs { "v", "p", "zone", "dump", "bc", "vmdef", "dis_x86", "dis_x64", "dis_arm64" } do
    preload["jit." .. name] = function(...)
        return assert(loadstring(jit_source(name), "@jit/" .. name .. ".lua"))(...)
    end
end
