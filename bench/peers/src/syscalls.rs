//! System calls per request, counted by strace in separate runs, because it slows a server down too much to time it.
//!
//! It also counts how many connections each thread of a server accepted.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use testkit::proc::{threads, tree};

const TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

/// The calls that are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Traced {
    /// All system calls, by name.
    ByName,
    /// Accepted connections, by thread.
    AcceptsByThread,
}

/// strace, attached to all threads of a server.
pub(crate) struct Tracer {
    child: Child,
    output: PathBuf,
    what: Traced,
}

impl Tracer {
    /// Attaches to a process and its descendants, and waits until each thread is traced.
    pub(crate) fn attach(root: u32, what: Traced) -> Result<Tracer, String> {
        let output = std::env::temp_dir().join(format!("bench-strace-{}.txt", std::process::id()));
        let mut command = Command::new("strace");
        command.arg("-f").arg("-o").arg(&output);
        match what {
            Traced::ByName => command.arg("-c"),
            Traced::AcceptsByThread => command.args(["-e", "trace=accept,accept4"]),
        };
        let pids = tree(root);
        for pid in &pids {
            command.args(["-p", &pid.to_string()]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.map_err(|e| format!("strace: {e}"))?;
        let mut tracer = Tracer { child, output, what };
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let mut all = pids.iter().flat_map(|pid| threads(*pid).into_iter().map(move |t| (*pid, t)));
            if all.all(|(pid, thread)| is_traced(pid, thread)) {
                return Ok(tracer);
            }
            if let Ok(Some(status)) = tracer.child.try_wait() {
                return Err(format!("strace may not attach to the server ({status})"));
            }
            if Instant::now() > deadline {
                return Err("strace does not attach to the server".to_owned());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Detaches from the server; returns the counts.
    pub(crate) fn finish(mut self) -> Result<BTreeMap<String, u64>, String> {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, Signal::SIGINT).map_err(|e| format!("strace: {e}"))?;
        self.child.wait().map_err(|e| format!("strace: {e}"))?;
        let text = fs::read_to_string(&self.output).map_err(|e| format!("strace: {e}"))?;
        Ok(match self.what {
            Traced::ByName => counts_by_name(&text),
            Traced::AcceptsByThread => accepts_by_thread(&text),
        })
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.output);
    }
}

fn is_traced(pid: u32, thread: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("TracerPid:")).is_some_and(|tracer| tracer.trim() != "0")
}

/// Reads the table of `strace -c`: counts are in the fourth column, names in the last.
fn counts_by_name(text: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(first), Some(name)) = (words.first(), words.last()) else { continue };
        if first.parse::<f64>().is_ok()
            && *name != "total"
            && let Some(Ok(count)) = words.get(3).map(|count| count.parse::<u64>())
        {
            *counts.entry((*name).to_owned()).or_default() += count;
        }
    }
    counts
}

/// Reads lines such as `71 accept4(…) = 9`, or `71 <... accept4 resumed> …) = 9` if another thread came between.
fn accepts_by_thread(text: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let Some((_, result)) = call.rsplit_once(" = ") else { continue };
        let taken = result.split_whitespace().next().is_some_and(|result| result.parse::<u32>().is_ok());
        if call.contains("accept") && taken {
            *counts.entry(thread.to_owned()).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let text = "% time     seconds  usecs/call     calls    errors syscall\n\
                    ------ ----------- ----------- --------- --------- ----------------\n\
                    \x2060.00    0.006000           3      2000           writev\n\
                    \x2040.00    0.004000           2      2001         1 recvfrom\n\
                    ------ ----------- ----------- --------- --------- ----------------\n\
                    100.00    0.010000           2      4001         1 total\n";
        let counts = counts_by_name(text);
        assert_eq!(counts.len(), 2);
        assert_eq!((counts["writev"], counts["recvfrom"]), (2000, 2001));
    }

    #[test]
    fn connections_are_counted_for_the_thread_that_accepted_them() {
        let text = "71 accept4(6, {sa_family=AF_INET}, [112 => 16], SOCK_NONBLOCK) = 9\n\
                    72 accept4(6,  <unfinished ...>\n\
                    71 accept4(6, 0x7ffc, [112], SOCK_NONBLOCK) = -1 EAGAIN (Resource temporarily unavailable)\n\
                    72 <... accept4 resumed>{sa_family=AF_INET}, [112 => 16], SOCK_NONBLOCK) = 10\n\
                    72 accept4(6, {sa_family=AF_INET}, [112 => 16], SOCK_NONBLOCK) = 11\n";
        let counts = accepts_by_thread(text);
        assert_eq!((counts["71"], counts["72"]), (1, 2));
    }
}
