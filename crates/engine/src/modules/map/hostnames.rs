//! Keys that are host names with wildcards: exact names, `*.example.com`, `.example.com`, `www.example.*`.
//!
//! Follows ngx_hash_add_key and ngx_hash_find_combined. Keys are in lower case already.

use std::collections::HashMap;

/// A table from keys to numbers, with or without wildcards.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    exact: HashMap<Box<[u8]>, u32>,
    /// `*.example.com` under `.example.com`.
    leading: HashMap<Box<[u8]>, u32>,
    /// `www.example.*` under `www.example.`.
    trailing: HashMap<Box<[u8]>, u32>,
}

/// The reason why a key cannot be added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HostnameFault {
    /// It is there already.
    Conflict,
    /// A `*` in the wrong place, or an empty label.
    Invalid,
}

fn add(table: &mut HashMap<Box<[u8]>, u32>, key: &[u8], value: u32) -> Result<(), HostnameFault> {
    match table.insert(key.into(), value) {
        None => Ok(()),
        Some(_) => Err(HostnameFault::Conflict),
    }
}

impl Keys {
    /// Adds a literal key.
    pub(crate) fn add(&mut self, key: &[u8], value: u32) -> Result<(), HostnameFault> {
        add(&mut self.exact, key, value)
    }

    /// Adds a host name that may have a wildcard.
    pub(crate) fn add_host(&mut self, name: &[u8], value: u32) -> Result<(), HostnameFault> {
        let stars = name.iter().filter(|byte| **byte == b'*').count();
        if stars > 1 || name.contains(&0) || name.windows(2).any(|pair| pair == b"..") {
            return Err(HostnameFault::Invalid);
        }
        match name {
            [b'.', rest @ ..] if !rest.is_empty() => {
                add(&mut self.exact, rest, value)?;
                add(&mut self.leading, name, value)
            }
            [b'*', suffix @ ..] if suffix.starts_with(b".") && suffix.len() > 1 => {
                add(&mut self.leading, suffix, value)
            }
            [prefix @ .., b'*'] if prefix.ends_with(b".") && prefix.len() > 1 => {
                add(&mut self.trailing, prefix, value)
            }
            _ if stars > 0 => Err(HostnameFault::Invalid),
            name => add(&mut self.exact, name, value),
        }
    }

    /// Returns the number of a text: the key itself, the longest leading wildcard, the longest trailing one.
    pub(crate) fn find(&self, text: &[u8]) -> Option<u32> {
        if let Some(value) = self.exact.get(text) {
            return Some(*value);
        }
        if !self.leading.is_empty() {
            let mut suffixes = memchr::memchr_iter(b'.', text).map(|dot| &text[dot..]);
            if let Some(value) = suffixes.find_map(|suffix| self.leading.get(suffix)) {
                return Some(*value);
            }
        }
        if !self.trailing.is_empty() {
            let mut prefixes = memchr::memrchr_iter(b'.', text).map(|dot| &text[..=dot]);
            return prefixes.find_map(|prefix| self.trailing.get(prefix)).copied();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_name_wins() {
        let mut keys = Keys::default();
        for (value, name) in [
            "example.com",
            "*.example.com",
            "*.b.example.com",
            "www.*",
            "www.example.*",
            ".dual.org",
            "plain",
        ]
        .iter()
        .enumerate()
        {
            keys.add_host(name.as_bytes(), value as u32).unwrap();
        }
        for (text, value) in [
            ("example.com", Some(0)),
            ("a.example.com", Some(1)),
            ("x.a.example.com", Some(1)),
            ("a.b.example.com", Some(2)),
            ("b.example.com", Some(1)),
            ("www.net", Some(3)),
            ("www.example.net", Some(4)),
            ("www.example.com", Some(1)),
            ("dual.org", Some(5)),
            ("a.dual.org", Some(5)),
            ("plain", Some(6)),
            ("www", None),
            ("", None),
            ("xexample.com", None),
        ] {
            assert_eq!(keys.find(text.as_bytes()), value, "{text}");
        }
    }

    #[test]
    fn conflicting_names_and_misplaced_stars_are_refused() {
        let mut keys = Keys::default();
        keys.add_host(b".example.com", 0).unwrap();
        assert_eq!(keys.add_host(b"example.com", 1), Err(HostnameFault::Conflict));
        assert_eq!(keys.add_host(b"*.example.com", 1), Err(HostnameFault::Conflict));
        assert_eq!(keys.add_host(b".example.com", 1), Err(HostnameFault::Conflict));
        for name in ["a.*.b", "*", "*a", "a*", "*.a.*", "a..b", "*."] {
            assert_eq!(keys.add_host(name.as_bytes(), 1), Err(HostnameFault::Invalid), "{name}");
        }
        assert_eq!(keys.add(b"*", 2), Ok(()));
        assert_eq!(keys.find(b"*"), Some(2));
    }
}
