//! Instructions that a server runs for a request, counted by callgrind: on a machine with other things to do, times cannot tell
//! one in a hundred.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::client::Client;
use crate::server::{Program, SharedDir, until};

/// What runs a program under callgrind, in the directory of a server.
const SCRIPT: &str = "counted";
const COUNTS: &str = "counts";
const CONNECTIONS: usize = 16;
/// The function whose instructions are counted, with those of all that it calls: it serves the requests of a connection, and
/// what the server does beside them, such as adding up a second's figures, is not in it.
const COUNTED: &str = "pointsman_server::downstream::http1::requests::{{closure}}";
/// Requests are counted in windows, of which the cheapest one counts: in the others connections were opened or closed.
const WINDOWS: usize = 6;
const REQUESTS: usize = 640;
const WARM_UP: usize = 8000;

/// Returns true if there is a callgrind.
pub(crate) fn is_there() -> bool {
    let version = Command::new("callgrind_control")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

/// Returns the program as it is run under callgrind in this directory.
pub(crate) fn counted(program: &Program, dir: &SharedDir) -> Result<Program, String> {
    let script = format!(
        "#!/bin/sh\nexec valgrind --quiet --tool=callgrind --instr-atstart=no '--toggle-collect={COUNTED}' --callgrind-out-file='{}' '{}' \"$@\"\n",
        dir.prefix().join(COUNTS).display(),
        program.binary.display()
    );
    dir.write(SCRIPT, script.as_bytes(), 0o755)?;
    Ok(Program { binary: dir.prefix().join(SCRIPT), is_nginx: false })
}

/// The requests to a server under callgrind.
pub(crate) struct Counter {
    clients: Vec<Client>,
    pid: u32,
    counts: PathBuf,
    /// The number of the last file of counts.
    dumps: usize,
}

impl Counter {
    pub(crate) fn connect(dir: &SharedDir, front: SocketAddr, pid: u32) -> Result<Counter, String> {
        let clients = (0..CONNECTIONS).map(|_| Client::connect(front)).collect::<Result<_, _>>()?;
        Ok(Counter { clients, pid, counts: dir.prefix().join(COUNTS), dumps: 0 })
    }

    /// Returns the instructions of a request to the hosts that `host` names.
    pub(crate) fn per_request(&mut self, mut host: impl FnMut() -> String) -> Result<f64, String> {
        self.send(WARM_UP, &mut host)?;
        let mut least = u64::MAX;
        for _ in 0..WINDOWS {
            self.control(&["-i", "on"])?;
            std::thread::sleep(Duration::from_millis(20));
            self.send(REQUESTS, &mut host)?;
            self.control(&["-i", "off"])?;
            self.control(&["-d"])?;
            self.dumps += 1;
            let file = self.counts.with_extension(self.dumps.to_string());
            least = least.min(until("the counts", || total(&fs::read_to_string(&file).ok()?))?);
        }
        Ok(least as f64 / REQUESTS as f64)
    }

    fn send(&mut self, requests: usize, host: &mut impl FnMut() -> String) -> Result<(), String> {
        for _ in 0..requests / CONNECTIONS {
            for client in &mut self.clients {
                client.send_to("/", &host())?;
            }
            for client in &mut self.clients {
                let answer = client.answer()?;
                if answer.status != 200 {
                    return Err(format!("status {}", answer.status));
                }
            }
        }
        Ok(())
    }

    fn control(&self, words: &[&str]) -> Result<(), String> {
        let mut control = Command::new("callgrind_control");
        control.args(words).arg(self.pid.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
        match control.status() {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("callgrind_control {words:?}: {other:?}")),
        }
    }
}

/// Returns the sum in a file of counts, once it is there.
fn total(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}
