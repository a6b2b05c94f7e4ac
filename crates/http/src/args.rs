//! The query of a URI as a list of arguments.
//!
//! Owns the search for one argument, as `$arg_name` means it (`ngx_http_arg`). Values stay escaped.

/// Returns the value of the first argument with this name, whatever the case of its letters; an argument without `=` is
/// not found.
pub fn find<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    if name.is_empty() || query.len() <= name.len() {
        return None;
    }
    query.split(|byte| *byte == b'&').find_map(|argument| {
        let (spelt, rest) = argument.split_at_checked(name.len())?;
        if !spelt.eq_ignore_ascii_case(name) {
            return None;
        }
        rest.strip_prefix(b"=")
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn the_first_argument_of_a_name_is_found() {
        let cases: &[(&str, &str, Option<&str>)] = &[
            ("a=1&b=2", "b", Some("2")),
            ("a=1&A=2", "A", Some("1")),
            ("Upstream=green", "upstream", Some("green")),
            ("a&a=", "a", Some("")),
            ("a=x=y&", "a", Some("x=y")),
            ("ba=1&a=%20", "a", Some("%20")),
            ("ab=1", "a", None),
            ("a", "a", None),
            ("", "a", None),
            ("=1", "", None),
            ("x=a=1", "a", None),
        ];
        for (query, name, value) in cases {
            assert_eq!(find(query.as_bytes(), name.as_bytes()), value.map(str::as_bytes), "{query} {name}");
        }
    }
}
