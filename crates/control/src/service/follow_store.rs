//! Following what other processes commit to the same store, and what this one does not know that it has committed.
//!
//! Owns: when the store is asked, and the holds beside it. Must never: commit.

use super::damage::Condition;
use super::state::ControlState;
use super::switch_state::SwitchState;
use crate::store::holds_folder;
use engine::modules::switch::StatePath;
use std::rc::Weak;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How often the write-ahead log is looked at while another process may be there, as in a binary upgrade. A process that
/// begins has opened the store some time before it takes orders.
const NEAR_PAUSE: Duration = Duration::from_millis(25);
/// How often the log is looked at otherwise.
const FAR_PAUSE: Duration = Duration::from_millis(250);
/// How often the store itself is asked, whatever its log looks like.
const ASK_ANYWAY: Duration = Duration::from_secs(1);
/// How long the store is asked after its log has changed: what is written there is a commit only when it is synced.
/// Shorter than what the store's thread waits for its chores.
const SYNC_TIME: Duration = Duration::from_millis(300);
/// How long another process may be there after this one has begun, or after it was last seen.
const NEAR_TIME: Duration = Duration::from_secs(120);

/// Decides when the log is looked at, when the store is asked, and when its commits are read. Pure: time is an argument.
#[derive(Clone, Debug)]
struct PollSchedule {
    /// When another process was last seen to have written; at first, when this one began.
    others_seen: Instant,
    /// When the store was last asked.
    asked: Instant,
    /// When the log was last seen to have changed.
    log_changed: Instant,
    /// Others have written, and what they wrote is not read yet.
    behind: bool,
}

impl PollSchedule {
    fn new(now: Instant) -> PollSchedule {
        PollSchedule { others_seen: now, asked: now, log_changed: now, behind: false }
    }

    /// Returns the time until the next look at the log.
    fn pause(&self, now: Instant) -> Duration {
        if now.duration_since(self.others_seen) < NEAR_TIME { NEAR_PAUSE } else { FAR_PAUSE }
    }

    /// Returns true if the store is to be asked whether others have written. The store is left in peace unless its log has
    /// changed; a change that the file's clock is too coarse for is found a little later.
    fn should_ask(&mut self, log_changed: bool, now: Instant) -> bool {
        if log_changed {
            self.log_changed = now;
        }
        let is_quiet = now.duration_since(self.log_changed) > SYNC_TIME;
        if is_quiet && now.duration_since(self.asked) < ASK_ANYWAY {
            return false;
        }
        self.asked = now;
        true
    }

    /// Takes the store's answer, and returns true if its commits are to be read. The store says only once that others have
    /// written, so an attempt that failed is repeated at the next question.
    fn should_catch_up(&mut self, others_wrote: bool, now: Instant) -> bool {
        if others_wrote {
            self.others_seen = now;
            self.behind = true;
        }
        self.behind
    }

    /// Takes what came of reading the commits.
    fn caught_up(&mut self, succeeded: bool) {
        self.behind = !succeeded;
    }
}

/// Publishes what other processes commit to the same store, as long as state and switch exist.
pub(super) async fn follow_store(state: Weak<ControlState>, switch: Weak<SwitchState>) {
    let mut schedule = PollSchedule::new(Instant::now());
    let mut stamp = (None, None);
    loop {
        tokio::time::sleep(schedule.pause(Instant::now())).await;
        let (Some(state), Some(switch)) = (state.upgrade(), switch.upgrade()) else { return };
        if switch.removed.get() {
            return;
        }
        let current = (wal_stamp(&switch), holds_stamp(&switch));
        let has_changed = std::mem::replace(&mut stamp, current) != current;
        if !schedule.should_ask(has_changed, Instant::now()) {
            continue;
        }
        let asked = switch.store.with(|store| Ok((store.written_by_others(), Condition::of(store)))).await;
        let Ok((others_wrote, condition)) = asked else { continue };
        let others_wrote = condition.damage.is_none() && matches!(others_wrote, Ok(true));
        state.report(&switch, condition);
        // What cannot be read is read at the next look.
        let _ = state.follow_holds(&switch).await;
        if schedule.should_catch_up(others_wrote || switch.is_behind.take(), Instant::now()) {
            // A fault of the store is reported by the next order.
            schedule.caught_up(state.catch_up_with_store(&switch).await.is_ok());
        }
    }
}

/// Returns the time and length of the write-ahead log of a switch's store: they change with every write to it.
fn wal_stamp(switch: &SwitchState) -> Option<(SystemTime, u64)> {
    let place = switch.configured();
    let StatePath::File(path) = &place.spec().state else { return None };
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let found = std::fs::metadata(log).ok()?;
    Some((found.modified().ok()?, found.len()))
}

/// Returns the time of the folder of a switch's holds: it changes with each that begins or ends.
fn holds_stamp(switch: &SwitchState) -> Option<SystemTime> {
    std::fs::metadata(holds_folder(&switch.store_path()?)).ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_log_is_looked_at_often_while_another_process_may_be_there() {
        let began = Instant::now();
        let mut schedule = PollSchedule::new(began);
        assert_eq!(schedule.pause(began), NEAR_PAUSE);
        assert_eq!(schedule.pause(began + NEAR_TIME - MS), NEAR_PAUSE);
        assert_eq!(schedule.pause(began + NEAR_TIME), FAR_PAUSE);
        let seen = began + 2 * NEAR_TIME;
        assert!(schedule.should_catch_up(true, seen));
        assert_eq!(schedule.pause(seen + NEAR_TIME - MS), NEAR_PAUSE);
        assert_eq!(schedule.pause(seen + NEAR_TIME), FAR_PAUSE);
    }

    #[test]
    fn a_changed_log_is_asked_about_until_it_is_synced() {
        let began = Instant::now();
        let mut schedule = PollSchedule::new(began);
        // It begins as if the log had just changed.
        assert!(schedule.should_ask(false, began + SYNC_TIME));
        assert!(!schedule.should_ask(false, began + SYNC_TIME + MS));
        let changed = began + SYNC_TIME + 2 * MS;
        assert!(schedule.should_ask(true, changed));
        assert!(schedule.should_ask(false, changed + SYNC_TIME), "the commit may be synced only now");
        assert!(!schedule.should_ask(false, changed + SYNC_TIME + MS));
    }

    #[test]
    fn a_quiet_store_is_asked_once_a_second() {
        let began = Instant::now();
        let mut schedule = PollSchedule::new(began);
        let asked: Vec<u64> = (0..3_000)
            .step_by(10)
            .filter(|ms| *ms > 300 && schedule.should_ask(false, began + *ms as u32 * MS))
            .collect();
        assert_eq!(asked, [1_000, 2_000], "{asked:?}");
    }

    #[test]
    fn commits_that_could_not_be_read_are_read_at_the_next_question() {
        let began = Instant::now();
        let mut schedule = PollSchedule::new(began);
        assert!(!schedule.should_catch_up(false, began));
        assert!(schedule.should_catch_up(true, began));
        schedule.caught_up(false);
        assert!(schedule.should_catch_up(false, began), "the store says it only once");
        schedule.caught_up(true);
        assert!(!schedule.should_catch_up(false, began));
    }
}
