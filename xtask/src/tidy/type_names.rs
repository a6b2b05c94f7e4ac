//! One meaning for one name: how many things the name of a public type may stand for.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};

use super::Finding;
use super::rust::RustFile;

/// So many definitions may share a name: a thing, and its shape on the other side of a boundary.
const MEANINGS: usize = 2;

/// Adds a finding for each name of too many public types in `crates/`. Its path is `crates`, its subject the name.
pub(super) fn check(files: &[RustFile], found: &mut Vec<Finding>) {
    let mut definitions = Definitions::default();
    for file in files {
        if !file.is_test && file.path.starts_with("crates/") && file.path.contains("/src/") {
            definitions.file = Some(file);
            definitions.visit_file(&file.tree);
        }
    }
    for (name, places) in definitions.found {
        if places.len() > MEANINGS {
            let text =
                format!("stands for {} types, and at most {MEANINGS}: {}", places.len(), places.join(" "));
            found.push(Finding::new("crates", 0, "type-name", &name, text));
        }
    }
}

/// The places where each name is defined.
#[derive(Default)]
struct Definitions<'a> {
    file: Option<&'a RustFile>,
    found: BTreeMap<String, Vec<String>>,
}

impl Definitions<'_> {
    fn add(&mut self, visibility: &syn::Visibility, name: &syn::Ident) {
        let Some(file) = self.file else { return };
        let line = name.span().start().line;
        if matches!(visibility, syn::Visibility::Public(_)) && !file.in_test(line) {
            self.found.entry(name.to_string()).or_default().push(format!("{}:{line}", file.path));
        }
    }
}

impl<'ast> Visit<'ast> for Definitions<'_> {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.add(&item.vis, &item.ident);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.add(&item.vis, &item.ident);
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.add(&item.vis, &item.ident);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.add(&item.vis, &item.ident);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.add(&item.vis, &item.ident);
        visit::visit_item_trait(self, item);
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
        for third in
            ["struct Place;", "enum Place {}", "union Place { a: u8 }", "type Place = u8;", "trait Place {}"]
        {
            let third = format!("pub {third}");
            let files = [("crates/a/src/b.rs", two), ("crates/c/src/d.rs", third.as_str())];
            assert_eq!(subjects(&files), ["Place"], "{third}");
        }
    }

    #[test]
    fn private_types_and_tests_do_not_count() {
        let two = ("crates/a/src/b.rs", "pub struct Place; mod inner { pub enum Place {} }");
        for (path, text) in [
            ("crates/c/src/d.rs", "struct Place;"),
            ("crates/c/src/d.rs", "pub(crate) struct Place;"),
            ("crates/c/src/d.rs", "#[cfg(test)]\nmod tests { pub struct Place; }"),
            ("crates/c/tests/d.rs", "pub struct Place;"),
            ("xtask/src/d.rs", "pub struct Place;"),
        ] {
            assert_eq!(subjects(&[two, (path, text)]), [""; 0], "{path} {text}");
        }
    }
}
