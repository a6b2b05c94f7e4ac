//! The fault matrix: every way in which an upstream breaks, at every stage, for every kind of client, one test each; and
//! that `docs/fault-matrix.md` says what came of them.
//!
//! `cargo test -p pointsman --test faults -- [--exact] [--list] [FILTER…]`
//!
//! nextest runs each test in a process of its own. A server for each cell would take longer than all cells on one, so
//! that to nextest they are one test, [`MATRIX`], and the answers that end after each byte another.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use testkit::faults::{Cell, EachByte, Seen, cells, difference, run, run_each_byte};
use testkit::{Binary, Kind};

/// All cells, for nextest.
const MATRIX: &str = "matrix";
/// All answers that end after each byte, for nextest.
const EACH_BYTE: &str = "each-byte";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let exact = args.iter().any(|arg| arg == "--exact");
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: String| {
        filters.is_empty() || filters.iter().any(|f| if exact { name == **f } else { name.contains(*f) })
    };
    // `--list --format terse` is how nextest asks for the list.
    if std::env::var_os("NEXTEST").is_some() || args.iter().any(|arg| arg == "terse") {
        return for_nextest(&args, &filters);
    }
    let chosen: Vec<Cell> = cells().into_iter().filter(|cell| wanted(cell.name())).collect();
    let each: Vec<EachByte> = EachByte::all().into_iter().filter(|way| wanted(way.name())).collect();
    if args.iter().any(|arg| arg == "--list") {
        for cell in &chosen {
            println!("{}: test", cell.name());
        }
        for way in &each {
            println!("{}: test", way.name());
        }
        return ExitCode::SUCCESS;
    }
    run_chosen(&chosen, &each, filters.is_empty())
}

/// Lists or runs the two tests that nextest sees.
fn for_nextest(args: &[String], filters: &[&String]) -> ExitCode {
    if args.iter().any(|arg| arg == "--list") {
        if !args.iter().any(|arg| arg == "--ignored") {
            println!("{MATRIX}: test\n{EACH_BYTE}: test");
        }
        return ExitCode::SUCCESS;
    }
    let is_wanted = |name| filters.iter().any(|filter| *filter == name);
    let chosen = if is_wanted(MATRIX) { cells() } else { Vec::new() };
    let each = if is_wanted(EACH_BYTE) { EachByte::all() } else { Vec::new() };
    run_chosen(&chosen, &each, true)
}

fn run_chosen(chosen: &[Cell], each: &[EachByte], whole: bool) -> ExitCode {
    let count = chosen.len() + each.len();
    println!("\nrunning {count} tests");
    match all(chosen, whole).and_then(|failed| Ok(failed + each_byte(each)?)) {
        Ok(failed) => {
            let verdict = if failed == 0 { "ok" } else { "FAILED" };
            println!("\ntest result: {verdict}. {} passed; {failed} failed\n", count - failed);
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
        }
        Err(fault) => {
            println!("{fault}\n\ntest result: FAILED\n");
            ExitCode::from(101)
        }
    }
}

/// Runs cells and, when it was all of them, compares the page. What fails is run once more by itself: the waits of a
/// cell are short, and a machine can be busy. Answers how many failed.
fn all(chosen: &[Cell], whole: bool) -> Result<usize, String> {
    if chosen.is_empty() {
        return Ok(0);
    }
    let binary = binary();
    let mut seen = run(chosen, &binary, None, &|seen| tell(seen, false))?;
    let again: Vec<Cell> = seen.iter().filter(|s| !s.faults.is_empty()).map(|s| s.cell).collect();
    // So many are no accident.
    if !again.is_empty() && again.len() <= 12 {
        for second in run(&again, &binary, Some(1), &|seen| tell(seen, true))? {
            seen.retain(|first| first.cell != second.cell);
            seen.push(second);
        }
        seen.sort_by_key(|seen| seen.cell.number);
    }
    let failed = seen.iter().filter(|seen| !seen.faults.is_empty()).count();
    if whole && failed == 0 {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/fault-matrix.md");
        let text = std::fs::read_to_string(&page).map_err(|e| format!("{}: {e}", page.display()))?;
        if let Some((old, new)) = difference(&text, &seen) {
            return Err(format!(
                "docs/fault-matrix.md is stale (cargo xtask faults):\n  it says {old}\n  it was  {new}"
            ));
        }
    }
    Ok(failed)
}

fn binary() -> Binary {
    Binary { path: PathBuf::from(env!("CARGO_BIN_EXE_pointsman")), kind: Kind::Pointsman }
}

/// Runs the answers that end after each byte. Answers how many failed.
fn each_byte(each: &[EachByte]) -> Result<usize, String> {
    if each.is_empty() {
        return Ok(0);
    }
    let mut failed = 0;
    for (way, faults) in run_each_byte(&binary())?.into_iter().filter(|(way, _)| each.contains(way)) {
        failed += usize::from(!faults.is_empty());
        match faults.is_empty() {
            true => println!("test {} ... ok", way.name()),
            false => println!("test {} ... FAILED\n  {}", way.name(), faults.join("\n  ")),
        }
    }
    Ok(failed)
}

fn tell(seen: &Seen, again: bool) {
    let name = seen.cell.name();
    let which = if again { " (second run)" } else { "" };
    match seen.faults.is_empty() {
        true => println!("test {name} ... ok{which}"),
        false => println!("test {name} ... FAILED{which}\n  {}", seen.faults.join("\n  ")),
    }
}
