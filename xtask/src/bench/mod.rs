//! `cargo xtask bench`: what a request costs, beside nginx and HAProxy, in the same run.
//!
//! This file reads the command line, runs the workloads one after the other and writes what they found. It talks to
//! 127.0.0.1 alone, takes a bounded time and ends by itself.

mod account;
mod answer;
mod arrivals;
mod calls;
mod conf;
mod cores;
mod facts;
mod figures;
mod held;
mod load;
mod names;
mod origin;
mod outcome;
mod peer;
mod plot;
mod record;
mod report;
mod rounds;
mod running;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use cores::Cores;
use origin::Origin;
use outcome::Outcome;
use report::{Run, told};
use rounds::{Bench, Pace, Stop};
use workload::{Measure, WORKLOADS, Workload};

const USAGE: &str = "usage: cargo xtask bench [--quick] [--binary PATH] [--minutes N] [--out DIR] [WORKLOAD…]\n\
    \x20 WORKLOAD         names or letters; all of them without one\n\
    \x20 --quick          three short rounds each: does it run at all?\n\
    \x20 --binary PATH    what to run; without it target/release/pointsman\n\
    \x20 --minutes N      how long all of it may take; without it 14\n\
    \x20 --out DIR        where the report goes; without it bench/ for a whole run, target/xtask/bench otherwise\n\
    \x20 PEER_NGINX and PEER_HAPROXY name more binaries to compare with, several with `:` between";

/// Descriptors for the idle connections of a side, and for all the others.
const DESCRIPTORS: u64 = 16_384;

/// What the command line asks for.
struct Plan {
    quick: bool,
    binary: PathBuf,
    budget: Duration,
    out: PathBuf,
    workloads: Vec<&'static Workload>,
}

/// Runs the verb.
pub(crate) fn main(args: &[String]) -> ExitCode {
    if let [verb, front, count] = args
        && verb == held::VERB
    {
        return held::main(front, count);
    }
    let plan = match parse(args) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("{error}\n{USAGE}\n workloads:");
            for workload in &WORKLOADS {
                eprintln!("  ({}) {:12} {}", workload.letter, workload.name, workload.title);
            }
            return ExitCode::from(2);
        }
    };
    match run_all(&plan).and_then(|run| write(&plan.out, &run).map(|()| run)) {
        Ok(run) => {
            let refused = run.outcomes.iter().filter(|outcome| outcome.refusal().is_some()).count();
            let reported = run.outcomes.len() - refused;
            println!(
                "{reported} reported, {refused} refused, {} failed, {} skipped: {}",
                run.failed.len(),
                run.skipped.len(),
                plan.out.join("REPORT.md").display()
            );
            if refused + run.failed.len() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: &[String]) -> Result<Plan, String> {
    let mut plan = Plan {
        quick: false,
        binary: crate::root().join("target/release/pointsman"),
        budget: Duration::from_secs(14 * 60),
        out: PathBuf::new(),
        workloads: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} takes a value"));
        match arg.as_str() {
            "--quick" => plan.quick = true,
            "--binary" => plan.binary = value()?.into(),
            "--out" => plan.out = value()?.into(),
            "--minutes" => {
                let minutes = value()?.parse::<u64>().ok().filter(|minutes| (1..=600).contains(minutes));
                plan.budget = Duration::from_secs(60 * minutes.ok_or("minutes are 1 to 600")?);
            }
            word => {
                let before = plan.workloads.len();
                plan.workloads.extend(WORKLOADS.iter().filter(|workload| workload.is_called(word)));
                if plan.workloads.len() == before {
                    return Err(format!("what is {word}?"));
                }
            }
        }
    }
    let whole = plan.workloads.is_empty() && !plan.quick;
    if plan.workloads.is_empty() {
        plan.workloads = WORKLOADS.iter().collect();
    }
    if plan.out.as_os_str().is_empty() {
        plan.out = crate::root().join(if whole { "bench" } else { "target/xtask/bench" });
    }
    Ok(plan)
}

