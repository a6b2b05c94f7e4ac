//! Taking up the holds that a store keeps: at a start, and those of another process with the same store.
//!
//! Owns what becomes of a hold whose process is gone: it is in force again, but that of an order ends as soon as it is
//! known whether the order was committed. Must never let a request of such a key through before.

use super::elsewhere::report::Elsewhere;
use super::hold::Ending;
use super::holds::ActiveHold;
use super::owner;
use super::state::ControlState;
use super::switch_state::SwitchState;
use crate::event::EventKind;
use crate::store::{KeptHold, KeptHolds, StoreBackend};
use engine::host::Level;
use std::rc::Rc;
use switch::{Key, Rules, StoreFault, Tables};

/// The holds of a switch at a start.
#[derive(Default)]
pub(super) struct TakenUp {
    /// Those that are in force.
    pub(super) active: Vec<ActiveHold>,
    /// What the log must say.
    said: Vec<(Level, String)>,
}

impl ActiveHold {
    /// Returns true if it is an order's whose process is gone.
    pub(super) fn may_be_settled(&self) -> bool {
        self.is_unsettled || self.kept.order.as_ref().is_some_and(|order| !owner::is_alive(&order.owner))
    }
}

/// Takes up the holds that the store of a switch (by its number) keeps. An end that came while nothing ran, and an order
/// whose process is gone, are seen to as soon as the process serves: requests of these keys wait until then.
///
/// What cannot be read holds nothing, which the log says: a file that cannot be read stops no traffic.
pub(super) fn take_up(store: &mut dyn StoreBackend, rules: &Rules, number: usize) -> TakenUp {
    let mut taken = TakenUp::default();
    let name = &rules.name;
    let KeptHolds { holds, faults, folder_fault } = store
        .kept_holds()
        .unwrap_or_else(|fault| KeptHolds { folder_fault: Some(fault), ..KeptHolds::default() });
    if let Some(fault) = folder_fault {
        taken.said.push((Level::Crit, format!("switch \"{name}\": {fault}; none of its keys is held")));
    }
    for fault in faults {
        let text = format!("switch \"{name}\": {fault}; its key is not held");
        taken.said.push((Level::Crit, text));
    }
    for kept in holds {
        let text = match Key::parse(rules.kind, kept.key.as_bytes(), rules.max_key_len) {
            Ok(key) => {
                let held = ActiveHold::new(number, key, kept);
                let text = format!(
                    "switch \"{name}\": {} is still held, by {} since before this process began",
                    held.kept.key, held.kept.actor
                );
                taken.active.push(held);
                (Level::Notice, text)
            }
            Err(fault) => {
                let text =
                    format!("switch \"{name}\": the kept hold of \"{}\" is of no key: {fault}", kept.key);
                (Level::Crit, text)
            }
        };
        taken.said.push(text);
    }
    taken
}

/// Returns tables with holds.
pub(super) fn with_holds<'a>(tables: Tables, taken: impl Iterator<Item = &'a TakenUp>) -> Tables {
    let number = tables.number;
    let holds = taken.flat_map(|taken| &taken.active);
    let tables = holds.fold(tables, |tables, held| match tables.with_hold(held.hold.clone()) {
        Ok(with) => with,
        Err(_) => tables,
    });
    Tables { number, ..tables }
}

/// Returns whether the order of a hold was committed, and as which revision.
pub(super) async fn outcome(switch: &SwitchState, kept: &KeptHold) -> Result<Option<u64>, StoreFault> {
    let Some(order) = kept.order.clone() else { return Ok(None) };
    let (actor, key) = (kept.actor.clone(), kept.key.clone());
    let look = move |store: &mut dyn StoreBackend| {
        // What cannot be trusted says nothing.
        if let Some(damage) = store.damage() {
            return Err(damage);
        }
        if let Some(name) = &order.idempotency
            && let Some(commit) = store.commit_by_idempotency(name)?
        {
            return Ok(Some(commit.revision));
        }
        let since = store.since(order.revision)?;
        let own = since.iter().find(|commit| {
            let is_same = order.idempotency.is_none() || commit.idempotency == order.idempotency;
            is_same && commit.actor == actor && commit.moves().any(|change| *change.key.as_str() == *key)
        });
        Ok(own.map(|commit| commit.revision))
    };
    switch.store.with(look).await
}

