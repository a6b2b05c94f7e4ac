//! The answers that are held.
//!
//! Owns at most a given number of names, whatever is asked for: names come from clients. Must never read the clock, or
//! answer with what has expired.

use super::message::Answer;
use super::random::Random;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;
use tokio::time::Instant;

/// The answer for a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A host with addresses.
    Addresses(Addresses),
    /// Another name for this one.
    Alias(Box<[u8]>),
}

impl Found {
    /// Combines two answers; `None` if they are empty. A name has addresses of its own or is an alias.
    pub(super) fn new(v4: Answer, v6: Answer) -> Option<Found> {
        let mut all = v4.addresses;
        let v4_count = all.len();
        all.extend(v6.addresses);
        if all.is_empty() {
            return v4.alias.or(v6.alias).map(|name| Found::Alias(name.into()));
        }
        Some(Found::Addresses(Addresses { all: all.into(), v4_count }))
    }
}

/// A host's addresses: those of IPv4 before those of IPv6.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    all: Box<[IpAddr]>,
    v4_count: usize,
}

impl Addresses {
    /// Returns all, in the order of the answers.
    pub(super) fn in_order(&self) -> Vec<IpAddr> {
        self.all.to_vec()
    }

    /// Returns all, from a random place on, and each family from a random place of its own on. So does nginx share out what
    /// it holds.
    pub(super) fn rotated(&self, random: &Random) -> Vec<IpAddr> {
        let mut all = self.in_order();
        if all.len() > 1 {
            let (v4, v6) = all.split_at_mut(self.v4_count.min(self.all.len()));
            for family in [v4, v6] {
                family.rotate_left(random.below(family.len()));
            }
            all.rotate_right(random.below(self.all.len()));
        }
        all
    }
}

/// Names and what they were found to be.
#[derive(Debug)]
pub(super) struct Names {
    held: HashMap<Rc<[u8]>, Held>,
    /// The order in which names are let go, each with the serial number it had when it took its place; one with
    /// another number by now has a later place too.
    order: VecDeque<(Rc<[u8]>, u64)>,
    serial: u64,
    capacity: usize,
}

#[derive(Debug)]
struct Held {
    found: Rc<Found>,
    until: Instant,
    serial: u64,
    /// Wanted since it took its place: it gets another one before it is let go.
    wanted: bool,
}

impl Names {
    /// Creates a cache for this number of names.
    pub(super) fn new(capacity: usize) -> Names {
        Names { held: HashMap::new(), order: VecDeque::new(), serial: 0, capacity }
    }

    /// Returns the answer for a name, if it is still valid.
    pub(super) fn get(&mut self, name: &[u8], now: Instant) -> Option<Rc<Found>> {
        let held = self.held.get_mut(name).filter(|held| now < held.until)?;
        held.wanted = true;
        Some(Rc::clone(&held.found))
    }

    /// Returns true if any answer is still valid.
    pub(super) fn holds_any(&self, now: Instant) -> bool {
        self.held.values().any(|held| now < held.until)
    }

    /// Holds what a name was found to be until then.
    pub(super) fn insert(&mut self, name: Rc<[u8]>, found: Rc<Found>, until: Instant, now: Instant) {
        self.serial += 1;
        let serial = self.serial;
        self.held.insert(Rc::clone(&name), Held { found, until, serial, wanted: false });
        self.order.push_back((name, serial));
        self.make_room(now);
        // Names that are asked for again and again behind one that holds for long leave their old places behind.
        if self.order.len() > 2 * self.held.len() + 64 {
            let held = &self.held;
            self.order.retain(|(name, serial)| held.get(name).is_some_and(|held| held.serial == *serial));
        }
    }

    /// Lets go of what has run out, as far as it is next in the order, and of what is too much.
    fn make_room(&mut self, now: Instant) {
        while let Some((name, serial)) = self.order.pop_front() {
            let is_full = self.held.len() > self.capacity;
            let Some(held) = self.held.get_mut(&name).filter(|held| held.serial == serial) else { continue };
            if now < held.until {
                if !is_full {
                    self.order.push_front((name, serial));
                    return;
                }
                if std::mem::take(&mut held.wanted) {
                    self.order.push_back((name, serial));
                    continue;
                }
            }
            self.held.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn found(last: u8) -> Rc<Found> {
        let addresses = vec![IpAddr::from([127, 0, 0, last])];
        Rc::new(Found::new(Answer { addresses, ..Answer::default() }, Answer::default()).unwrap())
    }

    fn name(number: usize) -> Rc<[u8]> {
        format!("{number}.test").into_bytes().into()
    }

    #[test]
    fn an_expired_answer_is_neither_returned_nor_kept() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut names = Names::new(10);
        names.insert(name(1), found(1), at(5), at(0));
        names.insert(name(2), found(2), at(9), at(0));
        assert_eq!(names.get(&name(1), at(4)), Some(found(1)));
        assert_eq!(names.get(&name(1), at(5)), None);
        assert!(names.holds_any(at(8)) && !names.holds_any(at(9)));
        names.insert(name(3), found(3), at(20), at(10));
        assert_eq!(names.held.len(), 1);
    }

    #[test]
    fn the_oldest_unwanted_name_is_evicted_first() {
        let now = Instant::now();
        let until = now + Duration::from_secs(60);
        let mut names = Names::new(3);
        for number in 0..3 {
            names.insert(name(number), found(1), until, now);
        }
        assert!(names.get(&name(0), now).is_some());
        for number in 3..5 {
            names.insert(name(number), found(1), until, now);
        }
        let held: Vec<bool> = (0..5).map(|number| names.held.contains_key(&name(number))).collect();
        assert_eq!(held, [true, false, false, true, true]);
    }

    #[test]
    fn memory_is_bounded_by_the_number_of_names() {
        let now = Instant::now();
        let until = now + Duration::from_secs(60);
        let mut names = Names::new(100);
        for number in 0..10_000 {
            names.insert(name(number), found(1), until, now);
        }
        assert_eq!((names.held.len(), names.order.len()), (100, 100));
        for _ in 0..10_000 {
            names.insert(name(9_999), found(2), until, now);
        }
        assert!(names.order.len() <= 2 * 100 + 64, "{}", names.order.len());
        assert_eq!(names.get(&name(9_999), now), Some(found(2)));
    }
}
