//! Runs a scenario with many seeds.
//!
//! Owns the choice of seeds, the report of the first that fails, and the check that a seed gives the same run twice. It
//! never retries a seed until it passes.
//!
//! `POINTSMAN_SIMULATE` replaces the usual number of seeds: `seeds=100000 from=1 limit_s=60 trace`. `cargo xtask
//! simulate` sets it.

use crate::Seeded;
use crate::record::{self, Violation};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::time::Instant;

/// A simulation, and the invariants that must hold in it.
pub struct Scenario {
    /// Its name for `--scenario`.
    pub name: &'static str,
    /// The invariants that it checks. One that is never checked is a failure: it would prove nothing.
    pub invariants: &'static [&'static str],
    /// The number of seeds in `cargo test`.
    pub usual: u64,
    /// Seeds that once found a fault: `cargo test` runs them too.
    pub kept: &'static [u64],
    /// Runs it once.
    pub run: fn(Seeded),
}

/// The seeds to run.
struct Wanted {
    seeds: u64,
    from: u64,
    /// No more seeds are started after this time.
    limit_s: u64,
    trace: bool,
    /// The seeds were given by `POINTSMAN_SIMULATE`; a few of them need not check every invariant.
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
                _ => panic!("POINTSMAN_SIMULATE has an unknown word: {word}"),
            }
        }
        wanted
    }
}

fn parse(word: &str, number: &str) -> u64 {
    number.parse().unwrap_or_else(|_| panic!("POINTSMAN_SIMULATE has no number in {word}"))
}

/// How many seeds are run twice, to check that they give the same run.
const TWICE: u64 = 3;

/// Runs a scenario with many seeds.
///
/// # Panics
/// Panics at the first seed that violates an invariant, with the command that runs it again; if a seed does not give the
/// same run twice; and if an invariant was never checked.
pub fn explore(scenario: &Scenario) {
    record_panics();
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
        record::set_tracing(wanted.trace);
        let violation = run(scenario, seed);
        if wanted.trace {
            record::take_trace().iter().for_each(|line| println!("{line}"));
        }
        if let Some(violation) = violation {
            fail(scenario, seed, &violation);
        }
    }
    for &seed in scenario.kept.iter().filter(|_| !wanted.asked) {
        record::set_tracing(false);
        if let Some(violation) = run(scenario, seed) {
            fail(scenario, seed, &violation);
        }
    }
    let checks = record::checks();
    let counts: Vec<String> = checks.iter().map(|(name, count)| format!("{name} {count}")).collect();
    println!(
        "simulated {}: {} seeds from {} in {:.1} s, nothing violated; checked: {}",
        scenario.name,
        done,
        wanted.from,
        began.elapsed().as_secs_f64(),
        counts.join(", ")
    );
    for (name, count) in checks {
        assert!(
            scenario.invariants.contains(&name),
            "{name} is not among the invariants of {}",
            scenario.name
        );
        let too_few = wanted.asked && wanted.seeds < scenario.usual;
        assert!(count > 0 || too_few, "{}: {name} was never checked: it proves nothing", scenario.name);
    }
}

fn run_twice(scenario: &Scenario, seed: u64) {
    let mut traces = Vec::new();
    for _ in 0..2 {
        record::set_tracing(true);
        if let Some(violation) = run(scenario, seed) {
            fail(scenario, seed, &violation);
        }
        traces.push(record::take_trace());
    }
    record::set_tracing(false);
    let (first, second) = (&traces[0], &traces[1]);
    let differs = first.iter().zip(second).position(|(one, other)| one != other);
    if let Some(at) = differs {
        panic!("{}: seed {seed} has a different trace: {:?} and {:?}", scenario.name, first[at], second[at]);
    }
    assert_eq!(first.len(), second.len(), "{}: seed {seed} has a trace of another length", scenario.name);
}

fn run(scenario: &Scenario, seed: u64) -> Option<Violation> {
    record::take_violation();
    record::running(true);
    let ended = panic::catch_unwind(AssertUnwindSafe(|| (scenario.run)(Seeded::new(seed))));
    record::running(false);
    // The hook records panics, also those that a task's join handle swallows.
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

/// Installs a hook that records panics of the product as violations.
fn record_panics() {
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
