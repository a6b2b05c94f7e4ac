//! A server for hostile messages: its configuration, its process, and a socket for each message on either side.
//!
//! Every message has a server block and an origin of its own, so that many can be under way at once and none sees
//! another's connections. Sockets are unix sockets: there are no ports to run out of.

use std::fmt::Write as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::connection::PATIENCE;
use crate::process::{Binary, Setup, command, until};
use crate::process_group::ProcessGroup;
use crate::test_dir::TestDir;

use super::exchange::{self, Haste};
use super::judge::HostileOutcome;
use super::recorder::RecordingOrigin;
use super::table::Hostile;
use crate::message;

/// How the server handles request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are read whole before the origin sees anything.
    Buffered,
    /// They are passed on while they arrive.
    Streamed,
    /// The same, and all goes through a second server, which is spoken to in HTTP/2.
    OverHttp2,
}

/// The program under test.
#[derive(Clone, Debug)]
pub enum Program {
    /// A server that reads nginx.conf.
    Nginx(Binary),
    /// HAProxy.
    HaProxy(PathBuf),
}

/// A server, and its name in the page and the reports.
#[derive(Clone, Debug)]
pub struct NamedProgram {
    /// With the version, if it is known.
    pub name: String,
    /// The program.
    pub program: Program,
}

/// A running server with a place (a listener and an origin) for each message.
pub struct HostileServer {
    /// Dropped first: it uses the directory.
    group: ProcessGroup,
    dir: TestDir,
}

impl HostileServer {
    /// Starts the server; `conf` has the directives of each place.
    ///
    /// # Errors
    /// Those that keep it from listening.
    pub fn start(program: &Program, mode: Mode, conf: &[Vec<String>]) -> Result<HostileServer, String> {
        let dir = TestDir::new("")?;
        let text = match program {
            Program::Nginx(_) => nginx_conf(&dir, mode, conf),
            Program::HaProxy(_) => haproxy_conf(&dir, conf.len()),
        };
        dir.write("conf/nginx.conf", text.as_bytes(), 0o644)?;
        let mut command = match program {
            Program::Nginx(binary) => {
                command(Setup { binary, dir: &dir, needs: &[], conf: "conf/nginx.conf", daemon: false })
            }
            Program::HaProxy(path) => {
                let mut command = Command::new(path);
                command.args(["-db", "-f"]).arg(dir.prefix().join("conf/nginx.conf"));
                command.env_clear().stdin(Stdio::null());
                command
            }
        };
        let create = |name: &str| std::fs::File::create(dir.prefix().join(name)).map_err(|e| e.to_string());
        command.stdout(create("stdout")?).stderr(create("stderr")?);
        let group = ProcessGroup::start(&mut command).map_err(|e| format!("{program:?}: {e}"))?;
        let server = HostileServer { group, dir };
        let deadline = Instant::now() + PATIENCE;
        for place in 0..conf.len() {
            let front = server.front(place);
            let open = until(deadline, || {
                let gone = server.group.code().is_some();
                (gone || UnixStream::connect(&front).is_ok()).then_some(!gone)
            });
            if open != Some(true) {
                return Err(format!("it does not listen\n{}", server.evidence()));
            }
        }
        Ok(server)
    }

    fn front(&self, place: usize) -> PathBuf {
        self.dir.prefix().join(format!("f{place}"))
    }

    /// Listens where the server looks for the origin of a place.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn origin(
        &self,
        place: usize,
        answer: Option<Vec<u8>>,
        closes: bool,
    ) -> Result<RecordingOrigin, String> {
        let path = self.dir.prefix().join(format!("o{place}"));
        RecordingOrigin::start(&path, answer, closes).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Sends bytes to a place and reads the answers; `methods` are those of the requests in them.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn exchange(
        &self,
        place: usize,
        bytes: &[u8],
        methods: &[String],
        haste: Haste,
    ) -> Result<exchange::Exchange, String> {
        exchange::exchange(&self.front(place), bytes, methods, haste)
    }

    /// Sends one message to the server. With `quiet` the answers are not known: a silence of this length ends it.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn play(
        &self,
        place: usize,
        hostile: &Hostile,
        quiet: Option<Duration>,
    ) -> Result<HostileOutcome, String> {
        let origin = self.origin(place, hostile.answer.clone(), hostile.closes)?;
        let (strict, _) = message::requests(&hostile.client);
        let methods: Vec<String> = match strict.is_empty() {
            true => hostile.expected.requests.iter().map(|(method, ..)| method.clone()).collect(),
            false => strict.into_iter().map(|request| request.method).collect(),
        };
        let expected = &hostile.expected;
        let haste = match quiet {
            // More bytes would be taken for the rest of it.
            Some(quiet) if expected.end != exchange::End::Waits => Haste::Quiet(quiet),
            _ => Haste::Expecting(expected.answers.len(), expected.end),
        };
        let exchange = self.exchange(place, &hostile.client, &methods, haste)?;
        Ok(HostileOutcome { exchange, record: origin.finish() })
    }

    /// Returns the last lines of the server's logs.
    pub fn evidence(&self) -> String {
        self.dir.evidence()
    }
}

