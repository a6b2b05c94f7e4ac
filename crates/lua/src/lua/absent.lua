-- The functions of ngx_lua that pointsman does not have: calling one raises an error.
local ngx = ngx
local error, setmetatable = error, setmetatable

local function absent(name)
    return setmetatable({}, {
        __call = function()
            error(name .. " is not supported by pointsman", 2)
        end,
        __index = function(_, key)
            error(name .. "." .. tostring(key) .. " is not supported by pointsman", 2)
        end,
        __tostring = function()
            return name .. " (not supported by pointsman)"
        end,
        __metatable = false,
    })
end

for _, path in ipairs {
    "run_worker_thread",
} do
    local group, name = path:match("^(%w+)%.([%w_]+)$")
    if group then
        local table = rawget(ngx, group) or {}
        rawset(ngx, group, table)
        table[name] = absent("ngx." .. path)
    else
        rawset(ngx, path, absent("ngx." .. path))
    end
end
