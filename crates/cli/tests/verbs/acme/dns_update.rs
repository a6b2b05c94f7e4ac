//! Wildcards proven by updates of a real name server, Knot, which Pebble asks. Without it (Debian's package `knot`) the test is
//! skipped, but in CI.

use super::*;
use std::net::{TcpListener, UdpSocket};

const SECRET: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0IG9mIHRoaXMgcHJvZ3JhbQ==";

/// A name server of the zone `example`, which updates take a key to.
struct NameServer {
    _process: ProcessGroup,
    folder: TempDir,
    port: u16,
}

impl NameServer {
    fn start() -> Option<NameServer> {
        let is_there = Command::new("knotd").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !is_there {
            let must = std::env::var("CI").as_deref() == Ok("true");
            assert!(!must, "knot is missing, and CI has a real name server updated");
            eprintln!("skipped: knot is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let port = loop {
            let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                break port;
            }
        };
        let path = folder.path().display();
        let text = format!(
            "server:\n    listen: 127.0.0.1@{port}\n    rundir: \"{path}\"\nlog:\n  - target: stderr\n    any: info\n\
             database:\n    storage: \"{path}/db\"\ncontrol:\n    listen: \"{path}/k\"\n\
             key:\n  - id: acme\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
             acl:\n  - id: may_update\n    key: acme\n    action: update\n\
             template:\n  - id: default\n    storage: \"{path}\"\n    zonefile-sync: -1\n    zonefile-load: whole\n    \
             journal-content: none\n    semantic-checks: off\n\
             zone:\n  - domain: example\n    file: zone\n    acl: may_update\n"
        );
        std::fs::write(folder.path().join("knot.conf"), text).unwrap();
        let zone =
            "$ORIGIN example.\n$TTL 1\n@ SOA ns hostmaster 1 3600 600 86400 1\n@ NS ns\nns A 127.0.0.1\n";
        std::fs::write(folder.path().join("zone"), zone).unwrap();
        let mut knot = Command::new("knotd");
        knot.arg("-c").arg(folder.path().join("knot.conf")).stdout(Stdio::null());
        knot.stderr(std::fs::File::create(folder.path().join("log")).unwrap());
        let process = ProcessGroup::start(&mut knot).unwrap();
        let server = NameServer { _process: process, folder, port };
        wait(&server.folder.path().join("log"), "knot answers", || server.has("ns", "A"));
        Some(server)
    }

    /// Returns true if a name has records of a type.
    fn has(&self, name: &str, kind: &str) -> bool {
        let mut knotc = Command::new("knotc");
        knotc.arg("-s").arg(self.folder.path().join("k")).args(["zone-read", "example", name, kind]);
        let output = output_of(&mut knotc, PATIENCE).unwrap();
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains(kind)
    }
}

#[test]
fn wildcard_is_proven_by_an_update_of_its_zone() {
    let Some(names) = NameServer::start() else { return };
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
