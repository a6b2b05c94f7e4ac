-- ngx.socket.tcp and its kin: stream sockets.
local support, address = ...
local ngx = ngx
local ffi = require "ffi"
local str, type, error, tonumber, tostring, select = ffi.string, type, error, tonumber, tostring, select
local setmetatable, pairs, floor, concat, sub, lower = setmetatable, pairs, math.floor, table.concat, string.sub, string.lower
local bridge, check, wait = support.bridge, support.check, support.wait
local getinfo = debug.getinfo

ffi.cdef [[
typedef struct {
    const char *host; size_t host_len;
    const char *key; size_t key_len;
    int port; int pool_size; int backlog;
} pm_connect;
typedef struct {
    const char *pattern; size_t pattern_len;
    size_t limit; int matched; int inclusive;
} pm_until;
typedef struct {
    const char *name; size_t name_len;
    void *session; void *certificate; int verifies;
} pm_handshake;
typedef struct { void *handle; } pm_tcp;
typedef struct { void *session; } pm_session;
typedef struct {
    void *(*tcp)(pm_bridge *);
    void (*forget)(void *);
    int (*connect)(pm_bridge *, void *, const pm_connect *);
    int (*connected)(pm_bridge *, void *);
    int (*send)(pm_bridge *, void *, const char *, size_t);
    int (*sent)(pm_bridge *, void *);
    int (*receive)(pm_bridge *, void *, int, double);
    int (*receive_until)(pm_bridge *, void *, pm_until *);
    int (*received)(pm_bridge *, void *, pm_until *);
    void (*piece)(pm_bridge *, void *);
    int (*close)(pm_bridge *, void *);
    void (*set_times)(pm_bridge *, void *, int, int, int);
    int (*bind)(pm_bridge *, void *, const char *, size_t);
    int (*keep)(pm_bridge *, void *, double, double);
    int (*reused)(pm_bridge *, void *);
    int (*option)(pm_bridge *, void *, int, int, int);
    int (*shake_hands)(pm_bridge *, void *, const pm_handshake *);
    int (*shaken)(pm_bridge *, void *);
    void *(*session)(pm_bridge *);
    void (*forget_session)(void *);
    void *(*request_socket)(pm_bridge *, int);
    void *(*certificate)(pm_bridge *, const char *, size_t, const char *, size_t);
} pm_socket;
]]
local C = ffi.cast("const pm_socket *", address)
local c_connect, c_connected, c_send, c_sent = C.connect, C.connected, C.send, C.sent
local c_receive, c_received, c_receive_until = C.receive, C.received, C.receive_until
local until_t = ffi.typeof "pm_until"
local tcp_t = ffi.metatype("pm_tcp", {
    __gc = function(tcp)
        C.forget(tcp.handle)
    end,
})
local session_t = ffi.metatype("pm_session", {
    __gc = function(session)
        C.forget_session(session.session)
    end,
})
local handshake_t = ffi.typeof "pm_handshake"
local TCP = support.allowed "ngx.socket.tcp"
local WAIT, DONE, FAILED, PARTIAL, FOREIGN = 0, 1, 2, 3, 4
local LINE, ALL, BYTES, ANY = 0, 1, 2, 3
-- One structure for all calls: it keeps no string alive, the calling function does.
local call = ffi.new "pm_connect"

-- Raises the error of luaL_argerror about a method's argument, counted from the one behind the object. `depth` counts the
-- frames from the method to the caller of this.
local function argument_error(number, text, depth)
    local level = 2 + (depth or 0)
    local info = getinfo(level, "n")
    if info.namewhat ~= "method" then
        number = number + 1
    end
    error("bad argument #" .. number .. " to '" .. (info.name or "?") .. "' (" .. text .. ")", level + 1)
end

-- luaL_checklstring of such an argument; to be called by the method itself.
local function text_argument(value, number)
    if type(value) == "string" then
        return value
    elseif type(value) == "number" then
        return tostring(value)
    end
    argument_error(number, "string expected, got " .. (value == nil and "nil" or type(value)), 1)
