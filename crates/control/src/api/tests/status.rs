//! Status, comparison and metrics.

use super::*;
use crate::data_plane::DataPlane;
use statistics::{GroupLayout, Layout, Recorder, RequestEnd, RoutedRequest, TryEnd};

/// Returns two groups that have answered: blue fast, green slowly and with errors.
fn measured() -> TestApi {
    let api = TestApi::new("state memory;");
    let group = |name: &str, peer: &str| GroupLayout { name: name.into(), peers: vec![peer.into()] };
    let layout = Arc::new(Layout {
        groups: vec![group("blue", "127.0.0.1:1"), group("green", "127.0.0.1:2")],
        switches: vec!["live".into()],
        max_keys: 10,
    });
    let mut recorder = Recorder::new(layout.clone());
    for (group, us, status) in [(0, 1_000, 200), (1, 50_000, 200), (1, 50_000, 502)] {
        for _ in 0..500 {
            recorder.request_began(group);
            recorder.try_began(group, 0);
            let (response_us, sent, received) = (Some(us), 10, 20);
            recorder.try_ended(
                group,
                0,
                &TryEnd { status, response_us, sent, received, ..TryEnd::default() },
            );
            let end = RequestEnd { status, response_us, sent, received };
            recorder.request_ended(group, &end);
            recorder.key_ended(0, &RoutedRequest::new(b"shop.example", ["blue", "green"][group]), &end);
        }
    }
    let mut collector = api.data_plane.collector().lock().unwrap();
    collector.arrange(layout);
    collector.absorb(&mut recorder, 0);
    drop(collector);
    api.data_plane.tell(|workers| workers.failed = vec![("green", "127.0.0.1:2".into())]);
    api
}

#[tokio::test]
async fn the_status_tells_groups_servers_keys_and_switches() {
    let api = measured();
    let status = api.get("/v1/status?window=10s").await.done();
    assert_eq!((&status["window"], &status["workers"]), (&json!("10s"), &json!(2)));
    let green = &status["groups"][1];
    assert_eq!(green["name"], "green");
    assert_eq!((&green["traffic"]["requests"], &green["traffic"]["errors"]), (&json!(1000), &json!(500)));
    assert_eq!(green["traffic"]["statuses"], json!({"2xx": 500, "5xx": 500}));
    let p50 = green["traffic"]["response"]["p50_us"].as_u64().unwrap();
    assert!((49_000..=51_000).contains(&p50), "{p50}");
    assert_eq!(green["servers"][0]["address"], "127.0.0.1:2");
    assert_eq!(green["servers"][0]["state"], "failed");
    assert_eq!(status["groups"][0]["servers"][0]["state"], "up");
    assert_eq!(status["switches"][0]["name"], "live");
    assert_eq!(
        (&status["keys"][0]["key"], &status["keys"][0]["target"]),
        (&json!("shop.example"), &json!("green"))
    );
    assert_eq!(api.get("/v1/status").await.done()["window"], "1m");
    assert_eq!(api.get("/v1/status?window=2m").await.code(), "bad_request");
}

#[tokio::test]
async fn two_groups_are_compared() {
    let api = measured();
    let compared = api.get("/v1/compare?a=blue&b=green&window=5m").await.done();
    let judged = |figure: &str| {
        let all = compared["judged"].as_array().unwrap();
        all.iter().find(|judged| judged["figure"] == figure).unwrap()["verdict"].clone()
    };
    assert_eq!((judged("errors"), judged("p50")), (json!("worse"), json!("worse")));
    assert_eq!(judged("p99"), "too_few");
    let back = api.get("/v1/compare?a=green&b=blue").await.done();
    assert_eq!(back["judged"][0]["verdict"], "better");
    assert_eq!(api.get("/v1/compare?a=blue&b=red").await.code(), "not_found");
    for query in ["", "?a=blue", "?a=blue&b=green&window=x", "?a=blue&b=green&c=1"] {
        assert_eq!(api.get(&format!("/v1/compare{query}")).await.code(), "bad_request", "{query}");
    }
}

#[tokio::test]
async fn metrics_come_in_the_form_that_is_asked_for() {
    let api = measured();
    let old = api.get("/v1/metrics").await;
    assert_eq!(old.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(old.text.contains("upstream=\"green\""), "{}", old.text);
    let accept = [("accept", "application/openmetrics-text;version=1.0.0,*/*;q=0.1")];
    let new = api.ask("GET", "/v1/metrics", &accept, None).await;
    assert!(new.text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn series_have_what_the_window_has() {
    let api = measured();
    let series = api.get("/v1/series?window=10s").await.done();
    assert_eq!((series["window"].as_str(), series["slot_ms"].as_u64()), (Some("10s"), Some(1_000)));
    assert_eq!(series["groups"][0]["name"], "blue");
    let point = &series["groups"][1]["points"][0];
    assert_eq!((point["requests"].as_u64(), point["errors"].as_u64()), (Some(1_000), Some(500)));
    assert!(point["p50_us"].as_u64() <= point["p99_us"].as_u64() && point["p50_us"].is_u64(), "{point}");
    assert_eq!(point["slot"], series["last"]);
    assert_eq!(api.get("/v1/series?window=2m").await.code(), "bad_request");
}
