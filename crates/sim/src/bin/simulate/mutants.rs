//! Mutation tests of the simulation: each entry of `crates/sim/mutants.txt` changes a few lines of the product in a copy
//! of the sources, and the scenario that it names must notice.
//!
//! Lines are matched without their indentation. An entry whose lines are not in the sources any more is stale: it is
//! reported, and fails the test below.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Checkout, QUICK_BUILD, SCENARIOS, Scenario, find, root, simulate};

/// The most seeds that it takes to notice a mutant, and the longest time in seconds.
const SEEDS: u64 = 20_000;
const LIMIT_S: u64 = 300;

/// A way to break the product.
struct Mutant {
    title: String,
    scenario: String,
    /// The invariants of which one must be violated.
    invariants: Vec<String>,
    file: PathBuf,
    /// The first seed: 1, or a seed that notices it, if it takes long to find another.
    from: u64,
    before: Vec<String>,
    after: Vec<String>,
}

impl Mutant {
    /// Returns the beginning of its row in the table.
    fn row(&self) -> String {
        format!("| {} | {} | `{}` | ", self.scenario, self.title, self.file.display())
    }

    /// Returns true if it is chosen. `known` is the table so far.
    fn is_chosen(&self, only: &[String], known: &str) -> bool {
        let has = |text: &str| {
            let own = self.title.contains(text) || self.file.to_string_lossy().contains(text);
            own || self.invariants.iter().any(|one| one == text)
        };
        let is_new = !known.contains(&format!("{}seed ", self.row()));
        only.is_empty() || only.iter().any(|text| has(text) || (text == "new" && is_new))
    }

    /// Returns the mutated text of its file.
    fn apply(&self, sources: &Path) -> Result<String, String> {
        let path = sources.join(&self.file);
        let stale = |why: String| format!("{}: {}: stale: {why}", self.scenario, self.title);
        let text = fs::read_to_string(&path).map_err(|e| stale(format!("{}: {e}", self.file.display())))?;
        let lines: Vec<&str> = text.lines().collect();
        let matches = |at: &usize| {
            let found = lines[*at..].iter().take(self.before.len());
            found.map(|line| line.trim()).eq(self.before.iter().map(|line| line.trim()))
        };
        let places: Vec<usize> = (0..lines.len()).filter(matches).collect();
        let [at] = places[..] else {
            let count = places.len();
            let before = self.before.join("\n");
            return Err(stale(format!("{count} times in {}, not once:\n{before}", self.file.display())));
        };
        let after = self.after.iter().map(String::as_str);
        let rest = lines[at + self.before.len()..].iter().copied();
        let mutated: Vec<&str> = lines[..at].iter().copied().chain(after).chain(rest).collect();
        Ok(mutated.join("\n") + "\n")
    }
}

/// Invariants of a scenario that have no mutant there: the code that checks them is that of another scenario.
struct Covered {
    scenario: String,
    by: String,
    invariants: Vec<String>,
}

/// What `crates/sim/mutants.txt` says.
struct Listed {
    mutants: Vec<Mutant>,
    covered: Vec<Covered>,
}

/// The table of results.
struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    fn read() -> Page {
        let path = root().join("crates/sim/mutants.md");
        // Without one, all mutants are new.
        let text = fs::read_to_string(&path).unwrap_or_default();
        Page { path, text }
    }

    /// Adds the result of a mutant.
    fn add(&mut self, listed: &Listed, mutant: &Mutant, noticed: Option<&Noticed>) -> Result<(), String> {
        self.text = render(listed, &self.text, &format!("{}{} |", mutant.row(), describe(noticed)));
        fs::write(&self.path, &self.text).map_err(|error| format!("{}: {error}", self.path.display()))
    }

    /// Returns true if an invariant of a scenario has noticed a mutant, there or in the scenario that covers it.
    fn has_noticed(&self, listed: &Listed, scenario: &Scenario, invariant: &str) -> bool {
        let covers =
            |one: &&Covered| one.scenario == scenario.name && one.invariants.iter().any(|it| it == invariant);
        let by = listed.covered.iter().filter(covers).map(|one| one.by.as_str());
        let noticed = format!(" violates {invariant} |");
        by.chain([scenario.name]).any(|name| {
            let own = format!("| {name} |");
            self.text.lines().any(|line| line.starts_with(&own) && line.ends_with(&noticed))
        })
    }
}

