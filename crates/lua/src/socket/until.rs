//! The pattern of `receiveuntil`, matched byte by byte as they come.
//!
//! Bytes that may begin the pattern are withheld until it is clear that they do not (Knuth, Morris and Pratt's automaton);
//! where a piece is cut when its size is limited is as in ngx_lua.

/// A pattern and how much of it has matched.
#[derive(Clone, Debug)]
pub(crate) struct Until {
    pattern: Vec<u8>,
    /// For each number of matched bytes, the length of the longest proper prefix of the pattern that they end with.
    borders: Vec<usize>,
    /// How many bytes of the pattern the last bytes have matched.
    matched: usize,
    inclusive: bool,
    /// How many bytes more the piece may have; `None` is without limit.
    left: Option<usize>,
    /// The pattern was found.
    found: bool,
}

impl Until {
    /// Begins a piece of at most `limit` bytes, 0 being no limit. `matched` is what the piece before has left.
    pub(crate) fn new(pattern: &[u8], matched: usize, inclusive: bool, limit: usize) -> Until {
        let mut borders = vec![0; pattern.len() + 1];
        let mut border = 0;
        for at in 1..pattern.len() {
            while border > 0 && pattern[at] != pattern[border] {
                border = borders[border];
            }
            border += usize::from(pattern[at] == pattern[border]);
            borders[at + 1] = border;
        }
        Until {
            pattern: pattern.to_vec(),
            borders,
            matched: matched.min(pattern.len().saturating_sub(1)),
            inclusive,
            left: (limit > 0).then_some(limit),
            found: false,
        }
    }

    /// Returns how many bytes of the pattern are matched for the next piece.
    pub(crate) fn matched(&self) -> usize {
        self.matched
    }

    /// Returns whether the pattern was found.
    pub(crate) fn is_found(&self) -> bool {
        self.found
    }

    /// Takes input, and adds what is before the pattern to `out`. Returns how many bytes were used, and whether the piece is
    /// at its end.
    pub(super) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, bool) {
        let mut at = 0;
        while at < input.len() {
            let byte = input[at];
            if byte == self.pattern[self.matched] {
                at += 1;
                self.matched += 1;
                if self.matched == self.pattern.len() {
                    self.matched = 0;
                    self.found = true;
                    if self.inclusive {
                        out.extend_from_slice(&self.pattern);
                    }
                    return (at, true);
                }
                continue;
            }
            if self.matched == 0 {
                let rest = &input[at..];
                let most = self.left.map_or(rest.len(), |left| left.min(rest.len()));
                let plain = memchr::memchr(self.pattern[0], &rest[..most]).unwrap_or(most);
                out.extend_from_slice(&rest[..plain]);
                at += plain;
                if self.spend(plain) {
                    return (at, true);
                }
                continue;
            }
            // What was withheld is not the pattern's beginning, or not all of it.
            match self.fallback(byte) {
                Some(matched) => {
                    let released = self.matched + 1 - matched;
                    out.extend_from_slice(&self.pattern[..released]);
                    self.matched = matched;
                    at += 1;
                    if self.spend(released) {
                        return (at, true);
                    }
                }
                None => {
                    let released = std::mem::take(&mut self.matched);
                    out.extend_from_slice(&self.pattern[..released]);
                    if self.spend(released) {
                        return (at, true);
                    }
                }
            }
        }
        (at, false)
    }

    /// Takes bytes from what the piece may have. Returns whether it is at its end.
    fn spend(&mut self, bytes: usize) -> bool {
        let Some(left) = &mut self.left else { return false };
        *left = left.saturating_sub(bytes);
        *left == 0
    }

    /// Returns how much of the pattern is matched with this byte behind the matched ones, if more than the byte.
    fn fallback(&self, byte: u8) -> Option<usize> {
        let mut border = self.borders[self.matched];
        while border > 0 {
            if self.pattern[border] == byte {
                return Some(border + 1);
            }
            border = self.borders[border];
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the pieces of `input`, fed in parts of `part` bytes, and whether the pattern was found.
    fn pieces(input: &[u8], pattern: &[u8], limit: usize, part: usize) -> (Vec<String>, bool) {
        let (mut pieces, mut matched, mut at) = (Vec::new(), 0, 0);
        loop {
            let mut until = Until::new(pattern, matched, false, limit);
            let mut out = Vec::new();
            loop {
                if at == input.len() {
                    pieces.push(String::from_utf8(out).unwrap());
                    return (pieces, false);
                }
                let end = (at + part).min(input.len());
                let (used, ended) = until.feed(&input[at..end], &mut out);
                at += used;
                if ended {
                    break;
                }
            }
            pieces.push(String::from_utf8(out).unwrap());
            matched = until.matched();
            if until.is_found() {
                return (pieces, true);
            }
        }
    }

    #[test]
    fn withheld_bytes_come_back() {
        for part in 1..9 {
            let (found, whole) = pieces(b"hello, aabaabac world", b"aabac", 0, part);
            assert_eq!((found, whole), (vec!["hello, aab".to_owned()], true));
            let (found, whole) = pieces(b"----abc--", b"--abc", 0, part);
            assert_eq!((found, whole), (vec!["--".to_owned()], true));
            let (found, whole) = pieces(b"x--", b"--abc", 0, part);
            assert_eq!((found, whole), (vec!["x".to_owned()], false));
        }
    }

    #[test]
    fn the_pattern_reader_finds_what_a_plain_search_finds() {
        let mut seed = 7u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 16
        };
        for _ in 0..5000 {
            let pattern: Vec<u8> = (0..1 + next() % 6).map(|_| b'a' + (next() % 2) as u8).collect();
            let input: Vec<u8> = (0..next() % 40).map(|_| b'a' + (next() % 2) as u8).collect();
            let found = input.windows(pattern.len()).position(|window| window == pattern);
            let (whole, is_found) = pieces(&input, &pattern, 0, 1 + next() as usize % 9);
            assert_eq!(is_found, found.is_some(), "{pattern:?} in {input:?}");
            if let Some(at) = found {
                assert_eq!(whole[0].as_bytes(), &input[..at], "{pattern:?} in {input:?}");
            }
            // In pieces, it is the same text.
            let (parts, _) = pieces(&input, &pattern, 1 + next() as usize % 5, 1 + next() as usize % 9);
            if let Some(at) = found {
                assert_eq!(parts.concat().as_bytes(), &input[..at], "{pattern:?} in {input:?}");
            }
        }
    }

    #[test]
    fn pieces_are_cut_as_in_ngx_lua() {
        let (found, whole) = pieces(b"abcdefEND", b"END", 4, 64);
        assert_eq!((found, whole), (vec!["abcd".to_owned(), "ef".to_owned()], true));
        // A withheld beginning may make a piece longer than its limit.
        let (found, _) = pieces(b"abcENxyEND", b"END", 4, 64);
        assert_eq!(found, ["abcEN", "xy"]);
    }

    #[test]
    fn inclusive_pieces_hold_the_pattern() {
        let mut out = Vec::new();
        assert_eq!(Until::new(b"\r\n", 0, true, 0).feed(b"a\r\r\nb", &mut out), (4, true));
        assert_eq!(out, b"a\r\r\n");
    }
}