/// Returns what the log says of a hold whose order cannot be looked up.
pub(super) fn unsettled(switch: &str, kept: &KeptHold, fault: &StoreFault) -> String {
    format!(
        "switch \"{switch}\": {} is refused: the process of an order by {} that held it is gone, and whether the order was committed cannot be read: {fault}",
        kept.key, kept.actor
    )
}

impl ControlState {
    /// Puts holds that were taken up in force. They are in the published tables already.
    pub(super) fn add_taken_up(&self, taken: TakenUp) {
        for held in taken.active {
            self.holds.add(self.active(held));
        }
        for (level, text) in taken.said {
            self.shared.log(level, &text);
        }
        self.count_holds();
    }

    /// Does here what other processes with the same store have done: places their holds, and ends those that they have
    /// ended.
    pub(super) async fn follow_holds(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
    ) -> Result<(), StoreFault> {
        let turn = switch.own_holds.turn();
        let kept = switch.store.with(|store| store.kept_holds()).await?;
        let (found, is_whole) = (kept.holds, kept.faults.is_empty() && kept.folder_fault.is_none());
        // An order is committed before its hold ends: what waited here must follow that when it goes on.
        let is_over = self.holds.filter_map(|held| {
            let is_own = held.hold.switch() == switch.configured().number && held.is_on();
            (is_own && !found.iter().any(|kept| kept.id == held.kept.id)).then_some(())
        });
        if !is_over.is_empty() && self.catch_up(switch).await.is_ok() {
            // A thread answers after it has adopted what was published before.
            self.gather(|data_plane, reply| data_plane.watched(0, reply)).await;
        }
        let _reload_lock = self.reload_lock.read().await;
        if switch.removed.get() {
            return Ok(());
        }
        let number = switch.configured().number;
        let ids: Vec<&str> = found.iter().map(|kept| &*kept.id).collect();
        let gone = self.holds.filter_map(|held| {
            let was_there = held.hold.switch() == number && held.turn <= turn && held.is_on();
            (was_there && !ids.contains(&&*held.kept.id)).then(|| held.hold.key().clone())
        });
        // What cannot be read may still be held.
        if switch.store_path().is_some() && is_whole {
            for key in gone {
                drop(self.lift_hold(switch, &key, None, Ending::Elsewhere));
            }
        }
        let known = self.holds.filter_map(|held| Some(held.kept.id.clone()));
        for kept in switch.own_holds.new_ones(&found, &known, turn) {
            self.take_up_one(switch, kept);
        }
        Ok(())
    }

    fn take_up_one(&self, switch: &Rc<SwitchState>, kept: KeptHold) {
        let (rules, number) = (switch.rules(), switch.configured().number);
        let Ok(key) = Key::parse(rules.kind, kept.key.as_bytes(), rules.max_key_len) else { return };
        let held = self.active(ActiveHold::new(number, key, kept));
        let Ok(tables) = self.routing().tables.with_hold(held.hold.clone()) else { return };
        let info = held.info(&switch.name(), Elsewhere::default());
        let (key, name) = (info.key.to_string(), switch.name());
        let text = format!("switch \"{name}\": {key} is held by {}, in another process", info.actor);
        self.shared.log(Level::Notice, &text);
        let kind = EventKind::Held {
            key,
            actor: info.actor,
            reason: info.reason,
            until_ms: info.end.map(|end| end.at_ms),
        };
        self.shared.events.announce(super::now_ms(), &name, kind);
        self.holds.add(held);
        drop(self.publish(tables, None));
    }
}
