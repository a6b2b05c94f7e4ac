//! Cookies that name users (ngx_http_userid_filter_module).

mod directives;
pub mod record;
#[cfg(test)]
mod tests;

use super::Module;
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::output::wire::HeadRefused;
use crate::setting::settings;
use crate::variables;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::Known;
use record::Identifier;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The module.
pub static MODULE: Module = Module {
    header_filter: Some(filter),
    is_needed: Some(|_, settings| *settings.filters.userid.mode >= Mode::V1),
    ..Module::new("userid", &[directives::DIRECTIVES])
};

/// `userid`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Nothing.
    #[default]
    Off,
    /// The received cookie is known to `$uid_got`.
    Log,
    /// Cookies of version 1 are given.
    V1,
    /// Cookies of version 2 are given.
    On,
}

/// `userid_expires`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the browser runs.
    #[default]
    Session,
    /// So many seconds.
    Seconds(u64),
    /// Until 2037.
    Max,
}

settings! {
    /// Settings of one level.
    pub struct UserIdSettings {
        /// `userid`.
        pub mode: Mode = Mode::Off,
        /// `userid_name`.
        pub name: Box<[u8]> = b"uid"[..].into(),
        /// `userid_domain`, with what is before it in the field.
        pub domain: Box<[u8]> = Box::default(),
        /// `userid_path`, with what is before it in the field.
        pub path: Box<[u8]> = b"; path=/"[..].into(),
        /// `userid_p3p`; empty is none.
        pub p3p: Box<[u8]> = Box::default(),
        /// `userid_service`; without it the address that was asked says which server it was.
        pub service: Option<u32> = None,
        /// `userid_expires`.
        pub lifetime: Lifetime = Lifetime::Session,
        /// `userid_flags`, as they are in the field.
        pub flags: Box<[u8]> = Box::default(),
        /// `userid_mark`.
        pub mark: Option<u8> = None,
    }
}

/// How many of a cookie's characters are the identifier: the padding behind them may be a mark, or anything.
const ENCODED: usize = 22;
/// Lenient as nginx's: bits that are left over do not count.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What tells the identifiers of this process from those of others.
static START: OnceLock<u32> = OnceLock::new();
static SEQUENCE_V1: AtomicU32 = AtomicU32::new(1);
static SEQUENCE_V2: AtomicU32 = AtomicU32::new(0x0303_0302);

/// Gives the client its cookie.
fn filter(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    let settings = &exchange.settings(env.config).filters.userid;
    if *settings.mode < Mode::V1 {
        return Ok(());
    }
    look(exchange, env);
    give(exchange, env);
    let Some(given) = exchange.userid.given else { return Ok(()) };
    let mut value = [settings.name.get(), &b"="[..]].concat();
    if exchange.userid.got.is_none() || exchange.userid.is_reset {
        let start = value.len();
        value.extend_from_slice(BASE64.encode(given).as_bytes());
        if let Some(mark) = *settings.mark {
            value[start + ENCODED] = mark;
        }
    } else {
        value.extend_from_slice(&exchange.userid.cookie[..ENCODED]);
        value.extend_from_slice(&[settings.mark.unwrap_or(b'='), b'=']);
    }
    match *settings.lifetime {
        Lifetime::Session => {}
        Lifetime::Max => value.extend_from_slice(b"; expires=Thu, 31-Dec-37 23:55:55 GMT"),
        Lifetime::Seconds(seconds) => {
            value.extend_from_slice(b"; expires=");
            value.extend_from_slice(&cookie_date(env.host.now().epoch_s() + seconds));
        }
    }
    for part in [settings.domain.get(), settings.path.get(), settings.flags.get()] {
        value.extend_from_slice(part);
    }
    let headers = &mut exchange.response.headers;
    headers.push_known(Known::SetCookie, &value);
    if !settings.p3p.is_empty() {
        headers.push(b"P3P", settings.p3p.get());
    }
    Ok(())
}

/// Returns a date as nginx writes it in cookies: `Thu, 31-Dec-37 23:55:55 GMT`, with four digits of the year from 2038 on.
fn cookie_date(at_s: u64) -> Vec<u8> {
    // 2037-12-31T23:59:59.
    const LAST_OF_TWO_DIGITS_S: u64 = 2_145_916_799;
    let date = http::date::http_date(at_s);
    let date: &[u8] = &date;
    // Sun, 06 Nov 1994 08:49:37 GMT
    let year = if at_s > LAST_OF_TWO_DIGITS_S { &date[12..16] } else { &date[14..16] };
    [&date[..7], b"-", &date[8..11], b"-", year, &date[16..]].concat()
}

