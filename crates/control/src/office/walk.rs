//! How a commit comes about: plan, gate, plan again, keep, publish, follow.
//!
//! Owns: that order of things, and that what is published is what the store says. Must never: publish what is not
//! durable, or let two commits of one switch be made at a time.
//!
//! The gate is asked before the slot is taken, since it may take seconds; the plan is made again in the slot, where
//! nothing can change any more.

use super::desk::Desk;
use super::drain::Following;
use super::now_ms;
use super::room::Room;
use crate::event::EventKind;
use crate::gate;
use crate::order::{Options, Wait};
use crate::receipt::{GateResult, Outcome, Receipt};
use crate::traffic::Watch;
use engine::host::Level;
use engine::modules::switch::StatePath;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use switch::{
    Action, Code, Commit, Key, KeyKind, Meta, Order, Plan, Refusal, Route, Shape, StoreFaultKind, Table,
};
use tokio::time::Instant;

/// The longest wait where an order names none.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a store's log is looked at, to see whether another process has written to it, as the two of a binary upgrade
/// may: while there may be one, and otherwise. One that begins has opened the store some time before it takes orders.
const OTHERS_NEAR: Duration = Duration::from_millis(25);
const OTHERS_FAR: Duration = Duration::from_millis(250);
/// How often the store itself is asked, whatever its log looks like.
const ASKED_ANYWAY: Duration = Duration::from_secs(1);
/// How long the store is asked after its log has changed: what is written there is a commit only when it is synced.
/// Shorter than what the store's thread waits for its chores.
const BEING_SYNCED: Duration = Duration::from_millis(300);
/// How long another process may be there after this one has begun, or after it was last seen.
const NEAR: Duration = Duration::from_secs(120);

/// What became of an order in the slot.
pub(super) enum Made {
    /// It is committed and published.
    Committed(Rc<Following>),
    /// Everything is so already.
    Unchanged,
    /// It was committed before, under the same idempotency key.
    Repeated(Commit),
    /// Meanwhile it leads to targets that the gate was not asked about.
    Elsewhere(Plan),
}

/// A commit that is durable, and what it did.
struct Kept {
    commit: Commit,
    before: Arc<Table>,
    at: Instant,
}

impl Room {
    /// The whole walk. See [`crate::Office::order`].
    pub(super) async fn order(
        self: &Rc<Room>,
        desk: &Rc<Desk>,
        order: Order,
        options: Options,
    ) -> Result<Receipt, Refusal> {
        let _in_line = desk.queue()?;
        if !options.dry_run
            && let Some(commit) = self.repeated(desk, &order).await?
        {
            return self.repeated_receipt(desk, &commit).await;
        }
        self.catch_up(desk).await?;
        let planned = desk.plan(&order, now_ms());
        // The same order may have been committed since it was looked for: it is answered as that, not as one that finds
        // everything done already or something in its way.
        if !options.dry_run
            && planned.as_ref().map_or(true, |plan| plan.unchanged)
            && let Some(commit) = self.repeated(desk, &order).await?
        {
            return self.repeated_receipt(desk, &commit).await;
        }
        let mut plan = planned?;
        let timeout = options.timeout.unwrap_or(TIMEOUT);
        loop {
            if plan.unchanged {
                return Ok(self.unchanged(desk, &order));
            }
            let gate = self.gate(desk, &plan, &order, options.dry_run).await?;
            if options.dry_run {
                return Ok(self.rehearse(desk, &plan, &order, gate).await);
            }
            let made = match &options.hold {
                Some(hold) => self.hold_and_commit(desk, &order, &plan, &gate, hold, timeout).await?,
                None => self.commit(desk, &order, &gate).await?,
            };
            match made {
                Made::Committed(following) => return Ok(following.wait(options.wait, timeout).await),
                Made::Unchanged => return Ok(self.unchanged(desk, &order)),
                Made::Repeated(commit) => return self.repeated_receipt(desk, &commit).await,
                Made::Elsewhere(next) => plan = next,
            }
        }
    }

    /// An order from a script.
    pub(super) async fn set_from_script(
        self: &Rc<Room>,
        desk: &Rc<Desk>,
        key: &[u8],
        target: Option<&[u8]>,
        actor: String,
    ) -> Result<u64, Refusal> {
        let rules = desk.rules();
        let key =
            Key::parse(rules.kind, key, rules.max_key_len).map_err(|fault| Refusal::bad_key(key, fault))?;
        if !is_for_scripts(rules.kind, &key) {
            return Err(Refusal::new(
                Code::BadKey,
                format!("a script cannot switch \"{key}\""),
                "a script's keys often come from its clients: they are no wildcards, and hosts are of letters, digits, dots and hyphens; switch others by command",
            ));
        }
        let route = target.map(|text| {
            let text = String::from_utf8_lossy(text);
            Route::parse(&text).map_err(|fault| Refusal::bad_route(&text, &fault))
        });
        let action = Action::Set(vec![(key, route.transpose()?)]);
        let order = Order { action, meta: Meta { actor, ..Meta::default() } };
        let options = Options { wait: Wait::Published, ..Options::default() };
        Ok(self.order(desk, order, options).await?.revision)
    }

