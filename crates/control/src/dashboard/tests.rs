//! The front, with the door of a location and one that is always open.

use super::*;
use crate::StoredReload;
use crate::api::error::ApiError;
use crate::testing::{FakeDataPlane, open, two_groups};
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use engine::modules::control::Role;
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use switch::{Code, Refusal};

/// A door with one secret, which can be taken away.
#[derive(Default)]
struct OneDoor {
    is_encrypted: bool,
    role: Mutex<Option<Role>>,
    noted: Mutex<Vec<String>>,
}

impl Door for OneDoor {
    fn open(&self, secret: &str) -> Option<Visitor> {
        let role = (*self.role.lock().unwrap())?;
        (secret == "sesame").then(|| Visitor { name: "olga".into(), role, credential: [1; 32] })
    }
    fn role(&self, _: &Visitor) -> Option<Role> {
        *self.role.lock().unwrap()
    }
    fn admits(&self, host: &[u8]) -> bool {
        host == b"here:1"
    }
    fn is_own_page(&self, origin: &[u8], host: &[u8]) -> bool {
        origin.strip_prefix(b"http://") == Some(host)
    }
    fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }
    fn cookie(&self) -> String {
        "pointsman-1".into()
    }
    fn way_to_operate(&self) -> &'static str {
        "knock"
    }
    fn note_refusal(&self, actor: &str, code: Code, _: &str) {
        self.noted.lock().unwrap().push(format!("{actor} {code}"));
    }
}

struct House {
    door: Arc<OneDoor>,
    logins: Arc<Logins>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
    fn code(&self) -> String {
        format!("{} {}", self.status, self.json()["code"].as_str().unwrap())
    }
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

const HOST: (&str, &str) = ("host", "here:1");
const PAGE: (&str, &str) = ("origin", "http://here:1");
const JSON: (&str, &str) = ("content-type", "application/json");

impl House {
    fn new(role: Role) -> House {
        let door = Arc::new(OneDoor::default());
        *door.role.lock().unwrap() = Some(role);
        House { door, logins: Arc::default() }
    }

    async fn begin(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let api = |request: Request, visitor: Visitor| async move {
            match request.uri().path() {
                "/v1/events" => {
                    let pieces = Pieces(["id: 1\n\n", "id: 2\n\n"].map(Bytes::from).into());
                    ([("content-type", "text/event-stream")], Body::new(pieces)).into_response()
                }
                "/v1/refused" => ApiError(Refusal::new(Code::Unauthorized, "no", "")).into_response(),
                path => format!("{path} by {}", visitor.name).into_response(),
            }
        };
        answer(self.door.clone(), &self.logins, "192.0.2.7", request, api).await
    }

    async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let (head, body) = self.begin(method, target, headers, body).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    async fn log_in(&self, secret: &str) -> Answer {
        self.ask("POST", "/session", &[HOST, PAGE, JSON], &json!({ "secret": secret }).to_string()).await
    }

