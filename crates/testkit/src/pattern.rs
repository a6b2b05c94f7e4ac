//! The little language of expected bytes: literal text with `<matchers>` in it.
//!
//! Owns escapes, matchers and generated filler. It knows nothing of HTTP, and it must never guess: a name in
//! angle brackets that is no matcher is plain text, so that HTML needs no escaping.

use std::ops::RangeInclusive;

use regex::bytes::Regex;

/// One piece of a pattern.
#[derive(Clone, Debug)]
enum Token {
    /// These bytes exactly.
    Bytes(Vec<u8>),
    /// Any bytes of one line, as few as possible.
    AnyInLine,
    /// Any bytes at all, as few as possible.
    Anything,
    /// The text that the expression matches here, leftmost-first, without backtracking into it.
    Class(Regex),
}

/// Expected bytes, some of them elided by matchers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
}

/// The result of matching a buffer that may still grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The first `n` bytes match the whole pattern.
    Full(usize),
    /// Nothing contradicts the pattern so far; more bytes are needed.
    Partial,
    /// No further bytes can make it match.
    Mismatch,
}

/// The lines' end in a pattern or payload made from several lines of a case file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineEnd {
    /// `\r\n`, for bytes on the wire.
    Crlf,
    /// `\n`, for bodies and files.
    Lf,
}

impl LineEnd {
    fn bytes(self) -> &'static [u8] {
        match self {
            LineEnd::Crlf => b"\r\n",
            LineEnd::Lf => b"\n",
        }
    }
}

const LOG_TIME: &str = r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d";
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"];

/// Returns the expression behind a matcher's name, or nothing when the name is no matcher.
fn class_source(name: &str) -> Option<String> {
    if LEVELS.contains(&name) {
        return Some(format!(r"{LOG_TIME} \[{name}\] \d+#\d+: (?:\*\d+ )?"));
    }
    if let Some(source) = name.strip_prefix("re:") {
        return Some(source.to_owned());
    }
    let source = match name {
        "server" => r"(?:nginx|openresty|pointsman)(?:/[0-9A-Za-z.+-]+)?",
        "program" => r"(?:nginx|pointsman)",
        "date" => r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT",
        "etag" => r#"(?:W/)?"[0-9a-f]+-[0-9a-f]+""#,
        "len" | "int" => r"\d+",
        "hex" => r"[0-9a-f]+",
        "msec" => r"\d+\.\d{3}",
        "clf" => r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}",
        "boundary" => r"\d{20}",
        _ => return None,
    };
    Some(source.to_owned())
}

/// Returns sixteen-byte lines that name their own offset, so that lost or swapped bytes show.
pub(crate) fn filler(len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 16);
    while out.len() < len {
        out.extend_from_slice(format!("{:015}\n", out.len()).as_bytes());
    }
    out.truncate(len);
    out
}

impl Pattern {
    /// Compiles text with backslash escapes and `<matchers>` for the parts that vary.
    pub(crate) fn escaped(text: &str) -> Result<Pattern, String> {
        Pattern::default().with(text, true)
    }

    /// Compiles text whose backslashes mean themselves, as in log lines.
    pub(crate) fn verbatim(text: &str) -> Result<Pattern, String> {
        Pattern::default().with(text, false)
    }

    /// Compiles several lines, each closed by `end` unless a single backslash ends it.
    pub(crate) fn lines(lines: &[String], end: LineEnd) -> Result<Pattern, String> {
        let mut pattern = Pattern::default();
        for line in lines {
            let (text, closed) = split_line(line);
            pattern = pattern.with(text, true)?;
            if closed {
                pattern.push_bytes(end.bytes());
            }
        }
        Ok(pattern)
    }

