//! Random interleavings of threads, generations and times against a model that keeps every event; reloads; bounds.

mod answers;
mod course;

use std::collections::BTreeMap;

use super::*;
use crate::answers::Answers;
use crate::testing::{Dice, layout, request_end, try_end};
use crate::{RequestEnd, RoutedRequest, TryEnd};

/// One recorder of one thread and generation, and what it holds that the collector has not got.
struct Thread {
    recorder: Recorder,
    held: Vec<Event>,
    /// Requests under way, by group, and tries, by group and peer.
    requests: Vec<usize>,
    tries: Vec<(usize, usize)>,
}

#[derive(Clone)]
enum Event {
    Request(String, RequestEnd),
    Try(String, String, TryEnd),
    Key(String, Vec<u8>, String, RequestEnd),
}

/// Every event, and when it was absorbed.
#[derive(Default)]
struct Model {
    events: Vec<(u64, Event)>,
}

impl Model {
    fn counters(&self, from_ms: u64, of: impl Fn(&Event) -> bool) -> Counters {
        let mut counters = Counters::default();
        for (_, event) in self.events.iter().filter(|(at, event)| *at >= from_ms && of(event)) {
            match event {
                Event::Request(_, end) | Event::Key(_, _, _, end) => counters.request_ended(end),
                Event::Try(_, _, end) => counters.try_ended(end),
            }
        }
        counters
    }
}

const LAYOUTS: [&str; 5] =
    ["blue: a b\ngreen: c d", "green: d c\nblue: b a\nred: e", "red: e f\ngreen: d", "green: c c x", ""];

impl Thread {
    fn new(layout: &Arc<Layout>) -> Thread {
        let recorder = Recorder::new(Arc::clone(layout));
        Thread { recorder, held: Vec::new(), requests: Vec::new(), tries: Vec::new() }
    }

    fn group(&self, group: usize) -> String {
        self.recorder.layout().groups.get(group).map_or(OTHER.into(), |group| group.name.to_string())
    }

    fn peer(&self, group: usize, peer: usize) -> String {
        let group = self.recorder.layout().groups.get(group);
        group.and_then(|group| group.peers.get(peer)).map_or(OTHER.into(), |peer| peer.to_string())
    }

    fn step(&mut self, dice: &mut Dice, begin: bool) {
        let (group, peer) = (dice.below(4) as usize, dice.below(4) as usize);
        match dice.below(5) {
            0 if begin => {
                self.recorder.request_began(group);
                self.requests.push(group);
            }
            1 if begin => {
                self.recorder.try_began(group, peer);
                self.tries.push((group, peer));
            }
            2 if !self.requests.is_empty() => {
                let group = self.requests.swap_remove(dice.below(self.requests.len() as u64) as usize);
                let end = request_end(dice);
                self.recorder.request_ended(group, &end);
                self.held.push(Event::Request(self.group(group), end));
            }
            3 if !self.tries.is_empty() => {
                let (group, peer) = self.tries.swap_remove(dice.below(self.tries.len() as u64) as usize);
                let end = try_end(dice);
                self.recorder.try_ended(group, peer, &end);
                self.held.push(Event::Try(self.group(group), self.peer(group, peer), end));
            }
            _ => {
                let switch = dice.below(2) as usize;
                let (key, end) = (vec![b'k', dice.below(9) as u8], request_end(dice));
                let target = self.group(group);
                // Neither of these makes another series.
                let (revision, is_stream) = (dice.below(3), dice.below(2) == 1);
                let routed = RoutedRequest { revision, is_stream, ..RoutedRequest::new(&key, &target) };
                self.recorder.key_ended(switch, &routed, &end);
                self.held.push(Event::Key(["live", "canary"][switch].into(), key, target, end));
            }
        }
    }
}

struct World {
    dice: Dice,
    now_ms: u64,
    layout: Arc<Layout>,
    threads: Vec<Thread>,
    collector: Collector,
    model: Model,
    max_keys: usize,
}

impl World {
    fn new(seed: u64, max_keys: usize) -> World {
        let layout = layout(LAYOUTS[0], max_keys);
        let now_ms = 12_345_678;
        World {
            dice: Dice::new(seed),
            now_ms,
            threads: (0..3).map(|_| Thread::new(&layout)).collect(),
            collector: Collector::new(Arc::clone(&layout), now_ms),
            layout,
            model: Model::default(),
            max_keys,
        }
    }

