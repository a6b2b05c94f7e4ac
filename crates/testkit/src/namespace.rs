//! A network of its own for one thread, so that a case may use fixed ports such as 80.
//!
//! Owns the threads it makes: a thread that left the common network never runs anything else.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Returns true if this machine lets us have networks of our own.
pub(crate) fn is_permitted() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| within(|| ()).is_ok())
}

/// Runs something on a thread whose network holds nothing but a loopback interface. Processes and threads started
/// there share that network.
pub(crate) fn within<T: Send>(task: impl FnOnce() -> T + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let alone = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| format!("no network of our own: {e}"))?;
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).stderr(Stdio::null()).status();
            match up {
                Ok(status) if status.success() => Ok(task()),
                _ => Err("the loopback interface cannot be brought up".to_owned()),
            }
        });
        alone.join().unwrap_or_else(|_| Err("the thread panicked".to_owned()))
    })
}