    fn with(mut self, text: &str, escapes: bool) -> Result<Pattern, String> {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if c == '\\' && escapes {
                let (bytes, used) = escape(rest)?;
                self.push_bytes(&bytes);
                rest = &rest[used..];
            } else if c == '<' {
                let used = self.matcher(rest)?;
                if used == 0 {
                    self.push_bytes(b"<");
                    rest = &rest[1..];
                } else {
                    rest = &rest[used..];
                }
            } else {
                let len = c.len_utf8();
                self.push_bytes(&rest.as_bytes()[..len]);
                rest = &rest[len..];
            }
        }
        Ok(self)
    }

    /// Reads a matcher at the start of `text`; answers how many bytes of it that took, 0 for plain text.
    fn matcher(&mut self, text: &str) -> Result<usize, String> {
        let Some(close) = close_of(text) else { return Ok(0) };
        let name = &text[1..close];
        match name {
            "*" => self.tokens.push(Token::AnyInLine),
            "..." => self.tokens.push(Token::Anything),
            _ => {
                if let Some(count) = name.strip_prefix("fill:") {
                    let count = count.parse().map_err(|_| format!("<{name}>: not a number of bytes"))?;
                    self.push_bytes(&filler(count));
                } else if let Some((count, text)) =
                    name.strip_prefix("repeat:").and_then(|n| n.split_once(':'))
                {
                    let count = count.parse().map_err(|_| format!("<{name}>: not a number of times"))?;
                    self.push_bytes(text.repeat(count).as_bytes());
                } else if let Some(title) = name.strip_prefix("page:") {
                    self.error_page(title)?;
                } else if let Some(source) = class_source(name) {
                    self.class(&source)?;
                } else {
                    return Ok(0);
                }
            }
        }
        Ok(close + 1)
    }

    fn class(&mut self, source: &str) -> Result<(), String> {
        let source = source.replace("\\>", ">");
        let regex = Regex::new(&format!("^(?:{source})")).map_err(|e| format!("<re:{source}>: {e}"))?;
        self.tokens.push(Token::Class(regex));
        Ok(())
    }

    /// Returns nginx's built-in page for a status, without its last `\n`: the line of the case adds that.
    fn error_page(&mut self, title: &str) -> Result<(), String> {
        self.push_bytes(format!("<html>\r\n<head><title>{title}</title></head>\r\n").as_bytes());
        self.push_bytes(format!("<body>\r\n<center><h1>{title}</h1></center>\r\n").as_bytes());
        self.push_bytes(b"<hr><center>");
        self.class(&class_source("server").unwrap_or_default())?;
        self.push_bytes(b"</center>\r\n</body>\r\n</html>\r");
        Ok(())
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        if let Some(Token::Bytes(last)) = self.tokens.last_mut() {
            last.extend_from_slice(bytes);
        } else {
            self.tokens.push(Token::Bytes(bytes.to_vec()));
        }
    }

    /// Compares with a buffer; `complete` says that no more bytes can come.
    pub(crate) fn verdict(&self, input: &[u8], complete: bool) -> Verdict {
        run(&self.tokens, input, 0, if complete { Mode::Complete } else { Mode::Growing })
    }

    /// Returns true if the pattern matches all of `input`.
    pub(crate) fn matches(&self, input: &[u8]) -> bool {
        matches!(run(&self.tokens, input, 0, Mode::Whole), Verdict::Full(_))
    }

    /// Returns true if this is the line `<...>`, which matches any number of lines.
    pub(crate) fn is_anything(&self) -> bool {
        matches!(self.tokens.as_slice(), [Token::Anything])
    }
}

/// Returns a line without its closing backslash, and whether it keeps its line end.
fn split_line(line: &str) -> (&str, bool) {
    let slashes = line.len() - line.trim_end_matches('\\').len();
    if slashes % 2 == 1 { (&line[..line.len() - 1], false) } else { (line, true) }
}

