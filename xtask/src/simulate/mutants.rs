//! Builds that are broken on purpose: each entry of `crates/sim/mutants.txt` changes a few lines of the product in a copy
//! of the sources, and the scenario it names must see it.
//!
//! Must never: touch the sources themselves.

use super::{Place, SCENARIOS, SOON, Scenario, find, simulate};
use crate::root;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// How many seeds a broken build has to be seen in, and how long it may take, in seconds.
const SEEDS: u64 = 20_000;
const LIMIT_S: u64 = 300;

/// A way to break the product.
struct Mutant {
    /// What is broken.
    what: String,
    scenario: String,
    /// What must be violated: one of these.
    invariants: Vec<String>,
    file: PathBuf,
    /// The first seed: 1, or the one that once showed it, where it takes long to come across another.
    from: u64,
    before: String,
    after: String,
}

impl Mutant {
    /// What stands for it in the table before what has seen it.
    fn row(&self) -> String {
        format!("| {} | {} | `{}` | ", self.scenario, self.what, self.file.display())
    }

    /// Is it among those that are asked for? `known` is the table as it stands.
    fn is_wanted(&self, only: &[String], known: &str) -> bool {
        let has = |text: &str| {
            let own = self.what.contains(text) || self.file.to_string_lossy().contains(text);
            own || self.invariants.iter().any(|one| one == text)
        };
        let is_new = !known.contains(&format!("{}seed ", self.row()));
        only.is_empty() || only.iter().any(|text| has(text) || (text == "new" && is_new))
    }
}

/// The table, and where it stands.
struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    fn read() -> Page {
        let path = root().join("crates/sim/mutants.md");
        // Without one, all are new.
        let text = fs::read_to_string(&path).unwrap_or_default();
        Page { path, text }
    }

    /// Notes what has come of a mutant, among what is known of the others.
    fn note(&mut self, mutants: &[Mutant], mutant: &Mutant, seen: Option<&Shown>) -> Result<(), String> {
        self.text = render(mutants, &self.text, &format!("{}{} |", mutant.row(), told(seen)));
        fs::write(&self.path, &self.text).map_err(|error| format!("{}: {error}", self.path.display()))
    }

    /// Has an invariant of this scenario seen a mutant?
    fn has_seen(&self, scenario: &Scenario, invariant: &str) -> bool {
        let (own, seen) = (format!("| {} |", scenario.name), format!(" violates {invariant} |"));
        self.text.lines().any(|line| line.starts_with(&own) && line.ends_with(&seen))
    }
}

/// The seed and the invariant that have shown a broken build.
type Shown = (u64, String);

/// Runs the mutants of these scenarios, or of all, and notes in the table what has seen them. Says whether all were seen,
/// and whether each invariant has seen one.
pub(super) fn run(names: &[String], only: &[String]) -> Result<bool, String> {
    let listed = root().join("crates/sim/mutants.txt");
    let text = fs::read_to_string(&listed).map_err(|error| format!("{}: {error}", listed.display()))?;
    let mutants = parse(&text)?;
    // It stays: what the next run finds there need not be built again.
    let folder = root().join("target/mutants");
    let copy = Place { sources: folder.join("sources"), target: folder.join("target") };
    copy_sources(&copy)?;
    let mut page = Page::read();
    let known = page.text.clone();
    let mut well = true;
    let wanted = |name: &str| names.is_empty() || names.iter().any(|one| one == name);
    for scenario in SCENARIOS.iter().filter(|one| wanted(one.name)) {
        let whole = simulate(&copy, scenario, SOON, "seeds=10")?;
        if !whole.well {
            return Err(format!("{}: it fails before anything is broken:\n{}", scenario.name, whole.text));
        }
        let own = mutants.iter().filter(|one| one.scenario == scenario.name);
        for mutant in own.filter(|one| one.is_wanted(only, &known)) {
            let seen = try_one(&copy, scenario, mutant)?;
            well &= tell(mutant, seen.as_ref());
            page.note(&mutants, mutant, seen.as_ref())?;
        }
        for blind in whole.invariants().iter().filter(|name| !page.has_seen(scenario, name)) {
            println!("{}: {blind} has seen nothing", scenario.name);
            well = false;
        }
    }
    Ok(well)
}

