//! The upstream groups of a generation on a thread: those of its configuration, and those that were made at run time.
//!
//! Owns how a publication reaches them. A group of the configuration has the servers that the publication names for it, else
//! those of its block; a group that no block has is there as long as the publication has it. Must never: make a ring, or any
//! other thing that takes longer the more servers there are and that the publication can bring.

use super::pool::{State, ThreadGroup, ZoneGroup};
use engine::modules::upstream::{GroupEntry, Origin};
use engine::{Config, Routing};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use transport::buffers::Buffers;
use upstream::health::HealthTable;
use upstream::{Group, GroupSet, GroupSets, GroupSpec};

/// The name of a group in lower case.
type Name = Box<[u8]>;

/// The groups that all threads share (`zone`), of one generation.
#[derive(Debug)]
pub(crate) struct SharedGroups {
    groups: Vec<Option<Arc<Mutex<ZoneGroup>>>>,
    /// Those made at run time.
    made: Mutex<HashMap<Name, Arc<Mutex<ZoneGroup>>>>,
}

impl SharedGroups {
    /// Creates the shared groups of a configuration, with the state that an earlier one has of them.
    pub(crate) fn new(
        config: &Config,
        routing: &Routing,
        old: Option<(&Config, &SharedGroups)>,
        health: &HealthTable,
    ) -> SharedGroups {
        let number = routing.tables.number;
        let groups = config.groups.iter().map(|entry| {
            if !entry.shared {
                return None;
            }
            let known = old.and_then(|(config, old)| old.find(config, &entry.spec.name));
            let group = new_group(servers(entry, &routing.groups), Some(entry), health);
            Some(zone_group(group, number, known.as_ref()))
        });
        let made = routing.groups.iter().filter(|set| is_made(config, set) && is_shared(config, set));
        let made = made.map(|set| {
            let known = old.and_then(|(config, old)| old.find(config, &set.spec.name));
            (name_of(&set.spec.name), zone_group(made_group(config, set, health), number, known.as_ref()))
        });
        SharedGroups { groups: groups.collect(), made: Mutex::new(made.collect()) }
    }

    fn find(&self, config: &Config, name: &str) -> Option<Arc<Mutex<ZoneGroup>>> {
        match config.group(name.as_bytes()) {
            Some(number) => self.groups.get(number)?.clone(),
            None => self.made().get(&name_of(name)).cloned(),
        }
    }

    fn made(&self) -> MutexGuard<'_, HashMap<Name, Arc<Mutex<ZoneGroup>>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a group with these servers. They are checked if the block of the configuration is.
fn new_group(spec: &Arc<GroupSpec>, entry: Option<&GroupEntry>, health: &HealthTable) -> Group {
    let health = entry.filter(|entry| is_checked(entry)).map(|entry| health.group(&entry.spec.name));
    Group::checked(Arc::clone(spec), health)
}

/// Returns a group made at run time. Its servers are checked if those of the group that it is like are.
fn made_group(config: &Config, set: &GroupSet, health: &HealthTable) -> Group {
    let like = like(config, set).and_then(|number| config.groups.get(number));
    let health = like.filter(|entry| is_checked(entry)).map(|_| health.group(&set.spec.name));
    Group::checked(Arc::clone(&set.spec), health)
}

fn is_checked(entry: &GroupEntry) -> bool {
    !entry.checks.is_empty()
}

fn zone_group(mut group: Group, number: u64, known: Option<&Arc<Mutex<ZoneGroup>>>) -> Arc<Mutex<ZoneGroup>> {
    if let Some(known) = known {
        group.carry_over(&known.lock().unwrap_or_else(PoisonError::into_inner).group);
    }
    Arc::new(Mutex::new(ZoneGroup { group, number }))
}

/// Returns the servers of a group of the configuration: those of its block, unless others are published for it.
pub(crate) fn servers<'s>(entry: &'s GroupEntry, groups: &'s GroupSets) -> &'s Arc<GroupSpec> {
    let published = match entry.origin {
        Origin::Block => groups.get(entry.spec.name.as_bytes()),
        Origin::Implied { .. } => None,
    };
    published.map_or(&entry.spec, |set| &set.spec)
}

/// Returns true if no block has this group.
pub(crate) fn is_made(config: &Config, set: &GroupSet) -> bool {
    config.group(set.spec.name.as_bytes()).is_none()
}

/// Returns true if all threads share the state of a group made at run time, as they do that of the group it is like.
fn is_shared(config: &Config, set: &GroupSet) -> bool {
    like(config, set).and_then(|number| config.groups.get(number)).is_some_and(|entry| entry.shared)
}

/// Returns the group of the configuration that a group made at run time is like.
fn like(config: &Config, set: &GroupSet) -> Option<usize> {
    config.group(set.like.as_ref()?.as_bytes())
}

fn name_of(name: &str) -> Name {
    name.to_ascii_lowercase().into_bytes().into()
}

/// A group that was made at run time.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) group: Rc<ThreadGroup>,
    /// The number under which it is measured.
    pub(crate) number: usize,
    /// The group of the configuration whose key of `hash` it has.
    pub(crate) like: Option<usize>,
}

