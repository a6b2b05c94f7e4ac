//! The floors of the crates: each uses crates on lower floors alone, and the lowest are pure.
//!
//! ARCHITECTURE.md shows the same table.

use serde_json::Value;

use super::Finding;
use super::rust::{RustFile, Token};

/// Every crate, with its floor.
const FLOORS: [(&str, u8); 18] = [
    ("conf", 0),
    ("http", 0),
    ("sorted", 0),
    ("upstream", 1),
    ("switch", 1),
    ("statistics", 1),
    ("cache", 1),
    ("engine", 2),
    ("lua", 3),
    ("acme", 4),
    ("transport", 4),
    ("process", 4),
    ("tls", 4),
    ("fleet", 5),
    ("prober", 5),
    ("control", 6),
    ("server", 7),
    ("cli", 8),
];
/// Crates for development: they may be used by tests alone, and use what they like.
const SIDE: [&str; 7] = ["bench-peers", "counts", "fuzz-targets", "sim", "soak", "testkit", "xtask"];
/// The highest floor that opens no socket and no file, starts no thread and reads no clock.
const PURE: u8 = 3;
/// Crates that exist to do what the pure floors must not. `libc` may stand there for its numbers: a call takes
/// `unsafe`, which those floors have not, but for Lua's.
const IMPURE: [&str; 7] = ["tokio", "mio", "nix", "socket2", "rustix", "async-io", "hyper"];
/// The paths by which it would be done with the standard library; `*` is any function.
const DEEDS: [(&[&str], &str); 13] = [
    (&["Instant", "now"], "reads a clock"),
    (&["SystemTime", "now"], "reads a clock"),
    (&["Zoned", "now"], "reads a clock"),
    (&["Timestamp", "now"], "reads a clock"),
    (&["thread", "spawn"], "starts a thread"),
    (&["fs", "*"], "opens files"),
    (&["File", "open"], "opens a file"),
    (&["File", "create"], "opens a file"),
    (&["TcpListener"], "opens a socket"),
    (&["TcpStream"], "opens a socket"),
    (&["UdpSocket"], "opens a socket"),
    (&["UnixStream"], "opens a socket"),
    (&["UnixListener"], "opens a socket"),
];

/// A crate of the workspace, as far as floors go.
#[derive(Debug)]
pub(super) struct Package {
    /// Without `pointsman-`; the program itself is `cli`.
    name: String,
    /// Its `Cargo.toml`, from the root.
    manifest: String,
    /// Its dependencies, and whether they are for tests only.
    uses: Vec<(String, bool)>,
}

/// Returns the workspace's crates from `cargo metadata`.
pub(super) fn packages(metadata: &Value) -> Result<Vec<Package>, String> {
    let text = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
    let root = text(metadata, "workspace_root").ok_or("cargo metadata names no workspace_root")?;
    let listed = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    let mut packages = Vec::new();
    for package in listed {
        let manifest = text(package, "manifest_path").unwrap_or_default();
        let uses = package["dependencies"].as_array().into_iter().flatten();
        packages.push(Package {
            name: short(&text(package, "name").unwrap_or_default()),
            manifest: manifest.strip_prefix(&format!("{root}/")).unwrap_or(&manifest).to_owned(),
            uses: uses
                .filter_map(|used| Some((short(&text(used, "name")?), used["kind"] == "dev")))
                .collect(),
        });
    }
    Ok(packages)
}

