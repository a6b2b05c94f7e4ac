//! "Did you mean": the known name nearest to a mistyped one.
//!
//! Owns the measure of nearness. It must rather say nothing than something far-fetched.

/// The candidate that takes the fewest slips to mistype as `name`, if they are few for its length. A slip is a letter
/// left out, put in, changed, or swapped with its neighbour. Of equally near candidates the first wins.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = match name.len() {
        0..=2 => return None,
        3..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let allowed = best.map_or(limit, |(slips, _)| slips - 1);
        if candidate.len().abs_diff(name.len()) <= allowed
            && let Some(slips) = slips(name.as_bytes(), candidate.as_bytes(), allowed)
        {
            if slips == 0 {
                return Some(candidate);
            }
            best = Some((slips, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The number of slips between two words, if it is at most `limit`.
fn slips(a: &[u8], b: &[u8], limit: usize) -> Option<usize> {
    // Three rows of the table of distances between the first i bytes of `a` and the first j of `b`.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        if row.iter().min().is_none_or(|least| *least > limit) {
            return None;
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().filter(|slips| *slips <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_forgiven_and_strangers_are_not() {
        let known =
            ["proxy_pass", "proxy_set_header", "server_name", "server", "listen", "root", "log_format"];
        for (typed, meant) in [
            ("proxy_pas", Some("proxy_pass")),
            ("porxy_pass", Some("proxy_pass")),
            ("proxypass", Some("proxy_pass")),
            ("sevrer", Some("server")),
            ("servername", Some("server_name")),
            ("lisetn", Some("listen")),
            ("rooot", Some("root")),
            ("log-format", Some("log_format")),
            ("banana", None),
            ("ro", None),
            ("--", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known.into_iter()), meant, "{typed}");
        }
    }
}
