//! The settings of TLS, and the requests that its terms refuse.

use super::{CertificateExpiry, SslCache};
use crate::config::Config;
use crate::host::Env;
use crate::start_request;
use crate::testing::{TestHost, exchange, with_files};
use crate::tls_session::{ClientCertificate, ClientTerms, TlsSession, Verified, VerifyClient};
use std::rc::Rc;
use std::sync::Arc;

const FILES: [(&str, &str); 4] = [
    ("/etc/pointsman/a.crt", "certificate a"),
    ("/etc/pointsman/a.key", "key a"),
    ("/etc/pointsman/ca.crt", "authority"),
    ("/etc/pointsman/other.crt", "other authority"),
];

fn built(http: &str) -> Result<Config, Vec<String>> {
    with_files(&format!("http {{ {http} }}"), &FILES)
}

const PAIR: &str = "ssl_certificate a.crt; ssl_certificate_key a.key;";

#[test]
fn servers_inherit_what_they_do_not_say() {
    let config = built(&format!(
        "{PAIR} ssl_session_timeout 1h; ssl_session_cache builtin shared:S:1m;
         server {{ listen 443 ssl; }}
         server {{ listen 443 ssl; server_name b; ssl_certificate ca.crt; ssl_certificate_key a.key;
                   ssl_session_cache off; ssl_prefer_server_ciphers on; }}"
    ))
    .unwrap();
    let [first, second] = &config.servers[..] else { panic!("two servers") };
    assert_eq!(first.ssl.certificates[0].file().unwrap().bytes(), b"certificate a");
    assert_eq!(*first.ssl.sessions.cache, SslCache::Shared("S".to_owned(), 1 << 20));
    assert_eq!(second.ssl.certificates.len(), 1);
    assert_eq!(second.ssl.certificates[0].file().unwrap().bytes(), b"authority");
    assert_eq!((&*second.ssl.sessions.cache, *second.ssl.sessions.timeout_ms), (&SslCache::Off, 3_600_000));
    assert!(*second.ssl.handshake.prefer_server_ciphers && !*first.ssl.handshake.prefer_server_ciphers);
    assert!(config.listeners[0].servers.ssl);
}

#[test]
fn files_are_never_shown() {
    let config = built(&format!("{PAIR} server {{ listen 443 ssl; }}")).unwrap();
    assert!(!format!("{config:?}").contains("key a"));
}

#[test]
fn faults_are_named() {
    let fault = |text: &str| built(text).unwrap_err().join("\n");
    for (text, wanted) in [
        ("server { listen 443 ssl; }", "no \"ssl_certificate\" is defined for the \"listen ... ssl\""),
        (
            "server { listen 443 ssl; ssl_reject_handshake on; } server { listen 443 ssl; server_name b; }",
            "no \"ssl_certificate\" is defined",
        ),
        ("ssl_certificate a.crt; server { listen 443 ssl; }", "no \"ssl_certificate_key\" is defined"),
        (
            "ssl_certificate none.crt;",
            "cannot load certificate \"/etc/pointsman/none.crt\": open() failed (2: No",
        ),
        (
            "ssl_client_certificate $host.crt;",
            "variables in the name of the CA certificates are not supported",
        ),
        ("ssl_certificate $acme-certificate;", "unknown \"acme\" variable"),
        ("ssl_certificate_cache inactive=1s;", "\"ssl_certificate_cache\" must have the \"max\" parameter"),
        ("ssl_certificate_cache max=0;", "invalid parameter \"max=0\""),
        ("ssl_certificate_cache max=1 valid=x;", "invalid parameter \"valid=x\""),
        ("ssl_certificate_key engine:x:y;", "\"engine:\" in the name of a certificate key"),
        ("ssl_verify_client maybe;", "invalid value \"maybe\""),
        (
            &format!("server {{ {PAIR} ssl_verify_client on; }}"),
            "no ssl_client_certificate for ssl_verify_client",
        ),
        (
            "ssl_protocols SSLv3 TLSv1;",
            "SSLv3, TLSv1 in \"ssl_protocols\" are not supported: they are not secure",
        ),
        ("ssl_session_cache shared:a:1k;", "session cache \"a\" is too small"),
        ("ssl_session_ticket_key a.key;", "must be 48 or 80 bytes"),
        ("ssl_conf_command Options x;", "the command \"Options\" of \"ssl_conf_command\""),
        ("ssl_early_data maybe;", "invalid value \"maybe\""),
        ("ssl_ocsp on;", "\"ssl_ocsp\" is known to nginx, not supported"),
        ("server { ssl on; }", "the \"ssl\" directive is removed"),
        ("server { location / { ssl_protocols TLSv1.3; } }", "directive is not allowed here"),
    ] {
        assert!(fault(text).contains(wanted), "{text}: {}", fault(text));
    }
}

