//! New configurations, and those that cannot be started with.

use super::*;
use crate::StoredReload;

#[tokio::test]
async fn a_reload_that_would_orphan_keys_names_them() {
    let folder = folder();
    let (control, _) = start(folder.path(), "");
    set(&control, "a.example", "green").await.unwrap();
    set(&control, "b.example", "blue=1 green=0").await.unwrap();
    let without = "upstream blue { server 127.0.0.1:1; } switch $host $live { default blue; }";
    let prepare_reload = |http: &str| {
        let (control, config) = (control.clone(), config(folder.path(), http));
        tokio::task::spawn_blocking(move || {
            control.prepare_reload(&config).and_then(|prepared| prepared.store()).map(StoredReload::commit)
        })
    };
    let refused = prepare_reload(without).await.unwrap().unwrap_err();
    assert!(refused.contains("a.example (green), b.example (green)"), "{refused}");
    // So does a start.
    control.stop();
    let refused = open(&config(folder.path(), without), &FakeDataPlane::new()).map(drop).unwrap_err();
    assert!(refused.contains("a.example (green)"), "{refused}");
}

#[tokio::test]
async fn a_reload_takes_tables_along_and_opens_what_is_new() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    set(&control, "a.example", "green").await.unwrap();
    let groups = "upstream blue { server 127.0.0.1:1; } upstream green { server 127.0.0.1:2; }";
    let http = format!(
        "{groups} switch $arg_user $users {{ default blue; }} switch $host $shop {{ default green; state state/live.db; }}"
    );
    let next = config(folder.path(), &http);
    let prepared = {
        let (control, next) = (control.clone(), next.clone());
        tokio::task::spawn_blocking(move || control.prepare_reload(&next)).await.unwrap().unwrap()
    };
    let tables = prepared.routing().tables.clone();
    assert_eq!(tables.tables[0].len(), 0);
    assert_eq!(tables.tables[1].find(b"a.example").unwrap().route.to_string(), "green");
    // Nothing is committed meanwhile.
    let waiting = {
        let control = control.clone();
        tokio::spawn(async move { set(&control, "c.example", "green").await })
    };
    control.list().await.unwrap();
    assert_eq!(data_plane.ask(|workers| workers.published.len()), 1);
    drop(prepared);
    assert_eq!(waiting.await.unwrap().unwrap().revision, 2);

    let prepared = {
        let (control, next) = (control.clone(), next.clone());
        tokio::task::spawn_blocking(move || control.prepare_reload(&next)).await.unwrap().unwrap()
    };
    tokio::task::spawn_blocking(|| prepared.store().unwrap().commit()).await.unwrap();
    let names: Vec<String> = control.list().await.unwrap().into_iter().map(|state| state.name).collect();
    assert_eq!(names, ["users", "shop"]);
    assert_eq!(set(&control, "a.example", "blue").await.unwrap_err().code, Code::UnknownSwitch);
    let order = to(&[("a.example", "blue")], meta());
    assert_eq!(
        control.order("shop", order, Options::default()).await.unwrap().revision,
        4,
        "3 is the default"
    );
    let last = data_plane.ask(|workers| workers.published.last().unwrap().clone());
    assert_eq!((last.tables.len(), last.tables[1].revision()), (2, 4));
    assert!(last.number > tables.number);
    control.stop();
}

