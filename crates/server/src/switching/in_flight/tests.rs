//! `InFlight` compared with its promises, and with a plain list.

use super::*;
use switch::{Change as KeyChange, Commit, CommitKind, Hash, Key, KeyKind};

const SWITCH: u32 = 7;

fn key(text: &str) -> Key {
    Key::parse(KeyKind::Host, text.as_bytes(), 255).unwrap()
}

fn table(entries: &[(&str, &str)]) -> Table {
    Table::from_entries(1, entries.iter().map(|(name, route)| (key(name), route.parse().unwrap(), 1)))
}

/// Returns the change of one key, brought by the tables of this number.
fn change(id: u64, before: &Table, name: &str, route: Option<&str>, number: u64) -> TrackedChange {
    let commit = Commit {
        revision: before.revision() + 1,
        time_ms: 0,
        kind: CommitKind::Set,
        actor: String::new(),
        reason: None,
        idempotency: None,
        forced: false,
        confirm_by_ms: None,
        changes: vec![KeyChange {
            key: key(name),
            before: None,
            after: route.map(|route| route.parse().unwrap()),
            undoes: None,
        }],
        subjects: Vec::new(),
        extra: Default::default(),
        gate: Vec::new(),
        previous: Hash::ZERO,
        hash: Hash::ZERO,
    };
    let watch = Watch {
        id,
        switch: 0,
        before: Arc::new(before.clone()),
        after: Arc::new(before.apply(&commit)),
        changes: vec![key(name)],
    };
    TrackedChange { watch: Arc::new(watch), switch: SWITCH, number, default: "blue".into() }
}

fn routed<'a>(key: &'a str, target: &'a str) -> Routed<'a> {
    Routed {
        following: Following { switch: SWITCH, number: 0 },
        route_revision: 0,
        key: key.as_bytes(),
        target,
        client: RoutedClient { point: ClientPoint::Address, remote: None },
        method: b"GET",
        path: b"/",
        began_ms: 0,
    }
}

fn ended(failed: bool) -> Option<Ended> {
    Some(Ended { failed, ..Ended::default() })
}

struct Fixture {
    in_flight: InFlight,
    connection: Rc<ConnState>,
    remote: Option<SocketAddr>,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { in_flight: InFlight::default(), connection: Rc::default(), remote: None }
    }

    fn enter(&mut self, number: u64, key: &str, target: &str) -> InFlightId {
        self.enter_as(ClientPoint::Address, number, key, target)
    }

    fn enter_as(&mut self, point: ClientPoint, number: u64, key: &str, target: &str) -> InFlightId {
        let following = Following { switch: SWITCH, number };
        let client = RoutedClient { point, remote: self.remote };
        self.in_flight.enter(&Routed { following, client, ..routed(key, target) }, &self.connection)
    }

    /// Returns a request that the commit of this revision has routed.
    fn enter_new(&mut self, number: u64, key: &str, target: &str, route_revision: u64) -> InFlightId {
        let following = Following { switch: SWITCH, number };
        self.in_flight.enter(&Routed { following, route_revision, ..routed(key, target) }, &self.connection)
    }

    fn report(&self, watch: u64) -> WatchReport {
        self.in_flight.report(watch, 0, &|_| None).unwrap()
    }
}

#[test]
fn the_old_side_is_counted_at_the_switch_and_counts_down() {
    let mut fixture = Fixture::new();
    let one = fixture.enter(1, "a.example", "blue");
    let two = fixture.enter(1, "a.example", "blue");
    let other_key = fixture.enter(1, "b.example", "blue");
    assert_eq!(fixture.in_flight.watch(change(1, &table(&[]), "a.example", Some("green"), 2)), 2);
    // It had asked in the tables before, and is entered only now.
    let late = fixture.enter(1, "a.example", "blue");
    let new = fixture.enter_new(2, "a.example", "green", 2);
    let report = fixture.report(1);
    assert_eq!((report.in_flight, report.streams), (3, 0));
    assert!(report.first_new.is_some() && report.last_old.is_none());
    fixture.in_flight.leave(one, ended(false));
    fixture.in_flight.leave(two, ended(true));
    fixture.in_flight.leave(late, ended(false));
    fixture.in_flight.leave(new, ended(true));
    fixture.in_flight.leave(other_key, ended(true));
    let report = fixture.report(1);
    assert_eq!((report.in_flight, report.old.requests, report.old.failed), (0, 3, 1));
    assert!(report.last_old.is_some());
    assert!(fixture.in_flight.is_empty());
    fixture.in_flight.forget(1);
    assert!(fixture.in_flight.report(1, 0, &|_| None).is_none());
}

