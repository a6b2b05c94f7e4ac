//! Every refusal, provoked: its code, its text, and that nothing has changed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::sync::Arc;

use pointsman_switch::{
    Action, BaseGroup, BaseServer, Code, Details, Expected, GroupOrder, GroupUse, GroupVerb, Hold,
    HoldLimits, Key, KeyKind, MemoryStore, Meta, Order, Refusal, Route, Rules, RunTimeRules, ServerOrder,
    ServerParams, ServerVerb, Store, StoreFault, StoreFaultKind, Tables, Undoing, plan,
};

const NOW_MS: u64 = 1_000_000;

fn rules() -> Rules {
    let targets: Vec<Arc<str>> = ["blue", "green"].map(Arc::from).into();
    Rules {
        name: "live".into(),
        default: Arc::clone(&targets[0]),
        targets: targets.into(),
        kind: KeyKind::Host,
        max_keys: 2,
        max_key_len: 20,
        groups: [BaseGroup {
            name: "green".into(),
            servers: vec![BaseServer {
                name: "10.0.0.1:8081".to_owned(),
                addresses: vec!["10.0.0.1:8081".to_owned()],
                params: ServerParams::default(),
                is_discovered: false,
            }],
            allows_backup: false,
            max_weights: None,
            users: vec!["switch \"live\"".to_owned()],
            adopts: false,
        }]
        .into(),
        run_time: Default::default(),
    }
}

fn key(text: &str) -> Key {
    Key::parse(KeyKind::Host, text.as_bytes(), 255).unwrap()
}

fn set(keys: &[(&str, &str)]) -> Action {
    Action::Set(keys.iter().map(|(name, route)| (key(name), route.parse().ok())).collect())
}

fn made(group: &str, like: Option<&str>) -> Action {
    let verb = GroupVerb::Make { like: like.map(str::to_owned), servers: Vec::new() };
    Action::Group(GroupOrder { group: group.to_owned(), verb })
}

fn servers(group: &str, server: &str, verb: ServerVerb) -> Action {
    Action::Servers(vec![ServerOrder { group: group.to_owned(), server: server.to_owned(), verb }])
}

/// A store that orders go to.
struct TestSwitch(MemoryStore);

impl TestSwitch {
    fn order(&mut self, action: Action, meta: Meta) -> Result<u64, Refusal> {
        let meta = if meta.actor.is_empty() { Meta { actor: "anna".to_owned(), ..meta } } else { meta };
        self.raw(&Order { action, meta })
    }

    fn raw(&mut self, order: &Order) -> Result<u64, Refusal> {
        let loaded = self.0.load()?;
        let plan = plan(&loaded.table, &rules(), order, &loaded.pending)?;
        self.0.commit(&plan.commit(loaded.last_hash, NOW_MS, Vec::new()))?;
        Ok(plan.revision)
    }

    fn set(&mut self, keys: &[(&str, &str)]) -> Result<u64, Refusal> {
        self.order(set(keys), Meta::default())
    }

    /// Expects a refusal that has changed nothing.
    fn refused(&mut self, action: Action, meta: Meta) -> Refusal {
        let before = self.0.since(0).unwrap();
        let refusal = self.order(action, meta).expect_err("the order must be refused");
        assert_eq!(self.0.since(0).unwrap(), before);
        refusal
    }

    fn of_commit(&mut self, revision: u64) -> Result<Undoing, Refusal> {
        Undoing::of_commit(&mut self.0, revision)?.ok_or_else(|| Refusal::unknown_revision(revision))
    }
}

fn switch() -> TestSwitch {
    TestSwitch(MemoryStore::new())
}

fn hold() -> Arc<Hold> {
    Hold::new(0, key("a"), HoldLimits { max: 1, timeout_ms: 1, max_bytes: 1 })
}

fn store_refusal(kind: StoreFaultKind) -> Refusal {
    StoreFault { kind, text: "state/live.db".to_owned(), remedy: "repair it".to_owned() }.into()
}

