//! Orders on the servers of groups.

use super::*;
use engine::modules::switch::GROUPS_NAME;
use std::net::TcpListener;
use switch::{Filter, ServerOrder, ServerParams, ServerVerb};
use upstream::GroupSets;

/// Parses lines such as `green add 127.0.0.1:9 weight=3`.
fn orders(lines: &str) -> Action {
    let order = |line: &str| {
        let mut words = line.split_whitespace();
        let (group, verb) = (words.next().unwrap().to_owned(), words.next().unwrap());
        let server = words.next().unwrap_or_default().to_owned();
        let mut params = ServerParams::default();
        words.for_each(|word| params.read(word).unwrap());
        let verb = match verb {
            "add" => ServerVerb::Add(params),
            "set" => ServerVerb::Set(params),
            "drain" => ServerVerb::Drain,
            "down" => ServerVerb::Down,
            "up" => ServerVerb::Up,
            "remove" => ServerVerb::Remove,
            "reset" => ServerVerb::Reset,
            other => panic!("{other}"),
        };
        ServerOrder { group, server, verb }
    };
    Action::Servers(lines.split(';').map(order).collect())
}

async fn order_with(
    control: &ControlHandle,
    lines: &str,
    meta: Meta,
    options: Options,
) -> Result<Receipt, Refusal> {
    control.order(GROUPS_NAME, Order { action: orders(lines), meta }, options).await
}

async fn order(control: &ControlHandle, lines: &str) -> Result<Receipt, Refusal> {
    order_with(control, lines, meta(), Options::default()).await
}

fn shown(sets: &GroupSets, group: &str) -> String {
    let Some(set) = sets.get(group.as_bytes()) else { return "as configured".into() };
    let mark = |is_so: bool, word: &'static str| if is_so { word } else { "" };
    let peers = set.spec.peers.iter().map(|peer| {
        let marks = [mark(peer.drain, " drain"), mark(peer.down, " down")].concat();
        format!("{} w{}{marks}", peer.name, peer.weight)
    });
    peers.collect::<Vec<_>>().join(", ")
}

/// Returns the servers of a group as they were published last.
fn published(data_plane: &FakeDataPlane, group: &str) -> String {
    data_plane.ask(|workers| shown(workers.groups.last().unwrap(), group))
}

fn file(folder: &Path) -> std::path::PathBuf {
    folder.join("state/groups.db")
}

#[tokio::test]
async fn an_order_on_servers_is_published_recorded_and_undone() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    assert!(control.groups(None).await.unwrap().said.is_empty());
    assert_eq!(
        order(&control, "green set 127.0.0.1:7 weight=2").await.unwrap_err().code,
        Code::UnknownServer
    );
    assert!(!file(folder.path()).exists(), "what was refused creates nothing");

    let receipt = order(&control, "green add 127.0.0.1:9 weight=3; green drain 127.0.0.1:2").await.unwrap();
    assert_eq!((receipt.revision, &*receipt.kind, receipt.workers.len()), (1, "server", 2));
    assert_eq!(
        receipt.line(),
        "switch \"groups\" revision 1 (server) by tester: green: 127.0.0.1:2 drain; green: 127.0.0.1:9 added, weight=3"
    );
    assert_eq!(published(&data_plane, "green"), "127.0.0.1:2 w1 drain, 127.0.0.1:9 w3");
    assert!(file(folder.path()).exists());
    // Nothing of it is of a switch.
    assert_eq!(control.list().await.unwrap().len(), 1);
    assert_eq!(control.show("live").await.unwrap().revision, 0);
    assert_eq!(control.show(GROUPS_NAME).await.unwrap().revision, 1);

    let again = order(&control, "green drain 127.0.0.1:2").await.unwrap();
    assert_eq!((again.outcome, again.revision), (Outcome::Unchanged, 1));
    let undone = control.undo(GROUPS_NAME, UndoWhat::Last, meta(), Options::default()).await.unwrap();
    assert_eq!((undone.revision, undone.of, undone.servers.len()), (2, Some(1), 2));
    assert_eq!(published(&data_plane, "green"), "as configured");
    let filter = Filter { limit: 9, ..Default::default() };
    let kinds: Vec<String> = control
        .history(GROUPS_NAME, filter)
        .await
        .unwrap()
        .iter()
        .map(|commit| commit.kind.name().to_owned())
        .collect();
    assert_eq!(kinds, ["undo", "server"]);
    assert_eq!(control.verify(GROUPS_NAME).await.unwrap().fault, None);
    // A switch's own orders go on as before.
    set(&control, "a.example", "green").await.unwrap();
    control.stop();
    assert!(
        !folder.path().join("state/switches.json").exists() || {
            let text = std::fs::read_to_string(folder.path().join("state/switches.json")).unwrap();
            !text.contains(GROUPS_NAME)
        }
    );
}

