-- ngx.shared: the dicts of lua_shared_dict.
local support, address, natives = ...
local ngx = ngx
local ffi = require "ffi"
local str, type, tostring, tonumber, error = ffi.string, type, tostring, tonumber, error
local select, setmetatable = select, setmetatable
local bridge = support.bridge

ffi.cdef [[
typedef struct {
    const char *key;
    size_t key_len;
    const char *text;
    size_t text_len;
    double number;
    double init;
    int64_t ttl_ms;
    uint32_t kind;
    uint32_t flags;
} pm_write;
typedef struct {
    int (*get)(pm_bridge *, uint32_t, const char *, size_t, int);
    int (*store)(pm_bridge *, uint32_t, uint32_t, const pm_write *);
    void (*delete)(pm_bridge *, uint32_t, const char *, size_t);
    int (*incr)(pm_bridge *, uint32_t, int, const pm_write *);
    int (*push)(pm_bridge *, uint32_t, int, const pm_write *);
    int (*pop)(pm_bridge *, uint32_t, int, const char *, size_t);
    int (*llen)(pm_bridge *, uint32_t, const char *, size_t);
    int (*ttl)(pm_bridge *, uint32_t, const char *, size_t);
    int (*expire)(pm_bridge *, uint32_t, const char *, size_t, int64_t);
    void (*flush_all)(pm_bridge *, uint32_t);
    uint32_t (*flush_expired)(pm_bridge *, uint32_t, uint32_t);
    double (*capacity)(pm_bridge *, uint32_t);
    double (*free_space)(pm_bridge *, uint32_t);
} pm_shared;
]]
local C = ffi.cast("const pm_shared *", address)
local c_get, c_store, c_delete, c_incr, c_push, c_pop = C.get, C.store, C.delete, C.incr, C.push, C.pop
local c_llen, c_ttl, c_expire, c_flush_all = C.llen, C.ttl, C.expire, C.flush_all
local c_flush_expired, c_capacity, c_free_space = C.flush_expired, C.capacity, C.free_space

local BOOLEAN, NUMBER, STRING = 1, 3, 4
-- The key and value of a call; one struct for all calls. It keeps no string alive: the calling function does.
local write = ffi.new("pm_write")
local MAX_KEY = 65535

-- The number of a dict's zone.
local function zone_of(dict)
    local zone = type(dict) == "table" and dict[2]
    if type(zone) ~= "number" then
        error("bad \"zone\" argument", 3)
    end
    return zone
end

-- A key as a string, or nil and an error.
local function checked(key)
    if key == nil then
        return nil, "nil key"
    end
    if type(key) ~= "string" then
        key = tostring(key)
    end
    if #key == 0 then
        return nil, "empty key"
    end
    if #key > MAX_KEY then
        return nil, "key too long"
    end
    return key
end

local function found(kind)
    if kind == STRING then
        local text = str(bridge.text, bridge.text_len)
        return text
    elseif kind == NUMBER then
        return tonumber(bridge.number)
    end
    return bridge.number ~= 0
end

local function refused()
    local text = str(bridge.text, bridge.text_len)
    return text
end

local methods = {}

