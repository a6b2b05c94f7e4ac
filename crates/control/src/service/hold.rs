//! Holding a key's new requests, and the end of holds.
//!
//! Owns how a hold begins and ends: it is kept before it is acknowledged, and ends before that is recorded, so that no disk
//! keeps requests waiting. A process that is killed in between leaves a hold that the next one takes up again.

use super::clock;
use super::elsewhere::report::Elsewhere;
use super::groups;
use super::holds::ActiveHold;
use super::owner;
use super::spelling;
use super::state::{ControlState, collect_replies};
use super::switch_state::SwitchState;
use crate::event::EventKind;
use crate::info::HoldInfo;
use crate::journal::Occurrence;
use crate::options::{HoldOrder, HoldThen};
use crate::store::{KeptEnd, KeptHold, KeptOrder, StoreBackend};
use engine::host::Level;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use switch::{Code, Commit, CommitKind, Hold, HoldPhase, Key, Refusal, Shape, StoreFault};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The maximum number of held keys: every request is compared with each of them.
const MAX_HELD: usize = 64;
/// How long the answer to a release waits for its record.
const RECORD_TIME: Duration = Duration::from_secs(2);
/// The first and the longest pause between two attempts to record the end of a hold.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Why a hold ends.
#[derive(Clone)]
pub(super) enum Ending {
    /// It was released.
    Released { actor: String, reason: Option<String> },
    /// Its time was over.
    Expired,
    /// Its process was gone, and what became of its order is known: it is this revision, or was not committed.
    Settled(Option<u64>),
    /// A newer order of its key was committed.
    Ordered { actor: String, revision: u64 },
    /// Another process has ended it.
    Elsewhere,
}

/// A change of a kept hold. Returns false if it was made by another process.
type Change = fn(&mut dyn StoreBackend, &KeptHold) -> Result<bool, StoreFault>;

impl ControlState {
    /// Does what [`crate::ControlHandle::hold`] says.
    pub(super) async fn hold(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        order: HoldOrder,
    ) -> Result<HoldInfo, Refusal> {
        switch.may_hold()?;
        let (key, table) = (order.key.clone(), switch.table());
        // A hold of a key that no request has keeps nothing from going on: most likely another one is meant.
        if table.get(&key).is_none() {
            let doubt = switch.rules().doubt(&key, false);
            doubt.map_err(|fault| Refusal::bad_key(key.as_str().as_bytes(), fault))?;
        }
        let (mut info, _) = self.hold_for(switch, order, None).await?;
        if key.shape() == Shape::Exact && table.get(&key).is_none() {
            info.notes = spelling::notes_of(self.data_plane(), &switch.name(), &table, &[key.as_str()]);
        }
        let entry = table.get(&key).or_else(|| Some(table.find_key(key.as_str().as_bytes())?.1));
        let targets: Vec<Arc<str>> = match entry {
            Some(entry) => entry.route.live_targets().cloned().collect(),
            None => vec![table.default_target(&switch.rules().default).clone()],
        };
        let look = self.look_at_targets(&targets, &[]);
        info.notes.extend(look.awaited(self.data_plane().threads()).await);
        Ok(info)
    }

    /// Returns the same, for an order that is under way.
    pub(super) async fn hold_for(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        order: HoldOrder,
        of: Option<KeptOrder>,
    ) -> Result<(HoldInfo, Arc<Hold>), Refusal> {
        self.shared.takes_orders()?;
        if switch.configured().is_groups() {
            return Err(groups::no_keys());
        }
        let _reload_lock = self.reload_lock.read().await;
        switch.ensure_configured()?;
        self.place_hold(switch, order, of).await
    }

