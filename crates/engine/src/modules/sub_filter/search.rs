//! The search for several texts in a body that comes in pieces.
//!
//! Owns which text is found where, as in nginx: the first place in the body, there the first text in the configuration's
//! order, whatever the case of ASCII letters. It must never know what is put in a text's place.

use std::sync::Arc;

/// Texts to look for, prepared: none is empty, and there is at least one.
#[derive(Debug)]
pub struct Patterns {
    /// In lower case, each with the number of its pair.
    texts: Vec<(Box<[u8]>, usize)>,
    /// The length of the shortest.
    shortest: usize,
    /// By the byte that stands where the shortest text would end: how far on the next place is at which any may begin.
    shift: [u8; 256],
}

impl Patterns {
    /// Prepares texts, each with the number of its pair; empty ones are left out. `None` if none is left.
    pub fn new(texts: impl IntoIterator<Item = (Vec<u8>, usize)>) -> Option<Patterns> {
        let texts: Vec<(Box<[u8]>, usize)> = texts
            .into_iter()
            .filter(|(text, _)| !text.is_empty())
            .map(|(text, pair)| (text.to_ascii_lowercase().into(), pair))
            .collect();
        let shortest = texts.iter().map(|(text, _)| text.len()).min()?;
        let mut shift = [shortest.min(255) as u8; 256];
        for (text, _) in &texts {
            for (back, byte) in text[..shortest].iter().rev().enumerate().take(255) {
                let entry = &mut shift[usize::from(*byte)];
                *entry = (*entry).min(back as u8);
            }
        }
        Some(Patterns { texts, shortest, shift })
    }
}

/// What a text has to do with the bytes at a place.
enum Fit {
    Whole,
    /// The bytes end before the text does.
    Begun,
    None,
}

fn fit(bytes: &[u8], text: &[u8]) -> Fit {
    let len = bytes.len().min(text.len());
    if !bytes[..len].eq_ignore_ascii_case(&text[..len]) {
        return Fit::None;
    }
    if len == text.len() { Fit::Whole } else { Fit::Begun }
}

/// The next step of a search.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The text of this pair was here, and is cut out.
    Pair(usize),
    /// There is none in what has come.
    Nothing,
}

/// One body in which texts are looked for. What it holds back is shorter than the longest of them, beside what was given
/// last.
#[derive(Debug)]
pub struct Substitution {
    patterns: Arc<Patterns>,
    /// By number of a pair: what is put in the place of its text, once that was found.
    values: Vec<Option<Vec<u8>>>,
    /// Each text is looked for until it was found once.
    once: bool,
    bytes: Vec<u8>,
    /// How many of the bytes were looked through and handed on.
    at: usize,
}

impl Substitution {
    /// Begins to look for texts of so many pairs.
    pub fn new(patterns: Arc<Patterns>, pairs: usize, once: bool) -> Substitution {
        Substitution { patterns, values: vec![None; pairs], once, bytes: Vec::new(), at: 0 }
    }

    /// Adds bytes of the body.
    pub fn give(&mut self, data: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(data);
    }

    /// Hands on what lies before the next text, which is cut out.
    pub fn next(&mut self, is_last: bool, out: &mut Vec<u8>) -> Found {
        let rest = &self.bytes[self.at..];
        let (end, found) = self.find(rest, is_last);
        out.extend_from_slice(&rest[..end]);
        self.at += end;
        let Some((text, pair)) = found else { return Found::Nothing };
        self.at += self.patterns.texts[text].0.len();
        Found::Pair(pair)
    }

    /// Returns what is put in the place of a pair's text, if that is known.
    pub fn value(&mut self, pair: usize) -> &mut Option<Vec<u8>> {
        &mut self.values[pair]
    }

