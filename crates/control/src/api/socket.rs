//! The control socket.
//!
//! Owns its connections, and who is at their other end. Must never let anybody hold a place for ever: what is begun
//! has to come within a time.

use super::router::Api;
use crate::call::Origin;
use crate::office::Office;
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

/// How many connections there may be at a time.
const MAX_CONNECTIONS: usize = 256;
/// How long a request's head may take, and a kept connection may be silent.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// After an accept that failed for want of something.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the API on the socket. Once it is told that this is `closing` it lets nobody in any more; all connections end
/// with it.
pub(crate) async fn serve(office: Office, listener: std::os::unix::net::UnixListener, closing: Rc<Notify>) {
    let listening = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
    let listener = match listening {
        Ok(listener) => listener,
        Err(error) => {
            return office.log(Level::Emerg, &format!("the control socket cannot be served: {error}"));
        }
    };
    let router = Api::new(office.clone()).router();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut conversations = JoinSet::new();
    let accepting = async {
        loop {
            // The semaphore is never closed.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    conversations.spawn_local(converse(stream, office.clone(), router.clone(), place));
                    while conversations.try_join_next().is_some() {}
                }
                Err(error) => {
                    office.log(Level::Error, &format!("accept() on the control socket failed: {error}"));
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

async fn converse(stream: UnixStream, office: Office, router: Router, _place: OwnedSemaphorePermit) {
    // Whoever has been let in, and is about to ask, counts as one who is about to be answered.
    let first = Cell::new(Some(office.answering()));
    let Some(name) = peer(&stream).await else { return };
    let origin = Origin::at_socket(name);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(origin.clone());
        let answering = first.take().unwrap_or_else(|| office.answering());
        let answer = router.clone().oneshot(request);
        async move {
            let answer = answer.await;
            drop(answering);
            answer
        }
    });
    // Whatever breaks a connection, its client has seen it.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// `unix:UID(NAME)` of the process at the other end; nothing if the system does not say who it is, and then it is not
/// let in.
async fn peer(stream: &UnixStream) -> Option<String> {
    let uid = stream.peer_cred().ok()?.uid();
    // The name may have to be asked of another machine.
    let named = tokio::task::spawn_blocking(move || User::from_uid(Uid::from_raw(uid)));
    Some(match named.await {
        Ok(Ok(Some(user))) => format!("unix:{uid}({})", user.name),
        _ => format!("unix:{uid}"),
    })
}