/// The work left for a group once a publication is in force: it need not be waited for.
#[derive(Debug)]
pub(crate) enum Rest {
    /// The servers of this one have changed.
    Changed(Rc<ThreadGroup>),
    /// These are gone.
    Gone(Option<Made>, Option<Arc<Mutex<ZoneGroup>>>),
}

impl Rest {
    /// Closes idle connections to servers that are left. To be called before any request is served.
    pub(crate) fn finish(self) {
        match self {
            Rest::Changed(group) => group.close_left(),
            Rest::Gone(group, zone) => drop((group, zone)),
        }
    }
}

/// All groups of a generation on one thread.
#[derive(Debug)]
pub(crate) struct Groups {
    groups: Vec<Rc<ThreadGroup>>,
    shared: Arc<SharedGroups>,
    /// Those made at run time.
    made: RefCell<HashMap<Name, Made>>,
    /// The entries of checked servers.
    health: Arc<HealthTable>,
}

impl Groups {
    /// Creates the groups of a configuration with the servers of a publication. An unchanged one keeps its state and its idle
    /// connections; a changed one takes over the state of the peers it still has. `number` gives a group made at run time the
    /// number under which it is measured.
    pub(crate) fn new(
        config: &Config,
        shared: &Arc<SharedGroups>,
        routing: &Routing,
        old: Option<&Groups>,
        health: &Arc<HealthTable>,
        number: impl Fn(&Arc<str>) -> usize,
    ) -> Groups {
        let known = |name: &str| old.and_then(|old| old.find(name));
        let groups = config.groups.iter().zip(&shared.groups).map(|(entry, zone)| {
            let group = new_group(servers(entry, &routing.groups), Some(entry), health);
            thread_group(group, zone.as_ref(), known(&entry.spec.name))
        });
        let groups = groups.collect();
        let made = routing.groups.iter().filter(|set| is_made(config, set)).map(|set| {
            let zone = shared.made().get(&name_of(&set.spec.name)).cloned();
            let group = thread_group(made_group(config, set, health), zone.as_ref(), known(&set.spec.name));
            let number = number(&set.spec.name.as_str().into());
            (name_of(&set.spec.name), Made { group, number, like: like(config, set) })
        });
        let made = RefCell::new(made.collect());
        Groups { groups, made, shared: Arc::clone(shared), health: Arc::clone(health) }
    }

    fn find(&self, name: &str) -> Option<Rc<ThreadGroup>> {
        let known = self.groups.iter().find(|known| known.name() == name).map(Rc::clone);
        known.or_else(|| self.made(name.as_bytes()).map(|made| made.group))
    }

    /// Returns a group of the configuration by its number.
    pub(crate) fn get(&self, number: usize) -> &Rc<ThreadGroup> {
        &self.groups[number]
    }

