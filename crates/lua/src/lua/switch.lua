-- Dicts that are the face of a switch. Other methods are those of any dict.
local support, address = ...
local faces = support.settings.faces
if not next(faces) then
    return
end
local ffi = require "ffi"
local str, type, tostring, tonumber, error = ffi.string, type, tostring, tonumber, error
local setmetatable, pairs, find, match = setmetatable, pairs, string.find, string.match
local getinfo, isyieldable = debug.getinfo, coroutine.isyieldable
local bridge, wait = support.bridge, support.wait
local plain, zone_of, checked = support.dict.methods, support.dict.zone_of, support.dict.checked

ffi.cdef [[
typedef struct {
    const char *key;
    size_t key_len;
    const char *target;
    size_t target_len;
    const char *actor;
    size_t actor_len;
    int has_target;
    int may_yield;
} pm_order;
typedef struct {
    int (*get)(pm_bridge *, uint32_t, uint32_t, const char *, size_t);
    int (*holds)(pm_bridge *, uint32_t, uint32_t, const char *, size_t);
    int (*order)(pm_bridge *, uint32_t, const pm_order *);
    int (*outcome)(pm_bridge *, uint32_t, const char *, size_t);
} pm_switch;
]]
local C = ffi.cast("const pm_switch *", address)
local c_get, c_holds, c_order, c_outcome = C.get, C.holds, C.order, C.outcome
-- The order of a call; one struct for all calls. It keeps no string alive: the calling function does.
local asked = ffi.new("pm_order")

-- The bits of c_holds.
local ENTRY, VALUE = 1, 2
local HIDDEN = "the key has an entry in the switch that this dict is the face of: it takes a string, or nil"
local TAKEN = "the key holds a value of the script's own: an entry of the switch must not hide it"

local function answer()
    local text = str(bridge.text, bridge.text_len)
    return text
end

-- The position of the call in the configuration or a file: lua:FILE:LINE.
local function actor()
    for level = 3, 64 do
        local frame = getinfo(level, "Sl")
        if not frame then
            break
        end
        local source = frame.source
        if frame.what ~= "C" and frame.what ~= "tail" and not find(source, "^=%(ngx%.") then
            local file, first = match(source, "_by_lua%((.*):(%d+)%)$")
            if file then
                return "lua:" .. file .. ":" .. (tonumber(first) + frame.currentline - 1)
            end
            return "lua:" .. (match(source, "^[@=](.*)$") or "(string)") .. ":" .. frame.currentline
        end
    end
    -- After a tail call there is no frame of the script.
    return "lua:" .. (support.phases.directives[tonumber(bridge.phase)] or "(unknown)")
end

local function order(dict, key, target)
    local zone, who = dict[2], actor()
    local text = target or ""
    asked.key, asked.key_len, asked.target, asked.target_len = key, #key, text, #text
    asked.actor, asked.actor_len = who, #who
    asked.has_target, asked.may_yield = target and 1 or 0, isyieldable() and 1 or 0
    if c_order(bridge, dict[3], asked) == 0 then
        return nil, answer(), false
    end
    wait()
    if c_outcome(bridge, zone, key, #key) == 0 then
        return nil, answer(), false
    end
    return true, nil, false
end

local methods = setmetatable({}, { __index = plain })

-- It would expire what the switch shows beside the script's own values, and could not: entries are changed by orders.
function methods.flush_all(dict)
    zone_of(dict)
    return nil, "the dict is the face of a switch: set its keys one by one"
end

local function reading(name)
    local read = plain[name]
    return function(dict, key)
        local zone = zone_of(dict)
        local text, err = checked(key)
        if not text then
            return nil, err
        end
        if c_get(bridge, zone, dict[3], text, #text) == 1 then
            local target = answer()
            return target
        end
        return read(dict, key)
    end
end
methods.get, methods.get_stale = reading "get", reading "get_stale"

-- A method that stores: a string is an order, any other value is the plain dict's. `wanted` says whether the key must
-- have an entry (ENTRY), must have none (0), or either (nil).
local function storing(name, wanted)
    local store = plain[name]
    return function(dict, key, value, exptime, flags)
        local zone = zone_of(dict)
        local text, err = checked(key)
        if not text then
            return nil, err
        end
        local held = c_holds(bridge, zone, dict[3], text, #text)
        local entry = held % 2
        if type(value) ~= "string" then
            if value == nil and not wanted and entry == ENTRY then
                return order(dict, text, nil)
            elseif value ~= nil and entry == ENTRY then
                return nil, HIDDEN, false
            end
            return store(dict, key, value, exptime, flags)
        end
        if held >= VALUE then
            return nil, TAKEN, false
        elseif wanted and entry ~= wanted then
            return nil, wanted == ENTRY and "not found" or "exists", false
        elseif exptime and exptime ~= 0 then
            return nil, "an entry of a switch has no time to live: it lasts until the next order", false
        elseif flags and flags ~= 0 then
            return nil, "an entry of a switch has no flags", false
        end
        return order(dict, text, value)
    end
end
methods.set, methods.safe_set = storing("set"), storing("safe_set")
methods.add, methods.safe_add = storing("add", 0), storing("safe_add", 0)
methods.replace = storing("replace", ENTRY)

function methods.delete(dict, key)
    return methods.set(dict, key, nil)
end

-- A method that makes a value of another kind, which a key with an entry refuses.
local function making(name)
    local make = plain[name]
    return function(dict, key, ...)
        local zone = zone_of(dict)
        local text, err = checked(key)
        if not text then
            return nil, err
        end
        if c_holds(bridge, zone, dict[3], text, #text) % 2 == ENTRY then
            return nil, HIDDEN
        end
        return make(dict, key, ...)
    end
end
methods.incr, methods.lpush, methods.rpush = making "incr", making "lpush", making "rpush"

methods.__index = methods

for number, switch in pairs(faces) do
    local dict = ngx.shared[support.settings.zones[number]]
    dict[3] = switch
    setmetatable(dict, methods)
end
