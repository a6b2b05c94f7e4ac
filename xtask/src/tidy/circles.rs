//! Circles of imports between the files of a crate.
//!
//! An import is a path that begins with `crate`, `super` or `self`, or with a name that such a `use` has bound, in a `use`
//! or anywhere else, macros' arguments included; it leads to the deepest file that it names, and a `mod.rs` is its folder's
//! file. What is compiled for tests only does not count. What a file re-exports counts as its own. A parent that names its
//! child without a prefix (`pub use child::Name;`) lists its contents, which is no import.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::rust::{Kind, RustFile, Token};

/// The most files of a circle that an exception may excuse.
const EXCUSABLE: usize = 8;
/// The same for the one large circle that may be excused.
const EXCUSABLE_LARGE: usize = 14;

/// The engine's registry. What is named through it is one of its entries, and counts as itself.
const REGISTRY: &str = "modules";

/// A file's place among the modules of its crate, from the crate's root.
type Module = Vec<String>;

/// Adds a finding for each circle. Its path is the crate's source folder, its subject the first file in it.
pub(super) fn check(files: &[RustFile], found: &mut Vec<Finding>) {
    let mut crates: BTreeMap<&str, Vec<&RustFile>> = BTreeMap::new();
    for file in files.iter().filter(|file| !file.is_test) {
        if let Some(source) = source_folder(&file.path) {
            crates.entry(source).or_default().push(file);
        }
    }
    for (source, files) in crates {
        for circle in circles(&imports(source, &files)) {
            let lint = match circle.len() {
                n if n <= EXCUSABLE => "circle",
                n if n <= EXCUSABLE_LARGE => "large-circle",
                _ => "huge-circle",
            };
            let names: Vec<String> = circle.iter().map(shown).collect();
            let text = format!("{} files import each other: {}", names.len(), names.join(" "));
            found.push(Finding::new(source, 0, lint, &names[0], text));
        }
    }
}

/// `crates/NAME/src` and the like, of a path in it.
fn source_folder(path: &str) -> Option<&str> {
    let end = path.find("/src/")? + "/src".len();
    Some(&path[..end])
}

fn shown(module: &Module) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("/") }
}

/// Returns the modules of a crate, each with the modules that it imports from.
fn imports(source: &str, files: &[&RustFile]) -> BTreeMap<Module, BTreeSet<Module>> {
    let modules: Vec<Module> = files.iter().map(|file| module(source, &file.path)).collect();
    let known: BTreeSet<&Module> = modules.iter().collect();
    let mut graph = BTreeMap::new();
    for (module, file) in modules.iter().zip(files) {
        let mut targets = BTreeSet::new();
        for path in paths(module, file) {
            let target = (0..=path.len()).rev().map(|end| path[..end].to_vec()).find(|at| known.contains(at));
            targets.extend(target.filter(|target| target != module));
        }
        graph.insert(module.clone(), targets);
    }
    graph
}

fn module(source: &str, path: &str) -> Module {
    let inside = path[source.len()..].trim_start_matches('/').trim_end_matches(".rs");
    let mut parts: Module = inside.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod") || ["lib", "main"].contains(&inside) {
        parts.pop();
    }
    parts
}

/// Returns every path from the crate's root that a file names, without what is for tests only.
fn paths(module: &Module, file: &RustFile) -> Vec<Module> {
    let tokens: Vec<&Token> = file.tokens.iter().filter(|token| !file.in_test(token.line)).collect();
    let mut reader = Reader { tokens: &tokens, at: 0, in_use: false, found: Vec::new(), bound: Vec::new() };
    // The modules that are written out in the file, each with the depth of braces at which it ends.
    let mut inner: Vec<(usize, String)> = Vec::new();
    let mut depth = 0_usize;
    while let Some(token) = reader.token(0) {
        if token.is_mark('{') {
            depth += 1;
            if let Some(name) = reader.module_before() {
                inner.push((depth, name));
            }
        } else if token.is_mark('}') {
            inner.retain(|(at, _)| *at != depth);
            depth = depth.saturating_sub(1);
        }
        let here = || module.iter().chain(inner.iter().map(|(_, name)| name)).cloned().collect::<Module>();
        let base = match &token.kind {
            // `pub(in crate::a)` says who may look, and imports nothing.
            Kind::Word(_) if reader.is_visibility() || reader.continues_a_path() => None,
            Kind::Word(word) if word == "crate" => Some(Vec::new()),
            Kind::Word(word) if word == "self" || word == "super" => Some(here()),
            Kind::Word(word) if reader.colons(1) => reader.bound_path(word),
            _ => None,
        };
        reader.in_use = reader.before(1).is_some_and(|token| token.is_word("use"));
        match base {
            Some(mut base) => {
                while reader.token(0).is_some_and(|token| token.is_word("super")) {
                    base.pop();
                    if !reader.colons(1) || !reader.token(3).is_some_and(|token| token.is_word("super")) {
                        break;
                    }
                    reader.at += 3;
                }
                reader.at += 1;
                if reader.colons(0) {
                    reader.at += 2;
                    reader.tree(&base);
                } else if reader.in_use {
                    reader.note(base);
                }
            }
            None => reader.at += 1,
        }
    }
    reader.found
}

