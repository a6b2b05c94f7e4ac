//! A generation before it is handed to the threads.

use crate::context::generation::{GenerationDropGuard, same_address};
use crate::proxy::groups::SharedGroups;
use crate::worker::message::NewGeneration;
use engine::{Config, Routing};
use process::log::{ErrorLog, LogFiles, LogTarget};
use process::{Address, Listener};
use statistics::Layout;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use tls::Contexts;

/// See the module.
pub(super) struct Candidate {
    pub(super) number: u64,
    pub(super) config: Arc<Config>,
    pub(super) groups: Arc<SharedGroups>,
    pub(super) dicts: lua::Dicts,
    pub(super) contexts: Arc<Contexts>,
    pub(super) routing: Arc<Routing>,
    pub(super) layout: Arc<Layout>,
    pub(super) files: Arc<LogFiles>,
    pub(super) command_line_log: LogTarget,
    pub(super) error_log: ErrorLog,
    pub(super) drop_guard: Arc<GenerationDropGuard>,
    pub(super) addresses: Vec<Address>,
}

impl Candidate {
    /// Returns what one thread needs to build it.
    pub(super) fn for_thread(&self, sockets: Vec<(Address, OwnedFd)>) -> NewGeneration {
        NewGeneration {
            number: self.number,
            config: Arc::clone(&self.config),
            files: Arc::clone(&self.files),
            command_line_log: self.command_line_log.clone(),
            error_log: self.error_log.clone(),
            groups: Arc::clone(&self.groups),
            dicts: self.dicts.clone(),
            contexts: Arc::clone(&self.contexts),
            routing: Arc::clone(&self.routing),
            layout: Arc::clone(&self.layout),
            drop_guard: Arc::clone(&self.drop_guard),
            addresses: self.addresses.clone(),
            sockets,
        }
    }
}

/// Takes the control socket out of the listeners, and drops those that the configuration does not name.
pub(super) fn take_control_socket(config: &Config, listeners: &mut Vec<Listener>) -> Option<UnixListener> {
    let is_control = |listener: &Listener| {
        let socket = config.control.socket.as_ref();
        socket.is_some_and(|socket| listener.address == Address::Unix(socket.path.clone()))
    };
    let control = listeners.iter().position(is_control).map(|at| listeners.remove(at));
    // A single process keeps the control socket it began with, whatever a later configuration says.
    let is_named =
        |address: &Address| config.listeners.iter().any(|known| same_address(&known.address, address));
    listeners.retain(|listener| is_named(&listener.address));
    control?.sockets.pop().map(UnixListener::from)
}

/// Returns every thread's descriptors of the listening sockets: one of its own with `reuseport`, else a duplicate.
pub(super) fn distribute(
    listeners: Vec<Listener>,
    threads: usize,
) -> io::Result<Vec<Vec<(Address, OwnedFd)>>> {
    let mut shares: Vec<Vec<(Address, OwnedFd)>> = (0..threads).map(|_| Vec::new()).collect();
    for listener in listeners {
        let count = listener.sockets.len();
        if count >= threads {
            for (number, socket) in listener.sockets.into_iter().take(threads).enumerate() {
                shares[number].push((listener.address.clone(), socket));
            }
            continue;
        }
        for (number, share) in shares.iter_mut().enumerate() {
            let Some(socket) = listener.sockets.get(number % count.max(1)) else { continue };
            share.push((listener.address.clone(), socket.try_clone()?));
        }
    }
    Ok(shares)
}
