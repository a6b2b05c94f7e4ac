//! The names that certificates are ordered for.

use std::fmt;
use std::net::IpAddr;

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// A host, in lower case.
    Dns(String),
    /// An address (RFC 8738).
    Ip(IpAddr),
}

impl Identifier {
    /// Returns true if it is for all names below another one.
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Identifier::Dns(name) if name.starts_with("*."))
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identifier::Dns(name) => f.write_str(name),
            Identifier::Ip(address) => write!(f, "{address}"),
        }
    }
}

/// Reads an identifier as `acme_certificate` or `server_name` writes it: `.example.com` is two, with `www.` and without.
///
/// # Errors
/// Fails if no certificate can be ordered for it; the text says why.
pub(super) fn read(text: &str) -> Result<Vec<Identifier>, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![Identifier::Ip(address)]);
    }
    if let Some(parent) = text.strip_prefix("*.") {
        let parent = parent.to_ascii_lowercase();
        return match is_host(&parent) {
            true => Ok(vec![Identifier::Dns(format!("*.{parent}"))]),
            false => Err(format!("\"{text}\" is no wildcard that certificates can have")),
        };
    }
    let host = text.strip_prefix('.').unwrap_or(text).to_ascii_lowercase();
    if !is_host(&host) {
        return Err(format!("\"{text}\" is no host name"));
    }
    Ok(match text.starts_with('.') {
        true => vec![Identifier::Dns(format!("www.{host}")), Identifier::Dns(host)],
        false => vec![Identifier::Dns(host)],
    })
}

/// Returns true if a text may be the name of a host (RFC 1123, section 2.1).
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label) && text.bytes().any(|byte| !byte.is_ascii_digit())
}
