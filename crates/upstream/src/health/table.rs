//! The entries of servers: written by the one that asks, read by every thread that picks.
//!
//! Owns: the identity of a server's entry, which is its group, its name as written and its address, and its life: as long
//! as a peer refers to it. So it outlives a reload, and a server that is added while serving is checked like the others.

use super::check::{CheckProgress, CheckRules, Health};
use crate::address::Address;
use crate::spec::PeerSpec;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The result of the last check of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastCheck {
    /// When it ended, in milliseconds.
    pub at_ms: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// True if it passed.
    pub passed: bool,
    /// The result: `answered 200`, `connection refused`.
    pub reason: Arc<str>,
}

/// A server whose state a check has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthChange {
    /// Its state before.
    pub from: Health,
    /// Its state now.
    pub to: Health,
}

/// A check of a server, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckView {
    /// The check, as it is written.
    pub check: Arc<str>,
    /// How far it has come.
    pub progress: CheckProgress,
    /// Its last result.
    pub last: Option<LastCheck>,
    /// How many checks have passed since the server is checked.
    pub passed: u64,
    /// How many have not.
    pub failed: u64,
}

/// A server's health, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerView {
    /// Its state: the worst of its checks'.
    pub health: Health,
    /// The time since which it has this state, in milliseconds.
    pub since_ms: u64,
    /// Its checks.
    pub checks: Vec<CheckView>,
}

/// A server's entry.
#[derive(Debug)]
pub struct ServerHealth {
    address: Address,
    /// The state in the two lowest bits, the time since which it has it above: one load answers a pick.
    word: AtomicU64,
    checks: Mutex<Vec<CheckView>>,
}

const STATE_BITS: u32 = 2;

fn word(health: Health, since_ms: u64) -> u64 {
    since_ms << STATE_BITS | health as u64
}

impl ServerHealth {
    fn new(address: Address, rules: &[Rule], now_ms: u64) -> ServerHealth {
        let entry = ServerHealth {
            address,
            word: AtomicU64::new(word(Health::Healthy, 0)),
            checks: Mutex::default(),
        };
        entry.configure(rules, now_ms);
        entry
    }

    /// Returns its address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns its state.
    pub fn health(&self) -> Health {
        match self.word.load(Ordering::Relaxed) & ((1 << STATE_BITS) - 1) {
            0 => Health::Healthy,
            1 => Health::Checking,
            _ => Health::Unhealthy,
        }
    }

    /// Returns the time since which it has its state, in milliseconds.
    pub fn since_ms(&self) -> u64 {
        self.word.load(Ordering::Relaxed) >> STATE_BITS
    }

    /// Returns the time at which it last became healthy again, in milliseconds; 0 if it never was anything else.
    pub fn recovered_ms(&self) -> u64 {
        if self.health() == Health::Healthy { self.since_ms() } else { 0 }
    }

    /// Returns its state with the results of its checks.
    pub fn view(&self) -> ServerView {
        let checks = lock(&self.checks).clone();
        ServerView { health: self.health(), since_ms: self.since_ms(), checks }
    }

    /// Records the result of a check; of one that is not configured any more it is dropped.
    pub fn record(&self, check: &str, rules: &CheckRules, last: LastCheck) -> Option<HealthChange> {
        let mut checks = lock(&self.checks);
        let known = checks.iter_mut().find(|known| *known.check == *check)?;
        let at_ms = last.at_ms;
        known.progress.record(rules, last.passed, at_ms);
        known.passed += u64::from(last.passed);
        known.failed += u64::from(!last.passed);
        known.last = Some(last);
        self.publish(&checks, at_ms)
    }

    /// Takes over new checks. One that is unchanged goes on.
    fn configure(&self, rules: &[Rule], now_ms: u64) {
        let mut checks = lock(&self.checks);
        let before = (!checks.is_empty()).then(|| self.health());
        let make = |(check, rules): &Rule| match checks.iter().find(|known| known.check == *check) {
            Some(known) => known.clone(),
            None => CheckView {
                check: Arc::clone(check),
                progress: CheckProgress::new(rules, before, now_ms),
                last: None,
                passed: 0,
                failed: 0,
            },
        };
        *checks = rules.iter().map(make).collect();
        self.publish(&checks, now_ms);
    }

