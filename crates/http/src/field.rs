//! Header lines: the scanner that requests, responses and trailers share, and the encoder.
//!
//! Owns where a name and a value begin and end, after `ngx_http_parse_header_line`. However small the pieces of a
//! sender, the scanner looks at no byte more than twice: once for a whole line of the usual form, and once byte by
//! byte. It must never judge a field.

use crate::known::Known;
use crate::scan;
use std::ops::Range;

const TOKEN: u8 = 0;
const UNDERSCORE: u8 = 1;
const COLON: u8 = 2;
const LINE_END: u8 = 3;
const REFUSED: u8 = 4;
/// nginx reads on and marks the line as invalid.
const ODD: u8 = 5;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut class = [ODD; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' => TOKEN,
            b'_' => UNDERSCORE,
            b':' => COLON,
            b'\r' | b'\n' => LINE_END,
            0..=0x20 | 0x7f => REFUSED,
            _ => ODD,
        };
        byte += 1;
    }
    class
}

/// Names are searched for their colon within this many bytes; a line with a longer one is read byte by byte.
const USUAL_NAME_BYTES: usize = 40;

/// Returns the number of bytes at the beginning that a name may hold.
#[inline]
fn token_len(text: &[u8]) -> usize {
    text.iter().position(|byte| CLASS[*byte as usize] != TOKEN).unwrap_or(text.len())
}

/// The lines that a scanner accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldRules {
    pub(crate) underscores: bool,
    pub(crate) bare_lf: bool,
    /// Several CRs are allowed before the LF of a field line, as in nginx.
    pub(crate) repeated_cr: bool,
    /// Skip lines that repeat the status line, as IIS is known to send.
    pub(crate) skip_status_lines: bool,
}

/// The scanner's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldStep {
    /// The end of the input, inside a line or before one.
    More,
    /// A whole line; its parts are in the scanner.
    Field,
    /// The empty line behind the last field.
    End,
    /// A byte that is refused, at `fault`.
    Fault,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Name,
    BeforeValue,
    Value,
    AfterValue,
    StatusLine,
    Ending,
}

/// Scans header lines; resumable at every byte. Positions count from the beginning of the input, which must be
/// the same bytes, with more behind them, in every call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FieldScanner {
    state: State,
    /// The next byte to look at.
    pos: usize,
    line: usize,
    name_end: usize,
    value_start: usize,
    value_end: usize,
    /// Where the refused byte is.
    pub(crate) fault: usize,
    /// The name holds bytes that names should not have.
    pub(crate) odd: bool,
    /// The known name, or that it is none, if it was looked up already.
    known: Option<Option<Known>>,
    /// The last whole line is name, colon, one space, value and CRLF, and nothing else.
    pub(crate) is_usual: bool,
}

impl FieldScanner {
    pub(crate) fn starting_at(pos: usize) -> FieldScanner {
        FieldScanner { pos, line: pos, ..FieldScanner::default() }
    }

    /// Counts positions from a later byte of the input: not behind the beginning of the line under way.
    pub(crate) fn forget(&mut self, count: usize) {
        debug_assert!(count <= self.line);
        self.line -= count;
        self.pos -= count;
        // These may be of an earlier line.
        for position in [&mut self.name_end, &mut self.value_start, &mut self.value_end, &mut self.fault] {
            *position = position.saturating_sub(count);
        }
    }

    /// Returns where the line under way, or the last whole one, begins.
    pub(crate) fn line_start(&self) -> usize {
        self.line
    }

    /// Returns the next byte to look at; behind the line end after a whole line.
    #[inline]
    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    #[inline]
    pub(crate) fn name(&self) -> Range<usize> {
        self.line..self.name_end
    }

    #[inline]
    pub(crate) fn value(&self) -> Range<usize> {
        self.value_start..self.value_end
    }

    /// Returns the known name of the last whole line.
    #[inline]
    pub(crate) fn known(&self, input: &[u8]) -> Option<Known> {
        self.known.unwrap_or_else(|| Known::from_bytes(&input[self.name()]))
    }

    /// Returns true if no byte of the line under way has come.
    pub(crate) fn is_at_line_start(&self) -> bool {
        self.state == State::Start
    }