/// Returns the bytes that lines of a case file denote: escapes, `<fill:N>` and `<repeat:N:TEXT>` are read, other matchers
/// refused.
pub(crate) fn payload(lines: &[String], end: LineEnd) -> Result<Vec<u8>, String> {
    let pattern = Pattern::lines(lines, end)?;
    match pattern.tokens.as_slice() {
        [] => Ok(Vec::new()),
        [Token::Bytes(bytes)] => Ok(bytes.clone()),
        _ => Err("a matcher cannot be sent".to_owned()),
    }
}

/// Returns the place of the `>` that closes the `<` at the start; `\>` does not close.
fn close_of(text: &str) -> Option<usize> {
    let mut previous = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte == b'>' && previous != b'\\' {
            return Some(at);
        }
        previous = byte;
    }
    None
}

/// Reads one escape at the start of `text`: its bytes, and how much text it took.
fn escape(text: &str) -> Result<(Vec<u8>, usize), String> {
    let mut chars = text.chars();
    chars.next();
    let Some(c) = chars.next() else { return Err("a lone backslash".to_owned()) };
    let byte = match c {
        'r' => b'\r',
        'n' => b'\n',
        't' => b'\t',
        '0' => 0,
        '\\' | '<' | '>' => c as u8,
        'x' => {
            let digits = text.get(2..4).ok_or("\\x needs two hexadecimal digits")?;
            let value =
                u8::from_str_radix(digits, 16).map_err(|_| format!("\\x{digits}: not hexadecimal"))?;
            return Ok((vec![value], 4));
        }
        _ => return Err(format!("\\{c}: no such escape")),
    };
    Ok((vec![byte], 2))
}

/// Whether a buffer may still grow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// More bytes may come; the pattern may match a part of them.
    Growing,
    /// No more bytes come; the pattern may match a part of them.
    Complete,
    /// No more bytes come, and the pattern must match them all.
    Whole,
}

fn run(tokens: &[Token], input: &[u8], at: usize, mode: Mode) -> Verdict {
    let Some((first, rest)) = tokens.split_first() else {
        return if mode == Mode::Whole && at < input.len() { Verdict::Mismatch } else { Verdict::Full(at) };
    };
    let growing = mode == Mode::Growing;
    let left = &input[at..];
    match first {
        Token::Bytes(bytes) if left.len() < bytes.len() => {
            if growing && bytes.starts_with(left) {
                Verdict::Partial
            } else {
                Verdict::Mismatch
            }
        }
        Token::Bytes(bytes) if left.starts_with(bytes) => run(rest, input, at + bytes.len(), mode),
        Token::Bytes(_) => Verdict::Mismatch,
        Token::Class(regex) => match regex.find(left) {
            // Touching the end of what came so far, it might still grow.
            Some(found) if growing && found.end() == left.len() => Verdict::Partial,
            Some(found) => run(rest, input, at + found.end(), mode),
            None if growing && left.len() < 64 && !left.contains(&b'\n') => Verdict::Partial,
            None => Verdict::Mismatch,
        },
        Token::AnyInLine => {
            let line = left.iter().position(|&b| b == b'\n').unwrap_or(left.len());
            lazily(rest, input, at..=at + line, line == left.len(), mode)
        }
        Token::Anything => lazily(rest, input, at..=input.len(), true, mode),
    }
}

/// Tries every end in `ends` for a lazy matcher; `open` says that it could go on with more bytes.
fn lazily(rest: &[Token], input: &[u8], ends: RangeInclusive<usize>, open: bool, mode: Mode) -> Verdict {
    let mut partial = open && mode == Mode::Growing;
    for end in ends {
        match run(rest, input, end, mode) {
            Verdict::Full(used) => return Verdict::Full(used),
            Verdict::Partial => partial = true,
            Verdict::Mismatch => {}
        }
    }
    if partial { Verdict::Partial } else { Verdict::Mismatch }
}