#[tokio::test]
async fn a_refused_reload_says_why() {
    let folder = folder();
    let (control, _) = start(folder.path(), "");
    let prepare_reload = |http: &str| {
        let (control, config) = (control.clone(), config(folder.path(), http));
        tokio::task::spawn_blocking(move || {
            control.prepare_reload(&config).and_then(|prepared| prepared.store()).map(StoredReload::commit)
        })
    };
    // Other keys are fine as long as there is none.
    let texts = two_groups("").replace("$host", "$arg_user");
    prepare_reload(&texts).await.unwrap().unwrap();
    prepare_reload(&two_groups("")).await.unwrap().unwrap();
    let within = Meta { confirm_within_ms: Some(60_000), ..meta() };
    set(&control, "a.example", "green").await.unwrap();
    control.order("live", to(&[("a.example", "blue")], within), Options::default()).await.unwrap();
    let refused = prepare_reload(&texts).await.unwrap().unwrap_err();
    assert!(refused.contains("its store holds hosts, but its KEY now gives texts"), "{refused}");
    // No key leads to green any more, but a commit that awaits its confirmation would go back there.
    let without = "upstream blue { server 127.0.0.1:1; } switch $host $live { default blue; }";
    let refused = prepare_reload(without).await.unwrap().unwrap_err();
    assert!(refused.contains("revision 2 awaits confirmation"), "{refused}");
    control.confirm("live", None, meta()).await.unwrap();
    prepare_reload(without).await.unwrap().unwrap();
    // A store that cannot be opened.
    std::fs::write(folder.path().join("state/other.db"), "what is this").unwrap();
    let other = format!("{without} switch $arg_u $other {{ default blue; }}");
    let refused = prepare_reload(&other).await.unwrap().unwrap_err();
    assert!(refused.contains("switch \"other\": the store") && refused.contains("start over"), "{refused}");
    // And a held key whose switch would move.
    let hold = HoldOrder {
        key: key("h.example"),
        options: HoldOptions::default(),
        end: None,
        actor: "t".into(),
        reason: None,
    };
    control.hold("live", hold).await.unwrap();
    let moved = without.replace("switch $host", "switch $arg_u $u { default blue; } switch $host");
    let refused = prepare_reload(&moved).await.unwrap().unwrap_err();
    assert!(refused.contains("key \"h.example\" is held"), "{refused}");
    control.stop();
}

#[tokio::test]
async fn a_start_fails_for_faults_of_the_configuration_alone() {
    let folder = folder();
    let file = folder.path().join("state/live.db");
    let (control, _) = start(folder.path(), "");
    set(&control, "a.example", "green").await.unwrap();
    control.stop();
    let whole = std::fs::read(&file).unwrap();
    let zeroed = || std::fs::write(&file, vec![0; whole.len()]).unwrap();

    // A damaged store: traffic goes on as it was, from the second file.
    zeroed();
    let (control, tables) = open(&config(folder.path(), &two_groups("")), &FakeDataPlane::new()).unwrap();
    assert!(tables.tables[0].is_trusted());
    let route = |tables: &Tables| tables.tables[0].find(b"a.example").map(|entry| entry.route.to_string());
    assert_eq!(route(&tables).as_deref(), Some("green"));
    let refusal = set(&control, "a.example", "blue").await.unwrap_err();
    assert_eq!(refusal.code, Code::StoreDamaged);
    assert!(refusal.text.contains("traffic follows revision 1 of the second file"), "{refusal}");
    assert!(control.show("live").await.unwrap().store_fault.is_some());
    assert_eq!(control.show("live").await.unwrap().revision, 1);
    // Once it is sound, a reload takes it up.
    std::fs::write(&file, &whole).unwrap();
    let reload = || {
        let (control, config) = (control.clone(), config(folder.path(), &two_groups("")));
        tokio::task::spawn_blocking(move || {
            control.prepare_reload(&config).and_then(|prepared| prepared.store()).map(StoredReload::commit)
        })
    };
    reload().await.unwrap().unwrap();
    assert!(control.show("live").await.unwrap().store_fault.is_none());
    assert_eq!(set(&control, "a.example", "blue").await.unwrap().revision, 2);
    control.stop();

    // Both are: the table says that there is none to be trusted.
    zeroed();
    std::fs::write(file.with_file_name("live.db-anchor"), "gone").unwrap();
    let (control, tables) = open(&config(folder.path(), &two_groups("")), &FakeDataPlane::new()).unwrap();
    assert!(!tables.tables[0].is_trusted());
    let refusal = set(&control, "a.example", "blue").await.unwrap_err();
    assert_eq!(refusal.code, Code::StoreDamaged);
    assert!(refusal.text.contains("no table can be trusted"), "{refusal}");
    control.stop();

    let refused = open(&config(folder.path(), &two_groups("state no/such/live.db;")), &FakeDataPlane::new());
    assert!(refused.map(drop).unwrap_err().contains("create the folder"));
}