    /// Reads up to the next event.
    #[inline]
    pub(crate) fn scan(&mut self, input: &[u8], rules: FieldRules) -> FieldStep {
        loop {
            let Some(&byte) = input.get(self.pos) else {
                if self.state == State::Start {
                    self.line = self.pos;
                }
                return FieldStep::More;
            };
            let step = match self.state {
                State::Start => {
                    if self.whole_line(input) {
                        return FieldStep::Field;
                    }
                    self.start(byte, rules)
                }
                State::Name => self.name_bytes(input, rules),
                State::BeforeValue => self.before_value(input, rules),
                State::Value => self.value_bytes(input, rules),
                State::AfterValue => self.after_value(byte, rules),
                State::StatusLine => self.status_line(input),
                State::Ending => self.ending(byte),
            };
            if step != FieldStep::More {
                return step;
            }
        }
    }

    /// Takes a line that is complete and of the usual form, as nearly all are. Any other is left to the states below,
    /// which go through it byte by byte.
    #[inline]
    fn whole_line(&mut self, input: &[u8]) -> bool {
        let line = &input[self.pos..];
        let Some(colon) = scan::colon(&line[..line.len().min(USUAL_NAME_BYTES)]).filter(|len| *len > 0)
        else {
            return false;
        };
        let (name, rest) = line.split_at(colon);
        // The bytes of a known name need no check.
        let known = Known::from_bytes(name);
        if known.is_none() && token_len(name) < colon {
            return false;
        }
        let spaces = rest[1..].iter().take_while(|byte| **byte == b' ').count();
        let value = &rest[1 + spaces..];
        let Some(len) = scan::control(value).filter(|len| value[*len..].starts_with(b"\r\n")) else {
            return false;
        };
        let behind = value[..len].iter().rev().take_while(|byte| **byte == b' ').count();
        self.line = self.pos;
        self.odd = false;
        self.known = Some(known);
        self.is_usual = spaces == 1 && behind == 0;
        self.name_end = self.line + colon;
        self.value_start = self.name_end + 1 + spaces;
        self.value_end = self.value_start + len - behind;
        self.pos = self.value_start + len + 2;
        true
    }

    #[inline]
    fn start(&mut self, byte: u8, rules: FieldRules) -> FieldStep {
        self.line = self.pos;
        self.odd = false;
        self.known = None;
        self.is_usual = false;
        match byte {
            b'\r' => {
                self.pos += 1;
                self.state = State::Ending;
                FieldStep::More
            }
            b'\n' if rules.bare_lf => {
                self.pos += 1;
                FieldStep::End
            }
            b'\n' | b':' => self.fail(self.pos),
            _ => {
                self.state = State::Name;
                FieldStep::More
            }
        }
    }

    #[inline]
    fn name_bytes(&mut self, input: &[u8], rules: FieldRules) -> FieldStep {
        loop {
            self.pos += token_len(&input[self.pos..]);
            let Some(&byte) = input.get(self.pos) else {
                return FieldStep::More;
            };
            match CLASS[byte as usize] {
                COLON => {
                    self.name_end = self.pos;
                    self.pos += 1;
                    self.state = State::BeforeValue;
                    return FieldStep::More;
                }
                UNDERSCORE => self.odd |= !rules.underscores,
                LINE_END => {
                    // A line without a colon is a field without a value, as nginx has it.
                    self.name_end = self.pos;
                    return self.empty_value(byte, rules);
                }
                ODD if byte == b'/' && rules.skip_status_lines && &input[self.line..self.pos] == b"HTTP" => {
                    self.state = State::StatusLine;
                    return FieldStep::More;
                }
                ODD => self.odd = true,
                _ => return self.fail(self.pos),
            }
            self.pos += 1;
        }
    }

    #[inline]
    fn before_value(&mut self, input: &[u8], rules: FieldRules) -> FieldStep {
        // Spaces alone: nginx takes a tab for part of the value, which keeps odd framing fields odd.
        let spaces = input[self.pos..].iter().take_while(|byte| **byte == b' ').count();
        self.pos += spaces;
        match input.get(self.pos) {
            None => FieldStep::More,
            Some(&byte @ (b'\r' | b'\n')) => self.empty_value(byte, rules),
            Some(_) => {
                self.value_start = self.pos;
                self.state = State::Value;
                self.value_bytes(input, rules)
            }
        }
    }

