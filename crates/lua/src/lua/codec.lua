-- Escaping, arguments, base64, quoting and digests.
local support, address, natives = ...
local ngx = ngx
local ffi = require "ffi"
local str, tonumber, type, error, concat, pairs = ffi.string, tonumber, type, error, table.concat, pairs
local tostring, select = tostring, select
local bridge, text = support.bridge, support.text
local argument_error, text_argument = support.argument_error, support.text_argument

ffi.cdef [[
typedef struct {
    int (*escape_uri)(pm_bridge *, const char *, size_t, uint32_t);
    void (*unescape_uri)(pm_bridge *, const char *, size_t);
    void (*encode_base64)(pm_bridge *, const char *, size_t, int);
    int (*decode_base64)(pm_bridge *, const char *, size_t);
    void (*quote_sql)(pm_bridge *, const char *, size_t);
    void (*md5)(pm_bridge *, const char *, size_t);
    void (*md5_bin)(pm_bridge *, const char *, size_t);
    void (*sha1_bin)(pm_bridge *, const char *, size_t);
    void (*hmac_sha1)(pm_bridge *, const char *, size_t, const char *, size_t);
    uint32_t (*crc32)(const char *, size_t);
} pm_codec;
]]
local C = ffi.cast("const pm_codec *", address)
-- One local for each: a trace then calls a constant address. Results of ffi.string go into a local before they are
-- returned, because a tail call of a builtin cannot be compiled.
local escape_uri, unescape_uri, encode_base64 = C.escape_uri, C.unescape_uri, C.encode_base64
local decode_base64, quote_sql, hmac_sha1, crc32 = C.decode_base64, C.quote_sql, C.hmac_sha1, C.crc32

function ngx.escape_uri(s, kind)
    s = text(s)
    if kind == nil then
        kind = 2
    elseif type(kind) ~= "number" then
        error("\"type\" is not a number", 3)
    elseif kind < 0 or kind > 6 then
        error("\"type\" " .. kind .. " out of range", 3)
    end
    if escape_uri(bridge, s, #s, kind) == 0 then
        return s
    end
    local out = str(bridge.text, bridge.text_len)
    return out
end

function ngx.unescape_uri(s)
    s = text(s)
    unescape_uri(bridge, s, #s)
    local out = str(bridge.text, bridge.text_len)
    return out
end

function ngx.encode_base64(s, no_padding)
    s = text(s)
    if no_padding and no_padding ~= true then
        error("bad no_padding: boolean expected, got " .. type(no_padding), 2)
    end
    encode_base64(bridge, s, #s, no_padding and 0 or 1)
    local out = str(bridge.text, bridge.text_len)
    return out
end

function ngx.decode_base64(s)
    if type(s) ~= "string" then
        error("string argument only", 2)
    end
    if decode_base64(bridge, s, #s) == 0 then
        return nil
    end
    local out = str(bridge.text, bridge.text_len)
    return out
end

local function digest(compute)
    return function(s)
        s = text(s)
        compute(bridge, s, #s)
        local out = str(bridge.text, bridge.text_len)
        return out
    end
end

ngx.md5 = digest(C.md5)
ngx.md5_bin = digest(C.md5_bin)
ngx.sha1_bin = digest(C.sha1_bin)

function ngx.crc32_short(s)
    s = text(s)
    local sum = crc32(s, #s)
    return sum
end

ngx.crc32_long = ngx.crc32_short

function ngx.hmac_sha1(...)
    if select("#", ...) ~= 2 then
        error("expecting 2 arguments, but got " .. select("#", ...), 2)
    end
    local key, s = ...
    key, s = text_argument(key, 1), text_argument(s, 2)
    hmac_sha1(bridge, key, #key, s, #s)
    local out = str(bridge.text, bridge.text_len)
    return out
end

function ngx.quote_sql_str(...)
    if select("#", ...) ~= 1 then
        error("expecting one argument", 2)
    end
    local s = text_argument((...), 1)
    quote_sql(bridge, s, #s)
    local out = str(bridge.text, bridge.text_len)
    return out
end

local function escaped(s)
    if escape_uri(bridge, s, #s, 2) == 0 then
        return s
    end
    local out = str(bridge.text, bridge.text_len)
    return out
end

-- One value of an argument; false if there is nothing to write.
local function pair(key, value)
    local kind = type(value)
    if kind == "boolean" then
        return value and key
    elseif kind == "string" or kind == "number" then
        return key .. "=" .. escaped(tostring(value))
    end
    return nil, kind
end

-- `level` is the level at which errors are reported, counted from the caller.
local function encode_args(args, level)
    local out, n = {}, 0
    for key, value in pairs(args) do
        if type(key) ~= "string" then
            error('attempt to use a non-string key in the "args" option table', level + 1)
        end
        key = escaped(key)
        if type(value) == "table" then
            for _, each in pairs(value) do
                local made, bad = pair(key, each)
                if bad then
                    error("attempt to use " .. bad .. " as query arg value", level + 1)
                end
                if made then
                    n = n + 1
                    out[n] = made
                end
            end
        else
            local made, bad = pair(key, value)
            if bad then
                error("attempt to use " .. bad .. " as query arg value", level + 1)
            end
            if made then
                n = n + 1
                out[n] = made
            end
        end
    end
    return concat(out, "&")
end
support.encode_args = encode_args

function ngx.encode_args(...)
    if select("#", ...) ~= 1 then
        error("expecting 1 argument but seen " .. select("#", ...), 2)
    end
    local args = ...
    if type(args) ~= "table" then
        local kind = args == nil and "nil" or type(args)
        argument_error(1, "table expected, got " .. kind)
    end
    local out = encode_args(args, 2)
    return out
end

local native_decode_args = natives.decode_args

function ngx.decode_args(...)
    local n = select("#", ...)
    if n ~= 1 and n ~= 2 then
        error("expecting 1 or 2 arguments but seen " .. n, 2)
    end
    local s, max = ...
    s = text_argument(s, 1)
    if n == 1 then
        max = 100
    elseif not tonumber(max) then
        argument_error(2, "number expected, got " .. (max == nil and "nil" or type(max)))
    end
    return native_decode_args(s, tonumber(max))
end
