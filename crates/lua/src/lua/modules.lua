-- Modules of OpenResty's LuaJIT and of lua-resty-core, which scripts require by name.
local support = ...
local preload, next, type, select, floor = package.preload, next, type, select, math.floor
local argument_error = support.argument_error

local function check(count, value)
    if type(value) ~= "table" then
        argument_error(1, "table expected, got " .. (count == 0 and "no value" or type(value)), 1)
    end
end

-- OpenResty's LuaJIT puts a function into `table` when its module is loaded.
local function extend_table(name, extension)
    preload["table." .. name] = function()
        table[name] = extension
        return extension
    end
end

extend_table("nkeys", function(...)
    local list, count = (...), 0
    check(select("#", ...), list)
    local key = next(list)
    while key ~= nil do
        count = count + 1
        key = next(list, key)
    end
    return count
end)

-- Any integer is a key of an array, as in OpenResty's LuaJIT.
extend_table("isarray", function(...)
    local list = (...)
    check(select("#", ...), list)
    local key = next(list)
    while key ~= nil do
        if type(key) ~= "number" or floor(key) ~= key then
            return false
        end
        key = next(list, key)
    end
    return true
end)

extend_table("isempty", function(...)
    local list = (...)
    check(select("#", ...), list)
    return next(list) == nil
end)

-- A copy of the table itself, without its metatable.
extend_table("clone", function(...)
    local list, copy = (...), {}
    check(select("#", ...), list)
    local key, value = next(list)
    while key ~= nil do
        copy[key] = value
        key, value = next(list, key)
    end
    return copy
end)

-- lua-resty-core replaces functions of `ngx` by FFI calls into ngx_lua. Those here are FFI calls already, so its modules
-- have nothing to do; resty.core.base, which changes nothing of `ngx`, is the library's own.
local VERSION = "0.1.25"
for _, name in ipairs {
    "", ".base64", ".coroutine", ".ctx", ".exit", ".hash", ".misc", ".ndk", ".param", ".phase", ".regex", ".request",
    ".response", ".shdict", ".socket", ".time", ".uri", ".utils", ".var", ".worker",
} do
    preload["resty.core" .. name] = function()
        return { version = VERSION }
    end
end