    #[inline]
    fn value_bytes(&mut self, input: &[u8], rules: FieldRules) -> FieldStep {
        let Some(ahead) = memchr::memchr3(b'\r', b'\n', 0, &input[self.pos..]) else {
            self.pos = input.len();
            return FieldStep::More;
        };
        let at = self.pos + ahead;
        if input[at] == 0 {
            return self.fail(at);
        }
        let value = &input[self.value_start..at];
        let spaces = value.iter().rev().take_while(|byte| **byte == b' ').count();
        self.value_end = at - spaces;
        if input[at] == b'\r' {
            self.pos = at + 1;
            self.state = State::AfterValue;
            return match input.get(self.pos) {
                Some(byte) => self.after_value(*byte, rules),
                None => FieldStep::More,
            };
        }
        self.pos = at;
        self.bare_line_end(rules)
    }

    /// Handles a line end right behind the name.
    fn empty_value(&mut self, byte: u8, rules: FieldRules) -> FieldStep {
        self.value_start = self.pos;
        self.value_end = self.pos;
        if byte == b'\r' {
            self.pos += 1;
            self.state = State::AfterValue;
            return FieldStep::More;
        }
        self.bare_line_end(rules)
    }

    fn bare_line_end(&mut self, rules: FieldRules) -> FieldStep {
        if !rules.bare_lf {
            return self.fail(self.pos);
        }
        self.pos += 1;
        self.state = State::Start;
        FieldStep::Field
    }

    #[inline]
    fn after_value(&mut self, byte: u8, rules: FieldRules) -> FieldStep {
        match byte {
            b'\n' => {
                self.pos += 1;
                self.state = State::Start;
                FieldStep::Field
            }
            b'\r' if rules.repeated_cr => {
                self.pos += 1;
                FieldStep::More
            }
            _ => self.fail(self.value_end),
        }
    }

    fn status_line(&mut self, input: &[u8]) -> FieldStep {
        match memchr::memchr(b'\n', &input[self.pos..]) {
            Some(ahead) => {
                self.pos += ahead + 1;
                self.state = State::Start;
            }
            None => self.pos = input.len(),
        }
        FieldStep::More
    }

    fn ending(&mut self, byte: u8) -> FieldStep {
        if byte != b'\n' {
            return self.fail(self.line);
        }
        self.pos += 1;
        FieldStep::End
    }

    #[cold]
    fn fail(&mut self, at: usize) -> FieldStep {
        self.fault = at;
        FieldStep::Fault
    }
}

