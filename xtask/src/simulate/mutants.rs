//! Builds that are broken on purpose: each entry of `crates/sim/mutants.txt` changes a few lines of the product in a copy
//! of the sources, and the scenario it names must see it.
//!
//! Must never: touch the sources themselves.

use super::{SOON, find, simulate};
use crate::root;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many seeds a broken build has to be seen in.
const SEEDS: u64 = 20_000;

/// A way to break the product.
struct Mutant {
    /// What is broken.
    what: String,
    scenario: String,
    /// What must be violated: one of these.
    invariants: Vec<String>,
    file: PathBuf,
    before: String,
    after: String,
}

/// Runs the mutants of these scenarios, or of all; writes the table if all were seen. Says whether they were.
pub(super) fn run(names: &[String]) -> Result<bool, String> {
    let listed = root().join("crates/sim/mutants.txt");
    let text = fs::read_to_string(&listed).map_err(|error| format!("{}: {error}", listed.display()))?;
    let mutants = parse(&text)?;
    let copy = std::env::temp_dir().join(format!("pointsman-mutants-{}", std::process::id()));
    copy_sources(&copy)?;
    let mut rows = Vec::new();
    let mut well = true;
    for mutant in mutants.iter().filter(|one| names.is_empty() || names.contains(&one.scenario)) {
        let seen = try_one(&copy, mutant)?;
        let told = match &seen {
            Some((seed, invariant)) => format!("seed {seed} violates {invariant}"),
            None => "NOT SEEN".to_owned(),
        };
        println!("{}: {}: {told}", mutant.scenario, mutant.what);
        let expected = seen.as_ref().is_some_and(|(_, invariant)| mutant.invariants.contains(invariant));
        if seen.is_some() && !expected {
            println!("  expected one of {}", mutant.invariants.join(", "));
        }
        well &= expected;
        rows.push((mutant, told));
    }
    let _ = fs::remove_dir_all(&copy);
    if well && names.is_empty() {
        let table = root().join("crates/sim/mutants.md");
        fs::write(&table, render(&rows)).map_err(|error| format!("{}: {error}", table.display()))?;
    }
    Ok(well)
}

fn try_one(copy: &Path, mutant: &Mutant) -> Result<Option<(u64, String)>, String> {
    let path = copy.join(&mutant.file);
    let whole = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if whole.matches(&mutant.before).count() != 1 {
        return Err(format!("{}: this must stand there once:\n{}", mutant.file.display(), mutant.before));
    }
    let write = |text: &str| fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()));
    write(&whole.replacen(&mutant.before, &mutant.after, 1))?;
    let scenario = find(&mutant.scenario).ok_or(format!("there is no scenario {}", mutant.scenario))?;
    let ran = simulate(copy, scenario, SOON, &format!("seeds={SEEDS}"));
    write(&whole)?;
    let ran = ran?;
    let violation = ran.violation();
    if violation.is_none() && !ran.well {
        return Err(format!("{}: it cannot be built, or ends otherwise:\n{}", mutant.what, ran.text));
    }
    Ok(violation)
}

/// What git knows of, and what is new.
fn copy_sources(copy: &Path) -> Result<(), String> {
    let listed = Command::new("git")
        .current_dir(root())
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .map_err(|error| format!("git cannot be started: {error}"))?;
    for name in String::from_utf8_lossy(&listed.stdout).lines() {
        let (from, to) = (root().join(name), copy.join(name));
        // Deleted, and still in the index.
        if !from.is_file() {
            continue;
        }
        let made = to.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::copy(&from, &to).map(drop)).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// Entries: `what:`, `scenario:`, `invariant:` and `file:` in a line each, then the lines to be found after `- ` and
/// those to stand instead after `+ `. An empty line ends one.
fn parse(text: &str) -> Result<Vec<Mutant>, String> {
    let mut mutants = Vec::new();
    for block in text.split("\n\n").filter(|block| block.contains("what: ")) {
        let word = |name: &str| {
            let found = block.lines().find_map(|line| line.strip_prefix(name));
            found.map(|rest| rest.trim().to_owned()).ok_or(format!("an entry has no {name}\n{block}"))
        };
        let lines = |sign: char| {
            let marked = block.lines().filter_map(|line| line.strip_prefix(sign));
            marked.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
        };
        mutants.push(Mutant {
            what: word("what: ")?,
            scenario: word("scenario: ")?,
            invariants: word("invariant: ")?.split(' ').map(str::to_owned).collect(),
            file: word("file: ")?.into(),
            before: lines('-'),
            after: lines('+'),
        });
    }
    Ok(mutants)
}

fn render(rows: &[(&Mutant, String)]) -> String {
    let mut text = String::from(
        "# Broken on purpose\n\nMade by `cargo xtask simulate --mutants`: each line is a change of the product's own code in `mutants.txt`, and\nthe first seed that shows it.\n\n| scenario | what is broken | file | seen by |\n|---|---|---|---|\n",
    );
    for (mutant, told) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | `{}` | {told} |",
            mutant.scenario,
            mutant.what,
            mutant.file.display()
        );
    }
    text
}
