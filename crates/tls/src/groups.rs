//! `ssl_ecdh_curve`: the groups of the key exchange.

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::kx_group;

/// The groups of `auto`.
const AUTO: &str = "X25519MLKEM768:X25519:prime256v1:secp384r1";

/// The groups that a list names, and the names that there are not.
pub(crate) struct KeyExchangeGroups {
    pub(crate) groups: Vec<&'static dyn SupportedKxGroup>,
    pub(crate) missing: Vec<String>,
}

/// Reads a list of names with colons between them.
pub(crate) fn select(list: &str) -> KeyExchangeGroups {
    let list = if list == "auto" { AUTO } else { list };
    let mut found = KeyExchangeGroups { groups: Vec::new(), missing: Vec::new() };
    for name in list.split(':').filter(|name| !name.is_empty()) {
        let group: &'static dyn SupportedKxGroup = match name.to_ascii_lowercase().as_str() {
            "x25519mlkem768" => kx_group::X25519MLKEM768,
            "secp256r1mlkem768" => kx_group::SECP256R1MLKEM768,
            "mlkem768" => kx_group::MLKEM768,
            "x25519" => kx_group::X25519,
            "prime256v1" | "p-256" | "secp256r1" => kx_group::SECP256R1,
            "secp384r1" | "p-384" => kx_group::SECP384R1,
            _ => {
                found.missing.push(name.to_owned());
                continue;
            }
        };
        found.groups.push(group);
    }
    found
}
