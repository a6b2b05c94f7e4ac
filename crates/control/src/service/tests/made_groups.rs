//! Groups made at run time, and the switches that lead to them.

use super::*;
use crate::StoredReload;
use engine::modules::switch::GROUPS_NAME;
use switch::{GroupOrder, GroupVerb, ServerParams};
use upstream::GroupSets;

const DYNAMIC: &str = "default blue; targets blue green dynamic;";

fn http(blocks: &str) -> String {
    format!(
        "upstream blue {{ least_conn; keepalive 7; server 127.0.0.1:1; }} upstream green {{ server 127.0.0.1:2; }}
         {blocks} switch $host $live {{ {DYNAMIC} }}"
    )
}

fn start_with(prefix: &Path, blocks: &str) -> (ControlHandle, Arc<FakeDataPlane>) {
    let data_plane = FakeDataPlane::new();
    let (control, _) = open(&config(prefix, &http(blocks)), &data_plane).unwrap();
    (control, data_plane)
}

async fn group_order(
    control: &ControlHandle,
    name: &str,
    verb: GroupVerb,
    meta: Meta,
) -> Result<Receipt, Refusal> {
    let action = Action::Group(GroupOrder { group: name.to_owned(), verb });
    control.order(GROUPS_NAME, Order { action, meta }, Options::default()).await
}

async fn make(control: &ControlHandle, name: &str, servers: &[&str]) -> Result<Receipt, Refusal> {
    let servers = servers.iter().map(|one| ((*one).to_owned(), ServerParams::default())).collect();
    group_order(control, name, GroupVerb::Make { like: Some("blue".into()), servers }, meta()).await
}

async fn remove(control: &ControlHandle, name: &str) -> Result<Receipt, Refusal> {
    group_order(control, name, GroupVerb::Remove, meta()).await
}

fn servers(sets: &GroupSets, group: &str) -> Option<String> {
    let set = sets.get(group.as_bytes())?;
    Some(set.spec.peers.iter().map(|peer| peer.name.clone()).collect::<Vec<_>>().join(", "))
}

fn published(data_plane: &FakeDataPlane, group: &str) -> Option<String> {
    data_plane.ask(|workers| servers(workers.groups.last().unwrap(), group))
}

