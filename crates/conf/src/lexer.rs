//! Words and marks out of bytes, exactly as nginx takes them (`ngx_conf_read_token`).
//!
//! Owns quotes, escapes, `${`, comments and the length limit. It must agree with nginx on every text, byte for byte;
//! the agreement is tested against a real nginx on random texts.

use bstr::{BString, ByteSlice};

/// nginx reads configuration through a buffer of this size, and so refuses a longer word.
pub(crate) const WORD_LIMIT_BYTES: usize = 4096;

/// The next thing in a text. Numbers are offsets.
#[derive(Debug, PartialEq)]
pub(crate) enum Token {
    /// A word.
    Word(Lexed),
    /// `;`
    Semicolon(u32),
    /// `{`
    Open(u32),
    /// `}`
    Close(u32),
    /// The end of the text.
    End,
    /// No token.
    LexFault(LexFault),
}

/// A word with its place.
#[derive(Debug, PartialEq)]
pub(crate) struct Lexed {
    /// Without quotes and escapes.
    pub value: BString,
    /// Its first byte.
    pub start: u32,
    /// After its last byte.
    pub end: u32,
    /// In quotes.
    pub quoted: bool,
    /// The first thing on its line.
    pub starts_line: bool,
}

/// Why there is no token. Offsets.
#[derive(Debug, PartialEq)]
pub(crate) enum LexFault {
    /// The quoted word that began at `open` ended just before `at`, where something is that must not follow it.
    AfterQuote { open: u32, at: u32 },
    /// A word, quoted or not, that began at `start` and is too long.
    TooLong { start: u32, quote: Option<u8> },
    /// A quoted word that began at `open` and never ends.
    NoClosingQuote { open: u32 },
}

/// Where the text can be read on after a fault.
#[derive(Debug, PartialEq)]
pub(crate) enum Resumed {
    /// After a `;` that ends a line.
    Semicolon,
    /// After the `{` at this offset that ends a line.
    Open(u32),
    /// Before a `}` that begins a line.
    Close,
    /// At the end.
    End,
}

/// Reads one text from front to back.
pub(crate) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    /// The offset of the quoted word just read, while nothing came after it.
    after_quote: Option<u32>,
    starts_line: bool,
    limited: bool,
}

impl<'a> Lexer<'a> {
    /// Creates a lexer at the start of a text. `limited`: words are limited as in files, not as in the `-g` option.
    pub(crate) fn new(text: &'a [u8], limited: bool) -> Self {
        Lexer { text, at: 0, after_quote: None, starts_line: true, limited }
    }

    /// Moves to another offset.
    pub(crate) fn jump(&mut self, at: usize) {
        self.at = at.min(self.text.len());
        self.after_quote = None;
        self.starts_line = false;
    }

    /// Skips the rest of the line that holds an offset.
    pub(crate) fn skip_line(&mut self, from: u32) {
        let rest = &self.text[(from as usize).min(self.text.len())..];
        self.jump(from as usize + rest.find_byte(b'\n').unwrap_or(rest.len()));
    }

    /// Returns the next token.
    pub(crate) fn next(&mut self) -> Token {
        while let Some(&byte) = self.text.get(self.at) {
            if let Some(open) = self.after_quote
                && !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' | b')')
            {
                self.after_quote = None;
                return Token::LexFault(LexFault::AfterQuote { open, at: self.at as u32 });
            }
            self.after_quote = None;
            let at = self.at as u32;
            match byte {
                b'\n' => self.starts_line = true,
                b' ' | b'\t' | b'\r' => {}
                b'#' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find_byte(b'\n').unwrap_or(rest.len());
                    continue;
                }
                b';' | b'{' | b'}' => {
                    self.at += 1;
                    self.starts_line = false;
                    return match byte {
                        b';' => Token::Semicolon(at),
                        b'{' => Token::Open(at),
                        _ => Token::Close(at),
                    };
                }
                _ => return self.word(byte),
            }
            self.at += 1;
        }
        Token::End
    }

    /// Returns a word that begins with this byte at the present place.
    fn word(&mut self, first: u8) -> Token {
        let open = self.at;
        let quote = matches!(first, b'"' | b'\'').then_some(first);
        let start = open + usize::from(quote.is_some());
        // As in nginx, `{` after `$` stays in the word, and so do further `{` right after it.
        let mut variable = first == b'$';
        let mut escaped = first == b'\\';
        let mut at = open + 1;
        while let Some(&byte) = self.text.get(at) {
            if self.limited && at - start >= WORD_LIMIT_BYTES {
                return Token::LexFault(LexFault::TooLong { start: open as u32, quote });
            }
            if escaped {
                escaped = false;
            } else if !(byte == b'{' && variable) {
                variable = byte == b'$';
                escaped = byte == b'\\';
                let ends = match quote {
                    Some(quote) => byte == quote,
                    None => matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{'),
                };
                if ends {
                    return self.finish(open, start, at, quote.is_some());
                }
            }
            at += 1;
        }
        if quote.is_some() {
            return Token::LexFault(LexFault::NoClosingQuote { open: open as u32 });
        }
        self.finish(open, start, at, false)
    }

    fn finish(&mut self, open: usize, start: usize, end: usize, quoted: bool) -> Token {
        self.at = end + usize::from(quoted);
        self.after_quote = quoted.then_some(open as u32);
        let starts_line = std::mem::replace(&mut self.starts_line, false);
        let value = unescape(&self.text[start..end]);
        Token::Word(Lexed { value, start: open as u32, end: self.at as u32, quoted, starts_line })
    }

    /// Goes on after a fault where the text seems to make sense again: after the first `;` or `{` at the end
    /// of a line, or before the first line that begins with `}`, from this offset.
    pub(crate) fn resume(&mut self, from: u32) -> Resumed {
        let mut at = (from as usize).min(self.text.len());
        let mut first = true;
        while at < self.text.len() {
            let rest = &self.text[at..];
            let line = &rest[..rest.find_byte(b'\n').unwrap_or(rest.len())];
            let blank = line.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            if !first && line.get(blank) == Some(&b'}') {
                self.jump(at + blank);
                self.starts_line = true;
                return Resumed::Close;
            }
            if let Some(mark) = line_end(line) {
                self.jump(at + mark + 1);
                return if line[mark] == b';' {
                    Resumed::Semicolon
                } else {
                    Resumed::Open((at + mark) as u32)
                };
            }
            at += line.len() + 1;
            first = false;
        }
        self.jump(self.text.len());
        Resumed::End
    }
}

