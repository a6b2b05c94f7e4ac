//! The header list of a message: an ordered list of fields whose bytes are in one growing arena.
//!
//! Owns names, values and their order. It must never judge what a field means, and after warm-up it must not
//! allocate: `clear` keeps the capacity, removed bytes stay in the arena until then.

use crate::field::encode_field;
use crate::known::Known;
use std::fmt;
use std::ops::Range;

/// `Field::name_at` of a field whose name is the canonical spelling of its [`Known`].
const CANONICAL: u32 = u32::MAX;
const LINE_END: &[u8] = b"\r\n";

#[derive(Clone, Copy, Debug)]
struct Field {
    known: Option<Known>,
    /// The arena holds the field as it is sent, from the name's first byte to the line end behind the value.
    is_line: bool,
    name_at: u32,
    name_len: u32,
    value_at: u32,
    value_len: u32,
}

/// An ordered header list that is used again and again without allocating.
///
/// A list holds at most 4 GiB of names and values; limits on heads keep any peer far below that.
#[derive(Clone, Default)]
pub struct Headers {
    bytes: Vec<u8>,
    fields: Vec<Field>,
    /// The known names that occur, so that the usual result ("no such field") costs one test.
    present: u128,
    /// Those that occur more than once, and perhaps some that no longer do.
    repeated: u128,
}

/// Where the bytes of another list are in this one: see [`Headers::adopt`].
#[derive(Clone, Copy, Debug)]
pub struct Adopted {
    base: u32,
}

impl Headers {
    /// Returns an empty list; allocates with the first field.
    pub const fn new() -> Headers {
        Headers { bytes: Vec::new(), fields: Vec::new(), present: 0, repeated: 0 }
    }

