//! Escaping, arguments, base64, quoting and digests.

use std::ffi::c_int;

use mlua_sys as ffi;
use mlua_sys::lua_State;

use super::multi_value::{log_args_limit, push_args};
use crate::codec::uri::{self, Escape};
use crate::codec::{base64, digest, sql};
use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, Function, FunctionTable, stack};
use crate::phase::Phases;

const fn everywhere(name: &'static str, doc: &'static str) -> Function {
    Function { name, phases: Phases::ALL, doc }
}

pub(super) static AREA: Area = Area {
    name: "codec",
    functions: &[
        everywhere(
            "ngx.escape_uri",
            "Escapes text for a URI; the second argument is nginx's kind, 0 to 6, by default 2 (a component).",
        ),
        everywhere("ngx.unescape_uri", "Decodes `%XX` and `+`."),
        everywhere(
            "ngx.encode_args",
            "Returns a table as a query string; a list repeats its key, `true` gives the bare key.",
        ),
        everywhere(
            "ngx.decode_args",
            "Returns a query string as a table of at most 100 arguments, or as many as the second argument says.",
        ),
        everywhere(
            "ngx.encode_base64",
            "Returns text in base64; without padding if the second argument is true.",
        ),
        everywhere("ngx.decode_base64", "Returns the bytes of base64 text; nil if it is not base64."),
        everywhere("ngx.quote_sql_str", "Returns text as a MySQL string literal."),
        everywhere("ngx.md5", "Returns the MD5 digest in hexadecimal."),
        everywhere("ngx.md5_bin", "Returns the MD5 digest in 16 bytes."),
        everywhere("ngx.sha1_bin", "Returns the SHA-1 digest in 20 bytes."),
        everywhere(
            "ngx.hmac_sha1",
            "Returns the HMAC-SHA-1 of the second argument, with the first as the key, in 20 bytes.",
        ),
        everywhere("ngx.crc32_short", "Returns the CRC-32 of text."),
        everywhere("ngx.crc32_long", "Returns the CRC-32 of text, as `ngx.crc32_short` does."),
    ],
    fields: &[],
    source: include_str!("../lua/codec.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[(c"decode_args", decode_args)],
};

/// Takes text, and leaves text in the bridge.
type Transform = unsafe extern "C" fn(*mut Bridge, *const u8, usize);

#[repr(C)]
struct Functions {
    escape_uri: unsafe extern "C" fn(*mut Bridge, *const u8, usize, u32) -> c_int,
    unescape_uri: Transform,
    encode_base64: unsafe extern "C" fn(*mut Bridge, *const u8, usize, c_int),
    decode_base64: unsafe extern "C" fn(*mut Bridge, *const u8, usize) -> c_int,
    quote_sql: Transform,
    md5: Transform,
    md5_bin: Transform,
    sha1_bin: Transform,
    hmac_sha1: unsafe extern "C" fn(*mut Bridge, *const u8, usize, *const u8, usize),
    crc32: unsafe extern "C" fn(*const u8, usize) -> u32,
}

static FUNCTIONS: Functions = Functions {
    escape_uri,
    unescape_uri,
    encode_base64,
    decode_base64,
    quote_sql,
    md5,
    md5_bin,
    sha1_bin,
    hmac_sha1,
    crc32,
};

/// Passes a Lua string and the bridge's buffer to `write`, and answers with the buffer.
///
/// # Safety
/// Holds for every function of this table: `bridge` is the machine's, and the string lives during the call.
unsafe fn transform<R>(
    bridge: *mut Bridge,
    source: *const u8,
    len: usize,
    write: impl FnOnce(&[u8], &mut Vec<u8>) -> R,
) -> R {
    // SAFETY: the bridge lives as long as the machine, and nothing else refers to it during a call from Lua.
    let (bridge, source) = unsafe { (&mut *bridge, arg(source, len)) };
    bridge.buffer.clear();
    let result = write(source, &mut bridge.buffer);
    bridge.answer_buffer();
    result
}

/// Returns 0 if nothing had to be escaped: the argument is the result.
unsafe extern "C" fn escape_uri(bridge: *mut Bridge, source: *const u8, len: usize, kind: u32) -> c_int {
    let kind = Escape::from_number(kind).unwrap_or(Escape::Component);
    // SAFETY: see `transform`.
    unsafe {
        transform(bridge, source, len, |source, out| c_int::from(uri::escape_if_needed(kind, source, out)))
    }
}

unsafe extern "C" fn unescape_uri(bridge: *mut Bridge, source: *const u8, len: usize) {
    // SAFETY: see `transform`.
    unsafe { transform(bridge, source, len, uri::unescape) }
}

unsafe extern "C" fn encode_base64(bridge: *mut Bridge, source: *const u8, len: usize, padded: c_int) {
    // SAFETY: see `transform`.
    unsafe { transform(bridge, source, len, |source, out| base64::encode(source, padded != 0, out)) }
}

unsafe extern "C" fn decode_base64(bridge: *mut Bridge, source: *const u8, len: usize) -> c_int {
    // SAFETY: see `transform`.
    unsafe { transform(bridge, source, len, |source, out| c_int::from(base64::decode(source, out))) }
}

unsafe extern "C" fn quote_sql(bridge: *mut Bridge, source: *const u8, len: usize) {
    // SAFETY: see `transform`.
    unsafe { transform(bridge, source, len, sql::quote) }
}

unsafe extern "C" fn md5(bridge: *mut Bridge, source: *const u8, len: usize) {
    // SAFETY: see `transform`.
    unsafe { transform(bridge, source, len, |source, out| digest::hex(&digest::md5(source), out)) }
}

unsafe extern "C" fn md5_bin(bridge: *mut Bridge, source: *const u8, len: usize) {
    // SAFETY: see `transform`.
    unsafe { transform(bridge, source, len, |source, out| out.extend_from_slice(&digest::md5(source))) }
}

unsafe extern "C" fn sha1_bin(bridge: *mut Bridge, source: *const u8, len: usize) {
    // SAFETY: see `transform`.
    unsafe { transform(bridge, source, len, |source, out| out.extend_from_slice(&digest::sha1(source))) }
}

unsafe extern "C" fn hmac_sha1(
    bridge: *mut Bridge,
    key: *const u8,
    key_len: usize,
    source: *const u8,
    len: usize,
) {
    // SAFETY: see `transform`; the key is a string that lives during the call too.
    unsafe {
        let key = arg(key, key_len);
        transform(bridge, source, len, |source, out| out.extend_from_slice(&digest::hmac_sha1(key, source)));
    }
}

unsafe extern "C" fn crc32(source: *const u8, len: usize) -> u32 {
    // SAFETY: a string that lives during the call.
    crc32fast::hash(unsafe { arg(source, len) })
}

/// `decode_args(text, max)`: returns the table, and "truncated" if there are more.
unsafe extern "C-unwind" fn decode_args(state: *mut lua_State) -> c_int {
    // SAFETY: called from our own source with a string and a number; the string stays on the stack. `scratch` is the
    // bridge's buffer, which is alive whatever is raised here.
    unsafe {
        let query = stack::bytes(state, 1).unwrap_or_default();
        let max = ffi::lua_tonumber(state, 2).clamp(0.0, f64::from(u32::MAX)) as u32;
        ffi::lua_settop(state, 2);
        ffi::lua_createtable(state, 0, 4);
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Bridge>();
        match push_args(state, query, max, &mut (*bridge).buffer) {
            true => {
                log_args_limit(bridge, max);
                ffi::lua_pushliteral(state, c"truncated");
                2
            }
            false => 1,
        }
    }
}
