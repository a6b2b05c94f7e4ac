//! The format of an access log's lines.

use super::json;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::variables::{self, VariableId};
use http::scan;

/// The treatment of bytes that would break the line's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escaping {
    /// `\xXX` for quotes, backslashes and everything that is not printable ASCII; `-` for what is not there.
    #[default]
    Default,
    /// JSON's escapes; nothing for what is not there.
    Json,
    /// Nothing at all.
    None,
}

/// A piece of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatPart {
    /// Literal text.
    Text(Box<[u8]>),
    /// A variable.
    Variable(VariableId),
    /// All there is to say, as JSON (`access_log PATH json`).
    Json,
}

/// A `log_format`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFormat {
    /// Its name.
    pub name: Box<[u8]>,
    /// The escaping of variables' values.
    pub escaping: Escaping,
    /// Its pieces.
    pub parts: Vec<FormatPart>,
}

/// A fault in a format's text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FormatFault<'t> {
    /// A `$` without a name: from here on.
    InvalidParameter(&'t [u8]),
    /// `${name` without `}`.
    Unclosed(&'t [u8]),
}

impl LogFormat {
    /// Compiles one argument of `log_format` (ngx_http_log_compile_format). `$1` is no capture here.
    pub(super) fn add<'t>(
        &mut self,
        text: &'t [u8],
        resolve: &mut dyn FnMut(&str) -> VariableId,
    ) -> Result<(), FormatFault<'t>> {
        let mut rest = text;
        while !rest.is_empty() {
            let literal = memchr::memchr(b'$', rest).unwrap_or(rest.len());
            if literal > 0 {
                self.parts.push(FormatPart::Text(rest[..literal].into()));
                rest = &rest[literal..];
                continue;
            }
            let from_dollar = rest;
            let braced = rest.get(1) == Some(&b'{');
            let body = &rest[1 + usize::from(braced)..];
            let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
            let (name, after) = body.split_at(body.iter().take_while(is_name).count());
            rest = match after {
                [b'}', after @ ..] if braced => after,
                _ if braced && body.is_empty() => return Err(FormatFault::InvalidParameter(from_dollar)),
                _ if braced => return Err(FormatFault::Unclosed(name)),
                after => after,
            };
            match std::str::from_utf8(name) {
                Ok(name) if !name.is_empty() => self.parts.push(FormatPart::Variable(resolve(name))),
                _ => return Err(FormatFault::InvalidParameter(from_dollar)),
            }
        }
        Ok(())
    }

    /// Appends the request's line, without a newline.
    pub fn append(&self, exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                FormatPart::Text(text) => out.extend_from_slice(text),
                FormatPart::Json => json::append(exchange, env, out),
                FormatPart::Variable(id) => {
                    let start = out.len();
                    let found = variables::append(exchange, env, *id, out);
                    match self.escaping {
                        Escaping::Default if !found => out.push(b'-'),
                        Escaping::Default => escape_tail(out, start, scan::unquotable, escape_default),
                        Escaping::Json => escape_tail(out, start, scan::no_json, http::escape::escape_json),
                        Escaping::None => {}
                    }
                }
            }
        }
    }
}

/// Escapes `out` from `start` on, if the search finds something to escape there; most values need
/// nothing.
#[inline]
fn escape_tail(
    out: &mut Vec<u8>,
    start: usize,
    search: impl Fn(&[u8]) -> Option<usize>,
    escape: fn(&[u8], &mut Vec<u8>),
) {
    if search(&out[start..]).is_some() {
        let value = out.split_off(start);
        escape(&value, out);
    }
}

/// ngx_http_log_escape.
fn escape_default(value: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut rest = value;
    while let Some(at) = scan::unquotable(rest) {
        let byte = usize::from(rest[at]);
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', b'x', HEX[byte >> 4], HEX[byte & 15]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_split_as_in_nginx() {
        let mut names = Vec::new();
        let mut format = LogFormat::default();
        let mut resolve = |name: &str| {
            names.push(name.to_owned());
            VariableId(names.len() as u32 - 1)
        };
        format.add(b"$host:${uri}x$a-b", &mut resolve).unwrap();
        assert_eq!(format.add(b"a$", &mut resolve), Err(FormatFault::InvalidParameter(b"$")));
        assert_eq!(format.add(b"$-", &mut resolve), Err(FormatFault::InvalidParameter(b"$-")));
        assert_eq!(format.add(b"${uri", &mut resolve), Err(FormatFault::Unclosed(b"uri")));
        assert_eq!(format.add(b"${}", &mut resolve), Err(FormatFault::InvalidParameter(b"${}")));
        assert_eq!(names, ["host", "uri", "a"]);
        let texts: Vec<_> = format.parts.iter().filter(|part| matches!(part, FormatPart::Text(_))).collect();
        assert_eq!(texts.len(), 4);
    }

    #[test]
    fn every_byte_is_escaped_as_in_nginx() {
        let mut out = b"kept\x01".to_vec();
        let start = out.len();
        out.extend(0..=255u8);
        escape_tail(&mut out, start, scan::unquotable, escape_default);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("kept\u{1}\\x00\\x01"));
        assert!(text.contains("\\x1F !\\x22#$%&'()"));
        assert!(text.contains("Z[\\x5C]^_`a"));
        assert!(text.ends_with("{|}~\\x7F\\x80") || text.contains("{|}~\\x7F\\x80\\x81"));
        assert!(text.ends_with("\\xFE\\xFF"));
    }

    #[test]
    fn json_keeps_utf8_and_escapes_controls() {
        let mut out = "\"ä\\\n\u{1}\u{7f}".as_bytes().to_vec();
        escape_tail(&mut out, 0, scan::no_json, http::escape::escape_json);
        assert_eq!(String::from_utf8(out).unwrap(), "\\\"ä\\\\\\n\\u0001\u{7f}");
    }
}
