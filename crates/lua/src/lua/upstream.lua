-- The module ngx.upstream.
local support, _, natives = ...
local error, type, tonumber, tostring, select, format = error, type, tonumber, tostring, select, string.format
local isyieldable, getinfo, band = coroutine.isyieldable, debug.getinfo, bit.band
local bridge, wait, text_argument = support.bridge, support.wait, support.text_argument
local names, native_peers, order, outcome, current =
    natives.names, natives.peers, natives.order, natives.outcome, natives.current
local WAIT, REQUEST = support.allowed "ngx.thread.wait", 0x827f

-- The peers of a group that are backups, or that are none, with their numbers; nil and the reason if there is no such group.
local function chosen(name, backups)
    local all = native_peers(name)
    if not all then
        return nil, "upstream not found"
    end
    local list = {}
    for number = 1, #all do
        local peer = all[number]
        if (peer.backup or false) == backups then
            peer.id, peer.backup = #list, nil
            list[#list + 1] = peer
        end
    end
    return list
end

local function peers(backups)
    return function(...)
        if select("#", ...) ~= 1 then
            error("exactly one argument expected", 2)
        end
        local list, err = chosen(text_argument((...), 1), backups)
        if not list then
            return nil, err
        end
        for number = 1, #list do
            list[number].server = nil
        end
        return list
    end
end

-- The script that gives an order, for the history.
local function actor()
    local info = getinfo(3, "Sl")
    return format("lua:%s:%d", info and info.short_src or "?", info and info.currentline or 0)
end

package.preload["ngx.upstream"] = function()
    local upstream = { get_primary_peers = peers(false), get_backup_peers = peers(true) }

    function upstream.get_upstreams(...)
        if select("#", ...) ~= 0 then
            error("no argument expected", 2)
        end
        return names()
    end

    function upstream.get_servers(...)
        if select("#", ...) ~= 1 then
            error("exactly one argument expected", 2)
        end
        local all = native_peers(text_argument((...), 1))
        if not all then
            return nil, "upstream not found"
        end
        local servers, last = {}, nil
        for number = 1, #all do
            local peer = all[number]
            if last and last.name == peer.server and last.backup == peer.backup then
                if type(last.addr) ~= "table" then
                    last.addr = { last.addr }
                end
                last.addr[#last.addr + 1] = peer.name
            else
                last = {
                    name = peer.server, addr = peer.name, weight = peer.weight, max_fails = peer.max_fails,
                    fail_timeout = peer.fail_timeout, backup = peer.backup, down = peer.down,
                }
                servers[#servers + 1] = last
            end
        end
        return servers
    end

    function upstream.set_peer_down(...)
        if select("#", ...) ~= 4 then
            error("exactly 4 arguments expected", 2)
        end
        local name, backups, number, down = ...
        name = text_argument(name, 1)
        backups = backups and true or false
        local list, err = chosen(name, backups)
        if not list then
            return nil, err
        elseif #list == 0 and backups then
            return nil, "no backup peers"
        end
        number = tonumber(number)
        if not number then
            support.argument_error(3, "number expected, got " .. type((select(3, ...))))
        end
        local peer = list[number + 1]
        if not peer then
            return nil, "bad peer id"
        end
        down = down and true or false
        if down == (peer.down or false) then
            return true
        elseif band(bridge.phase, WAIT) == 0 or not isyieldable() then
            return nil, "a server cannot be ordered up or down where the script cannot wait for the store: use a timer"
        end
        local wanted = order(name, peer.name, down, actor())
        wait()
        local done = outcome(wanted)
        if done == true then
            return true
        end
        return nil, tostring(done)
    end

    function upstream.current_upstream_name()
        if band(bridge.phase, REQUEST) == 0 then
            error("no request object found", 2)
        end
        local name = current()
        return name
    end

    return upstream
end