    /// Forgets every field and keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.present = 0;
        self.repeated = 0;
    }

    /// Returns memory that a rare large head has taken, so that an idle connection stays small.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.bytes.shrink_to(bytes);
    }

    /// Returns the bytes of names and values that are kept, those of replaced fields included.
    pub fn used_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Returns true if there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Adds a field at the end. The caller guarantees that name and value hold no CR, LF or NUL.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.push_as(Known::from_bytes(name), name, value);
    }

    /// As [`Headers::push`], for a name that was looked up already.
    fn push_as(&mut self, known: Option<Known>, name: &[u8], value: &[u8]) {
        // As it will be sent, so that this is one piece: see `append_to`.
        self.bytes.reserve(name.len() + value.len() + 4);
        let (name_at, name_len) = self.store(name);
        self.bytes.extend_from_slice(b": ");
        let (value_at, value_len) = self.store(value);
        self.bytes.extend_from_slice(LINE_END);
        self.add(Field { known, is_line: true, name_at, name_len, value_at, value_len });
    }

    /// Takes a copy of all bytes of another list, for fields of it that [`Headers::push_adopted`] then adds: one
    /// copy for all of them.
    pub fn adopt(&mut self, other: &Headers) -> Adopted {
        Adopted { base: self.store(&other.bytes).0 }
    }

    /// Adds the field at this place of a list that was adopted and is as it was then. Out of range: nothing happens.
    #[inline]
    pub fn push_adopted(&mut self, adopted: Adopted, other: &Headers, index: usize) {
        if let Some(mut field) = other.fields.get(index).copied() {
            field.value_at += adopted.base;
            if field.name_at != CANONICAL {
                field.name_at += adopted.base;
            }
            self.add(field);
        }
    }

    /// Adds a field with a known name in its canonical spelling at the end.
    pub fn push_known(&mut self, known: Known, value: &[u8]) {
        let (value_at, value_len) = self.store(value);
        let known = Some(known);
        self.add(Field { known, is_line: false, name_at: CANONICAL, name_len: 0, value_at, value_len });
    }

    /// Returns the value of the first field with this name.
    #[inline]
    pub fn get(&self, known: Known) -> Option<&[u8]> {
        if self.present & known.bit() == 0 {
            return None;
        }
        self.fields.iter().find(|field| field.known == Some(known)).map(|field| self.value_of(field))
    }

    /// Returns the values of every field with this name, in order.
    #[inline]
    pub fn get_all(&self, known: Known) -> Values<'_, 'static> {
        let next = if self.has(known) { 0 } else { self.fields.len() };
        Values { headers: self, next, wanted: Wanted::Known(known) }
    }

    /// Returns true if there is a field with this name.
    #[inline]
    pub fn has(&self, known: Known) -> bool {
        self.present & known.bit() != 0
    }

    /// Returns the name of the field at this place, if it is a known one; `None` out of range.
    #[inline]
    pub fn known_at(&self, index: usize) -> Option<Known> {
        self.fields.get(index)?.known
    }

    /// Returns true if a known name may occur more than once; false is certain.
    #[inline]
    pub fn may_repeat(&self) -> bool {
        self.repeated != 0
    }

    /// Returns the value of the first field with this name, in any case.
    pub fn find<'a>(&'a self, name: &[u8]) -> Option<&'a [u8]> {
        self.find_all(name).next()
    }

    /// Returns the values of every field with this name, in any case.
    pub fn find_all<'n>(&self, name: &'n [u8]) -> Values<'_, 'n> {
        match Known::from_bytes(name) {
            Some(known) => self.get_all(known),
            None => Values { headers: self, next: 0, wanted: Wanted::Unknown(name) },
        }
    }

    /// Returns true if there is a field with this name, in any case.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.find(name).is_some()
    }

    /// Returns the values of every field that a variable such as `$http_x_forwarded_for` means (letters in lower case,
    /// `_` for `-`); nginx joins several with `, `.
    pub fn find_all_underscored<'n>(&self, name: &'n [u8]) -> Values<'_, 'n> {
        Values { headers: self, next: 0, wanted: Wanted::Underscored(name) }
    }

    /// Gives a name a single value: the first field of that name keeps its place, the others are removed; without one,
    /// the field is added at the end.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        if let Some(known) = Known::from_bytes(name) {
            if self.has(known) {
                self.replace(value, |field, _| field.known == Some(known));
            } else {
                self.push(name, value);
            }
        } else if self.contains(name) {
            self.replace(value, |field, spelt| field.known.is_none() && spelt.eq_ignore_ascii_case(name));
        } else {
            self.push(name, value);
        }
    }

    /// Does the same as [`Headers::set`] for a known name.
    pub fn set_known(&mut self, known: Known, value: &[u8]) {
        if self.has(known) {
            self.replace(value, |field, _| field.known == Some(known));
        } else {
            self.push_known(known, value);
        }
    }

    /// Gives the field at this place in the list another value. Out of range: nothing happens.
    pub fn set_value(&mut self, index: usize, value: &[u8]) {
        let (value_at, value_len) = self.store(value);
        if let Some(field) = self.fields.get_mut(index) {
            field.is_line = false;
            field.value_at = value_at;
            field.value_len = value_len;
        }
    }

    /// Removes every field with this name, in any case. Returns true if there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        match Known::from_bytes(name) {
            Some(known) => self.remove_known(known),
            None => {
                let before = self.fields.len();
                self.retain(|known, spelt, _| known.is_some() || !spelt.eq_ignore_ascii_case(name));
                self.fields.len() != before
            }
        }
    }

    /// Removes every field with this name. Returns true if there was one.
    pub fn remove_known(&mut self, known: Known) -> bool {
        if !self.has(known) {
            return false;
        }
        self.fields.retain(|field| field.known != Some(known));
        self.present &= !known.bit();
        true
    }

    /// Keeps the fields for which the test holds.
    pub fn retain(&mut self, mut keep: impl FnMut(Option<Known>, &[u8], &[u8]) -> bool) {
        let bytes = &self.bytes;
        let mut present = 0;
        self.fields.retain(|field| {
            let kept = keep(field.known, name_in(bytes, field), &bytes[value_range(field)]);
            if kept {
                present |= field.known.map_or(0, Known::bit);
            }
            kept
        });
        self.present = present;
    }

    /// Returns every field in order: its number if known, its name as spelt, its value.
    pub fn iter(&self) -> Iter<'_> {
        Iter { headers: self, fields: self.fields.iter() }
    }

    /// Returns the field at this place in the list.
    pub fn at(&self, index: usize) -> Option<(Option<Known>, &[u8], &[u8])> {
        self.fields.get(index).map(|field| (field.known, self.name_of(field), self.value_of(field)))
    }

    /// Appends the fields for which the test holds, each with its line end, as they are sent. Fields that lie one
    /// behind the other are copied at once.
    #[inline]
    pub fn append_to(&self, out: &mut Vec<u8>, mut keep: impl FnMut(Option<Known>, &[u8], &[u8]) -> bool) {
        let mut run = 0..0;
        for field in &self.fields {
            let (name, value) = (self.name_of(field), self.value_of(field));
            if !keep(field.known, name, value) {
                continue;
            }
            let line = field.name_at as usize..value_range(field).end + LINE_END.len();
            if field.is_line && line.start == run.end {
                run.end = line.end;
                continue;
            }
            out.extend_from_slice(&self.bytes[run]);
            run = if field.is_line { line } else { 0..0 };
            if !field.is_line {
                encode_field(out, name, value);
            }
        }
        out.extend_from_slice(&self.bytes[run]);
    }

    /// Adds a field whose bytes the decoder is about to append with [`Headers::append_block`]. `is_line`: these are
    /// name, colon, space, value and CRLF.
    #[inline]
    pub(crate) fn add_span(
        &mut self,
        known: Option<Known>,
        is_line: bool,
        name: Range<usize>,
        value: Range<usize>,
    ) {
        self.add(Field {
            known,
            is_line,
            name_at: name.start as u32,
            name_len: name.len() as u32,
            value_at: value.start as u32,
            value_len: value.len() as u32,
        });
    }

    /// Appends bytes that fields were announced for: a decoder copies a whole block of lines at once.
    #[inline]
    pub(crate) fn append_block(&mut self, block: &[u8]) {
        self.bytes.extend_from_slice(block);
    }

    /// Returns the length of the arena; the next block is appended there.
    #[inline]
    pub(crate) fn arena_len(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    fn add(&mut self, field: Field) {
        let bit = field.known.map_or(0, Known::bit);
        self.repeated |= self.present & bit;
        self.present |= bit;
        self.fields.push(field);
    }

    fn store(&mut self, bytes: &[u8]) -> (u32, u32) {
        let at = self.bytes.len();
        assert!(at + bytes.len() < CANONICAL as usize, "a header list holds less than 4 GiB");
        self.bytes.extend_from_slice(bytes);
        (at as u32, bytes.len() as u32)
    }

    /// Gives the first field that matches the value and removes the others that match.
    fn replace(&mut self, value: &[u8], matches: impl Fn(&Field, &[u8]) -> bool) {
        let (value_at, value_len) = self.store(value);
        let bytes = &self.bytes;
        let mut first = true;
        self.fields.retain_mut(|field| {
            if !matches(field, name_in(bytes, field)) {
                return true;
            }
            if first {
                field.is_line = false;
                field.value_at = value_at;
                field.value_len = value_len;
            }
            std::mem::take(&mut first)
        });
    }

    fn name_of(&self, field: &Field) -> &[u8] {
        name_in(&self.bytes, field)
    }

    #[inline]
    fn value_of(&self, field: &Field) -> &[u8] {
        &self.bytes[value_range(field)]
    }
}

