//! Where things are counted, that nothing grows, and what it costs (by hand).

use super::*;
use crate::Failure;
use crate::testing::{Dice, layout, request_end, try_end};

/// Returns everything a recorder hands out, by the names joined with `/`.
fn emptied(recorder: &mut Recorder) -> Vec<(String, Counters, i64)> {
    let mut all = Vec::new();
    recorder.empty(|subject, tally| {
        let name = match subject {
            Subject::Group(group) => group.to_string(),
            Subject::Peer(group, peer) => format!("{group}/{peer}"),
            Subject::Key(KeySubject { switch, key, target, .. }) => {
                format!("${switch}/{}/{target}", key.map_or("-".into(), |key| String::from_utf8_lossy(key)))
            }
        };
        all.push((name, tally.counters.clone(), tally.in_flight));
    });
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn names(recorder: &mut Recorder) -> Vec<String> {
    emptied(recorder).into_iter().map(|(name, ..)| name).collect()
}

#[test]
fn an_index_beyond_the_layout_counts_as_other() {
    let mut recorder = Recorder::new(layout("a: 1 2\nb:\nc: 3", 10));
    for (group, peer, name) in [
        (0, 0, "a/1"),
        (0, 1, "a/2"),
        (0, 2, "a/other"),
        (0, usize::MAX, "a/other"),
        (1, 0, "b/other"),
        (2, 0, "c/3"),
        (2, 1, "c/other"),
        (3, 0, "other/other"),
        (usize::MAX, 7, "other/other"),
    ] {
        recorder.try_began(group, peer);
        assert_eq!(names(&mut recorder), [name]);
        recorder.request_began(group);
        assert_eq!(names(&mut recorder), [name.split('/').next().unwrap_or_default()]);
    }
    assert!(recorder.is_empty());
}

#[test]
fn servers_and_groups_that_come_at_run_time_are_counted_by_name() {
    let texts = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
    let mut recorder = Recorder::new(layout("a: 1 2\nb:", 10));
    recorder.try_began(0, 0);
    assert_eq!(
        *recorder.place_peers(0, &texts(&["2", "3"])),
        [1, 2],
        "what is counted under 1 stays its own"
    );
    recorder.try_began(0, 2);
    assert_eq!(names(&mut recorder), ["a/1", "a/3"]);
    assert_eq!(
        *recorder.place_peers(0, &texts(&["3", "4", "2", "4"])),
        [2, 0, 1, 0],
        "the index of 1 is free"
    );
    assert_eq!(*recorder.place_peers(0, &texts(&["5", "6"])), [2, 1]);
    recorder.try_began(0, 3);
    assert_eq!(names(&mut recorder), ["a/other"]);

    assert_eq!((recorder.add_group(&"b".into()), recorder.add_group(&"c".into())), (1, 2));
    assert_eq!(*recorder.place_peers(2, &texts(&["x"])), [0]);
    assert!(recorder.place_peers(7, &texts(&["x"])).is_empty(), "no such group");
    recorder.try_began(2, 0);
    recorder.request_began(2);
    recorder.try_began(Layout::OTHER_GROUP, 0);
    let end = RequestEnd { status: 200, ..RequestEnd::default() };
    recorder.key_ended(0, &RoutedRequest::new(b"k", "c"), &end);
    assert_eq!(names(&mut recorder), ["$live/k/c", "c", "c/x", "other/other"]);
}

#[test]
fn a_group_whose_servers_always_change_takes_no_more_room() {
    let mut recorder = Recorder::new(layout("a: 1 2", 10));
    let mut bytes = 0;
    for round in 0..1_000 {
        let names: Vec<Arc<str>> = (round..round + 3).map(|number| number.to_string().into()).collect();
        let places = recorder.place_peers(0, &names);
        places.iter().for_each(|place| recorder.try_began(0, *place as usize));
        recorder.empty(|_, _| ());
        if round == 10 {
            bytes = recorder.bytes();
        }
    }
    assert_eq!(recorder.bytes(), bytes);
}

#[test]
fn a_try_is_counted_once_with_all_its_numbers() {
    let mut recorder = Recorder::new(layout("a: 1", 10));
    let end = TryEnd {
        status: 502,
        failure: Some(Failure::InvalidHeader),
        connect_us: Some(40),
        first_byte_us: None,
        response_us: Some(900),
        sent: 10,
        received: 20,
    };
    recorder.try_began(0, 0);
    recorder.try_began(0, 0);
    recorder.try_ended(0, 0, &end);
    let all = emptied(&mut recorder);
    let (name, counters, in_flight) = &all[0];
    assert_eq!((&**name, *in_flight), ("a/1", 1));
    assert_eq!((counters.ended, counters.errors), (1, 1), "an error once, though it failed and has a 5xx");
    assert_eq!(counters.statuses, [0, 0, 0, 0, 1, 0]);
    assert_eq!(counters.failures, [0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!((counters.sent, counters.received), (10, 20));
    assert_eq!((counters.connect.count(), counters.first_byte.count()), (1, 0));
    assert_eq!((counters.response.sum_us(), counters.response.max_us()), (900, 900));
    recorder.try_ended(0, 0, &TryEnd { failure: Some(Failure::ClientGone), ..TryEnd::default() });
    recorder.try_ended(0, 0, &TryEnd { failure: Some(Failure::Cut), ..TryEnd::default() });
    let all = emptied(&mut recorder);
    assert_eq!((all[0].1.errors, all[0].1.statuses[5], all[0].2), (0, 2, -2));
    assert_eq!(emptied(&mut recorder), []);
}

#[test]
fn failures_are_in_the_order_of_their_names() {
    for (index, failure) in Failure::ALL.into_iter().enumerate() {
        assert_eq!(failure as usize, index);
    }
}

#[test]
fn keys_beyond_the_bound_share_a_tally_until_others_are_idle() {
    // There is room for twice as many.
    let mut recorder = Recorder::new(layout("blue:\ngreen:", 1));
    let end = RequestEnd { status: 200, ..RequestEnd::default() };
    for key in ["x", "y", "z", "w", "x"] {
        recorder.key_ended(0, &RoutedRequest::new(key.as_bytes(), "blue"), &end);
    }
    recorder.key_ended(1, &RoutedRequest::new(b"z", "green"), &end);
    recorder.key_ended(1, &RoutedRequest::new(b"x", "no such group"), &end);
    recorder.key_ended(2, &RoutedRequest::new(b"x", "blue"), &end);
    let all = emptied(&mut recorder);
    let counted: Vec<_> = all.iter().map(|(name, counters, _)| (&**name, counters.ended)).collect();
    assert_eq!(
        counted,
        [
            ("$canary/-/green", 1),
            ("$canary/-/other", 1),
            ("$live/-/blue", 2),
            ("$live/x/blue", 2),
            ("$live/y/blue", 1)
        ]
    );
    for _ in 0..IDLE_EMPTYINGS {
        recorder.key_ended(0, &RoutedRequest::new(b"x", "blue"), &end);
        emptied(&mut recorder);
    }
    recorder.key_ended(0, &RoutedRequest::new(b"z", "blue"), &end);
    assert_eq!(names(&mut recorder), ["$live/z/blue"], "y was long idle");
}

#[test]
fn idle_groups_cost_little_memory_and_known_ones_no_allocation() {
    let text: String = (0..1_000).map(|n| format!("group{n}: a{n} b{n}\n")).collect();
    let mut recorder = Recorder::new(layout(&text, 1_000));
    assert!(recorder.bytes() < 100_000, "{}", recorder.bytes());
    let mut dice = Dice::new(1);
    let mut sizes = Vec::new();
    for _ in 0..200 {
        for _ in 0..100 {
            let (group, peer) = (dice.below(10) as usize, dice.below(2) as usize);
            // The same times in each round, so that the first one has seen all octaves.
            recorder.request_began(group);
            recorder.try_began(group, peer);
            let times = (0..32).map(|bit| 1 << bit);
            for us in times.clone() {
                let response_us = Some(us);
                recorder.try_ended(group, peer, &TryEnd { response_us, ..TryEnd::default() });
                recorder.request_ended(group, &RequestEnd { response_us, ..RequestEnd::default() });
                recorder.key_ended(
                    0,
                    &RoutedRequest::new(&[b'k', group as u8], "group1"),
                    &RequestEnd { response_us, ..RequestEnd::default() },
                );
            }
        }
        recorder.empty(|_, _| ());
        sizes.push((recorder.bytes(), recorder.touched.capacity(), recorder.keys.tallies.capacity()));
    }
    assert_eq!(sizes[10], *sizes.last().expect("some"), "nothing grows once everything was seen");
}

#[test]
fn every_random_end_is_handed_out() {
    let mut dice = Dice::new(99);
    let mut recorder = Recorder::new(layout("a: 1 2\nb: 3", 3));
    let (mut tries, mut requests, mut keys) = (Counters::default(), Counters::default(), Counters::default());
    let mut sums = [const { None::<Counters> }; 3];
    for _ in 0..5_000 {
        match dice.below(4) {
            0 => {
                let end = try_end(&mut dice);
                recorder.try_ended(dice.below(4) as usize, dice.below(3) as usize, &end);
                tries.try_ended(&end);
            }
            1 => {
                let end = request_end(&mut dice);
                recorder.request_ended(dice.below(4) as usize, &end);
                requests.request_ended(&end);
            }
            2 => {
                let end = request_end(&mut dice);
                let target = ["a", "b", "c"][dice.below(3) as usize];
                recorder.key_ended(
                    dice.below(2) as usize,
                    &RoutedRequest::new(&[b'a' + dice.below(6) as u8], target),
                    &end,
                );
                keys.request_ended(&end);
            }
            _ if dice.below(20) == 0 => recorder.empty(|subject, tally| sum(&mut sums, subject, tally)),
            _ => {}
        }
    }
    recorder.empty(|subject, tally| sum(&mut sums, subject, tally));
    assert_eq!(sums.map(Option::unwrap_or_default), [tries, requests, keys]);
}

fn sum(sums: &mut [Option<Counters>; 3], subject: Subject<'_>, tally: &Tally) {
    let kind = match subject {
        Subject::Peer(..) => 0,
        Subject::Group(_) => 1,
        Subject::Key(..) => 2,
    };
    sums[kind].get_or_insert_default().merge(&tally.counters);
}

/// `cargo test --release -p pointsman-statistics cost_of_a_request -- --ignored --nocapture`
#[test]
#[ignore = "prints a measurement; run by hand in a release build"]
fn cost_of_a_request() {
    let mut recorder = Recorder::new(layout("a: 1 2\nb: 3 4", 1_000));
    let keys: Vec<Vec<u8>> = (0..64).map(|n| format!("shop{n}.example.com").into_bytes()).collect();
    let mut dice = Dice::new(4);
    let times: Vec<u64> = (0..4_096).map(|_| 300 + dice.below(3_000)).collect();
    let rounds = 5_000_000_usize;
    for with_key in [false, true] {
        let started = std::time::Instant::now();
        for round in 0..rounds {
            let us = times[round % times.len()];
            let (group, peer) = (round % 2, round / 2 % 2);
            recorder.request_began(group);
            recorder.try_began(group, peer);
            let end = TryEnd {
                status: 200,
                failure: None,
                connect_us: None,
                first_byte_us: Some(us - 100),
                response_us: Some(us),
                sent: 200,
                received: 1_000,
            };
            recorder.try_ended(group, peer, std::hint::black_box(&end));
            let end = RequestEnd { status: 200, response_us: Some(us), received: 1_000, sent: 200 };
            recorder.request_ended(group, std::hint::black_box(&end));
            if with_key {
                recorder.key_ended(0, &RoutedRequest::new(&keys[round % keys.len()], "a"), &end);
            }
            if round % 50_000 == 0 {
                recorder.empty(|_, tally| _ = std::hint::black_box(tally.counters.ended));
            }
        }
        let each = started.elapsed().as_nanos() as f64 / rounds as f64;
        println!("a request with one try{}: {each:.1} ns", if with_key { " and a switch key" } else { "" });
    }
}
