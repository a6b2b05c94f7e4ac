//! Wildcards proven by updates of a real name server, Knot, which Pebble asks. Without it (Debian's package `knot`) the test is
//! skipped, but in CI.

use super::*;
use crate::name_server::{NameServer, SECRET};

#[test]
fn wildcard_is_proven_by_an_update_of_its_zone() {
    let Some(names) = NameServer::start("") else { return };
    let test = "wildcard_is_proven_by_an_update_of_its_zone";
    let resolver = format!("127.0.0.1:{}", names.port);
    let Some(pebble) = Pebble::start_with(test, 3600, "", Some(&resolver)) else { return };
    let key = |name: &str, secret: &str| {
        let text = format!("key \"acme\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{secret}\";\n}};\n");
        std::fs::write(pebble.path(name), text).unwrap();
        pebble.path(name).display().to_string()
    };
    let (right, wrong) = (key("right.key", SECRET), key("wrong.key", "b3RoZXI="));
    let update = |key: &str, more: &str| format!("challenge dns-01; dns_update {resolver} key={key} {more};");
    let site = Site::start(&format!(
        "{} {} {} {} {}",
        pebble.issuer("one", pebble.listen.number, &update(&right, "")),
        pebble.issuer("two", pebble.listen.number, &update(&wrong, "zone=example")),
        server(&pebble.tls, "a.example *.a.example", "one"),
        server(&pebble.tls, "b.example", "two"),
        server(&pebble.tls, "c.elsewhere", "one"),
    ));
    let authorities = pebble.authorities();
    for name in ["a.example", "any.a.example"] {
        site.until(name, || certificate_at(pebble.tls.number, name, &authorities).is_ok());
    }
    site.until("its records are removed", || !names.has("_acme-challenge.a", "TXT"));
    let said = |name: &str, words: &str| {
        let begin = format!(
            "no certificate for {name}: the name server {resolver} did not take the record of _acme-challenge.{name}: "
        );
        site.until(words, || {
            site.log()
                .lines()
                .any(|line| line.split_once(&begin).is_some_and(|(_, why)| why.starts_with(words)))
        });
    };
    said("b.example", "it answers NOTAUTH (BADSIG: the secret is another one)");
    said("c.elsewhere", "it does not say which zone the name is in: give it by zone=");
}
