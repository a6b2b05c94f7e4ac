//! The written list of exceptions: each with its reason, and none that excuses nothing.

use super::Finding;

/// The list, beside xtask's `Cargo.toml`.
pub(super) const FILE: &str = "tidy-exceptions.txt";

/// How many exceptions there may be from some lints together.
const AT_MOST: [(&[&str], usize); 3] =
    [(&["circle", "large-circle", "huge-circle"], 4), (&["large-circle"], 1), (&["huge-circle"], 0)];

/// One line: `lint | path | subject or * | reason`.
struct Exception<'a> {
    line: usize,
    lint: &'a str,
    path: &'a str,
    subject: &'a str,
}

/// Takes away what the list excuses, and adds what is wrong with the list.
pub(super) fn apply(list: &str, found: Vec<Finding>) -> Vec<Finding> {
    let mut left = Vec::new();
    let mut exceptions = Vec::new();
    let own = format!("xtask/{FILE}");
    for (line, text) in (1..).zip(list.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let columns: Vec<&str> = text.splitn(4, '|').map(str::trim).collect();
        match columns[..] {
            [lint, path, subject, reason] if !reason.is_empty() => {
                exceptions.push((Exception { line, lint, path, subject }, false));
            }
            _ => {
                let shape = "is not `lint | path | subject or * | reason`";
                left.push(Finding::new(&own, line, "exceptions", text, shape));
            }
        }
    }
    for (lints, most) in AT_MOST {
        let listed = exceptions.iter().filter(|(exception, _)| lints.contains(&exception.lint));
        for (exception, _) in listed.skip(most) {
            let text = format!("is one more than the {most} exceptions that there may be");
            left.push(Finding::new(&own, exception.line, "exceptions", exception.lint, text));
        }
    }
    for finding in found {
        let excuse = exceptions.iter_mut().find(|(exception, _)| {
            exception.lint == finding.lint
                && exception.path == finding.path
                && (exception.subject == "*" || exception.subject == finding.subject)
        });
        match excuse {
            Some((_, used)) => *used = true,
            None => left.push(finding),
        }
    }
    for (exception, used) in exceptions {
        if !used {
            let subject = format!("{} | {} | {}", exception.lint, exception.path, exception.subject);
            left.push(Finding::new(&own, exception.line, "exceptions", &subject, "excuses nothing any more"));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(lint: &'static str, path: &str, subject: &str) -> Finding {
        Finding::new(path, 7, lint, subject, "text")
    }

    #[test]
    fn an_exception_excuses_its_own_lint_place_and_subject() {
        let list =
            "# Why.\n\nunwrap | a.rs | * | It cannot fail.\nfunction-lines | a.rs | long | One table.\n";
        let found = vec![
            finding("unwrap", "a.rs", "expect"),
            finding("unwrap", "b.rs", "expect"),
            finding("function-lines", "a.rs", "long"),
            finding("function-lines", "a.rs", "longer"),
        ];
        let left = apply(list, found);
        assert_eq!(left, [finding("unwrap", "b.rs", "expect"), finding("function-lines", "a.rs", "longer")]);
    }

    #[test]
    fn circles_have_few_exceptions() {
        let list = |lints: &[&str]| {
            lints.iter().map(|lint| format!("{lint} | a | * | It is one.\n")).collect::<String>()
        };
        let excess = |lints: &[&'static str]| {
            let found = lints.iter().map(|lint| finding(lint, "a", "b")).collect();
            let left = apply(&list(lints), found);
            left.into_iter().filter(|f| f.text.contains("one more")).map(|f| f.line).collect::<Vec<_>>()
        };
        assert_eq!(excess(&["circle", "circle", "circle", "large-circle"]), [0; 0]);
        assert_eq!(excess(&["circle", "circle", "circle", "circle", "large-circle"]), [5]);
        assert_eq!(excess(&["large-circle", "large-circle"]), [2]);
        assert_eq!(excess(&["huge-circle"]), [1]);
    }

    #[test]
    fn an_exception_without_a_reason_or_a_use_is_a_finding() {
        let lints =
            |list: &str| apply(list, Vec::new()).into_iter().map(|f| (f.lint, f.line)).collect::<Vec<_>>();
        assert_eq!(lints("unwrap | a.rs | *"), [("exceptions", 1)]);
        assert_eq!(lints("unwrap | a.rs | * |  "), [("exceptions", 1)]);
        assert_eq!(lints("\nunwrap | a.rs | * | It cannot fail."), [("exceptions", 2)]);
    }
}
