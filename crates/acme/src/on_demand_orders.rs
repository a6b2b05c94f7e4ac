//! Certificates that handshakes ask for: which orders are under way and who waits for them, and which names are left alone.
//!
//! Owns the bounds on both, and the queue to the issuers' tasks. Must never say which names may have a certificate: who asks
//! has looked that up, or the task asks a server.

use crate::revocation::{IssuedCertificate, Revocation, RevokeFault, RevokeReason, RevokeReply};
use engine::modules::acme::{OnDemand, Wanted};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{oneshot, watch};

/// How many handshakes wait at a time, and how many orders do.
const MAX_WAITING: usize = 64;
/// For how long an order counts.
const HOUR_S: u64 = 3600;
/// How many names are left alone at a time; while there are more, no new one is taken up.
const MAX_REFUSED: usize = 10_000;

/// A certificate that a handshake has asked for.
#[derive(Clone, Debug)]
pub(crate) struct OnDemandOrder {
    pub(crate) on_demand: OnDemand,
    /// The host, in lower case.
    pub(crate) name: String,
    pub(crate) wanted: Wanted,
}

/// An order that is waited for.
struct Pending {
    issuer: Arc<str>,
    waiters: Vec<oneshot::Sender<()>>,
}

#[derive(Default)]
struct State {
    /// What no task has taken yet, with its issuer.
    queue: VecDeque<(Arc<str>, OnDemandOrder)>,
    /// By [`Wanted::id`], as is all that follows.
    pending: HashMap<Arc<str>, Pending>,
    /// Until when nothing is ordered, in seconds since the epoch.
    refused: HashMap<Arc<str>, u64>,
    /// The certificates in force.
    in_force: HashMap<Arc<str>, InForce>,
    /// When what was ordered in the last hour was ordered, by issuer.
    recent: HashMap<Arc<str>, VecDeque<u64>>,
}

/// When a certificate is renewed, and when it is of no use any more, in seconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InForce {
    pub(crate) due_s: u64,
    pub(crate) until_s: u64,
}

/// The certificate that there is for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// No certificate that a client accepts.
    None,
    /// One that should be renewed by now.
    Due,
    /// One that is good.
    Good,
}

/// Certificates that may be revoked, and those that are to be.
#[derive(Default)]
pub(crate) struct Revocations {
    /// By issuer.
    pub(crate) listed: HashMap<Arc<str>, Vec<IssuedCertificate>>,
    pub(crate) queue: VecDeque<Revocation>,
}

struct Shared {
    state: Mutex<State>,
    revocations: Mutex<Revocations>,
    news: watch::Sender<()>,
}

/// See the module. Cheap to clone; shared by the threads of a process and by its configurations.
#[derive(Clone)]
pub struct OnDemandOrders(Arc<Shared>);

impl Default for OnDemandOrders {
    fn default() -> OnDemandOrders {
        let (state, revocations) = Default::default();
        OnDemandOrders(Arc::new(Shared { state, revocations, news: watch::Sender::new(()) }))
    }
}

impl OnDemandOrders {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn revocations(&self) -> MutexGuard<'_, Revocations> {
        self.0.revocations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the issuers' tasks to look for orders.
    pub(crate) fn wake_tasks(&self) {
        self.0.news.send_replace(());
    }

    /// Returns what is in force.
    pub fn held(&self, id: &str, now_s: u64) -> Held {
        match self.state().in_force.get(id) {
            Some(known) if now_s < known.due_s => Held::Good,
            Some(known) if now_s < known.until_s => Held::Due,
            _ => Held::None,
        }
    }

