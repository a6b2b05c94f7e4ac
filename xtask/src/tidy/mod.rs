//! `cargo xtask tidy`: the lints as one failing test.
//!
//! This file gathers the tracked files, runs every check and takes away what `tidy-exceptions.txt` excuses. A check
//! looks at text and answers with findings; it opens nothing itself and never changes anything.

mod circles;
mod danger;
mod exceptions;
mod floors;
mod licences;
mod names;
mod promises;
mod prose;
mod rust;
mod shape;
mod type_names;
mod walks;
mod words;

use std::path::Path;
use std::process::{Command, ExitCode};

use rust::RustFile;

/// One place where a lint is broken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, from the repository's root.
    pub(crate) path: String,
    /// The line, from 1; 0 if the whole file is meant.
    pub(crate) line: usize,
    /// Which lint: the first column of `tidy-exceptions.txt`.
    pub(crate) lint: &'static str,
    /// The subject: a function's or a type's name, or the word; the third column there.
    pub(crate) subject: String,
    /// The fault, and what would be right.
    pub(crate) text: String,
}

impl Finding {
    fn new(path: &str, line: usize, lint: &'static str, subject: &str, text: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, lint, subject: subject.to_owned(), text: text.into() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}: {}: {}", self.path, self.line, self.lint, self.subject, self.text)
    }
}

/// Runs the verb.
pub(crate) fn main(args: &[String]) -> ExitCode {
    if !args.is_empty() {
        eprintln!("usage: cargo xtask tidy");
        return ExitCode::from(2);
    }
    match findings(&crate::root()) {
        Err(error) => {
            eprintln!("tidy: {error}");
            ExitCode::FAILURE
        }
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            for finding in &findings {
                println!("{finding}");
            }
            let (count, list) = (findings.len(), exceptions::FILE);
            println!("{count} findings; an exception is a line of xtask/{list} with its reason");
            ExitCode::FAILURE
        }
    }
}

/// Returns every violation in the repository that is not excepted.
fn findings(root: &Path) -> Result<Vec<Finding>, String> {
    let files = tracked_files(root)?;
    let mut found = Vec::new();
    let mut rust_files = Vec::new();
    for (path, text) in &files {
        words::check(path, text, &mut found);
        prose::check(path, text, &mut found);
        names::check_path(path, &mut found);
        if path.ends_with(".md") {
            words::check_links(path, text, &|target| root.join(target).exists(), &mut found);
        }
        if path.ends_with(".rs") {
            match RustFile::parse(path, text) {
                Ok(file) => rust_files.push(file),
                Err(error) => found.push(Finding::new(path, error.line, "parse", "", error.text)),
            }
        }
    }
    promises::check(&files, &mut found);
    walks::check(&files, &mut found);
    let paths: Vec<&str> = rust_files.iter().map(|file| file.path.as_str()).collect();
    names::check_module_files(&paths, &mut found);
    rust::mark_test_files(&mut rust_files);
    for file in &rust_files {
        shape::check(file, &mut found);
        names::check(file, &mut found);
        danger::check(file, &mut found);
        floors::check_purity(file, &mut found);
    }
    circles::check(&rust_files, &mut found);
    type_names::check(&rust_files, &mut found);
    let packages = floors::packages(&metadata(root, &["--no-deps"])?)?;
    floors::check(&packages, &mut found);
    let allowed = std::fs::read_to_string(root.join("deny.toml")).map_err(|e| format!("deny.toml: {e}"))?;
    licences::check(&metadata(root, &["--filter-platform", &host()?])?, &allowed, &mut found)?;

    let excuses = std::fs::read_to_string(root.join("xtask").join(exceptions::FILE)).unwrap_or_default();
    let mut found = exceptions::apply(&excuses, found);
    found.sort();
    Ok(found)
}

/// Returns the text files that git tracks or would track, and that are there.
fn tracked_files(root: &Path) -> Result<Vec<(String, String)>, String> {
    let listing = "ls-files --cached --others --exclude-standard -z";
    let listed = run(Command::new("git").arg("-C").arg(root).args(listing.split(' ')))?;
    let mut files = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        // A file deleted but not yet committed is listed still; what is not UTF-8 is no text of ours.
        if let Ok(bytes) = std::fs::read(root.join(path))
            && let Ok(text) = String::from_utf8(bytes)
        {
            files.push((path.to_owned(), text));
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn metadata(root: &Path, args: &[&str]) -> Result<serde_json::Value, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["metadata", "--format-version", "1", "--locked"]).args(args);
    serde_json::from_str(&run(&mut command)?).map_err(|e| format!("cargo metadata: {e}"))
}

/// Returns the machine's target triple: crates for other systems need not be there to be looked at.
fn host() -> Result<String, String> {
    let version = run(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc -vV names no host".to_owned())
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("{command:?}: {e}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        let findings = super::findings(&crate::root()).expect("the checks can run");
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}
