//! The names that certificates are ordered for.

use std::fmt;
use std::net::IpAddr;

/// A name or address that a certificate is valid for.
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

/// Last labels of names that no public issuer knows (RFC 6761, 6762, 7686, 8375, 9476, and what ICANN keeps free).
const PRIVATE: [&str; 9] =
    ["alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion", "test"];

/// How long such a name may be, so that it is whole in the name of its certificate's file.
const MAX_PUBLIC: usize = 200;

/// Returns true if a name, in lower case, may be one that others than this network know: a host below a public domain. Whether
/// it leads here is for its issuer to find out.
pub fn is_public_host(name: &str) -> bool {
    let Some((_, last)) = name.rsplit_once('.') else { return false };
    let is_short = name.len() <= MAX_PUBLIC;
    is_short
        && is_host(name)
        && !PRIVATE.contains(&last)
        && last.bytes().any(|byte| byte.is_ascii_alphabetic())
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

#[cfg(test)]
mod tests {
    use super::is_public_host;

    #[test]
    fn public_hosts_are_below_a_public_domain() {
        for name in ["shop.example.com", "a.b.example.net", "xn--bcher-kva.de", "1.com"] {
            assert!(is_public_host(name), "{name}");
        }
        let others = [
            "",
            "com",
            "localhost",
            "a.localhost",
            "printer.local",
            "db.internal",
            "x.home.arpa",
            "a.test",
            "a.example",
            "192.0.2.1",
            "a.1",
            "::1",
            "*.example.com",
            "a..com",
            ".example.com",
            "example.com.",
            "a_b.com",
            "-a.com",
            "a.com/x",
            "a.com:80",
        ];
        for name in others {
            assert!(!is_public_host(name), "{name}");
        }
        assert!(!is_public_host(&format!("{}.com", "a".repeat(64))));
        assert!(
            is_public_host(&format!("{}com", "a.".repeat(98)))
                && !is_public_host(&format!("{}com", "a.".repeat(99)))
        );
    }
}
