//! Which of a store and its second file is trusted.
//!
//! Owns: the decision, from what was found in both. Must never: read or write one of them.
//!
//! What is found when a store is opened :
//!
//! | the store | its second file | orders | the table comes from |
//! |---|---|---|---|
//! | sound, holds what the second file vouches for | sound, or damaged before its last record | taken | the store |
//! | sound | missing although there was one, or vouches for nothing | refused | the store |
//! | sound, and ends where the second file ends | ends with half a record, which belongs to a later commit | refused | the store |
//! | sound, more than one commit ahead | cut off, or an earlier one | refused | the store |
//! | sound, but behind the second file, or of another history | whole | refused | the second file |
//! | damaged, or cannot be used | whole | refused | the second file |
//! | any of the last two | damaged | refused | neither: there is none |

use super::anchor::Content;
use super::rows::Head;
use super::sqlite::SqliteStore;
use switch::{Chain, StoreFault};

/// Where the table comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// From the store, which takes orders.
    Sound {
        /// The second file must be written anew.
        rewrite: bool,
    },
    /// From the store, which takes none.
    Store(String),
    /// From the second file.
    Anchor(String),
    /// There is none to be trusted.
    Neither(String),
}

/// What there is of a store that can be read, as far as it matters for its second file.
pub(super) struct StoreSide {
    pub(super) head: Head,
    /// It has the revision and hash of the second file's last commit.
    pub(super) holds_last: bool,
}

impl StoreSide {
    pub(super) fn of(sqlite: &SqliteStore, last: Option<Chain>) -> Result<StoreSide, StoreFault> {
        let holds_last = last.map_or(Ok(true), |last| sqlite.holds(last))?;
        Ok(StoreSide { head: sqlite.head()?, holds_last })
    }
}

/// Decides where the table comes from. `store` is `None` if it cannot be read.
pub(super) fn judge(store: Option<&StoreSide>, anchor: Option<&Content>) -> Verdict {
    let whole = anchor.filter(|content| content.is_whole);
    let other = |what: &str| match whole {
        Some(content) if content.has_rest => {
            Verdict::Anchor(format!("{what}, and the second file ends with a damaged record"))
        }
        Some(_) => Verdict::Anchor(what.to_owned()),
        None => Verdict::Neither(format!("{what}, and the second file is damaged too")),
    };
    let Some(store) = store else { return other("it cannot be read") };
    let Some(content) = anchor else {
        return match store.head.anchored {
            true => Verdict::Store("its second file is missing, so that it may be an earlier one".to_owned()),
            false => Verdict::Sound { rewrite: true },
        };
    };
    let Some(last) = content.last else {
        return match store.head.anchored {
            true => Verdict::Store("its second file is damaged, so that it may be an earlier one".to_owned()),
            false => Verdict::Sound { rewrite: true },
        };
    };
    if last.revision > store.head.revision {
        return other(&format!(
            "it ends at revision {}, but {} was committed",
            store.head.revision, last.revision
        ));
    }
    if !store.holds_last {
        return other(&format!("its revision {} is not the one that was committed", last.revision));
    }
    let what = match store.head.revision - last.revision {
        0 if content.has_rest => "its second file has half a record more than it",
        // That record is written before the next order is taken.
        0 | 1 if !content.is_short => {
            return Verdict::Sound { rewrite: !content.is_whole || content.has_rest };
        }
        _ => "its second file has lost its end",
    };
    Verdict::Store(format!("it ends at revision {}, but {what}", store.head.revision))
}
