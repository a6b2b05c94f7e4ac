//! Weights in JSON: an object of weights by target.
//!
//! Owns their parsing. Must never judge a target or a weight: `switch` does.

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

/// Deserializes a map without duplicate names, or `null` for none. JSON leaves the meaning of a duplicate open (RFC 8259,
/// section 4), and a guessed weight must not move traffic.
pub(super) fn once_each<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<BTreeMap<String, u32>>, D::Error> {
    Option::<Shares>::deserialize(from).map(|shares| shares.map(|shares| shares.0))
}

struct Shares(BTreeMap<String, u32>);

impl<'de> Deserialize<'de> for Shares {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Shares, D::Error> {
        struct OnceEach;
        impl<'de> Visitor<'de> for OnceEach {
            type Value = Shares;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of weights by target")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shares, A::Error> {
                let mut shares = BTreeMap::new();
                while let Some((target, weight)) = map.next_entry::<String, u32>()? {
                    match shares.entry(target) {
                        Entry::Vacant(place) => place.insert(weight),
                        Entry::Occupied(there) => {
                            return Err(A::Error::custom(format_args!("\"{}\" is given twice", there.key())));
                        }
                    };
                }
                Ok(Shares(shares))
            }
        }
        from.deserialize_map(OnceEach)
    }
}