#[test]
fn promise_1_a_split_counts_as_old_what_it_has_moved() {
    let mut fixture = Fixture::new();
    for point in 0..1000 {
        fixture.enter_as(
            ClientPoint::Known(switch::point_of(&[point as u8, (point >> 8) as u8])),
            1,
            "a.example",
            "blue",
        );
    }
    // A tester chose the target, and would get it again.
    fixture.enter_as(ClientPoint::Open, 1, "a.example", "blue");
    let before = table(&[]);
    let mut old = |route: &str| {
        let change = change(1, &before, "a.example", Some(route), 2);
        let affected = fixture.in_flight.affected(&change, 0).0;
        assert_eq!(fixture.in_flight.watch(change), affected as usize);
        fixture.in_flight.forget(1);
        affected
    };
    // Exactly those whose share is another now.
    let route: Route = "green=99 blue=1".parse().unwrap();
    let moved = (0..1000_u32)
        .filter(|point| **route.pick(switch::point_of(&[*point as u8, (point >> 8) as u8])) == *"green");
    assert_eq!(old("green=99 blue=1"), moved.count() as u64);
    assert!((970..1000).contains(&old("green=99 blue=1")));
    assert!((1..=30).contains(&old("green=1 blue=99")));
    assert_eq!(old("green=100 blue=0"), 1001);
}

#[test]
fn promise_1_a_client_without_sticky_text_moves_by_its_address() {
    let mut fixture = Fixture::new();
    let route: Route = "green=50 blue=50".parse().unwrap();
    let mut moved = 0;
    for last in 0..100 {
        fixture.remote = Some(SocketAddr::from(([127, 0, 0, last], 4000)));
        fixture.enter(1, "a.example", "blue");
        moved +=
            usize::from(**route.pick(switch::point_of(format!("127.0.0.{last}").as_bytes())) == *"green");
    }
    assert!((30..70).contains(&moved), "{moved}");
    let change = change(1, &table(&[]), "a.example", Some("green=50 blue=50"), 2);
    assert_eq!(fixture.in_flight.watch(change), moved);
}

#[test]
fn a_request_whose_target_still_gets_its_key_is_not_old() {
    let mut fixture = Fixture::new();
    fixture.enter(1, "a.example", "blue");
    fixture.enter(1, "b.example", "green");
    let before = table(&[("b.example", "green")]);
    assert_eq!(fixture.in_flight.watch(change(1, &before, "a.example", Some("green=0 blue=90"), 2)), 0);
    assert_eq!(fixture.in_flight.watch(change(2, &before, "a.example", Some("green=10 blue=0"), 2)), 1);
    // Back to the default.
    assert_eq!(fixture.in_flight.watch(change(3, &before, "b.example", None, 2)), 1);
    // A wildcard beside an exact entry says nothing about its key.
    assert_eq!(fixture.in_flight.watch(change(4, &before, "*.example", Some("green"), 2)), 1);
}

#[test]
fn changes_of_other_switches_do_not_count() {
    let mut fixture = Fixture::new();
    let following = Following { switch: SWITCH + 1, number: 1 };
    let client = RoutedClient { point: ClientPoint::Open, remote: None };
    let routed = Routed { following, client, route_revision: 2, ..routed("a.example", "blue") };
    fixture.in_flight.enter(&routed, &fixture.connection);
    assert_eq!(fixture.in_flight.watch(change(1, &table(&[]), "a.example", Some("green"), 2)), 0);
    let following = Following { number: 2, ..following };
    fixture.in_flight.enter(&Routed { following, ..routed }, &fixture.connection);
    assert!(fixture.report(1).first_new.is_none());
}