#[tokio::test]
async fn a_restart_finds_the_last_acknowledged_servers() {
    let folder = folder();
    let (control, _) = start(folder.path(), "");
    order(&control, "green add 127.0.0.1:9").await.unwrap();
    order(&control, "green remove 127.0.0.1:2").await.unwrap();
    order(&control, "blue set 127.0.0.1:1 weight=4").await.unwrap();
    control.stop();
    let data_plane = FakeDataPlane::new();
    let (control, _) = open(&config(folder.path(), &two_groups("")), &data_plane).unwrap();
    assert_eq!(published(&data_plane, "green"), "127.0.0.1:9 w1");
    assert_eq!(published(&data_plane, "blue"), "127.0.0.1:1 w4");
    let info = control.groups(Some("GREEN".into())).await.unwrap();
    assert_eq!((info.revision, info.groups[0].found.removed[0].name.as_str()), (3, "127.0.0.1:2"));
    assert_eq!(info.said[&2].actor, "tester");
    control.undo(GROUPS_NAME, UndoWhat::Commit(2), meta(), Options::default()).await.unwrap();
    assert_eq!(published(&data_plane, "green"), "127.0.0.1:2 w1, 127.0.0.1:9 w1");
}

#[tokio::test]
async fn a_reload_merges_anew() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    order(&control, "green add 127.0.0.1:9 weight=2").await.unwrap();
    order(&control, "green set 127.0.0.1:2 max_conns=5; blue add 127.0.0.1:3").await.unwrap();
    order(&control, "blue remove 127.0.0.1:1").await.unwrap();
    let reload = |http: &str| {
        let (control, config) = (control.clone(), config(folder.path(), http));
        tokio::task::spawn_blocking(move || {
            let prepared = control.prepare_reload(&config)?;
            let routing = prepared.routing().clone();
            prepared.store().map(crate::StoredReload::commit)?;
            Ok::<_, String>(routing)
        })
    };
    let http = "upstream blue { server 127.0.0.1:1; server 127.0.0.1:4; }
        upstream green { server 127.0.0.1:9 max_fails=3; server 127.0.0.1:5; }
        switch $host $live { default blue; }";
    let routing = reload(http).await.unwrap().unwrap();
    // The tombstone holds, the added server is the file's, and what was said of 127.0.0.1:2 sleeps.
    assert_eq!(shown(&routing.groups, "blue"), "127.0.0.1:4 w1, 127.0.0.1:3 w1");
    assert_eq!(shown(&routing.groups, "green"), "127.0.0.1:9 w2, 127.0.0.1:5 w1");
    assert_eq!(routing.groups.get(b"green").unwrap().spec.peers[0].max_fails, 3);
    let info = control.groups(None).await.unwrap();
    assert_eq!(info.groups[1].found.dormant[0].name, "127.0.0.1:2");
    order(&control, "green reset").await.unwrap();
    assert_eq!(published(&data_plane, "green"), "as configured");
    // Without its group an order sleeps, and is there again with it.
    let only = "upstream green { server 127.0.0.1:2; } switch $host $live { default green; }";
    assert!(reload(only).await.unwrap().unwrap().groups.is_empty());
    let routing = reload(&two_groups("")).await.unwrap().unwrap();
    assert_eq!(shown(&routing.groups, "blue"), "127.0.0.1:3 w1");
}

