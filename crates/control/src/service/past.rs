//! The past of a switch: its table as it was, and what differs between two of its tables.
//!
//! Owns: the walk back through the history, from the present table. Must never: change anything, hold more of the history
//! than a page, or take a history that ends too early for a whole one.
//!
//! A commit says what each of its keys was before, so the table of a revision is the present one with all newer commits
//! taken back. The walk costs as much as there are commits since.

use super::handle::ControlHandle;
use super::switch_state::SwitchState;
use crate::info::{Difference, Entries, EntryInfo, EntryQuery, KeyDifference, PastTable};
use crate::options::PastMoment;
use crate::receipt::{MovedTraffic, Receipt};
use crate::store::StoreBackend;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use switch::{Code, Commit, Filter, Hash, Key, Refusal, Route, StoreFault, SubjectChange};

/// The number of commits that are read at first, and the maximum.
const PAGES: (usize, usize) = (1, 64);
/// The number of changes with which a page ends: a commit may have one, or a hundred thousand.
const CHANGES: usize = 20_000;
/// The number of keys whose revisions, and of commits whose receipts are read at a time.
const AT_ONCE: usize = 256;

impl ControlHandle {
    /// Returns a switch's table as it was.
    ///
    /// # Errors
    /// There is no switch of this name, the history does not know the moment, or the store cannot be read.
    pub async fn table_at(&self, switch: &str, moment: PastMoment) -> Result<PastTable, Refusal> {
        self.at(switch, move |_, switch| async move { table_at(&switch, moment).await }).await
    }

    /// Returns entries of a table as it was.
    ///
    /// # Errors
    /// As for [`ControlHandle::table_at`].
    pub async fn entries_at(
        &self,
        switch: &str,
        moment: PastMoment,
        query: EntryQuery,
    ) -> Result<(Entries, Option<u64>), Refusal> {
        self.at(switch, move |_, switch| async move {
            let past = table_at(&switch, moment).await?;
            let mut found = super::switch_state::entries_of(past.table.into(), query).await?;
            for page in found.entries.chunks_mut(AT_ONCE) {
                date(&switch, found.revision, page).await?;
            }
            Ok((found, past.time_ms))
        })
        .await
    }

    /// Returns the commit that set an entry of a past table.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn entry_revision(&self, switch: &str, key: Key, at: u64) -> Result<u64, Refusal> {
        self.at(switch, move |_, switch| async move { Ok(set_by(&switch, vec![key], at).await?[0]) }).await
    }

    /// Returns what differs between the tables of two revisions.
    ///
    /// # Errors
    /// There is no switch of this name, the history does not have one of the revisions, or the store cannot be read.
    pub async fn diff(&self, switch: &str, from: u64, to: u64) -> Result<Difference, Refusal> {
        self.at(switch, move |_, switch| async move { diff(&switch, from, to).await }).await
    }

    /// Returns the traffic that commits have moved, as far as their receipts know it.
    ///
    /// # Errors
    /// There is no switch of this name, or the store cannot be read.
    pub(crate) async fn moved_traffic(
        &self,
        switch: &str,
        revisions: Vec<u64>,
    ) -> Result<Vec<Option<MovedTraffic>>, Refusal> {
        self.at(switch, move |state, switch| async move {
            let mut all = Vec::with_capacity(revisions.len());
            for page in revisions.chunks(AT_ONCE) {
                let asked = page.to_vec();
                let kept = move |store: &mut dyn StoreBackend| {
                    let of = |revision: &u64| Ok(store.receipt(*revision)?.as_deref().and_then(moved_in));
                    asked.iter().map(of).collect()
                };
                let kept: Vec<Option<MovedTraffic>> = switch.store.with(kept).await?;
                let live = |revision: u64| {
                    let Receipt { drain, horizon, .. } = state.live(&switch, revision)?.receipt();
                    Some(MovedTraffic { drain, horizon })
                };
                all.extend(page.iter().zip(kept).map(|(revision, kept)| live(*revision).or(kept)));
            }
            Ok(all)
        })
        .await
    }
}

/// Reads the traffic from a receipt, without the rest of it.
fn moved_in(receipt: &str) -> Option<MovedTraffic> {
    let moved: MovedTraffic = serde_json::from_str(receipt).ok()?;
    (moved.drain.is_some() || moved.horizon.is_some()).then_some(moved)
}

