-- ngx.var.
local support, address = ...
local ngx = ngx
local ffi = require "ffi"
local str, type, error, tostring, lower = ffi.string, type, error, tostring, string.lower
local bridge, check_request = support.bridge, support.check_request

ffi.cdef [[
typedef struct {
    int (*resolve)(pm_bridge *, const char *, size_t);
    int (*get)(pm_bridge *, int);
    int (*capture)(pm_bridge *, int);
    int (*set)(pm_bridge *, int, const char *, size_t, int);
} pm_variable;
]]
local C = ffi.cast("const pm_variable *", address)
local c_resolve, c_get, c_capture, c_set = C.resolve, C.get, C.capture, C.set

-- The numbers of names that were used before.
local numbers = {}

local function resolve(name)
    local number = c_resolve(bridge, name, #name)
    if number > 0 then
        numbers[name] = number
    end
    return number
end

local function get(_, name)
    check_request()
    local found
    if type(name) == "number" then
        found = name > 0 and c_capture(bridge, name) or 0
    else
        if type(name) ~= "string" then
            error("bad variable name", 2)
        end
        local number = numbers[name] or resolve(name)
        if number < 0 then
            return nil
        end
        found = c_get(bridge, number)
    end
    if found == 0 then
        return nil
    end
    local value = str(bridge.text, bridge.text_len)
    return value
end

local function set(_, name, value)
    check_request()
    if type(name) ~= "string" then
        error("bad variable name", 2)
    end
    local number = numbers[name] or resolve(name)
    local done = -2
    if number >= 0 then
        local is_nil = value == nil and 1 or 0
        local text = value == nil and "" or type(value) == "string" and value or tostring(value)
        done = c_set(bridge, number, text, #text, is_nil)
    end
    if done == -1 then
        error('variable "' .. lower(name) .. '" not changeable', 2)
    elseif done == -3 then
        error(support.no_room, 2)
    elseif done == -2 then
        name = lower(name)
        error('variable "' .. name .. '" not found for writing; maybe it is a built-in variable that is not changeable'
            .. " or you forgot to use \"set $" .. name .. " '';\" in the config file to define it first", 2)
    end
end

ngx.var = setmetatable({}, { __index = get, __newindex = set })