    fn absorb(&mut self, thread: usize) {
        let thread = &mut self.threads[thread];
        self.collector.absorb(&mut thread.recorder, self.now_ms);
        self.model.events.extend(thread.held.drain(..).map(|event| (self.now_ms, event)));
        assert!(thread.recorder.is_empty());
    }

    /// Something happens: a step of a thread, time, an absorption, or a reload.
    fn step(&mut self, longest_ms: u64) {
        let thread = self.dice.below(self.threads.len() as u64) as usize;
        match self.dice.below(100) {
            0..80 => {
                let begin = Arc::ptr_eq(self.threads[thread].recorder.layout(), &self.layout);
                self.threads[thread].step(&mut self.dice, begin);
            }
            80..90 => self.absorb(thread),
            90..98 => {
                let most = [10, 1_000, 7_000, longest_ms][self.dice.below(4) as usize];
                self.now_ms += self.dice.below(most);
            }
            98 => self.reload(),
            _ => self.retire(),
        }
    }

    fn reload(&mut self) {
        self.layout = layout(LAYOUTS[self.dice.below(5) as usize], self.max_keys);
        self.collector.arrange(Arc::clone(&self.layout));
        self.threads.extend((0..3).map(|_| Thread::new(&self.layout)));
    }

    /// A generation without requests leaves.
    fn retire(&mut self) {
        for at in (0..self.threads.len()).rev() {
            let thread = &self.threads[at];
            let idle = thread.requests.is_empty() && thread.tries.is_empty();
            if idle && !Arc::ptr_eq(thread.recorder.layout(), &self.layout) {
                self.absorb(at);
                self.threads.swap_remove(at);
            }
        }
    }

    fn in_flight(&self, of: impl Fn(&Thread) -> usize) -> u64 {
        self.threads.iter().map(of).sum::<usize>() as u64
    }
}

#[test]
fn every_sum_and_window_agrees_with_a_model_of_all_events() {
    for seed in 0..40 {
        let mut world = World::new(seed, 1_000);
        for _ in 0..1_500 {
            world.step(60_000);
        }
        (0..world.threads.len()).for_each(|thread| world.absorb(thread));
        let started_ms = 12_345_678;
        for window in Window::ALL {
            let summary = world.collector.summary(window, world.now_ms);
            let slot_ms = window.slot_ms();
            let from_ms = world.now_ms.saturating_sub(window.length_ms()) / slot_ms * slot_ms;
            let span_ms = world.now_ms - from_ms.max(started_ms);
            assert_eq!(summary.span_ms, span_ms);
            assert!(span_ms <= window.length_ms() + slot_ms);
            assert_eq!(summary.all, world.model.counters(0, |event| matches!(event, Event::Request(..))));
            check(&summary, &world, from_ms);
        }
    }
}

