//! Names that say nothing: of files, folders and everything a Rust file defines.

use syn::visit::{self, Visit};

use super::Finding;
use super::rust::RustFile;

/// Never a word of any name.
const NOWHERE: [&str; 6] = ["manager", "managers", "helper", "helpers", "util", "utils"];
/// Never a name by themselves; inside one they may mean something (`common_prefix`).
const NOT_ALONE: [&str; 3] = ["common", "misc", "miscellaneous"];

/// Adds what a path's parts break.
pub(super) fn check_path(path: &str, found: &mut Vec<Finding>) {
    for part in path.split('/') {
        let stem = part.split('.').next().unwrap_or_default();
        if let Some(word) = says_nothing(stem) {
            found.push(Finding::new(
                path,
                0,
                "name",
                stem,
                format!("`{word}` says nothing: name what it does"),
            ));
        }
    }
}

/// Adds what the definitions of a file break.
pub(super) fn check(file: &RustFile, found: &mut Vec<Finding>) {
    Names { file, found }.visit_file(&file.tree);
}

struct Names<'a> {
    file: &'a RustFile,
    found: &'a mut Vec<Finding>,
}

impl Names<'_> {
    fn name(&mut self, ident: &syn::Ident) {
        let name = ident.to_string();
        if let Some(word) = says_nothing(&name) {
            let line = ident.span().start().line;
            let text = format!("`{word}` says nothing: name what it does");
            self.found.push(Finding::new(&self.file.path, line, "name", &name, text));
        }
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_signature(&mut self, sig: &'ast syn::Signature) {
        self.name(&sig.ident);
        visit::visit_signature(self, sig);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.name(&item.ident);
        visit::visit_item_mod(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.name(&item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.name(&item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.name(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.name(&item.ident);
        visit::visit_item_type(self, item);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.name(&item.ident);
        visit::visit_item_const(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.name(&item.ident);
        visit::visit_item_static(self, item);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(ident) = &field.ident {
            self.name(ident);
        }
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

/// The words of `snake_case`, `kebab-case` and `CamelCase`, in lower case.
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
            ),
            [
                "PoolManager",
                "UTIL",
                "Helper",
                "read_helper",
                "misc",
                "Common",
                "UTILS",
                "HELPER_COUNT",
                "helper",
                "util"
            ]
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
