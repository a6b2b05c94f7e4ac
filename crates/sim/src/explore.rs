//! The walk through many seeds.
//!
//! Owns: which seeds are run, what is said about the first that fails, and that a seed gives the same run twice.
//! Must never: try a seed again until it passes.
//!
//! `POINTSMAN_SIMULATE` says what to run instead of the usual number: `seeds=100000 from=1 limit_s=60 trace`. `cargo
//! xtask simulate` sets it.

use crate::Seeded;
use crate::record::{self, Violation};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::time::Instant;

/// A world, and what must hold in it.
pub struct Scenario {
    /// Its name for `--scenario`.
    pub name: &'static str,
    /// The invariants that it checks. One that is never looked at is a failure: it would prove nothing.
    pub invariants: &'static [&'static str],
    /// How many seeds are run in `cargo test`.
    pub usual: u64,
    /// Seeds that once showed a fault: `cargo test` runs them too.
    pub kept: &'static [u64],
    /// One run.
    pub run: fn(Seeded),
}

/// What is to be run.
struct Wanted {
    seeds: u64,
    from: u64,
    /// No more seeds are begun after so many seconds.
    limit_s: u64,
    trace: bool,
    /// Somebody has asked for these seeds; it may be for a single one, which need not come across every invariant.
    asked: bool,
}

impl Wanted {
    fn read(usual: u64) -> Wanted {
        let mut wanted = Wanted { seeds: usual, from: 1, limit_s: u64::MAX, trace: false, asked: false };
        let text = std::env::var("POINTSMAN_SIMULATE").unwrap_or_default();
        for word in text.split_whitespace() {
            wanted.asked = true;
            match word.split_once('=') {
                Some(("seeds", number)) => wanted.seeds = parse(word, number),
                Some(("from", number)) => wanted.from = parse(word, number),
                Some(("limit_s", number)) => wanted.limit_s = parse(word, number),
                None if word == "trace" => wanted.trace = true,
                _ => panic!("POINTSMAN_SIMULATE has a word that means nothing: {word}"),
            }
        }
        wanted
    }
}

fn parse(word: &str, number: &str) -> u64 {
    number.parse().unwrap_or_else(|_| panic!("POINTSMAN_SIMULATE has no number in {word}"))
}

/// How many seeds are run twice, to see that they give the same.
const TWICE: u64 = 3;

/// Runs a scenario for many seeds.
///
/// # Panics
/// At the first seed that breaks an invariant, with the command that runs it again; when a seed does not give the same
/// run twice; when an invariant was never looked at.
pub fn explore(scenario: &Scenario) {
    hear_panics();
    let wanted = Wanted::read(scenario.usual);
    record::begin_checks(scenario.invariants);
    let began = Instant::now();
    let mut done = 0;
    for seed in wanted.from..wanted.from + wanted.seeds {
        if began.elapsed().as_secs() >= wanted.limit_s {
            break;
        }
        done += 1;
        if seed < wanted.from + TWICE && !wanted.trace {
            run_twice(scenario, seed);
            continue;
        }
        record::listen(wanted.trace);
        let violation = run(scenario, seed);
        if wanted.trace {
            record::take_story().iter().for_each(|line| println!("{line}"));
        }
        if let Some(violation) = violation {
            fail(scenario, seed, &violation);
        }
    }
    for &seed in scenario.kept.iter().filter(|_| !wanted.asked) {
        record::listen(false);
        if let Some(violation) = run(scenario, seed) {
            fail(scenario, seed, &violation);
        }
    }
    let checks = record::checks();
    let told: Vec<String> = checks.iter().map(|(name, count)| format!("{name} {count}")).collect();
    println!(
        "simulated {}: {} seeds from {} in {:.1} s, nothing violated; looked at: {}",
        scenario.name,
        done,
        wanted.from,
        began.elapsed().as_secs_f64(),
        told.join(", ")
    );
    for (name, count) in checks {
        assert!(
            scenario.invariants.contains(&name),
            "{name} is not among the invariants of {}",
            scenario.name
        );
        let worth = wanted.asked && wanted.seeds < scenario.usual;
        assert!(count > 0 || worth, "{}: {name} was never looked at: it proves nothing", scenario.name);
    }
}

fn run_twice(scenario: &Scenario, seed: u64) {
    let mut stories = Vec::new();
    for _ in 0..2 {
        record::listen(true);
        if let Some(violation) = run(scenario, seed) {
            fail(scenario, seed, &violation);
        }
        stories.push(record::take_story());
    }
    record::listen(false);
    let (first, second) = (&stories[0], &stories[1]);
    let differs = first.iter().zip(second).position(|(one, other)| one != other);
    if let Some(at) = differs {
        panic!("{}: seed {seed} tells another story: {:?} and {:?}", scenario.name, first[at], second[at]);
    }
    assert_eq!(first.len(), second.len(), "{}: seed {seed} tells a longer story", scenario.name);
}

fn run(scenario: &Scenario, seed: u64) -> Option<Violation> {
    record::take_violation();
    record::running(true);
    let ended = panic::catch_unwind(AssertUnwindSafe(|| (scenario.run)(Seeded::new(seed))));
    record::running(false);
    // A panic was heard by the hook, also one that a task's join handle has swallowed.
    let found = record::take_violation();
    match ended {
        Ok(()) => found,
        Err(_) => found.or(Some(Violation { invariant: "no-panic".into(), text: "it panicked".into() })),
    }
}

fn fail(scenario: &Scenario, seed: u64, violation: &Violation) -> ! {
    let Violation { invariant, text } = violation;
    println!("violated scenario={} seed={seed} invariant={invariant}", scenario.name);
    panic!(
        "{}, seed {seed}: {invariant} is violated: {text}\n  cargo xtask simulate --scenario {} --seed {seed} --trace",
        scenario.name, scenario.name
    );
}

/// Panics of the product are violations of their own, told once and quietly.
fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !record::is_running() {
                return before(info);
            }
            let payload = info.payload();
            let known = payload.downcast_ref::<&str>().copied();
            let text = known.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let text = text.unwrap_or("a panic without a text");
            let place = info.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
            record::keep("no-panic", &format!("{text} ({place})"));
        }));
    });
}