/// The seed and the invariant that noticed a mutant.
type Noticed = (u64, String);

/// Runs the mutants of these scenarios and writes the results. Returns true if all were noticed, and every invariant has
/// noticed one. Stale mutants are reported first; the others are run.
pub(super) fn run(scenarios: &[&Scenario], only: &[String]) -> Result<bool, String> {
    let listed = load()?;
    // It is kept: the next run builds only what changed.
    let folder = root().join("target/mutants");
    let copy = Checkout { sources: folder.join("sources"), target: folder.join("target") };
    copy_sources(&copy)?;
    let mut page = Page::read();
    let known = page.text.clone();
    let is_ours = |mutant: &&Mutant| {
        scenarios.iter().any(|scenario| scenario.name == mutant.scenario) && mutant.is_chosen(only, &known)
    };
    let (fresh, stale): (Vec<&Mutant>, Vec<&Mutant>) =
        listed.mutants.iter().filter(is_ours).partition(|mutant| mutant.apply(&copy.sources).is_ok());
    let mut passed = stale.is_empty();
    stale.iter().filter_map(|mutant| mutant.apply(&copy.sources).err()).for_each(|why| println!("{why}"));
    for scenario in scenarios {
        let unbroken = simulate(&copy, scenario, QUICK_BUILD, "seeds=10")?;
        if !unbroken.passed {
            return Err(format!("{}: it fails without a mutant:\n{}", scenario.name, unbroken.text));
        }
        for mutant in fresh.iter().filter(|mutant| mutant.scenario == scenario.name) {
            let noticed = try_one(&copy, scenario, mutant)?;
            passed &= report(mutant, noticed.as_ref());
            page.add(&listed, mutant, noticed.as_ref())?;
        }
        let is_blind = |name: &&String| !page.has_noticed(&listed, scenario, name);
        for blind in unbroken.invariants().iter().filter(is_blind) {
            println!("{}: {blind} has noticed nothing", scenario.name);
            passed = false;
        }
    }
    Ok(passed)
}

/// Prints the result of a mutant; returns true if it is the expected one.
fn report(mutant: &Mutant, noticed: Option<&Noticed>) -> bool {
    println!("{}: {}: {}", mutant.scenario, mutant.title, describe(noticed));
    match noticed {
        Some((_, invariant)) if mutant.invariants.contains(invariant) => true,
        Some(_) => {
            println!("  expected one of {}", mutant.invariants.join(", "));
            false
        }
        None => false,
    }
}

fn describe(noticed: Option<&Noticed>) -> String {
    match noticed {
        Some((seed, invariant)) => format!("seed {seed} violates {invariant}"),
        None => "NOT NOTICED".to_owned(),
    }
}

fn try_one(copy: &Checkout, scenario: &Scenario, mutant: &Mutant) -> Result<Option<Noticed>, String> {
    let path = copy.sources.join(&mutant.file);
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let original = fs::read(&path).map_err(failed)?;
    fs::write(&path, mutant.apply(&copy.sources)?).map_err(failed)?;
    let arguments = format!("seeds={SEEDS} from={} limit_s={LIMIT_S}", mutant.from);
    let outcome = simulate(copy, scenario, QUICK_BUILD, &arguments);
    fs::write(&path, original).map_err(failed)?;
    let outcome = outcome?;
    let violation = outcome.violation();
    if violation.is_none() && !outcome.passed {
        return Err(format!("{}: it does not build, or fails otherwise:\n{}", mutant.title, outcome.text));
    }
    Ok(violation)
}