    /// Returns the refusal for a key that somebody holds.
    pub(super) fn held_already(&self, hold: &Arc<Hold>) -> Refusal {
        let of_order = |held: &mut ActiveHold| held.kept.order.is_some().then(|| held.kept.actor.clone());
        match self.holds.with(hold, of_order).flatten() {
            Some(actor) => Refusal::new(
                Code::HoldExists,
                format!(
                    "\"{}\" is held for an order of {actor}, which waits for requests in flight",
                    hold.key()
                ),
                "wait until that order has ended; to release the key cancels it",
            ),
            None => Refusal::hold_exists(hold.key()),
        }
    }

    async fn place_hold(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        order: HoldOrder,
        of: Option<KeptOrder>,
    ) -> Result<(HoldInfo, Arc<Hold>), Refusal> {
        let number = switch.configured().number;
        if self.holds.len() >= MAX_HELD {
            return Err(Refusal::new(
                Code::Busy,
                format!("too many keys are held: at most {MAX_HELD}"),
                "release one of them, or hold one wildcard key instead of many",
            ));
        }
        if let Some(hold) = self.routing().tables.hold(number, &order.key) {
            return Err(self.held_already(hold));
        }
        let HoldOrder { key, options, end, actor, reason } = order;
        let now = clock::now();
        let kept = KeptHold {
            id: self.holds.next_id(&owner::own(), now.wall_ms),
            key: key.as_str().to_owned(),
            max: options.max,
            timeout_ms: options.timeout_ms,
            max_bytes: options.max_bytes,
            since_ms: now.wall_ms,
            actor: actor.clone(),
            reason: reason.clone(),
            end: end.map(|end| KeptEnd::after(end.after_ms, end.then == HoldThen::Release, now)),
            order: of,
            refusing: false,
        };
        switch.own_holds.begin(&kept.id);
        let (asked, ended) = (kept.clone(), switch.own_holds.ended());
        let placed = switch.store.with(move |store| store.place_hold(&asked, &ended)).await;
        let turn = switch.own_holds.settle(&kept.id);
        match placed {
            Ok(true) => {}
            Ok(false) => return Err(Refusal::hold_exists(&key)),
            Err(fault) => {
                // It may be there all the same.
                switch.own_holds.end(&kept.id);
                drop(self.record(switch, kept, |store, kept| store.remove_hold(kept), None));
                return Err(fault.into());
            }
        }
        let held = self.active(ActiveHold { turn, ..ActiveHold::new(number, key.clone(), kept.clone()) });
        let hold = held.hold.clone();
        let tables = match self.routing().tables.with_hold(hold.clone()) {
            Ok(tables) => tables,
            // In memory nothing else keeps two apart.
            Err(refusal) => {
                switch.own_holds.end(&kept.id);
                drop(self.record(switch, kept, |store, kept| store.remove_hold(kept), None));
                return Err(refusal);
            }
        };
        let info = held.info(&switch.name(), Elsewhere::default());
        self.holds.add(held);
        self.count_holds();
        let acknowledgements = self.publish(tables, None);
        let key = hold.key().to_string();
        let then = kept.end.as_ref().map(|end| terms_of_end(end.span_ms, end.releases));
        let words = [then, reason.clone()].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let why = if words.is_empty() { String::new() } else { format!(" ({words})") };
        self.shared
            .log(Level::Notice, &format!("switch \"{}\": {key} is held by {actor}{why}", switch.name()));
        let reason = (!words.is_empty()).then_some(words);
        self.shared.announce(
            &switch.name(),
            EventKind::Held { key, actor, reason, until_ms: info.end.map(|end| end.at_ms) },
        );
        collect_replies(acknowledgements, self.data_plane().threads()).await;
        Ok((info, hold))
    }

    /// Returns a hold that begins to be in force now.
    pub(super) fn active(&self, held: ActiveHold) -> ActiveHold {
        ActiveHold { said_ms: self.clock_ms(), ..held }
    }