/// Reloads with this `http` block.
async fn reload(control: &ControlHandle, prefix: &Path, http: &str) {
    let (control, config) = (control.clone(), config(prefix, http));
    let work = move || {
        let prepared = control.prepare_reload(&config)?;
        prepared.store().map(crate::StoredReload::commit)?;
        Ok::<_, String>(())
    };
    tokio::task::spawn_blocking(work).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_orders_say_of_a_group_that_is_gone_is_shown_and_can_be_forgotten() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    order(&control, "blue add 127.0.0.1:3; blue set 127.0.0.1:1 weight=5").await.unwrap();
    let only = "upstream green { server 127.0.0.1:2; } switch $host $live { default green; }";
    reload(&control, folder.path(), only).await;
    let all = control.groups(None).await.unwrap();
    let shown = |group: &crate::info::GroupInfo| {
        let dormant = group.found.dormant.iter().map(|one| format!("{} {}", one.name, one.entry));
        (group.base.name.to_string(), group.is_gone, dormant.collect::<Vec<_>>().join("; "))
    };
    let gone = ("blue".to_owned(), true, "127.0.0.1:1 weight=5; 127.0.0.1:3 added".to_owned());
    assert_eq!(
        all.groups.iter().map(shown).collect::<Vec<_>>(),
        [("green".to_owned(), false, String::new()), gone.clone()]
    );
    assert!(all.groups[1].found.servers.is_empty(), "what is added there serves nothing");
    assert_eq!(shown(&control.groups(Some("BLUE".into())).await.unwrap().groups[0]), gone);
    for lines in ["blue add 127.0.0.1:4", "blue drain 127.0.0.1:1", "blue remove 127.0.0.1:3"] {
        let refused = order(&control, lines).await.unwrap_err();
        assert_eq!(refused.code, Code::UnknownGroup, "{lines}");
        assert!(refused.remedy.contains("pointsman server blue reset"), "{}", refused.remedy);
    }
    let receipt = order(&control, "blue reset 127.0.0.1:3").await.unwrap();
    assert_eq!(receipt.servers[0].change, "blue: 127.0.0.1:3 removed");
    assert_eq!(order(&control, "blue reset").await.unwrap().revision, 3);
    assert_eq!(control.groups(Some("blue".into())).await.unwrap_err().code, Code::UnknownGroup);
    assert_eq!(control.groups(None).await.unwrap().groups.len(), 1);
    // It has come back as the configuration has it.
    reload(&control, folder.path(), &two_groups("")).await;
    assert_eq!(published(&data_plane, "blue"), "as configured");
    control.stop();
}

#[tokio::test]
async fn a_receipt_says_what_becomes_of_a_server_that_orders_no_longer_add() {
    let folder = folder();
    let (control, _) = start(folder.path(), "");
    order(&control, "green add 127.0.0.1:3 weight=2; green add 127.0.0.1:4").await.unwrap();
    let http =
        "upstream blue { server 127.0.0.1:1; } upstream green { server 127.0.0.1:2; server 127.0.0.1:3; }
        switch $host $live { default blue; }";
    reload(&control, folder.path(), http).await;
    let dry = Options { dry_run: true, ..Options::default() };
    for options in [dry, Options::default()] {
        let receipt = order_with(&control, "green reset", meta(), options).await.unwrap();
        let changes: Vec<&str> = receipt.servers.iter().map(|one| one.change.as_str()).collect();
        assert_eq!(changes, ["green: 127.0.0.1:3 as in the configuration", "green: 127.0.0.1:4 removed"]);
    }
    let filter = Filter { limit: 1, ..Default::default() };
    let commit = control.history(GROUPS_NAME, filter).await.unwrap().remove(0);
    // What the configuration had then is not in the history.
    let texts: Vec<String> = commit.subjects.iter().filter_map(|one| one.server_text()).collect();
    assert_eq!(texts, ["green: 127.0.0.1:3 no longer added", "green: 127.0.0.1:4 no longer added"]);
    control.stop();
}

#[tokio::test]
async fn another_process_follows() {
    let folder = folder();
    let (one, _) = start(folder.path(), "");
    let (other, data_plane) = start(folder.path(), "");
    order(&one, "green add 127.0.0.1:9").await.unwrap();
    until("the other process has it", || {
        data_plane.ask(|workers| workers.groups.last().is_some_and(|sets| !sets.is_empty()))
    })
    .await;
    assert_eq!(published(&data_plane, "green"), "127.0.0.1:2 w1, 127.0.0.1:9 w1");
    // Its own order is planned on that.
    assert_eq!(order(&other, "green add 127.0.0.1:9").await.unwrap_err().code, Code::ServerExists);
    assert_eq!(order(&other, "green remove 127.0.0.1:9").await.unwrap().revision, 2);
}

