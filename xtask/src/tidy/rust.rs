//! A Rust file as the checks see it: its text, its syntax tree, its tokens, and which lines are tests.
//!
//! It knows nothing of any lint.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// Where a file cannot be parsed.
pub(crate) struct ParseError {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// A token, with what the checks ask of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Word(String),
    /// Punctuation, or the bracket that opens or closes a group.
    Mark(char),
    Literal,
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(w) if w == word)
    }

    pub(crate) fn is_lower_case(&self) -> bool {
        matches!(&self.kind, Kind::Word(w) if w.starts_with(|c: char| c.is_lowercase()))
    }

    pub(crate) fn is_mark(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }
}

/// One parsed file.
pub(crate) struct RustFile {
    pub(crate) path: String,
    pub(crate) lines: Vec<String>,
    pub(crate) tree: syn::File,
    /// All tokens, macros' arguments included, comments not.
    pub(crate) tokens: Vec<Token>,
    /// The whole file is compiled for tests only.
    pub(crate) is_test: bool,
    /// First and last lines of the items that are compiled for tests only.
    tests: Vec<(usize, usize)>,
    /// The modules in other files that are compiled for tests only.
    test_modules: Vec<String>,
}

impl RustFile {
    pub(crate) fn parse(path: &str, text: &str) -> Result<RustFile, ParseError> {
        let failed = |line: usize, error: String| ParseError { line, text: error };
        let tree = syn::parse_file(text).map_err(|e| failed(e.span().start().line, e.to_string()))?;
        let stream: TokenStream =
            text.parse().map_err(|e: proc_macro2::LexError| failed(0, e.to_string()))?;
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        let mut finder = TestFinder::default();
        finder.visit_file(&tree);
        let is_test = path.split('/').any(|part| matches!(part, "tests" | "benches" | "fuzz"));
        Ok(RustFile {
            path: path.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            tree,
            tokens,
            is_test,
            tests: finder.ranges,
            test_modules: finder.modules,
        })
    }

    /// Returns true if this line is compiled for tests only.
    pub(crate) fn in_test(&self, line: usize) -> bool {
        self.is_test || self.tests.iter().any(|(first, last)| (*first..=*last).contains(&line))
    }

    /// Returns the folder name under `crates/`, or of the top folder.
    pub(crate) fn crate_name(&self) -> &str {
        let mut parts = self.path.split('/');
        match parts.next() {
            Some("crates") => parts.next().unwrap_or_default(),
            other => other.unwrap_or_default(),
        }
    }
}

/// Marks the files behind `#[cfg(test)] mod name;` as tests.
pub(crate) fn mark_test_files(files: &mut [RustFile]) {
    let mut roots = Vec::new();
    for file in files.iter() {
        let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let base = match name {
            "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
            _ => file.path.trim_end_matches(".rs").to_owned(),
        };
        roots.extend(file.test_modules.iter().map(|module| format!("{base}/{module}")));
    }
    for file in files {
        let stem = file.path.trim_end_matches(".rs");
        file.is_test |= roots.iter().any(|root| stem == root || stem.starts_with(&format!("{root}/")));
    }
}

fn flatten(stream: TokenStream, out: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Ident(word) => out.push(Token { kind: Kind::Word(word.to_string()), line }),
            TokenTree::Punct(mark) => out.push(Token { kind: Kind::Mark(mark.as_char()), line }),
            TokenTree::Literal(_) => out.push(Token { kind: Kind::Literal, line }),
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ('(', ')'),
                    Delimiter::Brace => ('{', '}'),
                    Delimiter::Bracket => ('[', ']'),
                    Delimiter::None => (' ', ' '),
                };
                out.push(Token { kind: Kind::Mark(open), line });
                flatten(group.stream(), out);
                out.push(Token { kind: Kind::Mark(close), line: group.span_close().start().line });
            }
        }
    }
}

/// Finds what is compiled for tests only.
#[derive(Default)]
struct TestFinder {
    ranges: Vec<(usize, usize)>,
    modules: Vec<String>,
}

impl<'ast> Visit<'ast> for TestFinder {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_for_tests(&item.attrs) {
            match &item.content {
                Some((brace, _)) => {
                    self.ranges.push((item.mod_token.span.start().line, brace.span.close().end().line));
                }
                None => self.modules.push(item.ident.to_string()),
            }
        }
        visit::visit_item_mod(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if is_for_tests(&item.attrs) {
            self.ranges.push(lines_of(&item.sig, &item.block));
        }
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if is_for_tests(&item.attrs) {
            self.ranges.push(lines_of(&item.sig, &item.block));
        }
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if is_for_tests(&item.attrs) {
            self.ranges.push((item.use_token.span.start().line, item.semi_token.span.end().line));
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if is_for_tests(&item.attrs) {
            self.ranges.push((item.impl_token.span.start().line, item.brace_token.span.close().end().line));
        }
        visit::visit_item_impl(self, item);
    }
}

/// Returns a function's first and last line.
pub(crate) fn lines_of(sig: &syn::Signature, block: &syn::Block) -> (usize, usize) {
    (sig.fn_token.span.start().line, block.brace_token.span.close().end().line)
}

/// `#[test]`, `#[cfg(test)]`, `#[cfg(all(test, …))]`; not `#[cfg(not(test))]`.
fn is_for_tests(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().any(|attr| {
        if attr.path().is_ident("test") {
            return true;
        }
        let syn::Meta::List(list) = &attr.meta else { return false };
        if !list.path.is_ident("cfg") {
            return false;
        }
        let mut tokens = Vec::new();
        flatten(list.tokens.clone(), &mut tokens);
        tokens.iter().any(|t| t.is_word("test"))
            && !tokens.iter().any(|t| t.is_word("not") || t.is_word("any"))
    })
}

#[cfg(test)]
pub(crate) fn parsed(path: &str, text: &str) -> RustFile {
    RustFile::parse(path, text).unwrap_or_else(|e| panic!("{path}:{}: {}", e.line, e.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_tests_are_marked() {
        let file = parsed(
            "crates/a/src/b.rs",
            "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\n#[test]\nfn c() {}\n#[cfg(test)]\nuse d::{\n e,\n};",
        );
        assert!(!file.in_test(1));
        assert!(file.in_test(4));
        assert!(file.in_test(7));
        assert!(file.in_test(10));
        let other =
            parsed("crates/a/src/b.rs", "#[cfg(not(test))]\nfn a() {\n}\n#[cfg(any(test, unix))]\nfn b() {}");
        assert!(!other.in_test(2) && !other.in_test(5));
    }

    #[test]
    fn a_file_behind_a_test_module_is_a_test() {
        let mut files = vec![
            parsed("crates/a/src/b.rs", "#[cfg(test)]\nmod tests;\nmod c;"),
            parsed("crates/a/src/b/tests.rs", "fn a() {}"),
            parsed("crates/a/src/b/tests/deep.rs", "fn a() {}"),
            parsed("crates/a/src/b/c.rs", "fn a() {}"),
        ];
        mark_test_files(&mut files);
        let marked: Vec<bool> = files.iter().map(|file| file.is_test).collect();
        assert_eq!(marked, [false, true, true, false]);
    }

    #[test]
    fn text_that_is_no_rust_is_named_with_its_line() {
        let error = RustFile::parse("a.rs", "fn a() {}\nfn fn").err().expect("no Rust");
        assert_eq!(error.line, 2);
    }
}