    /// Returns a group made at run time.
    pub(crate) fn made(&self, name: &[u8]) -> Option<Made> {
        let made = self.made.borrow();
        if made.is_empty() {
            return None;
        }
        made.get(&*name.to_ascii_lowercase()).cloned()
    }

    /// Returns the entries of checked servers.
    pub(crate) fn health(&self) -> &HealthTable {
        &self.health
    }

    /// Returns the groups made at run time, by name.
    pub(crate) fn all_made(&self) -> Vec<Rc<ThreadGroup>> {
        let made = self.made.borrow();
        let mut all: Vec<_> = made.values().map(|made| Rc::clone(&made.group)).collect();
        all.sort_by(|one, other| one.name().cmp(other.name()));
        all
    }

    /// Takes a change of one group: its servers, or that it is gone. `number` gives a new one the number under which it is
    /// measured. Returns what is left to be done.
    pub(crate) fn adopt(
        &self,
        config: &Config,
        (name, set): (&[u8], Option<&GroupSet>),
        publication: u64,
        number: impl FnOnce(&Arc<str>) -> usize,
    ) -> Vec<Rest> {
        if let Some(configured) = config.group(name) {
            let (entry, group) = (&config.groups[configured], &self.groups[configured]);
            group.adopt(set.map_or(&entry.spec, |set| &set.spec), publication);
            return vec![Rest::Changed(Rc::clone(group))];
        }
        let Some(set) = set else {
            let group = self.made.borrow_mut().remove(name);
            return vec![Rest::Gone(group, self.shared.made().remove(name))];
        };
        let zone = is_shared(config, set).then(|| {
            let mut made = self.shared.made();
            Arc::clone(
                made.entry(name.into())
                    .or_insert_with(|| zone_group(made_group(config, set, &self.health), publication, None)),
            )
        });
        let known = self.made.borrow().get(name).cloned();
        match known.filter(|made| made.group.fits(&set.spec, zone.is_some())) {
            Some(made) => {
                made.group.adopt(&set.spec, publication);
                vec![Rest::Changed(made.group)]
            }
            None => {
                let group = thread_group(made_group(config, set, &self.health), zone.as_ref(), None);
                group.adopt(&set.spec, publication);
                let number = number(&set.spec.name.as_str().into());
                let made = Made { group: Rc::clone(&group), number, like: like(config, set) };
                let former = self.made.borrow_mut().insert(name.into(), made);
                vec![Rest::Changed(group), Rest::Gone(former, None)]
            }
        }
    }

    /// Closes idle connections that are too old or that the peer closed.
    pub(crate) fn sweep(&self, buffers: &Buffers, now_ms: u64) {
        self.groups.iter().for_each(|group| group.sweep(buffers, now_ms));
        self.made.borrow().values().for_each(|made| made.group.sweep(buffers, now_ms));
    }
}

/// Returns the group that an earlier generation has, if it is unchanged and this thread's own, else the new one with its
/// state.
fn thread_group(
    mut group: Group,
    zone: Option<&Arc<Mutex<ZoneGroup>>>,
    known: Option<Rc<ThreadGroup>>,
) -> Rc<ThreadGroup> {
    let is_same =
        |known: &mut Group| **known.spec() == **group.spec() && known.is_checked() == group.is_checked();
    if zone.is_none()
        && let Some(known) = known.as_ref()
        && known.is_own()
        && known.with(is_same)
    {
        return Rc::clone(known);
    }
    let (name, keepalive) = (group.spec().name.as_str().into(), group.spec().keepalive);
    let state = match zone {
        Some(zone) => State::Shared(Arc::clone(zone)),
        None => {
            if let Some(known) = known {
                known.with(|old| group.carry_over(old));
            }
            State::Own(RefCell::new(group))
        }
    };
    Rc::new(ThreadGroup::new(name, keepalive, state))
}

#[cfg(test)]
mod tests {
    use super::super::upstream_conn::UpstreamConn;
    use super::*;
    use crate::context::conn_state::ConnRegistry;
    use crate::context::counters::{ProcessCounters, ThreadCounters};
    use engine::config::{Inputs, NoNames, build};
    use engine::modules::proxy::Protocol;
    use switch::Tables;
    use transport::stream::{Socket, Stream};
    use upstream::{IdleKey, PeerSpec, PickError, PickInput, Tried, TryOutcome};

