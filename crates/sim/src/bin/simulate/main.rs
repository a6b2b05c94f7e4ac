//! `cargo xtask simulate`: deterministic simulation with many seeds.
//!
//! Owns the map from scenarios to tests, and the mutation tests of the scenarios (`--mutants`, see `mutants.rs`).

mod mutants;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const USAGE: &str = "usage: cargo xtask simulate [--scenario NAME]… [--seeds N] [--from N] [--seed N] [--trace]\n\
    \x20      cargo xtask simulate --mutants [--scenario NAME]… [--only TEXT]…\n\
    \x20 --scenario NAME  peers, orders, confirmations, servers, holds, wire, relay, control, damage or holdings\n\
    \x20                  (default: all)\n\
    \x20 --seeds N        the number of seeds (default: 100,000)\n\
    \x20 --from N         the first seed (default: 1)\n\
    \x20 --seed N         only this seed\n\
    \x20 --trace          print what happens\n\
    \x20 --mutants        break the product in a copy, once for each entry of crates/sim/mutants.txt, and check that its scenario\n\
    \x20                  notices, and that every invariant notices some; writes crates/sim/mutants.md\n\
    \x20 --only TEXT      only entries with this text in their title, invariants or file;\n\
    \x20                  `new` for those without a result in crates/sim/mutants.md";

/// A scenario, and the test that runs it.
struct Scenario {
    name: &'static str,
    package: &'static str,
    target: &'static [&'static str],
    /// The full name of the test.
    test: &'static str,
}

const SCENARIOS: [Scenario; 11] = [
    lower_floors("peers", "peers::peers"),
    lower_floors("orders", "orders::orders"),
    lower_floors("confirmations", "confirmations::confirmations"),
    lower_floors("servers", "servers::servers"),
    lower_floors("holds", "holds::holds"),
    lower_floors("wire", "wire::wire"),
    Scenario {
        name: "relay",
        package: "pointsman-server",
        target: &["--lib"],
        test: "simulation::simulation_relay",
    },
    Scenario {
        name: "undecided",
        package: "pointsman-server",
        target: &["--lib"],
        test: "simulation::simulation_undecided",
    },
    Scenario {
        name: "control",
        package: "pointsman-control",
        target: &["--lib"],
        test: "service::simulation::simulation_control",
    },
    Scenario {
        name: "damage",
        package: "pointsman-control",
        target: &["--lib"],
        test: "service::simulation::damage::simulation_damage",
    },
    Scenario {
        name: "holdings",
        package: "pointsman-control",
        target: &["--lib"],
        test: "service::simulation::keepers::simulation_holdings",
    },
];

const fn lower_floors(name: &'static str, test: &'static str) -> Scenario {
    Scenario { name, package: "pointsman-sim", target: &["--test", "simulate"], test }
}

/// The result of a run.
struct Outcome {
    /// No invariant was violated.
    passed: bool,
    /// Its output.
    text: String,
}

impl Outcome {
    /// Returns the seed and the invariant of the violation, if there was one.
    fn violation(&self) -> Option<(u64, String)> {
        let line = self.text.lines().find_map(|line| line.split_once("violated scenario="))?.1;
        let word = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
        Some((word("seed=")?.parse().ok()?, word("invariant=")?.to_owned()))
    }

    /// Returns the invariants that were checked.
    fn invariants(&self) -> Vec<String> {
        let list = self.text.lines().find_map(|line| line.split_once("checked: "));
        let each = list.into_iter().flat_map(|(_, names)| names.split(", "));
        each.filter_map(|one| one.split(' ').next()).map(str::to_owned).collect()
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
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
    let (mut seeds, mut from, mut trace, mut mutate) = (100_000, 1, false, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value\n{USAGE}"));
        let number =
            |text: &String| text.parse::<u64>().map_err(|_| format!("{text} is not a number\n{USAGE}"));
        match arg.as_str() {
            "--scenario" => names.push(value()?.clone()),
            "--seeds" => seeds = number(value()?)?,
            "--from" => from = number(value()?)?,
            "--seed" => (from, seeds) = (number(value()?)?, 1),
            "--trace" => trace = true,
            "--mutants" => mutate = true,
            "--only" => only.push(value()?.clone()),
            _ => return Err(USAGE.to_owned()),
        }
    }
    if let Some(unknown) = names.iter().find(|name| find(name).is_none()) {
        return Err(format!("there is no scenario {unknown}\n{USAGE}"));
    }
    let chosen: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|one| names.is_empty() || names.iter().any(|name| name == one.name))
        .collect();
    if mutate {
        return mutants::run(&chosen, &only);
    }
    let mut passed = true;
    for scenario in chosen {
        let arguments = format!("seeds={seeds} from={from}{}", if trace { " trace" } else { "" });
        let outcome = simulate(&Checkout::here(), scenario, FAST, &arguments)?;
        for line in outcome.text.lines().filter(|line| trace || is_summary(line)) {
            println!("{line}");
        }
        if !outcome.passed && !outcome.text.contains("violated") {
            println!("{}: no result: did {} run in {}?", scenario.name, scenario.test, scenario.package);
        }
        passed &= outcome.passed;
    }
    Ok(passed)
}

fn is_summary(line: &str) -> bool {
    ["simulated ", "is violated", "cargo xtask simulate", "error", "different trace"]
        .iter()
        .any(|part| line.contains(part))
}

fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// The profile for many seeds, and the one that builds fastest.
const FAST: &str = "simulation";
const QUICK_BUILD: &str = "dev";

/// Sources, and the directory that they are built in.
struct Checkout {
    sources: PathBuf,
    target: PathBuf,
}

impl Checkout {
    fn here() -> Checkout {
        Checkout { sources: root(), target: root().join("target") }
    }
}

/// Runs a scenario of these sources.
fn simulate(
    checkout: &Checkout,
    scenario: &Scenario,
    profile: &str,
    arguments: &str,
) -> Result<Outcome, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(&checkout.sources).env("POINTSMAN_SIMULATE", arguments).env("RUST_BACKTRACE", "0");
    command.env("CARGO_TARGET_DIR", &checkout.target);
    command.args(["test", "--quiet", "--profile", profile, "--package", scenario.package]);
    command.args(scenario.target).args(["--", scenario.test, "--exact", "--nocapture"]);
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("cargo cannot be started: {error}"))?;
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok(Outcome { passed: output.status.success() && text.contains("simulated "), text })
}

/// Returns the root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map_or_else(PathBuf::new, PathBuf::from)
}
