//! Deadlines of confirmations, by the clock of a boot and by the wall clock.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use pointsman_switch::{
    Action, BootTime, ClockReading, Code, Key, KeyKind, MemoryStore, Meta, Order, Pending, Refusal, Rules,
    Store, plan,
};
use std::sync::Arc;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// When the commit was made, by the wall clock and by the clock of its boot.
const WALL_MS: u64 = 1_800_000_000_000;
const UPTIME_MS: u64 = 50 * HOUR;
const WINDOW_MS: u64 = 10 * MINUTE;

fn at(wall_ms: u64, boot: u128, ms: u64) -> ClockReading {
    ClockReading { wall_ms, boot: Some(BootTime { boot, ms }) }
}

#[test]
fn promise_5_no_step_of_the_wall_clock_moves_a_deadline() {
    let by_boot = BootTime { boot: 1, ms: UPTIME_MS + WINDOW_MS };
    let with_boot = Pending {
        revision: 1,
        confirm_by_ms: WALL_MS + WINDOW_MS,
        confirm_by_boot: Some(by_boot),
        window_ms: WINDOW_MS,
    };
    let without = Pending { confirm_by_boot: None, ..with_boot };
    let unlimited = Pending { window_ms: u64::MAX, ..with_boot };
    let later = |ms| (WALL_MS + ms, UPTIME_MS + ms);
    let (wall_ms, ms) = later(4 * MINUTE);
    let end = later(WINDOW_MS);
    let cases = [
        ("same boot", with_boot, at(wall_ms, 1, ms), 6 * MINUTE),
        ("same boot, wall clock ahead", with_boot, at(wall_ms + HOUR, 1, ms), 6 * MINUTE),
        ("same boot, wall clock behind", with_boot, at(wall_ms - HOUR, 1, ms), 6 * MINUTE),
        ("the last moment", with_boot, at(end.0 + HOUR, 1, end.1 - 1), 1),
        ("the end", with_boot, at(end.0, 1, end.1), 0),
        ("the end, wall clock behind", with_boot, at(end.0 - HOUR, 1, end.1), 0),
        ("a clock of the boot that is set back", with_boot, at(wall_ms, 1, ms - HOUR), WINDOW_MS),
        ("reboot", with_boot, at(wall_ms, 2, MINUTE), 6 * MINUTE),
        ("reboot, wall clock ahead", with_boot, at(wall_ms + HOUR, 2, MINUTE), 0),
        ("reboot, wall clock behind", with_boot, at(wall_ms - HOUR, 2, MINUTE), 9 * MINUTE),
        ("reboot, wall clock at its beginning", with_boot, at(0, 2, MINUTE), 9 * MINUTE),
        ("long after a reboot, wall clock behind", with_boot, at(wall_ms - HOUR, 2, WINDOW_MS), 0),
        ("reboot, window unknown", unlimited, at(wall_ms, 2, MINUTE), 6 * MINUTE),
        ("no time by a boot", without, at(wall_ms, 1, ms), 6 * MINUTE),
        ("no time by a boot, wall clock ahead", without, at(wall_ms + HOUR, 1, ms), 0),
        ("no clock of a boot", with_boot, ClockReading::from(wall_ms), 6 * MINUTE),
    ];
    for (what, pending, now, left_ms) in cases {
        assert_eq!(pending.left_ms(now), left_ms, "{what}");
        assert_eq!(pending.is_overdue(now), left_ms == 0, "{what}");
    }
}

/// Plans and stores.
fn order(store: &mut MemoryStore, action: Action, meta: Meta, now: ClockReading) -> Result<(), Refusal> {
    let targets: Vec<Arc<str>> = ["blue", "green"].map(Arc::from).into();
    let rules = Rules {
        name: "live".into(),
        default: Arc::clone(&targets[0]),
        targets: targets.into(),
        kind: KeyKind::Host,
        max_keys: 100,
        max_key_len: 64,
        groups: Box::default(),
        run_time: Default::default(),
    };
    let loaded = store.load()?;
    let order = Order { action, meta: Meta { actor: "anna".to_owned(), ..meta } };
    let plan = plan(&loaded.table, &rules, &order, &loaded.pending)?;
    store.commit(&plan.commit(loaded.last_hash, now, Vec::new()))?;
    Ok(())
}

#[test]
fn promise_5_a_deadline_is_one_of_the_clock_of_its_boot() {
    let mut store = MemoryStore::new();
    let within = Meta { confirm_within_ms: Some(WINDOW_MS), ..Meta::default() };
    let key = Key::parse(KeyKind::Host, b"a.example", 255).unwrap();
    let set = Action::Set(vec![(key, "green".parse().ok())]);
    order(&mut store, set, within, at(WALL_MS, 1, UPTIME_MS)).unwrap();
    let [pending] = store.load().unwrap().pending[..] else { panic!("it awaits its confirmation") };
    assert_eq!(pending.confirm_by_ms, WALL_MS + WINDOW_MS);
    assert_eq!(pending.confirm_by_boot, Some(BootTime { boot: 1, ms: UPTIME_MS + WINDOW_MS }));
    assert_eq!(pending.window_ms, WINDOW_MS);

    assert!(pending.is_overdue(at(WALL_MS - HOUR, 1, UPTIME_MS + WINDOW_MS)));
    assert!(!pending.is_overdue(at(WALL_MS + HOUR, 1, UPTIME_MS + MINUTE)));

    // Until it has gone back, a confirmation counts.
    let mut confirm = |now| order(&mut store, Action::Confirm(1), Meta::default(), now);
    confirm(at(WALL_MS, 1, UPTIME_MS + 2 * WINDOW_MS)).unwrap();
    let again = confirm(at(WALL_MS, 1, UPTIME_MS + 2 * WINDOW_MS)).unwrap_err();
    assert_eq!(again.code, Code::NothingToConfirm);
}
