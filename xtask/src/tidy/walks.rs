//! ARCHITECTURE.md against the code: each file and folder that it names exists, a file defines what is named in parentheses
//! behind it, the steps of a walk lead through few files, and the glossary is in alphabetical order.

use std::collections::BTreeSet;

use super::Finding;

const PAGE: &str = "ARCHITECTURE.md";
/// The walks that are followed by hand, and through how many files their numbered steps may lead.
const WALKS: [(&str, usize); 3] = [("A proxied request", 20), ("A directive", 10), ("An order", 20)];
const DEFINES: [&str; 7] = ["fn ", "struct ", "enum ", "trait ", "type ", "static ", "const "];

/// Adds what is wrong on the page, among the tracked files.
pub(super) fn check(files: &[(String, String)], found: &mut Vec<Finding>) {
    let Some((_, page)) = files.iter().find(|(path, _)| path == PAGE) else { return };
    let parts: Vec<&str> = page.split('`').collect();
    let mut line = 1;
    for (at, part) in parts.iter().enumerate() {
        if at % 2 == 1 && is_place(part) {
            let named: Vec<&str> =
                files.iter().filter(|(path, _)| fits(path, part)).map(|(_, text)| text.as_str()).collect();
            let mut add = |name: &str, what: &str| found.push(Finding::new(PAGE, line, "walk", name, what));
            if named.is_empty() {
                add(part, "there is no such file");
            }
            for name in items(&parts[at + 1..]) {
                if !named.iter().any(|text| defines(text, name)) {
                    add(name, &format!("is not defined in {part}"));
                }
            }
        }
        line += part.matches('\n').count();
    }
    let glossary = page.split("\n## Glossary\n").nth(1).unwrap_or_default();
    let rows = glossary.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    // The first row is the head.
    let words: Vec<String> = rows.skip(1).map(str::to_lowercase).collect();
    for pair in words.windows(2).filter(|pair| pair[0] >= pair[1]) {
        found.push(Finding::new(PAGE, 0, "glossary", &pair[1], "is not in alphabetical order"));
    }
    for (walk, most) in WALKS {
        let section = page.split(&format!("\n### {walk}\n")).nth(1).unwrap_or_default();
        let section = section.split("\n##").next().unwrap_or_default();
        let steps: Vec<&str> = section.lines().skip_while(|line| !line.starts_with("1. ")).collect();
        let steps = steps.split(|line| line.is_empty()).next().unwrap_or_default().join("\n");
        let named: BTreeSet<&str> =
            steps.split('`').skip(1).step_by(2).filter(|part| part.ends_with(".rs")).collect();
        // A file whose folder was named before may be named by its end.
        let is_again = |name: &&&str| named.iter().any(|other| other.ends_with(&format!("/{name}")));
        let count = named.len() - named.iter().filter(is_again).count();
        if !(1..=most).contains(&count) {
            let text = format!("leads through {count} files, and 1 to {most} are allowed");
            found.push(Finding::new(PAGE, 0, "walk", walk, text));
        }
    }
}

fn is_place(part: &str) -> bool {
    [".rs", ".h", "/"].iter().any(|end| part.ends_with(end)) && !part.contains([' ', '*', '\n'])
}

/// Returns true if the page may call a tracked file so: by the end of its path, without `crates/` and `src/`.
fn fits(path: &str, place: &str) -> bool {
    let short = path.replacen("crates/", "", 1).replacen("/src/", "/", 1);
    [path, &short].into_iter().map(|path| format!("/{path}")).any(|path| {
        let place = format!("/{place}");
        if place.ends_with('/') { path.contains(&place) } else { path.ends_with(&place) }
    })
}

/// Returns the items that are named right behind a place: ``(`a`, `b`)`` or ``: `a`, `b` ``.
fn items<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    let opens = matches!(rest.first().map(|text| text.trim()), Some("(" | ":"));
    let between = |pair: &&[&'a str]| pair.first().is_some_and(|text| [",", "(", ":"].contains(&text.trim()));
    rest.chunks(2).take_while(between).filter(|_| opens).filter_map(|pair| pair.get(1).copied()).collect()
}

fn defines(text: &str, item: &str) -> bool {
    let name = item.rsplit("::").next().unwrap_or(item);
    let goes_on = |c: char| c.is_alphanumeric() || c == '_';
    DEFINES.iter().any(|word| {
        let start = format!("{word}{name}");
        text.match_indices(&start).any(|(at, _)| !text[at + start.len()..].starts_with(goes_on))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_items_exist_walks_are_short_and_words_in_order() {
        let steps = |steps: &str| {
            let others = "\n### A directive\n\n1. `b.rs`\n\n### An order\n\n1. `b.rs`\n";
            let page = format!("# A\n\n### A proxied request\n\n{steps}\n\nNo step: `a/src/`.{others}");
            let code = "fn walk<T>() {}\npub struct Walk;\nfn walks() {}".to_owned();
            let mut found = Vec::new();
            check(&[(PAGE.to_owned(), page), ("crates/a/src/b.rs".to_owned(), code)], &mut found);
            found.into_iter().map(|f| (f.line, f.subject)).collect::<Vec<_>>()
        };
        assert_eq!(steps("1. `a/b.rs` (`walk`, `Walk::walks`)\n   and `b.rs`: `Walk`."), []);
        assert_eq!(steps("1. `a/b.rs` (`walk`,\n   `wal`)"), [(5, "wal".to_owned())]);
        assert_eq!(steps("1. `c.rs`\n2. `a/c/`"), [(5, "c.rs".to_owned()), (6, "a/c/".to_owned())]);
        assert_eq!(steps("None."), [(0, "A proxied request".to_owned())]);
        let many: String = (0..21).map(|n| format!("1. `{n}/../b.rs`\n")).collect();
        assert_eq!(steps(&many).last(), Some(&(0, "A proxied request".to_owned())));
        let page = "## A\n\n## Glossary\n\n| word | meaning |\n|---|---|\n| a | 1 |\n| C | 1 |\n| b | 1 |\n| b | 1 |\n";
        let mut found = Vec::new();
        check(&[(PAGE.to_owned(), page.to_owned())], &mut found);
        let words = found.iter().filter(|f| f.lint == "glossary").map(|f| f.subject.as_str());
        assert_eq!(words.collect::<Vec<_>>(), ["b", "b"]);
    }
}
