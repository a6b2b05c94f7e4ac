//! `cargo xtask counts`: instructions of the hot pieces (`benches/`), compared with those in `bench/counts.json`.
//!
//! Instructions under callgrind hardly depend on the load of a machine, so a change comes from the code or the compiler.
//! One beyond 3 % is reported in either direction and fails nothing, since it may be intended: `--bless` writes the new
//! counts. Without valgrind or gungraun's runner it says so and skips.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::{Value, json};

const USAGE: &str = "usage: cargo xtask counts [--bless]";
/// The smallest change that is reported, as a share of the count before.
const REPORTED: f64 = 0.03;

/// Instructions by piece: `engine/log_line/access`.
type Counts = BTreeMap<String, u64>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let bless = match args.as_slice() {
        [] => false,
        [only] if only == "--bless" => true,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Some(reason) = cannot_run() {
        println!("skipped: counts: {reason}");
        return ExitCode::SUCCESS;
    }
    match run(bless) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("counts: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(bless: bool) -> Result<(), String> {
    let path = root().join("bench/counts.json");
    let counts = count()?;
    let compiler = first_line(Command::new("rustc").arg("-V")).unwrap_or_default();
    if bless {
        let text = serde_json::to_string_pretty(&json!({ "compiler": compiler, "instructions": counts }));
        let text = text.map_err(|e| e.to_string())? + "\n";
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("{} pieces written to {}", counts.len(), path.display());
        return Ok(());
    }
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let baseline: Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let known: Counts = serde_json::from_value(baseline["instructions"].clone())
        .map_err(|e| format!("{}: {e}", path.display()))?;
    if baseline["compiler"] != json!(compiler) {
        println!("the baseline was counted with {}; this is {compiler}", baseline["compiler"]);
    }
    for line in differences(&known, &counts) {
        println!("{line}");
    }
    println!("{} pieces counted; changes beyond {:.0} % are listed above", counts.len(), REPORTED * 100.0);
    Ok(())
}

/// Returns the reason why it cannot run here, if there is one.
fn cannot_run() -> Option<String> {
    if first_line(Command::new("valgrind").arg("--version")).is_none() {
        return Some("valgrind is not installed".to_owned());
    }
    let wanted = library_version().unwrap_or_default();
    let found = first_line(Command::new("gungraun-runner").arg("--version")).unwrap_or_default();
    if !found.ends_with(&format!(" {wanted}")) {
        return Some(format!(
            "gungraun-runner {wanted} is not installed: cargo install --locked gungraun-runner --version {wanted}"
        ));
    }
    None
}

/// Returns the version of gungraun in `Cargo.lock`, which the runner must have too.
fn library_version() -> Option<String> {
    let text = std::fs::read_to_string(root().join("Cargo.lock")).ok()?;
    let after = text.split("name = \"gungraun\"\nversion = \"").nth(1)?;
    after.split('"').next().map(str::to_owned)
}

/// Returns the first line of a program's output, if the program exists and succeeds.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

/// Runs all benches.
fn count() -> Result<Counts, String> {
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut command = Command::new(cargo);
    command.current_dir(root());
    command.args(["bench", "--quiet", "--locked", "--package", "counts", "--benches", "--"]);
    command.arg("--output-format=json");
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("cargo: {e}"))?;
    if !output.status.success() {
        return Err(format!("cargo bench ended with {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let counts: Counts =
        text.lines().filter(|line| line.starts_with('{')).map(read).collect::<Result<_, _>>()?;
    match counts.is_empty() {
        true => Err("the benches reported no counts".to_owned()),
        false => Ok(counts),
    }
}

/// Reads one line of gungraun's output: a piece and its count.
fn read(line: &str) -> Result<(String, u64), String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
    let word = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let file = word("module_path").split("::").next().unwrap_or_default().to_owned();
    let count = value["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]["new"].as_u64();
    let count = count.ok_or_else(|| format!("no instructions in {line}"))?;
    Ok((format!("{file}/{}/{}", word("function_name"), word("id")), count))
}

/// Lists pieces that changed by more than [`REPORTED`], new ones and missing ones.
fn differences(known: &Counts, counts: &Counts) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, count) in counts {
        let Some(before) = known.get(name) else {
            lines.push(format!("NEW {name}: {count} instructions; add it with --bless"));
            continue;
        };
        let change = (*count as f64 - *before as f64) / (*before as f64).max(1.0);
        if change.abs() > REPORTED {
            let word = if change > 0.0 { "SLOWER" } else { "FASTER" };
            let percent = change * 100.0;
            lines.push(format!("{word} {name}: {before} instructions are now {count} ({percent:+.1} %)"));
        }
    }
    let gone = known.keys().filter(|name| !counts.contains_key(*name));
    lines.extend(gone.map(|name| format!("GONE {name}: remove it with --bless")));
    lines
}

/// Returns the repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map_or_else(PathBuf::new, PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(list: &[(&str, u64)]) -> Counts {
        list.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn changes_beyond_three_percent_are_listed() {
        let known = counts(&[("a", 1_000), ("b", 1_000), ("c", 1_000), ("d", 1_000), ("e", 1)]);
        let now = counts(&[("a", 1_030), ("b", 1_031), ("c", 970), ("d", 900), ("f", 5)]);
        let lines = differences(&known, &now);
        assert_eq!(
            lines,
            [
                "SLOWER b: 1000 instructions are now 1031 (+3.1 %)",
                "FASTER d: 1000 instructions are now 900 (-10.0 %)",
                "NEW f: 5 instructions; add it with --bless",
                "GONE e: remove it with --bless",
            ]
        );
    }

    #[test]
    fn runner_output_is_read() {
        let line = r#"{"module_path":"engine::requests::find","function_name":"find","id":"exact",
            "profiles":[{"data":{"total":{"metrics":{"Ir":{"values":{"new":541,"old":540}}}}}}]}"#;
        assert_eq!(read(line), Ok(("engine/find/exact".to_owned(), 541)));
        assert!(read("{}").is_err());
    }

    #[test]
    fn lock_file_has_the_library_version() {
        let version = library_version().expect("the lock file has it");
        assert_eq!(version.split('.').count(), 3, "{version}");
    }
}