    /// Does what [`crate::ControlHandle::release`] says.
    pub(super) async fn release(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        key: &Key,
        per_second: Option<u32>,
        actor: String,
        reason: Option<String>,
    ) -> Result<HoldInfo, Refusal> {
        let ending = Ending::Released { actor, reason };
        let lifted = {
            let _reload_lock = self.reload_lock.read().await;
            switch.ensure_configured()?;
            let hold = self.routing().tables.hold(switch.configured().number, key).cloned();
            let of_order = hold.and_then(|hold| self.holds.with(&hold, |held| held.kept.order.is_some()));
            // An order that waits with this hold has either committed, or is refused when it looks at the hold again.
            let _commit_lock = match of_order {
                Some(true) => Some(switch.commit_lock.lock().await),
                _ => None,
            };
            self.lift_hold(switch, key, per_second, ending.clone())
        };
        let (mut info, mut recorded) = match lifted {
            // Another process may have placed one since this one looked at the store.
            Err(refusal) if refusal.code == Code::NotHeld => {
                let found = self.lift_unseen(switch, key, per_second, &ending).await;
                found.ok().flatten().ok_or(refusal)?
            }
            lifted => lifted?,
        };
        let deadline = Instant::now() + RECORD_TIME;
        loop {
            let was_kept = tokio::time::timeout_at(deadline, recorded).await;
            info.recorded = matches!(was_kept, Ok(Ok(_)));
            if was_kept != Ok(Ok(false)) {
                return Ok(info);
            }
            // Another process had ended that hold already, and may have placed a newer one of which this one did not know.
            match self.lift_unseen(switch, key, per_second, &ending).await {
                Ok(Some((_, next))) => recorded = next,
                Ok(None) => return Ok(info),
                Err(_) => {
                    info.recorded = false;
                    return Ok(info);
                }
            }
        }
    }

    /// Ends the hold of a key that another process has placed, if there is one.
    async fn lift_unseen(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        key: &Key,
        per_second: Option<u32>,
        ending: &Ending,
    ) -> Result<Option<(HoldInfo, oneshot::Receiver<bool>)>, StoreFault> {
        if switch.store_path().is_none() {
            return Ok(None);
        }
        self.follow_holds(switch).await?;
        let _reload_lock = self.reload_lock.read().await;
        let own = format!("{}/", owner::own());
        let hold = self.routing().tables.hold(switch.configured().number, key).cloned();
        let is_other = hold.and_then(|hold| self.holds.with(&hold, |held| !held.kept.id.starts_with(&own)));
        if switch.removed.get() || is_other != Some(true) {
            return Ok(None);
        }
        Ok(self.lift_hold(switch, key, per_second, ending.clone()).ok())
    }

    /// Ends a hold: the waiting requests use the published tables. Returns it as it was; the channel reports when its end is
    /// recorded, and whether it was kept until then.
    pub(super) fn lift_hold(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        key: &Key,
        per_second: Option<u32>,
        why: Ending,
    ) -> Result<(HoldInfo, oneshot::Receiver<bool>), Refusal> {
        let number = switch.configured().number;
        let hold = self.routing().tables.hold(number, key).cloned().ok_or_else(|| Refusal::not_held(key))?;
        let found = self.holds.with(&hold, |held| {
            let elsewhere = self.waiting_elsewhere(switch, &held.kept.id);
            (held.info(&switch.name(), elsewhere), held.kept.clone())
        });
        // Each published hold has one.
        let (info, kept) = found.ok_or_else(|| Refusal::not_held(key))?;
        let was_on = hold.release(self.clock_ms(), per_second);
        let tables = match hold.phase() {
            HoldPhase::Releasing => self.routing().tables.again(),
            _ => self.routing().tables.without_hold(number, key)?.0,
        };
        drop(self.publish(tables, None));
        if hold.phase() == HoldPhase::Released {
            self.holds.remove(&hold, &switch.own_holds);
        }
        self.holds.began.notify_one();
        self.count_holds();
        let expired = self.announce_end(switch, &info, was_on, per_second, &why);
        if !was_on {
            let (done, recorded) = oneshot::channel();
            let _ = done.send(true);
            return Ok((info, recorded));
        }
        switch.own_holds.end(&kept.id);
        Ok((info, self.record(switch, kept, |store, kept| store.remove_hold(kept), expired)))
    }

