//! The control socket.
//!
//! Owns its connections, and the identity of their peers. Requests have a time limit, so that no peer can occupy a
//! connection without end.

use super::context::Api;
use super::router::router;
use crate::call::Origin;
use crate::service::ControlHandle;
use axum::Router;
use axum::body::Body;
use engine::host::Level;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::{Uid, User};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower::ServiceExt;

/// The maximum number of connections.
const MAX_CONNECTIONS: usize = 256;
/// The time within which a request's head must arrive, and for which a kept connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// The pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the API on the socket until `closing` is notified; then it accepts no more connections and waits for the open
/// ones. They end with it.
pub(crate) async fn serve(
    control: ControlHandle,
    listener: std::os::unix::net::UnixListener,
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
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut conversations = JoinSet::new();
    let accepting = async {
        loop {
            // The semaphore is never closed.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    conversations.spawn_local(converse(stream, control.clone(), router.clone(), place));
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

async fn converse(stream: UnixStream, control: ControlHandle, router: Router, _place: OwnedSemaphorePermit) {
    // An accepted connection that is about to send a request counts as one that is being answered.
    let first = Cell::new(Some(control.answering()));
    let Some(name) = peer(&stream).await else { return };
    let origin = Origin::at_socket(name);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(origin.clone());
        let answering = first.take().unwrap_or_else(|| control.answering());
        let answer = router.clone().oneshot(request);
        async move {
            let answer = answer.await;
            drop(answering);
            answer
        }
    });
    // The client has seen whatever broke the connection.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Returns `unix:UID(NAME)` of the peer process; `None` if the system does not identify it, and then it is refused.
async fn peer(stream: &UnixStream) -> Option<String> {
    let uid = stream.peer_cred().ok()?.uid();
    // The name may have to be asked of another machine.
    let named = tokio::task::spawn_blocking(move || User::from_uid(Uid::from_raw(uid)));
    Some(match named.await {
        Ok(Ok(Some(user))) => format!("unix:{uid}({})", user.name),
        _ => format!("unix:{uid}"),
    })
}
