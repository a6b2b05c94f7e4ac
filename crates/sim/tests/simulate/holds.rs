//! Requests that wait for a hold: they arrive, wait, give up, grow and go on, while holds are placed, refuse, are released and
//! published in tables. Two clocks differ a little, as those of two threads do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use pointsman_sim::{Scenario, Seeded, explore, holds, tell};
use switch::{Hold, HoldLimits, HoldPhase, HoldState, Key, KeyKind, Tables, Ticket};

#[test]
fn holds() {
    explore(&Scenario {
        name: "holds",
        invariants: &[
            "hold-bounded",
            "hold-counts",
            "hold-times-out",
            "hold-paced",
            "hold-in-order",
            "hold-wakes",
            "hold-refuses",
            "hold-releases",
            "hold-is-one",
        ],
        usual: 500,
        kept: &[],
        run: |seeded| World::new(seeded).run(),
    });
}

/// A request. Those of a hold are kept in the order of their arrival.
struct Waiting {
    ticket: Ticket,
    hold: usize,
    bytes: usize,
    since_ms: u64,
    task: Arc<Task>,
    /// It was told to wait since it was last woken.
    sleeps: bool,
}

/// The task of a request.
#[derive(Default)]
struct Task(AtomicBool);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A hold, and the expectations of it.
struct Placed {
    hold: Arc<Hold>,
    key: Key,
    limits: HoldLimits,
    phase: HoldPhase,
    /// The last release that had a pace: when, and how many a second.
    paced: (u64, u32),
    admitted: u64,
    rejected: u64,
    /// The number of requests that went on since then.
    gone: u64,
}

struct World {
    seeded: Seeded,
    tables: Tables,
    holds: Vec<Placed>,
    waiting: Vec<Waiting>,
    now_ms: u64,
}

impl World {
    fn new(seeded: Seeded) -> World {
        World { seeded, tables: Tables::default(), holds: Vec::new(), waiting: Vec::new(), now_ms: 1_000 }
    }

    fn run(mut self) {
        for _ in 0..120 {
            match self.seeded.below(100) {
                0..8 => self.place(),
                8..40 => self.admit(),
                40..46 => self.grow(),
                46..52 => self.give_up(),
                52..60 => self.release(),
                60..63 => self.refuse(),
                63..75 => self.now_ms += self.seeded.within(0..=150),
                _ => self.poll(),
            }
            self.check_counts();
        }
        self.waiting.clear();
        for placed in &self.holds {
            let left = (placed.hold.waiting(), placed.hold.bytes());
            holds!("hold-counts", left == (0, 0), "{left:?} is left when no request waits");
        }
    }

    fn place(&mut self) {
        let text = ["a.example", "b.example", "*.example"][self.seeded.below(3)];
        let key = Key::parse(KeyKind::Host, text.as_bytes(), 64).unwrap();
        let limits = HoldLimits {
            max: self.seeded.within(0..=4) as usize,
            timeout_ms: self.seeded.within(0..=600),
            max_bytes: self.seeded.within(0..=100) as usize,
        };
        let hold = Hold::new(0, key.clone(), limits);
        let held = self.tables.hold(0, &key).is_some();
        match self.tables.with_hold(Arc::clone(&hold)) {
            Ok(tables) => {
                tell!("{text} is held: {limits:?}");
                holds!("hold-is-one", !held, "{text} is held twice");
                self.tables = tables;
                self.holds.push(Placed {
                    hold,
                    key,
                    limits,
                    phase: HoldPhase::Held,
                    paced: (0, 1),
                    admitted: 0,
                    rejected: 0,
                    gone: 0,
                });
            }
            Err(refusal) => holds!("hold-is-one", held, "{text} is not held, and refused: {refusal}"),
        }
    }