    /// Reports the end of a hold in the log and as an event. Returns what the journal is to keep of it once it is recorded.
    fn announce_end(
        &self,
        switch: &SwitchState,
        info: &HoldInfo,
        was_on: bool,
        per_second: Option<u32>,
        why: &Ending,
    ) -> Option<Occurrence> {
        let (key, waiting, name) = (info.key.to_string(), info.waiting, switch.name());
        let pace = per_second.map_or_else(String::new, |rate| format!(", {rate} a second"));
        let because =
            |reason: &Option<String>| reason.as_ref().map_or_else(String::new, |it| format!(" ({it})"));
        let (actor, reason) = match why {
            Ending::Released { actor, reason } => (actor.clone(), reason.clone()),
            Ending::Expired => (info.actor.clone(), Some("its time was over".to_owned())),
            Ending::Settled(Some(revision)) => (
                system(),
                Some(format!("the process of its order is gone; it was committed as revision {revision}")),
            ),
            Ending::Settled(None) => {
                (system(), Some("the process of its order is gone; it was not committed".to_owned()))
            }
            Ending::Ordered { actor, revision } => (actor.clone(), Some(format!("revision {revision}"))),
            Ending::Elsewhere => (system(), Some("another process has ended the hold".to_owned())),
        };
        let what = match (why, was_on) {
            (Ending::Expired, _) => format!("the hold of {key} by {actor} has expired: it is released{pace}"),
            (_, true) => format!("{key} is released by {actor}{pace}"),
            (_, false) => format!("{key} is released at another pace by {actor}{pace}"),
        };
        let shown = if matches!(why, Ending::Expired) { String::new() } else { because(&reason) };
        self.shared.log(Level::Notice, &format!("switch \"{name}\": {what}, {waiting} waiting{shown}"));
        match why {
            Ending::Expired => {
                let time_ms = clock::now_ms();
                self.shared.announce(
                    &name,
                    EventKind::HoldExpired { key: key.clone(), actor, releases: true, waiting },
                );
                Some(expiry(&name, info, time_ms, "release"))
            }
            // That process has it in the journal.
            Ending::Elsewhere => {
                let kind = EventKind::Released { key, actor, reason, waiting };
                self.shared.events.announce(clock::now_ms(), &name, kind);
                None
            }
            _ => {
                self.shared.announce(&name, EventKind::Released { key, actor, reason, waiting });
                None
            }
        }
    }

    /// Ends the time of a hold: its requests go on, or are turned away from now on.
    pub(super) fn expire(self: &Rc<ControlState>, switch: &Rc<SwitchState>, hold: &Arc<Hold>) {
        let found = self.holds.with(hold, |held| {
            held.kept.refusing = true;
            let elsewhere = self.waiting_elsewhere(switch, &held.kept.id);
            (held.info(&switch.name(), elsewhere), held.kept.clone())
        });
        let Some((info, kept)) = found else { return };
        if info.end.is_some_and(|end| end.releases) {
            drop(self.lift_hold(switch, hold.key(), None, Ending::Expired));
            return;
        }
        hold.refuse();
        drop(self.publish(self.routing().tables.again(), None));
        let (key, actor, waiting, name) =
            (info.key.to_string(), info.actor.clone(), info.waiting, switch.name());
        let text = format!(
            "switch \"{name}\": the hold of {key} by {actor} has expired, {waiting} waiting: its requests get 503 until it is released or a newer order leads the key elsewhere"
        );
        self.shared.log(Level::Warn, &text);
        self.shared.announce(&name, EventKind::HoldExpired { key, actor, releases: false, waiting });
        let occurrence = expiry(&name, &info, clock::now_ms(), "refuse");
        drop(self.record(switch, kept, |store, kept| store.note_refusing(kept), Some(occurrence)));
    }

