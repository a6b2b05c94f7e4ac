//! What the directives of ACME say, what they refuse, and the answers to HTTP-01.

use super::{ChallengeKind, Identifier, KeyKind, Permission};
use crate::Env;
use crate::phase::{self, Content, Step};
use crate::testing::{TestHost, exchange, with_files};

const URI: &str = "uri https://acme.example/dir;";

fn built(http: &str) -> Result<crate::Config, Vec<String>> {
    let key = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";
    let files = [
        ("/etc/pointsman/account.key", key),
        ("/etc/pointsman/old.key", "x"),
        ("/etc/pointsman/acme.key", "key acme { algorithm hmac-sha256; secret c2VjcmV0; };"),
        ("/etc/pointsman/ca.pem", "x"),
    ];
    with_files(&format!("http {{ {http} }}"), &files)
}

#[test]
fn issuers_and_certificates_are_read() {
    let config = built(&format!(
        "acme_shared_zone zone=acme:1m;
         server {{ server_name a.example .B.example 192.0.2.1 ''; acme_certificate one; }}
         server {{ acme_certificate two a.example key=rsa; }}
         server {{ server_name x; acme_certificate two a.example key=rsa:2048; }}
         server {{ server_name plain; }}
         acme_issuer one {{ {URI} contact admin@example.com tel:1; challenge tls-alpn; profile short require; }}
         acme_issuer two {{ {URI} state_path off; account_key account.key; ssl_verify off; common_name_in_csr on; accept_terms_of_service; }}"
    ))
    .unwrap();
    let acme = &config.http.acme;
    let [one, two] = &acme.issuers[..] else { panic!("{acme:?}") };
    assert_eq!(one.contacts, ["mailto:admin@example.com", "tel:1"]);
    assert_eq!((one.challenge, two.challenge), (ChallengeKind::TlsAlpn01, ChallengeKind::Http01));
    assert_eq!(one.profile, Some(("short".to_owned(), true)));
    assert_eq!(one.state.as_deref(), Some(std::path::Path::new("/prefix/acme_one")));
    assert!(one.verify && !one.accepts_terms && one.account_key.is_none() && !one.common_name);
    assert!(
        !two.verify
            && two.accepts_terms
            && two.account_key.is_some()
            && two.common_name
            && two.state.is_none()
    );
    let dns = |name: &str| Identifier::Dns(name.to_owned());
    let first = acme.of_server(0).unwrap();
    assert_eq!(
        first.identifiers,
        [dns("a.example"), dns("www.b.example"), dns("b.example"), Identifier::Ip([192, 0, 2, 1].into())]
    );
    assert_eq!((first.issuer, first.key), (0, KeyKind::Ecdsa256));
    assert_eq!(&*first.id, "one ecdsa:256 a.example,www.b.example,b.example,192.0.2.1");
    assert_eq!(acme.of_server(1), acme.of_server(2));
    assert_eq!(acme.of_server(1).unwrap().key, KeyKind::Rsa2048);
    assert_eq!((acme.of_server(3), acme.certificates.len()), (None, 2));
}

