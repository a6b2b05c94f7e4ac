//! Real configurations, where they are at hand: a folder `shared/seed` beside the checkout.
//!
//! They are not ours to publish. Without the folder the test says so and passes.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use pointsman_conf::{Loader, Parsed, parse};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Reads files; the types file, which is not in the folder, is empty.
struct Disk;

impl Loader for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path.ends_with("mime.types") { Ok(Vec::new()) } else { fs::read(path) }
    }

    fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

fn seed(name: &str) -> Option<Parsed> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/seed");
    if !dir.is_dir() {
        eprintln!("skipped: there is no {}", dir.display());
        return None;
    }
    Some(parse(&dir.join(name), &Disk))
}

/// Line, column and help of each fault.
fn faults(parsed: &Parsed) -> Vec<(u32, u32, &str)> {
    let faults = parsed.diagnostics.iter().map(|diagnostic| {
        let (line, column) = parsed.sources.line_column(diagnostic.span.unwrap());
        (line, column, diagnostic.help.as_deref().unwrap_or_default())
    });
    faults.collect()
}

#[test]
fn the_corrected_files_have_no_fault() {
    for name in ["switch.conf", "merged.fixed.conf", "average.fixed.conf"] {
        let Some(parsed) = seed(name) else { return };
        assert_eq!(faults(&parsed), [], "{name}");
    }
}

#[test]
fn each_fault_is_located_at_its_cause() {
    let Some(average) = seed("average.fragment.conf") else { return };
    assert_eq!(
        faults(&average),
        [
            (1, 28, "add `;` at the end of line 1"),
            (5, 24, "write `http://mybackend`"),
            (5, 36, "add `;` at the end of line 5"),
            (17, 10, "add `;` at the end of line 17"),
            (30, 10, "add `;` at the end of line 30"),
        ]
    );
    let Some(merged) = seed("merged.conf") else { return };
    let line = fs::read_to_string(merged.sources.path(merged.sources.ids().next().unwrap())).unwrap();
    let line = line.lines().position(|line| line.contains("--")).unwrap() as u32 + 1;
    assert_eq!(faults(&merged), [(line, 36, "write `#` instead of `--`")]);
}
