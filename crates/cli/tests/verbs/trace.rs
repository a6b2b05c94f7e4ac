//! Traces of requests and orders (`POINTSMAN_TRACE`).

use super::*;

#[test]
fn a_request_leaves_a_span_for_each_of_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.json");
    let server = Server::start_with("", "", &[("POINTSMAN_TRACE", file.to_str().unwrap())]);
    server.say(&["switch", "a.example", "green"]).done();
    assert!(server.get("a.example").ends_with("green"));
    let mut lines = Vec::new();
    server.until("the span of the request", || {
        let text = std::fs::read_to_string(&file).unwrap();
        lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
        lines.iter().any(|line| line["span"]["name"] == "request" && line["span"]["status"] == 200)
    });
    let span = |name: &str| {
        let found = lines.iter().map(|line| &line["span"]).find(|span| span["name"] == name);
        found.unwrap_or_else(|| panic!("no span {name}: {lines:?}"))
    };
    assert!(span("accept")["connection"].is_u64());
    assert_eq!(span("phase")["step"], "serve");
    assert_eq!(span("pick")["group"], "green");
    assert_eq!(span("attempt")["status"], 200);
    assert_eq!(span("relay")["whole"], true);
    let is_of_the_try = |name: &str| {
        let attempt = span("attempt");
        let same = |span: &Value| {
            span["connection"] == attempt["connection"] && span["request"] == attempt["request"]
        };
        lines.iter().map(|line| &line["span"]).any(|span| span["name"] == name && same(span))
    };
    for name in ["request", "phase", "pick", "relay"] {
        assert!(is_of_the_try(name), "{name} has other numbers: {lines:?}");
    }
}

#[test]
fn an_order_is_traced_step_by_step() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.json");
    let environment = [("POINTSMAN_TRACE", file.to_str().unwrap())];
    let server = Server::start_with("gate healthy=1 timeout=5s;", "", &environment);
    server.say(&["switch", "a.example", "green"]).done();
    let line = |name: &str| {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find(|line| line["span"]["name"] == name)
    };
    for name in ["plan", "gate", "commit", "publish", "drain"] {
        server.until(name, || line(name).is_some());
        let parents = &line(name).unwrap()["spans"];
        let order = &parents[0];
        assert_eq!(
            (&order["name"], &order["switch"]),
            (&"order".into(), &"live".into()),
            "{name}: {parents}"
        );
    }
}
