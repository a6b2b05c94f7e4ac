-- The clock of the event loop, and dates.
local support, address = ...
local ngx = ngx
local ffi = require "ffi"
local str, floor, type, error, tonumber = ffi.string, math.floor, type, error, tonumber
local bridge = support.bridge

ffi.cdef [[
typedef struct {
    double (*now_ms)(pm_bridge *);
    void (*refresh)(pm_bridge *);
    void (*write)(pm_bridge *, uint32_t, int64_t);
    int (*parse)(pm_bridge *, const char *, size_t);
} pm_time;
]]
local C = ffi.cast("const pm_time *", address)
local now_ms, refresh, write, parse = C.now_ms, C.refresh, C.write, C.parse

function ngx.now()
    local ms = now_ms(bridge)
    return ms / 1000
end

function ngx.time()
    local ms = now_ms(bridge)
    local seconds = floor(ms / 1000)
    return seconds
end

function ngx.update_time()
    refresh(bridge)
end

local function written(form, seconds)
    write(bridge, form, seconds)
    local out = str(bridge.text, bridge.text_len)
    return out
end

function ngx.today()
    local out = written(0, 0)
    return out
end

function ngx.localtime()
    local out = written(1, 0)
    return out
end

function ngx.utctime()
    local out = written(2, 0)
    return out
end

function ngx.http_time(seconds)
    if type(seconds) ~= "number" then
        error("number argument only", 2)
    end
    local out = written(3, seconds)
    return out
end

function ngx.cookie_time(seconds)
    if type(seconds) ~= "number" then
        error("number argument only", 2)
    end
    local out = written(4, seconds)
    return out
end

function ngx.parse_http_time(text)
    if type(text) ~= "string" then
        error("string argument only", 2)
    end
    if parse(bridge, text, #text) == 0 then
        return nil
    end
    return tonumber(bridge.number)
end
