//! The `Cookie` header as a list of names and values.
//!
//! Owns the search for one cookie, as `$cookie_name` means it (`ngx_http_parse_cookie_lines`). Values are neither
//! unescaped nor unquoted.

/// Returns the value of the first cookie with this name in these `Cookie` fields, whatever the case of its letters.
pub fn find<'a>(fields: impl IntoIterator<Item = &'a [u8]>, name: &[u8]) -> Option<&'a [u8]> {
    fields.into_iter().find_map(|field| find_in(field, name))
}

fn find_in<'a>(field: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = field;
    while let Some((spelt, after)) = rest.split_at_checked(name.len()) {
        if spelt.eq_ignore_ascii_case(name) {
            match trim_start(after).split_first() {
                Some((b'=', value)) => {
                    let value = trim_start(value);
                    let end = memchr::memchr(b';', value).unwrap_or(value.len());
                    return Some(&value[..end]);
                }
                // As in nginx, the byte behind the name is skipped even if it is the `;`, and the next pair with it.
                Some((_, after)) => rest = after,
                None => return None,
            }
        }
        rest = trim_start(&rest[memchr::memchr(b';', rest)? + 1..]);
    }
    None
}

fn trim_start(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|byte| **byte == b' ').count();
    &text[spaces..]
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn the_first_cookie_of_a_name_is_found() {
        let cases: &[(&[&str], &str, Option<&str>)] = &[
            (&["a=1; b=2"], "b", Some("2")),
            (&["a=1", "c=3; b=4"], "b", Some("4")),
            (&["A=1"], "a", Some("1")),
            (&["a = 1 ;b=2"], "a", Some("1 ")),
            (&["a;a=2"], "a", None),
            (&["a;b;a=2"], "a", Some("2")),
            (&["a=\"x, y\"; b=2"], "a", Some("\"x, y\"")),
            (&["ab=1"], "a", None),
            (&["b=a=1"], "a", None),
            (&["a="], "a", Some("")),
            (&[""], "a", None),
            (&[], "a", None),
        ];
        for (fields, name, value) in cases {
            let fields = fields.iter().map(|field| field.as_bytes());
            assert_eq!(find(fields, name.as_bytes()), value.map(str::as_bytes), "{name}");
        }
    }
}
