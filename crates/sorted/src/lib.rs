//! A sorted map of which each version shares nearly all with the one before it.
//!
//! Owns: how it is cut into chunks, so that a change copies one chunk and the list of chunks, however many entries there are, and
//! two versions are compared at the cost of what differs. Must never: know what is in it.
//!
//! ```
//! use pointsman_sorted::SortedMap;
//!
//! let mut ages: SortedMap<&str, u32> = [("anna", 40), ("ben", 7)].into_iter().collect();
//! let before = ages.clone();
//! ages.insert("ben", 8);
//! ages.insert("cleo", 3);
//! assert_eq!((before.get("ben"), ages.get("ben")), (Some(&7), Some(&8)));
//!
//! let mut changed = Vec::new();
//! ages.differences(&before, |name, old, new| {
//!     // What is equal comes too if it lies in a chunk that has changed.
//!     if old != new {
//!         changed.push((*name, old.copied(), new.copied()));
//!     }
//! });
//! assert_eq!(changed, [("ben", Some(7), Some(8)), ("cleo", None, Some(3))]);
//! ```

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The most entries of a chunk. With ten thousand entries there are some two hundred chunks, so that copying their list costs about
/// as much as copying one of them.
const FULL: usize = 64;

/// Entries in the order of their keys; never empty.
type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// The map. Cheap to clone; a clone is a version that later changes of the other do not reach.
pub struct SortedMap<K, V> {
    chunks: Arc<Vec<Chunk<K, V>>>,
}

impl<K, V> SortedMap<K, V> {
    /// Returns true if there is no entry.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.len()).sum()
    }

    /// Returns the entries in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).map(|(key, value)| (key, value))
    }

    /// Returns the entries from the first on of which `is_before` is false, in their order. It must be true of those before that one,
    /// and false of those behind it.
    pub fn iter_from(&self, is_before: impl Fn(&K) -> bool) -> impl Iterator<Item = (&K, &V)> {
        let begins_before = |chunk: &Chunk<K, V>| chunk.first().is_some_and(|(key, _)| is_before(key));
        let first = self.chunks.partition_point(begins_before).saturating_sub(1);
        let chunks = self.chunks.get(first..).unwrap_or_default();
        let skipped = chunks.first().map_or(0, |chunk| chunk.partition_point(|(key, _)| is_before(key)));
        chunks.iter().flat_map(|chunk| chunk.iter()).skip(skipped).map(|(key, value)| (key, value))
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// Returns the value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(|known| known.borrow().cmp(key))
    }

    /// Returns the value of the key that `order` finds equal: it compares a key with the one that is looked for.
    pub fn find(&self, order: impl Fn(&K) -> Ordering) -> Option<&V> {
        let (chunk, place) = self.place(order);
        place.ok().and_then(|place| Some(&self.chunks.get(chunk)?.get(place)?.1))
    }

    /// Returns the chunk in which a key is or belongs, and its place there.
    fn place(&self, order: impl Fn(&K) -> Ordering) -> (usize, Result<usize, usize>) {
        let begins_before = |chunk: &Chunk<K, V>| chunk.first().is_some_and(|(key, _)| order(key).is_le());
        let at = self.chunks.partition_point(begins_before).saturating_sub(1);
        let place = self.chunks.get(at).map_or(Err(0), |chunk| chunk.binary_search_by(|(key, _)| order(key)));
        (at, place)
    }

    /// Passes each entry of the chunks that `before` does not share, in the order of the keys, with its value there and here: the
    /// entries that differ are among them, and equal ones too. Chunks that both share are passed over at the cost of a comparison.
    pub fn differences<'m>(
        &'m self,
        before: &'m SortedMap<K, V>,
        mut each: impl FnMut(&'m K, Option<&'m V>, Option<&'m V>),
    ) {
        let (mut old, mut new) = (Cursor::new(before), Cursor::new(self));
        if Arc::ptr_eq(&self.chunks, &before.chunks) {
            return;
        }
        loop {
            if let (Some(one), Some(other)) = (old.whole(), new.whole())
                && Arc::ptr_eq(one, other)
            {
                old.skip();
                new.skip();
                continue;
            }
            let order = match (old.peek(), new.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((old, _)), Some((new, _))) => old.cmp(new),
            };
            let gone = if order.is_le() { old.next() } else { None };
            let here = if order.is_ge() { new.next() } else { None };
            let key = gone.or(here).map(|(key, _)| key);
            if let Some(key) = key {
                each(key, gone.map(|(_, value)| value), here.map(|(_, value)| value));
            }
        }
    }
}

impl<K: Ord + Clone, V: Clone> SortedMap<K, V> {
    /// Sets the value of a key. What other versions share stays as it is.
    pub fn insert(&mut self, key: K, value: V) {
        let (at, place) = self.place(|known| known.cmp(&key));
        let chunks = Arc::make_mut(&mut self.chunks);
        let Some(chunk) = chunks.get_mut(at) else {
            chunks.push(Arc::new(vec![(key, value)]));
            return;
        };
        let chunk = Arc::make_mut(chunk);
        match place {
            Ok(place) => chunk[place].1 = value,
            Err(place) => chunk.insert(place, (key, value)),
        }
        if chunk.len() > FULL {
            let rest = chunk.split_off(FULL / 2);
            chunks.insert(at + 1, Arc::new(rest));
        }
    }