/// Says what came of a broken build, and whether that is what its entry says.
fn tell(mutant: &Mutant, seen: Option<&Shown>) -> bool {
    println!("{}: {}: {}", mutant.scenario, mutant.what, told(seen));
    match seen {
        Some((_, invariant)) if mutant.invariants.contains(invariant) => true,
        Some(_) => {
            println!("  expected one of {}", mutant.invariants.join(", "));
            false
        }
        None => false,
    }
}

fn told(seen: Option<&Shown>) -> String {
    match seen {
        Some((seed, invariant)) => format!("seed {seed} violates {invariant}"),
        None => "NOT SEEN".to_owned(),
    }
}

fn try_one(copy: &Place, scenario: &Scenario, mutant: &Mutant) -> Result<Option<Shown>, String> {
    let path = copy.sources.join(&mutant.file);
    let whole = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if whole.matches(&mutant.before).count() != 1 {
        return Err(format!("{}: this must stand there once:\n{}", mutant.file.display(), mutant.before));
    }
    let write = |text: &str| fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()));
    write(&whole.replacen(&mutant.before, &mutant.after, 1))?;
    let ran =
        simulate(copy, scenario, SOON, &format!("seeds={SEEDS} from={} limit_s={LIMIT_S}", mutant.from));
    write(&whole)?;
    let ran = ran?;
    let violation = ran.violation();
    if violation.is_none() && !ran.well {
        return Err(format!("{}: it cannot be built, or ends otherwise:\n{}", mutant.what, ran.text));
    }
    Ok(violation)
}

/// What git knows of, and what is new; what is the same already is left alone, so that it is not built again.
fn copy_sources(copy: &Place) -> Result<(), String> {
    let listed = Command::new("git")
        .current_dir(root())
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .map_err(|error| format!("git cannot be started: {error}"))?;
    for name in String::from_utf8_lossy(&listed.stdout).lines() {
        let (from, to) = (root().join(name), copy.sources.join(name));
        // Deleted, and still in the index.
        let Ok(bytes) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|known| known == bytes) {
            continue;
        }
        let made = to.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&to, bytes)).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// Entries: `what:`, `scenario:`, `invariant:` and `file:` in a line each, and `from:` if the first seed is not 1; then
/// the lines to be found after `- ` and those to stand instead after `+ `. An empty line ends one.
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
        let mutant = Mutant {
            what: word("what: ")?,
            scenario: word("scenario: ")?,
            invariants: word("invariant: ")?.split(' ').map(str::to_owned).collect(),
            file: word("file: ")?.into(),
            from: word("from: ")
                .map_or(Ok(1), |text| text.parse().map_err(|_| format!("{text} is no seed")))?,
            before: lines('-'),
            after: lines('+'),
        };
        if find(&mutant.scenario).is_none() {
            return Err(format!("there is no scenario {}", mutant.scenario));
        }
        mutants.push(mutant);
    }
    Ok(mutants)
}

/// The table: a row for each mutant that there is a row of, the new one and those of `known`.
fn render(mutants: &[Mutant], known: &str, new: &str) -> String {
    let mut text = String::from(
        "# Broken on purpose\n\nMade by `cargo xtask simulate --mutants`: each line is a change of the product's own code in `mutants.txt`, and\nthe first seed that shows it. One that is listed there and has no line here has not been run.\n\n| scenario | what is broken | file | seen by |\n|---|---|---|---|\n",
    );
    for scenario in &SCENARIOS {
        for mutant in mutants.iter().filter(|one| one.scenario == scenario.name) {
            let row = mutant.row();
            let mut lines = std::iter::once(new).chain(known.lines());
            if let Some(line) = lines.find(|line| line.starts_with(&row)) {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}
