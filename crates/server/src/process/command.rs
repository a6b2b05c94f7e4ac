//! What the command line asks for: run the server, test a configuration, signal a running server.
//!
//! Owns nginx's order of steps from the first log line to the running server, its messages and its exit codes. Must
//! never read an argument or the environment: the caller has done that.

use super::boot::{Application, Boot, Source};
use super::estate::{self, Prepared};
use super::journal::{Journal, Said, to_stderr};
use super::load::{Pictures, Recorded, load};
use super::log::{Level, LogFiles};
use super::signals::Blocked;
use super::upgrade::{Heritage, Program};
use super::{alone, daemon, dry_run, master, title};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// `-s`: what to tell a running server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// `stop`: end at once.
    Stop,
    /// `quit`: finish what has begun, then end.
    Quit,
    /// `reload`: go over to the configuration as it is now.
    Reload,
    /// `reopen`: open the log files anew.
    Reopen,
}

impl Tell {
    /// The signal that says so.
    fn signal(self) -> Signal {
        match self {
            Tell::Stop => Signal::SIGTERM,
            Tell::Quit => Signal::SIGQUIT,
            Tell::Reload => Signal::SIGHUP,
            Tell::Reopen => Signal::SIGUSR1,
        }
    }
}

/// Runs the server until it ends, in the foreground or leaving a daemon behind, and answers the exit code.
///
/// It must be called before any thread is started. With `daemon on` the calling process ends inside this call.
pub fn run<A: Application>(app: &A, source: &Source) -> i32 {
    let heritage = Heritage::take();
    let program = Program::running();
    let mut journal = Journal::first(&source.error_log, Level::Notice);
    start(app, source, (program, heritage), &mut journal).unwrap_or(1)
}

fn start<A: Application>(
    app: &A,
    source: &Source,
    (program, heritage): (Program, Heritage),
    journal: &mut Journal,
) -> Result<i32, Said> {
    let Recorded { boot, config, .. } = load(app, source, journal, Pictures::for_start())?;
    let logs = LogFiles::new().map_err(|error| journal.failed(Level::Emerg, "dup(STDERR)", &error))?;
    let logs = Arc::new(logs);
    heritage.tell(journal);
    let prepared = Prepared::new(boot, source, &heritage.listening, journal)?;
    let mut estate = prepared.commit(None, source, &logs, journal);
    journal.say(Level::Notice, format_args!("pointsman/{}", env!("CARGO_PKG_VERSION")));
    let predecessor = heritage.from;
    // What no address asks for any more is closed.
    drop(heritage);
    // Who has started this process in its place has left the terminal already, or stays there.
    let handshake = match estate.boot.daemon && predecessor.is_none() {
        true => Some(daemon::leave_terminal(journal).inspect_err(|_| estate.close_sockets(journal))?),
        false => None,
    };
    if estate.boot.daemon {
        logs.borrow_stderr();
    }
    // Whoever reads the pid file may send a signal at once, which would end a process that has no handler yet.
    let _held = Blocked::new().map_err(|error| journal.failed(Level::Emerg, "sigprocmask()", &error))?;
    if estate::write_pid_file(&estate.boot.pid_path, journal).is_err() {
        match predecessor {
            Some(_) => estate.leave_sockets(),
            None => estate.close_sockets(journal),
        }
        return Err(Said);
    }
    let (app, source, journal) = (app.clone(), source.clone(), journal.clone());
    Ok(match estate.boot.master_process {
        true => {
            title::set_master();
            let kin = (program, predecessor);
            master::run(master::Start { app, source, config, estate, logs, journal, handshake, kin })
        }
        false => alone::run(alone::Start { app, source, config, estate, logs, journal, handshake }),
    })
}

/// Tests the configuration (`-t`), prints it with all its files where `dump` asks for it (`-T`), and answers the exit
/// code. `quiet` leaves out what is not a fault.
pub fn test<A: Application>(app: &A, source: &Source, quiet: bool, dump: bool) -> i32 {
    let journal = Journal::first(&source.error_log, Level::Info);
    let file = source.conf_file.display();
    let tested = load(app, source, &journal, Pictures::Drawn).and_then(|recorded| {
        if !quiet {
            to_stderr(format_args!("the configuration file {file} syntax is ok"));
        }
        dry_run::dry_run(&recorded.boot, source, &journal)?;
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
        // A reader that has had enough is no failure of the test.
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

/// Tells the server that runs with this configuration something (`-s`), and answers the exit code.
pub fn tell<A: Application>(app: &A, source: &Source, what: Tell) -> i32 {
    let journal = Journal::first(&source.error_log, Level::Notice);
    let told = load(app, source, &journal, Pictures::for_start()).and_then(|recorded| {
        journal.say(Level::Notice, format_args!("signal process started"));
        signal(&recorded.boot, what.signal(), &journal)
    });
    i32::from(told.is_err())
}

fn signal(boot: &Boot, signal: Signal, journal: &Journal) -> Result<(), Said> {
    let pid = read_pid(&boot.pid_path, journal)?;
    kill(pid, signal).map_err(|error| {
        let what = format_args!("kill({pid}, {})", signal as i32);
        journal.failed(Level::Alert, what, &error.into())
    })
}

/// The process number in a pid file.
fn read_pid(path: &Path, journal: &Journal) -> Result<Pid, Said> {
    let text = std::fs::read(path).map_err(|error| {
        journal.failed(Level::Error, format_args!("open() \"{}\"", path.display()), &error)
    })?;
    let trimmed = text.trim_ascii_end();
    let number = std::str::from_utf8(trimmed).ok().and_then(|text| text.parse::<i32>().ok());
    // Zero and less would mean whole groups of processes.
    number.filter(|number| *number > 0).map(Pid::from_raw).ok_or_else(|| {
        let shown = String::from_utf8_lossy(trimmed);
        journal.say(Level::Error, format_args!("invalid PID number \"{shown}\" in \"{}\"", path.display()));
        Said
    })
}