/// Sends every message to its place, many at once; the results are in the order of the messages.
///
/// # Errors
/// Those of messages that could not be sent, with their names.
pub fn play_all(
    server: &HostileServer,
    hostiles: &[&Hostile],
    quiet: Option<Duration>,
    threads: usize,
) -> Result<Vec<HostileOutcome>, String> {
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<Result<HostileOutcome, String>>>> =
        hostiles.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(hostile) = hostiles.get(place) else { return };
                    let outcome = server.play(place, hostile, quiet);
                    *slots[place].lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
                }
            });
        }
    });
    let outcome = |(slot, hostile): (Mutex<Option<Result<HostileOutcome, String>>>, &&Hostile)| {
        let outcome = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.unwrap_or_else(|| Err("not played".to_owned())).map_err(|e| format!("{}: {e}", hostile.name))
    };
    slots.into_iter().zip(hostiles).map(outcome).collect()
}

fn nginx_conf(dir: &TestDir, mode: Mode, conf: &[Vec<String>]) -> String {
    let prefix = dir.prefix().display();
    let buffering = if mode == Mode::Buffered { "on" } else { "off" };
    let mut text = format!(
        "worker_processes 2;\nerror_log logs/error.log info;\nevents {{ worker_connections 4096; }}\nhttp {{\n\
         access_log off;\nclient_header_timeout 5s;\nclient_body_timeout 5s;\nkeepalive_timeout 20s;\n\
         proxy_connect_timeout 5s;\nproxy_read_timeout 5s;\nproxy_next_upstream off;\nproxy_http_version 1.1;\n\
         proxy_request_buffering {buffering};\nproxy_set_header Connection \"\";\nproxy_set_header Host $host;\n"
    );
    for (place, directives) in conf.iter().enumerate() {
        if mode == Mode::OverHttp2 {
            let _ = write!(
                text,
                "upstream u{place} {{ server unix:{prefix}/o{place} max_fails=0; keepalive 4; }}\n\
                 upstream m{place} {{ server unix:{prefix}/m{place} max_fails=0; keepalive 4; }}\n\
                 server {{ listen unix:{prefix}/m{place}; http2 on; location / {{ proxy_pass http://u{place}; }} }}\n\
                 server {{ listen unix:{prefix}/f{place}; {} proxy_http_version 2;\n\
                 location / {{ proxy_pass http://m{place}; }} }}\n",
                directives.join(" ")
            );
            continue;
        }
        let _ = write!(
            text,
            "upstream u{place} {{ server unix:{prefix}/o{place} max_fails=0; keepalive 4; }}\n\
             server {{ listen unix:{prefix}/f{place}; {} location / {{ proxy_pass http://u{place}; }} }}\n",
            directives.join(" ")
        );
    }
    text + "}\n"
}

fn haproxy_conf(dir: &TestDir, places: usize) -> String {
    let prefix = dir.prefix().display();
    let mut text =
        "global\nmaxconn 4096\nnbthread 2\ndefaults\nmode http\ntimeout connect 5s\ntimeout client 5s\n\
                    timeout server 5s\ntimeout http-request 5s\ntimeout http-keep-alive 20s\n"
            .to_owned();
    for place in 0..places {
        let _ = write!(
            text,
            "listen l{place}\nbind unix@{prefix}/f{place} mode 666\nserver s unix@{prefix}/o{place}\n"
        );
    }
    text
}
