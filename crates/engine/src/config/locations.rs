//! The search for a location, in nginx's order: exact, longest prefix, then regular expressions in order.

use super::{Config, LocationId};
use crate::exchange::Captures;
use crate::regex::{LimitReached, Regex};

/// The way in which a location's name is matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Modifier {
    /// The URI begins with it.
    #[default]
    Prefix,
    /// `=`: the URI is it.
    Exact,
    /// `^~`: the URI begins with it, and regular expressions are not tried.
    PrefixNoRegex,
    /// `~`, `~*`.
    Regex,
    /// `@name`.
    Named,
    /// `if {}` or `limit_except {}`: never found by a search.
    Unnamed,
}

#[derive(Debug)]
struct Prefix {
    name: Vec<u8>,
    exact: Option<LocationId>,
    inclusive: Option<(LocationId, Modifier)>,
    /// The entry with the longest name that is a proper prefix of this one's.
    shorter: Option<usize>,
}

/// The locations of one level.
#[derive(Debug, Default)]
pub struct LocationTable {
    /// Sorted by name.
    prefixes: Vec<Prefix>,
    regexes: Vec<(Regex, LocationId)>,
}

/// The result of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// An exact match: nothing more is tried.
    Exact(LocationId),
    /// A prefix; whether regular expressions are still to be tried.
    Prefix(LocationId, Modifier),
    /// A regular expression.
    Regex(LocationId),
    Nothing,
}

impl LocationTable {
    /// Enters a prefix or exact location. `false` if there is one of that name already.
    #[must_use]
    pub fn insert(&mut self, name: &[u8], modifier: Modifier, id: LocationId) -> bool {
        let place = match self.prefixes.binary_search_by(|entry| entry.name.as_slice().cmp(name)) {
            Ok(place) => place,
            Err(place) => {
                let entry = Prefix { name: name.to_vec(), exact: None, inclusive: None, shorter: None };
                self.prefixes.insert(place, entry);
                place
            }
        };
        let entry = &mut self.prefixes[place];
        match modifier {
            Modifier::Exact => entry.exact.replace(id).is_none(),
            _ => entry.inclusive.replace((id, modifier)).is_none(),
        }
    }

    /// Enters a regular expression, after those before it.
    pub fn insert_regex(&mut self, regex: Regex, id: LocationId) {
        self.regexes.push((regex, id));
    }

    /// Links each prefix to the next shorter one; to be called once all are in.
    pub fn seal(&mut self) {
        for index in 0..self.prefixes.len() {
            let mut candidate = index.checked_sub(1);
            while let Some(shorter) = candidate {
                if self.prefixes[index].name.starts_with(&self.prefixes[shorter].name) {
                    break;
                }
                candidate = self.prefixes[shorter].shorter;
            }
            self.prefixes[index].shorter = candidate;
        }
    }

    fn prefix(&self, uri: &[u8]) -> Found {
        let mut place = match self.prefixes.binary_search_by(|entry| entry.name.as_slice().cmp(uri)) {
            Ok(place) => {
                if let Some(id) = self.prefixes[place].exact {
                    return Found::Exact(id);
                }
                Some(place)
            }
            Err(place) => place.checked_sub(1),
        };
        while let Some(index) = place {
            let entry = &self.prefixes[index];
            if let (true, Some((id, modifier))) = (uri.starts_with(&entry.name), entry.inclusive) {
                return Found::Prefix(id, modifier);
            }
            place = entry.shorter;
        }
        Found::Nothing
    }
}

/// Finds the location for a URI below `table`; keeps the captures of the regular expression that decided.
///
/// The order is that of ngx_http_core_find_location: at each level the exact match ends the search; else the longest
/// prefix is entered and searched in its turn; then, unless that prefix says `^~`, the first regular expression wins.
pub fn find(
    config: &Config,
    table: &LocationTable,
    uri: &[u8],
    captures: &mut Captures,
) -> Result<Option<LocationId>, LimitReached> {
    Ok(match search(config, table, uri, captures)? {
        Found::Exact(id) | Found::Prefix(id, _) | Found::Regex(id) => Some(id),
        Found::Nothing => None,
    })
}

fn search(
    config: &Config,
    table: &LocationTable,
    uri: &[u8],
    captures: &mut Captures,
) -> Result<Found, LimitReached> {
    let mut found = table.prefix(uri);
    let mut try_regexes = true;
    if let Found::Prefix(id, modifier) = found {
        try_regexes = modifier != Modifier::PrefixNoRegex;
        match search(config, &config.location(id).inner, uri, captures)? {
            Found::Nothing => {}
            deeper @ (Found::Exact(_) | Found::Regex(_)) => return Ok(deeper),
            deeper => found = deeper,
        }
    }
    if matches!(found, Found::Exact(_)) || !try_regexes {
        return Ok(found);
    }
    for (regex, id) in &table.regexes {
        if regex.captures(uri, captures)? {
            return Ok(match search(config, &config.location(*id).inner, uri, captures)? {
                Found::Nothing => Found::Regex(*id),
                Found::Prefix(deeper, _) => Found::Regex(deeper),
                deeper => deeper,
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_and_an_exact_name_ends_the_search() {
        let mut table = LocationTable::default();
        for (id, name) in ["/", "/a", "/a/b", "/ab", "/a/bc/d"].iter().enumerate() {
            assert!(table.insert(name.as_bytes(), Modifier::Prefix, LocationId(id as u32)));
        }
        assert!(table.insert(b"/a/b", Modifier::Exact, LocationId(9)));
        assert!(!table.insert(b"/a", Modifier::PrefixNoRegex, LocationId(1)));
        table.seal();
        let id = |uri: &str| match table.prefix(uri.as_bytes()) {
            Found::Exact(id) | Found::Prefix(id, _) => id.0,
            _ => 99,
        };
        assert_eq!(id("/zzz"), 0);
        assert_eq!(id("/a"), 1);
        assert_eq!(id("/a/b"), 9);
        assert_eq!(id("/a/bc"), 2);
        assert_eq!(id("/a/bc/c"), 2);
        assert_eq!(id("/a/bc/d/e"), 4);
        assert_eq!(id("/abc"), 3);
        assert_eq!(id("none"), 99);
    }
}
