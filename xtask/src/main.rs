//! Repository chores: `cargo xtask VERB`. One verb is one file; this one only finds it.

mod bench;
mod counts;
mod docs;
mod faults;
mod framing;
mod oracle;
mod server;
mod simulate;
mod soak;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask VERB\n\
    \x20 oracle [--bless] [FILTER…]   run cases/ on real nginx; --bless writes its answers into the case files\n\
    \x20 tidy                         check the laws of the house\n\
    \x20 docs [--check]               make the reference pages of docs/ from the tables, or tell whether they are stale\n\
    \x20 bench [OPTION…]              what a request costs, beside nginx and HAProxy in the same run\n\
    \x20 framing [OPTION…]            hostile messages put to pointsman, nginx and HAProxy; docs/framing.md is made of them\n\
    \x20 counts [--bless]             instructions of the hot pieces, compared with bench/counts.json\n\
    \x20 faults [--server nginx] [FILTER…]   what comes of upstreams that break, beside nginx; writes docs/fault-matrix.md\n\
    \x20 simulate [OPTION…]           worlds made of one number each, with faults; builds broken on purpose (--mutants)\n\
    \x20 soak [PART…] [OPTION…]       a million requests with switches under way; bodies of 2 GiB past slow peers";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((verb, rest)) if verb == "oracle" => oracle::main(rest),
        Some((verb, rest)) if verb == "tidy" => tidy::main(rest),
        Some((verb, rest)) if verb == "simulate" => simulate::main(rest),
        Some((verb, rest)) if verb == "soak" => soak::main(rest),
        Some((verb, rest)) if verb == "bench" => bench::main(rest),
        Some((verb, rest)) if verb == "framing" => framing::main(rest),
        Some((verb, rest)) if verb == "counts" => counts::main(rest),
        Some((verb, rest)) if verb == "faults" => faults::main(rest),
        Some((verb, rest)) if verb == "docs" => docs::main(rest),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// The repository's root.
fn root() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().map_or(own.clone(), PathBuf::from)
}
