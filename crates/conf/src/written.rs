//! Words as a configuration has them written.
//!
//! Owns when a word needs quotes, and the escapes inside them. Must never write what the lexer reads as another word.

use std::borrow::Cow;

/// Returns a word as it is written: in quotes if it needs them, so that it is read as the same word.
///
/// ```
/// assert_eq!(pointsman_conf::written("unix:/run/app.sock"), "unix:/run/app.sock");
/// assert_eq!(pointsman_conf::written("unix:/run/a;b.sock"), "\"unix:/run/a;b.sock\"");
/// ```
pub fn written(word: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| !byte.is_ascii_whitespace() && !b";{}\"'\\#$".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return Cow::Borrowed(word);
    }
    let mut out = String::with_capacity(word.len() + 2);
    out.push('"');
    for letter in word.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            letter => out.push(letter),
        }
    }
    out.push('"');
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The words of a directive that is written so.
    fn read(line: &str) -> Vec<String> {
        let parsed = crate::parse_text("/conf", line, &crate::NoFiles);
        assert!(parsed.diagnostics.is_empty(), "{line:?}: {:?}", parsed.diagnostics);
        let [directive] = &parsed.tree.directives[..] else { panic!("{line:?}: {:?}", parsed.tree) };
        directive.args.iter().map(|word| word.value.to_string()).collect()
    }

    proptest! {
        #[test]
        fn a_written_word_is_read_as_the_same(words in proptest::collection::vec(
            "([a-z:/.0-9=]|[;{}$\"'\\\\# \t\r\n]|[äß€\u{1}]){0,12}", 1..4)) {
            let line: String = words.iter().map(|word| format!(" {}", written(word))).collect();
            prop_assert_eq!(read(&format!("server{line};")), words);
        }
    }

    #[test]
    fn a_plain_word_has_no_quotes() {
        for word in ["10.0.0.1:80", "[::1]:80", "weight=3", "http=http://h/x?a=b&c", "unix:/run/ä.sock"] {
            assert_eq!(written(word), word);
        }
    }
}