async fn table_at(switch: &SwitchState, moment: PastMoment) -> Result<PastTable, Refusal> {
    let mut table = (*switch.table()).clone();
    let newest = table.revision();
    // The commit before the one that was read last is needed to take that back.
    let mut newer: Option<Commit> = None;
    let mut found = None;
    let take_back = |commit: Commit| {
        if let Some(newer) = &newer {
            table.take_back(newer, commit.revision);
        }
        let (revision, time_ms) = (commit.revision, commit.time_ms);
        newer = Some(commit);
        let (is_it, is_older) = match moment {
            PastMoment::Revision(wanted) => (revision == wanted, revision < wanted),
            PastMoment::TimeMs(wanted) => (time_ms <= wanted, false),
        };
        found = is_it.then_some(time_ms);
        if is_it || is_older { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let is_whole = match moment {
        PastMoment::Revision(wanted) if wanted > newest => false,
        PastMoment::Revision(wanted) => walk_back(switch, newest, wanted, take_back).await?,
        PastMoment::TimeMs(_) => walk_back(switch, newest, 0, take_back).await?,
    };
    match (moment, found) {
        (_, Some(time_ms)) => Ok(PastTable { table, time_ms: Some(time_ms) }),
        (PastMoment::Revision(0), None) if is_whole => {
            if let Some(first) = &newer {
                table.take_back(first, 0);
            }
            Ok(PastTable { table, time_ms: None })
        }
        (PastMoment::Revision(revision), None) => Err(Refusal::unknown_revision(revision)),
        (PastMoment::TimeMs(_), None) => Err(Refusal::new(
            Code::UnknownRevision,
            "the history has no commit of that time or an earlier one",
            match newer {
                Some(first) => {
                    format!("it begins with revision {}; revision 0 is the table before it", first.revision)
                }
                None => "nothing was committed yet".to_owned(),
            },
        )),
    }
}

async fn diff(switch: &SwitchState, from: u64, to: u64) -> Result<Difference, Refusal> {
    let (older, newer) = (from.min(to), from.max(to));
    if newer > switch.table().revision() {
        return Err(Refusal::unknown_revision(newer));
    }
    let mut keys: BTreeMap<Key, (Option<Route>, Option<Route>)> = BTreeMap::new();
    let mut subjects: BTreeMap<(String, String), (Option<String>, Option<String>)> = BTreeMap::new();
    let (mut last_read, mut is_there) = (None, (newer == 0, older == 0));
    let collect = |commit: Commit| {
        is_there.0 |= commit.revision == newer;
        is_there.1 |= commit.revision == older;
        let is_first = last_read.replace(commit.revision).is_none();
        // The newest one read is the newer revision itself, if there is such a one.
        if commit.revision <= older || (is_first && commit.revision != newer) {
            return ControlFlow::Break(());
        }
        for change in commit.changes {
            keys.entry(change.key).or_insert_with(|| (None, change.after)).0 = change.before;
        }
        for SubjectChange { subject, name, before, after, .. } in commit.subjects {
            subjects.entry((subject, name)).or_insert_with(|| (None, after)).0 = before;
        }
        ControlFlow::Continue(())
    };
    walk_back(switch, newer, older, collect).await?;
    match is_there {
        (true, true) => {}
        (false, _) => return Err(Refusal::unknown_revision(newer)),
        (_, false) => return Err(Refusal::unknown_revision(older)),
    }
    let is_back = from > to;
    let keys = keys.into_iter().filter(|(_, (before, after))| before != after);
    let keys = keys.map(|(key, (before, after))| match is_back {
        false => KeyDifference { key, from: before, to: after },
        true => KeyDifference { key, from: after, to: before },
    });
    let subjects = subjects.into_iter().filter(|(_, (before, after))| before != after);
    let subjects = subjects.map(|((subject, name), (before, after))| {
        let (before, after) = if is_back { (after, before) } else { (before, after) };
        SubjectChange { subject, name, before, after, undoes: None }
    });
    Ok(Difference { keys: keys.collect(), subjects: subjects.collect() })
}

/// Reads the history from a revision backwards, until it is broken off. Returns true if it has come to the beginning.
///
/// What is wanted of the commit at `floor`, or of the next older one if there is none, is not what it changed: it comes without its
/// keys.
///
/// Fails if the history ends before its beginning: a damaged store has only its newest commits in its second file.
async fn walk_back(
    switch: &SwitchState,
    from: u64,
    floor: u64,
    mut each: impl FnMut(Commit) -> ControlFlow<()>,
) -> Result<bool, Refusal> {
    let mut filter = Filter {
        before_revision: Some(from.saturating_add(1)),
        after_revision: floor,
        limit: PAGES.0,
        max_changes: CHANGES,
        ..Filter::default()
    };
    // What the oldest commit that was read follows.
    let mut follows = (from == 0).then_some(Hash::ZERO);
    loop {
        let asked = filter.clone();
        let page = switch.store.with(move |store| store.history(&asked)).await?;
        let is_over = page.is_empty();
        for commit in page {
            filter.before_revision = Some(commit.revision);
            follows = Some(commit.previous);
            if each(commit).is_break() {
                return Ok(false);
            }
        }
        if !is_over {
            filter.limit = (filter.limit * 2).min(PAGES.1);
        } else if filter.after_revision > 0 {
            filter = Filter { after_revision: 0, limit: 1, with_keys: false, ..filter };
        } else {
            return match follows {
                Some(Hash::ZERO) => Ok(true),
                _ => Err(Refusal::new(
                    Code::StoreDamaged,
                    "the history cannot be read as far back: only its newest commits are there",
                    "restore a backup (pointsman restore)",
                )),
            };
        }
    }
}

/// Adds the revisions to entries that have come back, as of a revision.
async fn date(switch: &SwitchState, at: u64, entries: &mut [EntryInfo]) -> Result<(), StoreFault> {
    let undated: Vec<&mut EntryInfo> = entries.iter_mut().filter(|entry| entry.revision == 0).collect();
    if undated.is_empty() {
        return Ok(());
    }
    let keys = undated.iter().map(|entry| entry.key.clone()).collect();
    for (entry, revision) in undated.into_iter().zip(set_by(switch, keys, at).await?) {
        entry.revision = revision;
    }
    Ok(())
}

/// Returns the newest commit of each key up to a revision; 0 where there is none.
async fn set_by(switch: &SwitchState, keys: Vec<Key>, at: u64) -> Result<Vec<u64>, StoreFault> {
    let before = Some(at.saturating_add(1));
    let look = move |store: &mut dyn StoreBackend| {
        let newest = |key| Ok(store.changes_of(key, before, 1)?.first().map_or(0, |(revision, _)| *revision));
        keys.iter().map(newest).collect()
    };
    switch.store.with(look).await
}
