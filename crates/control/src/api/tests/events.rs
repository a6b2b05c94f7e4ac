//! The stream of events.

use super::*;

const KEY: &str = "/v1/switches/live/keys/a.example";

/// Returns the next event that a stream brings: its name, and its data.
async fn next(body: &mut Body, rest: &mut String) -> (String, Value) {
    loop {
        if let Some(end) = rest.find("\n\n") {
            let event: String = rest.drain(..end + 2).collect();
            let field =
                |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                let data: Value = serde_json::from_str(&data).unwrap();
                assert_eq!(field("id: "), Some(data["id"].to_string()));
                assert_eq!(data["event"], *name);
                return (name, data);
            }
            continue;
        }
        let frame = body.frame().await.expect("the stream goes on").unwrap();
        rest.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
}

#[tokio::test]
async fn events_are_streamed_and_can_be_read_later() {
    let api = TestApi::new("gate healthy=1 timeout=1s;");
    let schema = json!({"$ref": "#/components/schemas/Event"});
    let response = api.begin("GET", "/v1/events", &[], None).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut body, mut rest) = (response.into_body(), String::new());
    api.order("PUT", KEY, json!({"target": "green", "force": true})).await.done();
    api.order("PUT", "/v1/switches/live/holds/a.example", json!({})).await.done();
    api.order("DELETE", "/v1/switches/live/holds/a.example", json!({})).await.done();
    let mut names = Vec::new();
    let mut first = 0;
    while !["gate", "committed", "drained", "held", "released"]
        .iter()
        .all(|name| names.iter().any(|seen| seen == name))
    {
        let (name, data) = next(&mut body, &mut rest).await;
        api.check_value(&schema, &data);
        serde_json::from_value::<super::super::types::Event>(data.clone()).unwrap();
        assert_eq!(data["switch"], "live");
        if names.is_empty() {
            first = data["id"].as_u64().unwrap();
        }
        names.push(name);
    }
    assert_eq!(names[..2], ["gate", "committed"]);

    let last = first.to_string();
    let response = api.begin("GET", "/v1/events", &[("last-event-id", &last)], None).await;
    let (mut body, mut rest) = (response.into_body(), String::new());
    let (name, data) = next(&mut body, &mut rest).await;
    assert_eq!((&*name, data["id"].as_u64()), ("committed", Some(first + 1)));
}

#[tokio::test]
async fn promise_13_a_stream_begins_with_the_number_of_the_newest_event() {
    let api = TestApi::new("");
    let (first, mut rest) = (api.begin("GET", "/v1/events", &[], None).await, String::new());
    let frame = first.into_body().frame().await.unwrap().unwrap();
    let head = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
    let number = head.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    // Another stream that begins there misses nothing, though the first had brought no event.
    api.order("PUT", "/v1/switches/live/holds/a.example", json!({})).await.done();
    let response = api.begin("GET", "/v1/events", &[("last-event-id", &number)], None).await;
    let (name, data) = next(&mut response.into_body(), &mut rest).await;
    assert_eq!((&*name, data["id"].to_string()), ("held", (number.parse::<u64>().unwrap() + 1).to_string()));
}

#[tokio::test]
async fn listeners_have_places_and_give_them_back() {
    let mut api = TestApi::new("state memory;");
    let mut streams = Vec::new();
    // Whom a client says it acts for makes it no other caller.
    let claims = [&[("x-pointsman-actor", "bob")][..], &[]];
    loop {
        let response = api.begin("GET", "/v1/events", claims[streams.len() % 2], None).await;
        if response.status() != 200 {
            assert_eq!(response.headers()["retry-after"], "1");
            break;
        }
        streams.push(response);
        assert!(streams.len() < 1000);
    }
    let refused = api.ask("GET", "/v1/events", &[], None).await;
    assert_eq!((refused.status, &*refused.code(), streams.len()), (429, "too_many_calls", 16));
    assert!(refused.json()["remedy"].as_str().unwrap().contains("pointsman watch"), "{}", refused.text);
    // Queries and other callers go on.
    assert_eq!(api.get("/v1/status").await.status, 200);
    for number in 0.. {
        api.origin = Origin::at_socket(format!("unix:{}", 8 + number / 16));
        let response = api.begin("GET", "/v1/events", &[], None).await;
        if response.status() != 200 {
            break;
        }
        streams.push(response);
    }
    let refused = api.ask("GET", "/v1/events", &[], None).await;
    assert_eq!((refused.status, &*refused.code(), streams.len()), (503, "busy", 64));
    streams.pop();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while api.begin("GET", "/v1/events", &[], None).await.status() != 200 {
        assert!(std::time::Instant::now() < deadline, "the place was not given back");
        tokio::task::yield_now().await;
    }
}