    /// Returns the cookie and the CSRF token of a new session.
    async fn session(&self) -> (String, String) {
        let answer = self.log_in("sesame").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
        (cookie, answer.json()["csrf"].as_str().unwrap().to_owned())
    }
}

/// A stream of events.
struct Pieces(VecDeque<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

#[tokio::test]
async fn without_a_session_there_is_only_the_way_in() {
    let house = House::new(Role::Operator);
    let get = async |target: &str| house.ask("GET", target, &[HOST], "").await;
    let page = get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("<title>pointsman: log in</title>"));
    assert_eq!(page.header("cache-control"), "no-store");
    for open in ["enter.js", "dashboard.css", "icon.svg"] {
        assert_eq!(get(&format!("/assets/{open}")).await.status, 200, "{open}");
    }
    for closed in [
        "/assets/main.js",
        "/assets/uPlot.iife.min.js",
        "/assets/none",
        "/session",
        "/v1/switches",
        "/v1/events",
        "/x",
    ] {
        let answer = get(closed).await;
        assert_eq!(answer.code(), "401 unauthorized", "{closed}");
        assert_eq!(answer.header("www-authenticate"), "", "{closed}: no browser is to ask for a password");
    }
    let forged = [HOST, ("cookie", "pointsman-1=0000"), ("cookie", "pointsman-1=")];
    assert_eq!(house.ask("GET", "/v1/switches", &forged, "").await.status, 401);
}

#[tokio::test]
async fn every_answer_keeps_other_pages_out() {
    let house = House::new(Role::Operator);
    let (cookie, _) = house.session().await;
    let cookie = ("cookie", &*cookie);
    for target in ["/", "/assets/main.js", "/session", "/v1/switches", "/none"] {
        let answer = house.ask("GET", target, &[HOST, cookie], "").await;
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'; script-src 'self';"), "{target}: {policy}");
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{target}: {policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{target}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{target}");
        assert!(!answer.header("cache-control").is_empty(), "{target}");
    }
}

#[tokio::test]
async fn login_makes_a_cookie_that_scripts_and_other_sites_do_not_get() {
    let house = House::new(Role::Operator);
    assert_eq!(house.log_in("open").await.code(), "401 unauthorized");
    assert_eq!(*house.door.noted.lock().unwrap(), ["dashboard unauthorized"]);
    let answer = house.log_in(" sesame\n").await;
    assert_eq!(
        (answer.json()["name"].as_str(), answer.json()["role"].as_str()),
        (Some("olga"), Some("operator"))
    );
    let set = answer.header("set-cookie");
    let (pair, rest) = set.split_once(';').unwrap();
    assert_eq!(rest, " Path=/; HttpOnly; SameSite=Strict");
    assert_eq!(pair.len(), "pointsman-1=".len() + 64);
    assert!(!answer.text.contains(&pair[12..]), "the page itself never sees it");
    let known = house.ask("GET", "/session", &[HOST, ("cookie", pair)], "").await;
    assert_eq!(known.json()["csrf"], answer.json()["csrf"]);
    assert_eq!(
        house.ask("GET", "/", &[HOST, ("cookie", pair)], "").await.text.matches("assets/main.js").count(),
        1
    );
    let call = house.ask("GET", "/v1/switches", &[HOST, ("cookie", pair)], "").await;
    assert_eq!(call.text, "/v1/switches by olga");
}

#[tokio::test]
async fn cookie_over_tls_is_of_this_host_alone() {
    let door = OneDoor { is_encrypted: true, ..OneDoor::default() };
    *door.role.lock().unwrap() = Some(Role::Viewer);
    let house = House { door: Arc::new(door), logins: Arc::default() };
    let answer = house.log_in("sesame").await;
    assert!(
        answer.header("set-cookie").ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"),
        "{}",
        answer.header("set-cookie")
    );
}

#[tokio::test]
async fn login_needs_its_own_page() {
    let house = House::new(Role::Operator);
    let body = json!({"secret": "sesame"}).to_string();
    let post = async |headers: &[(&str, &str)]| house.ask("POST", "/session", headers, &body).await.code();
    assert_eq!(post(&[HOST, JSON]).await, "403 cross_site", "no Origin");
    for origin in ["http://evil.example", "http://here:2", "https://here:1", "null", ""] {
        assert_eq!(post(&[HOST, JSON, ("origin", origin)]).await, "403 cross_site", "{origin}");
    }
    assert_eq!(post(&[HOST, JSON, PAGE, ("sec-fetch-site", "same-site")]).await, "403 cross_site");
    assert_eq!(
        post(&[("host", "evil.example"), JSON, ("origin", "http://evil.example")]).await,
        "403 host_not_allowed"
    );
    assert_eq!(post(&[JSON, PAGE]).await, "403 host_not_allowed");
    assert_eq!(post(&[HOST, ("host", "here:1"), JSON, PAGE]).await, "403 host_not_allowed", "two of them");
    assert_eq!(
        post(&[HOST, PAGE, ("content-type", "text/plain")]).await,
        "415 bad_media_type",
        "as a form could send"
    );
    let long = json!({"secret": "x".repeat(5000)}).to_string();
    for bad in ["", "{}", "{\"secret\":1}", "{\"secret\":\"a\",\"more\":1}", &long] {
        assert_eq!(house.ask("POST", "/session", &[HOST, PAGE, JSON], bad).await.code(), "400 bad_request");
    }
}

#[tokio::test]
async fn failed_logins_are_limited() {
    let house = House::new(Role::Operator);
    for _ in 0..5 {
        assert_eq!(house.log_in("guess").await.status, 401);
    }
    let limited = house.log_in("sesame").await;
    assert_eq!(limited.code(), "429 too_many_logins");
    assert!(!limited.header("retry-after").is_empty());
}

#[tokio::test]
async fn act_needs_origin_csrf_token_and_rights() {
    let house = House::new(Role::Operator);
    let (cookie, csrf) = house.session().await;
    let (cookie, csrf) = (("cookie", &*cookie), ("x-pointsman-csrf", &*csrf));
    let put = async |headers: &[(&str, &str)]| house.ask("PUT", "/v1/x", headers, "").await;
    assert_eq!(put(&[HOST, PAGE, cookie, csrf]).await.text, "/v1/x by olga");
    assert_eq!(put(&[HOST, PAGE, cookie]).await.code(), "403 cross_site");
    assert_eq!(put(&[HOST, PAGE, cookie, ("x-pointsman-csrf", "guess")]).await.code(), "403 cross_site");
    assert_eq!(put(&[HOST, cookie, csrf]).await.code(), "403 cross_site", "no Origin");
    assert_eq!(put(&[HOST, ("origin", "http://evil.example"), cookie, csrf]).await.code(), "403 cross_site");
    assert_eq!(put(&[HOST, PAGE, csrf]).await.code(), "401 unauthorized");
    let (other, _) = house.session().await;
    assert_eq!(
        put(&[HOST, PAGE, ("cookie", &other), csrf]).await.code(),
        "403 cross_site",
        "another session's token"
    );
    // Rights are those of now.
    *house.door.role.lock().unwrap() = Some(Role::Viewer);
    let refused = put(&[HOST, PAGE, cookie, csrf]).await;
    assert_eq!(refused.code(), "403 forbidden");
    assert_eq!(
        (refused.json()["text"].as_str(), refused.json()["remedy"].as_str()),
        (Some("olga has read-only access"), Some("knock"))
    );
    assert_eq!(house.ask("GET", "/v1/x", &[HOST, cookie], "").await.status, 200);
    assert_eq!(house.door.noted.lock().unwrap().last().unwrap(), "olga forbidden");
}

#[tokio::test]
async fn a_foreign_page_gets_nothing_even_with_the_cookie() {
    let house = House::new(Role::Operator);
    let (cookie, _) = house.session().await;
    let cookie = ("cookie", &*cookie);
    for site in ["cross-site", "same-site"] {
        let answer = house.ask("GET", "/v1/events", &[HOST, cookie, ("sec-fetch-site", site)], "").await;
        assert_eq!(answer.code(), "403 cross_site", "{site}");
    }
    let rebound = house.ask("GET", "/v1/switches", &[("host", "evil.example:1"), cookie], "").await;
    assert_eq!(rebound.code(), "403 host_not_allowed");
    // A link of another page leads to the page.
    assert_eq!(house.ask("GET", "/", &[HOST, ("sec-fetch-site", "cross-site")], "").await.status, 200);
}

#[tokio::test]
async fn logout_and_lost_rights_end_a_session_and_its_stream() {
    let house = House::new(Role::Operator);
    let (cookie, csrf) = house.session().await;
    let (cookie, csrf) = (("cookie", &*cookie), ("x-pointsman-csrf", &*csrf));
    let stream = async || house.begin("GET", "/v1/events", &[HOST, cookie], "").await.into_body();
    let mut open = stream().await;
    assert_eq!(open.frame().await.unwrap().unwrap().into_data().unwrap(), "id: 1\n\n");
    assert_eq!(house.ask("DELETE", "/session", &[HOST, PAGE, cookie], "").await.code(), "403 cross_site");
    let out = house.ask("DELETE", "/session", &[HOST, PAGE, cookie, csrf], "").await;
    assert_eq!(out.status, 204);
    assert!(
        out.header("set-cookie").contains("pointsman-1=; Path=/;")
            && out.header("set-cookie").contains("Max-Age=0")
    );
    assert!(open.frame().await.is_none(), "the stream has ended");
    assert_eq!(house.ask("GET", "/v1/x", &[HOST, cookie], "").await.status, 401);
    let (cookie, _) = house.session().await;
    let cookie = ("cookie", &*cookie);
    let mut open = house.begin("GET", "/v1/events", &[HOST, cookie], "").await.into_body();
    assert!(open.frame().await.is_some());
    *house.door.role.lock().unwrap() = None;
    assert!(open.frame().await.is_none());
    assert_eq!(house.ask("GET", "/v1/x", &[HOST, cookie], "").await.status, 401);
    // It does not come back with the rights.
    *house.door.role.lock().unwrap() = Some(Role::Operator);
    assert_eq!(house.ask("GET", "/v1/x", &[HOST, cookie], "").await.status, 401);
}

#[tokio::test]
async fn files_are_sent_once() {
    let house = House::new(Role::Viewer);
    let (cookie, _) = house.session().await;
    let cookie = ("cookie", &*cookie);
    let first = house.ask("GET", "/assets/main.js", &[HOST, cookie], "").await;
    assert!(first.header("content-type").starts_with("text/javascript"));
    let tag = first.header("etag").to_owned();
    let again = house.ask("GET", "/assets/main.js", &[HOST, cookie, ("if-none-match", &tag)], "").await;
    assert_eq!((again.status, &*again.text), (304, ""));
    for none in ["/assets/", "/assets/../mod.rs", "/assets/%2e%2e/mod.rs", "/assets/main.js/x"] {
        assert_eq!(house.ask("GET", none, &[HOST, cookie], "").await.status, 404, "{none}");
    }
}

#[tokio::test]
async fn token_of_the_configuration_opens_until_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let hash: String = Sha256::digest("act").iter().map(|byte| format!("{byte:02x}")).collect();
    let config = |tokens: &str| {
        let http = format!("control_tokens tokens; {}", two_groups("state memory;"));
        crate::api::tests::transports::config(folder.path(), &http, &[("tokens", tokens.to_owned())])
    };
    let (control, _) = open(&config(&format!("olga:operator:{hash}\n")), &FakeDataPlane::new()).unwrap();
    let door = TokenDoor::new(control.clone(), true);
    assert!(door.open("look").is_none());
    let visitor = door.open("act").unwrap();
    assert_eq!((&*visitor.name, visitor.role), ("olga", Role::Operator));
    assert_eq!((door.cookie(), door.is_encrypted()), ("__Host-pointsman".to_owned(), true));
    for (tokens, role) in [
        (format!("olga:viewer:{hash}\n"), Some(Role::Viewer)),
        (format!("otto:operator:{hash}\n"), None),
        (format!("olga:operator:{}\n", "a".repeat(64)), None),
        (format!("olga:operator:{hash}\n"), Some(Role::Operator)),
    ] {
        control.prepare_reload(&config(&tokens)).and_then(|it| it.store()).map(StoredReload::commit).unwrap();
        assert_eq!(door.role(&visitor), role, "{tokens}");
    }
    let (plain, host) = (TokenDoor::new(control.clone(), false), b"gate.example:8090");
    assert_eq!(plain.cookie(), "pointsman");
    for (origin, of_plain, of_tls) in [
        ("http://gate.example:8090", true, false),
        ("https://GATE.example:8090", true, true),
        ("https://gate.example", false, false),
        ("http://", false, false),
        ("null", false, false),
    ] {
        assert_eq!(plain.is_own_page(origin.as_bytes(), host), of_plain, "{origin}");
        assert_eq!(door.is_own_page(origin.as_bytes(), host), of_tls, "{origin}");
    }
    control.stop();
}