#[test]
fn streams_are_counted_apart_and_cut() {
    let mut fixture = Fixture::new();
    let request = fixture.enter(1, "a.example", "blue");
    fixture.connection = Rc::default();
    let stream = fixture.enter(1, "a.example", "blue");
    fixture.connection.stream_from(500);
    fixture.in_flight.watch(change(1, &table(&[]), "a.example", Some("green"), 2));
    let counts = |fixture: &Fixture, now_ms| {
        let report = fixture.in_flight.report(1, now_ms, &|_| None).unwrap();
        (report.in_flight, report.streams)
    };
    assert_eq!((counts(&fixture, 499), counts(&fixture, 500)), ((2, 0), (1, 1)));
    assert_eq!(fixture.in_flight.old_side(1, 500), (vec![stream], vec![request]));
    assert!(
        !fixture.in_flight.cut(request, 500, &|_| None),
        "a request that is no stream is left alone for now"
    );
    assert!(!fixture.in_flight.cut(stream, 499, &|_| None) && !fixture.connection.is_cut());
    assert!(fixture.in_flight.cut(stream, 500, &|_| None) && fixture.connection.is_cut());
    fixture.in_flight.leave(stream, ended(false));
    assert!(fixture.in_flight.cut(stream, 500, &|_| None), "who has left needs no cutting");
    // Its position belongs to another request by now.
    fixture.connection = Rc::default();
    fixture.connection.stream_from(0);
    let next = fixture.enter(2, "a.example", "green");
    assert_eq!(next.index, stream.index);
    assert!(fixture.in_flight.cut(stream, 500, &|_| None) && !fixture.connection.is_cut());
}

#[test]
fn promise_8_a_request_is_compared_only_with_the_changes_that_leave_it_behind() {
    let mut fixture = Fixture::new();
    let (old, stranger) = (fixture.enter(1, "a.example", "blue"), fixture.enter(1, "b.example", "blue"));
    let before = table(&[]);
    for id in 0..500 {
        let name = if id % 2 == 0 { "a.example" } else { "c.example" };
        let left = fixture.in_flight.watch(change(id, &before, name, Some("green"), 2 + id));
        assert_eq!(left, usize::from(id % 2 == 0));
    }
    assert!(fixture.in_flight.unseen.len() <= MAX_UNSEEN);
    let new = fixture.enter(502, "a.example", "green");
    let marks = |fixture: &Fixture, id: InFlightId| fixture.in_flight.entries[id.index as usize].old.len();
    assert_eq!((marks(&fixture, old), marks(&fixture, stranger), marks(&fixture, new)), (250, 0, 0));
    // The marks of forgotten changes go with the next one.
    (0..498).for_each(|id| fixture.in_flight.forget(id));
    fixture.in_flight.watch(change(500, &before, "a.example", Some("green"), 1000));
    assert_eq!((marks(&fixture, old), marks(&fixture, new)), (2, 0), "it is on the new side");
    fixture.in_flight.leave(old, ended(true));
    assert_eq!((fixture.report(498).in_flight, fixture.report(498).old.failed), (0, 1));
    assert_eq!((fixture.report(499).in_flight, fixture.report(499).last_old), (0, None));
}

