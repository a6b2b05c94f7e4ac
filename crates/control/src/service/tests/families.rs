//! One family of a name's addresses fails, or is not answered, while the other goes on: dnsdist in front of Knot DNS.

use super::discovery::{NameServer, World};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// dnsdist, which passes questions on, but those for AAAA records as its file says.
struct Forwarder {
    folder: tempfile::TempDir,
    child: Child,
    address: SocketAddr,
}

impl Forwarder {
    /// Starts it; `None` where it is not installed, but for CI.
    fn start(server: &NameServer) -> Option<Forwarder> {
        let is_there = Command::new("dnsdist").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !is_there {
            let is_ci = std::env::var("CI").as_deref() == Ok("true");
            assert!(!is_ci, "dnsdist is missing, and CI asks a name server that fails for one family");
            println!("skipped: dnsdist is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let address = loop {
            let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            if TcpListener::bind(address).is_ok() {
                break address;
            }
        };
        let text = format!(
            "setLocal('{address}')\nsetSecurityPollSuffix('')\nnewServer({{address='{}', checkName='test.'}})\n\
             getServer(0):setUp()\n\
             addAction(QTypeRule(DNSQType.AAAA), LuaAction(function(question)\n\
             \x20 local file = io.open('{}')\n\
             \x20 if not file then return DNSAction.None, '' end\n\
             \x20 local text = file:read('*l')\n\
             \x20 file:close()\n\
             \x20 if text == 'drop' then return DNSAction.Drop, '' end\n\
             \x20 return DNSAction.ServFail, ''\n\
             end))\n",
            server.address(),
            folder.path().join("mode").display()
        );
        let conf = folder.path().join("dnsdist.conf");
        std::fs::write(&conf, text).unwrap();
        let mut dnsdist = Command::new("dnsdist");
        dnsdist.args(["--supervised", "--disable-syslog", "-C"]).arg(conf);
        let child = dnsdist.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let forwarder = Forwarder { folder, child, address };
        let began = Instant::now();
        // It takes connections when it takes questions.
        while std::net::TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "dnsdist does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(forwarder)
    }

    fn mode(&self) -> PathBuf {
        self.folder.path().join("mode")
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A family that has failed keeps its last good addresses, over a restart too, while the other is followed.
async fn one_family_fails(mode: &str, words: &str) {
    let Some(server) = NameServer::start("app A 10.0.0.1\napp AAAA fd00::1") else { return };
    let Some(forwarder) = Forwarder::start(&server) else { return };
    let world = World::named_at(forwarder.address, "");
    world.until(&["10.0.0.1:81", "[fd00::1]:81"]).await;
    std::fs::write(forwarder.mode(), mode).unwrap();
    server.set("app A 10.0.0.2\napp AAAA fd00::2");
    world.until(&["10.0.0.2:81", "[fd00::1]:81"]).await;
    world.until_said(&format!("app.test could not be resolved ({words})")).await;
    let world = world.restart();
    assert_eq!(world.published(), ["10.0.0.2:81", "[fd00::1]:81"], "kept for the next start");
    server.set("app A 10.0.0.3\napp AAAA fd00::2");
    world.until(&["10.0.0.3:81", "[fd00::1]:81"]).await;
    std::fs::remove_file(forwarder.mode()).unwrap();
    world.until(&["10.0.0.3:81", "[fd00::2]:81"]).await;
    world.until_said("None None").await;
    world.control.stop();
}

#[tokio::test]
async fn a_family_that_fails_keeps_its_addresses() {
    one_family_fails("fail\n", "2: Server failure").await;
}

#[tokio::test]
async fn a_family_that_is_not_answered_keeps_its_addresses() {
    one_family_fails("drop\n", "110: Operation timed out").await;
}
