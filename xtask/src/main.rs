//! Repository chores: `cargo xtask VERB`. One verb is one file; this one only finds it.

mod oracle;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask VERB\n\
    \x20 oracle [--bless] [FILTER…]   run cases/ on real nginx; --bless writes its answers into the case files";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((verb, rest)) if verb == "oracle" => oracle::main(rest),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
