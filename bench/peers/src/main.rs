//! `cargo xtask bench`: the cost of a request, beside nginx and HAProxy, in the same run.
//!
//! It runs the workloads one after the other and writes the report. Everything stays on 127.0.0.1, takes a bounded time
//! and ends by itself.

mod answer;
mod arrivals;
mod chart;
mod comparison;
mod conf;
mod cores;
mod environment;
mod idle_connections;
mod json;
mod load;
mod many_names;
mod origin;
mod peer;
mod report;
mod rounds;
mod samples;
mod server;
mod syscalls;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use comparison::Comparison;
use cores::Cores;
use origin::Origin;
use report::{Run, formatted};
use rounds::{Bench, Pace, Stop};
use workload::{Measure, WORKLOADS, Workload};

/// Descriptors for the idle connections of a side, and for all the others.
const DESCRIPTORS: u64 = 16_384;

/// Measures the cost of a request beside nginx and HAProxy. PEER_NGINX and PEER_HAPROXY name more binaries to compare
/// with, separated by `:`.
#[derive(Parser)]
#[command(name = "cargo xtask bench", after_help = workloads_help())]
struct Plan {
    /// Workloads by name or letter [default: all]
    #[arg(value_name = "WORKLOAD", value_parser = workloads_called)]
    chosen: Vec<Vec<&'static Workload>>,
    /// Six short rounds each: does everything run?
    #[arg(long)]
    quick: bool,
    /// The server to compare
    #[arg(long, default_value_os_t = root().join("target/release/pointsman"))]
    binary: PathBuf,
    /// How long the whole run may take
    #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u64).range(1..=600))]
    minutes: u64,
    /// The directory of the report [default: bench/ for a whole run, target/bench otherwise]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Plan {
    fn workloads(&self) -> Vec<&'static Workload> {
        match self.chosen.is_empty() {
            true => WORKLOADS.iter().collect(),
            false => self.chosen.iter().flatten().copied().collect(),
        }
    }

    fn out(&self) -> PathBuf {
        let is_whole = self.chosen.is_empty() && !self.quick;
        let usual = root().join(if is_whole { "bench" } else { "target/bench" });
        self.out.clone().unwrap_or(usual)
    }

    fn budget(&self) -> Duration {
        Duration::from_secs(60 * self.minutes)
    }
}

fn workloads_called(word: &str) -> Result<Vec<&'static Workload>, String> {
    let found: Vec<_> = WORKLOADS.iter().filter(|workload| workload.is_called(word)).collect();
    if found.is_empty() { Err("there is no such workload".to_owned()) } else { Ok(found) }
}

fn workloads_help() -> String {
    let line =
        |workload: &Workload| format!("  ({}) {:12} {}\n", workload.letter, workload.name, workload.title);
    "Workloads:\n".to_owned() + &WORKLOADS.iter().map(line).collect::<String>()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [argument, front, count] = args.as_slice()
        && argument == idle_connections::ARGUMENT
    {
        return idle_connections::main(front, count);
    }
    let plan = Plan::parse();
    let out = plan.out();
    match run_all(&plan).and_then(|run| write(&out, &run).map(|()| run)) {
        Ok(run) => {
            let refused = run.comparisons.iter().filter(|comparison| comparison.refusal().is_some()).count();
            let reported = run.comparisons.len() - refused;
            println!(
                "{reported} reported, {refused} refused, {} failed, {} skipped: {}",
                run.failed.len(),
                run.skipped.len(),
                out.join("REPORT.md").display()
            );
            if refused + run.failed.len() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
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
    let workloads = plan.workloads();
    let count = |workload: &&Workload| -> usize {
        workload.sides.iter().map(|side| peers.iter().filter(|peer| peer.kind == side.kind).count()).sum()
    };
    let sides = workloads.iter().map(count).sum();
    let pace = Pace::fit(plan.quick, sides, plan.budget());
    let facts = environment::facts(&peers, cores, pace);
    let mut bench = Bench { peers: &peers, cores, pace, origin: Origin::new()? };
    let mut run = Run { facts, comparisons: Vec::new(), absent, skipped: Vec::new(), failed: Vec::new() };
    for workload in workloads {
        let result = match begin.elapsed() > plan.budget() {
            true => Err(Stop::Skipped("the time is over (--minutes)".to_owned())),
            false => bench.run(workload),
        };
        let line = match result {
            Ok(comparison) => {
                let line = summary(&comparison);
                run.comparisons.push(comparison);
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

/// Returns the result of a workload in one line.
fn summary(comparison: &Comparison) -> String {
    if let Some(refusal) = comparison.refusal() {
        return format!("REFUSED: {refusal}");
    }
    let Some(reference) = comparison.reference() else { return String::new() };
    let sides = comparison
        .sides
        .iter()
        .filter(|side| side.label != reference.label)
        .map(|side| format!("{} {}", side.label, formatted(side.ratio(Measure::Cost, reference), 2)));
    let missed =
        comparison.goal_results().into_iter().filter(|result| result.word() != "reached").map(|result| {
            format!(
                "; {} of {}: {} (at most {}: {})",
                result.goal.measure.name(),
                result.goal.side,
                formatted(result.value, 2),
                result.goal.at_most,
                result.word()
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
        put(plots.join(format!("{name}.svg")), &chart.svg()?)?;
    }
    let json = serde_json::to_string_pretty(&run.json()).map_err(|e| e.to_string())?;
    put(out.join("report.json"), &(json + "\n"))?;
    put(out.join("REPORT.md"), &run.markdown())
}

/// Raises the limit of descriptors for the connections of the load, as far as the hard limit allows.
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

/// Returns the root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map_or_else(PathBuf::new, PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Plan, clap::Error> {
        Plan::try_parse_from(format!("bench {text}").split_whitespace())
    }

    #[test]
    fn command_line_is_read() {
        let plan = parse("b switch --minutes 2 --binary a/b").expect("valid");
        let names: Vec<_> = plan.workloads().iter().map(|workload| workload.name).collect();
        assert_eq!(names, ["body-1k", "body-16k", "body-100k", "body-10m", "switch"]);
        assert_eq!((plan.budget(), plan.binary), (Duration::from_secs(120), PathBuf::from("a/b")));
        assert!(parse("--minutes 0").is_err_and(|e| e.kind() == clap::error::ErrorKind::ValueValidation));
        assert!(parse("nothing").is_err());
    }

    #[test]
    fn only_a_whole_run_overwrites_the_report() {
        assert_eq!(parse("").expect("valid").out(), root().join("bench"));
        for partial in ["--quick", "proxy"] {
            assert_eq!(parse(partial).expect("valid").out(), root().join("target/bench"), "{partial}");
        }
    }
}
