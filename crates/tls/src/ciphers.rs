//! `ssl_ciphers`: an expression of OpenSSL, applied to the cipher suites of TLS 1.2 that there are.
//!
//! Owns OpenSSL's rules (ssl_create_cipher_list): what is excluded by `!` never comes back, and nothing is added that the
//! expression does not name.

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite as suite;

/// A suite of TLS 1.2 with what expressions say about it.
struct Suite {
    name: &'static str,
    suite: SupportedCipherSuite,
    /// The aliases that select it.
    aliases: &'static [&'static str],
    bits: u16,
}

/// In OpenSSL's order.
static SUITES: [Suite; 6] = [
    Suite {
        name: "ECDHE-ECDSA-AES256-GCM-SHA384",
        suite: suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        aliases: &["aECDSA", "ECDSA", "AES", "AES256", "AESGCM", "FIPS"],
        bits: 256,
    },
    Suite {
        name: "ECDHE-RSA-AES256-GCM-SHA384",
        suite: suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        aliases: &["aRSA", "AES", "AES256", "AESGCM", "FIPS"],
        bits: 256,
    },
    Suite {
        name: "ECDHE-ECDSA-CHACHA20-POLY1305",
        suite: suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        aliases: &["aECDSA", "ECDSA", "CHACHA20"],
        bits: 256,
    },
    Suite {
        name: "ECDHE-RSA-CHACHA20-POLY1305",
        suite: suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        aliases: &["aRSA", "CHACHA20"],
        bits: 256,
    },
    Suite {
        name: "ECDHE-ECDSA-AES128-GCM-SHA256",
        suite: suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        aliases: &["aECDSA", "ECDSA", "AES", "AES128", "AESGCM", "FIPS"],
        bits: 128,
    },
    Suite {
        name: "ECDHE-RSA-AES128-GCM-SHA256",
        suite: suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        aliases: &["aRSA", "AES", "AES128", "AESGCM", "FIPS"],
        bits: 128,
    },
];

/// The aliases that select all of them.
const ALL: [&str; 8] = ["ALL", "HIGH", "kECDHE", "kEECDH", "ECDHE", "EECDH", "ECDH", "TLSv1.2"];

impl Suite {
    /// Returns true if a word such as `kEECDH+AESGCM` selects it.
    fn is_meant(&self, word: &str) -> bool {
        word.split('+').all(|part| part == self.name || ALL.contains(&part) || self.aliases.contains(&part))
    }
}

/// The suites that an expression selects.
pub(crate) struct Selection {
    pub(crate) suites: Vec<SupportedCipherSuite>,
    /// Suites that it names and that there are not.
    pub(crate) missing: Vec<String>,
}

/// Applies an expression.
pub(crate) fn select(expression: &str) -> Selection {
    let (order, missing) = apply(expression);
    Selection { suites: order.into_iter().map(|at| SUITES[at].suite).collect(), missing }
}

/// Returns the selected suites' places in the table, in order, and the names of missing ones.
fn apply(expression: &str) -> (Vec<usize>, Vec<String>) {
    let expression = match expression.split_once([':', ' ', ',', ';']) {
        Some(("DEFAULT", rest)) => format!("ALL:{rest}"),
        None if expression == "DEFAULT" => "ALL".to_owned(),
        _ => expression.to_owned(),
    };
    // Every suite, with a mark whether it is selected; killed ones are gone.
    let mut list: Vec<(usize, bool)> = (0..SUITES.len()).map(|at| (at, false)).collect();
    let mut missing = Vec::new();
    for word in expression.split([':', ' ', ',', ';']).filter(|word| !word.is_empty()) {
        if let Some(command) = word.strip_prefix('@') {
            if command == "STRENGTH" {
                sort_by_strength(&mut list);
            }
            continue;
        }
        let (rule, word) = match word.split_at_checked(1) {
            Some((rule @ ("!" | "-" | "+"), word)) => (rule, word),
            _ => ("", word),
        };
        let is_meant = |entry: &(usize, bool)| SUITES[entry.0].is_meant(word);
        match rule {
            "!" => list.retain(|entry| !is_meant(entry)),
            "-" => {
                let (out, kept): (Vec<_>, Vec<_>) = list.iter().partition(|entry| entry.1 && is_meant(entry));
                list = out.into_iter().map(|(at, _)| (at, false)).chain(kept).collect();
            }
            "+" => {
                let (moved, kept): (Vec<_>, Vec<_>) =
                    list.iter().partition(|entry| entry.1 && is_meant(entry));
                list = kept.into_iter().chain(moved).collect();
            }
            _ => {
                let (added, kept): (Vec<_>, Vec<_>) =
                    list.iter().partition(|entry| !entry.1 && is_meant(entry));
                list = kept.into_iter().chain(added.into_iter().map(|(at, _)| (at, true))).collect();
                // A suite's name, not an alias.
                if word.contains('-') && !SUITES.iter().any(|suite| suite.name == word) {
                    missing.push(word.to_owned());
                }
            }
        }
    }
    (list.into_iter().filter(|entry| entry.1).map(|entry| entry.0).collect(), missing)
}