    /// Ends the holds of a commit's keys that turn requests away: the order was for them.
    pub(super) fn end_refusals(self: &Rc<ControlState>, switch: &Rc<SwitchState>, commit: &Commit) {
        if self.holds.len() == 0 || matches!(commit.kind, CommitKind::Revert { .. }) {
            return;
        }
        let number = switch.configured().number;
        let ended = self.holds.filter_map(|held| {
            let of_key = held.hold.switch() == number
                && held.hold.phase() == HoldPhase::Refusing
                && commit.moves().any(|change| change.key == *held.hold.key());
            (of_key && !held.is_unsettled).then(|| held.hold.key().clone())
        });
        for key in ended {
            let why = Ending::Ordered { actor: commit.actor.clone(), revision: commit.revision };
            drop(self.lift_hold(switch, &key, None, why));
        }
    }

    /// Changes what is kept of a hold, and tries until that is done. What the journal is to keep of it is appended then,
    /// unless another process has made the change.
    pub(super) fn record(
        &self,
        switch: &Rc<SwitchState>,
        kept: KeptHold,
        change: Change,
        occurrence: Option<Occurrence>,
    ) -> oneshot::Receiver<bool> {
        let (done, recorded) = oneshot::channel();
        let (shared, switch) = (self.shared.clone(), switch.clone());
        tokio::task::spawn_local(async move {
            let mut pause = RETRY_PAUSES.0;
            while !switch.removed.get() {
                let asked = kept.clone();
                match switch.store.with(move |store| change(store, &asked)).await {
                    Ok(was_made) => {
                        if let Some(occurrence) = occurrence.filter(|_| was_made) {
                            shared.journal.append(occurrence);
                        }
                        // A receiver that has gone does not wait for it.
                        let _ = done.send(was_made);
                        return;
                    }
                    Err(fault) => {
                        let text = format!(
                            "switch \"{}\": the end of the hold of {} is in force and cannot be recorded, so that the next process would hold it again: {fault}",
                            switch.name(),
                            kept.key
                        );
                        if pause == RETRY_PAUSES.0 {
                            shared.log(Level::Error, &text);
                        }
                    }
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_PAUSES.1);
            }
        });
        recorded
    }

    /// Reports the number of holds that the next process would not have.
    pub(super) fn count_holds(&self) {
        let switches = self.switches.borrow();
        let lost = self.holds.filter_map(|held| {
            let is_kept =
                switches.get(held.hold.switch()).is_some_and(|switch| switch.store_path().is_some());
            let of_order = held.kept.order.as_ref().is_some_and(|order| order.owner == owner::own());
            (held.is_on() && (!is_kept || of_order)).then_some(())
        });
        self.data_plane().held(lost.len());
    }
}

/// Returns the actor of what no one ordered.
fn system() -> String {
    super::revert::SYSTEM_ACTOR.to_owned()
}

/// Returns how a hold ends by itself, in words.
fn terms_of_end(span_ms: u64, releases: bool) -> String {
    format!("for {} s, then {}", span_ms as f64 / 1000.0, if releases { "release" } else { "refuse" })
}

/// Returns what the journal keeps of a hold whose time is over.
fn expiry(switch: &Arc<str>, info: &HoldInfo, time_ms: u64, then: &str) -> Occurrence {
    Occurrence {
        time_ms,
        kind: "expire".into(),
        switch: Some(switch.to_string()),
        subject: Some(info.key.to_string()),
        actor: info.actor.clone(),
        reason: Some(
            info.reason.as_ref().map_or_else(|| then.to_owned(), |reason| format!("{then}; {reason}")),
        ),
        count: info.waiting as u64,
    }
}
