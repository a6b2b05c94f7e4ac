//! The clocks of a simulated machine: the one of its boot goes with tokio's, and the one on the wall may be set.
//!
//! Owns also when each was set or began anew, so that the time of a commit can be told by a clock that no one sets.

use std::cell::RefCell;
use switch::{BootTime, ClockReading, Commit};
use tokio::time::Instant;

/// When the world begins, by the clock on the wall.
const EPOCH_MS: i64 = 1_800_000_000_000;

thread_local! {
    static CLOCKS: RefCell<Option<Clocks>> = const { RefCell::new(None) };
}

struct Clocks {
    began: Instant,
    /// When the clock on the wall was set, and how far off it is since, in ms.
    settings: Vec<(u64, i64)>,
    /// When each boot began.
    boots: Vec<u64>,
}

impl Clocks {
    fn elapsed_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn offset_ms(&self) -> i64 {
        self.settings.last().map_or(0, |(_, offset_ms)| *offset_ms)
    }
}

fn with<T>(work: impl FnOnce(&mut Clocks) -> T) -> Option<T> {
    CLOCKS.with_borrow_mut(|clocks| clocks.as_mut().map(work))
}

/// Begins the world with the first boot.
pub(super) fn begin() {
    CLOCKS.set(Some(Clocks { began: Instant::now(), settings: vec![(0, 0)], boots: vec![0] }));
}

pub(super) fn end() {
    CLOCKS.set(None);
}

/// Returns the wall clock of the simulation, if this thread is in one.
pub(in super::super) fn now_us() -> Option<u64> {
    with(|clocks| ((EPOCH_MS + clocks.offset_ms()) as u64) * 1000 + clocks.began.elapsed().as_micros() as u64)
}

/// Returns both clocks of the simulation, if this thread is in one.
pub(in super::super) fn now() -> Option<ClockReading> {
    let wall_ms = now_us()? / 1000;
    with(|clocks| {
        let (boot, began_ms) = (clocks.boots.len() as u128, clocks.boots[clocks.boots.len() - 1]);
        let boot = Some(BootTime { boot, ms: clocks.elapsed_ms() - began_ms });
        ClockReading { wall_ms, boot }
    })
}

/// Sets the clock on the wall.
pub(super) fn set_wall(change_ms: i64) {
    with(|clocks| clocks.settings.push((clocks.elapsed_ms(), clocks.offset_ms() + change_ms)));
}

/// Boots the machine.
pub(super) fn reboot() {
    with(|clocks| clocks.boots.push(clocks.elapsed_ms()));
}

/// Returns how long the world has lasted, in ms.
pub(super) fn elapsed_ms() -> u64 {
    with(|clocks| clocks.elapsed_ms()).unwrap_or_default()
}

/// Returns how long the world had lasted when a commit was made that was on the disk at this time, in ms.
pub(super) fn made_at_ms(commit: &Commit, kept_ms: u64) -> u64 {
    let made = with(|clocks| {
        clocks.settings.iter().rev().find_map(|(since_ms, offset_ms)| {
            let made_ms = u64::try_from(commit.time_ms as i64 - EPOCH_MS - offset_ms).ok()?;
            (*since_ms..=kept_ms).contains(&made_ms).then_some(made_ms)
        })
    });
    made.flatten().unwrap_or(kept_ms)
}

/// Returns when the boot began in which this was, in ms since the world began.
pub(super) fn boot_of_ms(at_ms: u64) -> u64 {
    let began = with(|clocks| clocks.boots.iter().rev().copied().find(|began_ms| *began_ms <= at_ms));
    began.flatten().unwrap_or_default()
}