/// Reads paths and `use` trees from a file's tokens.
struct Reader<'a> {
    tokens: &'a [&'a Token],
    at: usize,
    /// The path is that of a `use`.
    in_use: bool,
    found: Vec<Module>,
    /// The names that `use` has bound, with their paths.
    bound: Vec<(String, Module)>,
}

impl Reader<'_> {
    fn token(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).copied()
    }

    fn before(&self, back: usize) -> Option<&Token> {
        self.at.checked_sub(back).and_then(|at| self.tokens.get(at)).copied()
    }

    /// Returns whether `::` follows.
    fn colons(&self, ahead: usize) -> bool {
        (ahead..ahead + 2).all(|place| self.token(place).is_some_and(|token| token.is_mark(':')))
    }

    fn continues_a_path(&self) -> bool {
        (1..=2).all(|back| self.before(back).is_some_and(|token| token.is_mark(':')))
    }

    fn is_visibility(&self) -> bool {
        self.before(1).is_some_and(|token| token.is_word("in"))
            && self.before(3).is_some_and(|token| token.is_word("pub"))
    }

    /// Returns the name of the module that the brace here opens.
    fn module_before(&self) -> Option<String> {
        let is_module = self.before(2).is_some_and(|token| token.is_word("mod"));
        match &self.before(1)?.kind {
            Kind::Word(name) if is_module => Some(name.clone()),
            _ => None,
        }
    }

    fn bound_path(&self, name: &str) -> Option<Module> {
        let path = &self.bound.iter().find(|(bound, _)| bound == name)?.1;
        (*path != [REGISTRY]).then(|| path.clone())
    }

    /// Notes a path that ends here.
    fn note(&mut self, path: Module) {
        let renamed = self.token(0).is_some_and(|token| token.is_word("as"));
        let name = match self.token(1).map(|token| &token.kind) {
            Some(Kind::Word(name)) if renamed => Some(name),
            _ => path.last(),
        };
        if let Some(name) = name.filter(|_| self.in_use) {
            self.bound.push((name.clone(), path.clone()));
        }
        self.found.push(path);
    }

    /// Reads what follows `::`: a name and what follows that, or a group of such.
    fn tree(&mut self, base: &Module) {
        match self.token(0).map(|token| token.kind.clone()) {
            Some(Kind::Word(name)) => {
                let mut path = base.clone();
                if name != "self" {
                    path.push(name);
                }
                self.at += 1;
                if self.colons(0) {
                    self.at += 2;
                    self.tree(&path);
                } else {
                    self.note(path);
                }
            }
            Some(Kind::Mark('{')) => {
                self.at += 1;
                while let Some(token) = self.token(0).cloned() {
                    match token.kind {
                        Kind::Mark('}') => {
                            self.at += 1;
                            return;
                        }
                        Kind::Mark(',') => self.at += 1,
                        Kind::Word(word) if word == "as" => self.at += 2,
                        _ => self.tree(base),
                    }
                }
            }
            Some(Kind::Mark('*')) => {
                self.at += 1;
                self.found.push(base.clone());
            }
            // `::<`: the path named something already.
            _ => {
                self.at += 1;
                self.found.push(base.clone());
            }
        }
    }
}

