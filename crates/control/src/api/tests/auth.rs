//! Who may come in.

use super::*;
use sha2::{Digest, Sha256};

const KEY: &str = "/v1/switches/live/keys/a.example";
const JSON: (&str, &str) = ("content-type", "application/json");

fn hashed(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a counter with two tokens, reached through a location.
fn with_tokens() -> TestApi {
    let file = format!("eve:viewer:{}\nolga:operator:{}\n", hashed("look"), hashed("act"));
    let http = format!("control_tokens tokens; {}", two_groups("state memory;"));
    let mut api = TestApi::of(&http, &[("tokens", file)]);
    api.origin = location();
    api
}

/// Returns a client at a location of the server `pointsman`, to which the tests' requests go.
fn location() -> Origin {
    Origin {
        via: Via::Location,
        name: String::new(),
        certificate: None,
        over_tls: false,
        address: "192.0.2.7".into(),
        local: Some([192, 0, 2, 1].into()),
        server_names: vec![b"pointsman".to_vec(), b"*.pointsman".to_vec()],
    }
}

#[tokio::test]
async fn a_token_says_who_it_is_and_what_they_may() {
    let api = with_tokens();
    let order = async |token: &str| {
        api.order_with("PUT", KEY, &[("authorization", token)], json!({"target": "green"})).await
    };
    assert_eq!(order("Bearer act").await.done()["actor"], "olga");
    assert_eq!(order("bearer  act ").await.status, 200);
    let viewer = order("Bearer look").await;
    assert_eq!((viewer.status, &*viewer.code()), (403, "forbidden"));
    for wrong in ["Bearer stranger", "Bearer ", "Basic YTpi"] {
        let refused = order(wrong).await;
        assert_eq!((refused.status, &*refused.code()), (401, "unauthorized"), "{wrong}");
        assert_eq!(refused.header("www-authenticate"), "Bearer");
    }
    let look = api.ask("GET", "/v1/switches", &[("authorization", "Bearer look")], None).await;
    assert_eq!(look.status, 200);
    assert_eq!(api.get("/v1/switches").await.code(), "unauthorized");
    assert_eq!(api.get("/nothing").await.code(), "unauthorized");
}

#[tokio::test]
async fn the_user_of_the_location_is_the_actor() {
    let mut api = with_tokens();
    api.origin.name = "ursula".into();
    // Whom an authenticated user acts for is a remark beside the name.
    let order = [("x-pointsman-actor", "root")];
    assert_eq!(
        api.order_with("PUT", KEY, &order, json!({"target": "green"})).await.done()["actor"],
        "ursula for root"
    );
    // Of anybody it would be a claim.
    let mut api = TestApi::new("");
    api.origin = location();
    let actor = api.order_with("PUT", KEY, &order, json!({"target": "green"})).await.done()["actor"].clone();
    assert!(
        actor.as_str().is_some_and(|actor| actor.starts_with("http:") && !actor.contains(" for ")),
        "{actor}"
    );
}

#[tokio::test]
async fn a_verified_certificate_that_is_listed_is_an_actor() {
    let file = format!("cara:operator:certificate:{}\nviewers:viewer:subject:CN=look\n", "aa".repeat(32));
    let http = format!("control_tokens tokens; {}", two_groups("state memory;"));
    let mut api = TestApi::of(&http, &[("tokens", file)]);
    let shown = |byte: u8, subject: &str| {
        Some(crate::call::VerifiedCertificate { sha256: [byte; 32], subject: subject.into() })
    };
    api.origin = location();
    assert_eq!(api.get("/v1/switches").await.code(), "unauthorized");
    api.origin.certificate = shown(0xaa, "CN=cara");
    let green = json!({"target": "green"});
    assert_eq!(api.order_with("PUT", KEY, &[], green.clone()).await.done()["actor"], "cara");
    // A browser sends a certificate by itself.
    let other_site = [("sec-fetch-site", "cross-site")];
    assert_eq!(api.ask("GET", "/v1/switches", &other_site, None).await.code(), "cross_site");
    assert_eq!(
        api.ask("GET", "/v1/switches", &[("host", "evil.example")], None).await.code(),
        "host_not_allowed"
    );
    // A token that is sent is what counts.
    let token = [("authorization", "Bearer stranger")];
    assert_eq!(api.order_with("PUT", KEY, &token, green.clone()).await.code(), "unauthorized");
    api.origin.certificate = shown(0xbb, "CN=look");
    assert_eq!(api.get("/v1/switches").await.status, 200);
    assert_eq!(api.order_with("PUT", KEY, &[], green).await.code(), "forbidden");
    api.origin.certificate = shown(0xbb, "CN=stranger");
    assert_eq!(api.get("/v1/switches").await.code(), "unauthorized");
}

#[tokio::test]
async fn without_tokens_a_token_opens_nothing() {
    let api = TestApi::new("state memory;");
    let refused = api.ask("GET", "/v1/switches", &[("authorization", "Bearer act")], None).await;
    assert_eq!(refused.code(), "unauthorized");
}

#[tokio::test]
async fn a_remark_stands_beside_the_name() {
    let api = TestApi::new("state memory;");
    let order = async |whom: &str| {
        api.order_with("PUT", KEY, &[("x-pointsman-actor", whom)], json!({"target": "green"})).await
    };
    assert_eq!(order("J%C3%BCrgen").await.done()["actor"], "unix:7(ann) for Jürgen");
    let long = "x".repeat(101);
    for bad in ["", "a%0Ab", "%FF", "%4", "a%E2%80%AEb", "a%E2%80%8Bb", "%C2%9B2J", &long] {
        assert_eq!(order(bad).await.code(), "bad_request", "{bad}");
    }
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    let api = TestApi::new("state memory;");
    for (headers, status) in [
        (&[("sec-fetch-site", "cross-site")][..], 403),
        (&[("sec-fetch-site", "same-site")], 403),
        (&[("sec-fetch-site", "same-origin")], 200),
        (&[("sec-fetch-site", "none")], 200),
        (&[("origin", "https://evil.example")], 403),
        (&[("origin", "null")], 403),
        (&[("origin", "https://")], 403),
        (&[("origin", "https://pointsman.evil.example")], 403),
        (&[("origin", "https://pointsman:8080")], 403),
        (&[("origin", "http://Pointsman")], 200),
        (&[("origin", "http://pointsman"), ("sec-fetch-site", "cross-site")], 403),
    ] {
        let answer = api.order_with("PUT", KEY, headers, json!({"target": "green"})).await;
        assert_eq!(answer.status, status, "{headers:?}");
        if status == 403 {
            assert_eq!(answer.code(), "cross_site");
        }
        // Looking is what the browser itself keeps from other sites.
        assert_eq!(api.ask("GET", "/v1/switches", headers, None).await.status, 200);
    }
}

/// A page of `evil.example` that has made its name lead to this machine: every request of its browser is refused, in
/// a location that lets its address in.
#[tokio::test]
async fn dns_rebinding_opens_nothing() {
    let mut api = TestApi::new("state memory;");
    api.origin = location();
    let evil =
        [("host", "evil.example"), ("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")];
    let order = || json!({"target": "green"});
    for headers in [&evil[..], &evil[..1], &[("host", "evil.example:8090")], &[("host", "a.pointsman")]] {
        for (method, target) in [
            ("PUT", KEY),
            ("DELETE", KEY),
            ("POST", "/v1/switches/live/undo"),
            ("POST", "/v1/reload"),
            ("GET", "/v1/switches"),
            ("GET", "/v1/switches/live/history"),
            ("GET", "/v1/status"),
            ("GET", "/v1/metrics"),
            ("GET", "/v1/events"),
            ("GET", "/v1/openapi.json"),
        ] {
            let body = (method != "GET").then(|| order().to_string());
            let answer = api.ask(method, target, &[&[JSON], headers].concat(), body).await;
            assert_eq!(
                (answer.status, &*answer.code()),
                (403, "host_not_allowed"),
                "{method} {target} {headers:?}"
            );
        }
    }
    // Its own name is in Origin at least where it asks for the machine by another one.
    for origin in ["http://evil.example", "http://evil.example:8090", "null", "file://", "http://a.pointsman"]
    {
        let answer = api.ask("GET", "/v1/events", &[("host", "localhost"), ("origin", origin)], None).await;
        assert_eq!((answer.status, &*answer.code()), (403, "cross_site"), "{origin}");
    }
    for site in ["cross-site", "same-site"] {
        let answer = api.ask("GET", "/v1/switches", &[("sec-fetch-site", site)], None).await;
        assert_eq!((answer.status, &*answer.code()), (403, "cross_site"), "{site}");
    }
    for host in ["pointsman", "Pointsman:8090", "localhost", "127.0.0.1:8090", "[::1]", "192.0.2.1"] {
        let own = format!("http://{host}");
        let headers = [("host", host), ("origin", &*own), ("sec-fetch-site", "same-origin")];
        let answer = api.order_with("PUT", KEY, &headers, order()).await;
        assert_eq!(answer.status, 200, "{host}: {}", answer.text);
    }
    assert_eq!(api.get("/v1/switches/live").await.done()["revision"], 1, "all of them were the same order");
}

#[tokio::test]
async fn a_token_or_the_socket_needs_no_name_of_ours() {
    let api = with_tokens();
    let order = async |headers: &[(&str, &str)]| {
        api.order_with("PUT", KEY, headers, json!({"target": "green"})).await
    };
    let evil = ("host", "evil.example");
    assert_eq!(order(&[evil, ("authorization", "Bearer act")]).await.status, 200);
    assert_eq!(order(&[evil, ("authorization", "Bearer wrong")]).await.status, 401);
    assert_eq!(order(&[evil]).await.status, 401);
    let mut api = with_tokens();
    api.origin.name = "ursula".into();
    let answer = api.ask("GET", "/v1/switches", &[evil], None).await;
    assert_eq!(
        (answer.status, &*answer.code()),
        (403, "host_not_allowed"),
        "a browser may know the password"
    );
    let socket = TestApi::new("state memory;");
    assert_eq!(socket.ask("GET", "/v1/switches", &[evil], None).await.status, 200);
}

#[tokio::test]
async fn an_order_is_json_and_says_so() {
    let api = TestApi::new("state memory;");
    let body = || Some(r#"{"target":"green"}"#.to_owned());
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp"]
    {
        let answer = api.ask("PUT", KEY, &[("content-type", kind)], body()).await;
        assert_eq!((answer.status, &*answer.code()), (415, "bad_media_type"), "{kind}");
    }
    assert_eq!(api.ask("PUT", KEY, &[], body()).await.status, 415);
    assert_eq!(
        api.ask("PUT", KEY, &[("content-type", "Application/JSON;charset=utf-8")], body()).await.status,
        200
    );
}

#[tokio::test]
async fn get_changes_nothing_and_other_methods_are_named() {
    let api = TestApi::new("state memory;");
    let body = Some(r#"{"target":"green"}"#.to_owned());
    assert_eq!(api.ask("GET", KEY, &[JSON], body.clone()).await.done()["route"], "blue");
    assert_eq!(api.ask("HEAD", KEY, &[], None).await.status, 200);
    for (method, target) in [
        ("POST", KEY),
        ("PATCH", KEY),
        ("OPTIONS", KEY),
        ("GET", "/v1/switches/live/undo"),
        ("DELETE", "/v1/switches/live"),
        ("PUT", "/v1/status"),
        ("TRACE", "/v1/switches"),
    ] {
        let answer = api.ask(method, target, &[JSON], body.clone()).await;
        assert_eq!((answer.status, &*answer.code()), (405, "method_not_allowed"), "{method} {target}");
    }
    for target in ["/", "/v1", "/v2/switches", "/v1/switches/", "/v1/switches/live/x"] {
        assert_eq!(api.get(target).await.code(), "not_found", "{target}");
    }
    // The empty key, which is no host.
    assert_eq!(api.get("/v1/switches/live/keys/").await.code(), "bad_key");
    assert_eq!(api.get("/v1/switches/live").await.done()["revision"], 0);
}

#[tokio::test]
async fn a_request_without_a_peer_is_unauthorised() {
    let api = TestApi::new("state memory;");
    let request = Request::builder().uri("/v1/switches").body(Body::empty()).unwrap();
    let response = api.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 401);
}