#[test]
fn promise_20_the_oldest_request_of_the_old_side_is_named() {
    let mut fixture = Fixture::new();
    let long = format!("/{}", "x".repeat(100));
    for (began_ms, method, path) in
        [(2_000, "GET", "/export?secret=1"), (3_000, "POST", &*long), (1_000, "GET", "/other\x1b[2J")]
    {
        let following = Following { switch: SWITCH, number: 1 };
        let key = if began_ms == 1_000 { "b.example" } else { "a.example" };
        let (method, path) = (method.as_bytes(), path.as_bytes());
        let routed = Routed { following, method, path, began_ms, ..routed(key, "blue") };
        fixture.in_flight.enter(&routed, &fixture.connection);
    }
    let before = table(&[]);
    fixture.in_flight.watch(change(1, &before, "a.example", Some("green"), 2));
    fixture.in_flight.watch(change(2, &before, "b.example", Some("green"), 3));
    let oldest = |id| fixture.in_flight.report(id, 43_000, &|_| None).unwrap().oldest.unwrap();
    assert_eq!(oldest(1), OldRequest { request: "GET /export".into(), age_ms: 41_000 });
    assert!(!oldest(2).request.contains('\x1b'), "{}", oldest(2).request);
    assert_eq!(
        fixture.in_flight.entries[1].described(3_000).request,
        format!("POST {}...", &long[..NAMED.1])
    );
}

#[test]
fn counts_agree_with_a_plain_list() {
    // A small random walk against a model: xorshift, so that a failure can be repeated.
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let keys = ["a.example", "b.example", "c.example"];
    let targets = ["blue", "green"];
    let mut fixture = Fixture::new();
    let mut present: Vec<(InFlightId, u64, usize, usize)> = Vec::new();
    let (mut current, mut routes) = (table(&[]), [None; 3]);
    let mut number = 1;
    for step in 0..5_000 {
        match random(3) {
            0 => {
                let (key, target) = (random(3), random(2));
                let older = number - random(2).min(number as usize - 1) as u64;
                let place = fixture.enter(older, keys[key], targets[target]);
                present.push((place, older, key, target));
            }
            1 if !present.is_empty() => {
                let (place, ..) = present.swap_remove(random(present.len()));
                fixture.in_flight.leave(place, ended(false));
            }
            _ if step % 50 == 0 => {
                number += 1;
                let (key, target) = (random(3), random(2));
                let change = change(number, &current, keys[key], Some(targets[target]), number);
                current = (*change.watch.after).clone();
                // An entry that is set anew as it is moves nothing.
                let moves = routes[key].replace(target) != Some(target);
                let on_old = |(_, pinned, at, to): &&(InFlightId, u64, usize, usize)| {
                    moves && *pinned < number && *at == key && *to != target
                };
                let expected = present.iter().filter(on_old).count();
                assert_eq!(fixture.in_flight.watch(change), expected, "step {step}");
                assert_eq!(fixture.report(number).in_flight, expected as u64, "step {step}");
            }
            _ => {}
        }
    }
}

#[test]
fn promise_7_a_stream_whose_side_is_in_force_again_is_left_alone() {
    let mut fixture = Fixture::new();
    let stream = fixture.enter(1, "a.example", "blue");
    fixture.connection.stream_from(0);
    let before = table(&[]);
    fixture.in_flight.watch(change(1, &before, "a.example", Some("green"), 2));
    let in_force = |entries: &[(&str, &str)]| {
        let table = Arc::new(table(entries));
        move |switch: u32| (switch == SWITCH).then(|| (table.clone(), Arc::from("blue")))
    };
    let (green, back) = (in_force(&[("a.example", "green")]), in_force(&[]));
    assert_eq!(fixture.in_flight.report(1, 1, &green).unwrap().streams, 1);
    assert_eq!(fixture.in_flight.report(1, 1, &back).unwrap().streams, 0, "an undo empties the old side");
    assert!(fixture.in_flight.cut(stream, 1, &back) && !fixture.connection.is_cut());
    // A default that was changed under it counts as well.
    let moved = |switch: u32| (switch == SWITCH).then(|| (Arc::new(table(&[])), Arc::from("green")));
    assert_eq!(fixture.in_flight.report(1, 1, &moved).unwrap().streams, 1);
    assert!(fixture.in_flight.cut(stream, 1, &moved) && fixture.connection.is_cut());
}
