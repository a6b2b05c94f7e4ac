//! `charset_map`: which bytes of one charset are which of another.
//!
//! Owns the tables, read from text; [`super::recoder`] runs bodies through them. One of the two charsets may be UTF-8, if it
//! is the second one, as in nginx.

use std::sync::Arc;

/// The most bytes of one character in UTF-8 that a map may have.
const MOST_BYTES: usize = 3;

/// How the bytes of one charset become those of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// A byte becomes a byte.
    Bytes(Box<[u8; 256]>),
    /// A byte becomes a character in UTF-8.
    ToUtf8(Box<[Utf8; 256]>),
    /// A character in UTF-8 becomes a byte: pages of 256 characters, in which 0 is none.
    FromUtf8(Box<[Option<Box<[u8; 256]>>; 256]>),
}

/// The bytes of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utf8 {
    len: u8,
    bytes: [u8; MOST_BYTES],
}

impl Utf8 {
    fn of_byte(byte: u8) -> Utf8 {
        Utf8 { len: 1, bytes: [byte, 0, 0] }
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// One `charset_map`, read both ways.
#[derive(Clone, Debug)]
pub struct CharsetMap {
    /// The names of the charsets, as written.
    pub names: [Box<[u8]>; 2],
    /// From the first to the second, and back.
    pub conversions: [Arc<Conversion>; 2],
}

/// A value of a map that is none: the place of its line, and of the word in that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidValue {
    /// Which line.
    pub line: usize,
    /// Which of its two words.
    pub word: usize,
}

impl CharsetMap {
    /// Reads a map between two charsets: pairs of hexadecimal numbers. What is not in it becomes a question mark, ASCII apart.
    ///
    /// # Errors
    /// See [`InvalidValue`].
    pub fn read<'a>(
        names: [&[u8]; 2],
        pairs: impl IntoIterator<Item = [&'a [u8]; 2]>,
    ) -> Result<CharsetMap, InvalidValue> {
        let conversions = match names[1].eq_ignore_ascii_case(b"utf-8") {
            true => with_utf8(pairs)?,
            false => of_bytes(pairs)?,
        };
        Ok(CharsetMap { names: names.map(Box::from), conversions: conversions.map(Arc::new) })
    }
}

fn of_bytes<'a>(pairs: impl IntoIterator<Item = [&'a [u8]; 2]>) -> Result<[Conversion; 2], InvalidValue> {
    let identity = || {
        let mut table = Box::new([b'?'; 256]);
        (0..128_u8).for_each(|byte| table[usize::from(byte)] = byte);
        table
    };
    let (mut there, mut back) = (identity(), identity());
    for (line, [from, to]) in pairs.into_iter().enumerate() {
        let from = byte(from).ok_or(InvalidValue { line, word: 0 })?;
        let to = byte(to).ok_or(InvalidValue { line, word: 1 })?;
        there[usize::from(from)] = to;
        back[usize::from(to)] = from;
    }
    Ok([Conversion::Bytes(there), Conversion::Bytes(back)])
}

fn with_utf8<'a>(pairs: impl IntoIterator<Item = [&'a [u8]; 2]>) -> Result<[Conversion; 2], InvalidValue> {
    let mut there = Box::new([Utf8::of_byte(b'?'); 256]);
    let mut back: Box<[Option<Box<[u8; 256]>>; 256]> = Box::new([const { None }; 256]);
    let page = |table: &mut Box<[Option<Box<[u8; 256]>>; 256]>, character: u32, byte: u8| {
        let page = table[(character >> 8) as usize & 0xff].get_or_insert_with(|| Box::new([0; 256]));
        page[(character & 0xff) as usize] = byte;
    };
    for byte in 0..128_u8 {
        there[usize::from(byte)] = Utf8::of_byte(byte);
        page(&mut back, u32::from(byte), byte);
    }
    for (line, [from, to]) in pairs.into_iter().enumerate() {
        let from = byte(from).ok_or(InvalidValue { line, word: 0 })?;
        let invalid = InvalidValue { line, word: 1 };
        if to.is_empty() || to.len() % 2 > 0 || to.len() / 2 > MOST_BYTES {
            return Err(invalid);
        }
        let mut character = Utf8 { len: (to.len() / 2) as u8, bytes: [0; MOST_BYTES] };
        for (place, digits) in character.bytes.iter_mut().zip(to.chunks(2)) {
            *place = byte(digits).ok_or(invalid)?;
        }
        let number = match decode(character.bytes()) {
            Decoded::Character(number, _) if number <= 0xffff => number,
            _ => return Err(invalid),
        };
        there[usize::from(from)] = character;
        page(&mut back, number, from);
    }
    Ok([Conversion::ToUtf8(there), Conversion::FromUtf8(back)])
}

/// Reads a byte in hexadecimal.
fn byte(text: &[u8]) -> Option<u8> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

/// What bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// A character, of so many bytes.
    Character(u32, usize),
    /// So many bytes that are none.
    Invalid(usize),
    /// A character of which there are more bytes to come.
    Incomplete,
}