#[test]
fn a_server_without_a_certificate_may_stand_behind_one_that_has_one() {
    built(&format!("server {{ listen 443 ssl; {PAIR} }} server {{ listen 443; server_name b; }}")).unwrap();
    built("server { listen 443 ssl; ssl_reject_handshake on; }").unwrap();
}

/// Returns a configuration whose second server verifies clients, and whose third does under other terms.
fn verifying() -> Config {
    built(&format!(
        "{PAIR} server {{ listen 80 ssl; server_name open; }}
         server {{ listen 80 ssl; server_name closed; ssl_verify_client on; ssl_client_certificate ca.crt; }}
         server {{ listen 80 ssl; server_name other; ssl_verify_client optional; ssl_client_certificate other.crt; }}"
    ))
    .unwrap()
}

fn session(name: Option<&str>, terms: &Arc<ClientTerms>, verified: Verified) -> TlsSession {
    let certificate = (verified != Verified::None).then(Box::<ClientCertificate>::default);
    TlsSession {
        server_name: name.map(|name| name.as_bytes().into()),
        protocol: "TLSv1.3",
        cipher: "",
        curve: "",
        offered_ciphers: String::new(),
        offered_curves: String::new(),
        alpn: None,
        id: String::new(),
        resumed: false,
        certificate,
        verified,
        terms: Arc::clone(terms),
    }
}

/// Returns the status that refuses a request for a host on a connection, and the server that answers it.
fn refused(config: &Config, tls: Option<TlsSession>, host: &str) -> (Option<u16>, u32) {
    let mut world = TestHost::new();
    let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let plain = built("server { listen 80; }").unwrap();
    let mut exchange = exchange(&plain, &mut world, &text);
    exchange.connection.tls = tls.map(Rc::new);
    exchange.request.host.clear();
    exchange.request.uri.clear();
    let result = start_request::start(&mut exchange, &mut Env { config, host: &mut world });
    (result.err(), exchange.route.server.0)
}

#[test]
fn terms_of_the_handshake_are_held_against_those_of_the_host() {
    let config = verifying();
    let [open, closed, other] = [0, 1, 2].map(|at: usize| Arc::clone(&config.servers[at].ssl.terms));
    let failed = |code| Verified::Failed { code, text: "" };
    for (name, terms, verified, host, wanted) in [
        (Some("open"), &open, Verified::None, "open", (None, 0)),
        (Some("open"), &open, Verified::None, "closed", (Some(421), 0)),
        (Some("open"), &open, Verified::None, "other", (Some(421), 0)),
        (Some("closed"), &closed, Verified::Success, "closed", (None, 1)),
        (Some("closed"), &closed, Verified::Success, "open", (None, 0)),
        (Some("closed"), &closed, Verified::Success, "other", (Some(421), 1)),
        (Some("closed"), &closed, Verified::None, "closed", (Some(496), 1)),
        (Some("closed"), &closed, failed(20), "closed", (Some(495), 1)),
        (Some("other"), &other, Verified::None, "other", (None, 2)),
        (Some("other"), &other, failed(10), "other", (Some(495), 2)),
        // Without a name nothing was negotiated.
        (None, &open, Verified::None, "closed", (Some(496), 1)),
        (None, &open, Verified::None, "other", (None, 2)),
        // The certificate was accepted under other terms than those in force now.
        (None, &other, Verified::Success, "closed", (Some(421), 0)),
        (Some("closed"), &other, Verified::Success, "closed", (Some(421), 1)),
    ] {
        let seen = refused(&config, Some(session(name, terms, verified.clone())), host);
        assert_eq!(seen, wanted, "{name:?} {verified:?} {host}");
    }
    assert_eq!(refused(&config, None, "open"), (Some(497), 0), "in clear");
}

#[test]
fn an_unknown_authority_is_no_fault_with_optional_no_ca() {
    let config =
        built(&format!("server {{ listen 80 ssl; {PAIR} ssl_verify_client optional_no_ca; }}")).unwrap();
    let terms = Arc::clone(&config.servers[0].ssl.terms);
    assert_eq!(terms.verify, VerifyClient::OptionalNoCa);
    for (code, wanted) in [(18, None), (20, None), (21, None), (10, Some(495)), (23, Some(495))] {
        let verified = Verified::Failed { code, text: "" };
        assert_eq!(refused(&config, Some(session(None, &terms, verified)), "x").0, wanted, "{code}");
    }
}

#[test]
fn certificates_are_warned_of_two_weeks_ahead() {
    let expiry = CertificateExpiry { file: "a.pem".into(), until_s: 100 * 86_400 };
    assert_eq!(expiry.warning(86 * 86_400), None);
    assert_eq!(expiry.warning(87 * 86_400).unwrap(), "the certificate \"a.pem\" expires in 13 days");
    assert_eq!(expiry.warning(100 * 86_400).unwrap(), "the certificate \"a.pem\" has expired");
}
