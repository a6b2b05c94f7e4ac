//! Promises without a test: `docs/promises.md` quotes each sentence that SECURITY.md and docs/limits.md promise, with the
//! tests that hold it. A sentence that is quoted nowhere, a row without a test, and a test that does not exist is a finding.

use std::collections::BTreeSet;

use super::Finding;

const PAGE: &str = "docs/promises.md";
/// Where every sentence is quoted: from a heading on, up to the next of its level. Lines that begin so are left out.
const QUOTED: [(&str, &str, &[char]); 2] =
    [("SECURITY.md", "# Security", &['#']), ("docs/limits.md", "# Limits", &['#', '|'])];
/// Tables whose last column names tests. Rows and tests of the last one have numbers.
const TABLES: [&str; 3] = [PAGE, "docs/limits.md", "docs/switching-promises.md"];

/// Adds what is wrong in these documents, among the tracked files.
pub(super) fn check(files: &[(String, String)], found: &mut Vec<Finding>) {
    let text = |path: &str| files.iter().find(|(name, _)| name == path).map_or("", |(_, text)| text);
    let tests: BTreeSet<&str> = files.iter().flat_map(|(path, text)| tests(path, text)).collect();
    for path in TABLES {
        for (line, row) in rows(text(path)) {
            let names: Vec<&str> =
                row.last().into_iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
            let mut add =
                |name: &str, what: &str| found.push(Finding::new(path, line, "promise", name, what));
            if names.is_empty() {
                add(&row[0], "has no test");
            }
            for name in names.iter().filter(|name| !tests.contains(**name) && !is_case(files, name)) {
                add(name, "there is no such test");
            }
        }
    }
    let page = rows(text(TABLES[2]));
    let has = |of: &str, it: &str| page.iter().any(|(_, row)| row[0] == of && row[1..].concat().contains(it));
    let cases = files.iter().filter_map(|(path, _)| path.strip_prefix("cases/")?.strip_suffix(".case"));
    let is_unlisted = |name: &&str| number_of(name).is_some_and(|of| !has(of, &format!("`{name}`")));
    let last = page.iter().filter_map(|(_, row)| row[0].parse::<u32>().ok()).max().unwrap_or(0);
    let untested = (1..=last).map(|of| of.to_string()).filter(|of| !has(of, &format!("`promise_{of}_")));
    for name in tests.iter().copied().chain(cases).filter(is_unlisted).map(str::to_owned).chain(untested) {
        found.push(Finding::new(TABLES[2], 0, "promise", &name, "there is no such row, or no such test"));
    }
    let cells = rows(text(PAGE)).into_iter().map(|(line, row)| (line, row[0].clone()));
    let notes = (1..)
        .zip(text(PAGE).lines())
        .filter_map(|(line, text)| Some((line, text.strip_prefix("- ")?.to_owned())));
    let mut quotes: Vec<(usize, String)> =
        cells.chain(notes).map(|(line, text)| (line, plain(&text, &[]))).collect();
    for (path, heading, skipped) in QUOTED {
        let level = heading.split(' ').next().unwrap_or_default();
        let section = text(path).split_once(&format!("{heading}\n")).map_or("", |(_, rest)| rest);
        let section = section.split(&format!("\n{level} ")).next().unwrap_or_default();
        let mut left = plain(section, skipped);
        quotes.retain(|(_, quote)| match left.find(quote.as_str()) {
            Some(at) => {
                left.replace_range(at..at + quote.len(), "\n");
                false
            }
            None => true,
        });
        for rest in left.lines().map(str::trim).filter(|rest| rest.contains(char::is_alphanumeric)) {
            found.push(Finding::new(path, 0, "promise", rest, format!("is not quoted in {PAGE}")));
        }
    }
    for (line, quote) in quotes {
        found.push(Finding::new(PAGE, line, "promise", &quote, "no document says so any more"));
    }
}

/// Returns the names of the tests in a file or its table, of the invariants of a simulation, and of a fuzz target.
fn tests<'a>(path: &'a str, text: &'a str) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim).filter(|_| path.ends_with(".rs")) {
        is_test |= line.starts_with("#[") && line.contains("test") && !line.contains("cfg");
        if let Some((_, name)) = line.split_once("fn ").filter(|_| std::mem::take(&mut is_test)) {
            names.extend(name.split(['(', '<']).next());
        }
    }
    if path.contains("simulat") || path.starts_with("crates/process/tests/") {
        names.extend(text.split('"').skip(1).step_by(2));
    }
    names.extend(path.strip_prefix("fuzz/fuzz_targets/").and_then(|name| name.strip_suffix(".rs")));
    names
}