/// Looks for the cookie, once.
fn look(exchange: &mut Exchange, env: &mut Env<'_>) {
    if std::mem::replace(&mut exchange.userid.looked, true) {
        return;
    }
    let settings = &exchange.settings(env.config).filters.userid;
    let headers = &exchange.request.head.headers;
    let found = headers.get_all(Known::Cookie).find_map(|field| {
        let value = http::cookie::find([field], settings.name.get())?;
        Some((field.to_vec(), value.to_vec()))
    });
    let Some((field, value)) = found else { return };
    if value.len() < ENCODED {
        let text = [b"client sent too short userid cookie \"", &field[..], b"\""].concat();
        log_line::error(exchange, env, Level::Error, &text);
        return;
    }
    let mut identifier: Identifier = [0; 16];
    // nginx reads the alphabet of URLs too.
    let text: Vec<u8> = value[..ENCODED]
        .iter()
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => *byte,
        })
        .collect();
    match BASE64.decode_slice(text, &mut identifier) {
        Ok(_) => exchange.userid.got = is_one(&identifier).then_some(identifier),
        Err(_) => {
            let text = [b"client sent invalid userid cookie \"", &field[..], b"\""].concat();
            log_line::error(exchange, env, Level::Error, &text);
        }
    }
    exchange.userid.cookie = value;
}

/// Returns false for what nginx takes for none: the last of the four numbers is 0.
fn is_one(identifier: &Identifier) -> bool {
    identifier[12..] != [0; 4]
}

/// Decides which identifier the client is to get, if it is to get one.
fn give(exchange: &mut Exchange, env: &mut Env<'_>) {
    let settings = &exchange.settings(env.config).filters.userid;
    if exchange.userid.given.is_some() {
        return;
    }
    if let Some(got) = exchange.userid.got {
        let reset = reset(exchange, env);
        if matches!(&*reset, b"" | b"0") {
            let cookie = &exchange.userid.cookie;
            let is_marked =
                |mark: u8| cookie.len() > ENCODED + 1 && cookie[ENCODED..ENCODED + 2] == [mark, b'='];
            exchange.userid.given = settings.mark.filter(|mark| !is_marked(*mark)).map(|_| got);
            return;
        }
        exchange.userid.is_reset = true;
        if reset == b"log" {
            let text = [b"userid cookie \"", &shown(settings.name.get(), &got)[..], b"\" was reset"].concat();
            log_line::error(exchange, env, Level::Notice, &text);
        }
    }
    let now_s = env.host.now().epoch_s() as u32;
    let start = *START.get_or_init(|| env.host.random() as u32);
    let numbers = match *settings.mode {
        Mode::V1 => {
            let sequence = SEQUENCE_V1.fetch_add(0x100, Ordering::Relaxed);
            [settings.service.unwrap_or(0), now_s, start, sequence].map(u32::to_ne_bytes)
        }
        _ => {
            let own = match (*settings.service, exchange.connection.local.map(|local| local.ip())) {
                (Some(service), _) => service.to_be_bytes(),
                (None, Some(IpAddr::V4(v4))) => v4.octets(),
                (None, Some(IpAddr::V6(v6))) => {
                    let [.., a, b, c, d] = v6.octets();
                    [a, b, c, d]
                }
                (None, None) => [0; 4],
            };
            [own, now_s.to_be_bytes(), start.to_be_bytes(), next_v2().to_be_bytes()]
        }
    };
    let mut identifier: Identifier = [0; 16];
    identifier.copy_from_slice(numbers.as_flattened());
    exchange.userid.given = is_one(&identifier).then_some(identifier);
}

/// Returns `$uid_reset`, which `map` may define too.
fn reset(exchange: &mut Exchange, env: &mut Env<'_>) -> Vec<u8> {
    let mut value = Vec::new();
    if let Some(definition) = env.config.variables.definition("uid_reset") {
        variables::append_defined(exchange, env, &definition, &mut value);
    }
    value
}

fn next_v2() -> u32 {
    let next = |number: u32| Some(number.wrapping_add(0x100).max(0x0303_0302));
    SEQUENCE_V2.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default()
}

/// `NAME=` and four numbers in hexadecimal, as the machine has them.
fn shown(name: &[u8], identifier: &Identifier) -> Vec<u8> {
    let mut out = [name, b"="].concat();
    for number in identifier.as_chunks::<4>().0 {
        out.extend_from_slice(format!("{:08X}", u32::from_ne_bytes(*number)).as_bytes());
    }
    out
}

/// Appends `$uid_got`; false if the client has sent none.
pub(crate) fn append_got(exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
    let settings = &exchange.settings(env.config).filters.userid;
    if *settings.mode == Mode::Off {
        return false;
    }
    look(exchange, env);
    let Some(got) = exchange.userid.got else { return false };
    out.extend_from_slice(&shown(settings.name.get(), &got));
    true
}

/// Appends `$uid_set`; false if the client gets none.
pub(crate) fn append_set(exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
    let settings = &exchange.settings(env.config).filters.userid;
    if *settings.mode < Mode::V1 {
        return false;
    }
    look(exchange, env);
    give(exchange, env);
    let Some(given) = exchange.userid.given else { return false };
    out.extend_from_slice(&shown(settings.name.get(), &given));
    true
}
