-- The modules ngx.ssl and ngx.ssl.clienthello.
local support, address = ...
local ffi = require "ffi"
local bit = require "bit"
local bridge, str = support.bridge, ffi.string
local error, type, tonumber, tostring, setmetatable, ipairs = error, type, tonumber, tostring, setmetatable, ipairs
local byte, sub, concat = string.byte, string.sub, table.concat
local INIT, CLIENT_HELLO, HANDSHAKE = 0x10000, 0x4000, 0x4400
local DISABLED = "API disabled in the current context"

ffi.cdef [[
typedef struct {
    int (*server_name)(pm_bridge *);
    int (*address)(pm_bridge *, int);
    int (*version)(pm_bridge *);
    int (*random)(pm_bridge *);
    void (*clear)(pm_bridge *);
    int (*set)(pm_bridge *, const char *, size_t, int);
    int (*to_der)(pm_bridge *, const char *, size_t, int, const char *, size_t);
    int (*verify)(pm_bridge *, const char *, size_t, double);
    int (*extension)(pm_bridge *, uint32_t);
    int (*extension_at)(pm_bridge *, uint32_t);
    void (*set_protocols)(pm_bridge *, int);
} pm_ssl;
]]
local C = ffi.cast("const pm_ssl *", address)

local function text()
    local value = str(bridge.text, bridge.text_len)
    return value
end

-- `level` as for error().
local function check_request(level)
    if bridge.phase == INIT then
        error("no request found", level + 1)
    end
end

local function in_handshake()
    return bit.band(bridge.phase, HANDSHAKE) ~= 0
end

-- Chains and keys that were parsed: the DER is kept outside of them, where nothing prints it; setclientcert has the PEM.
local ders, kinds = setmetatable({}, { __mode = "k" }), setmetatable({}, { __mode = "k" })
local CHAIN, KEY = 1, 2

local function parsed(kind, der, pem)
    local object = support.keep_pem(pem)
    ders[object], kinds[object] = der, kind
    return object
end

-- The kind of what was parsed; nil of anything else.
local function kind_of(value)
    return value ~= nil and kinds[value] or nil
end

-- Functions that there are not raise an error when they are called.
local function complete(module, name)
    return setmetatable(module, {
        __index = function(_, key)
            return function()
                error(name .. "." .. tostring(key) .. " is not supported by pointsman", 2)
            end
        end,
    })
end

local function is_string(value, number, name, level)
    if type(value) ~= "string" then
        error("bad argument #" .. number .. " to '" .. name .. "' (string expected, got "
            .. (value == nil and "nil" or type(value)) .. ")", level + 1)
    end
end