    /// Makes the commit and publishes it.
    pub(super) async fn commit(
        self: &Rc<Room>,
        desk: &Rc<Desk>,
        order: &Order,
        gate: &[GateResult],
    ) -> Result<Made, Refusal> {
        let _door = self.door.read().await;
        let _slot = desk.slot.lock().await;
        desk.in_office()?;
        loop {
            if let Some(commit) = self.repeated(desk, order).await? {
                return Ok(Made::Repeated(commit));
            }
            let now_ms = now_ms();
            let plan = match desk.plan(order, now_ms) {
                // What this process has published may not be the last word.
                Ok(Plan { unchanged: true, .. }) | Err(_) if self.hear_others(desk).await? => continue,
                Ok(Plan { unchanged: true, .. }) => return Ok(Made::Unchanged),
                planned => planned?,
            };
            let asked = |target: &Arc<str>| gate.iter().any(|result| *result.target == **target);
            if is_gated(desk, &plan) && !plan.targets.iter().all(asked) {
                return Ok(Made::Elsewhere(plan));
            }
            let notes = gate.iter().flat_map(gate::notes).collect();
            let commit = plan.commit(desk.position().hash, now_ms, notes);
            if let Some(kept) = self.keep(desk, commit).await? {
                return Ok(Made::Committed(self.publish_commit(desk, kept, gate)));
            }
            // Another process was faster: what it did is published, and the order is held against that.
        }
    }

    /// Keeps a commit, and takes over what the store says then. `None` if another process has committed first.
    async fn keep(self: &Rc<Room>, desk: &Rc<Desk>, commit: Commit) -> Result<Option<Kept>, Refusal> {
        let revision = desk.table().revision();
        let work = move |store: &mut dyn crate::store::Keep| {
            let kept = store.commit(&commit);
            let at = Instant::now();
            let news = store.since(revision);
            Ok((commit, kept, at, news))
        };
        let (commit, kept, at, news) = desk.store.with(work).await?;
        let news = match (&kept, news) {
            (_, Ok(news)) => news,
            // It is durable: if the store cannot be read just now, that is no reason not to follow it.
            (Ok(()), Err(_)) => vec![commit.clone()],
            (Err(_), Err(_)) => Vec::new(),
        };
        let is_there = news.iter().any(|one| one.hash == commit.hash);
        if let Err(fault) = &kept
            && !is_there
        {
            if fault.kind != StoreFaultKind::Conflict || news.is_empty() {
                self.store_failed(desk, fault);
                return Err(fault.clone().into());
            }
            self.take_over(desk, &news)?;
            return Ok(None);
        }
        let before = desk.advance(&news).inspect_err(|fault| self.store_failed(desk, fault))?;
        *desk.fault.borrow_mut() = None;
        Ok(Some(Kept { commit, before, at }))
    }

    /// Publishes what another process has committed and this one has not heard of yet. An order is held against what
    /// the store says: held against less, it might be found to be carried out already when it is not.
    pub(super) async fn catch_up(self: &Rc<Room>, desk: &Rc<Desk>) -> Result<(), Refusal> {
        if desk.news().await?.is_empty() {
            return Ok(());
        }
        let _door = self.door.read().await;
        let _slot = desk.slot.lock().await;
        self.hear_others(desk).await.map(drop)
    }

    /// The same for whoever has the slot. Answers whether there was something.
    async fn hear_others(self: &Rc<Room>, desk: &Rc<Desk>) -> Result<bool, Refusal> {
        let news = desk.news().await?;
        if news.is_empty() {
            return Ok(false);
        }
        self.take_over(desk, &news)?;
        Ok(true)
    }

    /// Publishes what another process has committed.
    fn take_over(self: &Rc<Room>, desk: &Rc<Desk>, news: &[Commit]) -> Result<(), Refusal> {
        desk.advance(news).inspect_err(|fault| self.store_failed(desk, fault))?;
        drop(self.publish(self.tables().with_table(desk.place().number, desk.table()), None));
        for commit in news {
            self.announce_commit(&desk.name(), commit);
        }
        Ok(())
    }

    fn publish_commit(self: &Rc<Room>, desk: &Rc<Desk>, kept: Kept, gate: &[GateResult]) -> Rc<Following> {
        let Kept { commit, before, at } = kept;
        let place = desk.place();
        let after = desk.table();
        let watch = (!commit.changes.is_empty()).then(|| {
            Arc::new(Watch {
                id: self.next_watch(),
                switch: place.number,
                before,
                after: after.clone(),
                changes: commit.changes.iter().map(|change| change.key.clone()).collect(),
            })
        });
        let acknowledgements = self.publish(self.tables().with_table(place.number, after), watch.clone());
        self.announce_commit(&desk.name(), &commit);
        let mut receipt = Receipt::of_commit(&desk.name(), &commit);
        receipt.gate = gate.to_vec();
        receipt.workers_asked = self.traffic().threads();
        Following::begin(self, desk, receipt, at, watch, acknowledgements)
    }

