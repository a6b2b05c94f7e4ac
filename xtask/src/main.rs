//! Repository chores: `cargo xtask VERB`. Each verb is one file; this one dispatches.

mod docs;
mod faults;
mod framing;
mod oracle;
mod programs;
mod tidy;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask VERB\n\
    \x20 oracle [--bless] [FILTER…]   run cases/ on real nginx; --bless writes its answers into the case files\n\
    \x20 tidy                         run the lints\n\
    \x20 docs [--check]               generate the reference pages of docs/ from the tables, or report stale ones\n\
    \x20 framing [OPTION…]            send hostile messages to pointsman, nginx and HAProxy; generates docs/framing.md\n\
    \x20 faults [--server nginx] [FILTER…]   break upstreams in every way, beside nginx; generates docs/fault-matrix.md\n\
    programs of their own, run with cargo:\n\
    \x20 bench [OPTION…]              CPU cost of a request, beside nginx and HAProxy in the same run (bench/peers)\n\
    \x20 counts [--bless]             instructions of the hot pieces, compared with bench/counts.json (bench/counts)\n\
    \x20 simulate [OPTION…]           deterministic simulation with many seeds; mutation tests of it (crates/sim)\n\
    \x20 soak [TEST…] [OPTION…]       load tests that switch, reload, upgrade and kill the server (soak)";

/// Verbs that are programs of their own, and their packages.
const PROGRAMS: [(&str, &str); 4] =
    [("bench", "bench-peers"), ("counts", "counts"), ("simulate", "pointsman-sim"), ("soak", "soak")];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((verb, rest)) = args.split_first() else { return usage() };
    match verb.as_str() {
        "oracle" => oracle::main(rest),
        "tidy" => tidy::main(rest),
        "framing" => framing::main(rest),
        "faults" => faults::main(rest),
        "docs" => docs::main(rest),
        verb => match PROGRAMS.iter().find(|(name, _)| *name == verb) {
            Some((_, package)) => run_program(package, rest),
            None => usage(),
        },
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn run_program(package: &str, args: &[String]) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["run", "--quiet", "--package", package, "--"]).args(args).status();
    match status {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("cargo cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the repository's root.
fn root() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().map_or(own.clone(), PathBuf::from)
}