    fn publish(&self, checks: &[CheckView], now_ms: u64) -> Option<HealthChange> {
        let to = checks.iter().map(|check| check.progress.health()).max().unwrap_or_default();
        let from = self.health();
        // Written under the lock of the checks only.
        (from != to).then(|| {
            self.word.store(word(to, now_ms), Ordering::Relaxed);
            HealthChange { from, to }
        })
    }
}

/// A check as it is written, which is its identity, and its numbers.
type Rule = (Arc<str>, CheckRules);

/// What identifies a server in its group: its name as written, and its address.
type ServerKey = (String, Address);

/// The entries of a group.
#[derive(Debug, Default)]
pub struct GroupHealth {
    inner: Mutex<GroupEntries>,
    arrivals: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct GroupEntries {
    rules: Vec<Rule>,
    configured_ms: u64,
    servers: HashMap<ServerKey, Arc<ServerHealth>>,
}

impl GroupHealth {
    /// Returns the entry of a server. One that the group has not had begins as its checks' rules have it.
    pub fn server(&self, spec: &PeerSpec) -> Arc<ServerHealth> {
        let mut inner = lock(&self.inner);
        let key = (spec.name.clone(), spec.address.clone());
        let GroupEntries { rules, configured_ms, servers } = &mut *inner;
        let new = || {
            self.arrivals.fetch_add(1, Ordering::Relaxed);
            Arc::new(ServerHealth::new(spec.address.clone(), rules, *configured_ms))
        };
        Arc::clone(servers.entry(key).or_insert_with(new))
    }

    /// Returns the entry of a server, if it has one.
    pub fn known(&self, spec: &PeerSpec) -> Option<Arc<ServerHealth>> {
        lock(&self.inner).servers.get(&(spec.name.clone(), spec.address.clone())).cloned()
    }

    /// Returns the entry of a server by its name as written; of one that has several addresses, of one of them.
    pub fn named(&self, name: &str) -> Option<Arc<ServerHealth>> {
        let inner = lock(&self.inner);
        inner.servers.iter().find(|((known, _), _)| known == name).map(|(_, server)| Arc::clone(server))
    }

    /// Returns the entries of all servers that a peer refers to, in any order, and forgets the others.
    pub fn servers(&self) -> Vec<Arc<ServerHealth>> {
        let mut inner = lock(&self.inner);
        inner.servers.retain(|_, server| Arc::strong_count(server) > 1);
        inner.servers.values().cloned().collect()
    }

    fn configure(&self, rules: Vec<Rule>, now_ms: u64) {
        let mut inner = lock(&self.inner);
        (inner.rules, inner.configured_ms) = (rules, now_ms);
        for server in inner.servers.values() {
            server.configure(&inner.rules, now_ms);
        }
    }
}

/// The entries of all groups of a process.
#[derive(Debug, Default)]
pub struct HealthTable {
    groups: Mutex<HashMap<String, Arc<GroupHealth>>>,
    /// How many entries were made.
    arrivals: Arc<AtomicU64>,
}

impl HealthTable {
    /// Returns the entries of a group, by its name as written.
    pub fn group(&self, name: &str) -> Arc<GroupHealth> {
        let mut groups = lock(&self.groups);
        match groups.get(name) {
            Some(group) => Arc::clone(group),
            None => {
                let group = GroupHealth { arrivals: Arc::clone(&self.arrivals), ..GroupHealth::default() };
                Arc::clone(groups.entry(name.to_owned()).or_insert(Arc::new(group)))
            }
        }
    }

    /// Returns the entries of a group, if it is checked.
    pub fn find(&self, name: &str) -> Option<Arc<GroupHealth>> {
        lock(&self.groups).get(name).cloned()
    }

    /// Returns the entries of all groups by their names, in any order.
    pub fn all(&self) -> Vec<(String, Vec<Arc<ServerHealth>>)> {
        let groups: Vec<_> =
            lock(&self.groups).iter().map(|(name, group)| (name.clone(), Arc::clone(group))).collect();
        groups.into_iter().map(|(name, group)| (name, group.servers())).collect()
    }

