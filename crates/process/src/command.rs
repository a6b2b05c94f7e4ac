//! The commands of the command line: run the server, test a configuration, signal a running server.
//!
//! Owns nginx's order of steps from the first log line to the running server, its messages and its exit codes. Must
//! never parse arguments.

use crate::application::Application;
use crate::handover::Orphan;
use crate::load::{Pictures, Recorded, load};
use crate::log::{Level, LogFiles};
use crate::process_log::{ProcessLog, Reported, to_stderr};
use crate::requirements::Requirements;
use crate::resources::{self, Prepared, Resources};
use crate::signals::SignalsBlocked;
use crate::source::Source;
use crate::start::Start;
use crate::upgrade::{Predecessor, StartCommand};
use crate::{daemon, dry_run, master, proc_title, single_process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// A signal to a running server (`-s`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MasterCommand {
    /// `stop`: end at once.
    Stop,
    /// `quit`: finish open requests, then end.
    Quit,
    /// `reload`: load the configuration again.
    Reload,
    /// `reopen`: reopen the log files.
    Reopen,
}

impl MasterCommand {
    /// Returns the signal that means this.
    fn signal(self) -> Signal {
        match self {
            MasterCommand::Stop => Signal::SIGTERM,
            MasterCommand::Quit => Signal::SIGQUIT,
            MasterCommand::Reload => Signal::SIGHUP,
            MasterCommand::Reopen => Signal::SIGUSR1,
        }
    }
}

/// Runs the server until it ends and returns the exit code.
///
/// Must be called before any thread is started. With `daemon on` the calling process exits inside this call.
pub fn run<A: Application>(app: &A, source: &Source) -> i32 {
    let predecessor = Predecessor::inherit();
    let program = StartCommand::running();
    let mut log = ProcessLog::first(&source.error_log, Level::Notice);
    start(app, source, (program, predecessor), &mut log).unwrap_or(1)
}

fn start<A: Application>(
    app: &A,
    source: &Source,
    (program, predecessor): (StartCommand, Predecessor),
    log: &mut ProcessLog,
) -> Result<i32, Reported> {
    let Recorded { requirements, config, .. } = load(app, source, log, Pictures::for_start())?;
    let logs = LogFiles::new().map_err(|error| log.failed(Level::Emerg, "dup(STDERR)", &error))?;
    let logs = Arc::new(logs);
    predecessor.log(log);
    let Predecessor { mut listening, pid: predecessor, .. } = predecessor;
    let mut orphan = None;
    if predecessor.is_none()
        && let Some((found, sockets)) = Orphan::find(&requirements, log)
    {
        (orphan, listening) = (Some(found), sockets);
    }
    // Another process serves on these sockets, and keeps their files if this start fails.
    let shared = predecessor.is_some() || orphan.is_some();
    let prepared = Prepared::new(requirements, source, &listening, log)?;
    let mut resources = prepared.commit(None, source, &logs, log);
    log.write(Level::Notice, format_args!("pointsman/{}", env!("CARGO_PKG_VERSION")));
    // Closes inherited sockets that the configuration does not name.
    drop(listening);
    let give_up = |resources: &mut Resources, log: &ProcessLog| match shared {
        true => resources.leave_sockets(),
        false => resources.close_sockets(log),
    };
    // In a binary upgrade the predecessor is a daemon already, or stays in the foreground.
    let handshake = match resources.requirements.daemon && predecessor.is_none() {
        true => Some(daemon::leave_terminal(log).inspect_err(|_| give_up(&mut resources, log))?),
        false => None,
    };
    if resources.requirements.daemon {
        logs.borrow_stderr();
    }
    // A reader of the pid file may signal at once, which would kill a process that has no handler yet.
    let _held = SignalsBlocked::new().map_err(|error| log.failed(Level::Emerg, "sigprocmask()", &error))?;
    if resources::write_pid_file(&resources.requirements.pid_path, log).is_err() {
        give_up(&mut resources, log);
        return Err(Reported);
    }
    let has_master = resources.requirements.master_process;
    let (app, source, log) = (app.clone(), source.clone(), log.clone());
    let start = Start { app, source, config, resources, logs, log, handshake, program, predecessor, orphan };
    Ok(match has_master {
        true => {
            proc_title::set_master();
            master::run(start)
        }
        false => single_process::run(start),
    })
}

