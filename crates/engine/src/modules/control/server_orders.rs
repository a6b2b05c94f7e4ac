//! Which addresses an order over HTTP may name: `server_orders`.
//!
//! Owns the list and its patterns. What is never allowed is the control plane's to know.

use crate::config::{Builder, invalid_parameter, once};
use crate::modules::map::networks::Network;
use conf::Diagnostic;
use std::net::IpAddr;
use std::path::{Component, Path};

/// The addresses.
#[derive(Clone, Debug, Default)]
pub struct ServerOrders {
    networks: Vec<Network>,
    /// Paths of sockets, with `*` for any text without a slash.
    sockets: Vec<String>,
}

impl ServerOrders {
    /// Returns true if an address is in one of the networks.
    pub fn allows(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.holds(address.to_canonical()))
    }

    /// Returns true if the path of a socket fits one of the patterns. One that goes through `.` or `..` fits none.
    pub fn allows_socket(&self, path: &Path) -> bool {
        let is_plain =
            path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        let Some(text) = path.to_str().filter(|text| is_plain && !text.contains("/./")) else { return false };
        self.sockets.iter().any(|pattern| fits(pattern.as_bytes(), text.as_bytes()))
    }
}

/// Returns true if a text fits a pattern.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => {
            let most = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
            (0..=most).any(|taken| fits(rest, &text[taken..]))
        }
        Some((byte, rest)) => text.split_first().is_some_and(|(next, text)| next == byte && fits(rest, text)),
    }
}

pub(super) fn read(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let mut orders = ServerOrders::default();
    for word in &d.args {
        let wrong = || {
            invalid_parameter(word)
                .help("networks and sockets, such as 10.0.0.0/8, 2001:db8::/32 or unix:/run/app-*.sock")
        };
        let text = word.str()?;
        match text.strip_prefix("unix:") {
            // Each star is a loop in `fits`.
            Some(path) if path.starts_with('/') && path.matches('*').count() <= 4 => {
                orders.sockets.push(path.to_owned());
            }
            Some(_) => return Err(wrong()),
            None => {
                let (network, low_bits) = Network::parse(text.as_bytes()).ok_or_else(wrong)?;
                if low_bits {
                    let text = format!("low address bits of {text} are meaningless");
                    b.diagnostics.push(Diagnostic::warn(word.span, text));
                }
                orders.networks.push(network);
            }
        }
    }
    once(b.draft.control.server_orders.write(Some(orders)), d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_text_within_a_path_segment() {
        let orders =
            ServerOrders { sockets: vec!["/run/app-*".into(), "/srv/*/s.sock".into()], ..Default::default() };
        for (path, is_allowed) in [
            ("/run/app-", true),
            ("/run/app-1.sock", true),
            ("/run/app-1/x.sock", false),
            ("/run/other", false),
            ("/srv/a/s.sock", true),
            ("/srv/a/b/s.sock", false),
            ("/srv/../s.sock", false),
            ("/srv/./s.sock", false),
            ("run/app-1", false),
        ] {
            assert_eq!(orders.allows_socket(Path::new(path)), is_allowed, "{path}");
        }
    }
}
