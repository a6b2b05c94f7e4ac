//! `pointsman upgrade`: another binary in the place of the one that runs, or nothing changed.
//!
//! Owns the sequence of signals that an administrator of nginx sends by hand
//! (<https://nginx.org/en/docs/control.html>), and the way back at each of its steps. Must never end the old master
//! before the new one has shown that it serves, with all switches.

use crate::client::Call;
use crate::fault::{Code, Fault, say};
use crate::flags;
use crate::terms;
use crate::verbs::{Reach, Session};
use bstr::ByteSlice;
use clap::Args;
use control::api::types::{self, Switch};
use serde::Serialize;
use server::process::{Disk, Running, Step, choose_program};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Below the prefix, where no `pid` directive says otherwise.
const PID_FILE: &str = "logs/pointsman.pid";
/// Between two looks at the processes.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a new process that is taken back may finish what it has begun.
const GRACE: Duration = Duration::from_secs(5);
/// How many answers in a row must come from the new process before the old one counts as out of the way.
const IN_A_ROW: u32 = 8;

/// Put another binary in the place of the one that runs, without a lost connection
///
/// The new binary first tests the configuration. It is then started beside the old one, on the same sockets; when it
/// answers with every switch at the revision it had, the old one finishes what it has begun and ends. If it does not
/// within the timeout, it is stopped and the old one goes on.
#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    /// The new program; without it, what is there now under the name the old one was started by
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// How long the new one may take until it serves
    #[arg(long, value_name = "TIME", value_parser = terms::span, default_value = "60s")]
    timeout: String,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Done {
    /// The master before.
    old_pid: u32,
    /// The master now.
    new_pid: u32,
    old_version: String,
    new_version: String,
    /// Until the new one served with all switches, in milliseconds.
    served_ms: u128,
    /// The old one still finishes what it has begun.
    old_runs: bool,
}