/// Tests the configuration (`-t`), prints it with all its files if `dump` is set (`-T`), and returns the exit code.
/// `quiet` prints errors alone. `check` checks what else a start or a reload would look at: it returns what they would
/// refuse, and the notes of a test that succeeds.
pub fn test<A: Application>(
    app: &A,
    source: &Source,
    quiet: bool,
    dump: bool,
    check: impl FnOnce(&A::Config) -> Result<Vec<String>, Vec<String>>,
) -> i32 {
    let log = ProcessLog::first(&source.error_log, Level::Info);
    let file = source.conf_file.display();
    let tested = load(app, source, &log, Pictures::Drawn).and_then(|recorded| {
        if !quiet {
            to_stderr(format_args!("the configuration file {file} syntax is ok"));
        }
        dry_run::dry_run(&recorded.requirements, source, &log)?;
        let checked = check(&recorded.config).map_err(|faults| {
            faults.iter().for_each(|fault| log.write(Level::Emerg, format_args!("{fault}")));
            Reported
        })?;
        checked.iter().filter(|_| !quiet).for_each(|note| log.write(Level::Warn, format_args!("{note}")));
        Ok(recorded)
    });
    let Ok(recorded) = tested else {
        to_stderr(format_args!("configuration file {file} test failed"));
        return 1;
    };
    if !quiet {
        to_stderr(format_args!("configuration file {file} test is successful"));
    }
    if dump {
        // A reader that closes the pipe is no failure of the test.
        let _ = print(&recorded.files);
    }
    0
}

fn print(files: &[(std::path::PathBuf, Vec<u8>)]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (path, text) in files {
        out.write_all(b"# configuration file ")?;
        out.write_all(path.as_os_str().as_bytes())?;
        out.write_all(b":\n")?;
        out.write_all(text)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Signals the server that runs with this configuration (`-s`), and returns the exit code.
pub fn signal_master<A: Application>(app: &A, source: &Source, command: MasterCommand) -> i32 {
    let log = ProcessLog::first(&source.error_log, Level::Notice);
    let sent = load(app, source, &log, Pictures::for_start()).and_then(|recorded| {
        log.write(Level::Notice, format_args!("signal process started"));
        signal(&recorded.requirements, command.signal(), &log)
    });
    i32::from(sent.is_err())
}

fn signal(requirements: &Requirements, signal: Signal, log: &ProcessLog) -> Result<(), Reported> {
    let pid = read_pid(&requirements.pid_path, log)?;
    kill(pid, signal).map_err(|error| {
        let what = format_args!("kill({pid}, {})", signal as i32);
        log.failed(Level::Alert, what, &error.into())
    })
}

/// Reads the process number in a pid file.
fn read_pid(path: &Path, log: &ProcessLog) -> Result<Pid, Reported> {
    let text = path
        .metadata()
        .and_then(|found| match found.is_file() {
            true => std::fs::read(path),
            // Reading a FIFO would block.
            false => Err(nix::errno::Errno::EINVAL.into()),
        })
        .map_err(|error| log.failed(Level::Error, format_args!("open() \"{}\"", path.display()), &error))?;
    let trimmed = text.trim_ascii_end();
    let number = std::str::from_utf8(trimmed).ok().and_then(|text| text.parse::<i32>().ok());
    // Zero and negative numbers mean process groups.
    number.filter(|number| *number > 0).map(Pid::from_raw).ok_or_else(|| {
        let shown = String::from_utf8_lossy(trimmed);
        log.write(Level::Error, format_args!("invalid PID number \"{shown}\" in \"{}\"", path.display()));
        Reported
    })
}
