//! Orders that changed nothing, by their idempotency keys.
//!
//! Owns: that a repetition is answered as the first time, although the table may have changed since: carried out then, it
//! would override a newer decision. The store keeps them; those of this process are known before they are saved, and also
//! if they cannot be. Must never: grow beyond [`MAX_UNCHANGED`], or use up a revision.

use crate::store::{MAX_UNCHANGED, UnchangedOrder};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use switch::{Action, GroupOrder, GroupVerb, Order, Route, Undoing};

/// The orders of a switch that changed nothing, as this process knows them.
#[derive(Default)]
pub(super) struct Unchanged {
    orders: HashMap<String, UnchangedOrder>,
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
    /// Remembers an order that found everything as it wants it at this revision. Returns what is to be saved, if it has an
    /// idempotency key.
    pub(super) fn put(
        &mut self,
        order: &Order,
        revision: u64,
        now_ms: u64,
    ) -> Option<(String, UnchangedOrder)> {
        let name = order.meta.idempotency.as_ref()?;
        let kept = UnchangedOrder { digest: digest(order), revision, time_ms: now_ms };
        if self.orders.insert(name.clone(), kept.clone()).is_none() {
            self.oldest_first.push_back(name.clone());
        }
        while self.oldest_first.len() > MAX_UNCHANGED {
            if let Some(oldest) = self.oldest_first.pop_front() {
                self.orders.remove(&oldest);
            }
        }
        Some((name.clone(), kept))
    }

    /// Returns what is known of an order's idempotency key, here or in the store.
    pub(super) fn get(&self, order: &Order, stored: Option<&UnchangedOrder>, now_ms: u64) -> Option<Known> {
        let known = self.orders.get(order.meta.idempotency.as_ref()?).or(stored)?;
        let revision = known.revision;
        let is_same = known.digest == digest(order);
        (!known.is_forgotten(now_ms)).then_some(if is_same {
            Known::Same(revision)
        } else {
            Known::Other(revision)
        })
    }
}

/// Returns a number that only the same order of the same actor has, in whatever order its keys are. It is on disk: SHA-256
/// over the actor and what is ordered, each text after its length (8 bytes, least significant first). Of keys that is the key
/// and its route, after one byte that says whether there is one; of any other order its kind and what it names.
fn digest(order: &Order) -> [u8; 32] {
    let mut sum = Sha256::new();
    let mut text = |text: &str| {
        sum.update((text.len() as u64).to_le_bytes());
        sum.update(text.as_bytes());
    };
    text(&order.meta.actor);
    match &order.action {
        // No kind before it: so it was when only these were kept.
        Action::Set(changes) => {
            let mut changes: Vec<_> = changes.iter().collect();
            changes.sort_by(|one, other| one.0.cmp(&other.0));
            for (key, route) in changes {
                text(key.as_str());
                text(&route.as_ref().map_or_else(|| "0".to_owned(), |route: &Route| format!("1{route}")));
            }
        }
        Action::Undo(undoing) => undone("undo", undoing).for_each(|one| text(&one)),
        Action::Revert(undoing) => undone("revert", undoing).for_each(|one| text(&one)),
        Action::Default { former, target } => ["default", former, target].into_iter().for_each(text),
        Action::Confirm(revision) => ["confirm", &revision.to_string()].into_iter().for_each(text),
        Action::Servers(orders) => {
            text("servers");
            for order in orders {
                [&*order.group, &*order.server, &order.verb.to_string()].into_iter().for_each(&mut text);
            }
        }
        Action::Group(GroupOrder { group, verb: GroupVerb::Remove }) => {
            ["remove group", group].into_iter().for_each(text);
        }
        Action::Group(GroupOrder { group, verb: GroupVerb::Make { like, servers } }) => {
            ["make group", group, like.as_deref().unwrap_or_default()].into_iter().for_each(&mut text);
            servers.iter().for_each(|(server, params)| text(&format!("{server} {params}")));
        }
    }
    sum.finalize().into()
}

