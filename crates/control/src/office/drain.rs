//! What becomes of the requests after a switch, until the old side is empty.
//!
//! Owns: the receipts of commits that are still followed, and the policy for streams. Must never: change a table.

use super::desk::Desk;
use super::room::Room;
use crate::event::EventKind;
use crate::order::Wait;
use crate::receipt::{Drain, DrainState, Receipt, WorkerAck};
use crate::traffic::{Acknowledgement, Watch, WatchReport};
use engine::host::Level;
use engine::modules::switch::StreamsPolicy;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use switch::Refusal;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

/// Most commits that are followed at a time: each costs the workers a look at every request.
const MAX_FOLLOWED: usize = 32;
/// How long requests on the old side are looked after.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a drained switch is followed for its first request on the new side.
const LINGER: Duration = Duration::from_secs(10);
/// How long at least, to see whether requests fail there.
const LINGER_AT_LEAST: Duration = Duration::from_secs(1);
/// The first and the longest pause between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// How far things are.
struct Progress {
    receipt: Receipt,
    /// All workers have acknowledged, or will not.
    published: bool,
    /// Nothing is left to wait for.
    drained: bool,
}

/// A commit that is followed.
pub(super) struct Following {
    switch: Arc<str>,
    revision: u64,
    committed: Instant,
    watch: Option<Arc<Watch>>,
    streams: StreamsPolicy,
    progress: watch::Sender<Progress>,
    /// Somebody else needs the place.
    given_up: Cell<bool>,
    give_up: Notify,
}

impl Following {
    /// Begins to follow a commit that was just published.
    pub(super) fn begin(
        room: &Rc<Room>,
        desk: &Rc<Desk>,
        mut receipt: Receipt,
        committed: Instant,
        watch: Option<Arc<Watch>>,
        acknowledgements: mpsc::UnboundedReceiver<Acknowledgement>,
    ) -> Rc<Following> {
        receipt.drain = watch.as_ref().map(|_| Drain::default());
        let following = Rc::new(Following {
            switch: desk.name(),
            revision: receipt.revision,
            committed,
            streams: desk.place().spec().streams,
            progress: watch::Sender::new(Progress { receipt, published: false, drained: watch.is_none() }),
            watch,
            given_up: Cell::new(false),
            give_up: Notify::new(),
        });
        let mut followed = room.drains.borrow_mut();
        if followed.len() >= MAX_FOLLOWED {
            let place = followed.iter().position(|one| one.is_drained()).unwrap_or(0);
            followed.remove(place).give_way();
        }
        followed.push(following.clone());
        drop(followed);
        tokio::task::spawn_local(follow(room.clone(), desk.clone(), following.clone(), acknowledgements));
        following
    }

    /// The receipt when what is waited for has happened, or as it is when the time has passed.
    pub(super) async fn wait(&self, wait: Wait, timeout: Duration) -> Receipt {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|now| match wait {
            Wait::None => true,
            Wait::Published => now.published,
            Wait::Drained => now.published && now.drained,
        });
        // Whether it was reached is what the receipt tells.
        let _ = tokio::time::timeout(timeout, reached).await;
        self.receipt()
    }

    pub(super) fn receipt(&self) -> Receipt {
        self.progress.borrow().receipt.clone()
    }

    /// Puts what the hold did into the receipt.
    pub(super) fn set_hold(&self, held: crate::receipt::Held) {
        self.progress.send_modify(|now| now.receipt.hold = Some(held));
    }

    fn is_drained(&self) -> bool {
        self.progress.borrow().drained
    }

    fn give_way(&self) {
        self.given_up.set(true);
        self.give_up.notify_one();
    }

    fn after_us(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.committed).as_micros() as u64
    }

    fn acknowledged(&self, acknowledgement: Acknowledgement) {
        let ack = WorkerAck {
            worker: acknowledgement.worker,
            after_us: self.after_us(acknowledgement.at.into()),
            in_flight_old: acknowledgement.in_flight_old,
        };
        self.progress.send_modify(|now| {
            now.receipt.workers.push(ack);
            // Until somebody has looked again, what was under way when a worker took over is all that is known.
            if let Some(drain) = now.receipt.drain.as_mut().filter(|drain| drain.seen_us == 0) {
                drain.in_flight += ack.in_flight_old as u64;
            }
        });
    }

    /// Takes the workers' reports together. Says whether the old side is empty; not if a worker is missing.
    fn reported(&self, reports: &[WatchReport], workers: usize) -> bool {
        let sum = |count: fn(&WatchReport) -> u64| reports.iter().map(count).sum();
        let mut drain = Drain {
            state: DrainState::Draining,
            seen_us: self.after_us(Instant::now()),
            first_new_us: reports
                .iter()
                .filter_map(|one| one.first_new)
                .min()
                .map(|at| self.after_us(at.into())),
            last_old_us: reports
                .iter()
                .filter_map(|one| one.last_old)
                .max()
                .map(|at| self.after_us(at.into())),
            in_flight: sum(|one| one.in_flight),
            streams: sum(|one| one.streams),
            served_new: sum(|one| one.served_new),
            failed_new: sum(|one| one.failed_new),
            failed_old: sum(|one| one.failed_old),
        };
        let keeps = self.streams == StreamsPolicy::Keep;
        let empty = reports.len() >= workers && drain.in_flight == 0 && (keeps || drain.streams == 0);
        if empty || self.is_drained() {
            drain.state = DrainState::Drained;
        }
        self.progress.send_modify(|now| {
            now.receipt.drain = Some(drain);
            now.drained |= empty;
        });
        empty
    }

    fn first_new(&self) -> Option<u64> {
        self.progress.borrow().receipt.drain.and_then(|drain| drain.first_new_us)
    }
}

