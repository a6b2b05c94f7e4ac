//! People who give orders: they repeat what went unanswered, expect revisions, confirm or forget to, undo, hold, and
//! keep in mind what they were told.

use super::process::Process;
use super::{HELD_BY_ORDERS, HOLDER, KEYS, World};
use crate::UndoWhat;
use crate::options::{HoldOptions, HoldStreams, Options, Wait};
use crate::receipt::{DrainState, Outcome, Receipt};
use sim::{Seeded, holds, tell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;
use switch::{Action, Code, Key, KeyKind, Meta, Order, Refusal, Route};
use tokio::time::sleep;

/// The answers that operators got, by the reason they gave.
#[derive(Default)]
pub(super) struct Told {
    /// The revision they were told.
    pub(super) kept: HashMap<String, u64>,
    /// ApiError for good, without a word about the store.
    pub(super) refused: HashSet<String>,
    /// Its outcome is unknown.
    pub(super) unknown: HashSet<String>,
}

fn key(text: &str) -> Key {
    Key::parse(KeyKind::Host, text.as_bytes(), 255).unwrap()
}

fn route(seeded: &mut Seeded) -> Option<Route> {
    let text = *seeded.one_of(&["blue", "green", "green=10 blue=90", "green=50 blue=50", ""]);
    (!text.is_empty()).then(|| Route::parse(text).unwrap())
}

/// Does a refusal leave open whether something was done?
fn is_unknown(refusal: &Refusal) -> bool {
    let stores = [
        Code::Stopping,
        Code::StoreFailed,
        Code::StoreFull,
        Code::StoreLocked,
        Code::StoreReadOnly,
        Code::StoreDamaged,
    ];
    stores.contains(&refusal.code)
}

/// An operator's request.
enum Wish {
    Set(Vec<(Key, Option<Route>)>),
    Undo(UndoWhat),
    Confirm(Option<u64>),
}

/// Orders one after another, until the world is over.
pub(super) async fn give_orders(world: Rc<World>, person: usize, mut seeded: Seeded) {
    let mut serial = 0;
    let mut seen = 0;
    while !world.is_over() {
        sleep(Duration::from_millis(seeded.within(0..=900))).await;
        serial += 1;
        let reason = format!("{person}/{serial}");
        let wish = match seeded.below(10) {
            0..6 => {
                let first = seeded.below(KEYS.len() - 1);
                let count = 1 + seeded.below(2);
                let keys = (0..count).map(|number| KEYS[(first + number) % (KEYS.len() - 1)]);
                Wish::Set(keys.map(|text| (key(text), route(&mut seeded))).collect())
            }
            6..8 => Wish::Undo(match seeded.below(3) {
                0 => UndoWhat::Keys(vec![key(KEYS[seeded.below(KEYS.len() - 1)])]),
                1 if seen > 0 => UndoWhat::Commit(seeded.within(1..=seen)),
                _ => UndoWhat::Last,
            }),
            _ => Wish::Confirm((seen > 0 && seeded.chance(50)).then(|| seeded.within(1..=seen))),
        };
        let is_set = matches!(wish, Wish::Set(_));
        let meta = Meta {
            actor: format!("person {person}"),
            reason: Some(reason.clone()),
            expect: seeded.chance(15).then_some(seen),
            idempotency: seeded.chance(60).then(|| format!("order {reason}")),
            force: seeded.chance(20),
            confirm_within_ms: (is_set && seeded.chance(35)).then(|| seeded.within(100..=12_000)),
            ..Meta::default()
        };
        let options = Options {
            wait: *seeded.one_of(&[Wait::None, Wait::Published, Wait::Published, Wait::Drained]),
            timeout: Some(Duration::from_millis(seeded.within(1_000..=4_000))),
            ..Options::default()
        };
        if let Some(receipt) = insist(&world, &mut seeded, &wish, &meta, &options).await {
            seen = receipt.revision;
        }
    }
}

/// Switches one key again and again, and has it held meanwhile.
pub(super) async fn hold_and_switch(world: Rc<World>, mut seeded: Seeded) {
    let mut serial = 0;
    while !world.is_over() {
        sleep(Duration::from_millis(seeded.within(200..=3_000))).await;
        serial += 1;
        let reason = format!("{HOLDER}/{serial}");
        let wish = Wish::Set(vec![(key(HELD_BY_ORDERS), route(&mut seeded))]);
        let meta = Meta { actor: HOLDER.into(), reason: Some(reason), ..Meta::default() };
        let hold = HoldOptions {
            timeout_ms: seeded.within(300..=3_000),
            streams: [HoldStreams::Refuse, HoldStreams::Wait, HoldStreams::Close][serial % 3],
            ..HoldOptions::default()
        };
        let timeout = Some(Duration::from_millis(seeded.within(500..=4_000)));
        let options = Options { hold: Some(hold), timeout, ..Options::default() };
        insist(&world, &mut seeded, &wish, &meta, &options).await;
    }
}

/// Orders what is there already, and repeats it when others may have changed it.
pub(super) async fn order_what_is_there(world: Rc<World>, mut seeded: Seeded) {
    let mut serial = 0;
    while !world.is_over() {
        sleep(Duration::from_millis(seeded.within(0..=500))).await;
        let Some(process) = world.any_process(&mut seeded) else { continue };
        let text = KEYS[seeded.below(KEYS.len() - 1)];
        let Ok(table) = process.control.table("live").await else { continue };
        let route = table.get(&key(text)).map(|entry| entry.route.clone());
        serial += 1;
        let meta = Meta {
            actor: "repeater".into(),
            reason: Some(format!("repeater/{serial}")),
            idempotency: Some(format!("repeated {serial}")),
            ..Meta::default()
        };
        let wish = Wish::Set(vec![(key(text), route)]);
        let options = Options::default();
        let Some(first) = insist(&world, &mut seeded, &wish, &meta, &options).await else { continue };
        // A note says that it could not be saved.
        if first.outcome != Outcome::Unchanged || !first.notes.is_empty() {
            continue;
        }
        sleep(Duration::from_millis(seeded.within(0..=9_000))).await;
        let Some(again) = insist(&world, &mut seeded, &wish, &meta, &options).await else { continue };
        holds!(
            "unchanged-stays-unchanged",
            (again.outcome, again.revision) == (Outcome::Unchanged, first.revision),
            "order {serial} found everything at revision {}, and later {:?} {}",
            first.revision,
            again.outcome,
            again.revision
        );
    }
}

/// Gives an order, and again if its outcome is unknown and it has a name of its own.
async fn insist(
    world: &Rc<World>,
    seeded: &mut Seeded,
    wish: &Wish,
    meta: &Meta,
    options: &Options,
) -> Option<Receipt> {
    let reason = meta.reason.clone().unwrap_or_default();
    for _ in 0..5 {
        let Some(process) = world.any_process(seeded) else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let control = &process.control;
        let answer = match wish {
            Wish::Set(sets) => {
                let order = Order { action: Action::Set(sets.clone()), meta: meta.clone() };
                control.order("live", order, options.clone()).await
            }
            Wish::Undo(what) => control.undo("live", what.clone(), meta.clone(), options.clone()).await,
            Wish::Confirm(revision) => control.confirm("live", *revision, meta.clone()).await,
        };
        match answer {
            Ok(receipt) => {
                tell!("{reason}: {:?} as revision {}", receipt.outcome, receipt.revision);
                check_receipt(world, &process, &receipt, &reason, options);
                if receipt.outcome != Outcome::Unchanged {
                    world.told.borrow_mut().kept.insert(reason, receipt.revision);
                } else {
                    world.told.borrow_mut().refused.insert(reason);
                }
                return Some(receipt);
            }
            Err(refusal) if is_unknown(&refusal) => {
                tell!("{reason}: who knows: {refusal}");
                world.told.borrow_mut().unknown.insert(reason.clone());
                meta.idempotency.as_ref()?;
                sleep(Duration::from_millis(seeded.within(0..=500))).await;
            }
            Err(refusal) => {
                tell!("{reason}: refused: {refusal}");
                world.told.borrow_mut().refused.insert(reason);
                return None;
            }
        }
    }
    None
}

/// Checks that a receipt is true at the moment it is returned.
fn check_receipt(world: &World, process: &Process, receipt: &Receipt, reason: &str, options: &Options) {
    if receipt.outcome == Outcome::Unchanged {
        return;
    }
    let revision = receipt.revision;
    let kept = {
        let disk = world.shared.disk.lock().unwrap();
        disk.commits.get(revision as usize - 1).and_then(|commit| commit.reason.clone())
    };
    holds!(
        "acknowledged-is-durable",
        kept.as_deref() == Some(reason),
        "revision {revision} of {reason} is {kept:?}'s"
    );
    if receipt.outcome != Outcome::Committed || !world.is_alive(process.number) {
        return;
    }
    if options.wait != Wait::None && receipt.workers.len() == receipt.workers_asked {
        let lowest = process.workers.lowest();
        holds!(
            "acknowledged-everywhere",
            lowest >= revision,
            "{revision} is reported to be everywhere, and a worker has {lowest}"
        );
        process.told.set(process.told.get().max(revision));
    }
    let drained = receipt.drain.as_ref().is_some_and(|drain| drain.state == DrainState::Drained);
    if options.wait == Wait::Drained && drained {
        let left = process.workers.left_behind(revision, process.cuts_streams);
        holds!("drained-is-empty", left == 0, "{left} requests are left on the old side of {revision}");
    }
}