fn value_range(field: &Field) -> Range<usize> {
    field.value_at as usize..field.value_at as usize + field.value_len as usize
}

fn name_in<'a>(bytes: &'a [u8], field: &Field) -> &'a [u8] {
    match field.known {
        Some(known) if field.name_at == CANONICAL => known.name().as_bytes(),
        _ => &bytes[field.name_at as usize..field.name_at as usize + field.name_len as usize],
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.iter().map(|(_, name, value)| (bstr::BStr::new(name), bstr::BStr::new(value)));
        f.debug_map().entries(pairs).finish()
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (Option<Known>, &'a [u8], &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Iterates over the fields of a list.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    headers: &'a Headers,
    fields: std::slice::Iter<'a, Field>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Option<Known>, &'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.fields.next()?;
        Some((field.known, self.headers.name_of(field), self.headers.value_of(field)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.fields.size_hint()
    }
}

#[derive(Clone, Copy, Debug)]
enum Wanted<'n> {
    Known(Known),
    Unknown(&'n [u8]),
    Underscored(&'n [u8]),
}

/// Iterates over the values of one name.
#[derive(Clone, Debug)]
pub struct Values<'a, 'n> {
    headers: &'a Headers,
    next: usize,
    wanted: Wanted<'n>,
}

impl<'a> Iterator for Values<'a, '_> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        // Nearly always nothing is there, or nothing more.
        if self.next >= self.headers.fields.len() { None } else { self.search() }
    }
}

impl<'a> Values<'a, '_> {
    fn search(&mut self) -> Option<&'a [u8]> {
        let headers = self.headers;
        let rest = headers.fields.get(self.next..)?;
        let mut last = false;
        let found = match self.wanted {
            Wanted::Known(known) => {
                last = headers.repeated & known.bit() == 0;
                rest.iter().position(|field| field.known == Some(known))
            }
            Wanted::Unknown(name) => rest
                .iter()
                .position(|field| field.known.is_none() && headers.name_of(field).eq_ignore_ascii_case(name)),
            Wanted::Underscored(name) => {
                rest.iter().position(|field| is_underscored(headers.name_of(field), name))
            }
        };
        self.next = match found {
            Some(ahead) if !last => self.next + ahead + 1,
            _ => headers.fields.len(),
        };
        found.map(|ahead| headers.value_of(&rest[ahead]))
    }
}

