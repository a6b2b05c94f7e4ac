//! The `Cookie` header as a list of names and values.
//!
//! Owns the search for one cookie, as `$cookie_name` means it (`ngx_http_parse_cookie_lines`). Values are neither
//! unescaped nor unquoted.

/// The value of the first cookie with this name in these `Cookie` fields, whatever the case of its letters.
pub fn find<'a>(fields: impl IntoIterator<Item = &'a [u8]>, name: &[u8]) -> Option<&'a [u8]> {
    fields.into_iter().find_map(|field| {
        field.split(|byte| *byte == b';').find_map(|pair| {
            // Only spaces count around the parts, and behind the value not even those are cut.
            let (spelt, rest) = trim_start(pair).split_at_checked(name.len())?;
            if !spelt.eq_ignore_ascii_case(name) {
                return None;
            }
            trim_start(rest).strip_prefix(b"=").map(trim_start)
        })
    })
}

fn trim_start(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|byte| **byte == b' ').count();
    &text[spaces..]
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn the_first_of_a_name_is_found() {
        let cases: &[(&[&str], &str, Option<&str>)] = &[
            (&["a=1; b=2"], "b", Some("2")),
            (&["a=1", "c=3; b=4"], "b", Some("4")),
            (&["A=1"], "a", Some("1")),
            (&["a = 1 ;b=2"], "a", Some("1 ")),
            (&["a;a=2"], "a", Some("2")),
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
