//! Keys that are perhaps mistyped.
//!
//! Owns the note about a key that has had neither an entry nor a request. Must never: refuse anything, or ask the workers.

use crate::data_plane::DataPlane;
use std::sync::PoisonError;
use switch::{Code, Details, Key, Plan, Refusal, Shape, Table};

/// The maximum number of keys of one order that are looked at.
const LOOKED_AT: usize = 5;
/// The maximum number of entries compared with a key.
const COMPARED: usize = 2_000;

/// Returns a note for each key of a plan that gets its first entry and of which no request was seen, with the known key
/// that is spelt most alike.
pub(super) fn notes(data_plane: &dyn DataPlane, switch: &str, before: &Table, plan: &Plan) -> Vec<String> {
    let is_new = |key: &Key| key.shape() == Shape::Exact && before.get(key).is_none();
    let new = plan.changes.iter().filter(|change| change.after.is_some() && is_new(&change.key));
    let new: Vec<&str> = new.map(|change| change.key.as_str()).take(LOOKED_AT).collect();
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

/// Returns a note for each of these keys of which no request was seen.
pub(super) fn notes_of(
    data_plane: &dyn DataPlane,
    switch: &str,
    before: &Table,
    new: &[&str],
) -> Vec<String> {
    if new.is_empty() {
        return Vec::new();
    }
    let seen: Vec<String> = {
        let collector = data_plane.collector().lock().unwrap_or_else(PoisonError::into_inner);
        collector.keys_of(switch).filter_map(|key| String::from_utf8(key.to_vec()).ok()).collect()
    };
    let entries = before.iter().map(|(key, _)| key).filter(|key| key.shape() == Shape::Exact);
    let known: Vec<&str> =
        seen.iter().map(String::as_str).chain(entries.map(Key::as_str).take(COMPARED)).collect();
    let note = |key: &str| {
        if seen.iter().any(|seen| seen == key) {
            return None;
        }
        match conf::nearest(key, known.iter().copied()) {
            Some(nearest) => {
                Some(format!("no request of \"{key}\" was seen yet; did you mean \"{nearest}\"?"))
            }
            // At first none of any key was.
            None if seen.is_empty() => None,
            None => Some(format!("no request of \"{key}\" was seen yet")),
        }
    };
    new.iter().copied().filter_map(note).collect()
}
