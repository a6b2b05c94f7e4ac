//! The control socket.
//!
//! Owns its connections, and the identity of their peers. Requests have a time limit, and so have writes, so that no peer
//! can occupy a connection without end; when there are too many connections, those without a request make room.

use super::context::Api;
use super::router::router;
use super::write_timeout::WriteTimeout;
use crate::call::Origin;
use crate::service::ControlHandle;
use axum::Router;
use axum::body::{Body, Bytes};
use engine::host::Level;
use hyper::body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::{Uid, User};
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower::ServiceExt;

/// The maximum number of connections.
const MAX_CONNECTIONS: usize = 256;
/// The time within which a request's head must arrive, and for which a kept connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// The time within which a client must take some bytes of an answer.
const WRITE_TIME: Duration = Duration::from_secs(60);
/// What the log says of a connection from the process that serves.
const OWN_PEER: &str = "the control socket refuses the processes that serve: requests are proxied to it, or a script connects to it";
/// The pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the API on the socket until `closing` is notified; then it accepts no more connections and waits for the open
/// ones. They end with it.
pub(crate) async fn serve(
    control: ControlHandle,
    listener: std::os::unix::net::UnixListener,
    refused_peer: Option<u32>,
    closing: Rc<Notify>,
) {
    let listening = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
    let listener = match listening {
        Ok(listener) => listener,
        Err(error) => {
            return control.log(Level::Emerg, &format!("the control socket cannot be served: {error}"));
        }
    };
    let router = router(Api::new(control.clone()));
    let peers = Rc::new(Peers::default());
    let mut conversations = JoinSet::new();
    let accepting = async {
        loop {
            match listener.accept().await {
                // A request of a client that was proxied here would be one of the server's own user.
                Ok((stream, _)) if is_refused(&control, &stream, refused_peer) => {
                    control.log(Level::Error, OWN_PEER);
                }
                Ok((stream, _)) => {
                    peers.make_room().await;
                    let peer = Peer::enter(&peers);
                    conversations.spawn_local(converse(stream, control.clone(), router.clone(), peer));
                    while conversations.try_join_next().is_some() {}
                }
                Err(error) => {
                    control.log(Level::Error, &format!("accept() on the control socket failed: {error}"));
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = closing.notified() => {}
    }
    drop(listener);
    while conversations.join_next().await.is_some() {}
}

/// The connections.
#[derive(Default)]
struct Peers {
    open: RefCell<Vec<Rc<PeerState>>>,
    /// One has ended, or has no request any more.
    freed: Notify,
}

/// What decides which connection makes room.
struct PeerState {
    /// The number of its requests that are being answered.
    requests: Cell<usize>,
    /// Since when it has none.
    idle_since: Cell<Instant>,
    /// It is to make room.
    unwanted: Notify,
}

impl Peers {
    /// Waits until there is room for one more connection. The one that has been without a request for longest makes it: a
    /// client that sends half a request, or none, does not keep the others out.
    async fn make_room(&self) {
        while self.open.borrow().len() >= MAX_CONNECTIONS {
            let idle = {
                let open = self.open.borrow();
                let idle = open.iter().filter(|peer| peer.requests.get() == 0);
                idle.min_by_key(|peer| peer.idle_since.get()).cloned()
            };
            match idle {
                Some(peer) => {
                    self.forget(&peer);
                    peer.unwanted.notify_one();
                }
                None => self.freed.notified().await,
            }
        }
    }

    fn forget(&self, peer: &Rc<PeerState>) {
        self.open.borrow_mut().retain(|other| !Rc::ptr_eq(other, peer));
    }
}

/// A connection; it is forgotten when this is dropped.
struct Peer {
    peers: Rc<Peers>,
    state: Rc<PeerState>,
}

impl Peer {
    fn enter(peers: &Rc<Peers>) -> Peer {
        let state = Rc::new(PeerState {
            requests: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            unwanted: Notify::new(),
        });
        peers.open.borrow_mut().push(Rc::clone(&state));
        Peer { peers: Rc::clone(peers), state }
    }

    /// Counts a request as being answered until the value is dropped.
    fn answering(&self) -> Answered {
        self.state.requests.set(self.state.requests.get() + 1);
        Answered { peers: Rc::clone(&self.peers), state: Rc::clone(&self.state) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.peers.forget(&self.state);
        self.peers.freed.notify_one();
    }
}

/// A request that is being answered.
struct Answered {
    peers: Rc<Peers>,
    state: Rc<PeerState>,
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.state.requests.set(self.state.requests.get() - 1);
        self.state.idle_since.set(Instant::now());
        self.peers.freed.notify_one();
    }
}

/// The body of an answer: with its end the request has been answered.
struct AnswerBody {
    body: Body,
    _answered: Answered,
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn converse(stream: UnixStream, control: ControlHandle, router: Router, peer: Peer) {
    // An accepted connection that is about to send a request counts as one that is being answered.
    let first = Cell::new(Some(control.answering()));
    let Some(name) = name_of(&stream).await else { return };
    let origin = Origin::at_socket(name);
    let state = Rc::clone(&peer.state);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(origin.clone());
        let answering = first.take().unwrap_or_else(|| control.answering());
        let answered = peer.answering();
        let answer = router.clone().oneshot(request);
        async move {
            let answer = answer.await;
            drop(answering);
            // A stream of events is being answered until it ends.
            answer.map(|answer| answer.map(|body| AnswerBody { body, _answered: answered }))
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(WriteTimeout::new(stream, WRITE_TIME)), service);
    tokio::select! {
        // The client has seen whatever broke the connection.
        _ = serving => {}
        () = state.unwanted.notified() => {}
    }
}

/// Returns true if this process is at the other end, or another one of this server, as in an upgrade.
fn is_refused(control: &ControlHandle, stream: &UnixStream, process: Option<u32>) -> bool {
    let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let peer = peer.and_then(|pid| u32::try_from(pid).ok());
    process.is_some() && (peer == process || peer.is_some_and(|peer| control.is_of_another_process(peer)))
}

/// Returns `unix:UID(NAME)` of the peer process; `None` if the system does not identify it, and then it is refused.
async fn name_of(stream: &UnixStream) -> Option<String> {
    let uid = stream.peer_cred().ok()?.uid();
    // The name may have to be asked of another machine.
    let named = tokio::task::spawn_blocking(move || User::from_uid(Uid::from_raw(uid)));
    Some(match named.await {
        Ok(Ok(Some(user))) => format!("unix:{uid}({})", user.name),
        _ => format!("unix:{uid}"),
    })
}
