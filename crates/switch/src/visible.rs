//! Texts of people, for a terminal.
//!
//! Owns which characters are shown escaped, because they would move the cursor, hide, or reorder what is around them.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns true for a character that a terminal does not show as itself: control characters (line feed and tab apart),
/// those without width, and those that change the direction of writing.
pub fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' => true,
        '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' => true,
        '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' => true,
        _ => c.is_control(),
    }
}

/// Returns the text with each hidden character escaped as `\u{202e}`.
///
/// ```
/// use pointsman_switch::visible;
///
/// assert_eq!(visible("shop.example, bücher"), "shop.example, bücher");
/// assert_eq!(visible("a\u{202e}b"), "a\\u{202e}b");
/// ```
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |out, c| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{}", c.escape_unicode());
    })
}

/// Returns a key as people are shown it: as it is, unless it is empty or begins with a quotation mark. Then it stands between
/// quotation marks, with `\\` before each of its own and before backslashes, so that it is taken for no other key.
///
/// ```
/// use pointsman_switch::shown_key;
///
/// assert_eq!(shown_key("shop.example"), "shop.example");
/// assert_eq!(shown_key(""), "\"\"");
/// assert_eq!(shown_key("\"\""), r#""\"\"""#);
/// ```
pub fn shown_key(key: &str) -> Cow<'_, str> {
    if !key.is_empty() && !key.starts_with('"') {
        return Cow::Borrowed(key);
    }
    Cow::Owned(format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Returns JSON with each hidden character escaped as JSON does, `\u202e`. They occur in its strings alone.
pub fn visible_json(text: &str) -> Cow<'_, str> {
    escaped(text, |out, c| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

fn escaped(text: &str, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hidden(c) { escape(&mut out, c) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_escaped() {
        for (text, shown) in [
            ("a\u{1b}[2J", "a\\u{1b}[2J"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("\u{e0041}", "\\u{e0041}"),
            ("a\r\n\tb", "a\\u{d}\n\tb"),
        ] {
            assert_eq!(visible(text), shown);
        }
        assert!(matches!(visible("plain, ünï, 漢字\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn escaped_json_says_the_same() {
        let text = "{\"a\":\"x\u{202e}\u{85}\u{e0041}ü\"}\n";
        assert_eq!(visible_json(text), "{\"a\":\"x\\u202e\\u0085\\udb40\\udc41ü\"}\n");
    }
}
