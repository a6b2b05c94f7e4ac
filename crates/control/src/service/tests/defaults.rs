//! Defaults that the configuration changes.

use super::*;
use crate::{FileDefault, WindowTimes};
use engine::Config;

/// Returns a configuration with a switch between two servers of these ports.
fn with_default(prefix: &Path, (blue, green): (u16, u16), target: &str, words: &str) -> Arc<Config> {
    let http = two_groups(words)
        .replace("127.0.0.1:1", &format!("127.0.0.1:{blue}"))
        .replace("127.0.0.1:2", &format!("127.0.0.1:{green}"))
        .replace("default blue", &format!("default {target}"));
    config(prefix, &http)
}

/// Reloads, or says why not.
async fn reload(control: &ControlHandle, config: &Arc<Config>) -> Result<(), String> {
    let (control, config) = (control.clone(), config.clone());
    let reload = move || {
        control.prepare_reload(&config)?.store()?.commit();
        Ok(())
    };
    tokio::task::spawn_blocking(reload).await.unwrap()
}

/// Returns the revision and the default in force, and what the configuration says if that is something else.
async fn state(control: &ControlHandle) -> (u64, String, Option<String>) {
    let shown = control.show("live").await.unwrap();
    let file = shown.rules.default.to_string();
    let own = shown.own_default.map_or_else(|| file.clone(), |(own, _)| own);
    let differs = (own != file).then_some(file);
    (shown.revision, own, differs)
}

fn is(revision: u64, default: &str, file: Option<&str>) -> (u64, String, Option<String>) {
    (revision, default.to_owned(), file.map(str::to_owned))
}

fn port(is_there: bool) -> (u16, Option<std::net::TcpListener>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap().port(), is_there.then_some(listener))
}

async fn last(control: &ControlHandle) -> switch::Commit {
    let filter = switch::Filter { limit: 1, ..Default::default() };
    control.history("live", filter).await.unwrap().remove(0)
}

#[tokio::test]
async fn promise_9_a_changed_default_asks_its_gate_and_is_a_commit() {
    let folder = folder();
    let ((blue, _blue), (green, _)) = (port(true), port(false));
    let of = |target| with_default(folder.path(), (blue, green), target, "gate healthy=1;");
    let data_plane = FakeDataPlane::new();
    let (control, _) = open(&of("blue"), &data_plane).unwrap();
    set(&control, "a.example", "blue").await.unwrap();
    let refused = reload(&control, &of("green")).await.unwrap_err();
    assert!(refused.starts_with("switch \"live\": its default would be green now"), "{refused}");
    assert!(refused.contains(&format!("127.0.0.1:{green}: connection refused")), "{refused}");
    assert_eq!(state(&control).await, is(1, "blue", None));
    // With force it is done all the same, and recorded.
    control.force_reloads(true);
    reload(&control, &of("green")).await.unwrap();
    control.force_reloads(false);
    let commit = last(&control).await;
    assert_eq!((commit.kind.name(), &*commit.actor, commit.forced), ("default", "reload", true));
    assert_eq!(state(&control).await, is(2, "green", None));
    assert!(data_plane.ask(|workers| workers.published.last().unwrap().tables[0].revision()) == 2);
    // The same file again changes nothing; back again, the gate of blue is asked.
    reload(&control, &of("green")).await.unwrap();
    reload(&control, &of("blue")).await.unwrap();
    let commit = last(&control).await;
    assert_eq!((commit.revision, commit.forced, commit.gate.len()), (3, false, 1));
    let _green = std::net::TcpListener::bind(("127.0.0.1", green)).unwrap();
    reload(&control, &of("green")).await.unwrap();
    assert_eq!(state(&control).await, is(4, "green", None));
    assert_eq!(control.verify("live").await.unwrap().fault, None);
    control.stop();
}

#[tokio::test]
async fn promise_9_an_undone_default_is_not_committed_again_by_the_same_file() {
    let folder = folder();
    let of = |target| with_default(folder.path(), (1, 2), target, "");
    let (control, _) = open(&of("blue"), &FakeDataPlane::new()).unwrap();
    set(&control, "a.example", "blue").await.unwrap();
    reload(&control, &of("green")).await.unwrap();
    assert_eq!(state(&control).await, is(2, "green", None));
    // As the last commit, and by its revision.
    let undone = control.undo("live", UndoWhat::Last, meta(), Options::default()).await.unwrap();
    assert_eq!(undone.notes, ["the default moves from green to blue"]);
    assert_eq!(state(&control).await, is(3, "blue", Some("green")));
    let again = control.undo("live", UndoWhat::Commit(2), meta(), Options::default()).await.unwrap_err();
    assert_eq!(again.code, Code::NothingToUndo);
    reload(&control, &of("green")).await.unwrap();
    assert_eq!(state(&control).await, is(3, "blue", Some("green")));
    let check = control.check(crate::Declarations::of(&of("green"))).await.unwrap();
    let said = "switch \"live\": default: file says green, table says blue since revision 3";
    assert_eq!((check.faults.len(), check.notes), (0, vec![said.to_owned()]));
    let changes = control.check(crate::Declarations::of(&of("blue"))).await.unwrap();
    assert_eq!(changes.notes, Vec::<String>::new(), "it would only be taken down");
    control.stop();
    // A start finds the same, and so does a test without a server.
    assert_eq!(crate::check_stores(&crate::Declarations::of(&of("green"))).notes, [said]);
    let (control, tables) = open(&of("green"), &FakeDataPlane::new()).unwrap();
    assert_eq!(tables.tables[0].default_target(&"green".into()).as_ref(), "blue");
    assert_eq!(state(&control).await, is(3, "blue", Some("green")));
    control.stop();
}

