//! What must not be in any tracked text: marks of unfinished work, paths of somebody's machine, hosts of package
//! registries, merge conflicts; and links in our documents that lead nowhere.

use super::Finding;

/// Texts of others, or written by tools.
const NOT_OURS: [&str; 2] = ["Cargo.lock", "LICENSE-APACHE"];

/// Written in halves, so that this file does not break its own lint.
const UNFINISHED: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
const MACHINE_PATHS: [&str; 3] = [concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];
const REGISTRIES: [&str; 6] = [
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("npmjs", ".org"),
    concat!("deb.debian", ".org"),
    concat!("archive.ubuntu", ".com"),
    concat!("proxy.golang", ".org"),
];
const CONFLICTS: [&str; 2] = [concat!("<<<<", "<<< "), concat!(">>>>", ">>> ")];

/// Adds what breaks these lints in a file.
pub(super) fn check(path: &str, text: &str, found: &mut Vec<Finding>) {
    if NOT_OURS.contains(&path) {
        return;
    }
    for (number, line) in (1..).zip(text.lines()) {
        let mut add =
            |lint, subject: &str, text: &str| found.push(Finding::new(path, number, lint, subject, text));
        for word in UNFINISHED {
            if stands_alone(line, word) {
                add("unfinished", word, "finish it, or open an issue");
            }
        }
        for start in MACHINE_PATHS {
            if begins_a_path(line, start) {
                add("machine-path", start, "a path of one machine");
            }
        }
        for host in REGISTRIES {
            if line.contains(host) {
                add("registry", host, "a host of a package registry: the user's tools know theirs");
            }
        }
        if CONFLICTS.iter().any(|mark| line.starts_with(mark)) {
            add("conflict", line, "a merge that was not finished");
        }
    }
}

/// Adds the links of a Markdown file to files that are not there.
pub(super) fn check_links(path: &str, text: &str, exists: &dyn Fn(&str) -> bool, found: &mut Vec<Finding>) {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    for (number, line) in (1..).zip(text.lines()) {
        for after in line.split("](").skip(1) {
            let Some((target, _)) = after.split_once(')') else { continue };
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            if !exists(&within(folder, file)) {
                found.push(Finding::new(path, number, "link", target, "leads nowhere"));
            }
        }
    }
}

/// Returns a link's target, from the root.
fn within(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn stands_alone(line: &str, word: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_letter) && !line[at + word.len()..].starts_with(is_letter))
}

/// Does a path start with this here, and not in the middle of a longer one?
fn begins_a_path(line: &str, start: &str) -> bool {
    let goes_on =
        |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}' | '>' | '*' | '%' | '$');
    line.match_indices(start).any(|(at, _)| !line[..at].ends_with(goes_on))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lints(text: &str) -> Vec<&'static str> {
        let mut found = Vec::new();
        check("docs/a.md", text, &mut found);
        found.into_iter().map(|f| f.lint).collect()
    }

    #[test]
    fn unfinished_work_is_found_as_a_word() {
        for word in UNFINISHED {
            assert_eq!(lints(&format!("// {word}: later")), ["unfinished"]);
            assert_eq!(lints(&format!("// {word}S and A{word}")), [""; 0]);
        }
    }

    #[test]
    fn paths_of_a_machine_are_found_where_they_begin() {
        for start in MACHINE_PATHS {
            assert_eq!(lints(&format!("see {start}somebody")), ["machine-path"]);
            assert_eq!(lints(&format!("\"{start}somebody\"")), ["machine-path"]);
            assert_eq!(lints(&format!("{{prefix}}{start}somebody")), [""; 0]);
        }
    }

    #[test]
    fn registries_and_conflicts_are_found() {
        for host in REGISTRIES {
            assert_eq!(lints(&format!("https://{host}/x")), ["registry"]);
        }
        for mark in CONFLICTS {
            assert_eq!(lints(&format!("{mark}HEAD")), ["conflict"]);
        }
    }

    #[test]
    fn files_of_tools_are_skipped() {
        let mut found = Vec::new();
        check("Cargo.lock", &format!("source = \"{}\"", REGISTRIES[0]), &mut found);
        assert_eq!(found, []);
    }

    #[test]
    fn links_lead_to_files() {
        let mut found = Vec::new();
        let text = "[a](b.md) [c](../README.md#top) [d](https://example.com/) [e](#here) [f](gone.md)";
        let exists = |target: &str| ["docs/b.md", "README.md"].contains(&target);
        check_links("docs/a.md", text, &exists, &mut found);
        let subjects: Vec<&str> = found.iter().map(|f| f.subject.as_str()).collect();
        assert_eq!(subjects, ["gone.md"]);
    }
}