/// Returns the sets of more than one module that can all be reached from each other.
fn circles(graph: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<BTreeSet<Module>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        graph.keys().map(|module| (module, reachable(graph, module))).collect();
    let mut circles = BTreeSet::new();
    for (module, others) in &reached {
        let circle: BTreeSet<Module> = others
            .iter()
            .filter(|other| reached[*other].contains(module))
            .map(|other| (*other).clone())
            .collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reachable<'a>(graph: &'a BTreeMap<Module, BTreeSet<Module>>, from: &Module) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Module> = graph[from].iter().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(&graph[module]);
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::super::rust::{mark_test_files, parsed};
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<(String, String, String)> {
        let mut files: Vec<RustFile> =
            files.iter().map(|(path, text)| parsed(&format!("crates/a/src/{path}"), text)).collect();
        mark_test_files(&mut files);
        let mut found = Vec::new();
        check(&files, &mut found);
        found.into_iter().map(|f| (f.lint.to_owned(), f.subject, f.text)).collect()
    }

    /// Returns the files of the circle that `x` and `y` make, if they make one.
    fn circle(x: &str, y: &str) -> Option<String> {
        found(&[("lib.rs", "mod x; mod y;"), ("x.rs", x), ("y/mod.rs", y)]).pop().map(|(_, _, text)| text)
    }

    #[test]
    fn imports_are_seen_however_they_are_written() {
        let both = Some("2 files import each other: x y".to_owned());
        for back in [
            "use crate::x::A;",
            "use super::x;",
            "use super::{b::{C, D as E}, x::*};",
            "use crate::{self as all, b, x::{self, A}};",
            "fn f() { crate::x::g::<u8>(); }",
            "fn f() -> super::x::A { loop {} }",
            "fn f() { println!(\"{}\", [crate::x::A]); }",
            "mod inner { use super::super::x::A; }",
            "mod inner { fn f() { { } } fn g() { super::super::x::a() } } mod other { }",
            "fn f() { for a in crate::x::all() {} }",
            "use crate::z; use super::{self as all, b::{c, d as e}}; fn f() { all::x::a() }",
            "use crate as all; fn f() -> all::x::A { loop {} }",
        ] {
            assert_eq!(circle("use crate::y::B;", back), both, "{back}");
        }
    }

    #[test]
    fn other_paths_make_no_circle() {
        for back in [
            "use crate::z::A;",
            "#[cfg(test)] mod tests { use crate::x::A; }",
            "#[cfg(test)]\nuse crate::x::A;",
            "/// Like [`crate::x::A`].\nfn f() {}",
            "// use crate::x::A;",
            "const A: &str = \"crate::x::A\";",
            "mod inner { use super::x::A; }",
            "pub(in crate::x) fn f() {}",
            "use other::x::A;",
            "use self::x::A;",
        ] {
            assert_eq!(circle("use crate::y::B;", back), None, "{back}");
        }
    }

    #[test]
    fn a_path_leads_to_the_deepest_file_that_it_names() {
        let files = |back| {
            found(&[
                ("lib.rs", "mod x; mod y;"),
                ("x.rs", "use crate::y::deep::A;"),
                ("y/mod.rs", back),
                ("y/deep.rs", "use super::B;"),
            ])
        };
        assert_eq!(files("pub use deep::A;"), []);
        assert_eq!(files("use crate::x::C;").len(), 1);
        assert_eq!(files("use self::deep::A;")[0].2, "2 files import each other: y y/deep");
    }

    #[test]
    fn files_for_tests_do_not_count() {
        let tests = [("lib.rs", "mod x; mod y;"), ("x.rs", "use crate::y::A;\n#[cfg(test)]\nmod tests;")];
        let deep = [("x/tests.rs", "use crate::x::A;"), ("y.rs", "fn f() {}")];
        assert_eq!(found(&[tests, deep].concat()), []);
    }

    #[test]
    fn a_circle_is_named_by_its_first_file_and_its_size() {
        let ring = |n: usize| {
            let texts: Vec<(String, String)> = (0..n)
                .map(|i| (format!("m{i:02}.rs"), format!("use crate::m{:02}::A;", (i + 1) % n)))
                .collect();
            let files: Vec<(&str, &str)> = texts.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            found(&files).into_iter().map(|(lint, subject, _)| (lint, subject)).collect::<Vec<_>>()
        };
        for (n, lint) in
            [(2, "circle"), (8, "circle"), (9, "large-circle"), (14, "large-circle"), (15, "huge-circle")]
        {
            assert_eq!(ring(n), [(lint.to_owned(), "m00".to_owned())], "{n}");
        }
    }
}