#[tokio::test]
async fn promise_9_a_default_that_was_changed_while_nothing_ran_is_committed_at_the_start() {
    let folder = folder();
    // No server is there: a cold start asks no gate.
    let of = |target| with_default(folder.path(), (1, 2), target, "gate healthy=1;");
    let (control, _) = open(&of("blue"), &FakeDataPlane::new()).unwrap();
    let forced = Meta { force: true, ..meta() };
    control.order("live", to(&[("a.example", "blue")], forced), Options::default()).await.unwrap();
    control.stop();
    let begin = |target, policy| {
        let times = WindowTimes::default();
        crate::testing::open_with(&of(target), &FakeDataPlane::new(), times, policy)
    };
    // Of two processes, the older one's configuration does not count.
    let (control, _) = begin("green", FileDefault::Ignored).unwrap();
    assert_eq!(state(&control).await, is(1, "blue", Some("green")));
    control.stop();
    // A reload that needs another process asks the gate as any other.
    let refused = begin("green", FileDefault::Gated).map(drop).unwrap_err();
    assert!(refused.contains("its default would be green now"), "{refused}");
    let (control, tables) = begin("green", FileDefault::Counts).unwrap();
    assert_eq!((tables.tables[0].revision(), state(&control).await), (2, is(2, "green", None)));
    let commit = last(&control).await;
    assert_eq!((commit.kind.name(), &*commit.actor), ("default", "start"));
    let events = control.events(Some(0)).missed;
    assert!(matches!(&events[0].kind, EventKind::Committed { kind, .. } if kind == "default"), "it is said");
    control.stop();
}

#[tokio::test]
async fn promise_9_a_reload_that_fails_leaves_no_commit_of_a_default() {
    let folder = folder();
    let two = |target: &str| {
        let http = two_groups("") + " switch $arg_user $users { default blue; }";
        config(folder.path(), &http.replace("default blue", &format!("default {target}")))
    };
    let (control, _) = open(&two("blue"), &FakeDataPlane::new()).unwrap();
    set(&control, "a.example", "blue").await.unwrap();
    let users = Key::parse(KeyKind::Text, b"anna", 255).unwrap();
    let order = Order { action: Action::Set(vec![(users, Route::parse("blue").ok())]), meta: meta() };
    control.order("users", order, Options::default()).await.unwrap();
    // Prepared, and given up.
    let (handle, next) = (control.clone(), two("green"));
    tokio::task::spawn_blocking(move || drop(handle.prepare_reload(&next).unwrap())).await.unwrap();
    assert_eq!(state(&control).await, is(1, "blue", None));
    // The second store does not take it: the first one's commit is taken back.
    let (file, away) = (folder.path().join("state/users.db"), folder.path().join("away.db"));
    let (handle, next) = (control.clone(), two("green"));
    let stored = tokio::task::spawn_blocking(move || {
        let prepared = handle.prepare_reload(&next).unwrap();
        std::fs::rename(&file, &away).unwrap();
        let stored = prepared.store().map(drop);
        std::fs::rename(&away, &file).unwrap();
        stored
    });
    let refused = stored.await.unwrap().unwrap_err();
    assert!(refused.contains("switch \"users\": its default could not be stored"), "{refused}");
    set(&control, "b.example", "blue").await.unwrap();
    assert_eq!(state(&control).await, is(4, "blue", None));
    assert_eq!(control.verify("live").await.unwrap().fault, None);
    // The next reload is whole.
    reload(&control, &two("green")).await.unwrap();
    assert_eq!(state(&control).await, is(5, "green", None));
    control.stop();
}

#[tokio::test]
async fn promise_9_a_default_in_force_keeps_its_target() {
    let folder = folder();
    let (control, _) = open(&with_default(folder.path(), (1, 2), "blue", ""), &FakeDataPlane::new()).unwrap();
    set(&control, "a.example", "green").await.unwrap();
    reload(&control, &with_default(folder.path(), (1, 2), "green", "")).await.unwrap();
    control.undo("live", UndoWhat::Last, meta(), Options::default()).await.unwrap();
    // The table says blue, and the file has only green.
    let without = "upstream green { server 127.0.0.1:2; } switch $host $live { default green; }";
    let refused = reload(&control, &config(folder.path(), without)).await.unwrap_err();
    assert!(refused.contains("no longer has the target \"blue\", its default since revision 3"), "{refused}");
    control.stop();
    let refused = open(&config(folder.path(), without), &FakeDataPlane::new()).map(drop).unwrap_err();
    assert!(refused.contains("no longer has the target \"blue\""), "{refused}");
}
