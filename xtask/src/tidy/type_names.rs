//! One meaning for one name: how many types may share a name.

use std::collections::BTreeMap;

use super::Finding;
use super::rust::{Kind, RustFile, Token};

/// So many definitions may share a name: a thing, and its shape on the other side of a boundary.
const MEANINGS: usize = 2;
const KINDS: [&str; 5] = ["struct", "enum", "union", "type", "trait"];

/// Adds a finding for each name of too many types in `crates/` that are public or `pub(crate)`, those that macros' arguments
/// define included. Of `testkit`, which says the product's words of its own side, only the public ones count. The finding's path
/// is `crates`, its subject the name.
pub(super) fn check(files: &[RustFile], found: &mut Vec<Finding>) {
    let mut definitions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for file in files {
        if file.is_test || !file.path.starts_with("crates/") || !file.path.contains("/src/") {
            continue;
        }
        for (at, window) in file.tokens.windows(2).enumerate() {
            if let [kind, Token { kind: Kind::Word(name), line }] = window
                && KINDS.iter().any(|word| kind.is_word(word))
                && !file.in_test(*line)
                && counts(&file.tokens[..at], file.crate_name() != "testkit")
            {
                definitions.entry(name).or_default().push(format!("{}:{line}", file.path));
            }
        }
    }
    for (name, places) in definitions {
        if places.len() > MEANINGS {
            let text = format!(
                "names {} types, and at most {MEANINGS} are allowed: {}",
                places.len(),
                places.join(" ")
            );
            found.push(Finding::new("crates", 0, "type-name", name, text));
        }
    }
}

/// Is what comes behind these tokens public, or `pub(crate)` where that counts?
fn counts(before: &[Token], in_crate_too: bool) -> bool {
    match before {
        [.., public] if public.is_word("pub") => true,
        [.., public, open, visible, close] => {
            in_crate_too
                && public.is_word("pub")
                && open.is_mark('(')
                && visible.is_word("crate")
                && close.is_mark(')')
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::rust::parsed;
    use super::*;

    fn subjects(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<RustFile> = files.iter().map(|(path, text)| parsed(path, text)).collect();
        let mut found = Vec::new();
        check(&files, &mut found);
        found.into_iter().map(|f| f.subject).collect()
    }

    #[test]
    fn a_name_may_be_defined_twice() {
        let two = "pub struct Place; mod inner { pub enum Place {} }";
        assert_eq!(subjects(&[("crates/a/src/b.rs", two)]), [""; 0]);
        for third in [
            "pub struct Place;",
            "pub enum Place {}",
            "pub union Place { a: u8 }",
            "pub type Place = u8;",
            "pub trait Place {}",
            "pub(crate) struct Place;",
        ] {
            let third = format!("settings! {{ {third} }}");
            let files = [("crates/a/src/b.rs", two), ("crates/c/src/d.rs", third.as_str())];
            assert_eq!(subjects(&files), ["Place"], "{third}");
        }
    }

    #[test]
    fn private_types_and_tests_do_not_count() {
        let two = ("crates/a/src/b.rs", "pub struct Place; mod inner { pub enum Place {} }");
        for (path, text) in [
            ("crates/c/src/d.rs", "struct Place;"),
            ("crates/c/src/d.rs", "pub(super) struct Place;"),
            ("crates/testkit/src/d.rs", "pub(crate) struct Place;"),
            ("crates/c/src/d.rs", "#[cfg(test)]\nmod tests { pub struct Place; }"),
            ("crates/c/tests/d.rs", "pub struct Place;"),
            ("xtask/src/d.rs", "pub struct Place;"),
        ] {
            assert_eq!(subjects(&[two, (path, text)]), [""; 0], "{path} {text}");
        }
    }
}
