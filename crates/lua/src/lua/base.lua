-- The phase and the configuration.
local support = ...
local ngx = ngx
local bridge, names, prefix = support.bridge, support.phases.names, support.settings.prefix
local tonumber = tonumber

function ngx.get_phase()
    return names[tonumber(bridge.phase)]
end

-- The versions are those whose behaviour is offered, nginx 1.22.1 and ngx_lua 0.10.23.
ngx.config = {
    subsystem = "http",
    debug = false,
    nginx_version = 1022001,
    ngx_lua_version = 10023,
    prefix = function()
        return prefix
    end,
    nginx_configure = function()
        return ""
    end,
}