/// Returns true if a variable's name means this field. Only the field's letters are folded, as in nginx.
fn is_underscored(field: &[u8], name: &[u8]) -> bool {
    field.len() == name.len()
        && field.iter().zip(name).all(|(ours, wanted)| match ours {
            b'-' => *wanted == b'_',
            _ => ours.to_ascii_lowercase() == *wanted,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(headers: &Headers) -> String {
        let lines = headers
            .iter()
            .map(|(_, name, value)| format!("{}: {}", bstr::BStr::new(name), bstr::BStr::new(value)));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn sample() -> Headers {
        let mut headers = Headers::new();
        headers.push(b"host", b"shop.example.com");
        headers.push(b"X-Trace", b"1");
        headers.push_known(Known::Accept, b"*/*");
        headers.push(b"x-trace", b"2");
        headers.push(b"ACCEPT", b"text/html");
        headers
    }

    #[test]
    fn order_spelling_and_values_are_preserved() {
        assert_eq!(
            shown(&sample()),
            "host: shop.example.com\nX-Trace: 1\nAccept: */*\nx-trace: 2\nACCEPT: text/html"
        );
    }

    #[test]
    fn lookups_ignore_case() {
        let headers = sample();
        assert_eq!(headers.get(Known::Host), Some(&b"shop.example.com"[..]));
        assert_eq!(headers.get(Known::Expect), None);
        assert_eq!(headers.find(b"HOST"), Some(&b"shop.example.com"[..]));
        assert_eq!(headers.find_all(b"X-TRACE").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(headers.get_all(Known::Accept).collect::<Vec<_>>(), [&b"*/*"[..], b"text/html"]);
        assert!(headers.contains(b"x-trace") && !headers.contains(b"x-trac"));
        assert_eq!(headers.at(2), Some((Some(Known::Accept), &b"Accept"[..], &b"*/*"[..])));
    }

    #[test]
    fn an_underscored_name_finds_dashed_fields() {
        let mut headers = sample();
        headers.push(b"a_b-C", b"v");
        assert_eq!(headers.find_all_underscored(b"x_trace").count(), 2);
        assert_eq!(headers.find_all_underscored(b"a_b_c").next(), Some(&b"v"[..]));
        assert_eq!(headers.find_all_underscored(b"x-trace").next(), None, "a variable's name has no dash");
        assert_eq!(headers.find_all_underscored(b"host").next(), Some(&b"shop.example.com"[..]));
    }

    #[test]
    fn set_keeps_the_place_of_the_first_field() {
        let mut headers = sample();
        headers.set(b"X-TRACE", b"3");
        headers.set(b"accept", b"none");
        headers.set(b"X-New", b"n");
        headers.set_known(Known::Host, b"h");
        headers.set_known(Known::Via, b"v");
        assert_eq!(shown(&headers), "host: h\nX-Trace: 3\nAccept: none\nX-New: n\nVia: v");
        headers.set_value(1, b"4");
        headers.set_value(99, b"none");
        assert_eq!(headers.find(b"x-trace"), Some(&b"4"[..]));
    }

    #[test]
    fn removal_removes_every_field_of_the_name() {
        let mut headers = sample();
        assert!(headers.remove(b"x-Trace"));
        assert!(!headers.remove(b"x-Trace"));
        assert!(headers.remove_known(Known::Accept));
        assert!(!headers.remove_known(Known::Accept));
        assert!(!headers.has(Known::Accept));
        assert_eq!(shown(&headers), "host: shop.example.com");
        headers.retain(|known, _, _| known != Some(Known::Host));
        assert!(headers.is_empty() && !headers.has(Known::Host));
    }

    /// Returns what is sent of a list, and checks that both ways of sending agree.
    fn sent(headers: &Headers, keep: fn(Option<Known>) -> bool) -> String {
        let mut out = Vec::new();
        headers.append_to(&mut out, |known, _, _| keep(known));
        let mut one_by_one = Vec::new();
        for (_, name, value) in headers.iter().filter(|(known, ..)| keep(*known)) {
            encode_field(&mut one_by_one, name, value);
        }
        assert_eq!(bstr::BStr::new(&out), bstr::BStr::new(&one_by_one));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sent_fields_equal_pushed_ones() {
        let mut headers = sample();
        assert_eq!(
            sent(&headers, |_| true),
            "host: shop.example.com\r\nX-Trace: 1\r\nAccept: */*\r\nx-trace: 2\r\nACCEPT: text/html\r\n"
        );
        assert_eq!(sent(&headers, |known| known.is_none()), "X-Trace: 1\r\nx-trace: 2\r\n");
        assert_eq!(sent(&headers, |_| false), "");
        headers.set(b"X-Trace", b"3");
        headers.set_value(0, b"other.example.com");
        headers.remove(b"Accept");
        headers.push(b"X-Last", b"");
        assert_eq!(sent(&headers, |_| true), "host: other.example.com\r\nX-Trace: 3\r\nX-Last: \r\n");
    }

    #[test]
    fn decoded_fields_are_sent_unchanged() {
        let head = b"HTTP/1.1 200 OK\r\nServer: a\r\nVary:b\r\nX-A: 1 \r\nX-B:  2\r\nDate: c\nAge:\r\nX-C: 3\r\nEtag: d\r\n\r\n";
        for piece in 1..=head.len() {
            let mut decoded = crate::ResponseHead::new();
            for end in (piece..head.len()).step_by(piece).chain([head.len()]) {
                assert!(decoded.decode(&head[..end], 4096).is_ok());
            }
            let expected =
                "Server: a\r\nVary: b\r\nX-A: 1\r\nX-B: 2\r\nDate: c\r\nAge: \r\nX-C: 3\r\nEtag: d\r\n";
            assert_eq!(sent(&decoded.headers, |_| true), expected);
            let mut copy = sample();
            copy.clear();
            copy.push_known(Known::Via, b"v");
            let adopted = copy.adopt(&decoded.headers);
            for index in [0, 2, 3, 7, 99] {
                copy.push_adopted(adopted, &decoded.headers, index);
            }
            assert_eq!(sent(&copy, |_| true), "Via: v\r\nServer: a\r\nX-A: 1\r\nX-B: 2\r\nEtag: d\r\n");
            assert_eq!((copy.get(Known::ETag), copy.has(Known::Vary)), (Some(&b"d"[..]), false));
        }
    }

    #[test]
    fn every_field_of_a_repeated_name_is_found() {
        let mut headers = sample();
        headers.remove_known(Known::Accept);
        headers.push(b"accept", b"1");
        assert_eq!(headers.get_all(Known::Accept).collect::<Vec<_>>(), [b"1"]);
        headers.push_known(Known::Accept, b"2");
        headers.push(b"Via", b"v");
        headers.push(b"aCCEPT", b"3");
        assert_eq!(headers.get_all(Known::Accept).collect::<Vec<_>>(), [b"1", b"2", b"3"]);
        assert_eq!(headers.get_all(Known::Via).collect::<Vec<_>>(), [b"v"]);
        assert_eq!(headers.get_all(Known::Age).next(), None);
    }

    #[test]
    fn clear_keeps_memory() {
        let mut headers = sample();
        let capacity = headers.bytes.capacity();
        headers.clear();
        assert_eq!((headers.len(), headers.get(Known::Host), headers.bytes.capacity()), (0, None, capacity));
    }
}
