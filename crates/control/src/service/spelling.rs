//! Keys that are perhaps mistyped.
//!
//! Owns the note about a key that has had neither an entry nor a request. Must never: refuse anything, or ask the workers.

use crate::data_plane::DataPlane;
use std::collections::HashSet;
use std::sync::PoisonError;
use switch::{Code, Details, Key, Plan, Refusal, Shape, Table};

/// The maximum number of keys of one order that have a note of their own.
const NAMED: usize = 5;
/// The maximum number of keys of one order whose spelling is compared with that of known keys.
const COMPARED: usize = 32;
/// The maximum number of entries that are looked through, and of known keys of much the same letters that a key is compared with.
const KNOWN: (usize, usize) = (200_000, 2_000);
/// The largest difference in length, and in the sets of letters, of two keys that may be meant for each other: three letters are
/// left out, added, changed or swapped ([`conf::nearest`]), and each changes two of a set at most.
const DIFFERENCE: (usize, u32) = (3, 6);

/// Returns a note for each key of a plan that gets its first entry and of which no request was seen, with the known key
/// that is spelt most alike.
pub(super) fn notes(data_plane: &dyn DataPlane, switch: &str, before: &Table, plan: &Plan) -> Vec<String> {
    let is_new = |key: &Key| key.shape() == Shape::Exact && before.get(key).is_none();
    let new = plan.changes.iter().filter(|change| change.after.is_some() && is_new(&change.key));
    let new: Vec<&str> = new.map(|change| change.key.as_str()).collect();
    notes_of(data_plane, switch, before, &new)
}

/// Returns the refusal of a target that there is not, with the one that is spelt most alike.
pub(super) fn with_nearest_target(refusal: Refusal) -> Refusal {
    let Details::Names(names) = &refusal.details else { return refusal };
    let mistyped = refusal.text.rsplit('"').nth(1).unwrap_or_default();
    let nearest = conf::nearest(&mistyped.to_lowercase(), names.iter().map(|name| &**name));
    match nearest.filter(|_| refusal.code == Code::UnknownTarget) {
        Some(nearest) => {
            Refusal { remedy: format!("did you mean \"{nearest}\"? {}", refusal.remedy), ..refusal }
        }
        None => refusal,
    }
}

/// Returns a note for each of these keys of which no request was seen: first those that a known key resembles. Of many the rest
/// is counted.
pub(super) fn notes_of(
    data_plane: &dyn DataPlane,
    switch: &str,
    before: &Table,
    new: &[&str],
) -> Vec<String> {
    if new.is_empty() {
        return Vec::new();
    }
    let seen: HashSet<String> = {
        let collector = data_plane.collector().lock().unwrap_or_else(PoisonError::into_inner);
        collector.keys_of(switch).filter_map(|key| String::from_utf8(key.to_vec()).ok()).collect()
    };
    let unseen: Vec<&str> = new.iter().copied().filter(|key| !seen.contains(*key)).collect();
    if unseen.is_empty() {
        return Vec::new();
    }
    let entries = before.iter().map(|(key, _)| key).filter(|key| key.shape() == Shape::Exact);
    let entries = entries.map(Key::as_str).take(KNOWN.0);
    let known: Vec<(&str, u64)> =
        seen.iter().map(String::as_str).chain(entries).map(|key| (key, letters(key))).collect();
    let (mut like, mut unlike) = (Vec::new(), Vec::new());
    for key in unseen.iter().take(COMPARED) {
        match nearest(key, &known) {
            Some(nearest) => {
                like.push(format!("no request of \"{key}\" was seen yet; did you mean \"{nearest}\"?"));
            }
            None => unlike.push(format!("no request of \"{key}\" was seen yet")),
        }
    }
    let mut notes = like;
    // At first none of any key was.
    let mut more = 0;
    if !seen.is_empty() {
        more = unseen.len() - notes.len() - unlike.len();
        notes.append(&mut unlike);
    }
    more += notes.len().saturating_sub(NAMED);
    notes.truncate(NAMED);
    match more {
        0 => {}
        1 => notes.push("nor was one of another new key".to_owned()),
        more => notes.push(format!("nor was one of {more} more new keys")),
    }
    notes
}

/// Returns the set of a key's letters, as bits.
fn letters(key: &str) -> u64 {
    key.bytes().fold(0, |set, byte| set | 1 << (byte % 64))
}

/// Returns the known key that is spelt most alike, if one is much like it.
fn nearest<'a>(key: &str, known: &[(&'a str, u64)]) -> Option<&'a str> {
    let own = letters(key);
    let mut like: Vec<(u32, &str)> = known
        .iter()
        .filter(|(known, _)| known.len().abs_diff(key.len()) <= DIFFERENCE.0)
        .map(|(known, set)| ((set ^ own).count_ones(), *known))
        .filter(|(difference, _)| *difference <= DIFFERENCE.1)
        .collect();
    if like.len() > KNOWN.1 {
        like.select_nth_unstable(KNOWN.1);
        like.truncate(KNOWN.1);
    }
    like.sort_unstable();
    conf::nearest(key, like.into_iter().map(|(_, known)| known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeDataPlane;
    use switch::{KeyKind, Route};

    fn table(keys: &[String]) -> Table {
        let key = |text: &String| Key::parse(KeyKind::Host, text.as_bytes(), 255).unwrap();
        Table::from_entries(1, keys.iter().map(|text| (key(text), Route::One("blue".into()), 1)))
    }

    #[test]
    fn the_nearest_of_a_hundred_thousand_keys_is_found() {
        let keys: Vec<String> = (0..100_000).map(|number| format!("shop{number}.example.com")).collect();
        let table = table(&keys);
        let data_plane = FakeDataPlane::new();
        for (typed, meant) in
            [("shpo99123.example.com", "shop99123.example.com"), ("shop7.exmaple.com", "shop7.example.com")]
        {
            let notes = notes_of(&*data_plane, "live", &table, &[typed]);
            assert_eq!(notes, [format!("no request of \"{typed}\" was seen yet; did you mean \"{meant}\"?")]);
        }
    }

    #[test]
    fn all_new_keys_are_looked_at_and_those_that_are_like_a_known_one_come_first() {
        let table = table(&["h.test".to_owned()]);
        let data_plane = FakeDataPlane::new();
        let new = [
            "north.example",
            "south.example",
            "meadow.org",
            "river.net",
            "castle.de",
            "bridge.fr",
            "harbour.it",
            "h.tset",
        ];
        let near = "no request of \"h.tset\" was seen yet; did you mean \"h.test\"?";
        assert_eq!(
            notes_of(&*data_plane, "live", &table, &new),
            [near],
            "at first no request was seen at all"
        );
        data_plane.answer("another-one.test", 1, 0);
        let notes = notes_of(&*data_plane, "live", &table, &new);
        assert_eq!((notes.len(), &*notes[0]), (6, near));
        assert_eq!(notes[1], "no request of \"north.example\" was seen yet");
        assert_eq!(notes[5], "nor was one of 3 more new keys");
        let many: Vec<String> = (0..1_000).map(|number| format!("other{number}.test")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let notes = notes_of(&*data_plane, "live", &table, &many);
        assert_eq!((notes.len(), &*notes[5]), (6, "nor was one of 995 more new keys"));
    }
}