end

local function reason()
    local text = str(bridge.text, bridge.text_len)
    return text
end

-- The C side of a socket; to be called by a method itself.
local function handle_of(socket)
    if type(socket) ~= "table" then
        argument_error(0, "table expected, got " .. (socket == nil and "no value" or type(socket)), 1)
    end
    return socket[1].handle
end

local function number_of_arguments(text, n)
    error(text .. n, 3)
end

-- The values of a call that has ended without a piece; to be called in tail position, as `piece`.
local function ended(code, value)
    if code == DONE then
        return value
    elseif code == FOREIGN then
        error("bad request", 2)
    end
    local text = reason()
    return nil, text
end

-- The values of a call that reads.
local function piece(handle, code)
    if code == DONE then
        local text = str(bridge.text, bridge.text_len)
        return text
    elseif code == FOREIGN then
        error("bad request", 2)
    end
    local text = reason()
    if code == FAILED then
        return nil, text
    end
    C.piece(bridge, handle)
    local partial = str(bridge.text, bridge.text_len)
    return nil, text, partial
end

local methods = {}
local metatable = { __index = methods }

local function tcp(...)
    local n = select("#", ...)
    if n ~= 0 then
        error("expecting zero arguments, but got " .. n, 2)
    end
    check(TCP)
    local handle = C.tcp(bridge)
    if handle == nil then
        error("no request found", 2)
    end
    return setmetatable({ tcp_t(handle) }, metatable)
end

-- A number, or text that looks like one.
local function is_number(value)
    return type(value) == "number" or type(value) == "string" and tonumber(value) ~= nil
end

-- Reads the options of connect: pool, pool_size, backlog.
local function read_options(options, at)
    local size, backlog, pool = options.pool_size, options.backlog, options.pool
    at = at - 1
    if is_number(size) then
        size = tonumber(size)
        if size < 1 then
            argument_error(at, 'bad "pool_size" option value: ' .. floor(size), 1)
        end
    elseif size ~= nil then
        argument_error(at, 'bad "pool_size" option type: ' .. type(size), 1)
    end
    if is_number(backlog) then
        backlog = tonumber(backlog)
        if backlog < 0 then
            argument_error(at, 'bad "backlog" option value: ' .. floor(backlog), 1)
        end
    else
        backlog = nil
    end
    if type(pool) == "number" then
        pool = tostring(pool)
    elseif pool ~= nil and type(pool) ~= "string" then
        argument_error(at, 'bad "pool" option type: ' .. type(pool), 1)
    end
    return size or 0, backlog or -1, pool
end

function methods.connect(...)
    local n = select("#", ...)
    if n ~= 2 and n ~= 3 and n ~= 4 then
        number_of_arguments("ngx.socket connect: expecting 2, 3, or 4 arguments (including the object), but seen ", n)
    end
    check(TCP)
    local self, host, port, options = ...
    local handle = handle_of(self)
    host = text_argument(host, 1)
    if n == 3 and type(port) == "table" then
        port, options = nil, port
    end
    local size, backlog, pool = 0, -1, nil
    if type(options) == "table" then
        size, backlog, pool = read_options(options, n)
    end
    if is_number(port) then
        local number = tonumber(port)
        number = number < 0 and -floor(-number) or floor(number)
        if number < 0 or number > 65535 then
            return nil, "bad port number: " .. number
        end
        pool = pool or host .. ":" .. port
        port = number
    elseif lower(sub(host, 1, 5)) == "unix:" then
        port = 0
    else
        return nil, "missing the port number"
    end
    pool = pool or host
    call.host, call.host_len, call.key, call.key_len = host, #host, pool, #pool
    call.port, call.pool_size, call.backlog = port, size, backlog
    local code = c_connect(bridge, handle, call)
    if code == WAIT then
        wait()
        code = c_connected(bridge, handle)
    end
    return ended(code, 1)
end

