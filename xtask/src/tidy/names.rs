//! Names that say nothing: of files, folders and everything a Rust file defines.

use syn::visit::{self, Visit};

use super::Finding;
use super::rust::{Kind, RustFile, Token};

/// Never a word of any name: those that say nothing, and those that prose does without.
const NOWHERE: [&str; 10] =
    ["manager", "managers", "helper", "helpers", "util", "utils", "whoever", "nobody", "mends", "mended"];
/// Never a name by themselves; inside one they may mean something (`common_prefix`).
const NOT_ALONE: [&str; 3] = ["common", "misc", "miscellaneous"];
/// The words before the name of a definition.
const DEFINING: [&str; 9] = ["fn", "mod", "struct", "enum", "union", "trait", "type", "const", "static"];

/// Adds what a path's parts break.
pub(super) fn check_path(path: &str, found: &mut Vec<Finding>) {
    for part in path.split('/') {
        let stem = part.split('.').next().unwrap_or_default();
        if let Some(word) = says_nothing(stem) {
            let text = format!("`{word}` says nothing: name what it does");
            found.push(Finding::new(path, 0, "name", stem, text));
        }
    }
}

/// Adds what the definitions of a file break.
pub(super) fn check(file: &RustFile, found: &mut Vec<Finding>) {
    let mut add = |name: &str, line: usize| {
        if let Some(word) = says_nothing(name) {
            let text = format!("`{word}` says nothing: name what it does");
            found.push(Finding::new(&file.path, line, "name", name, text));
        }
    };
    for window in file.tokens.windows(2) {
        if let [kind, Token { kind: Kind::Word(name), line }] = window
            && DEFINING.iter().any(|word| kind.is_word(word))
        {
            add(name, *line);
        }
    }
    let mut fields = Fields(Vec::new());
    fields.visit_file(&file.tree);
    fields.0.iter().for_each(|name| add(&name.to_string(), name.span().start().line));
}

struct Fields<'ast>(Vec<&'ast syn::Ident>);

impl<'ast> Visit<'ast> for Fields<'ast> {
    fn visit_field(&mut self, field: &'ast syn::Field) {
        self.0.extend(&field.ident);
        visit::visit_field(self, field);
    }
}

fn says_nothing(name: &str) -> Option<String> {
    let words = words_of(name);
    if let [only] = words.as_slice()
        && NOT_ALONE.contains(&only.as_str())
    {
        return Some(only.clone());
    }
    words.into_iter().find(|word| NOWHERE.contains(&word.as_str()))
}

/// Returns the words of `snake_case`, `kebab-case` and `CamelCase`, in lower case.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_lower = false;
    for c in name.chars() {
        let breaks = !c.is_alphanumeric() || (c.is_uppercase() && before_lower);
        if breaks && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        before_lower = c.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Adds each module that has a file `x.rs` and a folder `x/`: such a module is `x/mod.rs` here, so that it is in one place.
pub(super) fn check_module_files(paths: &[&str], found: &mut Vec<Finding>) {
    for path in paths {
        let Some(folder) = path.strip_suffix(".rs").filter(|folder| folder.contains("/src/")) else {
            continue;
        };
        let inside = format!("{folder}/");
        if paths.iter().any(|other| other.starts_with(&inside) && other.ends_with(".rs")) {
            let text = format!("has a folder of its own: move it to {folder}/mod.rs");
            found.push(Finding::new(path, 0, "module-files", "", text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rust::parsed;
    use super::*;

    #[test]
    fn a_module_with_a_folder_is_its_mod_file() {
        let mut found = Vec::new();
        check_module_files(
            &["a/src/b.rs", "a/src/b/c.rs", "a/src/d/mod.rs", "a/src/d/e.rs", "a/src/lib.rs"],
            &mut found,
        );
        let paths: Vec<&str> = found.iter().map(|finding| finding.path.as_str()).collect();
        assert_eq!(paths, ["a/src/b.rs"]);
    }

    fn subjects(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        check(&parsed("a.rs", text), &mut found);
        found.into_iter().map(|f| f.subject).collect()
    }

    #[test]
    fn every_kind_of_definition_is_looked_at() {
        assert_eq!(
            subjects(
                "struct PoolManager; enum UTIL {} trait Helper { fn read_helper(&self); } mod misc {} type Common = u8;\
                 const UTILS: u8 = 1; static HELPER_COUNT: u8 = 1; struct A { helper: u8 } impl A { fn util() {} }"
            )
            .join(" "),
            "PoolManager UTIL Helper read_helper misc Common UTILS HELPER_COUNT util helper"
        );
    }

    #[test]
    fn words_that_mean_something_pass() {
        assert_eq!(
            subjects("fn common_prefix() {} struct Utility; fn utilisation() {} fn managed() {}"),
            [""; 0]
        );
    }

    #[test]
    fn files_and_folders_have_names_too() {
        let mut found = Vec::new();
        check_path("crates/utils/src/pool_manager.rs", &mut found);
        check_path("crates/http/src/common.rs", &mut found);
        check_path("crates/http/src/head.rs", &mut found);
        let subjects: Vec<&str> = found.iter().map(|f| f.subject.as_str()).collect();
        assert_eq!(subjects, ["utils", "pool_manager", "common"]);
    }
}