fn run_all(plan: &Plan) -> Result<Run, String> {
    let (peers, absent) = peer::find_all(&plan.binary);
    if !peers.iter().any(|peer| peer.kind == peer::Kind::Pointsman) {
        return Err(format!("{}: build it with cargo build --release", plan.binary.display()));
    }
    let begin = Instant::now();
    let cores = Cores::choose()?;
    cores::pin(&[cores.load])?;
    raise_descriptors()?;
    let count = |workload: &&Workload| -> usize {
        workload.sides.iter().map(|side| peers.iter().filter(|peer| peer.kind == side.kind).count()).sum()
    };
    let sides = plan.workloads.iter().map(count).sum();
    let pace = Pace::fit(plan.quick, sides, plan.budget);
    let facts = facts::of(&peers, cores, pace);
    let mut bench = Bench { peers: &peers, cores, pace, origin: Origin::new()?, taken_ports: Vec::new() };
    let mut run = Run { facts, outcomes: Vec::new(), absent, skipped: Vec::new(), failed: Vec::new() };
    for workload in &plan.workloads {
        let result = match begin.elapsed() > plan.budget {
            true => Err(Stop::Skipped("the time is over: --minutes".to_owned())),
            false => bench.run(workload),
        };
        let line = match result {
            Ok(outcome) => {
                let line = summary(&outcome);
                run.outcomes.push(outcome);
                line
            }
            Err(Stop::Skipped(reason)) => {
                let line = format!("skipped: {reason}");
                run.skipped.push((workload.name, reason));
                line
            }
            Err(Stop::Failed(error)) => {
                let line = format!("FAILED: {error}");
                run.failed.push((workload.name, error));
                line
            }
        };
        println!("({}) {}: {line}", workload.letter, workload.name);
    }
    Ok(run)
}

/// A workload's outcome in a line.
fn summary(outcome: &Outcome) -> String {
    if let Some(refusal) = outcome.refusal() {
        return format!("REFUSED: {refusal}");
    }
    let Some(reference) = outcome.reference() else { return String::new() };
    let sides = outcome
        .sides
        .iter()
        .filter(|side| side.label != reference.label)
        .map(|side| format!("{} {}", side.label, told(side.ratio(Measure::Cost, reference), 2)));
    let missed =
        outcome.verdicts().into_iter().filter(|verdict| verdict.word() != "reached").map(|verdict| {
            format!(
                "; {} of {}: {} (at most {}: {})",
                verdict.goal.measure.name(),
                verdict.goal.side,
                told(verdict.value, 2),
                verdict.goal.at_most,
                verdict.word()
            )
        });
    let ratios = sides.collect::<Vec<_>>().join(", ");
    format!("CPU per request as a ratio to {}: {ratios}{}", reference.label, missed.collect::<String>())
}

fn write(out: &Path, run: &Run) -> Result<(), String> {
    let plots = out.join("plots");
    fs::create_dir_all(&plots).map_err(|e| format!("{}: {e}", plots.display()))?;
    let put =
        |path: PathBuf, text: &str| fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()));
    for (name, _, chart) in run.charts() {
        put(plots.join(format!("{name}.svg")), &chart.svg())?;
    }
    let json = serde_json::to_string_pretty(&run.json()).map_err(|e| e.to_string())?;
    put(out.join("report.json"), &(json + "\n"))?;
    put(out.join("REPORT.md"), &run.markdown())
}

/// Makes room for the connections of the load; who is not root gets as much as the limit allows.
fn raise_descriptors() -> Result<(), String> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| format!("getrlimit: {e}"))?;
    if soft >= DESCRIPTORS {
        return Ok(());
    }
    if setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, hard.max(DESCRIPTORS)).is_ok() {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(|e| format!("setrlimit: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_command_line_is_read() {
        let plan = parse(&words("b switch --minutes 2 --binary a/b")).expect("good");
        let names: Vec<_> = plan.workloads.iter().map(|workload| workload.name).collect();
        assert_eq!(names, ["body-1k", "body-16k", "body-100k", "body-10m", "switch"]);
        assert_eq!((plan.budget, plan.binary), (Duration::from_secs(120), PathBuf::from("a/b")));
        assert!(parse(&words("--minutes 0")).is_err());
        assert!(parse(&words("nothing")).is_err());
    }

    #[test]
    fn only_a_whole_run_writes_over_the_report() {
        assert_eq!(parse(&[]).expect("good").out, crate::root().join("bench"));
        for partial in ["--quick", "proxy"] {
            let out = parse(&words(partial)).expect("good").out;
            assert_eq!(out, crate::root().join("target/xtask/bench"), "{partial}");
        }
    }
}