    fn admit(&mut self) {
        if self.holds.is_empty() {
            return;
        }
        let place = self.seeded.below(self.holds.len());
        let bytes = self.seeded.within(0..=40) as usize;
        let now_ms = self.now_ms;
        let placed = &mut self.holds[place];
        let (waiting, held) = (placed.hold.waiting(), placed.hold.bytes());
        let refuses = placed.phase == HoldPhase::Refusing;
        let room = waiting < placed.limits.max && held + bytes <= placed.limits.max_bytes && !refuses;
        let ticket = placed.hold.admit(bytes, now_ms);
        let invariant = if refuses { "hold-refuses" } else { "hold-bounded" };
        holds!(
            invariant,
            ticket.is_some() == room,
            "{waiting} and {held} bytes under {:?}, {:?}",
            placed.limits,
            placed.phase
        );
        placed.rejected += u64::from(!room);
        if let Some(ticket) = ticket {
            placed.admitted += 1;
            let by_ms = now_ms + placed.limits.timeout_ms;
            holds!(
                "hold-times-out",
                ticket.deadline_ms() == by_ms,
                "until {}, not {by_ms}",
                ticket.deadline_ms()
            );
            let task = Arc::default();
            self.waiting.push(Waiting { ticket, hold: place, bytes, since_ms: now_ms, task, sleeps: false });
        }
    }

    fn grow(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let place = self.seeded.below(self.waiting.len());
        let more = self.seeded.within(0..=50) as usize;
        let one = &mut self.waiting[place];
        let placed = &self.holds[one.hold];
        let room = placed.hold.bytes() + more <= placed.limits.max_bytes;
        let grew = one.ticket.grow(more);
        holds!("hold-bounded", grew == room, "{more} more under {:?}: {grew}", placed.limits);
        if grew {
            one.bytes += more;
        }
    }

    fn give_up(&mut self) {
        if !self.waiting.is_empty() {
            let place = self.seeded.below(self.waiting.len());
            self.leave(place);
        }
    }

    /// Takes a request away. In a paced release, the one behind the first is woken.
    fn leave(&mut self, place: usize) {
        let one = self.waiting.remove(place);
        let hold = one.hold;
        let was_first = self.waiting[..place].iter().all(|other| other.hold != hold);
        drop(one);
        let next = self.waiting.iter().find(|other| other.hold == hold);
        let placed = &mut self.holds[hold];
        if placed.phase != HoldPhase::Releasing {
            return;
        }
        match next {
            Some(next) if was_first && next.sleeps => {
                let woken = next.task.0.load(Ordering::Relaxed);
                holds!("hold-wakes", woken, "{}: the next one sleeps on", placed.key);
            }
            Some(_) => {}
            None => placed.phase = HoldPhase::Released,
        }
    }

    fn release(&mut self) {
        if self.holds.is_empty() {
            return;
        }
        let place = self.seeded.below(self.holds.len());
        let pace = self.seeded.chance(60).then(|| self.seeded.within(0..=50) as u32);
        let waits = self.waiting.iter().any(|one| one.hold == place);
        let placed = &mut self.holds[place];
        let is_first = placed.hold.release(self.now_ms, pace);
        let was_held = matches!(placed.phase, HoldPhase::Held | HoldPhase::Refusing);
        let is_held = self.tables.hold(0, &placed.key).is_some_and(|hold| Arc::ptr_eq(hold, &placed.hold));
        holds!("hold-releases", is_first == was_held, "{:?}, and the first: {is_first}", placed.phase);
        if placed.phase == HoldPhase::Released {
            return;
        }
        tell!("{} is released at {}, {pace:?} a second", placed.key, self.now_ms);
        placed.phase = if pace.is_some() && waits { HoldPhase::Releasing } else { HoldPhase::Released };
        (placed.paced, placed.gone) = ((self.now_ms, pace.unwrap_or(1).max(1)), 0);
        if is_first {
            holds!("hold-is-one", is_held, "{} was held, and is not in the tables", placed.key);
            let without = self.tables.without_hold(0, &placed.key);
            holds!("hold-is-one", without.is_ok(), "{} is held, and cannot be taken out", placed.key);
            self.tables = without.unwrap().0;
        }
        self.publish(place);
    }

