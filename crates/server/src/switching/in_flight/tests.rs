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

/// The change of one key, brought by the tables of this number.
fn change(id: u64, before: &Table, name: &str, route: Option<&str>, number: u64) -> Change {
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
    Change { watch: Arc::new(watch), switch: SWITCH, number, default: "blue".into() }
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
        self.in_flight.enter(following, key.as_bytes(), target, client, &self.connection)
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
    let new = fixture.enter(2, "a.example", "green");
    let report = fixture.report(1);
    assert_eq!((report.in_flight, report.streams), (3, 0));
    assert!(report.first_new.is_some() && report.last_old.is_none());
    fixture.in_flight.leave(one, Ended::Well);
    fixture.in_flight.leave(two, Ended::Failed);
    fixture.in_flight.leave(late, Ended::Well);
    fixture.in_flight.leave(new, Ended::Failed);
    fixture.in_flight.leave(other_key, Ended::Failed);
    let report = fixture.report(1);
    assert_eq!((report.in_flight, report.served_new, report.failed_new, report.failed_old), (0, 1, 1, 1));
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
    fixture.in_flight.enter(following, b"a.example", "blue", client, &fixture.connection);
    assert_eq!(fixture.in_flight.watch(change(1, &table(&[]), "a.example", Some("green"), 2)), 0);
    let following = Following { number: 2, ..following };
    fixture.in_flight.enter(following, b"a.example", "blue", client, &fixture.connection);
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
    fixture.in_flight.leave(stream, Ended::Well);
    assert!(fixture.in_flight.cut(stream, 500, &|_| None), "who has left needs no cutting");
    // Its position belongs to another request by now.
    fixture.connection = Rc::default();
    fixture.connection.stream_from(0);
    let next = fixture.enter(2, "a.example", "green");
    assert_eq!(next.index, stream.index);
    assert!(fixture.in_flight.cut(stream, 500, &|_| None) && !fixture.connection.is_cut());
}

#[test]
fn the_oldest_of_too_many_watches_is_forgotten_with_its_marks() {
    let mut fixture = Fixture::new();
    let place = fixture.enter(1, "a.example", "blue");
    let before = table(&[]);
    for id in 0..MAX_WATCHES as u64 + 1 {
        assert_eq!(fixture.in_flight.watch(change(id, &before, "a.example", Some("green"), 2 + id)), 1);
    }
    assert!(fixture.in_flight.report(0, 0, &|_| None).is_none());
    assert_eq!(fixture.report(MAX_WATCHES as u64).in_flight, 1);
    // The slot of the first one serves a watch that this request is not on the old side of.
    fixture.in_flight.watch(change(99, &before, "b.example", Some("green"), 1000));
    assert_eq!(fixture.report(99).in_flight, 0);
    fixture.in_flight.leave(place, Ended::Well);
    assert_eq!(fixture.report(99).last_old, None);
    assert_eq!(fixture.report(MAX_WATCHES as u64).in_flight, 0);
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
    let mut current = table(&[]);
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
                fixture.in_flight.leave(place, Ended::Well);
            }
            _ if step % 50 == 0 => {
                number += 1;
                let (key, target) = (random(3), random(2));
                let change = change(number, &current, keys[key], Some(targets[target]), number);
                current = (*change.watch.after).clone();
                let on_old = |(_, pinned, at, to): &&(InFlightId, u64, usize, usize)| {
                    *pinned < number && *at == key && *to != target
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