#[tokio::test]
async fn a_server_that_joins_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let well = listener.local_addr().unwrap();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    // Nothing leads there through a gate.
    order(&control, &format!("green add {dead}; green drain {dead}")).await.unwrap_err();
    order(&control, &format!("green add {dead} down")).await.unwrap();
    let gated = Options { gate: true, ..Options::default() };
    let up = format!("green up {dead}; green add {well}");
    let refused = order_with(&control, &up, meta(), gated.clone()).await.unwrap_err();
    assert_eq!(
        refused.text,
        format!("target \"green\" has 1 of 2 required healthy servers ({dead}: connection refused)")
    );
    let dry = Options { dry_run: true, ..gated.clone() };
    let receipt = order_with(&control, &up, meta(), dry).await.unwrap();
    assert_eq!((receipt.outcome, receipt.gate[0].servers.len()), (Outcome::WouldRefuse, 2));
    let receipt = order_with(&control, &format!("green add {well}"), meta(), gated.clone()).await.unwrap();
    assert_eq!(receipt.gate[0].servers[0].reason, "accepts connections");
    let forced = Meta { force: true, ..meta() };
    order_with(&control, &format!("green up {dead}"), forced, gated).await.unwrap();
    assert!(published(&data_plane, "green").contains(&format!("{dead} w1")));
    // Without the option it is the gate of a switch that leads to the group.
    control.stop();
    let (control, _) = start(folder.path(), "gate healthy=1 timeout=1s uri=/;");
    let nowhere = "green add 127.0.0.1:1";
    assert_eq!(order(&control, nowhere).await.unwrap_err().code, Code::GateFailed);
}

#[tokio::test]
async fn a_commit_that_is_not_confirmed_goes_back() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    let window = Meta { confirm_within_ms: Some(200), ..meta() };
    order_with(
        &control,
        "green add 127.0.0.1:9; blue set 127.0.0.1:1 weight=2",
        window.clone(),
        Options::default(),
    )
    .await
    .unwrap();
    order(&control, "blue set 127.0.0.1:1 weight=5").await.unwrap();
    until("it is reverted", || published(&data_plane, "green") == "as configured").await;
    assert_eq!(published(&data_plane, "blue"), "127.0.0.1:1 w5", "the later decision stays");
    order_with(&control, "green add 127.0.0.1:9", window, Options::default()).await.unwrap();
    control.confirm(GROUPS_NAME, None, meta()).await.unwrap();
    assert!(control.show(GROUPS_NAME).await.unwrap().pending.is_empty());
}

#[tokio::test]
async fn a_drained_server_is_waited_for() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    order(&control, "green add 127.0.0.1:9").await.unwrap();
    data_plane.tell(|workers| workers.busy = vec![("green", "127.0.0.1:2", 3), ("green", "127.0.0.1:9", 7)]);
    let options =
        |ms| Options { wait: Wait::Drained, timeout: Some(Duration::from_millis(ms)), ..Options::default() };
    let receipt = order_with(&control, "green drain 127.0.0.1:2", meta(), options(30)).await.unwrap();
    let drain = receipt.drain.unwrap();
    // Two workers report three each.
    assert_eq!((drain.state, drain.in_flight), (DrainState::Draining, 6));
    let waiting = {
        let control = control.clone();
        let wait = crate::options::CommitRef::Newest;
        tokio::spawn(async move {
            let timeout = Some(Duration::from_secs(20));
            control.wait(GROUPS_NAME, wait, Wait::Drained, timeout).await.unwrap()
        })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished());
    data_plane.tell(|workers| workers.busy.clear());
    assert_eq!(waiting.await.unwrap().drain.unwrap().state, DrainState::Drained);
    let refused = order_with(&control, "green up 127.0.0.1:2", meta(), options(30)).await.unwrap_err();
    assert_eq!(refused.code, Code::BadOrder);
}

#[tokio::test]
async fn an_order_that_is_sent_twice_is_one_commit() {
    let folder = folder();
    let (control, _) = start(folder.path(), "");
    let named = |name: &str| Meta { idempotency: Some(name.into()), ..meta() };
    let send = |lines: &'static str, name: &'static str| {
        let (control, meta) = (control.clone(), named(name));
        async move { order_with(&control, lines, meta, Options::default()).await }
    };
    assert_eq!(send("green add 127.0.0.1:9", "x").await.unwrap().outcome, Outcome::Committed);
    assert_eq!(send("green add 127.0.0.1:9", "x").await.unwrap().outcome, Outcome::Repeated);
    assert_eq!(send("green add 127.0.0.1:8", "x").await.unwrap_err().code, Code::IdempotencyReused);
    assert_eq!(send("green drain 127.0.0.1:9", "y").await.unwrap().revision, 2);
    assert_eq!(send("green remove 127.0.0.1:9", "z").await.unwrap().revision, 3);
    // The same order as the second, although its server is gone.
    assert_eq!(send("green drain 127.0.0.1:9", "y").await.unwrap().outcome, Outcome::Repeated);
}

