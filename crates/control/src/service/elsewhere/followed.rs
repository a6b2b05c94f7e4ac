//! The commits of other processes whose old sides may have requests here, and what is known of the other processes.
//!
//! Owns both lists, and when streams of such an old side are due to be closed. Must never ask a worker.

use super::report::ServingReport;
use crate::service::switch_state::SwitchState;
use engine::modules::switch::StreamsPolicy;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use switch::{Commit, Key, Table};
use tokio::time::Instant;

/// The most commits that are followed at a time.
const MAX_FOLLOWED: usize = 256;
/// How long the old side of a commit is observed, as that of one of this process.
const OBSERVED: Duration = Duration::from_secs(600);
/// Between two looks for requests that have become streams since.
const AGAIN: Duration = Duration::from_secs(1);

/// Commits of another process, of one switch and published together.
pub(in crate::service) struct FollowedCommits {
    pub(super) switch: Rc<SwitchState>,
    /// The first and the last.
    pub(super) revisions: (u64, u64),
    pub(super) before: Arc<Table>,
    pub(super) keys: Vec<Key>,
    since: Instant,
    streams: StreamsPolicy,
    closed: Cell<Option<Instant>>,
}

/// The state of other processes, and what is reported to them.
#[derive(Default)]
pub(in crate::service) struct OtherProcesses {
    /// What each of the others has said last, by its place.
    pub(super) reports: RefCell<HashMap<i64, ServingReport>>,
    pub(super) followed: RefCell<Vec<Rc<FollowedCommits>>>,
    /// By store, the newest commit whose old side is not observed any more although something was left.
    pub(super) uncounted: RefCell<HashMap<PathBuf, u64>>,
}

impl OtherProcesses {
    /// Notes commits of another process that were just published here.
    pub(in crate::service) fn follow(
        &self,
        switch: &Rc<SwitchState>,
        before: Arc<Table>,
        commits: &[Commit],
    ) {
        let (Some(first), Some(last)) = (commits.first(), commits.last()) else { return };
        let mut keys: Vec<Key> =
            commits.iter().flat_map(Commit::moves).map(|change| change.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        let moves_default = commits.iter().any(|commit| commit.moved_default().is_some());
        if switch.configured().is_groups() || keys.is_empty() && !moves_default {
            return;
        }
        let mut followed = self.followed.borrow_mut();
        if followed.len() >= MAX_FOLLOWED {
            let oldest = followed.remove(0);
            self.give_up(&oldest.switch, oldest.revisions.1);
        }
        followed.push(Rc::new(FollowedCommits {
            switch: switch.clone(),
            revisions: (first.revision, last.revision),
            before,
            // Of a changed default every key without an entry is concerned.
            keys: if moves_default { Vec::new() } else { keys },
            since: Instant::now(),
            streams: switch.configured().spec().streams,
            closed: Cell::new(None),
        }));
    }

    /// Stops observing the old side of a commit, although something is left there.
    pub(in crate::service) fn give_up(&self, switch: &SwitchState, revision: u64) {
        if let Some(store) = switch.store_path() {
            let mut uncounted = self.uncounted.borrow_mut();
            let newest = uncounted.entry(store).or_default();
            *newest = revision.max(*newest);
        }
    }

    /// Ends following commits.
    pub(super) fn forget(&self, followed: &Rc<FollowedCommits>) {
        self.followed.borrow_mut().retain(|one| !Rc::ptr_eq(one, followed));
    }
}

impl FollowedCommits {
    /// Returns true if it was observed for as long as a commit is.
    pub(super) fn is_over(&self) -> bool {
        self.switch.removed.get() || self.since.elapsed() >= OBSERVED
    }

    /// Returns true if the switch closes streams of old sides.
    pub(super) fn closes(&self) -> bool {
        self.streams != StreamsPolicy::Keep
    }

    /// Returns over how many milliseconds streams are to be closed now, if they are.
    pub(super) fn close_now(&self) -> Option<u64> {
        let (due_ms, spread_ms) = match self.streams {
            StreamsPolicy::Keep => return None,
            StreamsPolicy::CloseAfter { ms } => (ms, 0),
            StreamsPolicy::CloseSpread { ms } => (0, ms),
        };
        let now = Instant::now();
        let (is_due, spread_ms) = match self.closed.get() {
            None => (now.duration_since(self.since) >= Duration::from_millis(due_ms), spread_ms),
            // What has become a stream since: the others are closed by then.
            Some(closed) => (now >= closed + AGAIN, 0),
        };
        is_due.then(|| {
            self.closed.set(Some(now + Duration::from_millis(spread_ms)));
            spread_ms
        })
    }
}