    /// Returns a number that grows with each entry that is made.
    pub fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
    }

    /// Takes over the checks of a configuration, by group. Servers keep the state of checks that are unchanged; groups
    /// without checks are forgotten.
    pub fn configure(&self, checks: HashMap<&str, Vec<(Arc<str>, CheckRules)>>, now_ms: u64) {
        lock(&self.groups).retain(|name, group| {
            let is_checked = checks.contains_key(&**name);
            if !is_checked {
                group.configure(Vec::new(), now_ms);
            }
            is_checked
        });
        for (name, rules) in checks {
            self.group(name).configure(rules, now_ms);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No step between two states of a value panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Mandatory;
    use std::net::SocketAddr;

    fn spec(port: u16) -> PeerSpec {
        PeerSpec::new(format!("127.0.0.1:{port}"), SocketAddr::from(([127, 0, 0, 1], port)).into())
    }

    fn check(name: &str, mandatory: Mandatory) -> Rule {
        (name.into(), CheckRules { mandatory, ..CheckRules::default() })
    }

    fn result(passed: bool, at_ms: u64) -> LastCheck {
        LastCheck { at_ms, took_us: 1, passed, reason: "".into() }
    }

    #[test]
    fn unchanged_checks_keep_their_state_and_changed_ones_begin_again() {
        let (table, rules) = (HealthTable::default(), CheckRules::default());
        let configure = |checks: &[Rule], now_ms| table.configure([("blue", checks.to_vec())].into(), now_ms);
        configure(&[check("a", Mandatory::No)], 0);
        let server = table.group("blue").server(&spec(1));
        let change = server.record("a", &rules, result(false, 7));
        assert_eq!(change, Some(HealthChange { from: Health::Healthy, to: Health::Unhealthy }));
        configure(&[check("a", Mandatory::No), check("b", Mandatory::No)], 10);
        assert_eq!((server.health(), server.since_ms()), (Health::Unhealthy, 7));
        configure(&[check("b", Mandatory::No)], 20);
        assert_eq!((server.health(), server.since_ms()), (Health::Healthy, 20));
        configure(&[check("c", Mandatory::Persistent)], 30);
        assert_eq!(server.health(), Health::Healthy);
        configure(&[check("d", Mandatory::Yes)], 40);
        assert_eq!(server.health(), Health::Checking);
        assert_eq!(server.record("c", &rules, result(true, 50)), None, "a check that is gone");
        assert_eq!(server.health(), Health::Checking);
        table.configure(HashMap::new(), 60);
        assert_eq!(server.health(), Health::Healthy);
    }

    #[test]
    fn one_failed_check_of_several_makes_a_server_unhealthy() {
        let (table, rules) = (HealthTable::default(), CheckRules::default());
        let checks = vec![check("a", Mandatory::No), check("b", Mandatory::No)];
        table.configure([("blue", checks)].into(), 0);
        let server = table.group("blue").server(&spec(1));
        server.record("a", &rules, result(false, 1));
        server.record("b", &rules, result(true, 2));
        assert_eq!((server.health(), server.since_ms()), (Health::Unhealthy, 1));
        server.record("b", &rules, result(false, 3));
        server.record("a", &rules, result(true, 4));
        assert_eq!((server.health(), server.since_ms()), (Health::Unhealthy, 1));
        server.record("b", &rules, result(true, 5));
        assert_eq!((server.health(), server.since_ms()), (Health::Healthy, 5));
    }

    #[test]
    fn entries_live_as_long_as_a_peer_refers_to_them() {
        let table = HealthTable::default();
        table.configure([("blue", vec![check("a", Mandatory::Yes)])].into(), 0);
        let group = table.group("blue");
        let server = group.server(&spec(1));
        assert!(Arc::ptr_eq(&server, &group.server(&spec(1))));
        assert_eq!(server.health(), Health::Checking, "a server that is added later has its rules at once");
        assert_eq!(group.servers().len(), 1);
        drop(server);
        assert_eq!(group.servers().len(), 0);
    }
}