-- Adds the text of a list, also of lists in it. `depth` counts the frames from the method to the caller of this.
local function add(list, out, depth)
    local last, count = 0, 0
    for key in pairs(list) do
        if type(key) ~= "number" or key < 1 or floor(key) ~= key then
            argument_error(1, "non-array table found", depth + 1)
        end
        last, count = key > last and key or last, count + 1
    end
    if count < last then
        argument_error(1, "bad data type nil found", depth + 1)
    end
    for at = 1, last do
        local value = list[at]
        local kind = type(value)
        if kind == "string" or kind == "number" then
            out[#out + 1] = value
        elseif kind == "table" then
            add(value, out, depth + 1)
        else
            argument_error(1, "bad data type " .. kind .. " found", depth + 1)
        end
    end
end

-- The text of what is to be sent; to be called by the method itself.
local function flat(data)
    local kind = type(data)
    if kind == "string" then
        return data
    elseif kind == "table" then
        local out = {}
        add(data, out, 1)
        return concat(out)
    elseif kind == "number" or kind == "boolean" or kind == "nil" then
        return tostring(data)
    end
    argument_error(1, "string, number, boolean, nil, or array table expected, got " .. kind, 1)
end

function methods.send(...)
    local n = select("#", ...)
    if n ~= 2 then
        number_of_arguments("expecting 2 arguments (including the object), but got ", n)
    end
    local self, data = ...
    local handle = handle_of(self)
    data = flat(data)
    local code = c_send(bridge, handle, data, #data)
    if code == WAIT then
        wait()
        code = c_sent(bridge, handle)
    end
    return ended(code, #data)
end

function methods.receive(...)
    local n = select("#", ...)
    if n ~= 1 and n ~= 2 then
        number_of_arguments("expecting 1 or 2 arguments (including the object), but got ", n)
    end
    local self, what = ...
    local handle, how, count = handle_of(self), LINE, 0
    if n == 2 then
        if is_number(what) then
            how, count = BYTES, tonumber(what)
            if count < 0 then
                argument_error(1, "bad pattern argument")
            end
            count = floor(count)
        elseif type(what) ~= "string" then
            argument_error(1, "bad pattern argument")
        elseif what == "*a" then
            how = ALL
        elseif what ~= "*l" then
            if #what == 2 and sub(what, 1, 1) == "*" then
                argument_error(1, "bad pattern argument")
            end
            argument_error(1, "bad pattern argument: " .. what)
        end
    end
    local code = c_receive(bridge, handle, how, count)
    if code == WAIT then
        wait()
        code = c_received(bridge, handle, nil)
    end
    return piece(handle, code)
end

function methods.receiveany(...)
    local n = select("#", ...)
    if n ~= 2 then
        number_of_arguments("expecting 2 arguments (including the object), but got ", n)
    end
    local self, most = ...
    local handle = handle_of(self)
    most = is_number(most) and floor(tonumber(most)) or 0
    if most <= 0 then
        argument_error(1, "bad max argument")
    end
    local code = c_receive(bridge, handle, ANY, most)
    if code == WAIT then
        wait()
        code = c_received(bridge, handle, nil)
    end
    return piece(handle, code)
end

function methods.receiveuntil(...)
    local n = select("#", ...)
    if n ~= 2 and n ~= 3 then
        number_of_arguments("expecting 2 or 3 arguments (including the object), but got ", n)
    end
    local self, pattern, options = ...
    local inclusive = false
    if n == 3 then
        if type(options) ~= "table" then
            argument_error(2, "table expected, got " .. (options == nil and "nil" or type(options)))
        end
        inclusive = options.inclusive
        if inclusive ~= nil and type(inclusive) ~= "boolean" then
            error('bad "inclusive" option value type: ' .. type(inclusive), 2)
        end
    end
    local handle = handle_of(self)
    pattern = text_argument(pattern, 1)
    if pattern == "" then
        return nil, "pattern is empty"
    end
    local state = until_t()
    state.inclusive = inclusive and 1 or 0
    return function(...)
        local given = select("#", ...)
        if given > 1 then
            error("expecting 0 or 1 arguments, but seen " .. given, 2)
        end
        local size = 0
        if given == 1 then
            size = tonumber((...))
            if not size then
                support.argument_error(1, "number expected, got " .. ((...) == nil and "nil" or type((...))))
            end
            size = size > 0 and floor(size) or 0
        end
        -- The socket is in an upvalue, so that it lives as long as this.
        handle = self[1].handle
        if state.matched == -1 then
            state.matched = 0
            return nil, nil, nil
        end
        state.pattern, state.pattern_len, state.limit = pattern, #pattern, size
        local code = c_receive_until(bridge, handle, state)
        if code == WAIT then
            wait()
            code = c_received(bridge, handle, state)
        end
        return piece(handle, code)
    end
end

function methods.close(...)
    local n = select("#", ...)
    if n ~= 1 then
        error("expecting 1 argument (including the object) but seen " .. n, 2)
    end
    return ended(C.close(bridge, handle_of((...))), 1)
end

local function milliseconds(value)
    local ms = is_number(value) and floor(tonumber(value)) or 0
    if ms < 0 or ms >= 2147483648 then
        error("bad timeout value", 3)
    end
    return ms
end

function methods.settimeout(...)
    local n = select("#", ...)
    if n ~= 2 then
        error("ngx.socket settimeout: expecting 2 arguments (including the object) but seen " .. n, 2)
    end
    local self, ms = ...
    ms = milliseconds(ms)
    C.set_times(bridge, handle_of(self), ms, ms, ms)
end

function methods.settimeouts(...)
    local n = select("#", ...)
    if n ~= 4 then
        error("ngx.socket settimeout: expecting 4 arguments (including the object) but seen " .. n, 2)
    end
    local self, connect, send, read = ...
    connect, send, read = milliseconds(connect), milliseconds(send), milliseconds(read)
    C.set_times(bridge, handle_of(self), connect, send, read)
end

function methods.bind(...)
    local n = select("#", ...)
    if n ~= 2 then
        error("expecting 2 arguments, but got " .. n, 2)
    end
    check(TCP)
    local self, ip = ...
    local handle = handle_of(self)
    ip = text_argument(ip, 1)
    return ended(C.bind(bridge, handle, ip, #ip), true)
end

function methods.getreusedtimes(...)
    local n = select("#", ...)
    if n ~= 1 then
        number_of_arguments("expecting 1 argument (including the object), but got ", n)
    end
    local code = C.reused(bridge, handle_of((...)))
    return ended(code, tonumber(bridge.number))
end

function methods.setkeepalive(...)
    local n = select("#", ...)
    if n < 1 or n > 3 then
        number_of_arguments("expecting 1 to 3 arguments (including the object), but got ", n)
    end
    local self, timeout, size = ...
    local handle = handle_of(self)
    if timeout ~= nil then
        timeout = tonumber(timeout) or argument_error(1, "number expected, got " .. type(timeout))
        timeout = timeout > 0 and floor(timeout) or 0
    end
    if size ~= nil then
        size = tonumber(size) or argument_error(2, "number expected, got " .. type(size))
        if size < 1 then
            argument_error(n - 1, 'bad "pool_size" option value: ' .. floor(size))
        end
    end
    return ended(C.keep(bridge, handle, timeout or -1, size or -1), 1)
end

function methods.sslhandshake(...)
    local n = select("#", ...)
    if n < 1 or n > 5 then
        error("ngx.socket sslhandshake: expecting 1 ~ 5 arguments (including the object), but seen " .. n, 2)
    end
    local self, session, name, verify, status = ...
    local handle = handle_of(self)
    if status then
        return nil, "no OCSP support"
    end
    local wanted = handshake_t()
    name = name and tostring(name) or ""
    wanted.name, wanted.name_len, wanted.verifies = name, #name, verify and 1 or 0
    if session ~= false then
        if not ffi.istype(session_t, session) then
            session = session_t(C.session(bridge))
        end
        wanted.session = session.session
    end
    local certificate = self.certificate
    if certificate then
        wanted.certificate = certificate.session
    end
    local code = C.shake_hands(bridge, handle, wanted)
    if code == WAIT then
        wait()
        code = C.shaken(bridge, handle)
    end
    return ended(code, session or true)
end

-- What ngx.ssl makes of texts in PEM; the texts are kept beside.
local pem_t, pems = ffi.typeof "struct { int kind; }", setmetatable({}, { __mode = "k" })

function support.keep_pem(text)
    local kept = pem_t()
    pems[kept] = text
    return kept
end

function methods.setclientcert(self, chain, key)
    if not chain and not key then
        self.certificate = nil
        return true
    elseif not chain or not key then
        return nil, "client certificate must be supplied with corresponding private key"
    elseif type(chain) ~= "cdata" then
        return nil, "bad cert arg: cdata expected, got " .. type(chain)
    elseif type(key) ~= "cdata" then
        return nil, "bad pkey arg: cdata expected, got " .. type(key)
    end
    local chain_text, key_text = pems[chain] or "", pems[key] or ""
    local made = C.certificate(bridge, chain_text, #chain_text, key_text, #key_text)
    if made == nil then
        local text = reason()
        return nil, text
    end
    self.certificate = session_t(made)
    return true
end

local OPTIONS = { keepalive = 0, reuseaddr = 1, ["tcp-nodelay"] = 2, sndbuf = 3, rcvbuf = 4 }

function methods.getoption(self, name)
    local handle = handle_of(self)
    if name == nil then
        return nil, 'missing the "option" argument'
    end
    local number = OPTIONS[name]
    if not number then
        return nil, "unsupported option " .. tostring(name)
    end
    local code = C.option(bridge, handle, number, 0, 0)
    return ended(code, tonumber(bridge.number))
end

function methods.setoption(self, name, value)
    local handle = handle_of(self)
    if name == nil then
        return nil, 'missing the "option" argument'
    elseif value == nil then
        return nil, 'missing the "value" argument'
    end
    local number = OPTIONS[name]
    if not number then
        return nil, "unsupported option " .. tostring(name)
    end
    if type(value) == "boolean" then
        value = value and 1 or 0
    end
    return ended(C.option(bridge, handle, number, 1, tonumber(value) or 0), true)
end

local function connect(...)
    local socket = tcp()
    local ok, err = methods.connect(socket, ...)
    if not ok then
        return nil, err
    end
    return socket
end

-- The body of the request, as it comes, or the connection of the client.
local body_methods = {}
local body_metatable = { __index = body_methods }
for _, name in pairs { "receive", "receiveany", "receiveuntil", "settimeout", "settimeouts" } do
    body_methods[name] = methods[name]
end
local raw_methods = { send = methods.send }
for name, method in pairs(body_methods) do
    raw_methods[name] = method
end
local raw_metatable = { __index = raw_methods }
local BODY = support.allowed "ngx.req.socket"
local RAISED = {
    ["attempt to read the request body in a subrequest"] = true, ["http v2 not supported yet"] = true,
    ["no request found"] = true,
}

function ngx.req.socket(...)
    local n = select("#", ...)
    if n > 1 then
        error("expecting zero arguments, but got " .. n, 2)
    end
    check(BODY)
    local is_raw = n == 1 and (...)
    local handle = C.request_socket(bridge, is_raw and 1 or 0)
    if handle == nil then
        local text = reason()
        if RAISED[text] then
            error(text, 2)
        end
        return nil, text
    end
    return setmetatable({ tcp_t(handle) }, is_raw and raw_metatable or body_metatable)
end

ngx.socket = { tcp = tcp, stream = tcp, connect = connect }
support.sockets = {
    handle_of = handle_of, ended = ended, flat = flat, milliseconds = milliseconds, argument_error = argument_error,
    text_argument = text_argument,
}
