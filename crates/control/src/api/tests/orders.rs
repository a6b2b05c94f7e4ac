//! Orders.

use super::*;

const KEY: &str = "/v1/switches/live/keys/a.example";

#[tokio::test]
async fn a_key_is_switched_and_reset() {
    let api = TestApi::new("");
    let put = api.order("PUT", KEY, json!({"target": "green", "reason": "release 7"})).await;
    assert_eq!(put.header("etag"), "\"1\"");
    let receipt = put.done();
    assert_eq!((&receipt["outcome"], &receipt["actor"]), (&json!("committed"), &json!("unix:7(ann)")));
    assert_eq!(receipt["changes"][0], json!({"key": "a.example", "from": null, "to": "green"}));
    assert_eq!(api.data_plane.leads("a.example").as_deref(), Some("green"));
    let split = json!({"split": {"green": 10, "blue": 90}, "wait": "drained", "timeout": "1s"});
    let receipt = api.order("PUT", KEY, split).await.done();
    assert_eq!(receipt["drain"]["state"], "drained");
    assert_eq!(receipt["changes"][0]["to"], "blue=90 green=10");
    // One share is the whole.
    let receipt = api.order("PUT", KEY, json!({"split": {"green": 5}})).await.done();
    assert_eq!(receipt["changes"][0]["to"], "green");
    let receipt = api.order("DELETE", KEY, json!({})).await.done();
    assert_eq!(receipt["changes"][0]["to"], Value::Null);
    assert_eq!(api.data_plane.leads("a.example"), None);
    let again = api.order("DELETE", KEY, json!({})).await.done();
    assert_eq!((&again["outcome"], &again["revision"]), (&json!("unchanged"), &json!(4)));
}

#[tokio::test]
async fn an_order_on_a_condition() {
    let api = TestApi::new("");
    let to = |target: &str| json!({"target": target});
    let first = api.order_with("PUT", KEY, &[("if-match", "\"0\"")], to("green")).await;
    assert_eq!(first.status, 200);
    let late = api.order_with("PUT", KEY, &[("if-match", "\"0\"")], to("blue")).await;
    assert_eq!((late.status, &*late.code()), (412, "revision_conflict"));
    assert_eq!(late.json()["details"], json!({"expected": 0, "actual": 1}));
    assert_eq!(api.order_with("PUT", KEY, &[("if-match", "*")], to("blue")).await.status, 200);
    for tag in ["W/\"2\"", "2", "\"2\", \"3\"", "\"x\"", "\"\"", "\"+2\""] {
        let refused = api.order_with("PUT", KEY, &[("if-match", tag)], to("green")).await;
        assert_eq!(refused.code(), "bad_request", "{tag}");
    }
    let twice =
        api.order_with("PUT", KEY, &[("if-match", "\"2\""), ("if-match", "\"2\"")], to("green")).await;
    assert_eq!(twice.code(), "bad_request");
}