/// Compares each line of a summary with the model. Nothing was forgotten: the time is shorter than an hour.
fn check(summary: &Summary, world: &World, from_ms: u64) {
    let model = &world.model;
    for group in &summary.groups {
        let name = &*group.name;
        let requests = |event: &Event| matches!(event, Event::Request(of, _) if of == name);
        assert_eq!(group.totals, model.counters(0, requests));
        assert_eq!(group.window, model.counters(from_ms, requests));
        let tries = |event: &Event| matches!(event, Event::Try(of, ..) if of == name);
        assert_eq!(group.tries_totals, model.counters(0, tries));
        assert_eq!(group.tries_window, model.counters(from_ms, tries));
        let under_way =
            |thread: &Thread| thread.requests.iter().filter(|&&at| thread.group(at) == name).count();
        assert_eq!(group.in_flight, world.in_flight(under_way));
        for peer in &group.peers {
            let tries =
                |event: &Event| matches!(event, Event::Try(of, on, _) if of == name && **on == *peer.name);
            assert_eq!(peer.totals, model.counters(0, tries));
            assert_eq!(peer.window, model.counters(from_ms, tries));
            let under_way = |thread: &Thread| {
                let same = |&&(of, on): &&(usize, usize)| {
                    thread.group(of) == name && thread.peer(of, on) == *peer.name
                };
                thread.tries.iter().filter(same).count()
            };
            assert_eq!(peer.in_flight, world.in_flight(under_way));
        }
    }
    let mut keys = BTreeMap::new();
    for switch in &summary.switches {
        for key in &switch.keys {
            let bytes = key.key.clone().expect("no key is beyond the bound");
            let same = |event: &Event| {
                matches!(event, Event::Key(of, key_of, target, _)
                    if **of == *switch.name && **key_of == *bytes && **target == *key.target)
            };
            assert_eq!(key.totals, model.counters(0, same));
            assert_eq!(key.window, model.counters(from_ms, same));
            assert_eq!(keys.insert((switch.name.clone(), bytes, key.target.clone()), ()), None);
        }
        for target in &switch.targets {
            let same = |event: &Event| matches!(event, Event::Key(of, _, to, _) if **of == *switch.name && **to == *target.target);
            assert_eq!(target.totals, model.counters(0, same));
            assert_eq!(target.window, model.counters(from_ms, same));
        }
    }
    let counted: u64 =
        summary.switches.iter().flat_map(|switch| &switch.keys).map(|key| key.totals.ended).sum();
    assert_eq!(counted, model.counters(0, |event| matches!(event, Event::Key(..))).ended);
}

#[test]
fn sums_keep_the_counts_of_forgotten_things() {
    for seed in 100..130 {
        let mut world = World::new(seed, 5);
        let mut before = Counters::default();
        for step in 0..3_000 {
            world.step(3_000_000);
            if step % 250 == 0 {
                let summary = world.collector.totals(world.now_ms);
                let model = world.model.counters(0, |event| matches!(event, Event::Request(..)));
                assert_eq!(summary.all, model);
                assert!(summary.all.ended >= before.ended);
                before = summary.all.clone();
                let named = summary.switches.iter().flat_map(|s| &s.keys).filter(|key| key.key.is_some());
                assert!(named.count() <= 5);
                for switch in &summary.switches {
                    for target in &switch.targets {
                        let same = |event: &Event| {
                            matches!(event, Event::Key(of, _, to, _)
                                if **of == *switch.name && **to == *target.target)
                        };
                        assert_eq!(target.totals, world.model.counters(0, same));
                    }
                }
                for group in summary.groups.iter().filter(|group| group.configured) {
                    // A group that stayed in the configuration has all its tries, whatever became of its servers.
                    let shown: u64 = group.peers.iter().map(|peer| peer.totals.ended).sum();
                    assert!(group.tries_totals.ended >= shown);
                }
            }
        }
    }
}

#[test]
fn a_removed_group_is_shown_until_its_last_window_has_passed() {
    let mut collector = Collector::new(layout("old: a\nnew: b", 10), 0);
    let mut recorder = Recorder::new(layout("old: a\nnew: b", 10));
    recorder.request_began(0);
    recorder.request_began(0);
    recorder.try_began(0, 0);
    recorder.request_ended(0, &RequestEnd { status: 200, ..RequestEnd::default() });
    recorder.try_ended(0, 0, &TryEnd { status: 200, ..TryEnd::default() });
    collector.absorb(&mut recorder, 5_000);
    collector.arrange(layout("new: b", 10));
    let names = |summary: &Summary| {
        summary.groups.iter().map(|g| (g.name.to_string(), g.configured)).collect::<Vec<_>>()
    };
    let both = [("new".to_owned(), true), ("old".to_owned(), false)];
    assert_eq!(names(&collector.summary(Window::Hour, 3_600_000)), both);
    assert_eq!(names(&collector.totals(20_000_000)), both, "a request is still under way");
    recorder.request_ended(0, &RequestEnd { status: 200, ..RequestEnd::default() });
    collector.absorb(&mut recorder, 20_000_000);
    assert_eq!(names(&collector.totals(20_000_000 + 3_600_000)), both);
    let after = collector.totals(20_000_000 + 4_000_000);
    assert_eq!(names(&after), both[..1]);
    assert_eq!(after.all.ended, 2);
}

