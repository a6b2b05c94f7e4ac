//! The sockets a thread accepts from.

use crate::context::generation::Pinned;
use crate::context::listen_socket::ListenSocket;
use crate::context::logs::errno_text;
use crate::context::thread_context::ThreadContext;
use crate::downstream::idle::{self, Accepted};
use crate::worker::panics::Vital;
use nix::sys::socket::sockopt::TcpNoDelay;
use process::Address;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, spawn_local};
use transport::stream::{Socket, Stream};

/// All sockets of a thread.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    accepting: RefCell<HashMap<Address, (Rc<ListenSocket>, AbortHandle)>>,
}

impl Listeners {
    /// Switches from the addresses of `old` to the `wanted` ones: accepts from new sockets, and no longer from those that are
    /// not named.
    ///
    /// # Errors
    /// Fails if a socket cannot be watched; the others are.
    pub(crate) fn adopt(
        &self,
        thread: &Rc<ThreadContext>,
        old: &Pinned,
        wanted: &[Address],
        new: Vec<(Address, OwnedFd)>,
    ) -> io::Result<()> {
        let mut accepting = self.accepting.borrow_mut();
        let before = accepting.len();
        accepting.retain(|address, (socket, task)| {
            let keep = wanted.contains(address);
            if !keep {
                task.abort();
                socket.give_up(old);
            }
            keep
        });
        if accepting.len() < before {
            // Connections that are idle at an address that is given up end now, not at their next request.
            thread.parking.wake_where(|parked| parked.is_given_up());
            thread.registry.wake_all();
        }
        for (address, fd) in new {
            if accepting.contains_key(&address) {
                continue;
            }
            let socket = Rc::new(ListenSocket::new(address.clone()));
            let known = Rc::clone(&socket);
            let task = match &address {
                Address::Inet(_) => {
                    // Small responses must not wait for acknowledgements; `tcp_nodelay` is on by default. Connections
                    // inherit it on Linux, which saves a call for each.
                    nix::sys::socket::setsockopt(&fd, TcpNoDelay, &true)?;
                    let listener = TcpListener::from_std(std::net::TcpListener::from(fd))?;
                    spawn_local(accept_tcp(Rc::clone(thread), listener, socket)).abort_handle()
                }
                Address::Unix(path) => {
                    let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(fd))?;
                    let path = Rc::new(path.as_os_str().as_bytes().to_vec());
                    spawn_local(accept_unix(Rc::clone(thread), listener, socket, path)).abort_handle()
                }
            };
            accepting.insert(address, (known, task));
        }
        Ok(())
    }

    /// Stops accepting.
    pub(crate) fn close(&self) {
        for (_, (_, task)) in self.accepting.borrow_mut().drain() {
            task.abort();
        }
    }
}

/// How long accepting pauses when there are no descriptors left, as nginx's accept_mutex_delay.
const REST: Duration = Duration::from_millis(500);

async fn accept_tcp(thread: Rc<ThreadContext>, listener: TcpListener, socket: Rc<ListenSocket>) {
    let _vital = Vital;
    let local = listener.local_addr().ok();
    let anywhere = local.is_none_or(|local| local.ip().is_unspecified());
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let local = if anywhere { stream.local_addr().ok() } else { local };
                let accepted =
                    Accepted { socket: Rc::clone(&socket), remote: Some(remote), local, local_path: None };
                admit(&thread, Stream::Plain(Socket::Tcp(stream)), accepted).await;
            }
            Err(error) => rest(&thread, &error).await,
        }
    }
}

async fn accept_unix(
    thread: Rc<ThreadContext>,
    listener: UnixListener,
    socket: Rc<ListenSocket>,
    path: Rc<Vec<u8>>,
) {
    let _vital = Vital;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let local_path = Some(Rc::clone(&path));
                let accepted = Accepted { socket: Rc::clone(&socket), remote: None, local: None, local_path };
                admit(&thread, Stream::Plain(Socket::Unix(stream)), accepted).await;
            }
            Err(error) => rest(&thread, &error).await,
        }
    }
}

/// Serves the connection, unless the thread has as many as `worker_connections` allows.
async fn admit(thread: &Rc<ThreadContext>, stream: Stream, accepted: Accepted) {
    if !thread.has_room() {
        // In a flood, the connections just accepted have not run yet, so none of them counts as idle.
        tokio::task::yield_now().await;
        if !thread.has_room() {
            thread.log_full();
            thread.counters.refused();
            return;
        }
    }
    spawn_local(idle::serve(Rc::clone(thread), stream, accepted));
}

/// Handles a failed accept: ignores a connection that is already gone, pauses if descriptors have run out.
async fn rest(thread: &ThreadContext, error: &io::Error) {
    let code = error.raw_os_error().unwrap_or_default();
    if matches!(code, libc::ECONNABORTED | libc::EINTR | libc::EPROTO) {
        return;
    }
    thread.generation().alert(format_args!("accept4() failed ({code}: {})", errno_text(code)));
    if matches!(code, libc::EMFILE | libc::ENFILE) {
        // As if the limit were reached, so that idle connections give their descriptors back.
        thread.make_room(thread.registry.len());
    }
    tokio::time::sleep(REST).await;
}