/// Copies all files that git knows or would add; those that are equal are left alone, so that they are not built again.
fn copy_sources(copy: &Checkout) -> Result<(), String> {
    let listed = Command::new("git")
        .current_dir(root())
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .map_err(|error| format!("git cannot be started: {error}"))?;
    for name in String::from_utf8_lossy(&listed.stdout).lines() {
        let (from, to) = (root().join(name), copy.sources.join(name));
        // A deleted file may still be in the index.
        let Ok(bytes) = fs::read(&from) else {
            let _ = fs::remove_file(&to);
            continue;
        };
        if fs::read(&to).is_ok_and(|known| known == bytes) {
            continue;
        }
        let made = to.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&to, bytes)).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

fn load() -> Result<Listed, String> {
    let path = root().join("crates/sim/mutants.txt");
    parse(&fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// Reads entries: `what:`, `scenario:`, `invariant:` and `file:` in a line each, and `from:` if the first seed is not 1;
/// then the lines to find after `-` and their replacement after `+`; or `covered:`, `scenario:` and `by:`. An empty line
/// ends an entry.
fn parse(text: &str) -> Result<Listed, String> {
    let mut listed = Listed { mutants: Vec::new(), covered: Vec::new() };
    let is_entry = |block: &&str| ["what: ", "covered: "].iter().any(|word| block.starts_with(word));
    for block in text.split("\n\n").filter(is_entry) {
        let word = |name: &str| {
            let found = block.lines().find_map(|line| line.strip_prefix(name));
            found.map(|rest| rest.trim().to_owned()).ok_or(format!("an entry has no {name}\n{block}"))
        };
        let words = |name: &str| -> Result<Vec<String>, String> {
            Ok(word(name)?.split(' ').map(str::to_owned).collect())
        };
        let scenario = word("scenario: ")?;
        if find(&scenario).is_none() {
            return Err(format!("there is no scenario {scenario}"));
        }
        if block.starts_with("covered: ") {
            listed.covered.push(Covered { scenario, by: word("by: ")?, invariants: words("covered: ")? });
            continue;
        }
        let lines = |sign: char| -> Vec<String> {
            let marked = block.lines().filter_map(|line| line.strip_prefix(sign));
            marked.map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned()).collect()
        };
        listed.mutants.push(Mutant {
            title: word("what: ")?,
            scenario,
            invariants: words("invariant: ")?,
            file: word("file: ")?.into(),
            from: word("from: ")
                .map_or(Ok(1), |text| text.parse().map_err(|_| format!("{text} is not a seed")))?,
            before: lines('-'),
            after: lines('+'),
        });
    }
    Ok(listed)
}

/// Returns the table with the rows of `known` and a new one, in the order of the mutants, and what is covered elsewhere.
fn render(listed: &Listed, known: &str, new: &str) -> String {
    let mut text = String::from(
        "# Mutants of the simulation\n\nMade by `cargo xtask simulate --mutants`: each row is a change of the product's code in `mutants.txt`, and the first\nseed that notices it. A mutant without a row has not been run.\n\n| scenario | change | file | noticed by |\n|---|---|---|---|\n",
    );
    for scenario in &SCENARIOS {
        for mutant in listed.mutants.iter().filter(|one| one.scenario == scenario.name) {
            let row = mutant.row();
            let mut lines = std::iter::once(new).chain(known.lines());
            if let Some(line) = lines.find(|line| line.starts_with(&row)) {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text.push_str("\nWhat a scenario checks because it shares the code of another one is covered by the mutants of that one.\n\n| scenario | invariant | mutants of |\n|---|---|---|\n");
    for one in &listed.covered {
        text.push_str(&format!("| {} | {} | {} |\n", one.scenario, one.invariants.join(", "), one.by));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mutant_is_stale() {
        let mutants = load().expect("the list can be read").mutants;
        let stale: Vec<String> = mutants.iter().filter_map(|mutant| mutant.apply(&root()).err()).collect();
        assert!(!mutants.is_empty() && stale.is_empty(), "crates/sim/mutants.txt:\n{}", stale.join("\n"));
    }
}