    /// Tells the log and the listeners.
    pub(super) fn announce_commit(&self, switch: &Arc<str>, commit: &Commit) {
        let receipt = Receipt::of_commit(switch, commit);
        self.office.log(Level::Notice, &receipt.line());
        let kind = EventKind::Committed {
            revision: commit.revision,
            kind: commit.kind.name(),
            actor: commit.actor.clone(),
            reason: commit.reason.clone(),
            changes: receipt.changes,
            confirm_by_ms: commit.confirm_by_ms,
        };
        self.office.announce(switch, kind);
    }

    /// The commit that this very order made earlier.
    async fn repeated(&self, desk: &Desk, order: &Order) -> Result<Option<Commit>, Refusal> {
        let Some(name) = order.meta.idempotency.clone() else { return Ok(None) };
        let asked = name.clone();
        match desk.store.with(move |store| store.commit_by_idempotency(&asked)).await? {
            Some(commit) if !order.may_have_made(&commit) => {
                Err(Refusal::idempotency_reused(&name, commit.revision))
            }
            found => Ok(found),
        }
    }

    pub(super) async fn repeated_receipt(&self, desk: &Desk, commit: &Commit) -> Result<Receipt, Refusal> {
        let receipt = self.receipt(desk, commit.revision).await?;
        Ok(Receipt { outcome: Outcome::Repeated, ..receipt })
    }

    fn unchanged(&self, desk: &Desk, order: &Order) -> Receipt {
        Receipt {
            switch: desk.name().to_string(),
            revision: desk.table().revision(),
            kind: "set".to_owned(),
            actor: order.meta.actor.clone(),
            reason: order.meta.reason.clone(),
            outcome: Outcome::Unchanged,
            ..Receipt::default()
        }
    }

    /// Asks the gate. A rehearsal gets what it found; an order gets it if it may go on.
    async fn gate(
        &self,
        desk: &Desk,
        plan: &Plan,
        order: &Order,
        rehearsal: bool,
    ) -> Result<Vec<GateResult>, Refusal> {
        if !is_gated(desk, plan) {
            return Ok(Vec::new());
        }
        let place = desk.place();
        let Some(spec) = &place.spec().gate else { return Ok(Vec::new()) };
        let marks = self.peers().await;
        let results = gate::ask(&place.config, spec, &plan.targets, &marks).await;
        if rehearsal {
            return Ok(results);
        }
        let passed = order.meta.force || results.iter().all(|result| result.passed);
        let actor = order.meta.actor.clone();
        self.office.announce(&desk.name(), EventKind::Gate { passed, actor, results: results.clone() });
        if passed { Ok(results) } else { Err(gate::refusal(&results)) }
    }
}

/// Whether the gate has a say: not when somebody confirms, and not when a switch goes back by itself; that would leave
/// traffic where nobody has said it is well.
fn is_gated(desk: &Desk, plan: &Plan) -> bool {
    let settles = matches!(plan.kind, switch::CommitKind::Confirm { .. } | switch::CommitKind::Revert { .. });
    !settles && desk.place().spec().gate.is_some()
}

/// Publishes what other processes commit to the same store. One that opens it writes there too: so both know.
pub(super) async fn follow_others(room: Weak<Room>, desk: Weak<Desk>) {
    let (mut seen, mut asked, mut written) = (Instant::now(), Instant::now(), Instant::now());
    let (mut stamp, mut behind) = (None, false);
    loop {
        let near = seen.elapsed() < NEAR;
        tokio::time::sleep(if near { OTHERS_NEAR } else { OTHERS_FAR }).await;
        let (Some(room), Some(desk)) = (room.upgrade(), desk.upgrade()) else { return };
        if desk.retired.get() {
            return;
        }
        // The store is left in peace unless its log has changed; what a clock is too coarse for is found a little later.
        let now = log_stamp(&desk);
        if std::mem::replace(&mut stamp, now) != now {
            written = Instant::now();
        }
        if written.elapsed() > BEING_SYNCED && asked.elapsed() < ASKED_ANYWAY {
            continue;
        }
        asked = Instant::now();
        if let Ok(true) = desk.store.with(|store| store.moved_on()).await {
            seen = Instant::now();
            behind = true;
        }
        if behind {
            // The store says once that it has moved on. What could not be read then is read a second later; the fault
            // is told by the next order.
            behind = room.catch_up(&desk).await.is_err();
        }
    }
}

/// What changes when somebody writes to a switch's store: when its write-ahead log was written, and how long it is.
fn log_stamp(desk: &Desk) -> Option<(SystemTime, u64)> {
    let place = desk.place();
    let StatePath::File(path) = &place.spec().state else { return None };
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let found = std::fs::metadata(log).ok()?;
    Some((found.modified().ok()?, found.len()))
}

/// May a script order this key? What it orders is often what a client has sent: a `Host: *` must not move everybody,
/// and one that is called like a script's own figure (with an underscore, which no host name has; RFC 1123 section 2.1)
/// must not take its place.
fn is_for_scripts(kind: KeyKind, key: &Key) -> bool {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    key.shape() == Shape::Exact && (kind != KeyKind::Host || key.as_str().bytes().all(is_host))
}
