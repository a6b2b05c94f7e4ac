//! The sockets a thread accepts from.

use crate::generation::{Generation, Pinned};
use crate::idle;
use crate::panics::Vital;
use crate::process::Address;
use crate::stream::Stream;
use crate::worker::Worker;
use nix::sys::socket::sockopt::TcpNoDelay;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, spawn_local};

/// An address that is listened on, and its number in the configuration in force.
#[derive(Debug)]
pub(crate) struct Socket {
    address: Address,
    /// The generation that `index` was looked up in.
    looked_up: Cell<u64>,
    index: Cell<Option<usize>>,
    /// The last generation that listened here, once there is none any more. It is there as long as a connection that
    /// came in here: what was accepted is answered.
    last: RefCell<Option<Pinned>>,
}

impl Socket {
    /// Nothing is known of this address yet.
    pub(crate) fn new(address: Address) -> Socket {
        Socket { address, looked_up: Cell::new(u64::MAX), index: Cell::new(None), last: RefCell::default() }
    }

    /// The listener of this address in a generation; `None` if it has none any more.
    pub(crate) fn listener(&self, generation: &Generation) -> Option<usize> {
        if self.looked_up.replace(generation.number) != generation.number {
            self.index.set(generation.listener(&self.address));
        }
        self.index.get()
    }

    /// The generation and the listener of a request that begins now.
    pub(crate) fn place(&self, worker: &Worker) -> Option<(Pinned, usize)> {
        let generation = worker.generation();
        match self.listener(&generation) {
            Some(listener) => Some((generation, listener)),
            None => {
                let last = self.last.borrow().clone()?;
                let listener = last.listener(&self.address)?;
                Some((last, listener))
            }
        }
    }

    /// Was it taken out of the configuration since?
    pub(crate) fn is_given_up(&self) -> bool {
        self.last.borrow().is_some()
    }
}

/// A connection just accepted.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    /// Where it came in.
    pub(crate) socket: Rc<Socket>,
    /// The client's address; `None` over a unix socket.
    pub(crate) remote: Option<SocketAddr>,
    /// Our address; `None` over a unix socket.
    pub(crate) local: Option<SocketAddr>,
    /// Our path, over a unix socket.
    pub(crate) local_path: Option<Rc<[u8]>>,
}

/// All sockets of a thread.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    accepting: RefCell<HashMap<Address, (Rc<Socket>, AbortHandle)>>,
}

impl Listeners {
    /// Goes over from a generation to these addresses: begins to accept from new sockets, ends with those that are not
    /// named.
    ///
    /// # Errors
    /// A socket cannot be watched; the others are.
    pub(crate) fn adopt(
        &self,
        worker: &Rc<Worker>,
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
                socket.last.replace(Some(Rc::clone(old)));
            }
            keep
        });
        if accepting.len() < before {
            // Who waits between two requests at an address that is given up learns it now, and not from the next one.
            worker.parking.resume_where(|parked| parked.is_given_up());
            worker.registry.wake_all();
        }
        for (address, fd) in new {
            if accepting.contains_key(&address) {
                continue;
            }
            let socket = Rc::new(Socket::new(address.clone()));
            let known = Rc::clone(&socket);
            let task = match &address {
                Address::Inet(_) => {
                    // Small answers must not wait for acknowledgements; `tcp_nodelay` is on by default. Linux hands it
                    // down to the connections, which saves a call for each.
                    nix::sys::socket::setsockopt(&fd, TcpNoDelay, &true)?;
                    let listener = TcpListener::from_std(std::net::TcpListener::from(fd))?;
                    spawn_local(accept_tcp(Rc::clone(worker), listener, socket)).abort_handle()
                }
                Address::Unix(path) => {
                    let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(fd))?;
                    let path = Rc::from(path.as_os_str().as_bytes());
                    spawn_local(accept_unix(Rc::clone(worker), listener, socket, path)).abort_handle()
                }
            };
            accepting.insert(address, (known, task));
        }
        Ok(())
    }

    /// Accepts no more.
    pub(crate) fn close(&self) {
        for (_, (_, task)) in self.accepting.borrow_mut().drain() {
            task.abort();
        }
    }
}

/// How long accepting rests when there are no descriptors left, as nginx's accept_mutex_delay.
const REST: Duration = Duration::from_millis(500);

async fn accept_tcp(worker: Rc<Worker>, listener: TcpListener, socket: Rc<Socket>) {
    let _vital = Vital;
    let local = listener.local_addr().ok();
    let anywhere = local.is_none_or(|local| local.ip().is_unspecified());
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let local = if anywhere { stream.local_addr().ok() } else { local };
                let accepted =
                    Accepted { socket: Rc::clone(&socket), remote: Some(remote), local, local_path: None };
                admit(&worker, Stream::Tcp(stream), accepted).await;
            }
            Err(error) => rest(&worker, &error).await,
        }
    }
}

async fn accept_unix(worker: Rc<Worker>, listener: UnixListener, socket: Rc<Socket>, path: Rc<[u8]>) {
    let _vital = Vital;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let local_path = Some(Rc::clone(&path));
                let accepted = Accepted { socket: Rc::clone(&socket), remote: None, local: None, local_path };
                admit(&worker, Stream::Unix(stream), accepted).await;
            }
            Err(error) => rest(&worker, &error).await,
        }
    }
}

/// Takes the connection on, unless the thread has as many as `worker_connections` allows.
async fn admit(worker: &Rc<Worker>, stream: Stream, accepted: Accepted) {
    if !worker.has_room() {
        // Of a flood, those just accepted have not run yet, so that none of them counts as idle.
        tokio::task::yield_now().await;
        if !worker.has_room() {
            worker.say_full();
            worker.counters.refused();
            return;
        }
    }
    spawn_local(idle::serve(Rc::clone(worker), stream, accepted));
}

/// What follows a failed accept: nothing for a connection that is gone again, a rest if descriptors have run out.
async fn rest(worker: &Worker, error: &io::Error) {
    let code = error.raw_os_error().unwrap_or_default();
    if matches!(code, libc::ECONNABORTED | libc::EINTR | libc::EPROTO) {
        return;
    }
    worker.generation().alert(format_args!("accept4() failed ({code}: {})", describe(code)));
    if matches!(code, libc::EMFILE | libc::ENFILE) {
        // As if this were all there is room for: idle connections give their descriptors back.
        worker.make_room(worker.registry.len());
    }
    tokio::time::sleep(REST).await;
}

/// The system's words for an error number.
pub(crate) fn describe(code: i32) -> &'static str {
    nix::errno::Errno::from_raw(code).desc()
}