/// Provokes a code. `None` for those that only the control plane can provoke: its tests do.
fn provoke(code: Code) -> Option<Refusal> {
    let mut switch = switch();
    let plain = Meta::default;
    Some(match code {
        Code::UnknownSwitch => Refusal::unknown_switch("love", &["live".into()]),
        Code::UnknownKey => Refusal::unknown_key(&key("a")),
        Code::UnknownRevision => switch.of_commit(1).unwrap_err(),
        Code::UnknownTarget => switch.refused(set(&[("a", "green"), ("b", "green=1 red=0")]), plain()),
        Code::UnknownGroup => switch.refused(servers("gren", "10.0.0.1:8081", ServerVerb::Down), plain()),
        Code::UnknownServer => switch.refused(servers("green", "10.0.0.2:8081", ServerVerb::Drain), plain()),
        Code::BadServer => {
            switch.refused(servers("green", "backend", ServerVerb::Add(ServerParams::default())), plain())
        }
        Code::ServerExists => {
            let add = ServerVerb::Add(ServerParams::default());
            switch.refused(servers("green", "10.0.0.1:8081", add), plain())
        }
        Code::GroupEmptied => switch.refused(servers("green", "10.0.0.1:8081", ServerVerb::Remove), plain()),
        Code::BadGroup => switch.refused(made("Green", None), plain()),
        Code::GroupExists => switch.refused(made("green", None), plain()),
        Code::GroupInUse => {
            switch.order(made("red", Some("green")), plain()).unwrap();
            let by = "key \"shop.example.com\" of switch \"live\"".to_owned();
            let uses = [GroupUse { group: "red".into(), by }].into();
            let run_time = RunTimeRules { uses, ..RunTimeRules::default() };
            let remove = GroupOrder { group: "red".to_owned(), verb: GroupVerb::Remove };
            let meta = Meta { actor: "anna".to_owned(), ..Meta::default() };
            let order = Order { action: Action::Group(remove), meta };
            let loaded = switch.0.load().unwrap();
            plan(&loaded.table, &Rules { run_time, ..rules() }, &order, &[]).unwrap_err()
        }
        Code::BadKey => {
            switch.refused(set(&[("a", "green"), ("this-is-far-too.long.example", "green")]), plain())
        }
        Code::BadRoute => Refusal::bad_route("a=", &"a=".parse::<Route>().unwrap_err()),
        Code::BadOrder => switch.refused(set(&[("a", "green"), ("A:80", "blue")]), plain()),
        Code::TooManyKeys => switch.refused(set(&[("a", "green"), ("b", "green"), ("c", "green")]), plain()),
        Code::RevisionConflict => {
            switch.refused(set(&[("a", "green")]), Meta { expect: Some(7), ..Meta::default() })
        }
        Code::EntryConflict => {
            switch.set(&[("a", "green")]).unwrap();
            let expect_keys = vec![Expected::Route("blue".parse().unwrap())];
            switch.refused(set(&[("a", "green"), ("b", "green")]), Meta { expect_keys, ..Meta::default() })
        }
        Code::IdempotencyReused => {
            let meta =
                Meta { actor: "anna".to_owned(), idempotency: Some("x".to_owned()), ..Meta::default() };
            switch.order(set(&[("a", "green")]), meta.clone()).unwrap();
            let commit = switch.0.commit_by_idempotency("x").unwrap().unwrap();
            assert!(Order { action: set(&[("a", "green")]), meta: meta.clone() }.may_have_made(&commit));
            assert!(!Order { action: set(&[("a", "blue")]), meta }.may_have_made(&commit));
            Refusal::idempotency_reused("x", commit.revision)
        }
        Code::NothingToUndo => {
            let undoing = Undoing::of_keys(&mut switch.0, &[key("a")]).unwrap();
            switch.refused(Action::Undo(undoing), plain())
        }
        Code::ChangedSince => {
            switch.set(&[("a", "green")]).unwrap();
            switch.set(&[("a", "blue")]).unwrap();
            let undoing = switch.of_commit(1).unwrap();
            switch.refused(Action::Undo(undoing), plain())
        }
        Code::NothingToConfirm => {
            switch.set(&[("a", "green")]).unwrap();
            switch.refused(Action::Confirm(1), plain())
        }
        Code::GateFailed => {
            let servers = vec![("127.0.0.1:8083".to_owned(), "connection refused".to_owned())];
            Refusal::gate_failed("green", 0, 1, servers)
        }
        Code::StoreFailed => store_refusal(StoreFaultKind::Unreadable),
        Code::StoreReadOnly => store_refusal(StoreFaultKind::ReadOnly),
        Code::StoreFull => store_refusal(StoreFaultKind::Full),
        Code::StoreOldFormat => store_refusal(StoreFaultKind::Older),
        Code::StoreLocked => store_refusal(StoreFaultKind::Locked),
        Code::StoreDamaged => store_refusal(StoreFaultKind::Newer),
        Code::NotApplied => {
            let fault = StoreFault {
                kind: StoreFaultKind::Full,
                text: "no space is left".to_owned(),
                remedy: "free space".to_owned(),
            };
            Refusal::not_applied(7, &fault)
        }
        Code::HoldExists => Tables::default().with_hold(hold()).unwrap().with_hold(hold()).unwrap_err(),
        Code::NotHeld => Tables::default().with_hold(hold()).unwrap().without_hold(1, &key("a")).unwrap_err(),
        Code::StoreUnreachable
        | Code::StoreForeign
        | Code::NotInFleet
        | Code::FleetTaken
        | Code::NodeNotReady
        | Code::OutcomeUnknown
        | Code::ServerNotAllowed
        | Code::NotDrained
        | Code::Overtaken
        | Code::ConfigRefused
        | Code::IssuerFailed
        | Code::BadRequest
        | Code::Unauthorized
        | Code::Forbidden
        | Code::CrossSite
        | Code::HostNotAllowed
        | Code::NotFound
        | Code::MethodNotAllowed
        | Code::TooLarge
        | Code::BadMediaType
        | Code::TooManyCalls
        | Code::TooManyLogins
        | Code::Busy
        | Code::NoMaster
        | Code::Internal
        | Code::Stopping => return None,
    })
}