#[test]
fn faults_are_named() {
    let issuer = |inside: &str| format!("acme_issuer one {{ {inside} }}");
    let server = |inside: &str| format!("acme_issuer one {{ {URI} }} server {{ {inside} }}");
    for (http, fault) in [
        (issuer(""), "\"uri\" is missing in the issuer \"one\""),
        (issuer("uri http://acme.example/;"), "invalid \"uri\" value \"http://acme.example/\""),
        (issuer("uri https:///dir;"), "invalid \"uri\" value \"https:///dir\""),
        (issuer(&format!("{URI} {URI}")), "\"uri\" directive is duplicate"),
        (
            issuer(&format!("{URI} challenge dns-01;")),
            "the challenge \"dns-01\" needs a \"dns_update\" or a \"dns_hook\"",
        ),
        (
            issuer(&format!("{URI} challenge dns-01; dns_hook x; dns_update 192.0.2.1 key=acme.key;")),
            "\"dns_update\" beside \"dns_hook\"",
        ),
        (issuer(&format!("{URI} dns_update ns.example key=acme.key;")), "invalid address \"ns.example\""),
        (issuer(&format!("{URI} dns_update 192.0.2.1 zone=example;")), "\"dns_update\" has no key"),
        (issuer(&format!("{URI} dns_update 192.0.2.1 wait=x;")), "invalid parameter \"wait=x\""),
        (
            issuer(&format!("{URI} dns_update 192.0.2.1 key=old.key;")),
            "the TSIG key \"/etc/pointsman/old.key\" cannot be used: there is no key in it",
        ),
        (issuer(&format!("{URI} challenge mail;")), "invalid value \"mail\""),
        (
            issuer(&format!("{URI} account_key rsa:2048;")),
            "\"account_key rsa:2048\" is known to nginx, not supported by pointsman",
        ),
        (
            issuer(&format!("{URI} account_key old.key;")),
            "the account key \"/etc/pointsman/old.key\" is not in PKCS #8",
        ),
        (
            issuer(&format!("{URI} account_key account.key; external_account_key k data:abcd;")),
            "a file of \"account_key\" beside \"external_account_key\" is not supported by pointsman",
        ),
        (
            issuer(&format!("{URI} external_account_key k data:a+b/;")),
            "the external account key \"data:...\" is not base64url",
        ),
        (issuer(&format!("{URI} on_demand_limit 0;")), "invalid parameter \"0\""),
        (issuer(&format!("{URI} profile a b;")), "invalid parameter \"b\""),
        (
            format!(
                "acme_issuer one {{ {URI} state_path x; }} acme_issuer two {{ {URI} state_path /prefix/x; }}"
            ),
            "\"state_path\" of \"two\" is that of the issuer \"one\"",
        ),
        (format!("acme_issuer one {{ {URI} }} acme_issuer one {{ {URI} }}"), "duplicate acme issuer \"one\""),
        (format!("acme_issuer ../x {{ {URI} }}"), "invalid name \"../x\" of an issuer"),
        (server("server_name a.example; acme_certificate oen;"), "unknown acme issuer \"oen\""),
        (server("acme_certificate one;"), "no identifiers for \"acme_certificate\": the server has no names"),
        (
            server("server_name *.example; acme_certificate one;"),
            "the wildcard \"*.example\" cannot be proven by http-01",
        ),
        (
            server("server_name www.example.*; acme_certificate one;"),
            "invalid identifier of \"acme_certificate\": \"www.example.*\" is no host name",
        ),
        (
            server("acme_certificate one a_b.example;"),
            "invalid identifier of \"acme_certificate\": \"a_b.example\" is no host name",
        ),
        (server("acme_certificate one a.example key=dsa;"), "invalid parameter \"key=dsa\""),
        (
            server("acme_certificate one a.example; acme_certificate one b.example;"),
            "\"acme_certificate\" directive is duplicate",
        ),
        (
            server(
                "listen 443 ssl; ssl_certificate $acme_certificate; ssl_certificate_key $acme_certificate_key;",
            ),
            "\"$acme_certificate\" is empty: the server has no acme_certificate",
        ),
        (
            server(
                "listen 443 ssl; acme_certificate one a.example; ssl_certificate $acme_certificate; ssl_certificate_key ca.pem;",
            ),
            "the key of \"$acme_certificate\" cannot be \"ca.pem\"",
        ),
        (
            server("acme_certificate one a.example keys=$live;"),
            "\"a.example\" beside \"keys=$live\": hosts on demand are not named here",
        ),
        (
            server("acme_certificate one keys=$live ask=http://x/;"),
            "\"acme_certificate\" directive is duplicate",
        ),
        (server("acme_certificate one keys=live;"), "invalid variable in \"keys=live\""),
        (
            server("acme_certificate one keys=$live;"),
            "\"keys=$live\": there is no switch with the variable $live",
        ),
        (
            server("acme_certificate one keys=$tenant;")
                + "upstream blue { server 127.0.0.1:1; } switch $http_x $tenant { default blue; }",
            "\"keys=$tenant\": the keys of this switch are no hosts",
        ),
        (server("acme_certificate one ask=ftp://x/;"), "invalid address in \"ask=ftp://x/\""),
        (server("acme_certificate one ask=https:///x;"), "invalid address in \"ask=https:///x\""),
        (server("acme_certificate one ask=http://a@x/;"), "invalid address in \"ask=http://a@x/\""),
        ("acme_shared_zone zone=x;".to_owned(), "invalid parameter \"zone=x\""),
    ] {
        let faults = built(&http).err().unwrap_or_default();
        assert!(faults.first().is_some_and(|first| first.starts_with(fault)), "{http}: {faults:?}");
    }
}