/// Reads a character as nginx does (ngx_utf8_decode): what follows a first byte is taken whatever its high bits are, if it is
/// no ASCII; a byte that is takes the character with it.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    let Some(&first) = bytes.first() else { return Decoded::Incomplete };
    let (bits, least, len) = match first {
        0..0x80 => return Decoded::Character(u32::from(first), 1),
        0xc2..0xe0 => (0x1f, 0x80, 2),
        0xe0..0xf0 => (0x0f, 0x800, 3),
        0xf0..0xf8 => (0x07, 0x1_0000, 4),
        _ => return Decoded::Invalid(1),
    };
    let Some(rest) = bytes.get(1..len) else { return Decoded::Incomplete };
    let mut number = u32::from(first & bits);
    for (place, byte) in rest.iter().enumerate() {
        if *byte < 0x80 {
            return Decoded::Invalid(place + 2);
        }
        number = number << 6 | u32::from(byte & 0x3f);
    }
    match number < least {
        true => Decoded::Invalid(len),
        false => Decoded::Character(number, len),
    }
}

/// The charsets that a configuration names, and the maps between them.
#[derive(Clone, Debug, Default)]
pub struct Charsets {
    maps: Vec<CharsetMap>,
    /// The names in `charset`, `source_charset` and maps.
    names: Vec<Box<[u8]>>,
}

impl Charsets {
    /// Returns whether there are maps.
    pub fn has_maps(&self) -> bool {
        !self.maps.is_empty()
    }

    /// Returns whether any charset is named.
    pub fn has_names(&self) -> bool {
        !self.names.is_empty()
    }

    /// Returns whether a charset is named anywhere.
    pub fn is_known(&self, name: &[u8]) -> bool {
        self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Returns the conversion from one charset to another.
    pub fn find(&self, from: &[u8], to: &[u8]) -> Option<&Arc<Conversion>> {
        self.maps.iter().find_map(|map| {
            let is = |first: &[u8], second: &[u8]| {
                map.names[0].eq_ignore_ascii_case(first) && map.names[1].eq_ignore_ascii_case(second)
            };
            match (is(from, to), is(to, from)) {
                (true, _) => Some(&map.conversions[0]),
                (_, true) => Some(&map.conversions[1]),
                _ => None,
            }
        })
    }

    /// Takes note of a name.
    pub(super) fn name(&mut self, name: &[u8]) {
        if !name.is_empty() && !self.is_known(name) {
            self.names.push(name.into());
        }
    }

    /// Adds a map.
    pub(super) fn add(&mut self, map: CharsetMap) {
        map.names.iter().for_each(|name| self.name(name));
        self.maps.push(map);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_read_as_nginx_reads_them() {
        use Decoded::{Character, Incomplete, Invalid};
        for (bytes, expected) in [
            (&b"a"[..], Character(0x61, 1)),
            (b"\xd1\x8e", Character(0x44e, 2)),
            (b"\xe2\x82\xac", Character(0x20ac, 3)),
            (b"\xf0\x9f\x98\x80", Character(0x1f600, 4)),
            (b"\xf7\xbf\xbf\xbf", Character(0x1f_ffff, 4)),
            (b"\xe2\x82", Incomplete),
            (b"", Incomplete),
            (b"\x80", Invalid(1)),
            (b"\xc1\x81", Invalid(1)),
            (b"\xf8\x80", Invalid(1)),
            (b"\xe0\x80\x80", Invalid(3)),
            (b"\xe2a\x80", Invalid(2)),
            (b"\xe2\x82a", Invalid(3)),
            (b"\xd1\xff", Character(0x47f, 2)),
        ] {
            assert_eq!(decode(bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn maps_are_pairs_of_hexadecimal_numbers() {
        let read = |to: &str, pairs: &[[&'static str; 2]]| {
            let pairs = pairs.iter().map(|pair| pair.map(str::as_bytes));
            CharsetMap::read([b"a", to.as_bytes()], pairs).map(|map| map.conversions)
        };
        let [there, back] = read("b", &[["80", "E1"], ["c0", "80"]]).unwrap();
        let (Conversion::Bytes(there), Conversion::Bytes(back)) = (&*there, &*back) else { panic!() };
        assert_eq!((there[0x80], there[0xc0], there[0x81], there[0x41]), (0xe1, 0x80, b'?', 0x41));
        assert_eq!((back[0xe1], back[0x80], back[0xff]), (0x80, 0xc0, b'?'));
        let [there, back] = read("UTF-8", &[["80", "E282AC"], ["C0", "D18E"]]).unwrap();
        let (Conversion::ToUtf8(there), Conversion::FromUtf8(back)) = (&*there, &*back) else { panic!() };
        assert_eq!(
            (there[0x80].bytes(), there[0x41].bytes(), there[0x90].bytes()),
            (&b"\xe2\x82\xac"[..], &b"A"[..], &b"?"[..])
        );
        assert_eq!(back[0x20].as_ref().unwrap()[0xac], 0x80);
        for (to, pair, word) in [
            ("b", ["100", "1"], 0),
            ("b", ["x", "1"], 0),
            ("b", ["1", "E282"], 1),
            ("utf-8", ["1", "E28"], 1),
            ("utf-8", ["1", "F09F9880"], 1),
            ("utf-8", ["1", "80"], 1),
            ("utf-8", ["1", "E2"], 1),
            ("utf-8", ["1", "zz"], 1),
        ] {
            assert_eq!(
                read(to, &[["1", "31"], pair]).err(),
                Some(InvalidValue { line: 1, word }),
                "{pair:?}"
            );
        }
    }
}
