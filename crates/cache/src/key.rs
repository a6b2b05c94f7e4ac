//! Names of kept responses: the hash of a key, the variants of `Vary`, and the path below a cache's folder.

use http::Headers;
use md5::{Digest, Md5};
use std::fmt;
use std::path::PathBuf;

/// The hash of a key. nginx's, so that paths are those that its tools know: MD5, which is no protection here and needs to be
/// none, since the whole key is in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub [u8; 16]);

impl KeyHash {
    /// Returns the hash of a key.
    pub fn of(key: &[u8]) -> KeyHash {
        KeyHash(Md5::digest(key).into())
    }

    /// Returns the hash of a key for responses that came by one way (see [`crate::Provenance`]); the key's own without any.
    pub fn with_origin(self, origin: &[u8]) -> KeyHash {
        if origin.is_empty() {
            return self;
        }
        let mut digest = Md5::new();
        digest.update(self.0);
        digest.update(b"origin\0");
        digest.update(origin);
        KeyHash(digest.finalize().into())
    }

    /// Reads the name of a file.
    pub fn from_name(name: &[u8]) -> Option<KeyHash> {
        let mut hash = [0; 16];
        if name.len() != 32 {
            return None;
        }
        for (byte, digits) in hash.iter_mut().zip(name.chunks(2)) {
            let digit = |digit: u8| match digit {
                b'0'..=b'9' => Some(digit - b'0'),
                b'a'..=b'f' => Some(digit - b'a' + 10),
                _ => None,
            };
            *byte = digit(digits[0])? << 4 | digit(digits[1])?;
        }
        Some(KeyHash(hash))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// How many hexadecimal digits the folders of each level have in their names; 0 is no such level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels(pub [u8; 3]);

impl Levels {
    /// Reads `1:2:2`.
    pub fn read(text: &[u8]) -> Option<Levels> {
        let mut levels = [0; 3];
        let mut pieces = text.split(|byte| *byte == b':');
        for level in &mut levels {
            *level = match pieces.next() {
                None => break,
                Some([digit @ (b'1' | b'2')]) => digit - b'0',
                Some(_) => return None,
            };
        }
        (pieces.next().is_none() && levels[0] > 0).then_some(Levels(levels))
    }

    /// Returns how many levels there are.
    pub fn depth(self) -> usize {
        self.0.iter().filter(|digits| **digits > 0).count()
    }

    /// Returns the path of a response below the cache's folder: the last digits of its name are those of its folders, as in
    /// nginx.
    pub fn path(self, hash: KeyHash) -> PathBuf {
        let name = hash.to_string();
        let mut path = PathBuf::new();
        let mut end = name.len();
        for digits in self.0.into_iter().map(usize::from).filter(|digits| *digits > 0) {
            path.push(&name[end - digits..end]);
            end -= digits;
        }
        path.push(name);
        path
    }
}

/// Returns the hash of the variant that these fields of a request ask for, where responses depend on the fields named in
/// `vary`. Only the case of names, and the space around a list's members, make no difference.
pub fn variant(main: KeyHash, vary: &[u8], fields: &Headers) -> KeyHash {
    let mut digest = Md5::new();
    digest.update(main.0);
    for name in vary.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty()) {
        digest.update(name.to_ascii_lowercase());
        digest.update(b":");
        for value in fields.find_all(name) {
            for member in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if !member.is_empty() {
                    digest.update(member);
                    digest.update(b",");
                }
            }
        }
        digest.update(b"\r\n");
    }
    KeyHash(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_nginx() {
        let hash = KeyHash::from_name(b"b7f54b2df7773722d382f4809d65029c").unwrap();
        let path = |levels: &str| Levels::read(levels.as_bytes()).unwrap().path(hash).display().to_string();
        assert_eq!(path("1:2"), "c/29/b7f54b2df7773722d382f4809d65029c");
        assert_eq!(path("2:2:1"), "9c/02/5/b7f54b2df7773722d382f4809d65029c");
        assert_eq!(Levels::default().path(hash).display().to_string(), hash.to_string());
        for wrong in ["", "3", "1:2:2:1", "1:", "a", "0:1"] {
            assert_eq!(Levels::read(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(KeyHash::from_name(b"B7f54b2df7773722d382f4809d65029c"), None);
        assert_eq!(KeyHash::of(b"").to_string(), "d41d8cd98f00b204e9800998ecf8427e");
    }

    #[test]
    fn variants_differ_by_the_named_fields_alone() {
        let of = |lines: &[(&str, &str)]| {
            let mut fields = Headers::new();
            lines.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
            variant(KeyHash::of(b"key"), b"Accept-Encoding, X-Kind", &fields)
        };
        let plain = of(&[]);
        assert_eq!(plain, of(&[("User-Agent", "x")]));
        assert_ne!(plain, of(&[("X-Kind", "a")]));
        assert_ne!(of(&[("X-Kind", "a")]), of(&[("X-Kind", "A")]));
        assert_ne!(of(&[("X-Kind", "a")]), of(&[("Accept-Encoding", "a")]));
        let list = of(&[("accept-encoding", "gzip, br")]);
        assert_eq!(list, of(&[("Accept-Encoding", "gzip ,br")]));
        assert_eq!(list, of(&[("Accept-Encoding", "gzip"), ("Accept-Encoding", "br")]));
    }

    #[test]
    fn ways_have_names_of_their_own() {
        let key = KeyHash::of(b"key");
        assert_eq!(key.with_origin(b""), key);
        assert_ne!(key.with_origin(b"a"), key.with_origin(b"b"));
    }
}
