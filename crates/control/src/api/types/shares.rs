//! Shares in JSON: an object of weights by the targets' names.
//!
//! Owns their reading. Must never judge a target or a weight: `switch` does.

use serde::Deserializer;
use serde::de::{Error, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

/// Reads a map whose names may stand only once. JSON leaves open what a second one means (RFC 8259, section 4), and
/// guessing which weight was meant is no way to move traffic.
pub(super) fn once_each<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<BTreeMap<String, u32>>, D::Error> {
    struct Shares;
    impl<'de> Visitor<'de> for Shares {
        type Value = BTreeMap<String, u32>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of weights by the targets' names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut shares = BTreeMap::new();
            while let Some((target, weight)) = map.next_entry::<String, u32>()? {
                match shares.entry(target) {
                    Entry::Vacant(place) => place.insert(weight),
                    Entry::Occupied(there) => {
                        return Err(A::Error::custom(format_args!("\"{}\" stands twice", there.key())));
                    }
                };
            }
            Ok(shares)
        }
    }
    from.deserialize_map(Shares).map(Some)
}