/// Compares lines one by one; a `<...>` line matches any number of lines, including none.
pub(crate) fn lines_match(expected: &[Pattern], actual: &[&[u8]]) -> bool {
    match expected.split_first() {
        None => actual.is_empty(),
        Some((first, rest)) if first.is_anything() => {
            (0..=actual.len()).any(|skip| lines_match(rest, &actual[skip..]))
        }
        Some((first, rest)) => match actual.split_first() {
            Some((line, others)) => first.matches(line) && lines_match(rest, others),
            None => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::escaped(text).unwrap()
    }

    #[test]
    fn literal_text_must_be_equal() {
        assert!(pattern("a\\x41\\r\\n<b>").matches(b"aA\r\n<b>"));
        assert!(!pattern("abc").matches(b"abcd"));
        assert!(!pattern("abc").matches(b"ab"));
    }

    #[test]
    fn matchers_stand_for_varying_text() {
        assert!(pattern("Date: <date>").matches(b"Date: Sun, 22 Nov 2026 08:00:00 GMT"));
        assert!(pattern("Server: <server>!").matches(b"Server: nginx/1.22.1!"));
        assert!(!pattern("Server: <server>").matches(b"Server: apache"));
        assert!(pattern("a<*>c").matches(b"acbc"));
        assert!(pattern("a<*>c<*>").matches(b"abbbcd"));
        assert!(!pattern("a<*>c").matches(b"a\nc"));
        assert!(pattern("a<...>c").matches(b"a\n\nc"));
        assert!(pattern(r"<re:[a-z]+\>>x").matches(b"abc>x"));
        assert!(pattern("<error>boo").matches(b"2026/11/22 08:15:14 [error] 7925#7925: *1 boo"));
        assert!(pattern("<emerg>boo").matches(b"2026/11/22 08:15:14 [emerg] 7925#7925: boo"));
    }

    #[test]
    fn a_growing_buffer_is_partial_until_contradicted() {
        let p =
            Pattern::lines(&["GET /<*> HTTP/1.1".into(), "Host: <int>".into(), String::new()], LineEnd::Crlf)
                .unwrap();
        assert_eq!(p.verdict(b"GET /abc", false), Verdict::Partial);
        assert_eq!(p.verdict(b"GET /abc HTTP/1.1\r\nHost: 1", false), Verdict::Partial);
        assert_eq!(p.verdict(b"GET /abc HTTP/1.1\r\nHost: 12\r\n\r\nmore", false), Verdict::Full(31));
        assert_eq!(p.verdict(b"GET /abc HTTP/1.0\r\n", false), Verdict::Mismatch);
        assert_eq!(p.verdict(b"GET /abc", true), Verdict::Mismatch);
    }

    #[test]
    fn payloads_have_line_ends_unless_escaped() {
        let lines = ["A: b".to_owned(), String::new(), "body\\".to_owned()];
        assert_eq!(payload(&lines, LineEnd::Crlf).unwrap(), b"A: b\r\n\r\nbody");
        assert!(payload(&["<date>".to_owned()], LineEnd::Lf).is_err());
        assert_eq!(payload(&["a\\\\".to_owned()], LineEnd::Lf).unwrap(), b"a\\\n");
        assert_eq!(payload(&["<repeat:3:ab>\\".to_owned()], LineEnd::Lf).unwrap(), b"ababab");
        assert_eq!(filler(20), b"000000000000000\n0000");
    }

    #[test]
    fn a_line_of_dots_stands_for_any_lines() {
        let expected: Vec<_> = ["a", "<...>", "d"].iter().map(|l| pattern(l)).collect();
        assert!(lines_match(&expected, &[b"a", b"b", b"c", b"d"]));
        assert!(lines_match(&expected, &[b"a", b"d"]));
        assert!(!lines_match(&expected, &[b"a", b"b"]));
    }

    #[test]
    fn the_built_in_page_is_one_matcher() {
        let page = Pattern::lines(&["<page:404 Not Found>".to_owned()], LineEnd::Lf).unwrap();
        let real = b"<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n<center><h1>404 Not Found</h1>\
            </center>\r\n<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n";
        assert!(page.matches(real));
        assert!(!page.matches(&real[..real.len() - 1]));
    }
}
