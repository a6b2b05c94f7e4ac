//! `cargo xtask oracle [--bless] [FILTER…]`: every case must be true of real nginx with ngx_lua.
//!
//! It skips, by name, what this machine has not installed. With `--bless` it writes what nginx answers over what the
//! case files expect; the change is to be read before it is committed.

use std::path::Path;
use std::process::ExitCode;

use testkit::{
    Binary, Case, CaseOutcome, Failure, Kind, bless, load_all, run_all, seed_cases, usual_threads,
};

/// Runs the verb.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let blessing = args.iter().any(|a| a == "--bless");
    let filters: Vec<String> = args.iter().filter(|a| !a.starts_with("--")).cloned().collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases");
    let root = root.canonicalize().unwrap_or(root);
    let cases = load_all(&root, &filters).and_then(|mut cases| {
        let seed = seed_cases(&root.join("../../shared/seed"))?;
        let wanted = |case: &Case| filters.is_empty() || filters.iter().any(|f| case.name.contains(&**f));
        cases.extend(seed.into_iter().filter(|case| !blessing && wanted(case)));
        Ok(cases)
    });
    let cases = match cases {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let Some(path) = crate::programs::nginx() else {
        for case in &cases {
            println!("skipped {}: nginx is not installed (set NGINX to its path)", case.name);
        }
        println!("0 passed, 0 failed, {} skipped", cases.len());
        return if in_ci() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    };
    let binary = Binary { path, kind: Kind::Nginx };
    if blessing {
        return bless_all(&cases, &binary);
    }
    let lacks_module = |case: &Case| {
        case.skipped(&binary).is_some_and(|reason| matches!(&*reason, "needs lua" | "needs headers-more"))
    };
    if in_ci() && cases.iter().any(lacks_module) {
        eprintln!("ngx_lua or headers-more is not installed, and CI compares with them");
        return ExitCode::FAILURE;
    }
    let tally = run_all(&cases, &binary, usual_threads(), &tell);
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns whether this is CI, where a program to compare with must not be missing.
fn in_ci() -> bool {
    std::env::var("CI").as_deref() == Ok("true")
}

fn tell(case: &Case, result: &Result<CaseOutcome, Failure>) {
    match result {
        Ok(CaseOutcome::Passed) => {}
        Ok(CaseOutcome::Skipped(reason)) => println!("skipped {}: {reason}", case.name),
        Err(failure) => print!("FAILED {}\n  {failure}", case.name),
    }
}

fn bless_all(cases: &[Case], binary: &Binary) -> ExitCode {
    let mut failed = 0;
    for case in cases {
        match bless(case, binary) {
            Ok(false) => {}
            Ok(true) => println!("blessed {}", case.name),
            Err(failure) => {
                failed += 1;
                print!("FAILED {}\n  {failure}", case.name);
            }
        }
    }
    println!("{failed} of {} cannot be blessed", cases.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