function methods.get(dict, key)
    local zone, err = zone_of(dict)
    key, err = checked(key)
    if not key then
        return nil, err
    end
    local kind = c_get(bridge, zone, key, #key, 0)
    if kind == 0 then
        return nil
    elseif kind < 0 then
        return nil, refused()
    end
    local value = found(kind)
    if bridge.flags ~= 0 then
        return value, tonumber(bridge.flags)
    end
    return value
end

function methods.get_stale(dict, key)
    local zone, err = zone_of(dict)
    key, err = checked(key)
    if not key then
        return nil, err
    end
    local kind = c_get(bridge, zone, key, #key, 1)
    if kind == 0 then
        return nil
    elseif kind < 0 then
        return nil, refused()
    end
    local value = found(kind)
    local stale = bridge.extra == 1
    if bridge.flags ~= 0 then
        return value, tonumber(bridge.flags), stale
    end
    return value, nil, stale
end

-- Methods call this in tail position, so that level 2 is the caller of the method.
local function store(zone, op, key, value, exptime, flags)
    if not exptime then
        exptime = 0
    elseif exptime < 0 then
        error('bad "exptime" argument', 2)
    end
    local err
    key, err = checked(key)
    if not key then
        return nil, err
    end
    local kind = type(value)
    if kind == "string" then
        write.kind, write.text, write.text_len = STRING, value, #value
    elseif kind == "number" then
        write.kind, write.number = NUMBER, value
    elseif kind == "boolean" then
        write.kind, write.number = BOOLEAN, value and 1 or 0
    elseif value == nil then
        if op >= 2 then
            return false, "attempt to add or replace nil values", false
        end
        c_delete(bridge, zone, key, #key)
        return true, nil, false
    else
        return nil, "bad value type"
    end
    write.key, write.key_len, write.ttl_ms, write.flags = key, #key, exptime * 1000, flags or 0
    local done = c_store(bridge, zone, op, write)
    local forcible = bridge.extra == 1
    if done > 0 then
        return true, nil, forcible
    end
    return false, refused(), forcible
end

function methods.set(dict, key, value, exptime, flags)
    local zone = zone_of(dict)
    return store(zone, 0, key, value, exptime, flags)
end

function methods.safe_set(dict, key, value, exptime, flags)
    local zone = zone_of(dict)
    return store(zone, 1, key, value, exptime, flags)
end

function methods.add(dict, key, value, exptime, flags)
    local zone = zone_of(dict)
    return store(zone, 2, key, value, exptime, flags)
end

function methods.safe_add(dict, key, value, exptime, flags)
    local zone = zone_of(dict)
    return store(zone, 3, key, value, exptime, flags)
end

function methods.replace(dict, key, value, exptime, flags)
    local zone = zone_of(dict)
    return store(zone, 4, key, value, exptime, flags)
end

function methods.delete(dict, key)
    local zone = zone_of(dict)
    return store(zone, 0, key, nil)
end

local function number_argument(value, name)
    if value == nil or type(value) == "number" then
        return value
    end
    local number = tonumber(value)
    if not number then
        error("bad " .. name .. " arg: number expected, got " .. type(value), 3)
    end
    return number
end

function methods.incr(dict, key, value, init, init_ttl)
    local zone, err = zone_of(dict)
    key, err = checked(key)
    if not key then
        return nil, err
    end
    if type(value) ~= "number" then
        value = tonumber(value)
    end
    init = init and number_argument(init, "init")
    if init_ttl ~= nil then
        init_ttl = number_argument(init_ttl, "init_ttl")
        if init_ttl < 0 then
            error('bad "init_ttl" argument', 2)
        end
        if not init then
            error('must provide "init" when providing "init_ttl"', 2)
        end
    end
    write.key, write.key_len, write.number, write.init = key, #key, value, init or 0
    write.ttl_ms = (init_ttl or 0) * 1000
    local done = c_incr(bridge, zone, init and 1 or 0, write)
    if done < 0 then
        return nil, refused()
    end
    if not init then
        return tonumber(bridge.number)
    end
    return tonumber(bridge.number), nil, bridge.extra == 1
end

-- As in ngx_lua, the list calls check their number of arguments.
local function push(right, n, dict, key, value)
    if n ~= 3 then
        error("expecting 3 arguments, but only seen " .. n, 2)
    end
    local zone = type(dict) == "table" and dict[2]
    if type(zone) ~= "number" then
        error("bad \"zone\" argument", 2)
    end
    local err
    key, err = checked(key)
    if not key then
        return nil, err
    end
    if type(value) == "string" then
        write.kind, write.text, write.text_len = STRING, value, #value
    elseif type(value) == "number" then
        write.kind, write.number = NUMBER, value
    else
        return nil, "bad value type"
    end
    write.key, write.key_len = key, #key
    local done = c_push(bridge, zone, right, write)
    if done < 0 then
        return nil, refused()
    end
    return tonumber(bridge.number)
end

function methods.lpush(...)
    return push(0, select("#", ...), ...)
end

function methods.rpush(...)
    return push(1, select("#", ...), ...)
end

local function pop(right, n, dict, key)
    if n ~= 2 then
        error("expecting 2 arguments, but only seen " .. n, 2)
    end
    local zone = type(dict) == "table" and dict[2]
    if type(zone) ~= "number" then
        error("bad \"zone\" argument", 2)
    end
    local err
    key, err = checked(key)
    if not key then
        return nil, err
    end
    local kind = c_pop(bridge, zone, right, key, #key)
    if kind == 0 then
        return nil
    elseif kind < 0 then
        return nil, refused()
    end
    return found(kind)
end

function methods.lpop(...)
    return pop(0, select("#", ...), ...)
end

function methods.rpop(...)
    return pop(1, select("#", ...), ...)
end

function methods.llen(...)
    local n = select("#", ...)
    if n ~= 2 then
        error("expecting 2 arguments, but only seen " .. n, 2)
    end
    local dict, key = ...
    local zone, err = zone_of(dict)
    key, err = checked(key)
    if not key then
        return nil, err
    end
    if c_llen(bridge, zone, key, #key) < 0 then
        return nil, refused()
    end
    return tonumber(bridge.number)
end

function methods.ttl(dict, key)
    local zone, err = zone_of(dict)
    key, err = checked(key)
    if not key then
        return nil, err
    end
    if c_ttl(bridge, zone, key, #key) < 0 then
        return nil, refused()
    end
    return tonumber(bridge.number) / 1000
end

function methods.expire(dict, key, exptime)
    local zone, err = zone_of(dict)
    if not exptime then
        error('bad "exptime" argument', 2)
    end
    key, err = checked(key)
    if not key then
        return nil, err
    end
    if c_expire(bridge, zone, key, #key, exptime * 1000) < 0 then
        return nil, refused()
    end
    return true
end

function methods.flush_all(dict)
    c_flush_all(bridge, zone_of(dict))
end

-- An optional count, as luaL_checkint takes it.
local function count_argument(n, count, default)
    if n ~= 1 and n ~= 2 then
        error("expecting 1 or 2 argument(s), but saw " .. n, 3)
    end
    if n == 1 then
        return default
    end
    local number = tonumber(count)
    if not number then
        support.argument_error(2, "number expected, got " .. (count == nil and "nil" or type(count)), 1)
    end
    return number < 0 and 0 or number
end

function methods.flush_expired(...)
    local max = count_argument(select("#", ...), (select(2, ...)), 0)
    local removed = c_flush_expired(bridge, zone_of((...)), max)
    return removed
end

local native_get_keys = natives.get_keys

function methods.get_keys(...)
    local max = count_argument(select("#", ...), (select(2, ...)), 1024)
    return native_get_keys(zone_of((...)), max)
end

function methods.capacity(dict)
    return c_capacity(bridge, zone_of(dict))
end

function methods.free_space(dict)
    return c_free_space(bridge, zone_of(dict))
end

methods.__index = methods
-- For dicts that are the face of a switch.
support.dict = { methods = methods, zone_of = zone_of, checked = checked }

local shared = {}
for number, name in ipairs(support.settings.zones) do
    -- A dict is a table around userdata, as in ngx_lua; only the number is used here.
    shared[name] = setmetatable({ newproxy(), number - 1 }, methods)
end
ngx.shared = shared
