//! Lists of names in texts: the first of many.

/// The number of names that are listed.
const NAMED: usize = 10;

/// Returns the first of many names, and how many more there are.
pub(super) fn named(mut all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let first: Vec<String> = all.by_ref().take(NAMED).collect();
    let first = first.join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}
