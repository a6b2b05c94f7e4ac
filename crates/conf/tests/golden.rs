//! Golden files: every `golden/NAME.case` must give `golden/NAME.out`.
//!
//! A case is one or more files, each under a line `=== PATH`; the first is the main one. The output is the tree as
//! read, then each diagnostic as people see it and as tools see it. `BLESS=1 cargo test -p pointsman-conf --test
//! golden` rewrites the outputs; read the difference before committing it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use conf::{Body, Directive, Loader};
use pointsman_conf as conf;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Files in memory; a pattern may end with one `*`.
struct Files(BTreeMap<PathBuf, Vec<u8>>);

impl Loader for Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::Error::from_raw_os_error(2))
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let pattern =
            pattern.to_str().unwrap().strip_suffix("*.conf").expect("the cases use no other pattern");
        Ok(self.0.keys().filter(|path| path.to_str().unwrap().starts_with(pattern)).cloned().collect())
    }
}

fn files(case: &[u8]) -> (PathBuf, Files) {
    let mut files = BTreeMap::new();
    let mut main = None;
    let mut path = PathBuf::new();
    for line in case.split_inclusive(|byte| *byte == b'\n') {
        if let Some(name) = line.strip_prefix(b"=== ") {
            path = PathBuf::from(String::from_utf8(name.to_vec()).unwrap().trim_end());
            main.get_or_insert(path.clone());
        } else {
            files.entry(path.clone()).or_insert_with(Vec::new).extend_from_slice(line);
        }
    }
    (main.expect("a case begins with ==="), Files(files))
}

fn show(directives: &[Directive], depth: usize, out: &mut String) {
    for directive in directives {
        let words = std::iter::once(&directive.name).chain(&directive.args);
        let words: Vec<String> = words.map(|word| format!("{:?}", word.value)).collect();
        let end = match &directive.body {
            Body::None => ";".to_owned(),
            Body::Block(_) => " {".to_owned(),
            Body::Lua(lua) => format!(" lua@{} {:?}", lua.line, lua.code),
        };
        writeln!(out, "{}{}{end}", "  ".repeat(depth), words.join(" ")).unwrap();
        show(directive.children(), depth + 1, out);
    }
}

fn output(case: &[u8]) -> String {
    let (main, files) = files(case);
    let parsed = conf::parse(&main, &files);
    let mut out = String::new();
    show(&parsed.tree.directives, 0, &mut out);
    for diagnostic in &parsed.diagnostics {
        let line = diagnostic.nginx_line(&parsed.sources);
        write!(
            out,
            "\n{}[{}] {line}\n",
            diagnostic.render(&parsed.sources, false),
            diagnostic.severity.name()
        )
        .unwrap();
    }
    out
}

#[test]
fn every_case_matches_its_golden_file() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bless = std::env::var_os("BLESS").is_some();
    let mut cases: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|end| end == "case"));
    cases.sort();
    assert!(cases.len() >= 10);
    let mut wrong = Vec::new();
    for case in cases {
        let got = output(&fs::read(&case).unwrap());
        let golden = case.with_extension("out");
        if bless {
            fs::write(&golden, got).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != got {
            wrong.push(format!("{}:\n{got}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "these differ from their golden files:\n{}", wrong.join("\n"));
}
