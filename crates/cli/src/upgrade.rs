//! `pointsman upgrade`: replaces the running binary, or changes nothing.
//!
//! Owns the sequence of signals that an administrator of nginx sends by hand
//! (<https://nginx.org/en/docs/control.html>), and the way back from each of its steps. Must never end the old master
//! before the new one serves with all switches.

use crate::client::{ANSWER, Call};
use crate::defaults::{CONF_FILE, PID_FILE, PREFIX};
use crate::error::{Code, Error, say};
use crate::session::{GlobalOptions, Session};
use crate::time_option;
use bstr::ByteSlice;
use clap::Args;
use control::api::types::{self, Switch};
use serde::Serialize;
use server::process::{Disk, ProcessTree, RunningMaster, UpgradeStep, choose_program};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Between two looks at the processes.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a new process that is taken back may finish its requests.
const GRACE: Duration = Duration::from_secs(5);
/// How long it may take to stop at once before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How long an answer may take while two processes serve: one that hangs may have accepted the connection.
const SHORT_ANSWER: Duration = Duration::from_secs(2);
/// How long the output of a test that has ended is waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How many answers in a row must come from the new process before the old one counts as out of the way.
const IN_A_ROW: u32 = 8;

/// Upgrade the running binary without dropping connections
///
/// The new binary first tests the configuration. It is then started beside the old one, on the same sockets; once it
/// answers with every switch at the same revision, the old one finishes its requests and exits. If it does not within the
/// timeout, it is stopped, killed if it hangs, and the old one keeps serving.
#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    /// New binary; by default the file that the running one was started from, as it is now
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// How long the new binary may take until it serves, including its configuration test
    #[arg(long, value_name = "TIME", value_parser = time_option::time, default_value = "60s")]
    timeout: String,
}

/// The outcome of an upgrade.
#[derive(Debug, Serialize)]
struct Done {
    /// The old master.
    old_pid: u32,
    /// The new master.
    new_pid: u32,
    old_version: String,
    new_version: String,
    /// Time until the new one served with all switches, in milliseconds.
    served_ms: u128,
    /// The old one is still finishing its requests.
    old_runs: bool,
}

impl Upgrade {
    pub(crate) fn run(&self, global: &GlobalOptions) -> Result<Code, Error> {
        let global = &global.with_environment();
        let pid_path = pid_path(global)?;
        let old = self.old(&pid_path)?;
        let program = match &self.binary {
            Some(path) => std::path::absolute(path).map_err(|error| usage(path, &error))?,
            None => old
                .program()
                .map_err(|error| refused("no_program", format!("process {}: {error}", old.pid()), ""))?,
        };
        let end = Instant::now() + Duration::from_millis(time_option::ms(&self.timeout));
        test(&program, global, end)?;
        let session = global.session()?;
        let before = status(&session, ANSWER)?;
        would_lose(&before.switches)?;
        let began = Instant::now();
        let new = self.start(old, &pid_path, end)?;
        let now = match healthy(&session, new, &before.switches, end) {
            Ok(status) => status,
            Err(why) => return Err(take_back(old, new, &pid_path, why)),
        };
        let served_ms = began.elapsed().as_millis();
        if let Err(why) = hand_over(&session, old, new, end) {
            return Err(take_back(old, new, &pid_path, why));
        }
        let ended = tell(old, UpgradeStep::Quit).is_err()
            || until(Instant::now() + Duration::from_secs(1), || !old.is_alive());
        let done = Done {
            old_pid: old.pid(),
            new_pid: new.pid(),
            old_version: before.version,
            new_version: now.version,
            served_ms,
            old_runs: !ended,
        };
        say(&done.text(session.json))?;
        Ok(Code::Done)
    }

    fn old(&self, pid_path: &Path) -> Result<RunningMaster, Error> {
        if let (Some(older), Some(newer)) = (RunningMaster::older(pid_path), RunningMaster::named(pid_path)) {
            return Err(refused(
                "upgrading",
                format!("two master processes are running already, {} and {}", older.pid(), newer.pid()),
                "end one of them with the signal QUIT: the old one to keep the new one, or the other way round",
            ));
        }
        RunningMaster::named(pid_path).ok_or_else(|| {
            Error::new(
                Code::Unreachable,
                "not_running",
                format!("the process named in {} is not running", pid_path.display()),
                "is pointsman running with this configuration? choose another with -p and -c",
            )
        })
    }