#[test]
fn a_removed_server_stays_in_the_sums_of_its_group() {
    let mut collector = Collector::new(layout("g: a b", 10), 0);
    let mut recorder = Recorder::new(layout("g: a b", 10));
    for peer in [0, 1, 1] {
        recorder.try_began(0, peer);
        recorder.try_ended(0, peer, &TryEnd { status: 200, response_us: Some(7), ..TryEnd::default() });
    }
    collector.absorb(&mut recorder, 1_000);
    collector.arrange(layout("g: b", 10));
    let peers = |summary: &Summary| -> Vec<_> {
        let peers = summary.groups[0].peers.iter();
        peers.map(|peer| (peer.name.to_string(), peer.configured, peer.totals.ended)).collect()
    };
    let before = collector.totals(2_000);
    assert_eq!(peers(&before), [("b".to_owned(), true, 2), ("a".to_owned(), false, 1)]);
    let after = collector.totals(8_000_000);
    assert_eq!(peers(&after), [("b".to_owned(), true, 2)]);
    assert_eq!(after.groups[0].tries_totals, before.groups[0].tries_totals);
    assert_eq!(after.groups[0].tries_totals.ended, 3);
}

#[test]
fn a_window_forgets_after_its_length() {
    let mut collector = Collector::new(layout("g: a", 10), 0);
    let mut recorder = Recorder::new(layout("g: a", 10));
    recorder.request_ended(0, &RequestEnd { status: 200, ..RequestEnd::default() });
    collector.absorb(&mut recorder, 7_200_000);
    // The second under way belongs to every window, so it is sealed first.
    collector.advance(7_201_000);
    let series = &collector.kept.series[collector.groups["g"].requests];
    for window in Window::ALL {
        let seen = |later_ms| {
            let mut counters = Counters::default();
            series.add_window(window, 7_200_000 + later_ms, &mut counters);
            counters.ended
        };
        assert_eq!(seen(window.length_ms() - 1), 1, "{window:?}");
        assert_eq!(seen(window.length_ms() + window.slot_ms()), 0, "{window:?}");
    }
}

#[test]
fn a_clock_that_goes_back_is_ignored() {
    let mut collector = Collector::new(layout("g: a", 10), 50_000);
    let mut recorder = Recorder::new(layout("g: a", 10));
    recorder.request_ended(0, &RequestEnd::default());
    collector.absorb(&mut recorder, 10);
    let summary = collector.summary(Window::TenSeconds, 49_000);
    assert_eq!((summary.age_ms, summary.span_ms, summary.groups[0].window.ended), (0, 0, 1));
    assert_eq!(summary.per_second(1), 0.0);
}

#[test]
fn a_thousand_groups_stay_within_their_memory() {
    let text: String = (0..1_000).map(|n| format!("group{n}: a{n} b{n}\n")).collect();
    let layout = layout(&text, 1_000);
    let mut collector = Collector::new(Arc::clone(&layout), 0);
    assert!(collector.bytes() < 10_000, "{}", collector.bytes());
    let mut recorder = Recorder::new(layout);
    let mut dice = Dice::new(8);
    // An hour and more of 20 requests a second to three busy groups.
    for second in 0..4_000_u64 {
        for _ in 0..20 {
            let (group, us) = (dice.below(3) as usize, (1_000.0 / dice.unit().sqrt()) as u64);
            let end =
                TryEnd { status: 200, response_us: Some(us), first_byte_us: Some(us), ..TryEnd::default() };
            recorder.try_ended(group, dice.below(2) as usize, &end);
            recorder.request_ended(
                group,
                &RequestEnd { status: 200, response_us: Some(us), ..RequestEnd::default() },
            );
        }
        collector.absorb(&mut recorder, second * 1_000);
    }
    assert!(collector.bytes() / 9 < 25_000, "{} for a busy server or group", collector.bytes() / 9);
    collector.advance(20_000_000);
    assert!(collector.bytes() / 9 < 8_000, "{} for one that was busy", collector.bytes() / 9);
    assert_eq!(collector.totals(20_000_000).all.ended, 80_000);
}

