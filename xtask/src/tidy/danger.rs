//! What must not be in code that serves: `unwrap` and `expect`, `unsafe` without its reason or in the wrong crate,
//! gaps that panic when they are reached, and ignored tests that do not say why.

use super::Finding;
use super::rust::{Kind, RustFile};

/// The crates that may hold `unsafe` at all.
const MAY_BE_UNSAFE: [&str; 4] = ["server", "process", "transport", "lua"];
/// Crates that only ever run on a developer's machine: a panic there is a failed chore.
const CHORES: [&str; 2] = ["testkit", "xtask"];
/// How many lines of code may stand between an `unsafe` and its reason.
const REASON_WITHIN: usize = 8;

/// Adds what breaks these lints in a file.
pub(super) fn check(file: &RustFile, found: &mut Vec<Finding>) {
    let chore = CHORES.contains(&file.crate_name());
    let tokens = &file.tokens;
    for (at, token) in tokens.iter().enumerate() {
        let Kind::Word(word) = &token.kind else { continue };
        let before = at.checked_sub(1).map(|i| &tokens[i]);
        let after = tokens.get(at + 1);
        let called = after.is_some_and(|t| t.is_mark('('));
        let mut add = |lint, text: &str| found.push(Finding::new(&file.path, token.line, lint, word, text));
        match word.as_str() {
            "unwrap" | "expect" | "unwrap_err" | "expect_err"
                if called
                    && !chore
                    && before.is_some_and(|t| t.is_mark('.'))
                    && !file.in_test(token.line) =>
            {
                add("unwrap", "ends the worker when it fails: return the error, or write down why it cannot");
            }
            "todo" | "unimplemented" if after.is_some_and(|t| t.is_mark('!')) => {
                add("gap", "a gap that panics when it is reached");
            }
            "unsafe" if !MAY_BE_UNSAFE.contains(&file.crate_name()) => {
                add("unsafe", "only the crates server, process, transport and lua may be unsafe");
            }
            // A block or an `impl`: there its writer vouches for it. A function's own reason is in its blocks, and a public one's
            // in its documentation, which clippy asks for.
            "unsafe"
                if after.is_some_and(|t| t.is_mark('{') || t.is_word("impl"))
                    && !has_reason(&file.lines, token.line) =>
            {
                add("unsafe", "says no SAFETY reason");
            }
            "ignore"
                if before.is_some_and(|t| t.is_mark('['))
                    && after.is_some_and(|t| t.is_mark(']'))
                    && at.checked_sub(2).is_some_and(|i| tokens[i].is_mark('#')) =>
            {
                add("ignore", "an ignored test says why: #[ignore = \"…\"]");
            }
            _ => {}
        }
    }
}

/// Does a comment with the reason stand on the line, or above it with neither an empty line nor much code between?
fn has_reason(lines: &[String], line: usize) -> bool {
    let mut code = 0;
    for text in lines[..line.min(lines.len())].iter().rev() {
        if text.contains("SAFETY") || text.contains("# Safety") {
            return true;
        }
        let text = text.trim_start();
        if text.is_empty() {
            return false;
        }
        if !text.starts_with("//") && !text.starts_with("#[") {
            code += 1;
        }
        if code > REASON_WITHIN {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::rust::parsed;
    use super::*;

    fn lints(path: &str, text: &str) -> Vec<(&'static str, usize)> {
        let mut found = Vec::new();
        check(&parsed(path, text), &mut found);
        found.into_iter().map(|f| (f.lint, f.line)).collect()
    }

    #[test]
    fn unwrap_and_expect_are_found_in_macros_too_and_not_in_tests() {
        let text = "fn a() {\n b.unwrap();\n b.expect(\"c\");\n format!(\"{}\", b.unwrap());\n b.unwrap_or(1);\n}\n\
                    #[cfg(test)]\nmod tests { fn a() { b.unwrap(); } }";
        assert_eq!(lints("crates/http/src/a.rs", text), [("unwrap", 2), ("unwrap", 3), ("unwrap", 4)]);
        assert_eq!(lints("crates/http/tests/a.rs", text), []);
        assert_eq!(lints("xtask/src/a.rs", text), []);
    }

    #[test]
    fn a_method_of_the_same_name_defined_is_no_call() {
        assert_eq!(lints("crates/conf/src/a.rs", "impl Lexer { fn expect(&mut self) {} }"), []);
    }

    #[test]
    fn unsafe_stays_in_two_crates() {
        assert_eq!(
            lints("crates/http/src/a.rs", "// SAFETY: no.\nfn a() { unsafe { b() } }"),
            [("unsafe", 2)]
        );
        assert_eq!(lints("crates/http/src/a.rs", "#![deny(unsafe_code)]"), []);
    }

    #[test]
    fn unsafe_says_why() {
        let path = "crates/server/src/a.rs";
        assert_eq!(lints(path, "fn a() {\n unsafe { b() }\n}"), [("unsafe", 2)]);
        assert_eq!(lints(path, "fn a() {\n // SAFETY: it is ours.\n unsafe { b() }\n}"), []);
        assert_eq!(lints(path, "struct A;\nunsafe impl Send for A {}"), [("unsafe", 2)]);
        assert_eq!(lints(path, "type A = unsafe extern \"C\" fn(u8);\nunsafe fn a() {}"), []);
        assert_eq!(lints(path, "fn a() {\n // SAFETY: of another.\n\n unsafe { b() }\n}"), [("unsafe", 4)]);
    }

    #[test]
    fn gaps_are_found() {
        let gaps = ["to", "do!() } fn b() { unimplemen", "ted!() }"].concat();
        assert_eq!(lints("xtask/src/a.rs", &format!("fn a() {{ {gaps}")), [("gap", 1), ("gap", 1)]);
    }

    #[test]
    fn an_ignored_test_says_why() {
        assert_eq!(lints("a.rs", "#[ignore]\nfn a() {}"), [("ignore", 1)]);
        assert_eq!(lints("a.rs", "#[ignore = \"needs root\"]\nfn a() {}"), []);
    }
}
