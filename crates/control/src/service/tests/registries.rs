//! Servers that a registry has: what it answers, what it must not, and how often it is asked.

use super::discovery::World;
use super::*;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Mutex;
use tower::ServiceExt;

/// How a registry answers.
#[derive(Clone)]
enum Says {
    /// This list, under an `ETag` of its own.
    List(String),
    Status(u16),
    Nothing,
}

/// A registry over HTTP, and the questions it got: whether each had the tag of the list.
#[derive(Clone)]
struct Registry {
    says: Arc<Mutex<Says>>,
    asked: Arc<Mutex<Vec<(Instant, bool)>>>,
}

async fn answer(State(registry): State<Registry>, head: HeaderMap) -> Response {
    let says = registry.says.lock().unwrap().clone();
    let tag = match &says {
        Says::List(list) => format!("\"{}-{}\"", list.len(), list.bytes().map(u64::from).sum::<u64>()),
        _ => String::new(),
    };
    let is_known = head.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    registry.asked.lock().unwrap().push((Instant::now(), is_known));
    match says {
        Says::List(_) if is_known => StatusCode::NOT_MODIFIED.into_response(),
        Says::List(list) => ([(header::ETAG, tag)], list).into_response(),
        Says::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Says::Nothing => std::future::pending().await,
    }
}

impl Registry {
    /// Starts it, and returns its URL.
    async fn start(says: Says) -> (Registry, String) {
        let registry = Registry { says: Arc::new(Mutex::new(says)), asked: Arc::default() };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let router =
            axum::Router::new().route("/list", axum::routing::get(answer)).with_state(registry.clone());
        // A start blocks this thread while it waits for the first answer.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, router));
        });
        (registry, format!("http://{address}/list"))
    }

    fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }
}

/// Serves until the process ends.
async fn serve(listener: std::net::TcpListener, router: axum::Router) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let router = router.clone();
        let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            router.clone().oneshot(request.map(axum::body::Body::new))
        });
        let stream = hyper_util::rt::TokioIo::new(stream);
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
        });
    }
}

#[tokio::test]
async fn a_registry_is_followed_and_what_it_must_not_say_changes_nothing() {
    let list = |text: &str| Says::List(text.to_owned());
    let (registry, url) = Registry::start(list("[\"10.0.0.1:81\"]")).await;
    let world = World::start(&format!("servers http={url} interval=100ms timeout=500ms;"));
    assert_eq!(world.published(), ["10.0.0.1:81"], "a start waits for the first answer");
    registry.say(list("server 10.0.0.2:81 weight=2;\nserver 10.0.0.3:81;\n"));
    let two = ["10.0.0.2:81 w2", "10.0.0.3:81"];
    world.until(&two).await;
    let publications = world.publications();
    until("it is asked with the tag of what is known", || {
        registry.asked.lock().unwrap().iter().filter(|(_, is_known)| *is_known).count() >= 3
    })
    .await;
    let large = format!("[{}\"10.0.0.1\"]", " ".repeat(5 << 20));
    for (says, words) in [
        (Says::Status(503), "it answered 503"),
        (list("<html>"), "its answer is broken: its last line has no end"),
        (list("[\"10.0.0.9\", {}]"), "its answer is broken: server 2"),
        (Says::Nothing, "no answer within 500 ms"),
        (list(&large), "its answer cannot be read"),
        (list("[]"), "it would leave 0 of 2 servers"),
    ] {
        registry.say(says);
        world.until_said(words).await;
        assert_eq!(
            (world.published(), world.publications()),
            (two.map(str::to_owned).to_vec(), publications)
        );
    }
    registry.say(list("[\"10.0.0.4:81\"]"));
    world.until(&["10.0.0.4:81"]).await;
    world.until_said("None None").await;
    world.control.stop();
}

#[tokio::test]
async fn a_registry_that_fails_is_asked_ever_less_often() {
    let (registry, url) = Registry::start(Says::Status(500)).await;
    let world = World::start(&format!("servers http={url} interval=100ms;"));
    world.until_said("it answered 500").await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    // 100, 200, 400, 800, 1600 ms and a quarter more or less, after the first of the start.
    let asked = registry.asked.lock().unwrap().len();
    assert!((4..=8).contains(&asked), "{asked}");
    world.control.stop();
}