#[test]
fn every_code_has_a_case_here_or_is_of_the_control_plane() {
    let mut elsewhere = Vec::new();
    for &code in Code::ALL {
        let Some(refusal) = provoke(code) else {
            elsewhere.push(code.name());
            continue;
        };
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(!refusal.text.is_empty() && !refusal.remedy.is_empty(), "{code}");
        assert!(!refusal.text.ends_with('.') && !refusal.remedy.ends_with('.'), "{refusal}");
        assert!(refusal.to_string().contains(code.name()));
    }
    assert_eq!(
        elsewhere,
        [
            "server_not_allowed",
            "store_unreachable",
            "store_foreign",
            "not_in_fleet",
            "fleet_taken",
            "node_not_ready",
            "outcome_unknown",
            "not_drained",
            "overtaken",
            "config_refused",
            "issuer_failed",
            "bad_request",
            "unauthorized",
            "forbidden",
            "cross_site",
            "host_not_allowed",
            "not_found",
            "method_not_allowed",
            "too_large",
            "bad_media_type",
            "too_many_calls",
            "too_many_logins",
            "busy",
            "no_master",
            "internal",
            "stopping"
        ]
    );
}

/// Returns the row of a code in docs/refusals.md, as far as it is known here, with its text when it is provoked.
fn row(code: Code) -> String {
    let head = format!("| `{code}` | {} | {} |", code.status(), code.meaning());
    match provoke(code) {
        // Each store has texts of its own.
        None => head,
        Some(refusal) if refusal.remedy == "repair it" => head,
        Some(refusal) => format!("{head} {} | {} |", refusal.text, refusal.remedy),
    }
}

