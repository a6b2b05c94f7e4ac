//! Queries about the past.

use super::*;
use std::collections::BTreeMap;

const LIVE: &str = "/v1/switches/live";

/// Returns all entries with their routes and revisions.
async fn entries(api: &TestApi, at: &str) -> Value {
    api.get(&format!("{LIVE}/keys?limit=10000{at}")).await.done()["keys"].clone()
}

fn routes(entries: &Value) -> BTreeMap<String, Value> {
    let entries = entries.as_array().unwrap().iter();
    entries.map(|entry| (entry["key"].as_str().unwrap().to_owned(), entry["route"].clone())).collect()
}

/// Commits at random, and returns the entries after each commit, before the first one first.
async fn random_history(api: &TestApi, commits: usize) -> Vec<Value> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |sides: u64| {
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    };
    let keys = ["a.example", "b.example", "*.example", "c.*", "*", "d.example"];
    let mut seen = vec![json!([])];
    while seen.len() <= commits {
        let changes: Vec<Value> = keys
            .iter()
            .filter_map(|key| match roll(6) {
                0 => Some(json!({"key": key, "target": "green"})),
                1 => Some(json!({"key": key, "split": {"green": 1, "blue": 1 + roll(3)}})),
                2 => Some(json!({"key": key, "default": true})),
                _ => None,
            })
            .collect();
        let (path, order) = match roll(6) {
            0 if seen.len() > 1 => ("undo", json!({"force": true})),
            _ if changes.is_empty() => continue,
            _ => ("commits", json!({"changes": changes, "force": true})),
        };
        let receipt = api.order("POST", &format!("{LIVE}/{path}"), order).await;
        if receipt.status == 200 && receipt.json()["outcome"] == "committed" {
            seen.push(entries(api, "").await);
        }
    }
    seen
}

#[tokio::test]
async fn promise_19_the_table_of_each_revision_is_shown_as_it_was() {
    let api = TestApi::new("");
    let seen = random_history(&api, 150).await;
    for (revision, expected) in seen.iter().enumerate() {
        let page = api.get(&format!("{LIVE}/keys?limit=10000&at={revision}")).await.done();
        assert_eq!((&page["keys"], &page["revision"]), (expected, &json!(revision)), "revision {revision}");
        assert_eq!(page.get("committed_ms").is_some(), revision > 0);
    }
    // A key shows what applied to it, and since which commit.
    for revision in (0..seen.len()).step_by(7) {
        let entry =
            |key: &str| seen[revision].as_array().unwrap().iter().find(|entry| entry["key"] == key).cloned();
        for (key, covers) in [("a.example", "*.example"), ("x.example", "*.example"), ("c.x", "c.*")] {
            let applies = entry(key).or_else(|| entry(covers)).or_else(|| entry("*"));
            let shown = api.get(&format!("{LIVE}/keys/{key}?at={revision}")).await.done();
            let route = applies.as_ref().map_or(json!("blue"), |entry| entry["route"].clone());
            assert_eq!(shown["route"], route, "{key} at {revision}");
            let since = applies.map_or(json!(0), |entry| entry["revision"].clone());
            assert_eq!(shown["entry_revision"], since, "{key} at {revision}");
        }
    }
}

#[tokio::test]
async fn promise_19_what_differs_between_two_revisions_is_shown() {
    let api = TestApi::new("");
    let seen = random_history(&api, 60).await;
    for from in (0..seen.len()).step_by(5) {
        for to in (0..seen.len()).step_by(3) {
            let (before, after) = (routes(&seen[from]), routes(&seen[to]));
            let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            let side =
                |side: &BTreeMap<String, Value>, key: &str| side.get(key).cloned().unwrap_or(Value::Null);
            let expected: Vec<Value> = names
                .into_iter()
                .filter(|key| before.get(*key) != after.get(*key))
                .map(|key| json!({"key": key, "from": side(&before, key), "to": side(&after, key)}))
                .collect();
            let shown = api.get(&format!("{LIVE}/diff?from={from}&to={to}")).await.done();
            assert_eq!(shown["keys"], json!(expected), "{from}..{to}");
        }
    }
    // Page by page it is the same, and without the second revision it is up to the present.
    let whole = api.get(&format!("{LIVE}/diff")).await.done();
    assert_eq!((&whole["from"], &whole["to"]), (&json!(0), &json!(60)));
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("{LIVE}/diff?limit=2{after}")).await.done();
        paged.extend(page["keys"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={}", next.replace('*', "%2A"));
    }
    assert_eq!(json!(paged), whole["keys"]);
}