local function cert_to_der(pem)
    if C.to_der(bridge, pem, #pem, 0, "", 0) == 1 then
        return text()
    end
    return nil, "PEM_read_bio_X509_AUX() failed"
end

local function key_to_der(pem, password)
    password = password or ""
    if C.to_der(bridge, pem, #pem, 1, password, #password) == 1 then
        return text()
    end
    return nil, "PEM_read_bio_PrivateKey() failed"
end

-- A chain in PEM again, as authorities are given to the other side.
local encode = ngx.encode_base64
local function certificates_as_pem(der)
    local out, at = {}, 1
    while at < #der do
        local first = byte(der, at + 1) or 0
        local header, length = 2, first
        if first >= 0x80 then
            local count = first - 0x80
            length = 0
            for digit = 1, count do
                length = length * 256 + (byte(der, at + 1 + digit) or 0)
            end
            header = 2 + count
        end
        local last = at + header + length - 1
        out[#out + 1] = "-----BEGIN CERTIFICATE-----\n" .. encode(sub(der, at, last)) .. "\n-----END CERTIFICATE-----\n"
        at = last + 1
    end
    return concat(out)
end

local function set(der, is_key, failed)
    if not in_handshake() then
        return nil, DISABLED
    end
    if C.set(bridge, der, #der, is_key) == 1 then
        return true
    end
    return nil, failed
end

local function raw_address(is_client)
    local kind = C.address(bridge, is_client)
    if kind == 0 then
        return text(), "unix"
    elseif kind == 1 then
        return text(), "inet"
    elseif kind == 2 then
        return text(), "inet6"
    end
    return nil, nil, "bad request"
end

package.preload["ngx.ssl"] = function()
    local ssl = {
        version = "0.1.25",
        SSL3_VERSION = 0x0300,
        TLS1_VERSION = 0x0301,
        TLS1_1_VERSION = 0x0302,
        TLS1_2_VERSION = 0x0303,
        TLS1_3_VERSION = 0x0304,
    }

    function ssl.clear_certs()
        check_request(2)
        if not in_handshake() then
            return nil, DISABLED
        end
        C.clear(bridge)
        return true
    end

    function ssl.set_der_cert(der)
        is_string(der, 1, "set_der_cert", 2)
        check_request(2)
        return set(der, 0, "d2i_X509_bio() failed")
    end

    function ssl.set_der_priv_key(der)
        is_string(der, 1, "set_der_priv_key", 2)
        check_request(2)
        return set(der, 1, "d2i_PrivateKey_bio() failed")
    end

    function ssl.set_cert(chain)
        check_request(2)
        if kind_of(chain) ~= CHAIN then
            return nil, "invalid certificate chain"
        end
        return set(ders[chain], 0, "invalid certificate chain")
    end

    function ssl.set_priv_key(key)
        check_request(2)
        if kind_of(key) ~= KEY then
            return nil, "invalid private key"
        end
        return set(ders[key], 1, "invalid private key")
    end

    function ssl.cert_pem_to_der(pem)
        is_string(pem, 1, "cert_pem_to_der", 2)
        return cert_to_der(pem)
    end

    function ssl.priv_key_pem_to_der(pem, password)
        is_string(pem, 1, "priv_key_pem_to_der", 2)
        return key_to_der(pem, password)
    end

    function ssl.parse_pem_cert(pem)
        is_string(pem, 1, "parse_pem_cert", 2)
        local der, err = cert_to_der(pem)
        if not der then
            return nil, err
        end
        return parsed(CHAIN, der, pem)
    end

    function ssl.parse_pem_priv_key(pem, password)
        is_string(pem, 1, "parse_pem_priv_key", 2)
        local der, err = key_to_der(pem, password)
        if not der then
            return nil, err
        end
        return parsed(KEY, der, pem)
    end

    function ssl.server_name()
        check_request(2)
        local found = C.server_name(bridge)
        if found == 1 then
            return text()
        elseif found == 0 then
            return nil
        end
        return nil, "bad request"
    end

    function ssl.server_port()
        check_request(2)
        local kind = C.address(bridge, 0)
        if kind < 0 then
            return nil, "bad request"
        elseif kind == 0 then
            return nil, "unix domain has no port"
        end
        return bridge.number
    end

    function ssl.raw_server_addr()
        check_request(2)
        return raw_address(0)
    end

    function ssl.raw_client_addr()
        check_request(2)
        return raw_address(1)
    end

    function ssl.get_tls1_version()
        check_request(2)
        local version = C.version(bridge)
        if version < 0 then
            return nil, "bad request"
        end
        return version
    end

    local names = { [0x0303] = "TLSv1.2", [0x0304] = "TLSv1.3" }

    function ssl.get_tls1_version_str()
        check_request(2)
        local version = C.version(bridge)
        if version < 0 then
            return nil, "bad request"
        end
        return names[version]
    end

    function ssl.get_client_random(length)
        check_request(2)
        if C.random(bridge) == 0 then
            return nil, DISABLED
        end
        local random = text()
        if length == 0 then
            return #random
        end
        return sub(random, 1, length or #random)
    end

    function ssl.verify_client(authorities, depth)
        check_request(2)
        local pem = ""
        if authorities ~= nil then
            if kind_of(authorities) ~= CHAIN then
                return nil, "invalid certificate chain"
            end
            pem = certificates_as_pem(ders[authorities])
        end
        if C.verify(bridge, pem, #pem, tonumber(depth) or -1) == 1 then
            return true
        end
        return nil, DISABLED
    end

    return complete(ssl, "ngx.ssl")
end

-- Raises the error of functions that are for ssl_client_hello_by_lua* alone.
local function check_hello(level)
    check_request(level + 1)
    if bridge.phase ~= CLIENT_HELLO then
        error(DISABLED, level + 1)
    end
end

local SUPPORTED_VERSIONS = 43
local VERSIONS = {
    [0x002] = "SSLv2", [0x300] = "SSLv3", [0x301] = "TLSv1", [0x302] = "TLSv1.1", [0x303] = "TLSv1.2", [0x304] = "TLSv1.3",
}
local PROTOCOLS = { ["SSLv2"] = 0, ["SSLv3"] = 0, ["TLSv1"] = 0, ["TLSv1.1"] = 0, ["TLSv1.2"] = 1, ["TLSv1.3"] = 2 }

package.preload["ngx.ssl.clienthello"] = function()
    local hello = { version = "0.1.25" }

    function hello.get_client_hello_server_name()
        check_hello(2)
        local found = C.server_name(bridge)
        if found == 1 then
            return text()
        end
        return nil
    end

    function hello.get_client_hello_ext(kind)
        check_hello(2)
        if C.extension(bridge, kind) == 1 then
            return text()
        end
        return nil
    end

    function hello.get_client_hello_ext_present()
        check_hello(2)
        local kinds, at = {}, 0
        while true do
            local kind = C.extension_at(bridge, at)
            if kind < 0 then
                return kinds
            end
            at = at + 1
            kinds[at] = kind
        end
    end

    function hello.get_supported_versions()
        check_hello(2)
        if C.extension(bridge, SUPPORTED_VERSIONS) == 0 then
            return nil
        end
        local list = text()
        local rest = #list - 1
        if rest < 0 or rest ~= byte(list, 1) then
            return nil
        end
        local names = {}
        while rest >= 2 do
            local name = VERSIONS[byte(list, rest) * 256 + byte(list, rest + 1)]
            if name then
                names[#names + 1] = name
            end
            rest = rest - 2
        end
        return names
    end

    function hello.set_protocols(protocols)
        check_hello(2)
        local bits = 0
        for _, name in ipairs(protocols) do
            local protocol = PROTOCOLS[name]
            if not protocol then
                return nil, "invalid protocols failed"
            end
            bits = bit.bor(bits, protocol)
        end
        if bits == 0 then
            return nil, "TLS 1.2 and 1.3 are the only protocols that pointsman speaks"
        end
        C.set_protocols(bridge, bits)
        return true
    end

    return complete(hello, "ngx.ssl.clienthello")
end
