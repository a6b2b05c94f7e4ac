-- The base of every area of the API: the bridge to Rust, and the check of the phase.
local address, phases, settings = ...

local ffi = require "ffi"
local bit = require "bit"
local band, error = bit.band, error

-- The front of the Rust struct `Bridge`; a change here is a change there.
ffi.cdef [[
typedef struct {
    uint32_t phase;
    uint32_t request;
    const char *text;
    size_t text_len;
    double number;
    uint32_t flags;
    uint32_t extra;
    uint32_t touched;
    uint32_t unused;
} pm_bridge;
]]

-- The sizes OpenResty's LuaJIT has built in: a proxy's scripts make more traces than LuaJIT's defaults hold.
require("jit.opt").start("maxtrace=8000", "maxrecord=16000", "minstitch=3", "maxmcode=40960")

local bridge = ffi.cast("pm_bridge *", address)
local INIT = 0x10000

-- The bits of the phases in which a function of the API is allowed.
local function allowed(name)
    local bits = phases.allowed[name]
    if not bits then
        error("no table entry for " .. name)
    end
    return bit.tobit(bits)
end

-- Raises ngx_lua's error unless the running phase is one of `bits`; `level` as for a call from the function itself.
local function refuse(level)
    local phase = tonumber(bridge.phase)
    if phase == INIT then
        error("no request found", level + 1)
    end
    error("API disabled in the context of " .. (phases.directives[phase] or "(unknown)"), level + 1)
end

local function check(bits)
    if band(bridge.phase, bits) == 0 then
        refuse(3)
    end
end

-- The shorter error of functions that ngx_lua reaches through FFI.
local REQUEST = 0x827f
local function check_request()
    local phase = bridge.phase
    if band(phase, REQUEST) == 0 then
        if phase == INIT then
            error("no request found", 3)
        end
        error("API disabled in the current context", 3)
    end
end

-- Raises the error of luaL_argerror, with the name that the function was called by, or '?'. `depth` counts the frames
-- from the API function to the caller of this one.
local getinfo = debug.getinfo
local function argument_error(number, text, depth)
    local level = 2 + (depth or 0)
    local name = getinfo(level, "n").name or "?"
    error("bad argument #" .. number .. " to '" .. name .. "' (" .. text .. ")", level + 1)
end

-- luaL_checklstring: strings and numbers. To be called by the API function itself.
local function text_argument(value, number)
    if type(value) == "string" then
        return value
    elseif type(value) == "number" then
        return tostring(value)
    end
    argument_error(number, "string expected, got " .. (value == nil and "nil" or type(value)), 1)
end

-- The argument of ngx_lua's string functions, as text.
local function text(value)
    if type(value) == "string" then
        return value
    end
    if not value then
        return ""
    end
    return tostring(value)
end

-- The computed fields of ngx: ngx.status, ngx.ctx and others.
local getters, setters = {}, {}
ngx = setmetatable({}, {
    __index = function(_, key)
        local get = getters[key]
        if get then
            return get()
        end
    end,
    __newindex = function(table, key, value)
        local set = setters[key]
        if set then
            return set(value)
        end
        rawset(table, key, value)
    end,
})
package.loaded.ngx = ngx

return {
    bridge = bridge,
    settings = settings,
    no_room = settings.no_room,
    phases = phases,
    allowed = allowed,
    check = check,
    check_request = check_request,
    getters = getters,
    setters = setters,
    refuse = refuse,
    text = text,
    argument_error = argument_error,
    text_argument = text_argument,
    -- The token that a waiting call yields to the scheduler.
    token = {},
}
