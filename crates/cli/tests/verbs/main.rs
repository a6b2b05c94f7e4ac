//! The verbs, as people and scripts call them: our own binary asks a server that our own binary is.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod acme;
mod answers;
mod backups;
mod control_tls;
mod crash;
mod discovery;
mod documented;
mod early_data;
mod edits;
mod fleets;
mod gateways;
mod grpc;
mod heads;
mod health;
mod hints;
mod holds;
mod http2;
mod http2_hostile;
mod identity;
mod journal;
mod kept;
mod name_server;
mod past;
mod reload;
mod served;
mod servers;
mod shown;
mod stapling;
mod starter;
mod streams;
mod terminal;
mod trace;
mod upgrade;
mod waits;
mod windows;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::{ProcessGroup, output_of};

/// The longest time that anything may take which happens at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether something has happened.
const GLANCE: Duration = Duration::from_millis(2);

/// The output of a verb.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }

    /// Returns the output of a verb that succeeded.
    fn done(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }
}

fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
    command.arg("-p").arg(folder).args(words).env_remove("SUDO_USER").env_remove("POINTSMAN_TOKEN");
    command
}

fn said(output: Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn say(folder: &Path, words: &[&str]) -> Said {
    said(output_of(&mut command(folder, words), PATIENCE).unwrap())
}

/// A server with two groups: blue answers nothing until it is told to, green answers at once.
struct Server {
    /// Dropped first: its files are in the folder.
    _process: ProcessGroup,
    folder: TempDir,
    blue: UnixListener,
}

impl Server {
    /// With these directives in the switch `$live`, and these beside it, where {folder} is the server's.
    fn start(switch: &str, beside: &str) -> Server {
        Server::start_with(switch, beside, &[])
    }

    /// Returns the same, with these variables in its environment.
    fn start_with(switch: &str, beside: &str, environment: &[(&str, &str)]) -> Server {
        let conf = |at: &dyn Fn(&str) -> String, user: &str| {
            let beside = beside.replace("{folder}", at("").trim_end_matches('/'));
            format!(
                "user {}; worker_processes 2; daemon off; events {{}}
             http {{
                 upstream blue {{ server unix:{}; }}
                 upstream green {{ server unix:{}; }}
                 switch $host $live {{ default blue; {switch} }}
                 {beside}
                 server {{
                     listen unix:{};
                     location / {{ proxy_pass http://$live; }}
                     location /control/ {{ control_api; }}
                 }}
                 server {{ listen unix:{}; location / {{ return 200 green; }} }}
             }}",
                user,
                at("blue"),
                at("green"),
                at("front"),
                at("green")
            )
        };
        Server::start_from(conf, environment)
    }

    /// With this configuration, made of the paths of files and the name of the user.
    fn start_from(
        conf: impl Fn(&dyn Fn(&str) -> String, &str) -> String,
        environment: &[(&str, &str)],
    ) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        for name in ["conf", "logs", "run"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let blue = UnixListener::bind(at("blue")).unwrap();
        // The user who starts the tests owns the folder.
        let user = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(user.stdout).unwrap();
        let conf = conf(&at, user.trim());
        std::fs::write(folder.path().join("conf/nginx.conf"), conf).unwrap();
        let mut process = command(folder.path(), &[]);
        process.envs(environment.iter().copied()).stderr(Stdio::null());
        let process = ProcessGroup::start(&mut process).unwrap();
        blue.set_nonblocking(true).unwrap();
        let server = Server { _process: process, folder, blue };
        let socket = server.path("run/pointsman.sock");
        server.until("it listens", || UnixStream::connect(&socket).is_ok());
        server.until("it serves", || server.say(&["list"]).code == 0);
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn say(&self, words: &[&str]) -> Said {
        say(self.folder.path(), words)
    }

    /// Returns a connection on which no read waits forever.
    fn connect(&self) -> UnixStream {
        bounded(UnixStream::connect(self.path("front")).unwrap())
    }

    /// Returns the next connection of the server to blue.
    fn asked_blue(&self) -> UnixStream {
        let mut asked = None;
        self.until("blue is asked", || {
            asked = self.blue.accept().ok();
            asked.is_some()
        });
        let (stream, _) = asked.unwrap();
        stream.set_nonblocking(false).unwrap();
        bounded(stream)
    }

    /// Returns a connection with a request that has no answer yet.
    fn ask(&self, host: &str) -> UnixStream {
        let mut stream = self.connect();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Returns a request and its answer.
    fn get(&self, host: &str) -> String {
        let mut text = String::new();
        self.ask(host).read_to_string(&mut text).unwrap();
        text
    }

    /// Kills the worker process, and waits for the one that takes its place.
    fn replace_worker(&self) {
        let pid = self.say(&["status", "--json"]).json()["pid"].clone();
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
        self.until("the next worker", || {
            let said = self.say(&["status", "--json"]);
            said.code == 0 && said.json()["pid"] != pid
        });
    }

    fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is() {
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.path("logs/error.log")).unwrap_or_default();
                panic!("not in time: {what}\n{log}");
            }
            std::thread::sleep(GLANCE);
        }
    }
}

/// Makes a read or a write fail that takes too long.
fn bounded(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits for the end of what a test has started.
fn end_of(process: &ProcessGroup) -> i32 {
    process.wait(PATIENCE).expect("it does not end")
}