/// `cargo test --release -p pointsman-statistics cost_of_a_thousand_groups -- --ignored --nocapture`
#[test]
#[ignore = "prints a measurement; run by hand in a release build"]
fn cost_of_a_thousand_groups() {
    let text: String = (0..1_000).map(|n| format!("group{n}: a{n} b{n}\n")).collect();
    let layout = layout(&text, 1_000);
    let mut collector = Collector::new(Arc::clone(&layout), 0);
    let mut recorder = Recorder::new(layout);
    println!("idle: recorder {} bytes, collector {} bytes", recorder.bytes(), collector.bytes());
    let mut dice = Dice::new(8);
    let mut absorbing = std::time::Duration::ZERO;
    // An hour in steps of ten seconds, and the last two minutes in steps of one.
    let steps: Vec<u64> = (0..3_600).step_by(10).chain(3_600..3_720).collect();
    for &second in &steps {
        // All of them are busy: 20,000 requests a step, with a tail, some of it on new connections.
        for _ in 0..20_000 {
            let (group, us) = (dice.below(1_000) as usize, (1_000.0 / dice.unit().sqrt()) as u64);
            let response_us = Some(us);
            let connect_us = (dice.below(10) == 0).then_some(us / 10);
            let end = TryEnd {
                status: 200,
                connect_us,
                response_us,
                first_byte_us: Some(us / 2),
                ..TryEnd::default()
            };
            recorder.try_ended(group, dice.below(2) as usize, &end);
            recorder
                .request_ended(group, &RequestEnd { status: 200, response_us, received: 4_000, sent: 500 });
        }
        let started = std::time::Instant::now();
        collector.absorb(&mut recorder, second * 1_000);
        absorbing += started.elapsed();
    }
    println!("busy: recorder {} bytes, collector {} bytes", recorder.bytes(), collector.bytes());
    println!("one absorption, with sealing: {:?}", absorbing / steps.len() as u32);
    let empty = crate::Snapshot::default();
    for window in Window::ALL {
        let started = std::time::Instant::now();
        let summary = collector.summary(window, 3_720_000);
        let read = started.elapsed();
        println!(
            "summary of {window:?}: {read:?}, as text {} bytes",
            crate::render::text(&summary, &empty).len()
        );
    }
    let started = std::time::Instant::now();
    let summary = collector.totals(3_720_000);
    let read = started.elapsed();
    let body = crate::render::metrics(&summary, &empty, crate::render::Exposition::OpenMetrics);
    println!("totals: {read:?}; metrics with them: {:?}, {} bytes", started.elapsed(), body.len());
}

#[test]
fn a_long_idle_key_makes_room_for_another() {
    let layout = layout("blue:", 2);
    let mut collector = Collector::new(Arc::clone(&layout), 0);
    let take = |collector: &mut Collector, keys: &[&str], now_ms| {
        // Each time a thread that knows no key yet: the bound that matters is the collector's.
        let mut recorder = Recorder::new(Arc::clone(&layout));
        for key in keys {
            recorder.key_ended(
                0,
                &RoutedRequest::new(key.as_bytes(), "blue"),
                &RequestEnd { status: 200, ..RequestEnd::default() },
            );
        }
        collector.absorb(&mut recorder, now_ms);
        let keys = collector.totals(now_ms).switches.swap_remove(0).keys;
        let name =
            |key: &Option<Box<[u8]>>| key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned());
        keys.iter().map(|key| (name(&key.key), key.totals.ended)).collect::<Vec<_>>()
    };
    let named = |name: &str, count| (Some(name.to_owned()), count);
    assert_eq!(take(&mut collector, &["a", "b"], 1_000), [named("a", 1), named("b", 1)]);
    assert_eq!(take(&mut collector, &["c"], 2_000), [named("a", 1), named("b", 1), (None, 1)]);
    take(&mut collector, &["b"], 3_000_000);
    assert_eq!(take(&mut collector, &["c"], 4_000_000), [named("b", 2), named("c", 1), (None, 1)]);
    let mut keys: Vec<&[u8]> = collector.keys_of("live").collect();
    keys.sort_unstable();
    assert_eq!(keys, [b"b", b"c"]);
    assert_eq!(collector.keys_of("other").count(), 0);
    let summary = collector.totals(4_000_000);
    assert_eq!(summary.switches[0].targets[0].totals.ended, 5, "what was forgotten is in the target's sum");
}
