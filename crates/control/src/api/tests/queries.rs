//! Queries about switches.

use super::*;

#[tokio::test]
async fn switches_are_listed_with_their_state() {
    let api = TestApi::new("keys max=10;");
    let switches = api.get("/v1/switches").await.done();
    let live = &switches["switches"][0];
    assert_eq!(live["name"], "live");
    assert_eq!(live["keys_are"], "host");
    assert_eq!(live["targets"], json!(["blue", "green"]));
    assert_eq!(
        (live["revision"].as_u64(), live["keys"].as_u64(), live["max_keys"].as_u64()),
        (Some(0), Some(0), Some(10))
    );
    assert!(live["state"].as_str().unwrap().ends_with("/state/live.db"));
    let one = api.get("/v1/switches/live").await;
    assert_eq!(one.header("etag"), "\"0\"");
    assert_eq!(one.done(), *live);
    let unknown = api.get("/v1/switches/life").await;
    assert_eq!((unknown.status, &*unknown.code()), (404, "unknown_switch"));
    assert_eq!(unknown.json()["details"]["names"], json!(["live"]));
}

#[tokio::test]
async fn a_key_is_shown_with_the_entry_that_applies() {
    let api = TestApi::new("");
    let at = |key: &str| format!("/v1/switches/live/keys/{key}");
    let default = api.get(&at("Shop.Example.COM.:80")).await.done();
    assert_eq!(
        default,
        json!({
            "switch": "live", "key": "shop.example.com", "route": "blue", "entry_revision": 0, "revision": 0
        })
    );
    api.order("PUT", &at("%2A.example.com"), json!({"target": "green"})).await.done();
    api.order("PUT", &at("www.example.com"), json!({"split": {"green": 1, "blue": 9}})).await.done();
    let wild = api.get(&at("shop.example.com")).await.done();
    assert_eq!((&wild["route"], &wild["entry"]), (&json!("green"), &json!("*.example.com")));
    assert_eq!((&wild["entry_revision"], &wild["revision"]), (&json!(1), &json!(2)));
    let own = api.get(&at("www.example.com")).await;
    assert_eq!(own.header("etag"), "\"entry-2\"");
    assert_eq!(
        (&own.done()["route"], &own.json()["entry"]),
        (&json!("blue=9 green=1"), &json!("www.example.com"))
    );
    // A wildcard that has an entry, and one that has none but is covered by one that has.
    assert_eq!(api.get(&at("*.example.com")).await.done()["entry"], "*.example.com");
    assert_eq!(api.get(&at("*.a.example.com")).await.done()["entry"], "*.example.com");
    assert_eq!(api.get(&at("a%2Fb")).await.code(), "bad_key");
    assert_eq!(api.get(&at("a/b")).await.code(), "bad_key");
    assert_eq!(api.get(&at("%FF")).await.code(), "bad_request");
}

#[tokio::test]
async fn the_empty_text_is_a_key() {
    let api = TestApi::of(
        "upstream blue { server 127.0.0.1:1; } upstream green { server 127.0.0.1:1; }
         switch $arg_k $live { default blue; state memory; }",
        &[],
    );
    let order = json!({"changes": [{"key": "", "target": "green"}]});
    api.order("POST", "/v1/switches/live/commits", order).await.done();
    assert_eq!(api.data_plane.leads("").as_deref(), Some("green"));
    assert_eq!(api.get("/v1/switches/live/keys").await.done()["keys"][0]["key"], "");
    api.order("POST", "/v1/switches/live/undo", json!({"keys": [""]})).await.done();
    assert_eq!(api.data_plane.leads(""), None);
    let key = "/v1/switches/live/keys/";
    api.order("PUT", key, json!({"split": {"green": 1, "blue": 3}})).await.done();
    let shown = api.get(key).await.done();
    assert_eq!((&shown["key"], &shown["route"]), (&json!(""), &json!("blue=3 green=1")));
    let hold = "/v1/switches/live/holds/";
    assert_eq!(api.order("PUT", hold, json!({})).await.done()["key"], "");
    assert_eq!(api.get(key).await.done()["hold"]["state"], "held");
    api.order("DELETE", hold, json!({})).await.done();
    api.order("DELETE", key, json!({})).await.done();
    assert_eq!(api.data_plane.leads(""), None);
    // A host is never empty.
    let hosts = TestApi::new("");
    let refused = hosts.get(key).await;
    assert_eq!((refused.status, &refused.json()["code"]), (422, &json!("bad_key")));
}

#[tokio::test]
async fn keys_of_text_may_hold_slashes() {
    let api = TestApi::of(
        "upstream blue { server 127.0.0.1:1; } switch $arg_k $live { default blue; state memory; }",
        &[],
    );
    for path in ["/v1/switches/live/keys/a/b%20c", "/v1/switches/live/keys/a%2Fb%20c"] {
        assert_eq!(api.get(path).await.done()["key"], "a/b c");
    }
    assert_eq!(api.get("/v1/switches/live").await.done()["keys_are"], "text");
    assert_eq!(api.get("/v1/switches/live").await.done()["state"], "memory");
}