#[test]
fn hosts_on_demand_are_allowed_by_a_switch_or_a_server() {
    let config = built(&format!(
        "server {{ acme_certificate one keys=$live key=rsa; }}
         server {{ acme_certificate one ask=http://127.0.0.1:9000/may?for=tls; }}
         server {{ server_name a.example; acme_certificate one; }}
         upstream blue {{ server 127.0.0.1:1; }}
         switch $http_x $tenant {{ default blue; state memory; }}
         switch $host $live {{ default blue; state memory; }}
         acme_issuer one {{ {URI} on_demand_limit 5; }}"
    ))
    .unwrap();
    let acme = &config.http.acme;
    let of = |server| acme.on_demand_of_server(server);
    assert_eq!(acme.issuers[0].on_demand_per_hour, 5);
    assert_eq!(of(0).unwrap().permission, Permission::Keys(1));
    assert_eq!(of(1).unwrap().permission, Permission::Ask("http://127.0.0.1:9000/may?for=tls".to_owned()));
    assert!(of(2).is_none() && acme.of_server(0).is_none() && acme.of_server(2).is_some());
    let wanted = of(0).unwrap().wanted("shop.example.com");
    assert_eq!(wanted.identifiers, [Identifier::Dns("shop.example.com".to_owned())]);
    assert_eq!((wanted.key, &*wanted.id), (KeyKind::Rsa2048, "one rsa:2048 on-demand shop.example.com"));
}

#[test]
fn wildcards_are_ordered_with_a_hook() {
    let issuer = format!("acme_issuer one {{ {URI} challenge dns; dns_hook hook -x; }}");
    let http = format!("{issuer} server {{ server_name *.A.example; acme_certificate one; }}");
    let config = built(&http).unwrap();
    let acme = &config.http.acme;
    assert_eq!(acme.certificates[0].identifiers, [Identifier::Dns("*.a.example".to_owned())]);
    let words = ["/etc/pointsman/hook", "-x"].map(str::to_owned).to_vec();
    assert_eq!(acme.issuers[0].dns_hook.as_ref(), Some(&words));
    let strict = with_files(&format!("sandbox strict; http {{ {http} }}"), &[]).unwrap_err();
    assert!(
        strict[0].starts_with("\"sandbox strict\" forbids the \"dns_hook\" of the issuer \"one\""),
        "{strict:?}"
    );
}

#[test]
fn regular_expressions_are_left_out_of_an_order() {
    let config = built(&format!(
        "acme_issuer one {{ {URI} }} server {{ server_name ~^x a.example; acme_certificate one; }}"
    ));
    let config = config.unwrap();
    assert_eq!(config.http.acme.certificates[0].identifiers, [Identifier::Dns("a.example".to_owned())]);
}

#[test]
fn challenge_is_answered_whatever_the_server_does() {
    let config = built(&format!(
        "acme_issuer one {{ {URI} }} server {{ listen 80; deny all; return 301 https://x; }}"
    ))
    .unwrap();
    let ask = |method: &str, path: &str| {
        let mut host = TestHost::new();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut exchange = exchange(&config, &mut host, &request);
        let mut env = Env { config: &config, host: &mut host };
        match phase::advance(&mut exchange, &mut env) {
            Step::Serve(Content::Bytes(text)) if exchange.response.status == 200 => Some(text),
            _ => None,
        }
    };
    let path = "/.well-known/acme-challenge/token";
    assert_eq!(ask("GET", path), None);
    config.http.acme.live.set_answer("token", Some("token.key"));
    assert_eq!(ask("GET", path).as_deref(), Some(&b"token.key"[..]));
    for (method, path) in [("POST", path), ("GET", "/token"), ("GET", "/.well-known/acme-challenge/other")] {
        assert_eq!(ask(method, path), None, "{method} {path}");
    }
    config.http.acme.live.set_answer("token", None);
    assert_eq!(ask("GET", path), None);
}

#[test]
fn updates_of_a_zone_are_read() {
    let update = "dns_update [2001:db8::1]:5353 key=acme.key zone=example wait=5s;";
    let config = built(&format!("acme_issuer one {{ {URI} challenge dns-01; {update} }}")).unwrap();
    let update = config.http.acme.issuers[0].dns_update.as_ref().unwrap();
    assert_eq!(update.server, "[2001:db8::1]:5353".parse().unwrap());
    assert_eq!((update.zone.as_deref(), &*update.key_name, update.wait_ms), (Some("example"), "acme", 5000));
    let config =
        built(&format!("acme_issuer one {{ {URI} challenge dns-01; dns_update 192.0.2.1 key=acme.key; }}"));
    let update = config.unwrap().http.acme.issuers[0].dns_update.clone().unwrap();
    assert_eq!((update.server, update.zone), ("192.0.2.1:53".parse().unwrap(), None));
}