    const TEXT: &str = "events {} http {
        upstream own { server 10.0.0.1:1; server 10.0.0.2:2; keepalive 8; }
        upstream zoned { zone z 64k; server 10.0.0.1:1; server 10.0.0.2:2; }
        upstream keyed { hash $uri consistent; server 10.0.0.1:1; server 10.0.0.2:2; }
        upstream empty { } server { listen 80; } }";

    fn config() -> Config {
        let parsed = conf::parse_text("/nginx.conf", TEXT.to_owned(), &conf::NoFiles);
        let inputs = Inputs {
            loader: &conf::NoFiles,
            names: &NoNames,
            prefix: "/".into(),
            file: "/nginx.conf".into(),
            identity: Default::default(),
        };
        build(&parsed, &inputs).unwrap().0
    }

    /// Returns the servers of a group of the configuration, drained if they end in `-`.
    fn set(config: &Config, name: &str, servers: &[&str]) -> GroupSet {
        let entry = config.group(name.as_bytes()).map_or(&config.groups[0], |number| &config.groups[number]);
        let peers = servers.iter().map(|server| {
            let (text, drain) = server.strip_suffix('-').map_or((*server, false), |text| (text, true));
            let address: std::net::SocketAddr = text.parse().unwrap();
            PeerSpec { drain, ..PeerSpec::new(text, address.into()) }
        });
        let spec = GroupSpec { name: name.into(), ..entry.spec.with_peers(peers.collect()) };
        GroupSet { spec: Arc::new(spec), like: None }
    }

    fn routing(number: u64, groups: impl IntoIterator<Item = GroupSet>) -> Routing {
        Routing { tables: Tables { number, ..Tables::default() }, groups: groups.into_iter().collect() }
    }

    /// A thread's groups, and what is published.
    struct Thread<'c>(&'c Config, Groups, RefCell<Routing>);

    impl<'c> Thread<'c> {
        fn new(config: &'c Config, shared: &Arc<SharedGroups>) -> Thread<'c> {
            Thread(
                config,
                Groups::new(config, shared, &Routing::default(), None, &Arc::default(), |_| 7),
                RefCell::default(),
            )
        }

        fn publish(&self, routing: Routing) {
            let before = self.2.replace(routing);
            let now = self.2.borrow();
            for change in now.groups.changes_since(&before.groups) {
                let rest = self.1.adopt(self.0, change, now.tables.number, |_| 7);
                rest.into_iter().for_each(Rest::finish);
            }
        }

        fn group(&self, name: &str) -> Rc<ThreadGroup> {
            self.1.find(name).unwrap()
        }
    }

    fn pick(group: &Rc<ThreadGroup>) -> Result<super::super::pool::Picked, PickError> {
        let mut tried = Tried::default();
        group.pick(1, &PickInput::default(), &mut tried, &mut || 0, |_, position| position)
    }

    fn picks(group: &Rc<ThreadGroup>) -> Vec<String> {
        let mut all: Vec<String> = (0..4).map_while(|_| Some(pick(group).ok()?.label.to_string())).collect();
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn a_publication_reaches_each_group_and_its_end_gives_the_block_s_servers_back() {
        let config = config();
        let shared = Arc::new(SharedGroups::new(&config, &Routing::default(), None, &HealthTable::default()));
        let (one, other) = (Thread::new(&config, &shared), Thread::new(&config, &shared));
        assert_eq!(pick(&one.group("empty")).unwrap_err(), PickError::Empty);
        let names = ["own", "zoned", "keyed", "empty"];
        let of = |servers: &[&str]| names.map(|name| set(&config, name, servers));
        one.publish(routing(2, of(&["10.0.0.2:2", "10.0.0.3:3"])));
        for name in names {
            assert_eq!(picks(&one.group(name)), ["10.0.0.2:2", "10.0.0.3:3"], "{name}");
        }
        // Only what threads share is changed on the other one too.
        assert_eq!(picks(&other.group("own")), ["10.0.0.1:1", "10.0.0.2:2"]);
        assert_eq!(picks(&other.group("zoned")), ["10.0.0.2:2", "10.0.0.3:3"]);

        // A thread that is behind brings nothing back.
        one.publish(routing(3, of(&["10.0.0.4:4"])));
        other.publish(routing(2, of(&["10.0.0.2:2", "10.0.0.3:3"])));
        assert_eq!(
            (picks(&other.group("own")).len(), picks(&other.group("zoned"))),
            (2, vec!["10.0.0.4:4".into()])
        );
        other.publish(routing(3, []));
        one.publish(routing(4, []));
        for name in ["own", "zoned", "keyed"] {
            assert_eq!(picks(&one.group(name)), ["10.0.0.1:1", "10.0.0.2:2"], "{name}");
        }
        assert!(pick(&one.group("empty")).is_err());
    }

    #[test]
    fn servers_that_stay_keep_their_requests_and_one_that_goes_ends_its_own() {
        let config = config();
        let shared = Arc::new(SharedGroups::new(&config, &Routing::default(), None, &HealthTable::default()));
        let thread = Thread::new(&config, &shared);
        for name in ["own", "zoned"] {
            let group = thread.group(name);
            let leases = [pick(&group).unwrap(), pick(&group).unwrap()];
            thread.publish(routing(2, [set(&config, name, &["10.0.0.2:2-", "10.0.0.5:5"])]));
            let states = || -> Vec<(String, u32, bool, bool)> {
                let states = group.peers(1).into_iter();
                states
                    .map(|peer| (peer.name.to_string(), peer.connections, peer.draining, peer.departed))
                    .collect()
            };
            let is = |name: &str, count, draining, departed| (name.to_owned(), count, draining, departed);
            let gone = is("10.0.0.1:1", 1, false, true);
            let draining = is("10.0.0.2:2", 1, true, false);
            assert_eq!(states(), [draining, is("10.0.0.5:5", 0, false, false), gone]);
            assert_eq!(picks(&group), ["10.0.0.5:5"]);
            for lease in leases {
                lease.finish(TryOutcome::Success, 2);
            }
            assert_eq!(states(), [is("10.0.0.2:2", 0, true, false), is("10.0.0.5:5", 0, false, false)]);
        }
    }

    #[test]
    fn idle_connections_to_servers_that_are_left_are_closed_and_none_is_kept_later() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let registry = ConnRegistry::new(ThreadCounters::new(Arc::new(ProcessCounters::new(1)), 0));
        let config = config();
        let shared = Arc::new(SharedGroups::new(&config, &Routing::default(), None, &HealthTable::default()));
        let thread = Thread::new(&config, &shared);
        let group = thread.group("own");
        let mut theirs = Vec::new();
        let mut keep = |address: &str| {
            let (ours, other) = tokio::net::UnixStream::pair().unwrap();
            theirs.push(other);
            let conn = UpstreamConn::new(
                Stream::Plain(Socket::Unix(ours)),
                0,
                registry.add_upstream(),
                Protocol::Http1,
                0,
            );
            let address: std::net::SocketAddr = address.parse().unwrap();
            group.keep_idle(IdleKey { address: address.into(), tag: 0 }, Box::new(conn), 1);
        };
        let key = |address: &str| {
            let address: std::net::SocketAddr = address.parse().unwrap();
            IdleKey { address: address.into(), tag: 0 }
        };
        let leases = [pick(&group).unwrap(), pick(&group).unwrap()];
        ["10.0.0.1:1", "10.0.0.1:1", "10.0.0.2:2"].into_iter().for_each(&mut keep);
        let buffers = Buffers::default();
        let has = |address: &str| group.take_idle(&key(address), &buffers, 2).is_some();
        thread.publish(routing(2, [set(&config, "own", &["10.0.0.1:1-", "10.0.0.2:2", "10.0.0.3:3"])]));
        assert_eq!((has("10.0.0.1:1"), has("10.0.0.2:2")), (false, true));
        // A request that was under way ends, and would return its connection.
        ["10.0.0.1:1", "10.0.0.2:2"].into_iter().for_each(&mut keep);
        assert_eq!((has("10.0.0.1:1"), has("10.0.0.2:2")), (false, true));
        thread.publish(routing(3, []));
        keep("10.0.0.1:1");
        assert!(has("10.0.0.1:1"), "it is in use again");
        for lease in leases {
            lease.finish(TryOutcome::Success, 3);
        }
    }

    #[test]
    fn a_group_made_at_run_time_is_there_as_long_as_it_is_published() {
        let config = config();
        let shared = Arc::new(SharedGroups::new(&config, &Routing::default(), None, &HealthTable::default()));
        let (one, other) = (Thread::new(&config, &shared), Thread::new(&config, &shared));
        let made = |like: &str, servers: &[&str]| GroupSet {
            like: Some(like.into()),
            ..set(&config, "Extra", servers)
        };
        for thread in [&one, &other] {
            assert!(thread.1.made(b"extra").is_none());
            thread.publish(routing(2, [made("zoned", &["10.0.0.1:1"])]));
        }
        let found = one.1.made(b"EXTRA").unwrap();
        assert_eq!((found.number, found.like, found.group.is_own()), (7, config.group(b"zoned"), false));
        let lease = pick(&found.group).unwrap();
        let of_other = other.1.made(b"extra").unwrap().group;
        assert_eq!(of_other.peers(1)[0].connections, 1, "all threads share it, as the group it is like");
        one.publish(routing(3, [made("zoned", &["10.0.0.2:2"])]));
        assert_eq!(picks(&found.group), ["10.0.0.2:2"], "it is the same group");
        lease.finish(TryOutcome::Success, 3);

        // A reload carries it over; one that is like another is made anew.
        let next =
            SharedGroups::new(&config, &one.2.borrow(), Some((&config, &shared)), &HealthTable::default());
        let next =
            Groups::new(&config, &Arc::new(next), &one.2.borrow(), Some(&one.1), &Arc::default(), |_| 9);
        assert_eq!(
            (next.made(b"extra").unwrap().number, picks(&next.made(b"extra").unwrap().group).len()),
            (9, 1)
        );
        one.publish(routing(4, [made("keyed", &["10.0.0.2:2"])]));
        let keyed = one.1.made(b"extra").unwrap();
        assert_eq!((keyed.like, keyed.group.is_own()), (config.group(b"keyed"), true));
        one.publish(routing(5, []));
        assert!(one.1.made(b"extra").is_none() && one.1.all_made().is_empty());
    }

    #[test]
    fn an_unchanged_set_keeps_its_group_over_a_reload() {
        let config = config();
        let shared = Arc::new(SharedGroups::new(&config, &Routing::default(), None, &HealthTable::default()));
        let thread = Thread::new(&config, &shared);
        thread.publish(routing(2, [set(&config, "own", &["10.0.0.2:2", "10.0.0.3:3"])]));
        let next = |routing: &Routing| {
            let shared = Arc::new(SharedGroups::new(
                &config,
                routing,
                Some((&config, &shared)),
                &HealthTable::default(),
            ));
            Groups::new(&config, &shared, routing, Some(&thread.1), &Arc::default(), |_| 7)
        };
        let published = thread.2.borrow().clone();
        assert!(Rc::ptr_eq(&next(&published).find("own").unwrap(), &thread.group("own")));
        let other = next(&Routing::default()).find("own").unwrap();
        assert!(!Rc::ptr_eq(&other, &thread.group("own")));
        assert_eq!(picks(&other), ["10.0.0.1:1", "10.0.0.2:2"]);
        assert_eq!(
            picks(&thread.group("own")),
            ["10.0.0.2:2", "10.0.0.3:3"],
            "the generation in force is untouched"
        );
    }
}
