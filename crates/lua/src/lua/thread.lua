-- Light threads: ngx.thread.spawn, wait and kill; ngx.on_abort. Which of them runs is decided outside (vm/schedule.rs); who
-- is whose parent, and what they have returned, is kept here.
local support, _, natives = ...
local ngx = ngx
local error, type, select, unpack, pairs, tonumber = error, type, select, unpack, pairs, tonumber
local running, isyieldable = coroutine.running, coroutine.isyieldable
local create, status, getinfo = support.native_create, support.native_status, debug.getinfo
local bridge, check, check_request, wait = support.bridge, support.check, support.check_request, support.wait
local argument_error = support.argument_error
local spawn, join, kill, on_abort, watches_client =
    natives.spawn, natives.join, natives.kill, natives.on_abort, natives.watches_client
local SPAWN, WAIT, KILL, ON_ABORT = support.allowed "ngx.thread.spawn", support.allowed "ngx.thread.wait",
    support.allowed "ngx.thread.kill", support.allowed "ngx.on_abort"

-- The records of each request, by its number: of threads, and of coroutines that have spawned some. One of a thread has its
-- number, the coroutine that is its parent, the call that waits for it, and, once it has ended and is not waited for, what it
-- has returned.
local requests = {}
support.threads = requests
-- Threads that have ended.
local ended = setmetatable({}, { __mode = "k" })

local function records()
    local number = tonumber(bridge.request)
    local mine = requests[number]
    if not mine then
        mine = {}
        requests[number] = mine
        bridge.touched = 1
    end
    return mine
end

-- Whether a coroutine has not come to its end.
local function is_alive(mine, co)
    local record = mine[co]
    if record then
        return not record.results
    end
    return not ended[co] and status(co) ~= "dead"
end

-- The state of a thread, or of what has spawned one, if that is not the coroutine's own.
function support.thread_status(co)
    local mine = requests[tonumber(bridge.request)]
    local record = mine and mine[co]
    if record then
        if record.results then
            return is_alive(mine, record.parent) and "zombie" or "dead"
        end
        return "running"
    end
    return ended[co] and "dead" or nil
end

local function check_function(f)
    if type(f) ~= "function" or getinfo(f, "S").what == "C" then
        argument_error(1, "Lua function expected", 1)
    end
end

local function check_thread(co, number)
    if type(co) ~= "thread" then
        argument_error(number, "lua thread expected", 1)
    end
end

local thread = {}
ngx.thread = thread

function thread.spawn(...)
    check_function((...))
    check(SPAWN)
    if not isyieldable() then
        error("attempt to yield across C-call boundary", 0)
    end
    local co, parent, mine = create((...)), running(), records()
    local number, is_top = spawn(co, select(2, ...))
    if not number then
        error("too many light threads: at most 10000 of a request run at a time", 2)
    end
    mine[co] = { number = number, parent = parent }
    if is_top and not mine[parent] then
        mine[parent] = { is_entry = true }
    end
    wait()
    return co
end

local function forget(mine, co)
    mine[co] = nil
    ended[co] = true
end

function support.thread_ended(co, ok, ...)
    local mine = requests[tonumber(bridge.request)]
    local record = mine and mine[co]
    if not record then
        return -1
    end
    mine[co] = nil
    -- What is its own cannot be waited for any more.
    if record.has_zombies then
        for other, its in pairs(mine) do
            if its.parent == co and its.results then
                forget(mine, other)
            end
        end
    end
    if record.is_entry then
        return -1
    end
    ended[co] = true
    local call = record.call
    if call and call.is_open then
        call.is_open, call.count, call.results = false, select("#", ...) + 1, { ok, ... }
        return call.thread
    end
    if is_alive(mine, record.parent) then
        local parent = mine[record.parent]
        if parent then
            parent.has_zombies = true
        end
        ended[co] = nil
        mine[co] = { parent = record.parent, count = select("#", ...) + 1, results = { ok, ... } }
    end
    return -1
end

function thread.wait(...)
    check(WAIT)
    local n = select("#", ...)
    if n == 0 then
        error("at least one coroutine should be specified", 2)
    end
    local me, mine, call = running(), records(), { is_open = true }
    for number = 1, n do
        local co = select(number, ...)
        check_thread(co, number)
        local record = mine[co]
        if ended[co] then
            if number == n then
                return nil, "already waited or killed"
            end
        elseif not record or record.is_entry then
            error("attempt to wait on a coroutine that is not a user thread", 2)
        elseif record.parent ~= me then
            error("only the parent coroutine can wait on the thread", 2)
        elseif record.results then
            call.is_open = false
            forget(mine, co)
            return unpack(record.results, 1, record.count)
        else
            record.call = call
        end
    end
    if not isyieldable() then
        error("attempt to yield across C-call boundary", 0)
    end
    call.thread = join()
    wait()
    return unpack(call.results, 1, call.count)
end

function thread.kill(...)
    check(KILL)
    local co = (...)
    check_thread(co, 1)
    local mine = records()
    local record = mine[co]
    if ended[co] then
        return nil, "already waited or killed"
    elseif not record or record.is_entry then
        return nil, "not user thread"
    elseif record.parent ~= running() then
        return nil, "killer not parent"
    elseif record.results then
        forget(mine, co)
        return nil, "already terminated"
    elseif not kill(record.number) then
        return nil, "pending subrequests"
    end
    forget(mine, co)
    return 1
end

function ngx.on_abort(...)
    check_request()
    if not watches_client() then
        return nil, "lua_check_client_abort is off"
    end
    check_function((...))
    check(ON_ABORT)
    local co, mine = create((...)), records()
    if not on_abort(co, (...)) then
        return nil, "duplicate call"
    end
    mine[co] = { parent = running() }
    return 1
end