fn short(name: &str) -> String {
    match name.strip_prefix("pointsman-") {
        Some(rest) => rest.to_owned(),
        None if name == "pointsman" => "cli".to_owned(),
        None => name.to_owned(),
    }
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

/// Adds every dependency that does not point downwards.
pub(super) fn check(packages: &[Package], found: &mut Vec<Finding>) {
    for package in packages {
        let mut add =
            |used: &str, text: String| found.push(Finding::new(&package.manifest, 0, "floors", used, text));
        if SIDE.contains(&package.name.as_str()) {
            continue;
        }
        let Some(own) = floor(&package.name) else {
            add(&package.name, "has no floor: enter it in tidy's table and in ARCHITECTURE.md".to_owned());
            continue;
        };
        for (used, for_tests) in &package.uses {
            if SIDE.contains(&used.as_str()) && !for_tests {
                add(used, "is for tests only".to_owned());
            }
            if let Some(other) = floor(used)
                && other >= own
                && *used != package.name
            {
                add(used, format!("floor {other} is not below floor {own}"));
            }
            if own <= PURE && !for_tests && IMPURE.contains(&used.as_str()) {
                add(
                    used,
                    format!("floor {own} is pure: sockets, files, threads and clocks come as arguments"),
                );
            }
        }
    }
}

/// Adds what a file of the pure floors must not do.
pub(super) fn check_purity(file: &RustFile, found: &mut Vec<Finding>) {
    if !file.path.starts_with("crates/") || !file.path.contains("/src/") {
        return;
    }
    if floor(file.crate_name()).is_none_or(|floor| floor > PURE) {
        return;
    }
    for at in 0..file.tokens.len() {
        let line = file.tokens[at].line;
        for (path, deed) in DEEDS {
            if !file.in_test(line) && path_stands_at(file, at, path) {
                found.push(Finding::new(&file.path, line, "pure-floors", &path.join("::"), deed));
            }
        }
    }
}

fn path_stands_at(file: &RustFile, at: usize, path: &[&str]) -> bool {
    let token = |place: usize, fits: &dyn Fn(&Token) -> bool| file.tokens.get(place).is_some_and(fits);
    path.iter().enumerate().all(|(i, word)| {
        let place = at + i * 3;
        let colons = i == 0 || (1..=2).all(|back| token(place - back, &|t| t.is_mark(':')));
        colons
            && match *word {
                // A function is in lower case and called; `fs::File` is a type, and may be named.
                "*" => token(place, &Token::is_lower_case) && token(place + 1, &|t| t.is_mark('(')),
                word => token(place, &|t| t.is_word(word)),
            }
    })
}

#[cfg(test)]
mod tests {
    use super::super::rust::parsed;
    use super::*;

    fn subjects(package: &str, used: &str, kind: &str) -> Vec<String> {
        let metadata = serde_json::json!({
            "workspace_root": "/r",
            "packages": [{
                "name": package,
                "manifest_path": "/r/crates/x/Cargo.toml",
                "dependencies": [{ "name": used, "kind": if kind == "dev" { Value::from("dev") } else { Value::Null } }],
            }],
        });
        let mut found = Vec::new();
        check(&packages(&metadata).expect("whole"), &mut found);
        assert!(found.iter().all(|f| f.path == "crates/x/Cargo.toml"));
        found.into_iter().map(|f| f.subject).collect()
    }

    #[test]
    fn dependencies_point_downwards() {
        assert_eq!(subjects("pointsman-engine", "pointsman-http", ""), [""; 0]);
        assert_eq!(subjects("pointsman-http", "pointsman-engine", ""), ["engine"]);
        assert_eq!(subjects("pointsman-http", "pointsman-conf", ""), ["conf"], "nor sideways");
        assert_eq!(subjects("pointsman", "pointsman-server", ""), [""; 0]);
        assert_eq!(subjects("pointsman-server", "pointsman", "dev"), ["cli"]);
    }

    #[test]
    fn crates_for_tests_are_used_by_tests_alone() {
        assert_eq!(subjects("pointsman-server", "pointsman-testkit", "dev"), [""; 0]);
        assert_eq!(subjects("pointsman-server", "pointsman-testkit", ""), ["testkit"]);
        assert_eq!(subjects("pointsman-testkit", "nix", ""), [""; 0]);
    }

    #[test]
    fn every_crate_has_a_floor() {
        assert_eq!(subjects("pointsman-attic", "serde", ""), ["attic"]);
    }

    #[test]
    fn the_lower_floors_do_not_reach_out() {
        assert_eq!(subjects("pointsman-engine", "tokio", ""), ["tokio"]);
        assert_eq!(subjects("pointsman-engine", "tokio", "dev"), [""; 0]);
        assert_eq!(subjects("pointsman-server", "tokio", ""), [""; 0]);
        let text = "fn a() {\n let b = std::time::Instant::now();\n let c: Instant = now;\n let d = std::fs::read(e);\n let f: std::fs::File = g;\n}\n\
                    #[cfg(test)]\nmod tests { fn a() { let b = Instant::now(); } }";
        let deeds = |path: &str| {
            let mut found = Vec::new();
            check_purity(&parsed(path, text), &mut found);
            found.into_iter().map(|f| (f.line, f.subject)).collect::<Vec<_>>()
        };
        assert_eq!(deeds("crates/http/src/a.rs"), [(2, "Instant::now".to_owned()), (4, "fs::*".to_owned())]);
        assert_eq!(deeds("crates/server/src/a.rs"), []);
        assert_eq!(deeds("crates/http/tests/a.rs"), []);
    }
}
