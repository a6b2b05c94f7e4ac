//! Finding case files and running many of them side by side.
//!
//! Owns the number of threads, and that results come out one at a time.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::case::Case;
use crate::failure::Failure;
use crate::process::Binary;
use crate::run::{CaseOutcome, run};

/// Counts of results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Cases that hold.
    pub passed: usize,
    /// Cases that do not hold.
    pub failed: usize,
    /// Cases that do not apply here.
    pub skipped: usize,
}

/// Loads every `.case` file below `root` whose name holds one of the filters, in the order of their names.
/// No filter means all. A file that cannot be read as a case is an error.
pub fn load_all(root: &Path, filters: &[String]) -> Result<Vec<Case>, String> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let case = Case::load(&file)?;
        if filters.is_empty() || filters.iter().any(|f| case.name.contains(f.as_str())) {
            cases.push(case);
        }
    }
    Ok(cases)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "case") {
            files.push(path);
        }
    }
    Ok(())
}

/// Runs cases on `threads` threads; calls `tell` with each result, never with two at once.
pub fn run_all(
    cases: &[Case],
    binary: &Binary,
    threads: usize,
    tell: &(dyn Fn(&Case, &Result<CaseOutcome, Failure>) + Sync),
) -> Tally {
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1).min(cases.len().max(1)) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = run(case, binary);
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    match &result {
                        Ok(CaseOutcome::Passed) => tally.passed += 1,
                        Ok(CaseOutcome::Skipped(_)) => tally.skipped += 1,
                        Err(_) => tally.failed += 1,
                    }
                    tell(case, &result);
                }
            });
        }
    });
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a number of threads that keeps a machine busy: cases mostly wait for processes to start and to end.
pub fn usual_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |n| n.get()) * 2
}
