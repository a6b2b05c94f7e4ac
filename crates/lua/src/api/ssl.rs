//! `ngx.ssl` and `ngx.ssl.clienthello`: the connection's TLS, and in the scripts of a handshake what it is to use.
//!
//! Everything that is said goes into the exchange's [`HandshakeScript`]; the server carries it out once the script has ended.

use std::ffi::c_int;
use std::net::{IpAddr, SocketAddr};

use engine::host::TlsPart;
use engine::modules::lua::handshake::{HandshakeScript, ScriptVerification};
use engine::ssl_file::SslFile;

use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, Function, FunctionTable, field};
use crate::phase::{Phase, Phases};
use crate::vm::frame::{self, CurrentRequest};

const fn anywhere(name: &'static str, doc: &'static str) -> Function {
    field(name, Phases::ALL.without(Phase::Init), doc)
}

const fn in_handshakes(name: &'static str, doc: &'static str) -> Function {
    field(name, Phases::HANDSHAKE, doc)
}

const fn in_hello(name: &'static str, doc: &'static str) -> Function {
    field(name, Phases::of(&[Phase::SslClientHello]), doc)
}

pub(super) static AREA: Area = Area {
    name: "ssl",
    functions: &[],
    // They are in modules: `require "ngx.ssl"`.
    fields: &[
        in_handshakes("ngx.ssl.clear_certs", "Removes the server's own certificates from the handshake."),
        in_handshakes("ngx.ssl.set_cert", "Sets a certificate chain from `parse_pem_cert`."),
        in_handshakes("ngx.ssl.set_priv_key", "Sets a private key from `parse_pem_priv_key`."),
        in_handshakes(
            "ngx.ssl.set_der_cert",
            "Sets a certificate chain in DER, one certificate after another.",
        ),
        in_handshakes("ngx.ssl.set_der_priv_key", "Sets a private key in DER."),
        in_handshakes(
            "ngx.ssl.verify_client",
            "Asks the client for a certificate; `$ssl_client_verify` has the result. The arguments are the \
             authorities, from `parse_pem_cert`, and the maximum number of intermediate certificates; nil takes the \
             server's.",
        ),
        in_handshakes(
            "ngx.ssl.get_client_random",
            "Returns the random bytes of the ClientHello, or the given number of them.",
        ),
        field("ngx.ssl.cert_pem_to_der", Phases::ALL, "Returns a certificate chain in DER."),
        field(
            "ngx.ssl.priv_key_pem_to_der",
            Phases::ALL,
            "Returns a private key in DER; the second argument is the password of an encrypted one.",
        ),
        field("ngx.ssl.parse_pem_cert", Phases::ALL, "Parses a certificate chain in PEM, for `set_cert`."),
        field(
            "ngx.ssl.parse_pem_priv_key",
            Phases::ALL,
            "Parses a private key in PEM, for `set_priv_key`; the second argument is the password of an encrypted \
             one.",
        ),
        anywhere(
            "ngx.ssl.server_name",
            "Returns the server name that the client requests (SNI), in lower case.",
        ),
        anywhere("ngx.ssl.server_port", "Returns the port that the client connected to."),
        anywhere(
            "ngx.ssl.raw_server_addr",
            "Returns the bytes of the address that the client connected to, and `inet`, `inet6` or `unix`.",
        ),
        anywhere(
            "ngx.ssl.raw_client_addr",
            "Returns the bytes of the client's address, and `inet`, `inet6` or `unix`.",
        ),
        anywhere("ngx.ssl.get_tls1_version", "Returns the number of the negotiated TLS version."),
        anywhere(
            "ngx.ssl.get_tls1_version_str",
            "Returns the negotiated TLS version: `TLSv1.2` or `TLSv1.3`.",
        ),
        in_hello(
            "ngx.ssl.clienthello.get_client_hello_server_name",
            "Returns the server name that the client requests (SNI), in lower case.",
        ),
        in_hello(
            "ngx.ssl.clienthello.get_supported_versions",
            "Returns the TLS versions that the client offers in supported_versions, the last one first.",
        ),
        in_hello(
            "ngx.ssl.clienthello.get_client_hello_ext",
            "Returns the bytes of a ClientHello extension, by its type.",
        ),
        in_hello(
            "ngx.ssl.clienthello.get_client_hello_ext_present",
            "Returns the types of the ClientHello extensions, in their order.",
        ),
        in_hello(
            "ngx.ssl.clienthello.set_protocols",
            "Restricts the TLS versions to a list of `TLSv1.2` and `TLSv1.3`, within those that `ssl_protocols` \
             allows.",
        ),
    ],
    source: include_str!("../lua/ssl.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[],
};

#[repr(C)]
struct Functions {
    server_name: unsafe extern "C" fn(*mut Bridge) -> c_int,
    address: unsafe extern "C" fn(*mut Bridge, c_int) -> c_int,
    version: unsafe extern "C" fn(*mut Bridge) -> c_int,
    random: unsafe extern "C" fn(*mut Bridge) -> c_int,
    clear: unsafe extern "C" fn(*mut Bridge),
    set: unsafe extern "C" fn(*mut Bridge, *const u8, usize, c_int) -> c_int,
    to_der: unsafe extern "C" fn(*mut Bridge, *const u8, usize, c_int, *const u8, usize) -> c_int,
    verify: unsafe extern "C" fn(*mut Bridge, *const u8, usize, f64) -> c_int,
    extension: unsafe extern "C" fn(*mut Bridge, u32) -> c_int,
    extension_at: unsafe extern "C" fn(*mut Bridge, u32) -> c_int,
    set_protocols: unsafe extern "C" fn(*mut Bridge, c_int),
}

static FUNCTIONS: Functions = Functions {
    server_name,
    address,
    version,
    random,
    clear,
    set,
    to_der,
    verify,
    extension,
    extension_at,
    set_protocols,
};

/// Returns the request that runs, if its client speaks TLS; that of a handshake does.
///
/// # Safety
/// As for [`frame::request`].
unsafe fn over_tls<'a>(bridge: *mut Bridge) -> Option<CurrentRequest<'a>> {
    // SAFETY: the caller vouches for it.
    unsafe { frame::request(bridge) }.filter(|request| request.exchange.connection.tls.is_some())
}

/// Returns what the scripts of the handshake that runs say.
///
/// # Safety
/// As for [`frame::request`].
unsafe fn handshake<'a>(bridge: *mut Bridge) -> Option<&'a mut HandshakeScript> {
    // SAFETY: the caller vouches for it.
    unsafe { frame::request(bridge)?.exchange.script.handshake.as_deref_mut() }
}

/// Puts bytes into the bridge.
///
/// # Safety
/// `bridge` must be a machine's.
unsafe fn answer(bridge: *mut Bridge, bytes: &[u8]) {
    // SAFETY: the caller vouches for it; the bytes are the exchange's, not the bridge's.
    unsafe {
        (*bridge).buffer.clear();
        (*bridge).buffer.extend_from_slice(bytes);
        (*bridge).answer_buffer();
    }
}

/// Returns 1 with the name in the bridge, 0 if the client names none, -1 without TLS.
unsafe extern "C" fn server_name(bridge: *mut Bridge) -> c_int {
    // SAFETY: the machine's bridge, during a call from its Lua that runs no other Lua; so for all functions here.
    unsafe {
        let Some(request) = over_tls(bridge) else { return -1 };
        let name = request.exchange.connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        name.map_or(0, |name| {
            answer(bridge, name);
            1
        })
    }
}

const UNIX: c_int = 0;
const INET: c_int = 1;
const INET6: c_int = 2;

/// Returns the kind of the server's or the client's address with its bytes in the bridge, and its port; -1 without TLS.
unsafe extern "C" fn address(bridge: *mut Bridge, is_client: c_int) -> c_int {
    // SAFETY: see `server_name`.
    unsafe {
        let Some(request) = over_tls(bridge) else { return -1 };
        let connection = &request.exchange.connection;
        let address = if is_client != 0 { connection.remote } else { connection.local };
        (*bridge).number = f64::from(address.map_or(0, |address: SocketAddr| address.port()));
        match address.map(|address| address.ip()) {
            Some(IpAddr::V4(ip)) => {
                answer(bridge, &ip.octets());
                INET
            }
            Some(IpAddr::V6(ip)) => {
                answer(bridge, &ip.octets());
                INET6
            }
            None => {
                let path = connection.local_path.as_ref().filter(|_| is_client == 0);
                answer(bridge, path.map_or(&[][..], |path| path));
                UNIX
            }
        }
    }
}

/// Returns the number of the protocol; -1 without TLS.
unsafe extern "C" fn version(bridge: *mut Bridge) -> c_int {
    const TLS12: c_int = 0x303;
    const TLS13: c_int = 0x304;
    // SAFETY: see `server_name`.
    let Some(request) = (unsafe { over_tls(bridge) }) else { return -1 };
    if let Some(handshake) = &request.exchange.script.handshake
        && handshake.version != 0
    {
        return c_int::from(handshake.version);
    }
    match request.exchange.connection.tls.as_ref().map(|tls| tls.protocol) {
        Some("TLSv1.3") => TLS13,
        _ => TLS12,
    }
}

/// Returns 1 with the bytes in the bridge, 0 outside of handshakes.
unsafe extern "C" fn random(bridge: *mut Bridge) -> c_int {
    // SAFETY: see `server_name`.
    unsafe {
        let Some(handshake) = handshake(bridge) else { return 0 };
        answer(bridge, &handshake.hello.random);
    }
    1
}

unsafe extern "C" fn clear(bridge: *mut Bridge) {
    // SAFETY: see `server_name`.
    if let Some(handshake) = unsafe { handshake(bridge) } {
        handshake.clears = true;
        handshake.chains.clear();
        handshake.keys.clear();
    }
}

fn part_of(is_key: c_int) -> TlsPart {
    if is_key != 0 { TlsPart::Key } else { TlsPart::Chain }
}

/// Sets a chain, or a key. Returns 0 if it is none.
unsafe extern "C" fn set(bridge: *mut Bridge, der: *const u8, len: usize, is_key: c_int) -> c_int {
    // SAFETY: see `server_name`; the string lives during the call.
    let (Some(request), der) = (unsafe { (frame::request(bridge), arg(der, len)) }) else { return 0 };
    let Some(made) = request.env.host.tls_part(part_of(is_key), der) else { return 0 };
    let Some(handshake) = request.exchange.script.handshake.as_deref_mut() else { return 0 };
    let list = if is_key != 0 { &mut handshake.keys } else { &mut handshake.chains };
    /// A script may set one for each kind of key, and replace it.
    const MOST: usize = 16;
    if list.len() >= MOST {
        list.remove(0);
    }
    list.push(made);
    1
}

/// Returns 1 with the DER of a chain or a key in the bridge, 0 if the PEM has none.
unsafe extern "C" fn to_der(
    bridge: *mut Bridge,
    pem: *const u8,
    len: usize,
    is_key: c_int,
    password: *const u8,
    password_len: usize,
) -> c_int {
    // SAFETY: see `server_name`; the strings live during the call. Without a request there is a host all the same.
    unsafe {
        let (pem, password) = (arg(pem, len), arg(password, password_len));
        let frame = frame::innermost(bridge);
        if frame.is_null() {
            return 0;
        }
        let (_, env) = frame::world(frame);
        let Some(der) = env.host.pem_to_der(part_of(is_key), pem, password) else { return 0 };
        answer(bridge, &der);
    }
    1
}

/// Returns 0 outside of handshakes. The authorities are in PEM; none are the server's, and so is a negative depth.
unsafe extern "C" fn verify(bridge: *mut Bridge, pem: *const u8, len: usize, depth: f64) -> c_int {
    // SAFETY: see `server_name`; the string lives during the call.
    let (Some(handshake), pem) = (unsafe { (handshake(bridge), arg(pem, len)) }) else { return 0 };
    let authorities = (!pem.is_empty()).then(|| SslFile::of_handshake("ngx.ssl.verify_client", pem.to_vec()));
    let depth = (depth >= 0.0).then_some(depth as u64);
    handshake.verification = Some(ScriptVerification { authorities, depth });
    1
}

/// Returns 1 with the extension in the bridge, 0 if there is none.
unsafe extern "C" fn extension(bridge: *mut Bridge, kind: u32) -> c_int {
    // SAFETY: see `server_name`.
    unsafe {
        let Some(handshake) = handshake(bridge) else { return 0 };
        let found = u16::try_from(kind).ok().and_then(|kind| handshake.hello.extension(kind));
        found.map_or(0, |bytes| {
            answer(bridge, bytes);
            1
        })
    }
}

/// Returns the type of the extension at a place, from 0; -1 behind the last one.
unsafe extern "C" fn extension_at(bridge: *mut Bridge, at: u32) -> c_int {
    // SAFETY: see `server_name`.
    let Some(handshake) = (unsafe { handshake(bridge) }) else { return -1 };
    handshake.hello.extensions.get(at as usize).map_or(-1, |(kind, _)| c_int::from(*kind))
}

/// 1 is TLS 1.2, 2 is TLS 1.3.
unsafe extern "C" fn set_protocols(bridge: *mut Bridge, bits: c_int) {
    // SAFETY: see `server_name`.
    if let Some(handshake) = unsafe { handshake(bridge) } {
        handshake.protocols = Some((bits & 1 != 0, bits & 2 != 0));
    }
}
