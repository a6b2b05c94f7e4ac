//! How large a file, a function and a struct may be, and that every module says what it is for.

use syn::visit::{self, Visit};

use super::Finding;
use super::rust::{RustFile, lines_of};

/// Lines of a file before its tests begin.
const FILE_LINES: usize = 500;
/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES: usize = 100;
/// Fields of a struct.
const STRUCT_FIELDS: usize = 16;

/// Adds what exceeds these limits in a file.
pub(super) fn check(file: &RustFile, found: &mut Vec<Finding>) {
    let first = file.lines.iter().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        let text = "opens without `//!`: say what the module owns and what it must never do";
        found.push(Finding::new(&file.path, 1, "module-opening", "", text));
    }
    if file.is_test {
        return;
    }
    let own = file.lines.iter().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    if own > FILE_LINES {
        let text = format!("{own} lines before its tests, and the limit is {FILE_LINES}");
        found.push(Finding::new(&file.path, 0, "file-lines", "", text));
    }
    Shapes { file, found }.visit_file(&file.tree);
}

struct Shapes<'a> {
    file: &'a RustFile,
    found: &'a mut Vec<Finding>,
}

impl Shapes<'_> {
    fn function(&mut self, sig: &syn::Signature, block: &syn::Block) {
        let (first, last) = lines_of(sig, block);
        let lines = last - first + 1;
        if lines > FUNCTION_LINES && !self.file.in_test(first) {
            let text = format!("{lines} lines, and the limit is {FUNCTION_LINES}");
            self.found.push(Finding::new(
                &self.file.path,
                first,
                "function-lines",
                &sig.ident.to_string(),
                text,
            ));
        }
    }
}

impl<'ast> Visit<'ast> for Shapes<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let line = item.struct_token.span.start().line;
        let fields = item.fields.len();
        if fields > STRUCT_FIELDS && !self.file.in_test(line) {
            let text = format!("{fields} fields, and the limit is {STRUCT_FIELDS}");
            self.found.push(Finding::new(
                &self.file.path,
                line,
                "struct-fields",
                &item.ident.to_string(),
                text,
            ));
        }
        visit::visit_item_struct(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::super::rust::parsed;
    use super::*;

    fn lints(path: &str, text: &str) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        check(&parsed(path, text), &mut found);
        found.into_iter().map(|f| (f.lint, f.subject)).collect()
    }

    #[test]
    fn a_module_opens_with_what_it_owns() {
        assert_eq!(lints("a.rs", "use b::c;\n"), [("module-opening", String::new())]);
        assert_eq!(lints("a.rs", "//! Owns it.\nuse b::c;\n"), []);
        assert_eq!(lints("a/tests/b.rs", "use b::c;\n"), [("module-opening", String::new())]);
    }

    #[test]
    fn a_file_ends_at_its_limit_and_its_tests_do_not_count() {
        let full = format!("//! Full.\n{}", "const _: () = ();\n".repeat(FILE_LINES - 1));
        assert_eq!(lints("a.rs", &full), []);
        assert_eq!(lints("a.rs", &format!("{full}const _: () = ();\n")), [("file-lines", String::new())]);
        assert_eq!(lints("a.rs", &format!("{full}#[cfg(test)]\nmod tests {{\n}}\n")), []);
    }

    #[test]
    fn a_function_ends_at_its_limit_wherever_it_stands() {
        let body = |lines: usize| "let _ = 1;\n".repeat(lines - 2);
        let function = |lines| format!("//! A.\nfn long() {{\n{}}}\n", body(lines));
        assert_eq!(lints("a.rs", &function(FUNCTION_LINES)), []);
        assert_eq!(lints("a.rs", &function(FUNCTION_LINES + 1)), [("function-lines", "long".to_owned())]);
        let method = format!("//! A.\nimpl A {{\nfn long() {{\n{}}}\n}}\n", body(FUNCTION_LINES + 1));
        assert_eq!(lints("a.rs", &method), [("function-lines", "long".to_owned())]);
        let default = format!("//! A.\ntrait A {{\nfn long() {{\n{}}}\n}}\n", body(FUNCTION_LINES + 1));
        assert_eq!(lints("a.rs", &default), [("function-lines", "long".to_owned())]);
        let test = format!("//! A.\n#[test]\nfn long() {{\n{}}}\n", body(FUNCTION_LINES + 1));
        assert_eq!(lints("a.rs", &test), []);
    }

    #[test]
    fn a_struct_ends_at_its_limit() {
        let fields = |n: usize| (0..n).map(|i| format!("f{i}: u8, ")).collect::<String>();
        let named = |n| format!("//! A.\nstruct Large {{ {} }}", fields(n));
        assert_eq!(lints("a.rs", &named(STRUCT_FIELDS)), []);
        assert_eq!(lints("a.rs", &named(STRUCT_FIELDS + 1)), [("struct-fields", "Large".to_owned())]);
        let tuple = format!("//! A.\nstruct Large({});", "u8, ".repeat(STRUCT_FIELDS + 1));
        assert_eq!(lints("a.rs", &tuple), [("struct-fields", "Large".to_owned())]);
    }
}