    /// Removes a key, if it is there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.remove_where(|known| known.borrow().cmp(key));
    }

    /// Removes the key that `order` finds equal, as [`SortedMap::find`] does.
    pub fn remove_where(&mut self, order: impl Fn(&K) -> Ordering) {
        let (at, Ok(place)) = self.place(order) else { return };
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[at]);
        chunk.remove(place);
        let left = chunk.len();
        if left == 0 {
            chunks.remove(at);
        } else if let Some(next) = chunks.get(at + 1)
            && left + next.len() <= FULL / 2
        {
            let next = chunks.remove(at + 1);
            Arc::make_mut(&mut chunks[at]).extend(next.iter().cloned());
        }
    }
}

/// A place in a map.
struct Cursor<'m, K, V> {
    chunks: &'m [Chunk<K, V>],
    place: usize,
}

impl<'m, K, V> Cursor<'m, K, V> {
    fn new(map: &'m SortedMap<K, V>) -> Cursor<'m, K, V> {
        Cursor { chunks: &map.chunks, place: 0 }
    }

    /// Returns the chunk that begins here.
    fn whole(&self) -> Option<&'m Chunk<K, V>> {
        self.chunks.first().filter(|_| self.place == 0)
    }

    fn skip(&mut self) {
        self.chunks = self.chunks.get(1..).unwrap_or_default();
        self.place = 0;
    }

    fn peek(&self) -> Option<(&'m K, &'m V)> {
        self.chunks.first()?.get(self.place).map(|(key, value)| (key, value))
    }

    fn next(&mut self) -> Option<(&'m K, &'m V)> {
        let found = self.peek();
        self.place += 1;
        if self.chunks.first().is_some_and(|chunk| self.place == chunk.len()) {
            self.skip();
        }
        found
    }
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> SortedMap<K, V> {
        SortedMap { chunks: Arc::default() }
    }
}

impl<K, V> Clone for SortedMap<K, V> {
    fn clone(&self) -> SortedMap<K, V> {
        SortedMap { chunks: Arc::clone(&self.chunks) }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SortedMap<K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.iter()).finish()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SortedMap<K, V> {
    fn eq(&self, other: &SortedMap<K, V>) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks) || self.iter().eq(other.iter())
    }
}

impl<K: Eq, V: Eq> Eq for SortedMap<K, V> {}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SortedMap<K, V> {
    /// Of two values of one key the later stays.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> SortedMap<K, V> {
        let mut map = SortedMap::default();
        entries.into_iter().for_each(|(key, value)| map.insert(key, value));
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Numbers that follow from a seed (xorshift).
    fn random(seed: &mut u64, below: u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed % below
    }

    fn check(map: &SortedMap<u64, u64>, model: &BTreeMap<u64, u64>) {
        assert!(map.iter().eq(model.iter()), "{map:?} {model:?}");
        assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
        assert!(map.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= FULL));
    }

    #[test]
    fn the_map_agrees_with_a_plain_one_and_older_versions_stay() {
        let mut seed = 0x9e37_79b9_7f4a_7c15;
        for range in [3, 100, 4000] {
            let (mut map, mut model) = (SortedMap::default(), BTreeMap::new());
            let mut versions = vec![(map.clone(), model.clone())];
            for step in 0..4000 {
                let (key, value) = (random(&mut seed, range), random(&mut seed, 1000));
                // It grows at first, and shrinks later.
                if random(&mut seed, 4000) > step {
                    map.insert(key, value);
                    model.insert(key, value);
                } else {
                    map.remove(&key);
                    model.remove(&key);
                }
                assert_eq!(map.get(&key), model.get(&key));
                let from = random(&mut seed, range);
                assert!(map.iter_from(|key| *key < from).eq(model.range(from..)), "from {from}");
                if step % 500 == 0 {
                    check(&map, &model);
                    versions.push((map.clone(), model.clone()));
                }
            }
            check(&map, &model);
            for (old, old_model) in &versions {
                check(old, old_model);
                let mut found = Vec::new();
                map.differences(old, |key, old, new| found.push((*key, old.copied(), new.copied())));
                let keys: std::collections::BTreeSet<u64> =
                    model.keys().chain(old_model.keys()).copied().collect();
                let all =
                    keys.into_iter().map(|key| (key, old_model.get(&key).copied(), model.get(&key).copied()));
                let expected: Vec<_> = all.filter(|(_, old, new)| old != new).collect();
                // What a changed chunk has that is equal is passed too.
                found.retain(|(_, old, new)| old != new);
                assert_eq!(found, expected);
                assert_eq!(*old == map, expected.is_empty());
            }
        }
    }

    #[test]
    fn a_change_copies_one_chunk_and_is_found_there() {
        let map: SortedMap<u64, u64> = (0..10_000).map(|key| (key, key)).collect();
        let mut next = map.clone();
        next.insert(5000, 0);
        let shared = map.chunks.iter().zip(next.chunks.iter()).filter(|(one, other)| Arc::ptr_eq(one, other));
        assert_eq!(shared.count(), map.chunks.len() - 1);
        let mut looked_at = 0;
        next.differences(&map, |_, _, _| looked_at += 1);
        assert!(looked_at <= FULL, "{looked_at}");
        next.differences(&next.clone(), |_, _, _| panic!("it is the same"));
    }
}