/// Returns the place of the `;` or `{` that ends a line: only blanks, closing braces and a comment may follow.
pub(crate) fn line_end(line: &[u8]) -> Option<usize> {
    let comment =
        (0..line.len()).find(|at| line[*at] == b'#' && (*at == 0 || b" \t;".contains(&line[at - 1])));
    let clean = &line[..comment.unwrap_or(line.len())];
    let end = clean.trim_end_with(|c| c.is_ascii_whitespace() || c == '}').len();
    matches!(clean.get(end.checked_sub(1)?)?, b';' | b'{').then_some(end - 1)
}

/// Decodes the escapes: only these five exist, any other backslash stays.
fn unescape(raw: &[u8]) -> BString {
    let mut value = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find_byte(b'\\') {
        value.extend_from_slice(&rest[..at]);
        let (byte, used) = match rest.get(at + 1) {
            Some(b't') => (b'\t', 2),
            Some(b'r') => (b'\r', 2),
            Some(b'n') => (b'\n', 2),
            Some(quote @ (b'"' | b'\'' | b'\\')) => (*quote, 2),
            _ => (b'\\', 1),
        };
        value.push(byte);
        rest = &rest[at + used..];
    }
    value.extend_from_slice(rest);
    value.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut lexer = Lexer::new(text.as_bytes(), true);
        let mut seen = Vec::new();
        loop {
            seen.push(match lexer.next() {
                Token::Word(word) => word.value.to_string(),
                Token::Semicolon(_) => "<;>".into(),
                Token::Open(_) => "<{>".into(),
                Token::Close(_) => "<}>".into(),
                Token::End => return seen,
                Token::LexFault(fault) => {
                    seen.push(format!("{fault:?}"));
                    return seen;
                }
            });
        }
    }

    #[test]
    fn a_word_ends_where_nginx_ends_it() {
        assert_eq!(words("a b;c{d}"), ["a", "b", "<;>", "c", "<{>", "d}"]);
        assert_eq!(words("a${b}c d$ {"), ["a${b}c", "d$", "<{>"]);
        assert_eq!(words("$${{x} y;"), ["$${{x}", "y", "<;>"]);
        assert_eq!(words("a#b #c\nd;#e"), ["a#b", "d", "<;>"]);
        assert_eq!(words(r"a\;b\ c;"), [r"a\;b\ c", "<;>"]);
        assert_eq!(words("if ($a = \"b\") {"), ["if", "($a", "=", "b", ")", "<{>"]);
        assert_eq!(words("'a;b{c}' \"\" x\"y z;"), ["a;b{c}", "", "x\"y", "z", "<;>"]);
        assert_eq!(words("a\0\u{1}b\r\nc;"), ["a\0\u{1}b", "c", "<;>"]);
    }

    #[test]
    fn five_escapes_are_decoded_and_no_other() {
        assert_eq!(words(r#""\"\'\\\t\r\n\$\d\." \"x;"#), ["\"'\\\t\r\n\\$\\d\\.", "\"x", "<;>"]);
        assert_eq!(unescape(br"a\"), r"a\");
    }

    #[test]
    fn a_fault_has_its_offset() {
        assert_eq!(words("a 'b'c;")[2], "AfterQuote { open: 2, at: 5 }");
        assert_eq!(words("a 'b'};")[2], "AfterQuote { open: 2, at: 5 }");
        assert_eq!(words("a 'b;")[1], "NoClosingQuote { open: 2 }");
        let long = format!("a {};", "x".repeat(4096));
        assert_eq!(words(&long)[1], "TooLong { start: 2, quote: None }");
        assert_eq!(words(&long.replacen('x', "", 1))[2], "<;>");
        let long = format!("a '{}';", "x".repeat(4096));
        assert_eq!(words(&long)[1], "TooLong { start: 2, quote: Some(39) }");
        assert_eq!(words(&long.replacen('x', "", 1))[2], "<;>");
    }

    #[test]
    fn comments_and_closing_braces_may_follow_the_end_of_a_statement() {
        assert_eq!(line_end(b"a b;  # c;"), Some(3));
        assert_eq!(line_end(b"a b; }"), Some(3));
        assert_eq!(line_end(b"a {"), Some(2));
        assert_eq!(line_end(b"a b"), None);
        assert_eq!(line_end(b"# a;"), None);
        assert_eq!(line_end(b""), None);
    }
}
