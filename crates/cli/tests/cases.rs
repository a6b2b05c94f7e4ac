//! Runs every file below `cases/`, and the seed configurations where they stand beside the checkout, on our own
//! binary, and prints as the usual test harness does.
//!
//! `cargo test -p pointsman --test cases -- [--exact] [--list] [--test-threads N] [FILTER…]`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use testkit::{Binary, Case, CaseOutcome, Failure, Kind, load_all, run_all, seed_cases, usual_threads};

/// The request of the command line.
struct Options {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    /// With `list`: only what does not apply here, by which nextest knows what to skip.
    ignored: bool,
    threads: usize,
}

fn main() -> ExitCode {
    let options = options(std::env::args().skip(1));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cases");
    let seed = root.join("../../shared/seed");
    let all = match &options.filters[..] {
        // One case by its name, as nextest asks for each of them: the other files need not be parsed for it.
        [name] if options.exact && root.join(format!("{name}.case")).is_file() => {
            Case::load(&root.join(format!("{name}.case"))).map(|case| vec![case])
        }
        _ => load_all(&root, &[]).and_then(|cases| Ok([cases, seed_cases(&seed)?].concat())),
    };
    let mut cases = match all {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let all = cases.len();
    cases.retain(|case| wanted(&options, &case.name));
    let binary = Binary { path: PathBuf::from(env!("CARGO_BIN_EXE_pointsman")), kind: Kind::Pointsman };
    if options.list {
        for case in &cases {
            if !options.ignored || case.skipped(&binary).is_some() {
                println!("{}: test", case.name);
            }
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", cases.len());
    let tally = run_all(&cases, &binary, options.threads, &tell);
    let verdict = if tally.failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out\n",
        tally.passed,
        tally.failed,
        tally.skipped,
        all - cases.len()
    );
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

fn tell(case: &Case, result: &Result<CaseOutcome, Failure>) {
    match result {
        Ok(CaseOutcome::Passed) => println!("test {} ... ok", case.name),
        Ok(CaseOutcome::Skipped(reason)) => println!("test {} ... ignored, {reason}", case.name),
        Err(failure) => println!("test {} ... FAILED\n  {failure}", case.name),
    }
}

/// Reads the arguments that cargo and its users pass to any test; flags of other harnesses are let be.
fn options(args: impl Iterator<Item = String>) -> Options {
    let mut options = Options {
        filters: Vec::new(),
        skips: Vec::new(),
        exact: false,
        list: false,
        ignored: false,
        threads: usual_threads(),
    };
    let mut args = args;
    while let Some(arg) = args.next() {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ => (arg, None),
        };
        match name.as_str() {
            "--exact" => options.exact = true,
            "--list" => options.list = true,
            "--ignored" => options.ignored = true,
            "--test-threads" => {
                let count = value.or_else(|| args.next()).and_then(|n| n.parse().ok());
                options.threads = count.unwrap_or(options.threads);
            }
            "--skip" => options.skips.extend(value.or_else(|| args.next())),
            "--format" | "--color" | "--logfile" | "-Z" => drop(value.or_else(|| args.next())),
            flag if flag.starts_with('-') => {}
            _ => options.filters.push(name),
        }
    }
    options
}

fn wanted(options: &Options, name: &str) -> bool {
    let hit = |f: &String| if options.exact { f == name } else { name.contains(f.as_str()) };
    (options.filters.is_empty() || options.filters.iter().any(hit)) && !options.skips.iter().any(hit)
}
