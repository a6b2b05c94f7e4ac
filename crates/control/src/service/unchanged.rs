//! Orders that changed nothing, by their idempotency keys.
//!
//! Owns: that a repetition is answered as the first time, although the table may have changed since: carried out then, it
//! would override a newer decision. Must never: grow beyond [`MAX`], or outlive the process (a commit does, in the store).

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use switch::{Action, Order};

/// The number of orders that are remembered; the oldest is forgotten first.
const MAX: usize = 10_000;

/// The orders of a switch that changed nothing.
#[derive(Default)]
pub(super) struct Unchanged {
    /// By idempotency key: the order's digest, and the revision that it found.
    orders: HashMap<String, (u64, u64)>,
    oldest_first: VecDeque<String>,
}

/// What is known of an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The same order found everything as it wants it, at this revision.
    Same(u64),
    /// Another order had the key, at this revision.
    Other(u64),
}

impl Unchanged {
    /// Remembers an order that found everything as it wants it at this revision.
    pub(super) fn put(&mut self, order: &Order, revision: u64) {
        let Some(name) = &order.meta.idempotency else { return };
        if self.orders.insert(name.clone(), (digest(order), revision)).is_none() {
            self.oldest_first.push_back(name.clone());
        }
        while self.oldest_first.len() > MAX {
            if let Some(oldest) = self.oldest_first.pop_front() {
                self.orders.remove(&oldest);
            }
        }
    }

    /// Returns what is known of an order's idempotency key.
    pub(super) fn get(&self, order: &Order) -> Option<Known> {
        let (known, revision) = *self.orders.get(order.meta.idempotency.as_ref()?)?;
        Some(if known == digest(order) { Known::Same(revision) } else { Known::Other(revision) })
    }
}

/// Returns a number that only the same order of the same actor has, in whatever order its keys are.
fn digest(order: &Order) -> u64 {
    let hash = |text: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        text(&mut hasher);
        hasher.finish()
    };
    let keys = match &order.action {
        Action::Set(keys) => keys.iter().fold(0_u64, |sum, (key, route)| {
            let route = route.as_ref().map(ToString::to_string);
            sum.wrapping_add(hash(&|hasher| (key.as_str(), &route).hash(hasher)))
        }),
        // They never change nothing.
        Action::Undo(_) | Action::Confirm(_) | Action::Revert(_) => 0,
    };
    hash(&|hasher| (&order.meta.actor, keys).hash(hasher))
}

#[cfg(test)]
mod tests {
    use super::*;
    use switch::{Key, KeyKind, Meta, Route};

    fn order(name: &str, actor: &str, keys: &[(&str, &str)]) -> Order {
        let set = keys.iter().map(|(key, route)| {
            (Key::parse(KeyKind::Host, key.as_bytes(), 64).unwrap(), Route::parse(route).ok())
        });
        let (actor, idempotency) = (actor.to_owned(), Some(name.to_owned()));
        Order { action: Action::Set(set.collect()), meta: Meta { actor, idempotency, ..Meta::default() } }
    }

    #[test]
    fn the_same_order_is_known_again() {
        let mut unchanged = Unchanged::default();
        unchanged.put(&order("x", "ann", &[("a", "blue"), ("b", "green")]), 7);
        let known = |order: &Order| unchanged.get(order);
        assert_eq!(known(&order("x", "ann", &[("b", "green"), ("a", "blue")])), Some(Known::Same(7)));
        for other in [
            order("x", "ben", &[("a", "blue"), ("b", "green")]),
            order("x", "ann", &[("a", "green"), ("b", "blue")]),
            order("x", "ann", &[("a", "blue")]),
            order("x", "ann", &[("a", "blue"), ("b", "")]),
        ] {
            assert_eq!(known(&other), Some(Known::Other(7)), "{other:?}");
        }
        assert_eq!(known(&order("y", "ann", &[("a", "blue"), ("b", "green")])), None);
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut unchanged = Unchanged::default();
        for number in 0..=MAX {
            unchanged.put(&order(&number.to_string(), "ann", &[("a", "blue")]), 1);
        }
        assert_eq!(unchanged.get(&order("0", "ann", &[("a", "blue")])), None);
        assert_eq!(unchanged.get(&order("1", "ann", &[("a", "blue")])), Some(Known::Same(1)));
        assert_eq!((unchanged.orders.len(), unchanged.oldest_first.len()), (MAX, MAX));
    }
}