impl Upgrade {
    pub(crate) fn run(&self, reach: &Reach) -> Result<Code, Fault> {
        let pid_path = pid_path(reach)?;
        let old = self.old(&pid_path)?;
        let program = match &self.binary {
            Some(path) => std::path::absolute(path).map_err(|error| usage(path, &error))?,
            None => old
                .program()
                .map_err(|error| refused("no_program", format!("process {}: {error}", old.pid()), ""))?,
        };
        test(&program, reach)?;
        let session = reach.session()?;
        let before = status(&session)?;
        would_lose(&before.switches)?;
        let began = Instant::now();
        let timeout = Duration::from_millis(terms::ms(&self.timeout));
        let new = self.start(old, &pid_path, began + timeout)?;
        let now = match healthy(&session, new, &before.switches, began + timeout) {
            Ok(status) => status,
            Err(why) => return Err(take_back(old, new, &pid_path, why)),
        };
        let served_ms = began.elapsed().as_millis();
        if let Err(why) = hand_over(&session, old, new, began + timeout) {
            return Err(take_back(old, new, &pid_path, why));
        }
        let ended =
            tell(old, Step::Quit).is_err() || until(Instant::now() + Duration::from_secs(1), || !old.lives());
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

    fn old(&self, pid_path: &Path) -> Result<Running, Fault> {
        if let (Some(older), Some(newer)) = (Running::older(pid_path), Running::named(pid_path)) {
            return Err(refused(
                "upgrading",
                format!("two master processes run already, {} and {}", older.pid(), newer.pid()),
                "end one of the two with the signal QUIT: the old one to go on with the new one, or the other way round",
            ));
        }
        Running::named(pid_path).ok_or_else(|| {
            Fault::new(
                Code::Unreachable,
                "not_running",
                format!("no process runs that {} names", pid_path.display()),
                "is pointsman running with this configuration? -p and -c say which one is meant",
            )
        })
    }

    /// Starts the new one. If it ends at once, the old one says why in its log.
    fn start(&self, old: Running, pid_path: &Path, until: Instant) -> Result<Running, Fault> {
        if let Some(binary) = &self.binary {
            let path = std::path::absolute(binary).map_err(|error| usage(binary, &error))?;
            choose_program(pid_path, &path).map_err(|error| {
                let text = format!("the program cannot be named beside {}: {error}", pid_path.display());
                refused("no_choice", text, "be the user that the master process runs as")
            })?;
        }
        tell(old, Step::ChangeBinary)?;
        let mut begun = false;
        while Instant::now() < until {
            begun |= Running::older(pid_path) == Some(old);
            match Running::named(pid_path) {
                Some(new) if new != old => return Ok(new),
                // Its pid file is back where it was.
                Some(_) if begun => break,
                _ => std::thread::sleep(PAUSE),
            }
        }
        Err(refused("not_started", "the new process did not start; the old one goes on", LOG))
    }
}

const LOG: &str = "the error log says why";

impl Done {
    fn text(&self, json: bool) -> String {
        if json {
            return format!("{}\n", serde_json::to_string(self).unwrap_or_default());
        }
        let mut text = format!(
            "pointsman {} in process {} serves, after {} ms; it was {} in process {}\n",
            self.new_version, self.new_pid, self.served_ms, self.old_version, self.old_pid
        );
        if self.old_runs {
            text.push_str(&format!("  process {} finishes what it has begun, then ends\n", self.old_pid));
        }
        text
    }
}

/// Where the master writes its number, by the configuration.
fn pid_path(reach: &Reach) -> Result<PathBuf, Fault> {
    let (prefix, conf_file, globals) = reach.configuration();
    let prefix = std::path::absolute(prefix.unwrap_or(flags::PREFIX.as_ref()))
        .map_err(|error| Fault::usage(format!("there is no current folder: {error}"), ""))?;
    let conf_file = prefix.join(conf_file.unwrap_or(flags::CONF_FILE.as_ref()));
    let parsed = conf::parse_with_option(&conf_file, globals.map(OsStrExt::as_bytes), &Disk);
    let directive = parsed.tree.directives.iter().rev().find(|directive| directive.name.value == "pid");
    let path = directive.and_then(|directive| directive.args.first());
    Ok(prefix.join(path.map_or_else(|| PID_FILE.into(), |path| path.value.to_path_lossy().into_owned())))
}

/// Lets the new program test the configuration that the old one runs with.
fn test(program: &Path, reach: &Reach) -> Result<(), Fault> {
    let output =
        Command::new(program).args(["-t", "-q"]).args(reach.command_line()).stdin(Stdio::null()).output();
    let output = output.map_err(|error| {
        refused(
            "no_program",
            format!("{} cannot be run: {error}", program.display()),
            "name another with --binary",
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let text = format!("{} does not take the configuration; nothing was changed\n{words}", program.display());
    Err(refused("config_refused", text, "mend it, and test it with -t"))
}

fn status(session: &Session) -> Result<types::Status, Fault> {
    Ok(session.client.ask::<types::Status>(&Call::get("/v1/status"))?.0)
}

/// Refuses what no other process could take over: holds, and tables that are in memory alone.
fn would_lose(switches: &[Switch]) -> Result<(), Fault> {
    for switch in switches {
        if let Some(hold) = switch.holds.first() {
            let text =
                format!("the requests of \"{}\" are held, and a new process would not hold them", hold.key);
            return Err(refused("held", text, "release it first: pointsman release"));
        }
        if switch.state == "memory" && switch.revision > 0 {
            let text =
                format!("the table of switch \"{}\" is in memory alone and would be lost", switch.name);
            return Err(refused(
                "in_memory",
                text,
                "give it a file: its `state`; or restart, and switch anew",
            ));
        }
    }
    Ok(())
}

/// Waits until the new master's worker answers, with all switches. Both masters' workers answer meanwhile.
fn healthy(
    session: &Session,
    new: Running,
    before: &[Switch],
    until: Instant,
) -> Result<types::Status, String> {
    let mut why = "it does not answer".to_owned();
    while Instant::now() < until {
        if !new.lives() {
            return Err("it has ended".to_owned());
        }
        match status(session) {
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

/// What the new one does not have of the switches that the old one had.
fn missing(before: &[Switch], now: &[Switch]) -> Option<String> {
    before.iter().find_map(|old| match now.iter().find(|new| new.name == old.name) {
        None => Some(format!("it has no switch \"{}\"", old.name)),
        Some(new) if new.revision < old.revision => Some(format!(
            "switch \"{}\" is at revision {} there, not at {}",
            old.name, new.revision, old.revision
        )),
        Some(_) => None,
    })
}

/// Sends the old workers away, and watches that the new ones go on without them.
fn hand_over(session: &Session, old: Running, new: Running, until: Instant) -> Result<(), String> {
    old.tell(Step::Rest).map_err(|error| format!("the old process cannot be told: {error}"))?;
    let mut in_a_row = 0;
    while Instant::now() < until {
        if !new.lives() {
            return Err("it has ended".to_owned());
        }
        match status(session) {
            Ok(status) if status.parent_pid == new.pid() => in_a_row += 1,
            _ => in_a_row = 0,
        }
        if in_a_row >= IN_A_ROW {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Err("it does not answer once the old workers are gone".to_owned())
}

/// Ends the new one; the old one goes on, with workers again if they had been sent away.
fn take_back(old: Running, new: Running, pid_path: &Path, why: String) -> Fault {
    // Once the new one has ended, the old one does what is to be done by itself, and HUP would be a reload.
    if new.lives() {
        let _ = old.tell(Step::Wake);
        let _ = new.tell(Step::Quit);
        if !until(Instant::now() + GRACE, || !new.lives()) {
            let _ = new.tell(Step::Stop);
        }
    }
    let back = until(Instant::now() + Duration::from_secs(10), || Running::named(pid_path) == Some(old));
    let text = match back {
        true => format!("the new process did not serve: {why}; the old one, {}, goes on", old.pid()),
        false => format!(
            "the new process did not serve: {why}; it has not ended, and the old one, {}, is beside it",
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

fn tell(process: Running, step: Step) -> Result<(), Fault> {
    process.tell(step).map_err(|error| {
        let text = format!("process {} cannot be told: {error}", process.pid());
        refused("no_signal", text, "be the user that the master process runs as")
    })
}

fn refused(name: &str, text: impl Into<String>, remedy: &str) -> Fault {
    Fault::new(Code::Refused, name, text, remedy)
}

fn usage(path: &Path, error: &std::io::Error) -> Fault {
    Fault::usage(format!("{}: {error}", path.display()), "")
}

impl Reach {
    /// nginx's flags as they were given.
    fn command_line(&self) -> Vec<OsString> {
        let (prefix, conf_file, globals) = self.configuration();
        let given = [("-p", prefix), ("-c", conf_file), ("-g", globals)];
        let given = given.into_iter().filter_map(|(flag, value)| Some([flag.into(), value?.to_owned()]));
        given.flatten().collect()
    }
}