#[tokio::test]
async fn keys_come_in_pages() {
    let api = TestApi::new("");
    let changes: Vec<Value> = (0..25)
        .map(|n| json!({"key": format!("k{n:02}.example"), "target": (["blue", "green"][n % 2])}))
        .collect();
    api.order("POST", "/v1/switches/live/commits", json!({"changes": changes})).await.done();
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = api.get(&format!("/v1/switches/live/keys?limit=10{after}")).await;
        assert_eq!(page.header("etag"), "\"1\"");
        let page = page.done();
        seen.extend(
            page["keys"].as_array().unwrap().iter().map(|entry| entry["key"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.is_sorted());
    let green = api.get("/v1/switches/live/keys?target=green&contains=k1").await.done();
    assert_eq!(green["keys"].as_array().unwrap().len(), 5);
    for query in ["limit=0", "limit=10001", "limit=x", "limit=-1", "prefix=a", "limit=1&limit=2"] {
        let refused = api.get(&format!("/v1/switches/live/keys?{query}")).await;
        assert_eq!(refused.code(), "bad_request", "{query}");
    }
}

#[tokio::test]
async fn history_comes_in_pages_and_is_verified() {
    let api = TestApi::new("");
    let path = "/v1/switches/live/keys/a.example";
    for target in ["green", "blue", "green"] {
        api.order("PUT", path, json!({"target": target, "reason": "r"})).await.done();
    }
    api.order("POST", "/v1/switches/live/undo", json!({})).await.done();
    let page = api.get("/v1/switches/live/history?limit=3&verify=true").await.done();
    let commits = page["commits"].as_array().unwrap();
    assert_eq!(commits.len(), 3);
    assert_eq!(
        (&commits[0]["revision"], &commits[0]["kind"], &commits[0]["of"]),
        (&json!(4), &json!("undo"), &json!(3))
    );
    assert_eq!(commits[0]["changes"][0]["from"], "green");
    assert_eq!(commits[0]["previous"], commits[1]["hash"]);
    assert_eq!(page["next"], 2);
    assert_eq!(page["verified"]["intact"], true);
    assert_eq!(page["verified"]["commits"], 4);
    assert_eq!(page["verified"]["hash"], commits[0]["hash"]);
    let rest = api.get("/v1/switches/live/history?limit=3&before=2&key=A.example.").await.done();
    assert_eq!(rest["commits"].as_array().unwrap().len(), 1);
    assert_eq!(rest.get("next"), None);
    assert_eq!(api.get("/v1/switches/live/history?key=b.example").await.done()["commits"], json!([]));
    assert_eq!(api.get("/v1/switches/live/history?key=a%20b").await.code(), "bad_key");
    assert_eq!(api.get("/v1/switches/live/history?limit=1001").await.code(), "bad_request");
    assert_eq!(api.get("/v1/switches/x/history").await.code(), "unknown_switch");
}

#[tokio::test]
async fn receipts_are_kept() {
    let api = TestApi::new("");
    api.order("PUT", "/v1/switches/live/keys/a.example", json!({"target": "green"})).await.done();
    let receipt = api.get("/v1/switches/live/receipts/1").await.done();
    assert_eq!(receipt["workers"].as_array().unwrap().len(), 2);
    assert_eq!(api.get("/v1/switches/live/receipts/2").await.code(), "unknown_revision");
    assert_eq!(api.get("/v1/switches/live/receipts/x").await.code(), "bad_request");
}

#[tokio::test]
async fn keys_are_shown_with_who_set_them() {
    let api = TestApi::new("");
    for (key, reason) in [("a.example", "release 42"), ("b.example", "release 43")] {
        let order = json!({"target": "green", "reason": reason});
        api.order("PUT", &format!("/v1/switches/live/keys/{key}"), order).await.done();
    }
    let plain = api.get("/v1/switches/live/keys").await.done();
    assert!(plain.get("commits").is_none());
    let page = api.get("/v1/switches/live/keys?commits=true&limit=1").await.done();
    let revision = page["keys"][0]["revision"].to_string();
    let note = &page["commits"][&revision];
    assert_eq!((note["actor"].as_str(), note["reason"].as_str()), (Some("unix:7(ann)"), Some("release 42")));
    assert!(note["time_ms"].as_u64() > Some(0));
    assert_eq!(page["commits"].as_object().unwrap().len(), 1, "of the keys on the page");
    assert_eq!(api.get("/v1/switches/live/keys?commits=true&limit=1001").await.code(), "bad_request");
}