/// Appends one field and its line end.
#[inline]
pub fn encode_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: FieldRules =
        FieldRules { underscores: false, bare_lf: true, repeated_cr: false, skip_status_lines: false };

    /// Returns every event of an input that comes in pieces of the given size.
    fn events(input: &[u8], piece: usize, rules: FieldRules) -> String {
        let mut scanner = FieldScanner::default();
        let mut seen = String::new();
        let mut end = 0;
        while end < input.len() {
            end = (end + piece).min(input.len());
            loop {
                match scanner.scan(&input[..end], rules) {
                    FieldStep::More => break,
                    FieldStep::Field => {
                        let name = bstr::BStr::new(&input[scanner.name()]);
                        let value = bstr::BStr::new(&input[scanner.value()]);
                        seen += &format!("{name}={value}{};", if scanner.odd { "?" } else { "" });
                    }
                    FieldStep::End => return seen + &format!("end@{}", scanner.pos()),
                    FieldStep::Fault => return seen + &format!("fault@{}", scanner.fault),
                }
            }
        }
        seen + "more"
    }

    #[test]
    fn a_line_has_the_parts_that_nginx_finds() {
        let cases: &[(&[u8], &str)] = &[
            (b"Host: a\r\n\r\n", "Host=a;end@11"),
            (b"Host:a\nB:  b  c  \n\n", "Host=a;B=b  c;end@19"),
            (b"A: \tx\t\r\n\r\n", "A=\tx\t;end@10"),
            (b"A:\r\nB:   \r\n\r\n", "A=;B=;end@13"),
            (b"NoColon\r\n\r\n", "NoColon=;end@11"),
            (b"a_b: 1\r\n\r\n", "a_b=1?;end@10"),
            (b"a.b: 1\r\n\r\n", "a.b=1?;end@10"),
            (b"\xff: 1\r\n\r\n", "\u{fffd}=1?;end@8"),
            (b"A: 1\r\r\n\r\n", "fault@4"),
            (b"A: 1\rX\n\r\n", "fault@4"),
            (b"A : 1\r\n\r\n", "fault@1"),
            (b" A: 1\r\n\r\n", "fault@0"),
            (b"A: 1\r\n folded\r\n\r\n", "A=1;fault@6"),
            (b"A: 1\r\n\tfolded\r\n\r\n", "A=1;fault@6"),
            (b": 1\r\n\r\n", "fault@0"),
            (b"A: \0\r\n\r\n", "fault@3"),
            (b"A: x\0\r\n\r\n", "fault@4"),
            (b"A\0: x\r\n\r\n", "fault@1"),
            (b"A: x\r\n\rX", "A=x;fault@6"),
            (b"A: x\r\n", "A=x;more"),
            (b"\r\n", "end@2"),
        ];
        for (input, expected) in cases {
            for piece in 1..=input.len() {
                assert_eq!(&events(input, piece, RULES), expected, "{:?} by {piece}", bstr::BStr::new(input));
            }
        }
    }

    /// A line that is there at once is taken at once, and one in pieces of one byte is read byte by byte.
    #[test]
    fn a_whole_line_equals_the_same_line_byte_by_byte() {
        let pieces: &[&[u8]] = &[
            b"Host",
            b"x-a",
            b"a_b",
            b"\xff",
            b"HTTP/1.1",
            b"HTTP",
            b":",
            b": ",
            b" ",
            b"   ",
            b"\t",
            b"v",
            b"",
            b"v w",
            b"\r\n",
            b"\n",
            b"\r",
            b"\0",
            b"\x0b",
            b"\x1f",
            b"\x7f",
            b"a-name-that-is-longer-than-any-usual-one",
        ];
        // A fixed sequence of numbers (a linear congruence): the same lines in every run.
        let mut number = 1u32;
        let mut next = |below: usize| {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (number >> 16) as usize % below
        };
        for _ in 0..4_000 {
            let mut input = Vec::new();
            for _ in 0..1 + next(3) {
                if next(3) > 0 {
                    input.extend_from_slice(b"Accept: ");
                }
                for _ in 0..next(7) {
                    input.extend_from_slice(pieces[next(pieces.len())]);
                }
                input.extend_from_slice(b"\r\n");
            }
            input.extend_from_slice(b"\r\n");
            let bits = next(16);
            let rules = FieldRules {
                underscores: bits & 1 > 0,
                bare_lf: bits & 2 > 0,
                repeated_cr: bits & 8 > 0,
                skip_status_lines: bits & 4 > 0,
            };
            let whole = events(&input, input.len(), rules);
            assert_eq!(whole, events(&input, 1, rules), "{:?} {rules:?}", bstr::BStr::new(&input));
        }
    }

    #[test]
    fn rules_decide_which_lines_are_valid() {
        let underscores = FieldRules { underscores: true, ..RULES };
        assert_eq!(events(b"a_b: 1\r\n\r\n", 3, underscores), "a_b=1;end@10");
        let strict = FieldRules { bare_lf: false, ..RULES };
        assert_eq!(events(b"a: 1\n\r\n", 2, strict), "fault@4");
        assert_eq!(events(b"a: 1\r\n\n", 2, strict), "a=1;fault@6");
        assert_eq!(events(b"a\n", 2, strict), "fault@1");
        let cr = FieldRules { repeated_cr: true, ..RULES };
        assert_eq!(events(b"A: 1\r\r\n\r\n", 2, cr), "A=1;end@9");
        let upstream = FieldRules { skip_status_lines: true, ..underscores };
        for piece in 1..20 {
            assert_eq!(events(b"HTTP/1.1 200 OK\r\nA: 1\r\n\r\n", piece, upstream), "A=1;end@25");
        }
        assert_eq!(events(b"HTTP/1.1 200: OK\r\n\r\n", 9, RULES), "fault@8");
    }
}
