//! A real name server for tests, Knot. Without it (Debian's package `knot`) they are skipped, but in CI.

use super::*;
use std::net::{TcpListener, UdpSocket};

/// The secret of the key `acme`, with which the zone may be updated.
pub(super) const SECRET: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0IG9mIHRoaXMgcHJvZ3JhbQ==";

/// A name server of the zone `example`.
pub(super) struct NameServer {
    _process: ProcessGroup,
    folder: TempDir,
    pub(super) port: u16,
}

impl NameServer {
    /// Starts it with these records, which hold for a second.
    pub(super) fn start(records: &str) -> Option<NameServer> {
        let is_there = Command::new("knotd").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !is_there {
            let must = std::env::var("CI").as_deref() == Ok("true");
            assert!(!must, "knot is missing, and CI asks a real name server");
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
        write_zone(folder.path(), records, 1);
        let mut knot = Command::new("knotd");
        knot.arg("-c").arg(folder.path().join("knot.conf")).stdout(Stdio::null());
        knot.stderr(std::fs::File::create(folder.path().join("log")).unwrap());
        let process = ProcessGroup::start(&mut knot).unwrap();
        let server = NameServer { _process: process, folder, port };
        let deadline = Instant::now() + PATIENCE;
        while !server.has("ns", "A") {
            let log = std::fs::read_to_string(server.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "knot does not answer: {log}");
            std::thread::sleep(GLANCE);
        }
        Some(server)
    }

    fn knotc(&self, words: &[&str]) -> Output {
        let mut knotc = Command::new("knotc");
        knotc.arg("-s").arg(self.folder.path().join("k")).args(["-b", "-f"]).args(words);
        output_of(&mut knotc, PATIENCE).unwrap()
    }

    /// Returns true if a name has records of a type.
    pub(super) fn has(&self, name: &str, kind: &str) -> bool {
        let output = self.knotc(&["zone-read", "example", name, kind]);
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains(kind)
    }

    /// Has other records from now on; `serial` grows.
    pub(super) fn set(&self, records: &str, serial: u32) {
        write_zone(self.folder.path(), records, serial);
        let output = self.knotc(&["zone-reload", "example"]);
        assert!(output.status.success(), "{output:?}");
    }
}

fn write_zone(folder: &Path, records: &str, serial: u32) {
    let zone = format!(
        "$ORIGIN example.\n$TTL 1\n@ SOA ns hostmaster {serial} 3600 600 86400 1\n@ NS ns\nns A 127.0.0.1\n{records}\n"
    );
    std::fs::write(folder.join("zone"), zone).unwrap();
}
