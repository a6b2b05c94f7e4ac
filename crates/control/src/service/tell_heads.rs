//! Telling other places of the newest commit of each history.
//!
//! Owns when a head is sent. Must never wait for a place.

use super::now_ms;
use super::state::ControlState;
use super::switch_state::SwitchState;
use crate::notify::{Delivery, HeadNotice};
use engine::Config;
use std::rc::{Rc, Weak};
use std::time::Duration;
use switch::{Commit, Hash};

/// Between two looks for heads that have not come by a commit: of a start, or a restore.
const EACH: Duration = Duration::from_millis(500);

/// Tells of heads that no commit has told of, as long as the state exists.
async fn watch_heads(state: Weak<ControlState>) {
    while let Some(state) = state.upgrade() {
        state.tell_heads();
        drop(state);
        tokio::time::sleep(EACH).await;
    }
}

impl ControlState {
    /// Tells the places of a commit of this process.
    pub(super) fn tell_commit(&self, switch: &SwitchState, commit: &Commit) {
        self.note_commit(switch, commit.hash);
        for delivery in &*self.heads.deliveries.borrow() {
            delivery.send(HeadNotice::of_commit(&switch.name(), commit));
        }
    }

    /// Notes a commit of which another process tells.
    pub(super) fn note_commit(&self, switch: &SwitchState, hash: Hash) {
        self.heads.sent.borrow_mut().insert(switch.name(), hash);
    }

    /// Sends the heads to the places that a configuration names. A new one gets every head.
    pub(super) fn tell_places_of(self: &Rc<ControlState>, config: &Config) {
        let mut deliveries = self.heads.deliveries.borrow_mut();
        let places = &config.control.notify;
        deliveries.retain(|delivery| places.contains(delivery.place()));
        for place in places {
            if !deliveries.iter().any(|delivery| delivery.place() == place) {
                let delivery = Delivery::start(place, self.shared.log.clone(), now_ms);
                for switch in self.all_histories() {
                    delivery.send(head_of(&switch));
                }
                deliveries.push(delivery);
            }
        }
        if !deliveries.is_empty() && !self.heads.is_watched.replace(true) {
            for switch in self.all_histories() {
                self.note_commit(&switch, switch.position().hash);
            }
            tokio::task::spawn_local(watch_heads(Rc::downgrade(self)));
        }
    }

    /// Tells the places of heads that they do not know.
    fn tell_heads(&self) {
        for switch in self.all_histories() {
            let hash = switch.position().hash;
            if self.heads.sent.borrow_mut().insert(switch.name(), hash) != Some(hash) {
                self.heads.deliveries.borrow().iter().for_each(|delivery| delivery.send(head_of(&switch)));
            }
        }
    }

    fn all_histories(&self) -> Vec<Rc<SwitchState>> {
        let mut all = self.switches.borrow().clone();
        all.extend(self.groups.borrow().clone());
        all
    }
}

fn head_of(switch: &SwitchState) -> HeadNotice {
    let position = switch.position();
    HeadNotice::of_head(&switch.name(), position.table.revision(), position.hash)
}
