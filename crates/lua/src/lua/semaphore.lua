-- The module ngx.semaphore.
local support, address = ...
local ffi = require "ffi"
local error, type, tonumber, setmetatable, isyieldable = error, type, tonumber, setmetatable, coroutine.isyieldable
local bridge, wait, band = support.bridge, support.wait, bit.band
local directives, WAIT, INIT = support.phases.directives, support.allowed "ngx.thread.wait", 0x10000

ffi.cdef [[
typedef struct { void *handle; } pm_semaphore;
typedef struct {
    void *(*make)(int);
    void (*forget)(void *);
    void (*post)(void *, int);
    int (*count)(void *);
    int (*wait)(pm_bridge *, void *, double);
    int (*granted)(void *, uint32_t);
} pm_semaphores;
]]
local C = ffi.cast("const pm_semaphores *", address)
local semaphore_t = ffi.metatype("pm_semaphore", {
    __gc = function(semaphore)
        C.forget(semaphore.handle)
    end,
})

package.preload["ngx.semaphore"] = function()
    local methods = { version = "0.1.25" }
    local metatable = { __index = methods }

    local function handle_of(self)
        if type(self) ~= "table" or type(self.sem) ~= "cdata" then
            error("not a semaphore instance", 3)
        end
        return self.sem.handle
    end

    function methods.new(n)
        n = tonumber(n) or 0
        if n < 0 then
            error("no negative number", 2)
        end
        return setmetatable({ sem = semaphore_t(C.make(n)) }, metatable)
    end

    function methods.wait(self, seconds)
        local handle = handle_of(self)
        local phase = tonumber(bridge.phase)
        if phase == INIT then
            error("no request found")
        end
        local ms = tonumber(seconds) * 1000
        if ms < 0 then
            error("no negative number", 2)
        elseif band(phase, WAIT) == 0 then
            return nil, "API disabled in the context of " .. (directives[phase] or "(unknown)")
        elseif not isyieldable() then
            error("attempt to yield across C-call boundary", 0)
        end
        local code = C.wait(bridge, handle, ms)
        if code == 1 then
            return true
        elseif code == 2 then
            return nil, "timeout"
        end
        local number = bridge.number
        wait()
        if C.granted(handle, number) == 1 then
            return true, nil
        end
        return false, "timeout"
    end

    function methods.post(self, n)
        local handle = handle_of(self)
        n = n and tonumber(n) or 1
        if n < 1 then
            error("positive number required", 2)
        end
        C.post(handle, n)
        return true
    end

    function methods.count(self)
        return C.count(handle_of(self))
    end

    return methods
end