    /// Starts the new process. If it exits at once, the old one logs why; if it hangs, the old one ends it.
    fn start(&self, old: RunningMaster, pid_path: &Path, until: Instant) -> Result<RunningMaster, Error> {
        if let Some(binary) = &self.binary {
            let path = std::path::absolute(binary).map_err(|error| usage(binary, &error))?;
            choose_program(pid_path, &path).map_err(|error| {
                let text =
                    format!("cannot write the name of the new binary beside {}: {error}", pid_path.display());
                refused("no_choice", text, "run it as the user of the master process")
            })?;
        }
        let limit = until.saturating_duration_since(Instant::now());
        tell(old, UpgradeStep::ChangeBinary(limit))?;
        let mut begun = false;
        // The old one has a little longer, to end one that has begun and hangs.
        while Instant::now() < if begun { until + GRACE } else { until } {
            begun |= RunningMaster::older(pid_path) == Some(old);
            match RunningMaster::named(pid_path) {
                Some(new) if new != old => return Ok(new),
                // The old one has its pid file back.
                Some(_) if begun => break,
                _ => std::thread::sleep(PAUSE),
            }
        }
        let text = match RunningMaster::named(pid_path) {
            Some(_) => "the new process did not start; the old one keeps serving",
            None => "the new process did not start and has not exited; the old one keeps serving beside it",
        };
        Err(refused("not_started", text, LOG))
    }
}

const LOG: &str = "see the error log";

impl Done {
    fn text(&self, json: bool) -> String {
        if json {
            return format!("{}\n", serde_json::to_string(self).unwrap_or_default());
        }
        let mut text = format!(
            "pointsman {} (process {}) serves after {} ms; it replaces {} (process {})\n",
            self.new_version, self.new_pid, self.served_ms, self.old_version, self.old_pid
        );
        if self.old_runs {
            text.push_str(&format!("  process {} finishes its requests, then exits\n", self.old_pid));
        }
        text
    }
}

/// Returns the path of the master's pid file.
fn pid_path(global: &GlobalOptions) -> Result<PathBuf, Error> {
    let (prefix, conf_file, globals) = global.configuration();
    let prefix = std::path::absolute(prefix.unwrap_or(PREFIX.as_ref()))
        .map_err(|error| Error::usage(format!("cannot find the current directory: {error}"), ""))?;
    let conf_file = prefix.join(conf_file.unwrap_or(CONF_FILE.as_ref()));
    let parsed = conf::parse_with_option(&conf_file, globals.map(OsStrExt::as_bytes), &Disk);
    let directive = parsed.tree.directives.iter().rev().find(|directive| directive.name.value == "pid");
    let path = directive.and_then(|directive| directive.args.first());
    Ok(prefix.join(path.map_or_else(|| PID_FILE.into(), |path| path.value.to_path_lossy().into_owned())))
}

/// Has the new binary test the configuration that the old one runs with.
fn test(program: &Path, global: &GlobalOptions, end: Instant) -> Result<(), Error> {
    let cannot_run = |error: std::io::Error| {
        let text = format!("cannot run {}: {error}", program.display());
        refused("no_program", text, "choose another with --binary")
    };
    let mut command = Command::new(program);
    command.args(["-t", "-q"]).args(global.command_line()).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(cannot_run)?;
    let output = child.stderr.take();
    // Read beside the wait: a full pipe would hold it up, and what it has started may keep the pipe open.
    let (sender, text) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = output.map(|mut output| output.read_to_end(&mut bytes));
        sender.send(bytes)
    });
    let mut status = None;
    let exited = until(end, || {
        status = child.try_wait().transpose();
        status.is_some()
    });
    if !exited {
        ProcessTree::of(child.id()).kill();
        let _ = child.wait();
        let text =
            format!("{} did not test the configuration in time; nothing has changed", program.display());
        return Err(refused("test_hangs", text, "run it with -t, or give it more time with --timeout"));
    }
    if status.transpose().map_err(cannot_run)?.is_some_and(|status| status.success()) {
        return Ok(());
    }
    let words = text.recv_timeout(LAST_WORDS).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    if words.is_empty() {
        let text = format!("{} fails with -t, and says nothing; nothing has changed", program.display());
        return Err(refused("config_refused", text, "name a binary of pointsman"));
    }
    let text = format!("{} rejects the configuration; nothing has changed\n{words}", program.display());
    Err(refused("config_refused", text, "fix the configuration, and test it with this program and -t"))
}

fn status(session: &Session, limit: Duration) -> Result<types::Status, Error> {
    let call = Call { limit, ..Call::get("/v1/status") };
    Ok(session.client.ask::<types::Status>(&call)?.0)
}

