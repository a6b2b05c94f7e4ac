//! The directives of the proxy module, `proxy_pass` apart, and those that every family has.
//!
//! Owns how each is read. What they come to together is [`super::compile`]'s.

mod connection;
mod families;
mod request;
mod response;
mod ssl;

pub(in crate::modules) use connection::{
    ALL_WORDS, GATEWAY_WORDS, bind, buffers, dependent_size, limit_rate, next_upstream, read_buffer_size,
    temp_path,
};
pub(in crate::modules) use families::{body_directives, connection_directives, head_directives};
pub(super) use request::REQUEST;
pub(in crate::modules) use request::set_header;
pub(super) use response::RESPONSE;
pub(in crate::modules) use response::{hide_header, ignore_headers};
pub(in crate::modules) use ssl::ssl_directives;

use crate::config::invalid_value;
use conf::{Diagnostic, Word};

/// Reads the size of a buffer: no gigabytes, as in nginx.
fn buffer_size(word: &Word) -> Result<u64, Diagnostic> {
    conf::value::parse_buffer_size(word.text()).ok_or_else(|| {
        invalid_value(word).help("a size is a number of bytes, or a number with k or m: 8k, 1m")
    })
}

fn one_of(word: &Word, known: &[&str]) -> Diagnostic {
    let fault = Diagnostic::error(word.span, format!("invalid value \"{}\"", word.text()));
    match conf::nearest(&word.text().to_string().to_ascii_lowercase(), known.iter().copied()) {
        Some(meant) => fault.help(format!("did you mean `{meant}`?")),
        None => fault.help(format!("one of {}", known.join(", "))),
    }
}

fn duplicate_value(word: &Word) -> Diagnostic {
    Diagnostic::warn(word.span, format!("duplicate value \"{}\"", word.text()))
}
