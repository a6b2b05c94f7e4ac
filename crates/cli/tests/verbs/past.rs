//! The past of a switch, as `history`, `show --at` and `diff` show it.

use super::*;

#[test]
fn promise_19_an_incident_is_looked_into() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green", "--idempotency-key", "deploy-1"]).done();
    assert!(server.get("a.example").ends_with("green"));
    server.say(&["switch", "b.example", "green"]).done();
    server.say(&["switch", "a.example", "blue"]).done();

    // The traffic that a commit has moved is in its line.
    server.until("the receipt has it", || {
        let history = server.say(&["history", "--since", "1h"]).done();
        history.contains("new side: first request after") && history.contains("1 served")
    });
    assert!(server.say(&["history"]).done().contains("new side: first request after"));

    let differs = server.say(&["diff", "1..3"]).done();
    let expected =
        "live: revision 1 -> 3\n  a.example: green -> blue\n  b.example: default -> green\n  2 keys differ\n";
    assert_eq!(differs, expected);
    assert!(server.say(&["diff", "3..2"]).done().contains("a.example: blue -> green\n  1 key differs\n"));
    assert_eq!(server.say(&["diff", "1..", "--json"]).json()["to"], 3);
    let unknown = server.say(&["diff", "1..9"]);
    assert_eq!(unknown.code, 1, "{}", unknown.err);
    assert!(unknown.err.contains("there is no revision 9"), "{}", unknown.err);

    let key = server.say(&["show", "a.example", "--at", "2"]).done();
    assert!(
        key.starts_with("a.example: green (since revision 1)\n  the table of revision 2, committed "),
        "{key}"
    );
    assert!(key.contains("     1  ") && !key.contains("     3  "), "{key}");
    let table = server.say(&["show", "--at", "2"]).done();
    assert!(table.starts_with("live: the table of revision 2, committed "), "{table}");
    assert!(
        table.contains("  a.example  green         1\n") && table.contains("  2 keys; all others"),
        "{table}"
    );
    assert_eq!(server.say(&["show", "--at", "0", "--json"]).json()["keys"], serde_json::json!([]));
    assert_eq!(server.say(&["show", "a.example", "--at", "0s", "--json"]).json()["route"], "blue");
    let early = server.say(&["show", "--at", "1h"]);
    assert_eq!(early.code, 1, "{}", early.err);
    assert!(early.err.contains("it begins with revision 1"), "{}", early.err);
    assert_eq!(server.say(&["show", "--at", "9"]).code, 1);
    assert_eq!(server.say(&["show"]).code, 2);

    // A commit is named by the idempotency key of its order.
    server.say(&["wait", "--id", "deploy-1"]).done();
    assert!(server.say(&["receipt", "--id", "deploy-1"]).done().starts_with("live: revision 1\n"));
    let undone = server.say(&["undo", "--id", "deploy-1", "--force"]).done();
    assert!(undone.contains("a.example: blue -> default"), "{undone}");
    assert_eq!(server.say(&["undo", "--id", "deploy-2"]).code, 1);
}
