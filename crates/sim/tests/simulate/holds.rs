//! Requests that wait for a hold: they arrive, wait, give up, grow and go on, while holds are placed, released and published
//! in tables. Two clocks differ a little, as those of two threads do.

use std::sync::Arc;

use pointsman_sim::{Scenario, Seeded, explore, holds, tell};
use switch::{Hold, HoldLimits, HoldState, Key, KeyKind, Tables, Ticket};

#[test]
fn holds() {
    explore(&Scenario {
        name: "holds",
        invariants: &[
            "hold-bounded",
            "hold-counts",
            "hold-times-out",
            "hold-paced",
            "hold-releases",
            "hold-is-one",
        ],
        usual: 500,
        kept: &[],
        run: |seeded| World::new(seeded).run(),
    });
}

struct Waiting {
    ticket: Ticket,
    hold: usize,
    bytes: usize,
    since_ms: u64,
}

/// A hold, and the expectations of it.
struct Placed {
    hold: Arc<Hold>,
    key: Key,
    limits: HoldLimits,
    released: Option<(u64, Option<u32>)>,
    admitted: u64,
    /// When its requests went on after the release.
    gone_ms: Vec<u64>,
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
                60..75 => self.now_ms += self.seeded.within(0..=150),
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
                    released: None,
                    admitted: 0,
                    gone_ms: Vec::new(),
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
        let room = waiting < placed.limits.max && held + bytes <= placed.limits.max_bytes;
        let ticket = placed.hold.admit(bytes, now_ms);
        holds!(
            "hold-bounded",
            ticket.is_some() == room,
            "{waiting} and {held} bytes under {:?}",
            placed.limits
        );
        if let Some(ticket) = ticket {
            placed.admitted += 1;
            let by_ms = now_ms + placed.limits.timeout_ms;
            holds!(
                "hold-times-out",
                ticket.deadline_ms() == by_ms,
                "until {}, not {by_ms}",
                ticket.deadline_ms()
            );
            self.waiting.push(Waiting { ticket, hold: place, bytes, since_ms: now_ms });
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
            self.waiting.swap_remove(place);
        }
    }

    fn release(&mut self) {
        if self.holds.is_empty() {
            return;
        }
        let place = self.seeded.below(self.holds.len());
        let pace = self.seeded.chance(60).then(|| self.seeded.within(0..=50) as u32);
        let placed = &mut self.holds[place];
        let first = placed.hold.release(self.now_ms, pace);
        let is_held = self.tables.hold(0, &placed.key).is_some_and(|hold| Arc::ptr_eq(hold, &placed.hold));
        holds!("hold-releases", first == placed.released.is_none(), "a second release counts");
        if first {
            tell!("{} is released at {}, {pace:?} a second", placed.key, self.now_ms);
            placed.released = Some((self.now_ms, pace));
            holds!("hold-is-one", is_held, "{} was held, and is not in the tables", placed.key);
            let without = self.tables.without_hold(0, &placed.key);
            holds!("hold-is-one", without.is_ok(), "{} is held, and cannot be taken out", placed.key);
            self.tables = without.unwrap().0;
        }
    }

    fn poll(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let place = self.seeded.below(self.waiting.len());
        let now_ms = self.now_ms;
        let one = &mut self.waiting[place];
        let state = one.ticket.poll(now_ms);
        let placed = &mut self.holds[one.hold];
        let by_ms = one.since_ms + placed.limits.timeout_ms;
        tell!("{} since {} at {now_ms}: {state:?}", placed.key, one.since_ms);
        match (state, placed.released) {
            (HoldState::Wait, released) => {
                holds!("hold-releases", released.is_none(), "it is released, and a request waits on");
                holds!("hold-times-out", now_ms < by_ms, "it waits at {now_ms}, over {by_ms}");
                return;
            }
            (HoldState::WaitUntil(at_ms), released) => {
                holds!("hold-paced", released.is_some_and(|(_, pace)| pace.is_some()), "there is no pace");
                holds!(
                    "hold-paced",
                    at_ms > now_ms && at_ms <= by_ms,
                    "it is to wait until {at_ms}, {by_ms} at most"
                );
                return;
            }
            (HoldState::TimedOut, released) => {
                let late = now_ms >= by_ms && released.is_none_or(|(_, pace)| pace.is_some());
                holds!(
                    "hold-times-out",
                    late,
                    "it times out at {now_ms}, before {by_ms}, or released at once"
                );
            }
            (HoldState::Go, None) => pointsman_sim::violated("hold-releases", "nothing was released".into()),
            (HoldState::Go, Some((at_ms, pace))) => {
                placed.gone_ms.push(now_ms);
                let count = placed.gone_ms.len() as u64;
                // At no time more have left than the pace allows; a turn is rounded down to its millisecond.
                let most = pace
                    .map_or(u64::MAX, |pace| ((now_ms - at_ms + 1) * u64::from(pace.max(1))).div_ceil(1000));
                holds!(
                    "hold-paced",
                    count <= most,
                    "{count} have gone {} ms after, {most} may",
                    now_ms - at_ms
                );
            }
        }
        self.waiting.swap_remove(place);
    }

    fn check_counts(&self) {
        for (place, placed) in self.holds.iter().enumerate() {
            let own = || self.waiting.iter().filter(|one| one.hold == place);
            let expected = (own().count(), own().map(|one| one.bytes).sum::<usize>(), placed.admitted);
            let counted = (placed.hold.waiting(), placed.hold.bytes(), placed.hold.admitted());
            holds!("hold-counts", counted == expected, "{counted:?} are counted, and {expected:?} are there");
            let within = counted.0 <= placed.limits.max && counted.1 <= placed.limits.max_bytes;
            holds!("hold-bounded", within, "{counted:?} under {:?}", placed.limits);
        }
    }
}