    /// Returns the first place of a text with the text and its pair, or the place from which on one may have begun.
    fn find(&self, bytes: &[u8], is_last: bool) -> (usize, Option<(usize, usize)>) {
        let Patterns { texts, shortest, shift } = &*self.patterns;
        let is_wanted = |pair: usize| !(self.once && self.values[pair].is_some());
        if !texts.iter().any(|(_, pair)| is_wanted(*pair)) {
            return (bytes.len(), None);
        }
        let mut end = shortest - 1;
        while end < bytes.len() {
            let skip = shift[usize::from(bytes[end].to_ascii_lowercase())];
            if skip > 0 {
                end += usize::from(skip);
                continue;
            }
            let start = end + 1 - shortest;
            for (number, (text, pair)) in texts.iter().enumerate().filter(|(_, (_, pair))| is_wanted(*pair)) {
                match fit(&bytes[start..], text) {
                    Fit::Whole => return (start, Some((number, *pair))),
                    Fit::Begun if !is_last => return (start, None),
                    Fit::Begun | Fit::None => {}
                }
            }
            end += 1;
        }
        if is_last {
            return (bytes.len(), None);
        }
        let begun = |start: &usize| {
            texts
                .iter()
                .any(|(text, pair)| is_wanted(*pair) && matches!(fit(&bytes[*start..], text), Fit::Begun))
        };
        let start = (end + 1 - shortest).min(bytes.len());
        ((start..bytes.len()).find(begun).unwrap_or(bytes.len()), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts `<N>` in the place of the texts, over pieces of this size.
    fn replaced(texts: &[&str], once: bool, body: &str, piece: usize) -> String {
        let list = texts.iter().enumerate().map(|(pair, text)| (text.as_bytes().to_vec(), pair));
        let patterns = Arc::new(Patterns::new(list).unwrap());
        let mut search = Substitution::new(patterns, texts.len(), once);
        let mut out = Vec::new();
        let count = body.len().div_ceil(piece);
        for (number, bytes) in body.as_bytes().chunks(piece).enumerate() {
            search.give(bytes);
            while let Found::Pair(pair) = search.next(number + 1 == count, &mut out) {
                *search.value(pair) = Some(Vec::new());
                out.extend_from_slice(format!("<{pair}>").as_bytes());
            }
            let longest = texts.iter().map(|text| text.len()).max().unwrap();
            assert!(search.bytes.len() - search.at < longest, "more is held back than a text");
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_are_found_whatever_the_pieces() {
        for (texts, once, body, expected) in [
            (&["a"][..], false, "bananA", "b<0>n<0>n<0>"),
            (&["a"], true, "banana", "b<0>nana"),
            (&["abc"], false, "ababcabc-ab", "ab<0><0>-ab"),
            (&["aab"], false, "aaaaab", "aaa<0>"),
            (&["foo", "foobar"], false, "foobar foo", "<0>bar <0>"),
            (&["foobar", "foo"], false, "foobar foob", "<0> <1>b"),
            (&["xa", "b"], true, "bbxaxa", "<1>b<0>xa"),
            (&["", "b"], false, "abc", "a<1>c"),
            (&["needle", "le"], false, "a needl le", "a needl <1>"),
            (&["ÄB"], false, "xÄbx", "x<0>x"),
        ] {
            for piece in 1..=body.len() {
                assert_eq!(replaced(texts, once, body, piece), expected, "{texts:?} in {body} by {piece}");
            }
        }
    }

    #[test]
    fn a_search_agrees_with_the_plain_way() {
        let mut random = 7_u32;
        let mut next = |below: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 16) % below
        };
        for _ in 0..2000 {
            let mut word = |longest: u32| -> String {
                (0..=next(longest)).map(|_| char::from(b'a' + next(3) as u8)).collect()
            };
            let (texts, body) = ([word(4), word(5), word(3)], word(40));
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut plain = String::new();
            let mut at = 0;
            while at < body.len() {
                match texts.iter().position(|text| body[at..].starts_with(text)) {
                    Some(pair) => {
                        plain.push_str(&format!("<{pair}>"));
                        at += texts[pair].len();
                    }
                    None => {
                        plain.push_str(&body[at..=at]);
                        at += 1;
                    }
                }
            }
            for piece in [1, 2, 3, 7, 100] {
                assert_eq!(replaced(&texts, false, &body, piece), plain, "{texts:?} in {body} by {piece}");
            }
        }
    }
}