impl Room {
    /// The drains of a switch that are not over.
    pub(super) fn draining(&self, desk: &Desk) -> Vec<(u64, Drain)> {
        let name = desk.name();
        let drains = self.drains.borrow();
        let of_desk = drains.iter().filter(|one| one.switch == name && !one.is_drained());
        of_desk.filter_map(|one| Some((one.revision, one.receipt().drain?))).collect()
    }

    /// The receipt of a commit: of one that is followed as it is now, else as it was kept, else what the history says.
    pub(super) async fn receipt(&self, desk: &Desk, revision: u64) -> Result<Receipt, Refusal> {
        let name = desk.name();
        let live =
            self.drains.borrow().iter().find(|one| one.switch == name && one.revision == revision).cloned();
        if let Some(live) = live {
            return Ok(live.receipt());
        }
        let (kept, commit) = desk
            .store
            .with(move |store| Ok((store.receipt(revision)?, switch::commit_at(store, revision)?)))
            .await?;
        let commit = commit.ok_or_else(|| Refusal::unknown_revision(revision))?;
        let kept = kept.and_then(|text| serde_json::from_str(&text).ok());
        Ok(kept.unwrap_or_else(|| Receipt::of_commit(&name, &commit)))
    }

    /// Tells listeners that a drain is over, and keeps the receipt as it is then; it may still learn something.
    fn tell_drained(&self, desk: &Desk, following: &Following) {
        self.office.announce(&following.switch, EventKind::Drained(Arc::new(following.receipt())));
        self.keep_receipt(desk, following);
    }

    fn keep_receipt(&self, desk: &Desk, following: &Following) {
        let (revision, receipt) = (following.revision, following.receipt());
        if let Ok(text) = serde_json::to_string(&receipt) {
            desk.store.tell(move |store| store.keep_receipt(revision, text));
        }
    }
}

async fn follow(
    room: Rc<Room>,
    desk: Rc<Desk>,
    following: Rc<Following>,
    mut acknowledgements: mpsc::UnboundedReceiver<Acknowledgement>,
) {
    let workers = room.traffic().threads();
    let deadline = Instant::now() + super::room::PATIENCE;
    let mut missing = workers;
    while missing > 0
        && let Ok(Some(one)) = tokio::time::timeout_at(deadline, acknowledgements.recv()).await
    {
        following.acknowledged(one);
        missing -= 1;
    }
    if missing > 0 {
        let text = format!(
            "switch \"{}\": {missing} of {workers} workers have not acknowledged revision {}",
            following.switch, following.revision
        );
        room.office.log(Level::Alert, &text);
    }
    following.progress.send_modify(|now| now.published = true);
    if let Some(watch) = &following.watch {
        look_after(&room, &desk, &following, watch.id, workers).await;
        room.traffic().forget_watch(watch.id);
    }
    room.keep_receipt(&desk, &following);
    room.drains.borrow_mut().retain(|one| !Rc::ptr_eq(one, &following));
}

/// The policy for streams at work.
struct Closing {
    policy: StreamsPolicy,
    /// They were told to go one after another.
    begun: bool,
}

impl Closing {
    /// When all of them shall be gone.
    fn deadline(&self) -> Option<Duration> {
        match self.policy {
            StreamsPolicy::Keep => None,
            StreamsPolicy::CloseAfter { ms } | StreamsPolicy::CloseSpread { ms } => {
                Some(Duration::from_millis(ms))
            }
        }
    }

    /// Does what is due at this age of the commit. Streams that began late, out of a request that was under way, are
    /// closed when they are seen.
    fn act(&mut self, room: &Room, id: u64, age: Duration, streams: u64) {
        if let StreamsPolicy::CloseSpread { ms } = self.policy
            && !self.begun
        {
            room.traffic().close_streams(id, ms);
            self.begun = true;
        } else if streams > 0 && self.deadline().is_some_and(|deadline| age >= deadline) {
            room.traffic().close_streams(id, 0);
        }
    }
}

/// Looks again and again until the old side is empty and the new one has shown itself.
async fn look_after(room: &Rc<Room>, desk: &Desk, following: &Following, id: u64, workers: usize) {
    let mut pause = PAUSES.0;
    let mut closing = Closing { policy: following.streams, begun: false };
    let mut drained: Option<Instant> = None;
    while !following.given_up.get() {
        let reports = room.gather(|traffic, reply| traffic.watched(id, reply)).await;
        if following.reported(&reports, workers) && drained.is_none() {
            drained = Some(Instant::now());
            room.tell_drained(desk, following);
        }
        let age = following.committed.elapsed();
        closing.act(room, id, age, reports.iter().map(|report| report.streams).sum());
        let seen = following.first_new().is_some() && age >= LINGER_AT_LEAST;
        match drained {
            Some(since) if seen || since.elapsed() >= LINGER => return,
            None if age >= PATIENCE => break,
            _ => {}
        }
        let until_deadline = closing.deadline().map(|deadline| deadline.saturating_sub(age));
        let next = match until_deadline.filter(|left| !left.is_zero()) {
            Some(left) => pause.min(left),
            None => pause,
        };
        pause = (pause * 2).min(PAUSES.1);
        // Whether the pause was over or the place is needed is seen above.
        let _ = tokio::time::timeout(next, following.give_up.notified()).await;
    }
    if drained.is_none() {
        if closing.deadline().is_some() {
            room.traffic().close_streams(id, 0);
        }
        following.progress.send_modify(|now| {
            if let Some(drain) = &mut now.receipt.drain {
                drain.state = DrainState::GivenUp;
            }
            now.drained = true;
        });
        room.tell_drained(desk, following);
    }
}