    /// Orders the certificate for a host (in lower case). The receiver gets a message, or fails, once it is known what has
    /// become of the order; `None` if nothing is ordered now: the last attempt has failed, or too much is under way.
    pub fn ask(
        &self,
        issuer: &Arc<str>,
        on_demand: &OnDemand,
        name: &str,
        now_s: u64,
    ) -> Option<oneshot::Receiver<()>> {
        let wanted = on_demand.wanted(name);
        let mut state = self.state();
        let waiting: usize = state
            .pending
            .values_mut()
            .map(|pending| {
                pending.waiters.retain(|waiter| !waiter.is_closed());
                pending.waiters.len()
            })
            .sum();
        if waiting >= MAX_WAITING {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        if let Some(pending) = state.pending.get_mut(&wanted.id) {
            pending.waiters.push(sender);
            return Some(receiver);
        }
        if state.pending.len() >= MAX_WAITING || !state.may_try(&wanted.id, now_s) {
            return None;
        }
        let pending = Pending { issuer: Arc::clone(issuer), waiters: vec![sender] };
        state.pending.insert(Arc::clone(&wanted.id), pending);
        let demanded = OnDemandOrder { on_demand: on_demand.clone(), name: name.to_owned(), wanted };
        state.queue.push_back((Arc::clone(issuer), demanded));
        drop(state);
        self.wake_tasks();
        Some(receiver)
    }

    /// Returns what changes when something is asked for.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.0.news.subscribe()
    }

    /// Takes the next order for an issuer.
    pub(crate) fn take(&self, issuer: &str) -> Option<OnDemandOrder> {
        let mut state = self.state();
        let at = state.queue.iter().position(|(of, _)| **of == *issuer)?;
        state.queue.remove(at).map(|(_, demanded)| demanded)
    }

    /// Counts an order of this time against an issuer's orders of an hour. Fails with when there may be one again.
    pub(crate) fn spend(&self, issuer: &Arc<str>, limit: u32, now_s: u64) -> Result<(), u64> {
        let mut state = self.state();
        let recent = state.recent.entry(Arc::clone(issuer)).or_default();
        while recent.front().is_some_and(|at_s| at_s + HOUR_S <= now_s) {
            recent.pop_front();
        }
        match recent.front() {
            Some(oldest_s) if recent.len() >= usize::try_from(limit).unwrap_or(usize::MAX) => {
                Err(oldest_s + HOUR_S)
            }
            _ => {
                recent.push_back(now_s);
                Ok(())
            }
        }
    }

    /// Notes what is in force, and wakes who waits for it.
    pub(crate) fn issued(&self, id: &Arc<str>, in_force: InForce) {
        let mut state = self.state();
        state.refused.remove(id);
        state.in_force.insert(Arc::clone(id), in_force);
        state.wake(id);
    }

    /// Notes that what was in force is so no more: the next handshake orders another one.
    pub(crate) fn revoked(&self, id: &str) {
        self.state().in_force.remove(id);
    }

    /// Notes that nothing is ordered for a name until then, and wakes who waits for it.
    pub(crate) fn refuse(&self, id: &Arc<str>, until_s: u64) {
        let mut state = self.state();
        state.refused.insert(Arc::clone(id), until_s);
        state.wake(id);
    }

    /// Drops what an issuer's task has not ended: the task is gone.
    pub(crate) fn forget(&self, issuer: &str) {
        let mut state = self.state();
        state.queue.retain(|(of, _)| **of != *issuer);
        state.pending.retain(|_, pending| *pending.issuer != *issuer);
        drop(state);
        let mut revocations = self.revocations();
        revocations.listed.remove(issuer);
        revocations.queue.retain(|known| *known.certificate.issuer != *issuer);
    }
}

impl OnDemandOrders {
    /// Returns the certificates that were issued, by issuer and name.
    pub fn issued_certificates(&self) -> Vec<IssuedCertificate> {
        let mut all: Vec<IssuedCertificate> = self.revocations().listed.values().flatten().cloned().collect();
        all.sort_by(|one, other| (&one.issuer, &one.name).cmp(&(&other.issuer, &other.name)));
        all
    }

    /// Revokes the certificate with this name: its own, or a host that it is valid for.
    pub fn revoke(&self, name: &str, reason: RevokeReason, reply: RevokeReply) {
        let all = self.issued_certificates();
        let mut found: Vec<&IssuedCertificate> = all.iter().filter(|known| known.is_called(name)).collect();
        if let Some(exact) = found.iter().position(|known| known.name == name) {
            found = vec![found[exact]];
        }
        let names = |of: &[&IssuedCertificate]| of.iter().map(|known| known.name.clone()).collect();
        match found[..] {
            [certificate] => {
                let certificate = certificate.clone();
                self.revocations().queue.push_back(Revocation { certificate, reason, reply });
                self.wake_tasks();
            }
            [] => reply(Err(RevokeFault::Unknown(all.iter().map(|known| known.name.clone()).collect()))),
            _ => reply(Err(RevokeFault::Ambiguous(names(&found)))),
        }
    }

