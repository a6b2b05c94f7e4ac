//! Panics: faults of the program that end one connection.
//!
//! Owns how they are logged, and which tasks take the process with them, because without those a thread would look alive
//! and do nothing. The event loop confines every other panic to its task. Must never hide one.

use process::log::{ErrorLog, Level};
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, PoisonError};

/// Logs panics to this error log, in a line of its form; and on standard error with a backtrace, if the environment asks
/// for that (`RUST_BACKTRACE`).
pub(crate) fn log_to(log: Arc<Mutex<ErrorLog>>) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let text =
            format!("panic in thread {name} at {place}: {}; its connection or task ends", message(info));
        // Writing a line does not panic while the log is locked; if it did, that is no reason to be silent.
        let log = log.try_lock().map_or_else(
            |held| match held {
                std::sync::TryLockError::Poisoned(log) => Some(PoisonError::into_inner(log).clone()),
                std::sync::TryLockError::WouldBlock => None,
            },
            |log| Some(log.clone()),
        );
        match log {
            Some(log) => log.write(Level::Alert, 0, text.as_bytes()),
            None => eprintln!("{text}"),
        }
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            before(info);
        }
    }));
}

fn message<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Marks a task that its thread needs: if it panics, the process ends, and the master starts another.
pub(crate) struct Vital;

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Test builds panic for a request of the path that `POINTSMAN_PANIC_AT` names, so that tests can see what follows.
#[cfg(debug_assertions)]
pub(crate) mod provoked {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStrExt;
    use std::sync::OnceLock;

    static PATH: OnceLock<Option<OsString>> = OnceLock::new();

    /// Reads the environment. Must be called in the master, because worker processes have only what `env` names.
    pub(crate) fn prepare() {
        PATH.get_or_init(|| std::env::var_os("POINTSMAN_PANIC_AT"));
    }

    /// Panics if the path is the one named.
    pub(crate) fn panic_at(path: &[u8]) {
        if let Some(Some(wanted)) = PATH.get()
            && wanted.as_bytes() == path
        {
            panic!("as POINTSMAN_PANIC_AT asked");
        }
    }
}