async fn reload(control: &ControlHandle, prefix: &Path, http: &str) -> Result<GroupSets, String> {
    let (control, config) = (control.clone(), config(prefix, http));
    let work = move || {
        let prepared = control.prepare_reload(&config)?;
        let groups = prepared.routing().groups.clone();
        prepared.store().map(StoredReload::commit)?;
        Ok::<_, String>(groups)
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test]
async fn keys_lead_to_a_made_group_which_cannot_go_before_they_do() {
    let folder = folder();
    let (control, data_plane) = start_with(folder.path(), "");
    let unknown = set(&control, "a.example", "teal").await.unwrap_err();
    assert_eq!(unknown.code, Code::UnknownTarget);
    assert!(unknown.remedy.contains("pointsman group create"), "{}", unknown.remedy);
    let receipt = make(&control, "teal", &["127.0.0.1:7", "127.0.0.1:8"]).await.unwrap();
    assert_eq!((receipt.revision, &*receipt.kind, receipt.workers.len()), (1, "group", 2));
    assert_eq!(receipt.servers[0].change, "teal: made, like blue");
    assert_eq!(published(&data_plane, "teal").as_deref(), Some("127.0.0.1:7, 127.0.0.1:8"));
    let set_of =
        |name: &str| data_plane.ask(|workers| workers.groups.last().unwrap().get(name.as_bytes()).cloned());
    let teal = set_of("teal").unwrap();
    assert_eq!(teal.like.as_deref(), Some("blue"));
    assert_eq!((teal.spec.balancer, teal.spec.keepalive.max_idle), (upstream::BalancerSpec::LeastConn, 7));
    let known = control.show("live").await.unwrap().rules;
    assert_eq!(known.targets.iter().map(|one| &**one).collect::<Vec<_>>(), ["blue", "green", "teal"]);

    set(&control, "a.example", "teal=0 blue=1").await.unwrap();
    let refused = remove(&control, "teal").await.unwrap_err();
    assert_eq!(refused.text, "group \"teal\" is in use: key \"a.example\" of switch \"live\"");
    set(&control, "a.example", "green").await.unwrap();
    let removed = remove(&control, "TEAL").await.unwrap();
    assert_eq!((removed.revision, published(&data_plane, "teal")), (2, None));
    // An undo that would lead there is refused, and names it.
    let undo = control.undo("live", UndoWhat::Commit(2), meta(), Options::default()).await.unwrap_err();
    assert_eq!((undo.code, &*undo.text), (Code::UnknownTarget, "switch \"live\" has no target \"teal\""));
    control.undo(GROUPS_NAME, UndoWhat::Last, meta(), Options::default()).await.unwrap();
    assert_eq!(published(&data_plane, "teal").as_deref(), Some("127.0.0.1:7, 127.0.0.1:8"));
    control.undo("live", UndoWhat::Commit(2), meta(), Options::default()).await.unwrap();
    // Undoing its making is removing it.
    let undo = control.undo(GROUPS_NAME, UndoWhat::Commit(1), meta(), Options::default()).await.unwrap_err();
    assert_eq!(undo.code, Code::GroupInUse);
    assert_eq!(control.verify(GROUPS_NAME).await.unwrap().fault, None);
}

#[tokio::test]
async fn a_window_and_a_hold_keep_a_group() {
    let folder = folder();
    let (control, _) = start_with(folder.path(), "");
    make(&control, "teal", &["127.0.0.1:7"]).await.unwrap();
    set(&control, "a.example", "teal").await.unwrap();
    let within = Meta { confirm_within_ms: Some(600_000), ..meta() };
    control.order("live", to(&[("a.example", "blue")], within), Options::default()).await.unwrap();
    let refused = remove(&control, "teal").await.unwrap_err();
    assert_eq!(
        refused.text,
        "group \"teal\" is in use: revision 2 of switch \"live\", which waits to be confirmed and would go back there"
    );
    control.confirm("live", None, meta()).await.unwrap();
    remove(&control, "teal").await.unwrap();
}

#[tokio::test]
async fn an_order_that_waits_with_a_hold_keeps_the_group_it_leads_to() {
    let folder = folder();
    let (control, data_plane) = start_with(folder.path(), "");
    make(&control, "teal", &["127.0.0.1:7"]).await.unwrap();
    data_plane.tell(|workers| workers.in_flight = 1);
    let hold = HoldOptions { timeout_ms: 60_000, ..HoldOptions::default() };
    let options = Options { hold: Some(hold), ..Options::default() };
    let waiting = {
        let control = control.clone();
        tokio::spawn(
            async move { control.order("live", to(&[("a.example", "teal")], meta()), options).await },
        )
    };
    let held = || async { !control.show("live").await.unwrap().holds.is_empty() };
    while !held().await {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let refused = remove(&control, "teal").await.unwrap_err();
    assert_eq!(
        refused.text,
        "group \"teal\" is in use: an order that holds key \"a.example\" of switch \"live\""
    );
    data_plane.tell(|workers| workers.in_flight = 0);
    waiting.await.unwrap().unwrap();
    assert!(remove(&control, "teal").await.unwrap_err().text.contains("key \"a.example\""));
}

#[tokio::test]
async fn a_made_group_outlives_restarts_and_reloads_and_a_block_of_its_name_must_adopt_it() {
    let folder = folder();
    let prefix = folder.path();
    let (control, _) = start_with(prefix, "");
    make(&control, "teal", &["127.0.0.1:7"]).await.unwrap();
    set(&control, "a.example", "teal").await.unwrap();
    control.stop();
    let (control, data_plane) = start_with(prefix, "");
    assert_eq!(published(&data_plane, "teal").as_deref(), Some("127.0.0.1:7"));
    let groups = reload(&control, prefix, &http("")).await.unwrap();
    assert_eq!(servers(&groups, "teal").as_deref(), Some("127.0.0.1:7"));

    let block = "upstream Teal { server 127.0.0.1:9; }";
    let refused = reload(&control, prefix, &http(block)).await.unwrap_err();
    assert!(refused.contains("the configuration has an upstream \"Teal\""), "{refused}");
    let checked = crate::check_groups(&config(prefix, &http(block)));
    assert_eq!(checked.faults.len(), 1, "{:?}", checked.faults);
    // What it is like cannot go, and neither can the admission of the key's target.
    let without =
        "upstream green { server 127.0.0.1:2; } switch $host $live { default green; targets green dynamic; }";
    let refused = reload(&control, prefix, without).await.unwrap_err();
    assert!(refused.contains("with the settings of \"blue\""), "{refused}");
    let closed = two_groups("");
    let refused = reload(&control, prefix, &closed).await.unwrap_err();
    assert!(refused.contains("a.example (teal)"), "{refused}");

    let adopting = "upstream Teal adopt { server 127.0.0.1:9; }";
    let groups = reload(&control, prefix, &http(adopting)).await.unwrap();
    assert_eq!(servers(&groups, "teal").as_deref(), Some("127.0.0.1:9, 127.0.0.1:7"));
    assert!(groups.get(b"teal").unwrap().like.is_none(), "its settings are the block's");
    // Its making is forgotten when no key needs it; what was said of its servers stays.
    assert_eq!(remove(&control, "teal").await.unwrap_err().code, Code::GroupInUse);
    set(&control, "a.example", "blue").await.unwrap();
    remove(&control, "teal").await.unwrap();
    let groups = reload(&control, prefix, &http(block)).await.unwrap();
    assert_eq!(servers(&groups, "teal").as_deref(), Some("127.0.0.1:9, 127.0.0.1:7"));
    control.stop();
}

#[tokio::test]
async fn a_start_with_a_block_of_the_name_of_a_made_group_is_refused() {
    let folder = folder();
    let (control, _) = start_with(folder.path(), "");
    make(&control, "teal", &["127.0.0.1:7"]).await.unwrap();
    control.stop();
    let with = config(folder.path(), &http("upstream teal { server 127.0.0.1:9; }"));
    let refused = open(&with, &FakeDataPlane::new()).map(drop).unwrap_err();
    assert!(refused.contains("upstream teal adopt { … }"), "{refused}");
}

#[tokio::test]
async fn two_processes_never_lead_a_key_to_a_group_that_the_other_removes() {
    let folder = folder();
    let ((one, _), (other, data_plane)) = (start_with(folder.path(), ""), start_with(folder.path(), ""));
    for round in 0..10 {
        make(&one, "teal", &["127.0.0.1:7"]).await.unwrap();
        let (leads, goes) = tokio::join!(set(&other, "a.example", "teal"), remove(&one, "teal"));
        match (leads, goes) {
            (Ok(_), Err(refused)) => assert_eq!(refused.code, Code::GroupInUse, "round {round}"),
            (Err(refused), Ok(_)) => assert_eq!(refused.code, Code::UnknownTarget, "round {round}"),
            (leads, goes) => panic!("round {round}: {leads:?}, {goes:?}"),
        }
        // What one process made the other one knows, and the group that is led to is published before the table is.
        if set(&other, "a.example", "teal").await.is_ok() {
            assert!(published(&data_plane, "teal").is_some(), "round {round}");
            set(&one, "a.example", "blue").await.unwrap();
            remove(&one, "teal").await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_another_process_has_done_to_groups_and_switches_is_published_as_one() {
    let folder = folder();
    let ((one, _), (_other, data_plane)) = (start_with(folder.path(), ""), start_with(folder.path(), ""));
    for _ in 0..5 {
        make(&one, "teal", &["127.0.0.1:7"]).await.unwrap();
        set(&one, "a.example", "teal").await.unwrap();
        set(&one, "a.example", "blue").await.unwrap();
        remove(&one, "teal").await.unwrap();
    }
    let last = one.show("live").await.unwrap().revision;
    until("the other process has it all", || {
        data_plane.ask(|workers| workers.published.last().unwrap().tables[0].revision() == last)
    })
    .await;
    data_plane.ask(|workers| {
        // The first groups are those of the start, whose tables are not among those that were published.
        for (tables, groups) in workers.published.iter().zip(&workers.groups[1..]) {
            let leads =
                tables.tables[0].find(b"a.example").is_some_and(|one| one.route.to_string() == "teal");
            assert!(!leads || groups.get(b"teal").is_some(), "a table leads to a group that is not there");
        }
    });
}

/// Makes away with what orders have said of groups, as with a store that is begun anew.
fn lose_groups(folder: &Path) {
    for file in std::fs::read_dir(folder.join("state")).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("groups") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[tokio::test]
async fn groups_that_are_lost_stop_no_start_and_no_reload() {
    for is_window in [false, true] {
        let folder = folder();
        let (control, _) = start_with(folder.path(), "");
        make(&control, "teal", &["127.0.0.1:7"]).await.unwrap();
        set(&control, "a.example", "teal").await.unwrap();
        if is_window {
            // Its end would lead back there.
            let meta = Meta { confirm_within_ms: Some(600_000), ..meta() };
            control.order("live", to(&[("a.example", "blue")], meta), Options::default()).await.unwrap();
        }
        control.stop();
        drop(control);
        lose_groups(folder.path());
        let declared = crate::Declarations::of(&config(folder.path(), &http("")));
        let check = crate::check_stores(&declared);
        assert_eq!(check.faults, [""; 0]);
        assert!(check.notes.iter().any(|note| note.contains("teal")), "{:?}", check.notes);
        let (control, data_plane) = start_with(folder.path(), "");
        reload(&control, folder.path(), &http("")).await.unwrap();
        // A target that is served still cannot be taken away.
        set(&control, "b.example", "green").await.unwrap();
        let without = http("").replace("blue green dynamic", "blue dynamic");
        let refused = reload(&control, folder.path(), &without).await.unwrap_err();
        assert!(refused.contains("b.example (green)"), "{refused}");
        set(&control, "a.example", "green").await.unwrap();
        make(&control, "teal", &["127.0.0.1:8"]).await.unwrap();
        assert_eq!(published(&data_plane, "teal").as_deref(), Some("127.0.0.1:8"));
        control.stop();
    }
}
