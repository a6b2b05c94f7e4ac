//! Switches whose store is damaged.
//!
//! Owns: how damage is noticed and reported, and that a store that is sound again is taken up. Traffic goes on with the
//! table that there is. Must never: publish a table of a store that is not sound.

use super::state::ControlState;
use super::switch_state::{Position, SwitchState};
use crate::store::StoreBackend;
use engine::host::Level;
use std::rc::Rc;
use std::sync::Arc;
use switch::{StoreFault, StoreFaultKind, Table};

/// The condition of a store: why orders are refused, if they are, and what the log should say.
pub(super) struct Condition {
    pub(super) damage: Option<StoreFault>,
    pub(super) warnings: Vec<StoreFault>,
    /// What is to be said of keys that lead to groups which are gone.
    pub(super) lost: Vec<String>,
}

impl Condition {
    pub(super) fn of(store: &mut dyn StoreBackend) -> Condition {
        Condition { damage: store.damage(), warnings: store.warnings(), lost: Vec::new() }
    }
}

/// Loads the position of a switch. Of a damaged store it is that of its second file; if that cannot be trusted either, it
/// is one that says so.
pub(super) fn load(store: &mut dyn StoreBackend) -> Result<Position, StoreFault> {
    match store.load() {
        Ok(loaded) => {
            Ok(Position { table: Arc::new(loaded.table), hash: loaded.last_hash, pending: loaded.pending })
        }
        Err(fault) if fault.kind == StoreFaultKind::Damaged && store.damage().is_some() => Ok(Position {
            table: Arc::new(Table::untrusted()),
            hash: switch::Hash::ZERO,
            pending: Vec::new(),
        }),
        Err(fault) => Err(fault),
    }
}

impl ControlState {
    /// Reports the condition of a store: each warning, and damage when it is first seen.
    pub(super) fn report(&self, switch: &SwitchState, condition: Condition) {
        for warning in condition.warnings {
            self.shared.log(Level::Crit, &format!("switch \"{}\": {warning}", switch.name()));
        }
        condition.lost.iter().for_each(|text| self.shared.log(Level::Crit, text));
        if let Some(damage) = condition.damage
            && switch.fault.borrow().as_ref() != Some(&damage)
        {
            self.store_failed(switch, &damage);
        }
    }

    /// Opens damaged stores again. The table of one that is sound now is published. Called before a reload.
    pub(super) async fn take_up_restored(self: &Rc<ControlState>) {
        let mut switches = self.switches.borrow().clone();
        switches.extend(self.groups.borrow().clone());
        for switch in switches {
            let recovered = |store: &mut dyn StoreBackend| {
                let position = match store.recover()? {
                    true => Some(load(store)?),
                    false => None,
                };
                Ok((position, Condition::of(store)))
            };
            let (position, condition) = match switch.store.with(recovered).await {
                Ok(found) => found,
                Err(fault) => {
                    self.store_failed(&switch, &fault);
                    continue;
                }
            };
            let is_sound = condition.damage.is_none();
            self.report(&switch, condition);
            let Some(position) = position else { continue };
            if is_sound {
                *switch.fault.borrow_mut() = None;
            }
            let text = format!(
                "switch \"{}\": its store was opened again, at revision {}",
                switch.name(),
                position.table.revision()
            );
            self.shared.log(Level::Notice, &text);
            switch.set_position(position);
            drop(self.publish_table(&switch, &[], None));
        }
    }
}