#[tokio::test]
async fn promise_19_a_time_of_the_past_is_the_newest_commit_until_then() {
    let api = TestApi::new("");
    for target in ["green", "blue", "green"] {
        api.order("PUT", &format!("{LIVE}/keys/a.example"), json!({"target": target})).await.done();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let history = api.get(&format!("{LIVE}/history")).await.done();
    let times: Vec<u64> =
        history["commits"].as_array().unwrap().iter().map(|one| one["time_ms"].as_u64().unwrap()).collect();
    for (time_ms, revision) in
        [(times[2], 1), (times[1] - 1, 1), (times[1], 2), (times[0], 3), (times[0] + 2, 3)]
    {
        let page = api.get(&format!("{LIVE}/keys?at_ms={time_ms}")).await.done();
        let committed = times[3 - revision];
        assert_eq!((&page["revision"], &page["committed_ms"]), (&json!(revision), &json!(committed)));
    }
    let early = api.get(&format!("{LIVE}/keys?at_ms={}", times[2] - 1)).await;
    assert_eq!((early.status, &*early.code()), (404, "unknown_revision"));
    assert!(early.text.contains("begins with revision 1"), "{}", early.text);
}

#[tokio::test]
async fn promise_19_unknown_revisions_and_times_are_refused() {
    let api = TestApi::new("");
    let code = async |path: &str| api.get(&format!("{LIVE}/{path}")).await.code();
    assert_eq!(code("keys?at_ms=1").await, "unknown_revision");
    assert_eq!(api.get(&format!("{LIVE}/keys?at=0")).await.done()["keys"], json!([]));
    assert_eq!(api.get(&format!("{LIVE}/diff?from=0&to=0")).await.done()["keys"], json!([]));
    api.order("PUT", &format!("{LIVE}/keys/a.example"), json!({"target": "green"})).await.done();
    for path in ["keys?at=2", "keys/a.example?at=2", "diff?from=0&to=2", "diff?from=2&to=0", "diff?from=9"] {
        assert_eq!(code(path).await, "unknown_revision", "{path}");
    }
    for path in [
        "keys?at=1&at_ms=1",
        "keys?at=x",
        "keys?at=-1",
        "keys/a.example?at_ms=99999999999999",
        "diff?limit=0",
    ] {
        assert_eq!(code(path).await, "bad_request", "{path}");
    }
}

#[tokio::test]
async fn promise_19_each_commit_shows_the_traffic_that_it_has_moved() {
    let api = TestApi::new("");
    for target in ["green", "blue"] {
        api.order("PUT", &format!("{LIVE}/keys/a.example"), json!({"target": target})).await.done();
    }
    let plain = api.get(&format!("{LIVE}/history")).await.done();
    assert_eq!(plain["commits"][0].get("traffic"), None);
    let shown = api.get(&format!("{LIVE}/history?traffic=true")).await.done();
    for commit in shown["commits"].as_array().unwrap() {
        let receipt = api.get(&format!("{LIVE}/receipts/{}", commit["revision"])).await.done();
        let (moved, drain) = (&commit["traffic"], &receipt["drain"]);
        assert_eq!(moved["drain"]["state"], drain["state"]);
        assert_eq!(moved["drain"]["served_new"], drain["served_new"]);
        assert_eq!(moved["horizon"]["until_ms"], receipt["horizon"]["until_ms"]);
    }
}

#[tokio::test]
async fn promise_19_a_commit_is_undone_by_the_idempotency_key_of_its_order() {
    let api = TestApi::new("");
    let key = format!("{LIVE}/keys/a.example");
    let named = [("idempotency-key", "deploy-7")];
    api.order_with("PUT", &key, &named, json!({"target": "green"})).await.done();
    api.order("PUT", &format!("{LIVE}/keys/b.example"), json!({"target": "green"})).await.done();
    let undo = async |order: Value| api.order("POST", &format!("{LIVE}/undo"), order).await;
    let undone = undo(json!({"id": "deploy-7"})).await.done();
    assert_eq!((&undone["kind"], &undone["of"]), (&json!("undo"), &json!(1)));
    assert_eq!(api.data_plane.leads("a.example"), None);
    assert_eq!(undo(json!({"id": "deploy-8"})).await.code(), "unknown_revision");
    assert_eq!(undo(json!({"id": "deploy-7", "commit": 1})).await.code(), "bad_order");
}