#[test]
fn the_page_of_refusals_has_every_text() {
    let page = include_str!("../../../docs/refusals.md");
    let missing: Vec<String> =
        Code::ALL.iter().map(|&code| row(code)).filter(|row| !page.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/refusals.md lacks:\n{}", missing.join("\n"));
}

#[test]
fn names_are_unique_and_statuses_are_errors() {
    for (at, &code) in Code::ALL.iter().enumerate() {
        assert_eq!(Code::from_name(code.name()), Some(code));
        assert!(Code::ALL[..at].iter().all(|other| other.name() != code.name()));
        assert!(code.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        assert!((400..600).contains(&code.status()) && code.meaning().ends_with('.'));
    }
    assert_eq!(Code::from_name("teapot"), None);
}

#[test]
fn every_store_fault_has_its_code() {
    use StoreFaultKind::*;
    for (kind, code) in [
        (Damaged, Code::StoreDamaged),
        (Newer, Code::StoreDamaged),
        (Older, Code::StoreOldFormat),
        (Unreadable, Code::StoreFailed),
        (Failed, Code::StoreFailed),
        (ReadOnly, Code::StoreReadOnly),
        (Full, Code::StoreFull),
        (Locked, Code::StoreLocked),
        (Conflict, Code::RevisionConflict),
    ] {
        let refusal = store_refusal(kind);
        assert_eq!((refusal.code, &*refusal.text, &*refusal.remedy), (code, "state/live.db", "repair it"));
    }
}

#[test]
fn an_order_may_expect_the_state_of_its_keys_alone() {
    let mut switch = switch();
    switch.set(&[("a", "green")]).unwrap();
    switch.set(&[("*.x", "green")]).unwrap();
    let route = |text: &str| Expected::Route(text.parse().unwrap());
    for (name, expected, is_so) in [
        ("a", Expected::Revision(1), true),
        ("a", Expected::Revision(2), false),
        ("a", route("green"), true),
        ("a", Expected::NoEntry, false),
        ("b", Expected::Revision(0), true),
        ("b", route("blue"), true),
        ("b", Expected::NoEntry, true),
        ("c.x", route("blue"), false),
        ("c.x", route("green"), true),
        ("c.x", Expected::Revision(0), true),
    ] {
        let meta = Meta { actor: "anna".to_owned(), expect_keys: vec![expected.clone()], ..Meta::default() };
        let order = Order { action: set(&[(name, "green=1 blue=1")]), meta };
        let loaded = switch.0.load().unwrap();
        let planned = plan(&loaded.table, &Rules { max_keys: 3, ..rules() }, &order, &[]);
        assert_eq!(
            planned.as_ref().err().map(|refusal| refusal.code),
            (!is_so).then_some(Code::EntryConflict),
            "{name} {expected:?}"
        );
    }
    let both = vec![Expected::Revision(1), route("blue")];
    let refusal = switch.refused(set(&[("a", "blue")]), Meta { expect_keys: both, ..Meta::default() });
    assert_eq!(refusal.text, "not as expected: \"a\" (green, revision 1)");
    let confirm = Meta { expect_keys: vec![Expected::NoEntry], ..Meta::default() };
    assert_eq!(switch.refused(Action::Confirm(1), confirm).code, Code::BadOrder);
    let undoing = switch.of_commit(1).unwrap();
    let wrong = Meta { expect_keys: vec![route("blue")], ..Meta::default() };
    assert_eq!(switch.refused(Action::Undo(undoing), wrong).code, Code::EntryConflict);
}

#[test]
fn an_incomplete_order_is_refused() {
    let actor = |text: &str| Meta { actor: text.to_owned(), ..Meta::default() };
    let anna = || actor("anna");
    let long = |n: usize| Some("x".repeat(n));
    for (what, meta) in [
        ("no actor", actor("")),
        ("a blank actor", actor("  ")),
        ("a long actor", actor(&"x".repeat(257))),
        ("an escape sequence", actor("anna\x1b[2J")),
        ("a long reason", Meta { reason: long(4097), ..anna() }),
        ("two lines of reason", Meta { reason: Some("a\nb".to_owned()), ..anna() }),
        ("an empty idempotency key", Meta { idempotency: long(0), ..anna() }),
        ("a long idempotency key", Meta { idempotency: long(257), ..anna() }),
        ("no time to confirm", Meta { confirm_within_ms: Some(0), ..anna() }),
        ("too much time to confirm", Meta { confirm_within_ms: Some(u64::MAX), ..anna() }),
    ] {
        let refusal = switch().raw(&Order { action: set(&[("a", "green")]), meta }).unwrap_err();
        assert_eq!(refusal.code, Code::BadOrder, "{what}");
    }
    let most = Meta { reason: long(4096), idempotency: long(256), ..actor(&"x".repeat(256)) };
    assert_eq!(switch().order(set(&[("a", "green")]), most), Ok(1));
    assert_eq!(switch().refused(Action::Set(Vec::new()), anna()).code, Code::BadOrder);
    let mut switch = switch();
    switch.order(set(&[("a", "green")]), Meta { confirm_within_ms: Some(1000), ..anna() }).unwrap();
    let again = Meta { confirm_within_ms: Some(1000), ..anna() };
    assert_eq!(switch.refused(Action::Confirm(1), again).code, Code::BadOrder);
    let keys = Undoing::of_keys(&mut switch.0, &[key("a")]).unwrap();
    assert_eq!(switch.refused(Action::Revert(keys), anna()).code, Code::BadOrder);
}

#[test]
fn a_full_table_accepts_changes_that_add_no_key() {
    let mut switch = switch();
    switch.set(&[("a", "green"), ("b", "green")]).unwrap();
    assert_eq!(switch.refused(set(&[("c", "green")]), Meta::default()).code, Code::TooManyKeys);
    assert_eq!(switch.set(&[("a", "blue")]), Ok(2));
    assert_eq!(switch.set(&[("a", ""), ("c", "green")]), Ok(3), "one for another");
    let keys = Undoing::of_keys(&mut switch.0, &[key("a")]).unwrap();
    assert_eq!(switch.refused(Action::Undo(keys), Meta::default()).code, Code::TooManyKeys);
}

#[test]
fn a_refusal_has_details_for_programs() {
    let refusal = provoke(Code::RevisionConflict).unwrap();
    assert_eq!(refusal.details, Details::Revisions { expected: 7, actual: 0 });
    let refusal = provoke(Code::UnknownTarget).unwrap();
    assert_eq!(refusal.details, Details::Names(vec!["blue".into(), "green".into()]));
    assert!(refusal.remedy.contains("blue, green"), "{refusal}");
    let refusal = provoke(Code::ChangedSince).unwrap();
    assert_eq!(refusal.details, Details::Keys(vec![(key("a"), "changed by revision 2".to_owned())]));
    let refusal = provoke(Code::GateFailed).unwrap();
    assert!(refusal.text.contains("127.0.0.1:8083: connection refused"), "{refusal}");
}

#[test]
fn keys_without_their_target_are_listed_at_reload() {
    let mut switch = switch();
    switch.set(&[("b", "green"), ("a", "green=1 blue=9")]).unwrap();
    let table = switch.0.load().unwrap().table;
    assert_eq!(rules().admits(&table), Ok(()));
    let fewer = Rules { targets: ["blue".into()].into(), ..rules() };
    let orphans = fewer.admits(&table).unwrap_err();
    let named: Vec<String> =
        orphans.iter().map(|orphan| format!("{} {}", orphan.key, orphan.target)).collect();
    assert_eq!(named, ["a green", "b green"]);
}
