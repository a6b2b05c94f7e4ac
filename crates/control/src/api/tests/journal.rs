//! The journal over the API.

use super::*;
use crate::journal::{Journal, JournalPlace, JournalQuery};

const HOLD: &str = "/v1/switches/live/holds/a.example";

#[tokio::test]
async fn holds_are_in_the_journal_and_take_no_revision() {
    let api = TestApi::new("");
    api.order("PUT", HOLD, json!({"reason": "schema"})).await.done();
    api.order("DELETE", HOLD, json!({})).await.done();
    let journal = api.get("/v1/journal?verify=true").await.done();
    let entries = journal["entries"].as_array().unwrap();
    let told: Vec<_> =
        entries.iter().map(|entry| (entry["sequence"].as_u64(), entry["kind"].as_str())).collect();
    assert_eq!(told, [(Some(3), Some("release")), (Some(2), Some("hold")), (Some(1), Some("start"))]);
    assert_eq!(
        (&entries[1]["subject"], &entries[1]["actor"], &entries[1]["reason"], &entries[1]["switch"]),
        (&json!("a.example"), &json!("unix:7(ann)"), &json!("schema"), &json!("live"))
    );
    assert_eq!((&journal["verified"]["intact"], &journal["verified"]["entries"]), (&json!(true), &json!(3)));
    assert_eq!(journal["lost"], 0);
    // An order that expects revision 0 is carried out: nothing here has taken one.
    let order = json!({"target": "green"});
    api.order_with("PUT", "/v1/switches/live/keys/a.example", &[("if-match", "\"0\"")], order).await.done();

    let page = api.get("/v1/journal?limit=2").await.done();
    assert_eq!((page["entries"].as_array().unwrap().len(), &page["next"]), (2, &json!(2)));
    let page = api.get("/v1/journal?limit=2&before=2").await.done();
    assert_eq!((page["entries"].as_array().unwrap().len(), page.get("next")), (1, None));
    for (query, count) in [
        ("kind=hold", 1),
        ("kind=commit", 0),
        ("switch=live", 3),
        ("switch=other", 1),
        ("since_ms=9999999999999", 0),
    ] {
        let page = api.get(&format!("/v1/journal?{query}")).await.done();
        assert_eq!(page["entries"].as_array().unwrap().len(), count, "{query}");
    }
    assert_eq!(api.get("/v1/journal?limit=0").await.status, 400);
}

#[tokio::test]
async fn refusals_of_a_caller_are_folded_and_those_of_strangers_are_left_out() {
    let viewer = "d35ca5051b82ffc326a3b0b6574a9a3161dee16b9478a199ee39cd803ce5b799";
    let tokens = [("tokens", format!("vic:viewer:{viewer}\n"))];
    let mut api = TestApi::of(&format!("control_tokens tokens; {}", two_groups("")), &tokens);
    let key = "/v1/switches/live/keys/a.example";
    for _ in 0..50 {
        let refused = api.order("PUT", key, json!({"target": "red"})).await;
        assert_eq!(refused.code(), "unknown_target");
    }
    let token = [("authorization", "Bearer viewer")];
    assert_eq!(api.order_with("PUT", key, &token, json!({"target": "green"})).await.status, 403);
    let wrong = [("authorization", "Bearer wrong")];
    assert_eq!(api.order_with("PUT", key, &wrong, json!({"target": "green"})).await.status, 401);
    api.origin = Origin { via: Via::Location, ..Origin::at_socket(String::new()) };
    assert_eq!(api.get("/v1/switches").await.status, 401);
    // The minute is not over: they are written when the process ends.
    api.control.stop();
    let path = api.folder.path().join("state/journal.db");
    let journal = Journal::start(Some(JournalPlace::of_switches(path)), || 0, Arc::new(|_, _| {})).unwrap();
    let query = JournalQuery { kind: Some("refused".into()), limit: 10, ..JournalQuery::default() };
    let entries = journal.read(query).await.unwrap();
    let mut told: Vec<_> = entries
        .iter()
        .map(|entry| {
            let refused = &entry.occurrence;
            (&*refused.actor, refused.subject.as_deref().unwrap_or_default(), refused.count)
        })
        .collect();
    told.sort_unstable();
    // A new minute may have begun in between.
    let count =
        told.iter().filter(|(actor, ..)| *actor == "unix:7(ann)").map(|(.., count)| count).sum::<u64>();
    assert_eq!(count, 50);
    told.retain(|(actor, ..)| *actor != "unix:7(ann)");
    assert_eq!(told, [("vic", "forbidden", 1)]);
    journal.stop();
}
