//! The dashboard, as people use it: our own binary serves it, a real Chromium shows it. What other pages and other users try
//! comes over plain sockets.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod acts;
mod browser;
mod live;
mod looks;
mod ways_in;

use browser::{Browser, PATIENCE, until};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;
use testkit::{ProcessGroup, output_of};

/// A server with a dashboard and two groups of two servers each. Its tokens are `act` of the operator olga and `look` of the
/// viewer eve.
struct Site {
    /// Dropped first: its files are in the folder.
    process: Option<ProcessGroup>,
    folder: TempDir,
    port: testkit::ports::Port,
    /// Where the servers of blue and of green listen.
    servers: [testkit::ports::Port; 4],
}

fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
    command
        .arg("-p")
        .arg(folder)
        .args(words)
        .env_remove("SUDO_USER")
        .env_remove("SUDO_UID")
        .env_remove("POINTSMAN_TOKEN");
    command
}

fn hashed(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Site {
    /// Starts it with these directives in the switch `$live`, and these beside it.
    fn start(switch: &str, beside: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        for name in ["conf", "logs", "run"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let reserve = || testkit::ports::reserve().unwrap();
        let mut site =
            Site { process: None, folder, port: reserve(), servers: std::array::from_fn(|_| reserve()) };
        site.write_tokens(&[("olga", "operator", "act"), ("eve", "viewer", "look")]);
        let user = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(user.stdout).unwrap();
        let at = |number: usize| site.server(number);
        let origin = |number: usize, group: &str| {
            format!("server {{ listen {}; location / {{ return 200 {group}; }} }}", at(number))
        };
        let conf = format!(
            "user {}; worker_processes 2; daemon off; error_log logs/error.log notice; events {{}}
             http {{
                 access_log off; control_tokens tokens;
                 upstream blue {{ server {}; server {}; }}
                 upstream green {{ server {}; server {}; }}
                 switch $host $live {{ default blue; {switch} }}
                 {beside}
                 server {{
                     listen 127.0.0.1:{};
                     location / {{ proxy_pass http://$live; }}
                     location /dashboard/ {{ control_ui; }}
                 }}
                 {} {} {} {}
             }}",
            user.trim(),
            at(0),
            at(1),
            at(2),
            at(3),
            site.port.number,
            origin(0, "blue"),
            origin(1, "blue"),
            origin(2, "green"),
            origin(3, "green"),
        );
        std::fs::write(site.folder.path().join("conf/nginx.conf"), conf).unwrap();
        site.begin();
        site
    }

    /// Returns the address of a server: 0 and 1 are blue's, 2 and 3 green's.
    fn server(&self, number: usize) -> String {
        format!("127.0.0.1:{}", self.servers[number].number)
    }

    fn write_tokens(&self, tokens: &[(&str, &str, &str)]) {
        let lines = tokens.iter().map(|(name, role, token)| format!("{name}:{role}:{}\n", hashed(token)));
        std::fs::write(self.folder.path().join("conf/tokens"), lines.collect::<String>()).unwrap();
    }

    /// Starts the server, for the first time or again.
    fn begin(&mut self) {
        let mut process = command(self.folder.path(), &[]);
        process.stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(ProcessGroup::start(&mut process).unwrap());
        until("it serves", || self.say(&["list"]).is_ok());
    }

    fn end(&mut self) {
        self.process = None;
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}/dashboard/", self.port.number)
    }

    /// Returns the output of a verb, or what it says of its failure.
    fn say(&self, words: &[&str]) -> Result<String, String> {
        let output = output_of(&mut command(self.folder.path(), words), PATIENCE).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() {
            Ok(text(output.stdout))
        } else {
            Err(text(output.stdout) + &text(output.stderr))
        }
    }

    fn json(&self, words: &[&str]) -> Value {
        let words = [words, &["--json"]].concat();
        serde_json::from_str(&self.say(&words).unwrap()).unwrap()
    }

    /// Returns the newest commit.
    fn last_commit(&self) -> Value {
        self.json(&["history"])["commits"][0].clone()
    }

    /// Requests of a key, one after another.
    fn ask(&self, host: &str, requests: usize) {
        for _ in 0..requests {
            let answer = http(
                self.port.number,
                &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
            );
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
    }

    /// Returns a browser that is logged in.
    fn browser(&self, test: &str, token: &str) -> Option<Browser> {
        let browser = Browser::start(test, 1400, 1000)?;
        browser.go(&self.address());
        self.log_in(&browser, token);
        browser.until("document.querySelector('#connection.good')");
        Some(browser)
    }

    fn log_in(&self, browser: &Browser, token: &str) {
        browser.type_into("input[name=secret]", token);
        browser.click("button[type=submit]");
        browser.until("document.querySelector('#tabs a')");
    }

    /// Starts `pointsman dashboard`; returns it with its port and its secret.
    fn dashboard(&self, words: &[&str]) -> LocalDashboard {
        let words = [&["dashboard"], words].concat();
        let mut command = command(self.folder.path(), &words);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = ProcessGroup::start(&mut command).unwrap();
        let mut address = String::new();
        BufReader::new(process.child().stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        let (place, secret) = address.split_once("/#secret=").unwrap_or_else(|| panic!("{address}"));
        let port = place.strip_prefix("http://127.0.0.1:").unwrap().parse().unwrap();
        LocalDashboard { process, port, secret: secret.to_owned(), address }
    }
}

/// `pointsman dashboard`.
struct LocalDashboard {
    process: ProcessGroup,
    port: u16,
    secret: String,
    address: String,
}

/// An answer.
struct Answer {
    status: u16,
    head: String,
    text: String,
}

/// Returns a request over a connection of its own, and its answer. A connection that is closed without one has status 0.
fn http(port: u16, request: &str) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    // What is refused may be closed while it is sent.
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_lowercase(), text: body.to_owned() }
}