/// Returns the number in the name of a test (`promise_7_…`) or of a case (`switch/promise-7-…`).
fn number_of(name: &str) -> Option<&str> {
    let rest = name.rsplit('/').next()?.strip_prefix("promise")?.strip_prefix(['_', '-'])?;
    rest.split(['_', '-']).next().filter(|number| number.parse::<u32>().is_ok())
}

/// Returns true if a case file has this name, below `cases/` and without its ending; `*` stands for any letters.
fn is_case(files: &[(String, String)], name: &str) -> bool {
    let (start, end) = name.split_once('*').unwrap_or((name, ""));
    let cases = files.iter().filter_map(|(path, _)| path.strip_prefix("cases/")?.strip_suffix(".case"));
    let fits = |case: &str| {
        if name.contains('*') { case.starts_with(start) && case.ends_with(end) } else { case == name }
    };
    cases.into_iter().any(fits)
}

/// Returns the rows of all tables with their lines, without the heads.
fn rows(text: &str) -> Vec<(usize, Vec<String>)> {
    let is_rule = |line: Option<&&str>| line.is_some_and(|line| line.starts_with("|-"));
    let lines: Vec<&str> = text.lines().collect();
    let rows = (0..lines.len()).filter(|at| lines[*at].starts_with("| ") && !is_rule(lines.get(at + 1)));
    let cell = |cell: &str| cell.trim().replace('\0', "|");
    let cells = |row: &str| row.trim_matches('|').replace("\\|", "\0").split('|').map(cell).collect();
    rows.map(|at| (at + 1, cells(lines[at]))).collect()
}

/// Returns a text without the lines that begin so, without marks, and with one blank between two words.
fn plain(text: &str, skipped: &[char]) -> String {
    let lines = text.lines().filter(|line| !line.starts_with(skipped));
    let words = lines.flat_map(|line| line.strip_prefix("- ").unwrap_or(line).split([' ', '|']));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let mut text = words.join(" ").replace("**", "").replace('`', "");
    while let Some((before, after)) = text.split_once("](") {
        let (before, after) =
            (before.to_owned(), after.split_once(')').map_or("", |(_, after)| after).to_owned());
        let (head, label) = before.rsplit_once('[').unwrap_or((&before, ""));
        text = format!("{head}{label}{after}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_needs_a_test_that_exists() {
        let page = |rows: &str| format!("| promise | test |\n|---|---|\n{rows}");
        let found = |security: &str, page: String| {
            let limits = "# Limits\n\n| a | test |\n|---|---|\n| b | `it_holds` |\n".to_owned();
            let test = "#[test]\nfn it_holds() {}\nfn helper() {}\n".to_owned();
            let files = [("SECURITY.md", format!("# Security\n\n{security}\n\n# More\n\nNot this.\n"))]
                .into_iter()
                .chain([
                    (PAGE, page),
                    ("docs/limits.md", limits),
                    ("a.rs", test),
                    ("cases/a/b-c.case", String::new()),
                ]);
            let files: Vec<(String, String)> = files.map(|(path, text)| (path.to_owned(), text)).collect();
            let mut found = Vec::new();
            check(&files, &mut found);
            found
                .into_iter()
                .map(|one| format!("{}:{} {}", one.path, one.subject, one.text))
                .collect::<Vec<_>>()
        };
        let held = "| One end. Bounded (see limits). | `it_holds`, case `a/b-*` |\n\n- As nginx.\n";
        let security = "- **One\n  end.** Bounded (see [limits](x.md)). As nginx.";
        assert_eq!(found(security, page(held)), [""; 0]);
        let more = found(&format!("{security} No loss."), page(held));
        assert_eq!(more, ["SECURITY.md:No loss. is not quoted in docs/promises.md"]);
        assert_eq!(
            found("", page("| One end. | `it_holds` |\n")),
            ["docs/promises.md:One end. no document says so any more"]
        );
        let rows = page("| 1 | a | `promise_1_a`, `promise_2_b` |\n| 3 | c | `promise_1_a` |\n");
        let tests = "#[test]\nfn promise_1_a() {}\n#[test]\nfn promise_2_b() {}\n".to_owned();
        let mut numbered = Vec::new();
        check(&[(TABLES[2].to_owned(), rows), ("a.rs".to_owned(), tests)], &mut numbered);
        assert!(numbered.iter().map(|one| &*one.subject).eq(["promise_2_b", "2", "3"]));
        let row = |test: &str| found("One end.", page(&format!("| One end. | {test} |\n")));
        assert_eq!(row("by hand"), ["docs/promises.md:One end. has no test"]);
        for gone in ["helper", "it_held", "a/b", "a/x-*"] {
            assert_eq!(row(&format!("`{gone}`")), [format!("docs/promises.md:{gone} there is no such test")]);
        }
    }
}
