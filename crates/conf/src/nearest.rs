//! "Did you mean …?": the known name nearest to a mistyped one.
//!
//! Owns how near is near enough: a far-fetched suggestion is worse than none.

use strsim::osa_distance;

/// Returns the candidate nearest to `name`, if it is near enough for the name's length. The distance is the number of
/// letters left out, added, changed, or swapped with their neighbour. Of equally near candidates the first wins.
///
/// ```
/// use pointsman_conf::nearest;
///
/// let known = ["listen", "server_name", "proxy_pass"];
/// assert_eq!(nearest("porxy_pass", known.into_iter()), Some("proxy_pass"));
/// assert_eq!(nearest("banana", known.into_iter()), None);
/// ```
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = match name.len() {
        0..=2 => return None,
        3..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    candidates
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= limit)
        .map(|candidate| (osa_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_is_found_and_a_strange_one_is_not() {
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
