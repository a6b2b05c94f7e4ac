//! Every crate that is built in carries a licence that `deny.toml` allows. cargo-deny checks more, where it is there.

use serde_json::Value;

use super::Finding;

/// Adds the crates whose licence is not allowed.
pub(super) fn check(metadata: &Value, deny: &str, found: &mut Vec<Finding>) -> Result<(), String> {
    let allowed = allowed(deny);
    if allowed.is_empty() {
        return Err("deny.toml allows no licence".to_owned());
    }
    for package in metadata["packages"].as_array().ok_or("cargo metadata lists no packages")? {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default();
        if !is_allowed(licence, &allowed) {
            let text = format!("licence \"{licence}\" is not among those that deny.toml allows");
            found.push(Finding::new("Cargo.lock", 0, "licence", name, text));
        }
    }
    Ok(())
}

/// Returns the strings of `allow = [ … ]` under `[licenses]`.
fn allowed(deny: &str) -> Vec<&str> {
    let section = deny.split("[licenses]").nth(1).unwrap_or_default();
    let list = section.split("allow = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default();
    list.split('"').skip(1).step_by(2).collect()
}

/// Reads an SPDX expression: alternatives by `OR` (or `/`, as old crates have it), `AND` within one, parentheses. The
/// innermost parentheses are judged first, and then are a `+` or a `-` in those around them.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let is_good = |one: &str| one == "+" || allowed.contains(&one);
    let mut text = format!("({})", expression.replace('/', " OR "));
    while let Some(open) = text.rfind('(') {
        let Some(len) = text[open..].find(')') else { return false };
        let mut alternatives = text[open + 1..open + len].split(" OR ");
        let good = alternatives.any(|all| all.split(" AND ").all(|one| is_good(one.trim())));
        text.replace_range(open..=open + len, if good { "+" } else { "-" });
    }
    text == "+"
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENY: &str =
        "[bans]\n[licenses]\n# Some.\nallow = [\n    \"MIT\",\n    \"Zlib\",\n    \"A WITH B\",\n]\n[x]\n";

    #[test]
    fn the_list_is_read() {
        assert_eq!(allowed(DENY), ["MIT", "Zlib", "A WITH B"]);
    }

    #[test]
    fn expressions_are_read() {
        let allowed = allowed(DENY);
        for good in
            ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "MIT AND Zlib", "(MIT OR GPL-3.0) AND Zlib", "A WITH B"]
        {
            assert!(is_allowed(good, &allowed), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR Zlib) AND GPL-3.0",
            "A",
            "MIT WITH B",
            "(MIT",
            "MIT Zlib",
        ] {
            assert!(!is_allowed(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn a_crate_without_an_allowed_licence_is_named() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "good", "license": "MIT" },
            { "name": "bad", "license": "GPL-3.0" },
            { "name": "silent", "license": null },
        ] });
        let mut found = Vec::new();
        check(&metadata, DENY, &mut found).expect("a list");
        let subjects: Vec<&str> = found.iter().map(|f| f.subject.as_str()).collect();
        assert_eq!(subjects, ["bad", "silent"]);
        assert!(check(&metadata, "", &mut found).is_err());
    }
}
