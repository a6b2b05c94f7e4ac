//! Certificates, keys, passwords, authorities and revocation lists as files: `tls::Contexts`.
//!
//! An input is several files, see [`crate::files`]: `cert`, `key`, `pass`, `ca` and `crl`. Every fault can be shown, and shows
//! nothing of a key or a password. Without one there is a context for the server. A certificate of ACME is held against
//! the same files.

use crate::config_text::show;
use crate::files::{Files, MAIN, split};
use crate::world::built;
use conf::{Diagnostic, Loader};
use engine::config::ServerId;
use engine::modules::acme::{KeyKind, Wanted};
use std::path::Path;
use tls::{Contexts, Issued, Sessions};

const SERVER: &str = "events {} http { server { listen 443 ssl; ssl_certificate cert; ssl_certificate_key key; PASS CA CRL } }";
const UPSTREAM: &str =
    "events {} http { server { location / { proxy_pass https://127.0.0.1:1; proxy_ssl_verify on;
    proxy_ssl_certificate cert; proxy_ssl_certificate_key key; PASS CA CRL } } }";

/// The shortest line of a file that would tell something of a key.
const TELLING: usize = 16;

/// Returns what is found in the files by a server of TLS, or by a location whose upstreams speak it.
fn findings(files: &Files, is_server: bool) -> Vec<Diagnostic> {
    let file = |name: &str| files.read(&Path::new("/c").join(name));
    let has = |name: &str| file(name).is_ok();
    let (text, prefix) = if is_server { (SERVER, "") } else { (UPSTREAM, "proxy_") };
    let line = |is: bool, words: &str| {
        if is { words.replace("ssl_", &format!("{prefix}ssl_")) } else { String::new() }
    };
    let authorities = match is_server {
        true => "ssl_verify_client on; ssl_client_certificate ca;",
        false => "ssl_trusted_certificate ca;",
    };
    let text = text
        .replace("PASS", &line(has("pass"), "ssl_password_file pass;"))
        .replace("CA", &line(has("ca"), authorities))
        .replace("CRL", &line(has("ca") && has("crl"), "ssl_crl crl;"));
    let parsed = conf::parse_text(MAIN, text, files);
    let mut findings = Vec::new();
    match built(&parsed, files) {
        Ok((config, warnings)) => {
            findings.extend(warnings);
            let contexts = Contexts::build(&config, &Sessions::default(), &Issued::default(), &mut findings);
            let is_faulty = findings.iter().any(Diagnostic::is_error);
            let server = ServerId(0);
            assert!(is_faulty || !is_server || contexts.choose(server, server).is_some());
        }
        Err(faults) => findings.extend(faults),
    }
    show(&findings, &parsed.sources);
    let shown: String = findings.iter().map(|finding| finding.render(&parsed.sources, false)).collect();
    for secret in ["key", "pass"].iter().filter_map(|name| file(name).ok()) {
        // A name of a directive is none of a key's secrets.
        let is_word =
            |line: &&[u8]| line.iter().all(|byte| byte.is_ascii_lowercase() || b"_ ".contains(byte));
        let lines =
            secret.split(|byte| *byte == b'\n').filter(|line| line.len() >= TELLING && !is_word(line));
        let told = lines
            .map(String::from_utf8_lossy)
            .find(|line| !line.starts_with("--") && shown.contains(&**line));
        assert_eq!(told, None, "shown in {shown}");
    }
    findings
}

pub(crate) fn check(data: &[u8]) {
    let (_, files) = split(data);
    for is_server in [true, false] {
        findings(&files, is_server);
    }
    let file = |name: &str| files.read(&Path::new("/c").join(name)).unwrap_or_default();
    let pem = [file("cert"), file("key")].concat();
    let wanted = Wanted { issuer: 0, identifiers: Vec::new(), key: KeyKind::Ecdsa256, id: "x".into() };
    if let Err(why) = Issued::default().install(&wanted, &pem) {
        assert!(!why.is_empty() && !why.contains('\0'), "{why:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_files_make_contexts_and_others_do_not() {
        let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (one, other) = (made("a.example"), made("b.example"));
        for (key, is_good) in [(&one.signing_key, true), (&other.signing_key, false)] {
            let certificate = one.cert.pem();
            let input =
                format!("=== cert\n{certificate}=== key\n{}=== ca\n{certificate}", key.serialize_pem());
            check(input.as_bytes());
            let (_, files) = split(input.as_bytes());
            for is_server in [true, false] {
                let found = findings(&files, is_server);
                assert_eq!(!found.iter().any(Diagnostic::is_error), is_good, "{found:?}");
            }
        }
    }
}
