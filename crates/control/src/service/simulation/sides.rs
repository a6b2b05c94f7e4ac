//! The servers of the simulated targets: they die and come back, and answer probes.
//!
//! Owns also when each did, so that a commit can be held against what was there when it was made.

use super::World;
use super::clocks;
use sim::{Seeded, tell};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use switch::Route;
use tokio::time::sleep;
use upstream::Address;

/// The targets, and the addresses of their servers.
const SIDES: [(&str, &str); 2] = [("blue", "127.0.0.1:1"), ("green", "127.0.0.1:2")];
/// How long a server takes to answer, and how long it takes to see that there is none.
const ANSWER: Duration = Duration::from_millis(20);
const NO_ANSWER: Duration = Duration::from_millis(300);

/// Since when a side is there or not, in ms since the world began.
type SideHistory = Vec<(u64, bool)>;

thread_local! {
    /// Of each side. None outside a simulation.
    static HISTORY: RefCell<Option<[SideHistory; 2]>> = const { RefCell::new(None) };
}

/// Begins the world with all servers there.
pub(super) fn begin() {
    HISTORY.set(Some([vec![(0, true)], vec![(0, true)]]));
}

pub(super) fn end() {
    HISTORY.set(None);
}

/// Returns a server's answer to a probe, if this thread is in a simulation.
pub(crate) async fn probe(address: &Address) -> Option<Result<String, String>> {
    let address = address.to_string();
    let side = HISTORY.with_borrow(|history| {
        history.as_ref()?;
        SIDES.iter().position(|(_, known)| *known == address)
    })?;
    let is_up = is_up(side, clocks::elapsed_ms());
    sleep(if is_up { ANSWER } else { NO_ANSWER }).await;
    Some(if is_up { Ok("accepts connections".to_owned()) } else { Err("connection refused".to_owned()) })
}

/// Lets servers die and come back until the world is over.
pub(super) async fn live_and_die(world: Rc<World>, mut seeded: Seeded) {
    while !world.is_over() {
        sleep(Duration::from_millis(seeded.within(300..=6_000))).await;
        let side = seeded.below(2);
        // More often there than not.
        set(side, seeded.chance(60));
    }
}

pub(super) fn set(side: usize, is_up: bool) {
    HISTORY.with_borrow_mut(|history| {
        let Some(history) = history else { return };
        if history[side].last().is_some_and(|last| last.1 != is_up) {
            tell!("{} {}", SIDES[side].0, if is_up { "is there again" } else { "dies" });
            history[side].push((clocks::elapsed_ms(), is_up));
        }
    });
}

fn of_side<T>(side: usize, read: impl FnOnce(&[(u64, bool)]) -> T) -> T {
    HISTORY.with_borrow(|history| read(history.as_ref().map_or(&[(0, true)][..], |all| &all[side])))
}

fn is_up(side: usize, at_ms: u64) -> bool {
    of_side(side, |all| all.iter().rev().find(|(since_ms, _)| *since_ms <= at_ms).is_none_or(|last| last.1))
}

/// Returns whether a side was there throughout, was not there throughout, or neither.
fn throughout(side: usize, from_ms: u64, to_ms: u64) -> Option<bool> {
    let is_same = of_side(side, |all| !all.iter().any(|(at_ms, _)| (from_ms + 1..=to_ms).contains(at_ms)));
    is_same.then(|| is_up(side, from_ms))
}

/// Returns true if no server was there from one moment to another.
pub(super) fn none_from(from_ms: u64, to_ms: u64) -> bool {
    (0..SIDES.len()).all(|side| throughout(side, from_ms, to_ms) == Some(false))
}

/// Returns the last moment, no later than another one, at which a commit may have had to stay: a server was there and
/// another one was not, or none was and the process had just begun.
pub(super) fn last_blocked_ms(at_ms: u64, grace_until_ms: u64) -> Option<u64> {
    let blocked = |ms: u64| match (is_up(0, ms), is_up(1, ms)) {
        (true, true) => false,
        (false, false) => ms < grace_until_ms,
        _ => true,
    };
    let mut ends: Vec<u64> =
        (0..2).flat_map(|side| of_side(side, |all| all.to_vec())).map(|one| one.0).collect();
    ends.extend([grace_until_ms, at_ms + 1]);
    ends.into_iter()
        .filter(|end_ms| (1..=at_ms + 1).contains(end_ms) && blocked(end_ms - 1))
        .map(|end| end - 1)
        .max()
}

/// Returns true if one route leads more clients to targets that were not there throughout a time than another. `None` if a
/// target came or went.
pub(super) fn is_worse(
    (before, after): (Option<&Route>, Option<&Route>),
    (from_ms, to_ms): (u64, u64),
) -> Option<bool> {
    let lost = |route: Option<&Route>| -> Option<f64> {
        let weights: Vec<(String, u32)> = match route {
            None => vec![(SIDES[0].0.to_owned(), 1)],
            Some(Route::One(target)) => vec![(target.to_string(), 1)],
            Some(Route::Split(split)) => {
                split.shares().iter().map(|share| (share.target.to_string(), share.weight)).collect()
            }
        };
        let (mut ill, mut all) = (0, 0);
        for (target, weight) in weights {
            let side = SIDES.iter().position(|(name, _)| *name == target)?;
            ill += if throughout(side, from_ms, to_ms)? { 0 } else { weight };
            all += weight;
        }
        Some(f64::from(ill) / f64::from(all))
    };
    Some(lost(after)? > lost(before)? + 1e-9)
}
