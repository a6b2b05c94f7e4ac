//! What comes about while a key is held: the end of its time, the end of a paced release, and that it is spoken of.
//!
//! Owns when holds are looked at. Must never end one whose time is not over by the clock of its boot.

use super::clock;
use super::hold::Ending;
use super::state::ControlState;
use super::switch_state::SwitchState;
use crate::event::EventKind;
use engine::host::Level;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use switch::{Hold, HoldPhase};

/// The longest pause between two looks: the machine may sleep.
const LOOK_MS: u64 = 1_000;
/// The pause while a paced release is under way.
const RELEASING_MS: u64 = 20;
/// How often a held key is spoken of.
const SAID_EVERY_MS: u64 = 60_000;

/// What is due for a hold.
enum Due {
    Expire,
    /// The queue of its release is empty.
    Finish,
    /// The process of its order may be gone.
    Settle,
    /// It has been in force for another minute.
    Say,
}

/// Looks at the holds as long as the state exists.
pub(super) async fn watch_holds(state: Weak<ControlState>) {
    loop {
        let Some(here) = state.upgrade() else { return };
        let pause_ms = here.look_at_holds().await;
        let began = here.holds.began.notified();
        match pause_ms {
            Some(pause_ms) => {
                let _ = tokio::time::timeout(Duration::from_millis(pause_ms), began).await;
            }
            None => began.await,
        }
    }
}

impl ControlState {
    /// Does what is due. Returns the time until the next look, in ms; `None` if nothing is held.
    async fn look_at_holds(self: &Rc<ControlState>) -> Option<u64> {
        if self.holds.len() == 0 {
            return None;
        }
        let reload_lock = self.reload_lock.read().await;
        for (hold, due) in self.due_holds() {
            let Some(switch) = self.switches.borrow().get(hold.switch()).cloned() else { continue };
            match due {
                Due::Expire => self.expire(&switch, &hold),
                Due::Finish => self.finish(&switch, &hold),
                Due::Settle => self.settle(&switch, &hold).await,
                Due::Say => self.say_held(&switch, &hold),
            }
        }
        drop(reload_lock);
        let now = clock::now();
        let pauses = self.holds.filter_map(|held| {
            let left = held.kept.end.as_ref().filter(|_| held.hold.phase() == HoldPhase::Held);
            let left_ms = left.map_or(LOOK_MS, |end| end.left_ms(now));
            Some(if held.hold.phase() == HoldPhase::Releasing { RELEASING_MS } else { left_ms })
        });
        pauses.into_iter().min().map(|pause_ms| pause_ms.clamp(1, LOOK_MS))
    }

    fn due_holds(&self) -> Vec<(Arc<Hold>, Due)> {
        let (now, clock_ms) = (clock::now(), self.clock_ms());
        self.holds.filter_map(|held| {
            let phase = held.hold.phase();
            let is_over = held.kept.end.as_ref().is_some_and(|end| end.left_ms(now) == 0);
            let due = match phase {
                HoldPhase::Held if is_over => Due::Expire,
                HoldPhase::Released => Due::Finish,
                HoldPhase::Held | HoldPhase::Refusing if held.may_be_settled() => Due::Settle,
                HoldPhase::Held | HoldPhase::Refusing
                    if clock_ms.saturating_sub(held.said_ms) >= SAID_EVERY_MS =>
                {
                    held.said_ms = clock_ms;
                    Due::Say
                }
                _ => return None,
            };
            Some((held.hold.clone(), due))
        })
    }

    /// Takes a hold out whose requests have all gone on.
    fn finish(&self, switch: &SwitchState, hold: &Arc<Hold>) {
        if let Ok((tables, _)) = self.routing().tables.without_hold(hold.switch(), hold.key()) {
            drop(self.publish(tables, None));
        }
        if self.holds.remove(hold, &switch.own_holds).is_some() {
            let text =
                format!("switch \"{}\": {} has no waiting requests any more", switch.name(), hold.key());
            self.shared.log(Level::Notice, &text);
        }
    }

    /// Ends the hold of an order whose process is gone, once it is known what became of the order. Until then the key is
    /// refused.
    pub(super) async fn settle(self: &Rc<ControlState>, switch: &Rc<SwitchState>, hold: &Arc<Hold>) {
        let Some(kept) = self.holds.with(hold, |held| held.kept.clone()) else { return };
        match super::hold_take_up::outcome(switch, &kept).await {
            Ok(committed) => drop(self.lift_hold(switch, hold.key(), None, Ending::Settled(committed))),
            Err(_) if hold.phase() == HoldPhase::Refusing => {}
            // The store is looked at again.
            Err(fault) => {
                self.holds.with(hold, |held| held.is_unsettled = true);
                hold.refuse();
                drop(self.publish(self.routing().tables.again(), None));
                let text = super::hold_take_up::unsettled(&switch.name(), &kept, &fault);
                self.shared.log(Level::Crit, &text);
            }
        }
    }

    /// Reminds people of a held key.
    fn say_held(&self, switch: &SwitchState, hold: &Arc<Hold>) {
        let name = switch.name();
        let found = self.holds.with(hold, |held| {
            let elsewhere = self.waiting_elsewhere(switch, &held.kept.id);
            held.info(&name, elsewhere)
        });
        let Some(info) = found else { return };
        let (key, actor) = (info.key.to_string(), info.actor);
        let why = info.reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        let minutes = clock::now_ms().saturating_sub(info.since_ms) / 60_000;
        let (waiting, rejected) = (info.waiting, info.rejected);
        let does = if info.phase == HoldPhase::Refusing { "refused after its hold" } else { "held" };
        let text = format!(
            "switch \"{name}\": {key} is still {does} by {actor} for {minutes} min{why}: {waiting} requests wait, {rejected} were refused"
        );
        self.shared.log(Level::Warn, &text);
        let kind = EventKind::StillHeld { key, actor, since_ms: info.since_ms, waiting, rejected };
        self.shared.announce(&name, kind);
    }
}
