//! `cargo xtask simulate`: worlds made of one number each, as many as one likes.
//!
//! Owns: which scenario is which test, and the builds that are broken on purpose (`--mutants`, see `simulate/mutants.rs`).
//! Must never: try a seed again until it passes.

mod mutants;

use crate::root;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

const USAGE: &str = "usage: cargo xtask simulate [--scenario NAME]… [--seeds N] [--from N] [--seed N] [--trace]\n\
    \x20      cargo xtask simulate --mutants [--scenario NAME]… [--only TEXT]…\n\
    \x20 --scenario NAME  one of peers, orders, holds, wire, relay, office; without it all\n\
    \x20 --seeds N        how many seeds; without it 100,000\n\
    \x20 --from N         the first seed; without it 1\n\
    \x20 --seed N         this seed alone\n\
    \x20 --trace          tell what happens\n\
    \x20 --mutants        break the product in a copy, once for each entry of crates/sim/mutants.txt, and show that it is seen,\n\
    \x20                  and that each invariant sees something; writes crates/sim/mutants.md\n\
    \x20 --only TEXT      those entries alone that have this text in their first line, their invariants or their file;\n\
    \x20                  `new` is those of which crates/sim/mutants.md does not say what has seen them";

/// A scenario, and the test that it is.
struct Scenario {
    name: &'static str,
    package: &'static str,
    target: &'static [&'static str],
    /// The test's whole name.
    test: &'static str,
}

const SCENARIOS: [Scenario; 6] = [
    low("peers", "peers::peers"),
    low("orders", "orders::orders"),
    low("holds", "holds::holds"),
    low("wire", "wire::wire"),
    Scenario {
        name: "relay",
        package: "pointsman-server",
        target: &["--lib"],
        test: "simulation::simulation_relay",
    },
    Scenario {
        name: "office",
        package: "pointsman-control",
        target: &["--lib"],
        test: "office::simulation::simulation_office",
    },
];

const fn low(name: &'static str, test: &'static str) -> Scenario {
    Scenario { name, package: "pointsman-sim", target: &["--test", "simulate"], test }
}

/// What a run came to.
struct Ran {
    /// Nothing was violated.
    well: bool,
    /// What it said.
    text: String,
}

impl Ran {
    /// The seed and the invariant of the violation, if that is how it ended.
    fn violation(&self) -> Option<(u64, String)> {
        let line = self.text.lines().find_map(|line| line.split_once("violated scenario="))?.1;
        let word = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
        Some((word("seed=")?.parse().ok()?, word("invariant=")?.to_owned()))
    }

    /// The invariants that were looked at.
    fn invariants(&self) -> Vec<String> {
        let told = self.text.lines().find_map(|line| line.split_once("looked at: "));
        let each = told.into_iter().flat_map(|(_, names)| names.split(", "));
        each.filter_map(|one| one.split(' ').next()).map(str::to_owned).collect()
    }
}

pub(crate) fn main(args: &[String]) -> ExitCode {
    match run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &[String]) -> Result<bool, String> {
    let (mut names, mut only) = (Vec::new(), Vec::new());
    let (mut seeds, mut from, mut trace, mut broken) = (100_000, 1, false, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value\n{USAGE}"));
        let number = |text: &String| text.parse::<u64>().map_err(|_| format!("{text} is no number\n{USAGE}"));
        match arg.as_str() {
            "--scenario" => names.push(value()?.clone()),
            "--seeds" => seeds = number(value()?)?,
            "--from" => from = number(value()?)?,
            "--seed" => (from, seeds) = (number(value()?)?, 1),
            "--trace" => trace = true,
            "--mutants" => broken = true,
            "--only" => only.push(value()?.clone()),
            _ => return Err(USAGE.to_owned()),
        }
    }
    if let Some(unknown) = names.iter().find(|name| find(name).is_none()) {
        return Err(format!("there is no scenario {unknown}\n{USAGE}"));
    }
    if broken {
        return mutants::run(&names, &only);
    }
    let mut well = true;
    for scenario in
        SCENARIOS.iter().filter(|one| names.is_empty() || names.iter().any(|name| name == one.name))
    {
        let what = format!("seeds={seeds} from={from}{}", if trace { " trace" } else { "" });
        let ran = simulate(&Place::here(), scenario, FAST, &what)?;
        for line in ran.text.lines().filter(|line| trace || is_worth_showing(line)) {
            println!("{line}");
        }
        well &= ran.well;
    }
    Ok(well)
}

fn is_worth_showing(line: &str) -> bool {
    ["simulated ", "is violated", "cargo xtask simulate", "error", "tells another story"]
        .iter()
        .any(|part| line.contains(part))
}

fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// The profile for many seeds, and the one that builds soonest.
const FAST: &str = "simulation";
const SOON: &str = "dev";

/// Where sources lie, and where what is built of them goes.
struct Place {
    sources: PathBuf,
    target: PathBuf,
}

impl Place {
    fn here() -> Place {
        Place { sources: root(), target: root().join("target") }
    }
}

/// Runs a scenario of these sources.
fn simulate(place: &Place, scenario: &Scenario, profile: &str, what: &str) -> Result<Ran, String> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(&place.sources).env("POINTSMAN_SIMULATE", what).env("RUST_BACKTRACE", "0");
    command.env("CARGO_TARGET_DIR", &place.target);
    command.args(["test", "--quiet", "--profile", profile, "--package", scenario.package]);
    command.args(scenario.target).args(["--", scenario.test, "--exact", "--nocapture"]);
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("cargo cannot be started: {error}"))?;
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok(Ran { well: output.status.success() && text.contains("simulated "), text })
}