    fn refuse(&mut self) {
        if self.holds.is_empty() {
            return;
        }
        let place = self.seeded.below(self.holds.len());
        let placed = &mut self.holds[place];
        placed.hold.refuse();
        if placed.phase == HoldPhase::Held {
            tell!("{} refuses from {} on", placed.key, self.now_ms);
            placed.phase = HoldPhase::Refusing;
        }
        self.publish(place);
    }

    /// A publication wakes every request.
    fn publish(&mut self, hold: usize) {
        self.waiting.iter_mut().filter(|one| one.hold == hold).for_each(|one| one.sleeps = false);
    }

    fn poll(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let place = self.seeded.below(self.waiting.len());
        let now_ms = self.now_ms;
        let (before, rest) = self.waiting.split_at_mut(place);
        let one = &mut rest[0];
        let is_first = before.iter().all(|other| other.hold != one.hold);
        one.task.0.store(false, Ordering::Relaxed);
        let state = one.ticket.poll(now_ms, &Waker::from(one.task.clone()));
        one.sleeps = state == HoldState::Wait;
        let placed = &mut self.holds[one.hold];
        let by_ms = one.since_ms + placed.limits.timeout_ms;
        tell!("{} since {} at {now_ms}: {state:?}", placed.key, one.since_ms);
        match (state, placed.phase) {
            (HoldState::Wait, phase) => {
                let may = phase == HoldPhase::Held || (phase == HoldPhase::Releasing && !is_first);
                holds!("hold-releases", may, "a request waits on: {phase:?}, it is first: {is_first}");
                holds!("hold-times-out", now_ms < by_ms, "it waits at {now_ms}, over {by_ms}");
                return;
            }
            (HoldState::WaitUntil(at_ms), phase) => {
                holds!("hold-in-order", is_first, "its turn is at {at_ms}, and others came before it");
                let is_paced = phase == HoldPhase::Releasing && at_ms > now_ms && at_ms <= by_ms;
                holds!("hold-paced", is_paced, "{phase:?}: it is to wait until {at_ms}, {by_ms} at most");
                return;
            }
            (HoldState::TimedOut, phase) => {
                let late = now_ms >= by_ms && phase != HoldPhase::Released;
                let may = late || phase == HoldPhase::Refusing;
                holds!("hold-times-out", may, "{phase:?}: it times out at {now_ms}, before {by_ms}");
                placed.rejected += 1;
            }
            (HoldState::Go, HoldPhase::Released) => {}
            (HoldState::Go, HoldPhase::Releasing) => {
                holds!("hold-in-order", is_first, "it goes on before others that came earlier");
                placed.gone += 1;
                let ((at_ms, pace), count) = (placed.paced, placed.gone);
                // At no time more have left than the pace allows; a turn is rounded down to its millisecond.
                let most = ((now_ms - at_ms + 1) * u64::from(pace)).div_ceil(1000);
                holds!(
                    "hold-paced",
                    count <= most,
                    "{count} have gone {} ms after, {most} may",
                    now_ms - at_ms
                );
            }
            (HoldState::Go, phase) => {
                let invariant = if phase == HoldPhase::Refusing { "hold-refuses" } else { "hold-releases" };
                pointsman_sim::violated(invariant, format!("it goes on: {phase:?}"));
            }
        }
        self.leave(place);
    }

    fn check_counts(&self) {
        for (place, placed) in self.holds.iter().enumerate() {
            let own = || self.waiting.iter().filter(|one| one.hold == place);
            let expected = (own().count(), own().map(|one| one.bytes).sum::<usize>(), placed.admitted);
            let counted = (placed.hold.waiting(), placed.hold.bytes(), placed.hold.admitted());
            holds!("hold-counts", counted == expected, "{counted:?} are counted, and {expected:?} are there");
            let rejected = placed.hold.rejected();
            holds!("hold-counts", rejected == placed.rejected, "{rejected}, not {}", placed.rejected);
            let phase = placed.hold.phase();
            holds!("hold-releases", phase == placed.phase, "{phase:?}, not {:?}", placed.phase);
            let within = counted.0 <= placed.limits.max && counted.1 <= placed.limits.max_bytes;
            holds!("hold-bounded", within, "{counted:?} under {:?}", placed.limits);
        }
    }
}