#[tokio::test]
async fn the_groups_have_no_keys_and_no_holds() {
    let folder = folder();
    let (control, _) = start(folder.path(), "");
    let refused = control.order(GROUPS_NAME, to(&[("a", "green")], meta()), Options::default()).await;
    assert_eq!(refused.unwrap_err().code, Code::BadOrder);
    let hold = HoldOrder {
        key: key("a"),
        options: HoldOptions::default(),
        end: None,
        actor: "tester".into(),
        reason: None,
    };
    assert_eq!(control.hold(GROUPS_NAME, hold).await.unwrap_err().code, Code::BadOrder);
    // And a switch has no servers.
    let order = Order { action: orders("green add 127.0.0.1:9"), meta: meta() };
    assert_eq!(control.order("live", order, Options::default()).await.unwrap_err().code, Code::UnknownGroup);
}

#[tokio::test]
async fn servers_that_lead_back_to_this_server_are_not_used() {
    let folder = folder();
    let http = |listen: &str| format!("{listen} {}", two_groups("state state/live.db;"));
    let data_plane = FakeDataPlane::new();
    let (control, _) = open(&config(folder.path(), &http("")), &data_plane).unwrap();
    order(&control, "green add 127.0.0.1:7009; green add 127.0.0.1:7010").await.unwrap();
    order(&control, "green remove 127.0.0.1:7009").await.unwrap();
    control.stop();
    // The next configuration listens there.
    let listens = "server { listen 127.0.0.1:7009; } server { listen 7010; }";
    let (control, _) = open(&config(folder.path(), &http(listens)), &data_plane).unwrap();
    assert_eq!(published(&data_plane, "green"), "as configured");
    let undo = control.undo(GROUPS_NAME, UndoWhat::Commit(2), meta(), Options::default());
    for refused in [undo.await, order(&control, "green add 127.0.0.1:7009").await] {
        let refusal = refused.unwrap_err();
        assert_eq!(refusal.code, Code::ServerNotAllowed, "{refusal}");
    }
    order(&control, "green remove 127.0.0.1:7010").await.unwrap();
    control.stop();
}

#[tokio::test]
async fn a_history_is_that_of_a_group_or_of_one_server() {
    let folder = folder();
    let (control, _) = start(folder.path(), "");
    for lines in [
        "green add 127.0.0.1:9",
        "blue add 127.0.0.1:9; green drain 127.0.0.1:9",
        "blue set 127.0.0.1:1 weight=2",
        "green add 127.0.0.1:91",
        "green up 127.0.0.1:9",
    ] {
        order(&control, lines).await.unwrap();
    }
    for (group, server, revisions) in [
        ("green", None, &[5, 4, 2, 1][..]),
        ("BLUE", None, &[3, 2]),
        ("gree", None, &[]),
        ("green", Some("127.0.0.1:9"), &[5, 2, 1]),
        ("green", Some("127.0.0.1:91"), &[4]),
        ("blue", Some("127.0.0.1:91"), &[]),
    ] {
        let filter =
            Filter { group: Some(switch::GroupFilter::new(group, server)), limit: 9, ..Filter::default() };
        let read = |filter: Filter| {
            let control = control.clone();
            async move {
                let found = control.history(GROUPS_NAME, filter).await.unwrap();
                found.iter().map(|commit| commit.revision).collect::<Vec<_>>()
            }
        };
        assert_eq!(read(filter.clone()).await, revisions, "{group} {server:?}");
        // Page by page.
        let first = read(Filter { limit: 1, ..filter.clone() }).await;
        let rest = read(Filter { before_revision: first.first().copied(), ..filter }).await;
        assert_eq!([first, rest].concat(), revisions, "{group} {server:?}");
    }
    // Without a port it is 80, and the file may write it so.
    assert!(
        switch::GroupFilter::new("green", Some("127.0.0.1"))
            != switch::GroupFilter::new("green", Some("127.0.0.1:80"))
    );
    let info = control.groups(Some("green".into())).await.unwrap();
    assert!(info.groups[0].out_since.is_empty(), "it is up again");
    control.stop();
}

#[tokio::test]
async fn a_server_is_out_since_the_order_that_took_it_out() {
    let folder = folder();
    let (control, _) = start(folder.path(), "");
    order(&control, "green add 127.0.0.1:9").await.unwrap();
    for lines in ["drain", "up", "down", "set", "drain"] {
        let params = if lines == "set" { " weight=3" } else { "" };
        order(&control, &format!("green {lines} 127.0.0.1:9{params}")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let filter = Filter { limit: 9, ..Default::default() };
    let history = control.history(GROUPS_NAME, filter).await.unwrap();
    let down = history.iter().find(|commit| commit.revision == 4).unwrap();
    let info = control.groups(Some("green".into())).await.unwrap();
    assert_eq!(info.groups[0].out_since.get("127.0.0.1:9"), Some(&down.time_ms));
    control.stop();
}