/// Returns what an order to take something back names: a commit, or keys, servers and groups.
fn undone(kind: &str, undoing: &Undoing) -> impl Iterator<Item = String> {
    let of = undoing.of().map_or_else(String::new, |revision| revision.to_string());
    let keys = undoing.keys().iter().map(|one| &one.key).chain(undoing.missing());
    let subjects = undoing.subjects().iter().map(|one| format!("{} {}", one.subject, one.name));
    let named: Vec<String> = keys.map(|key| format!("key {}", key.as_str())).chain(subjects).collect();
    [kind.to_owned(), of].into_iter().chain(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::UNCHANGED_FOR_MS;
    use switch::{Key, KeyKind, Meta, ServerOrder, ServerParams, ServerVerb};

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
        let (name, kept) = unchanged.put(&order("x", "ann", &[("a", "blue"), ("b", "green")]), 7, 5).unwrap();
        assert_eq!((&*name, kept.revision, kept.time_ms), ("x", 7, 5));
        let known = |order: &Order| {
            let known = unchanged.get(order, None, 6);
            // Another process reads the same from the store.
            let stored = Some(&kept).filter(|_| order.meta.idempotency.as_deref() == Some("x"));
            assert_eq!(Unchanged::default().get(order, stored, 6), known);
            known
        };
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
        let same = order("x", "ann", &[("a", "blue"), ("b", "green")]);
        assert_eq!(unchanged.get(&same, None, 5 + UNCHANGED_FOR_MS), Some(Known::Same(7)));
        assert_eq!(unchanged.get(&same, None, 6 + UNCHANGED_FOR_MS), None);
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut unchanged = Unchanged::default();
        for number in 0..=MAX_UNCHANGED {
            unchanged.put(&order(&number.to_string(), "ann", &[("a", "blue")]), 1, 1);
        }
        assert_eq!(unchanged.get(&order("0", "ann", &[("a", "blue")]), None, 1), None);
        assert_eq!(unchanged.get(&order("1", "ann", &[("a", "blue")]), None, 1), Some(Known::Same(1)));
        assert_eq!((unchanged.orders.len(), unchanged.oldest_first.len()), (MAX_UNCHANGED, MAX_UNCHANGED));
    }

    #[test]
    fn another_order_of_any_kind_is_another() {
        let server = |group: &str, server: &str, verb: ServerVerb| {
            Action::Servers(vec![ServerOrder { group: group.into(), server: server.into(), verb }])
        };
        let heavier = ServerParams { weight: Some(5), ..ServerParams::default() };
        let actions = [
            order("x", "ann", &[("a", "blue")]).action,
            order("x", "ann", &[]).action,
            server("blue", "10.0.0.1:80", ServerVerb::Drain),
            server("blue", "10.0.0.1:80", ServerVerb::Remove),
            server("blue", "10.0.0.2:80", ServerVerb::Remove),
            server("green", "10.0.0.1:80", ServerVerb::Remove),
            server("blue", "10.0.0.1:80", ServerVerb::Add(ServerParams::default())),
            server("blue", "10.0.0.1:80", ServerVerb::Add(heavier.clone())),
            server("blue", "10.0.0.1:80", ServerVerb::Set(heavier)),
            server("blue", "10.0.0.1:80", ServerVerb::Up),
            server("blue", "10.0.0.1:80", ServerVerb::Down),
            server("blue", "", ServerVerb::Reset),
            Action::Servers(Vec::new()),
            Action::Group(GroupOrder { group: "red".into(), verb: GroupVerb::Remove }),
            Action::Group(GroupOrder { group: "blue".into(), verb: GroupVerb::Remove }),
            Action::Group(GroupOrder {
                group: "red".into(),
                verb: GroupVerb::Make { like: None, servers: Vec::new() },
            }),
            Action::Group(GroupOrder {
                group: "red".into(),
                verb: GroupVerb::Make { like: Some("blue".into()), servers: Vec::new() },
            }),
            Action::Confirm(3),
            Action::Confirm(4),
            Action::Default { former: "blue".into(), target: "green".into() },
            Action::Default { former: "green".into(), target: "blue".into() },
        ];
        let sums: Vec<_> = actions
            .into_iter()
            .map(|action| {
                let once = Order { action, ..order("x", "ann", &[]) };
                assert_eq!(digest(&once), digest(&once.clone()));
                digest(&once)
            })
            .collect();
        for (at, sum) in sums.iter().enumerate() {
            assert_eq!(sums.iter().position(|other| other == sum), Some(at));
        }
    }
}