/// Sorts the selected ones, the strongest first; otherwise the order stays.
fn sort_by_strength(list: &mut [(usize, bool)]) {
    list.sort_by_key(|(at, selected)| {
        (*selected, std::cmp::Reverse(if *selected { SUITES[*at].bits } else { 0 }))
    });
}

/// Returns the suites of TLS 1.3 in the order of `ssl_conf_command Ciphersuites`, or a name that is none.
pub(crate) fn tls13(list: &str) -> Result<Vec<SupportedCipherSuite>, String> {
    let mut out = Vec::new();
    for name in list.split(':').filter(|name| !name.is_empty()) {
        match name {
            "TLS_AES_256_GCM_SHA384" => out.push(suite::TLS13_AES_256_GCM_SHA384),
            "TLS_CHACHA20_POLY1305_SHA256" => out.push(suite::TLS13_CHACHA20_POLY1305_SHA256),
            "TLS_AES_128_GCM_SHA256" => out.push(suite::TLS13_AES_128_GCM_SHA256),
            // OpenSSL has them, and few clients do.
            "TLS_AES_128_CCM_SHA256" | "TLS_AES_128_CCM_8_SHA256" => {}
            _ => return Err(name.to_owned()),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn names(expression: &str) -> Vec<&'static str> {
        apply(expression).0.into_iter().map(|at| SUITES[at].name).collect()
    }

    /// Strings as Mozilla, h5bp, distributions and hand-written configurations have them.
    const EXPRESSIONS: [&str; 34] = [
        "HIGH:!aNULL:!MD5",
        "DEFAULT",
        "ALL",
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:AES128-SHA:DES-CBC3-SHA",
        "EECDH+CHACHA20:EECDH+AES",
        "EECDH+AESGCM:EDH+AESGCM",
        "EECDH+ECDSA+AESGCM EECDH+aRSA+AESGCM EECDH+ECDSA+SHA384 EECDH+aRSA RC4 !aNULL !eNULL !LOW",
        "EECDH+CHACHA20:EECDH+AES128:RSA+AES128:EECDH+AES256:RSA+AES256:EECDH+3DES:RSA+3DES:!MD5",
        "ECDH+AESGCM:DH+AESGCM:ECDH+AES256:DH+AES256:ECDH+AES128:DH+AES:RSA+AESGCM:RSA+AES:!aNULL:!MD5:!DSS",
        "ECDHE+AESGCM:DHE+AESGCM",
        "HIGH:!AESGCM",
        "HIGH:!ECDHE",
        "ALL:!aRSA",
        "ALL:!ECDSA:ECDSA",
        "ALL:-AES128:AES128",
        "ALL:-AES:AES",
        "ALL:+AES256",
        "ALL:+AES256:+CHACHA20",
        "AES128:AES256:@STRENGTH",
        "AES128:CHACHA20:AES256:@STRENGTH:!SHA1",
        "CHACHA20:AESGCM:-ECDSA:ALL",
        "kEECDH+AES128:kEECDH:-AES256",
        "SHA384",
        "SHA256",
        "RSA",
        "aRSA",
        "TLSv1.2:!RC4",
        "TLSv1",
        "LOW:EXP",
        "ECDHE-RSA-AES256-GCM-SHA384:ALL:!CHACHA20",
        "DEFAULT:!AES256:@SECLEVEL=1",
        "AES128,CHACHA20;AES256",
        "nonsense:ECDHE-RSA-CHACHA20-POLY1305",
    ];

    #[test]
    fn expressions_select_what_openssl_selects() {
        for expression in EXPRESSIONS {
            let openssl = Command::new("openssl").args(["ciphers", expression]).output().unwrap();
            let text = String::from_utf8(openssl.stdout).unwrap();
            let theirs: Vec<&str> = text
                .trim()
                .split(':')
                .filter(|name| SUITES.iter().any(|suite| suite.name == *name))
                .collect();
            assert_eq!(names(expression), theirs, "{expression}");
        }
    }

    #[test]
    fn missing_suites_are_named_once() {
        let (_, missing) = apply("AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256:!DES-CBC3-SHA:-RC4-SHA:EECDH+AES");
        assert_eq!(missing, ["AES128-SHA"]);
    }

    #[test]
    fn suites_of_tls_13_keep_their_order() {
        let order = tls13("TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384").unwrap();
        assert_eq!(order, [suite::TLS13_AES_128_GCM_SHA256, suite::TLS13_AES_256_GCM_SHA384]);
        assert_eq!(tls13("TLS_X").unwrap_err(), "TLS_X");
    }
}