    /// Takes the next revocation for an issuer.
    pub(crate) fn take_revocation(&self, issuer: &str) -> Option<Revocation> {
        let mut revocations = self.revocations();
        let at = revocations.queue.iter().position(|known| *known.certificate.issuer == *issuer)?;
        revocations.queue.remove(at)
    }
}

impl State {
    fn may_try(&mut self, id: &str, now_s: u64) -> bool {
        match self.refused.get(id) {
            Some(until_s) => *until_s <= now_s,
            None => {
                if self.refused.len() >= MAX_REFUSED {
                    self.refused.retain(|_, until_s| *until_s > now_s);
                }
                self.refused.len() < MAX_REFUSED
            }
        }
    }

    fn wake(&mut self, id: &str) {
        let pending = self.pending.remove(id);
        for waiter in pending.into_iter().flat_map(|pending| pending.waiters) {
            // Some have given up.
            let _ = waiter.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::modules::acme::{KeyKind, Permission};
    use tokio::sync::oneshot::error::TryRecvError;

    const NOW_S: u64 = 1000;

    fn on_demand() -> (Arc<str>, OnDemand) {
        let permission = Permission::Keys(0);
        let id = "one ecdsa:256 on-demand".into();
        ("one".into(), OnDemand { issuer: 0, key: KeyKind::Ecdsa256, permission, id })
    }

    #[test]
    fn one_order_for_a_name_wakes_all_who_wait_for_it() {
        let on_demand_orders = OnDemandOrders::default();
        let (issuer, on_demand) = on_demand();
        let news = on_demand_orders.news();
        let mut first = on_demand_orders.ask(&issuer, &on_demand, "a.example.com", NOW_S).unwrap();
        let mut second = on_demand_orders.ask(&issuer, &on_demand, "a.example.com", NOW_S).unwrap();
        assert!(news.has_changed().unwrap());
        assert!(on_demand_orders.take("two").is_none());
        let taken = on_demand_orders.take("one").unwrap();
        assert_eq!((&*taken.name, taken.wanted.id.ends_with(" a.example.com")), ("a.example.com", true));
        assert!(on_demand_orders.take("one").is_none());
        assert_eq!(first.try_recv(), Err(TryRecvError::Empty));
        on_demand_orders.issued(&taken.wanted.id, InForce { due_s: NOW_S + 10, until_s: NOW_S + 20 });
        assert_eq!((first.try_recv(), second.try_recv()), (Ok(()), Ok(())));
        let held = |id: &str, after_s| on_demand_orders.held(id, NOW_S + after_s);
        let all = [9, 10, 19, 20].map(|after_s| held(&taken.wanted.id, after_s));
        assert_eq!(all, [Held::Good, Held::Due, Held::Due, Held::None]);
        assert_eq!(held("another", 0), Held::None);
    }

    #[test]
    fn orders_of_an_hour_are_counted_for_each_issuer() {
        let on_demand_orders = OnDemandOrders::default();
        let spend = |issuer: &str, now_s| on_demand_orders.spend(&issuer.into(), 2, now_s);
        assert_eq!((spend("one", NOW_S), spend("one", NOW_S + 5)), (Ok(()), Ok(())));
        assert_eq!(spend("one", NOW_S + 6), Err(NOW_S + HOUR_S));
        assert_eq!(spend("two", NOW_S + 6), Ok(()));
        // What was ordered first counts no more.
        assert_eq!(spend("one", NOW_S + HOUR_S), Ok(()));
        assert_eq!(spend("one", NOW_S + HOUR_S), Err(NOW_S + 5 + HOUR_S));
    }

    #[test]
    fn name_is_left_alone_after_a_failure_until_its_time() {
        let on_demand_orders = OnDemandOrders::default();
        let (issuer, on_demand) = on_demand();
        let ask = |name: &str, now_s| on_demand_orders.ask(&issuer, &on_demand, name, now_s);
        let mut waits = ask("a.example.com", NOW_S).unwrap();
        let taken = on_demand_orders.take("one").unwrap();
        on_demand_orders.refuse(&taken.wanted.id, NOW_S + 60);
        assert_eq!(waits.try_recv(), Ok(()));
        assert!(ask("a.example.com", NOW_S + 59).is_none());
        assert!(ask("b.example.com", NOW_S + 59).is_some());
        assert!(ask("a.example.com", NOW_S + 60).is_some());
    }

    #[test]
    fn handshakes_that_wait_and_names_that_are_left_alone_are_bounded() {
        let on_demand_orders = OnDemandOrders::default();
        let (issuer, on_demand) = on_demand();
        let ask = |name: &str| on_demand_orders.ask(&issuer, &on_demand, name, NOW_S);
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| ask("a.example.com").unwrap()).collect();
        assert!(ask("a.example.com").is_none() && ask("b.example.com").is_none());
        // One that has given up makes room.
        drop(waiting.pop());
        assert!(ask("b.example.com").is_some());
        drop(waiting);
        // So many orders, too, although nothing waits for them any more.
        let names = (0..MAX_WAITING * 2).map(|n| format!("{n}.example.com"));
        let taken = names.filter(|name| ask(name).is_some()).count();
        assert_eq!(taken, MAX_WAITING - 2);
        on_demand_orders.forget("one");
        assert!(on_demand_orders.take("one").is_none());
        for n in 0..MAX_REFUSED {
            on_demand_orders.refuse(&format!("{n}").into(), NOW_S + 1);
        }
        assert!(ask("c.example.com").is_none());
        assert!(on_demand_orders.ask(&issuer, &on_demand, "c.example.com", NOW_S + 1).is_some());
    }

    #[test]
    fn task_that_is_gone_lets_nothing_wait() {
        let on_demand_orders = OnDemandOrders::default();
        let (issuer, on_demand) = on_demand();
        let mut waits = on_demand_orders.ask(&issuer, &on_demand, "a.example.com", NOW_S).unwrap();
        on_demand_orders.forget("two");
        assert_eq!(waits.try_recv(), Err(TryRecvError::Empty));
        on_demand_orders.forget("one");
        assert_eq!(waits.try_recv(), Err(TryRecvError::Closed));
        assert!(on_demand_orders.ask(&issuer, &on_demand, "a.example.com", NOW_S).is_some());
    }

    fn listed(name: &str, issuer: &str, names: &[&str]) -> IssuedCertificate {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        IssuedCertificate { name: name.to_owned(), issuer: issuer.into(), names, until_s: 0 }
    }

    #[test]
    fn certificate_is_found_by_its_own_name_or_one_that_it_is_for() {
        let on_demand_orders = OnDemandOrders::default();
        let one = listed("a.example-1", "one", &["a.example", "www.a.example"]);
        let two = listed("a.example-2", "two", &["a.example"]);
        for known in [&one, &two] {
            on_demand_orders.revocations().listed.insert(Arc::clone(&known.issuer), vec![known.clone()]);
        }
        let asked = |name: &str| {
            let answer = Arc::new(Mutex::new(None));
            let reply = Arc::clone(&answer);
            on_demand_orders.revoke(
                name,
                RevokeReason::Superseded,
                Box::new(move |outcome| {
                    *reply.lock().unwrap() = Some(outcome);
                }),
            );
            answer.lock().unwrap().take()
        };
        let both = || vec!["a.example-1".to_owned(), "a.example-2".to_owned()];
        assert_eq!(asked("none.example"), Some(Err(RevokeFault::Unknown(both()))));
        assert_eq!(asked("A.example"), Some(Err(RevokeFault::Ambiguous(both()))));
        assert_eq!(asked("www.a.example"), None);
        assert_eq!(asked("a.example-2"), None);
        assert_eq!(on_demand_orders.take_revocation("one").unwrap().certificate, one);
        assert!(on_demand_orders.take_revocation("one").is_none());
        on_demand_orders.take_revocation("two").unwrap().refuse_as_follower();
        assert_eq!(asked("a.example-2"), None);
        on_demand_orders.forget("two");
        assert!(on_demand_orders.take_revocation("two").is_none());
        assert_eq!(on_demand_orders.issued_certificates(), [one]);
    }
}