#[tokio::test]
async fn promise_15_an_order_on_what_is_not_there_yet() {
    let api = TestApi::new("");
    let new = [("if-none-match", "*")];
    let to = |target: &str| json!({"target": target});
    api.order_with("PUT", KEY, &new, to("green")).await.done();
    for target in ["blue", "green"] {
        let there = api.order_with("PUT", KEY, &new, to(target)).await;
        assert_eq!((there.status, &*there.code()), (412, "entry_conflict"));
    }
    assert_eq!(api.data_plane.leads("a.example").as_deref(), Some("green"));
    let commits = "/v1/switches/live/commits";
    let both = json!({"changes": [{"key": "b", "target": "green"}, {"key": "a.example", "target": "blue"}]});
    let one_there = api.order_with("POST", commits, &new, both).await;
    assert_eq!((one_there.status, &*one_there.code()), (412, "entry_conflict"));
    assert_eq!(api.data_plane.leads("b"), None, "all or none");
    api.order_with("DELETE", KEY, &[], json!({})).await.done();
    api.order_with("PUT", KEY, &new, to("blue")).await.done();
    // What cannot be kept is not passed over.
    for value in ["\"1\"", "\"entry-0\"", "", "*, *"] {
        let odd = api.order_with("PUT", KEY, &[("if-none-match", value)], to("green")).await;
        assert_eq!((odd.status, &*odd.code()), (400, "bad_request"), "{value}");
    }
    api.order("PUT", KEY, json!({"target": "green", "confirm_within": "10m"})).await.done();
    let confirm = api.order_with("POST", "/v1/switches/live/confirm", &new, json!({})).await;
    assert_eq!(confirm.code(), "bad_order");
    for header in [("if-none-match", "*"), ("if-match", "\"1\"")] {
        let hold = "/v1/switches/live/holds/a.example";
        for (method, path) in [("PUT", hold), ("DELETE", hold), ("POST", "/v1/reload")] {
            let refused = api.order_with(method, path, &[header], json!({})).await;
            assert_eq!((refused.status, &*refused.code()), (400, "bad_request"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn promise_15_each_key_of_a_list_has_an_expectation_of_its_own() {
    let api = TestApi::new("");
    let commits = "/v1/switches/live/commits";
    let first = json!({"changes": [{"key": "a", "target": "green"}, {"key": "b", "target": "blue"}]});
    api.order("POST", commits, first).await.done();
    let swap = |a: &str, b: &str, c: u64| {
        json!({"changes": [
            {"key": "a", "target": "blue", "expect_route": a},
            {"key": "b", "target": "green", "expect_route": b, "expect_revision": 1},
            {"key": "c", "target": "green", "expect_revision": c}]})
    };
    for (a, b, c, key) in [("blue", "blue", 0, "a"), ("green", "default", 0, "b"), ("green", "blue", 1, "c")]
    {
        let refused = api.order("POST", commits, swap(a, b, c)).await;
        assert_eq!((refused.status, &*refused.code()), (412, "entry_conflict"));
        assert!(refused.json()["text"].as_str().unwrap().contains(&format!("\"{key}\"")), "{key}");
    }
    assert_eq!(api.data_plane.leads("a").as_deref(), Some("green"));
    api.order("POST", commits, swap("green", "blue", 0)).await.done();
    assert_eq!(api.data_plane.leads("a").as_deref(), Some("blue"));
    let odd = json!({"changes": [{"key": "a", "target": "blue", "expect_route": "a=b=c"}]});
    assert_eq!(api.order("POST", commits, odd).await.code(), "bad_route");
}

#[tokio::test]
async fn promise_15_an_order_on_the_state_of_its_key_alone() {
    let api = TestApi::new("");
    api.order("PUT", KEY, json!({"target": "green"})).await.done();
    let tag = api.get(KEY).await.header("etag").to_owned();
    assert_eq!(tag, "\"entry-1\"");
    assert_eq!(api.get("/v1/switches/live/keys/c.example").await.header("etag"), "\"entry-0\"");
    // Somebody else's key does not matter, whatever the switch's revision is.
    api.order("PUT", "/v1/switches/live/keys/b.example", json!({"target": "green"})).await.done();
    let named = [("if-match", &*tag)];
    let put = || api.order_with("PUT", KEY, &named, json!({"split": {"green": 1, "blue": 1}}));
    put().await.done();
    let late = put().await;
    assert_eq!((late.status, &*late.code()), (412, "entry_conflict"));
    assert_eq!(late.json()["details"]["keys"][0]["key"], "a.example");
    let to_blue = |expected: &str| api.order("PUT", KEY, json!({"target": "blue", "expect_route": expected}));
    for (expected, code) in [("blue", "entry_conflict"), ("default", "entry_conflict"), ("a=", "bad_route")] {
        assert_eq!(to_blue(expected).await.code(), code, "{expected}");
    }
    to_blue("blue=1 green=1").await.done();
    let undo = json!({"keys": ["a.example"], "expect_route": "green"});
    assert_eq!(api.order("POST", "/v1/switches/live/undo", undo).await.code(), "entry_conflict");
}

#[tokio::test]
async fn promise_10_a_key_that_is_probably_not_meant_is_refused_or_noted() {
    let api = TestApi::new("");
    api.order("PUT", "/v1/switches/live/keys/shop.example.com", json!({"target": "green"})).await.done();
    let to = |key: &str, order: Value| {
        let path = format!("/v1/switches/live/keys/{key}");
        let api = &api;
        async move { api.order("PUT", &path, order).await }
    };
    for key in ["~%5Ea", "a%3Bb", "green", "default", "a:65536", "shop%E2%80%AE.example"] {
        assert_eq!(to(key, json!({"target": "green"})).await.code(), "bad_key", "{key}");
        let hold = api.order("PUT", &format!("/v1/switches/live/holds/{key}"), json!({})).await;
        assert_eq!(hold.code(), "bad_key", "{key}");
    }
    let many =
        json!({"changes": [{"key": "a.example", "target": "blue"}, {"key": "green", "target": "blue"}]});
    assert_eq!(api.order("POST", "/v1/switches/live/commits", many).await.code(), "bad_key");
    to("green", json!({"target": "blue", "force": true})).await.done();
    // It has an entry now.
    to("green", json!({"target": "green"})).await.done();
    let noted = to("shpo.example.com", json!({"target": "green", "dry_run": true})).await.done();
    let note = "no request of \"shpo.example.com\" was seen yet; did you mean \"shop.example.com\"?";
    assert_eq!(noted["notes"], json!([note]));
    assert_eq!(to("shpo.example.com", json!({"target": "green"})).await.done()["notes"], json!([note]));
    let known = to("shpo.example.com", json!({"target": "blue"})).await.done();
    assert_eq!(known["notes"], Value::Null);
    assert_eq!(to("elsewhere.test", json!({"target": "green"})).await.done()["notes"], Value::Null);
}

#[tokio::test]
async fn an_order_twice_is_done_once() {
    let api = TestApi::new("");
    let named = [("idempotency-key", "deploy-7")];
    let order = || api.order_with("PUT", KEY, &named, json!({"target": "green"}));
    assert_eq!(order().await.done()["outcome"], "committed");
    let again = order().await.done();
    assert_eq!((&again["outcome"], &again["revision"]), (&json!("repeated"), &json!(1)));
    let other = api.order_with("PUT", KEY, &named, json!({"target": "blue"})).await;
    assert_eq!(other.code(), "idempotency_reused");
    assert_eq!(again["changed_since"], Value::Null);
    api.order("DELETE", KEY, json!({})).await.done();
    let late = order().await.done();
    assert_eq!(late["changed_since"], json!([{"key": "a.example", "revision": 2}]));
    assert_eq!((&late["outcome"], &late["revision"]), (&json!("repeated"), &json!(1)));
    let long = "x".repeat(201);
    for key in ["", &long] {
        let refused =
            api.order_with("PUT", KEY, &[("idempotency-key", key)], json!({"target": "blue"})).await;
        assert_eq!(refused.code(), "bad_request");
    }
}

#[tokio::test]
async fn an_order_that_changed_nothing_is_not_carried_out_later() {
    let api = TestApi::new("");
    let named = [("idempotency-key", "deploy-8")];
    let order = |target: &'static str| {
        let (api, named) = (&api, &named);
        async move { api.order_with("PUT", KEY, named, json!({"target": target})).await }
    };
    api.order("PUT", KEY, json!({"target": "green"})).await.done();
    let first = order("green").await.done();
    assert_eq!((&first["outcome"], &first["revision"]), (&json!("unchanged"), &json!(1)));
    // Somebody decides otherwise, and the first caller tries again.
    api.order("PUT", KEY, json!({"target": "blue"})).await.done();
    let again = order("green").await.done();
    assert_eq!((&again["outcome"], &again["revision"]), (&json!("unchanged"), &json!(1)));
    assert_eq!(again["changed_since"], json!([{"key": "a.example", "revision": 2}]));
    assert_eq!(api.data_plane.leads("a.example").as_deref(), Some("blue"));
    assert_eq!(order("blue").await.code(), "idempotency_reused");
}

#[tokio::test]
async fn promise_18_a_hundred_thousand_keys_are_one_commit() {
    const PATH: &str = "/v1/switches/live/commits";
    let api = TestApi::new("");
    let changes: Vec<String> = (0..100_000)
        .map(|n| format!(r#"{{"key":"shop-{n}.customers.example.com","target":"green"}}"#))
        .collect();
    let body = format!(r#"{{"changes":[{}]}}"#, changes.join(","));
    let headers = [("content-type", "application/json"), ("idempotency-key", "all")];
    let send = || api.ask("POST", PATH, &headers, Some(body.clone()));
    let receipt = send().await.done();
    assert_eq!((&receipt["revision"], &receipt["changed_keys"]), (&json!(1), &json!(100_000)));
    assert_eq!(api.data_plane.leads("shop-99999.customers.example.com").as_deref(), Some("green"));
    // A repetition is told from another order in less than the square of its keys.
    assert_eq!(send().await.done()["outcome"], "repeated");
    let refused = api.ask("POST", PATH, &headers, Some(" ".repeat((64 << 20) + 1))).await;
    assert_eq!(refused.code(), "too_large");
}

#[tokio::test]
async fn many_keys_are_all_or_none() {
    let api = TestApi::new("keys max=3;");
    let commit = |changes: Value| api.order("POST", "/v1/switches/live/commits", json!({"changes": changes}));
    let receipt = commit(json!([
        {"key": "a.example", "target": "green"},
        {"key": "b.example", "split": {"green": 1, "blue": 1}},
        {"key": "c.example", "target": "blue"}
    ]))
    .await
    .done();
    assert_eq!(receipt["changes"].as_array().unwrap().len(), 3);
    let receipt =
        commit(json!([{"key": "a.example", "default": true}, {"key": "b.example", "target": "green"}])).await;
    assert_eq!(receipt.done()["revision"], 2);
    for (changes, code) in [
        (
            json!([{"key": "a.example", "target": "green"}, {"key": "b.example", "target": "red"}]),
            "unknown_target",
        ),
        (
            json!([{"key": "x.example", "target": "green"}, {"key": "y.example", "target": "green"}]),
            "too_many_keys",
        ),
        (
            json!([{"key": "a.example", "target": "green"}, {"key": "A.example", "target": "blue"}]),
            "bad_order",
        ),
        (json!([{"key": "a.example"}]), "bad_order"),
        (json!([{"key": "a.example", "target": "green", "default": true}]), "bad_order"),
        (json!([{"key": "a b", "target": "green"}]), "bad_key"),
        (json!([]), "bad_order"),
        (json!([["a.example", "green"]]), "bad_request"),
        (json!({}), "bad_request"),
        (json!([{"key": "a.example", "target": "green", "weight": 1}]), "bad_request"),
    ] {
        assert_eq!(commit(changes.clone()).await.code(), code, "{changes}");
    }
    assert_eq!(api.get("/v1/switches/live").await.done()["revision"], 2);
}

#[tokio::test]
async fn undo_of_keys_of_a_commit_and_of_the_last() {
    let api = TestApi::new("");
    let undo = |body: Value| api.order("POST", "/v1/switches/live/undo", body);
    assert_eq!(undo(json!({})).await.code(), "nothing_to_undo");
    for target in ["green", "blue"] {
        api.order("PUT", KEY, json!({"target": target})).await.done();
    }
    assert_eq!(undo(json!({"keys": ["A.example"]})).await.done()["kind"], "undo_keys");
    assert_eq!(api.data_plane.leads("a.example").as_deref(), Some("green"));
    assert_eq!(undo(json!({"commit": 1, "dry_run": true})).await.done()["outcome"], "would_commit");
    assert_eq!(undo(json!({"commit": 1})).await.done()["kind"], "undo");
    assert_eq!(api.data_plane.leads("a.example"), None);
    assert_eq!(undo(json!({"commit": 99})).await.code(), "unknown_revision");
    assert_eq!(undo(json!({"commit": 1, "keys": ["a.example"]})).await.code(), "bad_order");
    api.order("PUT", KEY, json!({"target": "blue"})).await.done();
    api.order("PUT", KEY, json!({"target": "green"})).await.done();
    assert_eq!(undo(json!({"commit": 5})).await.code(), "changed_since");
    assert_eq!(undo(json!({"commit": 5, "force": true})).await.done()["revision"], 7);
}

#[tokio::test]
async fn a_pending_commit_is_confirmed() {
    let api = TestApi::new("");
    let receipt = api.order("PUT", KEY, json!({"target": "green", "confirm_within": "10m"})).await.done();
    assert!(receipt["confirm_by_ms"].as_u64().unwrap() > receipt["time_ms"].as_u64().unwrap());
    let pending = &api.get("/v1/switches/live").await.done()["pending"][0];
    assert_eq!(pending["revision"], 1);
    let confirm = |body: Value| api.order("POST", "/v1/switches/live/confirm", body);
    assert_eq!(confirm(json!({"revision": 7})).await.code(), "nothing_to_confirm");
    assert_eq!(confirm(json!({"reason": "looks well"})).await.done()["kind"], "confirm");
    assert_eq!(confirm(json!({})).await.code(), "nothing_to_confirm");
}

#[tokio::test]
async fn a_plan_changes_nothing() {
    let api = TestApi::new("");
    let plan = api.order("PUT", KEY, json!({"target": "green", "dry_run": true})).await.done();
    assert_eq!((&plan["outcome"], &plan["revision"]), (&json!("would_commit"), &json!(0)));
    assert!(plan["changes"][0]["in_flight"].is_u64());
    assert_eq!(api.get("/v1/switches/live").await.done()["revision"], 0);
    assert_eq!(
        api.order("PUT", KEY, json!({"target": "red", "dry_run": true})).await.code(),
        "unknown_target"
    );
}

#[tokio::test]
async fn a_gate_names_each_server() {
    let api = TestApi::new("gate healthy=1 timeout=1s;");
    let refused = api.order("PUT", KEY, json!({"target": "green"})).await;
    assert_eq!((refused.status, &*refused.code()), (409, "gate_failed"));
    let servers = &refused.json()["details"]["servers"];
    assert_eq!(servers[0]["server"], "127.0.0.1:2", "{servers}");
    let plan = api.order("PUT", KEY, json!({"target": "green", "dry_run": true})).await.done();
    assert_eq!(plan["outcome"], "would_refuse");
    let forced = api.order("PUT", KEY, json!({"target": "green", "force": true})).await.done();
    assert_eq!(forced["forced"], true);
    let commit = &api.get("/v1/switches/live/history").await.done()["commits"][0];
    assert_eq!(commit["forced"], true);
    assert!(!commit["gate"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn requests_are_held_and_released() {
    let api = TestApi::new("");
    let at = "/v1/switches/live/holds/a.example";
    let hold =
        api.order("PUT", at, json!({"max": 5, "timeout": "2s", "max_size": "1m", "reason": "r"})).await;
    let hold = hold.done();
    assert_eq!(
        (&hold["max"], &hold["timeout_ms"], &hold["max_bytes"]),
        (&json!(5), &json!(2000), &json!(1 << 20))
    );
    assert_eq!(hold["actor"], "unix:7(ann)");
    assert_eq!(api.get(KEY).await.done()["hold"]["max"], 5);
    assert_eq!(api.get("/v1/switches/live").await.done()["holds"][0]["key"], "a.example");
    assert_eq!(api.order("PUT", at, json!({})).await.code(), "hold_exists");
    assert_eq!(api.order("DELETE", at, json!({"per_second": 0})).await.code(), "bad_order");
    assert_eq!(api.order("DELETE", at, json!({"per_second": 10})).await.done()["waiting"], 0);
    assert_eq!(api.order("DELETE", at, json!({})).await.code(), "not_held");
    assert_eq!(api.order("PUT", at, json!({"timeout": "soon"})).await.code(), "bad_order");
    let usual = api.order("PUT", at, json!({})).await.done();
    assert_eq!(
        (&usual["max"], &usual["timeout_ms"], &usual["max_bytes"]),
        (&json!(1000), &json!(10_000), &json!(16 << 20))
    );
    api.order("DELETE", at, json!({})).await.done();
    let order = json!({"target": "green", "hold": {"max": 3, "timeout": "1s"}, "timeout": "1s"});
    let receipt = api.order("PUT", KEY, order).await.done();
    assert!(receipt["hold"]["held_us"].is_u64(), "{receipt}");
}

#[tokio::test]
async fn unreadable_requests_are_refused_with_a_text() {
    let api = TestApi::new("");
    let say = |body: &'static str| {
        api.ask("PUT", KEY, &[("content-type", "application/json; charset=utf-8")], Some(body.into()))
    };
    for (body, code, text) in [
        ("", "bad_request", "the body is empty"),
        ("{", "bad_request", "EOF"),
        ("[]", "bad_request", "expected an object"),
        (r#"["green"]"#, "bad_request", "expected an object"),
        (r#"{"target":"green","hold":[1]}"#, "bad_request", "expected an object"),
        (r#"{"target":null,"split":null,"hold":null}"#, "bad_order", "the route is missing"),
        ("\"green\"", "bad_request", "invalid type"),
        (r#"{"target":"green","dry-run":true}"#, "bad_request", "unknown field `dry-run`"),
        (r#"{"target":"green","target":"blue"}"#, "bad_request", "duplicate field `target`"),
        (r#"{"split":{"green":1,"green":2}}"#, "bad_request", "\"green\" is given twice"),
        (r#"{"split":{"green":-1}}"#, "bad_request", "invalid value"),
        (r#"{"split":{"green":0}}"#, "bad_route", "0"),
        (r#"{"split":{}}"#, "bad_route", "expected a target"),
        (r#"{"target":"green=1"}"#, "bad_order", "expected one upstream group"),
        (r#"{"target":"green","split":{"green":1}}"#, "bad_order", "more than once"),
        (r#"{}"#, "bad_order", "the route is missing"),
        (r#"{"target":"red"}"#, "unknown_target", "red"),
        (r#"{"target":"green","confirm_within":"soon"}"#, "bad_order", "confirm_within"),
        (r#"{"target":"green","timeout":"2h"}"#, "bad_order", "too long"),
        (r#"{"target":"green","wait":"long"}"#, "bad_request", "unknown variant `long`"),
        (r#"{"target":"green","hold":{"max":-1}}"#, "bad_request", "invalid value"),
    ] {
        let refused = say(body).await;
        assert_eq!(refused.code(), code, "{body}: {}", refused.text);
        let said = refused.json();
        assert!(said["text"].as_str().unwrap().contains(text), "{body}: {said}");
        assert!(!said["remedy"].as_str().unwrap().is_empty(), "{body}");
    }
    let huge = format!("{{\"target\":\"{}\"}}", "g".repeat(1 << 20));
    let refused = api.ask("PUT", KEY, &[("content-type", "application/json")], Some(huge)).await;
    assert_eq!((refused.status, &*refused.code()), (413, "too_large"));
    assert_eq!(api.get("/v1/switches/live").await.done()["revision"], 0);
}

#[tokio::test]
async fn a_reload_without_a_master_is_refused() {
    let api = TestApi::new("state memory;");
    let answer = api.order("POST", "/v1/reload", json!({})).await;
    assert_eq!((answer.status, &*answer.code()), (422, "config_refused"), "{}", answer.text);
    assert!(answer.json()["remedy"].as_str().unwrap().contains("HUP"), "{}", answer.text);
    let answer = api.order("POST", "/v1/reload", json!({"force": true})).await;
    assert_eq!((answer.status, &*answer.code()), (422, "config_refused"), "{}", answer.text);
    let answer = api.order("POST", "/v1/reload", json!({"forced": true})).await;
    assert_eq!(answer.code(), "bad_request");
    assert_eq!(api.ask("POST", "/v1/reload", &[], None).await.code(), "bad_media_type");
}

#[tokio::test]
async fn orders_that_wait_are_bounded_for_each_caller_and_refused_before_they_change_anything() {
    let api = TestApi::new("state memory;");
    api.data_plane.tell(|workers| workers.in_flight = 1);
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let api = std::rc::Rc::new(api);
            let waiting: Vec<_> = (0..16)
                .map(|number| {
                    let api = api.clone();
                    tokio::task::spawn_local(async move {
                        let key = format!("/v1/switches/live/keys/{number}.example");
                        let order = json!({"target": "green", "wait": "drained", "timeout": "1h"});
                        api.order("PUT", &key, order).await;
                    })
                })
                .collect();
            while api.get("/v1/switches/live").await.json()["revision"] != 16 {
                tokio::task::yield_now().await;
            }
            let last = "/v1/switches/live/keys/last.example";
            let refused = api.order("PUT", last, json!({"target": "green", "wait": "drained"})).await;
            assert_eq!((refused.status, &*refused.code()), (429, "too_many_calls"));
            let undo = json!({"wait": "drained"});
            assert_eq!(api.order("POST", "/v1/switches/live/undo", undo).await.status, 429);
            assert_eq!(api.get("/v1/switches/live").await.json()["revision"], 16, "nothing has changed");
            // One that does not wait is carried out.
            api.order("PUT", last, json!({"target": "green"})).await.done();
            waiting.iter().for_each(|task| task.abort());
        })
        .await;
}

#[tokio::test]
async fn a_check_says_what_a_reload_would_refuse() {
    let api = TestApi::new("state memory;");
    api.order("PUT", "/v1/switches/live/keys/a.example", json!({"target": "green"})).await;
    let switch = json!({"name": "live", "hosts": true, "default": "blue", "targets": ["blue", "green"],
        "max_keys": 10, "max_key_len": 255});
    let check = |switches: serde_json::Value, retired: serde_json::Value| json!({"switches": switches, "retired": retired, "folder": "/nonexistent"});
    let answer = api.order("POST", "/v1/check", check(json!([switch]), json!([]))).await;
    assert_eq!(answer.json(), json!({"faults": [], "unchecked": []}), "{}", answer.text);
    let mut less = switch.clone();
    less["targets"] = json!(["blue"]);
    let answer = api.order("POST", "/v1/check", check(json!([less]), json!([]))).await;
    assert!(answer.text.contains("a.example (green)"), "{}", answer.text);
    let answer = api.order("POST", "/v1/check", check(json!([]), json!([]))).await;
    assert!(answer.text.contains("switch \\\"live\\\" is gone"), "{}", answer.text);
    let answer = api.order("POST", "/v1/check", check(json!([]), json!(["live"]))).await;
    assert_eq!(answer.json(), json!({"faults": [], "unchecked": []}), "{}", answer.text);
}