/// Fails if there is what no other process could take over: holds and tables in memory only, and holds of orders under way.
fn would_lose(switches: &[Switch]) -> Result<(), Error> {
    for switch in switches {
        let is_lost = |hold: &&types::Hold| hold.of_order || switch.state == "memory";
        if let Some(hold) = switch.holds.iter().find(is_lost) {
            let key = crate::format::key_text(&hold.key);
            let (text, remedy) = match hold.of_order {
                true => (
                    format!(
                        "an order of {} waits with a hold of {key}, and a new process would not go on with it",
                        hold.actor
                    ),
                    format!("wait until it has ended, or cancel it: pointsman release {key}"),
                ),
                false => (
                    format!(
                        "requests of \"{key}\" are held, and a new process would not hold them: the switch has `state memory`"
                    ),
                    format!("release it first: pointsman release {key}"),
                ),
            };
            return Err(refused("held", text, &remedy));
        }
        if switch.state == "memory" && switch.revision > 0 {
            let text = format!("the table of switch \"{}\" is in memory only and would be lost", switch.name);
            return Err(refused(
                "in_memory",
                text,
                "give it a file with `state`, or restart and switch again",
            ));
        }
    }
    Ok(())
}

/// Waits until the new master's worker answers with all switches. Both masters' workers answer meanwhile.
fn healthy(
    session: &Session,
    new: RunningMaster,
    before: &[Switch],
    until: Instant,
) -> Result<types::Status, String> {
    let mut why = "it does not answer".to_owned();
    while Instant::now() < until {
        if !new.is_alive() {
            return Err("it has exited".to_owned());
        }
        match status(session, SHORT_ANSWER) {
            Ok(status) if status.parent_pid == new.pid() => match missing(before, &status.switches) {
                None => return Ok(status),
                Some(what) => why = what,
            },
            Ok(_) => {}
            Err(fault) => why = fault.problem.text,
        }
        std::thread::sleep(PAUSE);
    }
    Err(why)
}

/// Returns what the new process lacks of the switches that the old one has.
fn missing(before: &[Switch], now: &[Switch]) -> Option<String> {
    before.iter().find_map(|old| match now.iter().find(|new| new.name == old.name) {
        None => Some(format!("it has no switch \"{}\"", old.name)),
        Some(new) if new.revision < old.revision => Some(format!(
            "its switch \"{}\" is at revision {} instead of {}",
            old.name, new.revision, old.revision
        )),
        Some(_) => None,
    })
}

/// Ends the old workers, and checks that the new ones serve without them.
fn hand_over(
    session: &Session,
    old: RunningMaster,
    new: RunningMaster,
    until: Instant,
) -> Result<(), String> {
    old.signal(UpgradeStep::StopWorkers)
        .map_err(|error| format!("cannot signal the old process: {error}"))?;
    let mut in_a_row = 0;
    while Instant::now() < until {
        if !new.is_alive() {
            return Err("it has exited".to_owned());
        }
        match status(session, SHORT_ANSWER) {
            Ok(status) if status.parent_pid == new.pid() => in_a_row += 1,
            _ => in_a_row = 0,
        }
        if in_a_row >= IN_A_ROW {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Err("it does not answer without the old workers".to_owned())
}

/// Ends the new process; the old one keeps serving, with new workers if its own have ended.
fn take_back(old: RunningMaster, new: RunningMaster, pid_path: &Path, why: String) -> Error {
    // Once the new one has exited, the old one recovers by itself, and HUP would be a reload.
    if new.is_alive() {
        let _ = old.signal(UpgradeStep::StartWorkers);
        let _ = new.signal(UpgradeStep::Quit);
        let tree = new.tree();
        if !until(Instant::now() + GRACE, || !new.is_alive()) {
            let _ = new.signal(UpgradeStep::Stop);
            if !until(Instant::now() + STOP_GRACE, || !new.is_alive()) {
                tree.kill();
            }
        }
    }
    let back =
        until(Instant::now() + Duration::from_secs(10), || RunningMaster::named(pid_path) == Some(old));
    let text = match back {
        true => format!("the new process did not serve: {why}; the old one ({}) keeps serving", old.pid()),
        false => format!(
            "the new process did not serve: {why}; it has not exited, and the old one ({}) runs beside it",
            old.pid()
        ),
    };
    refused("not_healthy", text, LOG)
}

fn until(end: Instant, mut is: impl FnMut() -> bool) -> bool {
    while !is() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

fn tell(process: RunningMaster, step: UpgradeStep) -> Result<(), Error> {
    process.signal(step).map_err(|error| {
        let text = format!("cannot signal process {}: {error}", process.pid());
        refused("no_signal", text, "run it as the user of the master process")
    })
}

fn refused(name: &str, text: impl Into<String>, remedy: &str) -> Error {
    Error::new(Code::Refused, name, text, remedy)
}

fn usage(path: &Path, error: &std::io::Error) -> Error {
    Error::usage(format!("{}: {error}", path.display()), "")
}
