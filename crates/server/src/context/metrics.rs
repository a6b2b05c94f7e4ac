//! The measurements of each thread under each generation, and how they reach the process's collector.
//!
//! Owns when a recorder is emptied: about once a second, when a report is read, and when its generation ends, so that a
//! reload loses nothing and counts nothing twice. Recording itself takes no lock and writes to no shared memory.

use crate::proxy::groups::{is_made, servers};
use engine::Config;
use engine::exchange::Try;
use engine::modules::upstream::Origin;
use statistics::{Collector, GroupLayout, Layout, Recorder, RequestEnd};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use transport::clock::Clock;
use upstream::{Group, GroupSets, GroupSpec};

/// How many switch keys are counted by themselves; the rest are counted together.
const MAX_KEYS: usize = 1000;

/// Returns the names under which a configuration is measured. Peers are in the order in which groups have them.
pub(crate) fn layout(config: &Config, groups: &GroupSets) -> Layout {
    let configured = config.groups.iter().map(|entry| {
        let spec = servers(entry, groups);
        let name = match entry.origin {
            Origin::Implied { port, has_port: true, .. } => format!("{}:{port}", spec.name).into(),
            _ => Arc::from(spec.name.as_str()),
        };
        group_layout(name, spec)
    });
    let made = groups.iter().filter(|set| is_made(config, set));
    let made = made.map(|set| group_layout(set.spec.name.as_str().into(), &set.spec));
    Layout {
        groups: configured.chain(made).collect(),
        switches: config.switches.iter().map(|spec| Arc::from(&*spec.rules.name)).collect(),
        max_keys: MAX_KEYS,
    }
}

/// Returns the names under which a group is measured.
pub(crate) fn group_layout(name: Arc<str>, spec: &GroupSpec) -> GroupLayout {
    // In the order of `upstream::Group::peers`.
    let of = |backup: bool| spec.peers.iter().filter(move |peer| peer.backup == backup);
    let peers = of(false).chain(of(true)).map(|peer| Arc::from(peer.name.as_str())).collect();
    GroupLayout { name, peers }
}

/// The numbers of a group's peers, by their position in it.
#[derive(Debug, Default)]
struct PeerNumbers {
    /// [`Group::revision`], under which the positions mean these peers; 0 before the first pick.
    revision: u64,
    by_position: Box<[u32]>,
}

/// The measurements of one thread under one generation.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// `None` if metrics are off.
    recorder: Option<RefCell<Recorder>>,
    /// Of each group, the numbers of its peers by their position.
    numbers: RefCell<Vec<PeerNumbers>>,
    collector: Arc<Mutex<Collector>>,
    clock: Rc<Clock>,
}

impl Metrics {
    /// Starts to measure under these names; without them, measures nothing.
    pub(crate) fn new(
        layout: Option<&Arc<Layout>>,
        collector: &Arc<Mutex<Collector>>,
        clock: &Rc<Clock>,
    ) -> Metrics {
        Metrics {
            recorder: layout.map(|layout| RefCell::new(Recorder::new(Arc::clone(layout)))),
            numbers: RefCell::default(),
            collector: Arc::clone(collector),
            clock: Rc::clone(clock),
        }
    }

    /// Records something, unless metrics are off.
    #[inline]
    pub(crate) fn record(&self, what: impl FnOnce(&mut Recorder)) {
        if let Some(recorder) = &self.recorder {
            what(&mut recorder.borrow_mut());
        }
    }

    /// Returns the number under which the peer at this position of a group is measured.
    #[inline]
    pub(crate) fn peer_number(&self, group: usize, of: &Group, position: usize) -> usize {
        if let Some(known) = self.numbers.borrow().get(group)
            && known.revision == of.revision()
        {
            return known.by_position.get(position).map_or(usize::MAX, |number| *number as usize);
        }
        self.renumber(group, of, position)
    }

    /// Returns the same after the group's peers have changed.
    #[cold]
    fn renumber(&self, group: usize, of: &Group, position: usize) -> usize {
        let Some(recorder) = &self.recorder else { return usize::MAX };
        if group == Layout::OTHER_GROUP {
            return usize::MAX;
        }
        let names: Vec<Arc<str>> =
            of.peers().iter().chain(of.departed()).map(|peer| peer.spec().name.as_str().into()).collect();
        let by_position = recorder.borrow_mut().place_peers(group, &names);
        let number = by_position.get(position).map_or(usize::MAX, |number| *number as usize);
        let mut numbers = self.numbers.borrow_mut();
        if numbers.len() <= group {
            numbers.resize_with(group + 1, PeerNumbers::default);
        }
        numbers[group] = PeerNumbers { revision: of.revision(), by_position };
        number
    }

    /// Returns the number of a group made at run time. What was known of the positions of an earlier one of this name is void.
    pub(crate) fn made_group(&self, name: &Arc<str>) -> usize {
        let Some(recorder) = &self.recorder else { return Layout::OTHER_GROUP };
        let number = recorder.borrow_mut().add_group(name);
        if let Some(known) = self.numbers.borrow_mut().get_mut(number) {
            known.revision = 0;
        }
        number
    }

    /// Tells the collector which servers a group has now; none: it is gone.
    pub(crate) fn arrange_group(&self, name: &Arc<str>, layout: Option<GroupLayout>) {
        self.collector.lock().unwrap_or_else(PoisonError::into_inner).arrange_group(name, layout);
    }

    /// Hands what was recorded to the collector.
    pub(crate) fn empty(&self) {
        let Some(recorder) = &self.recorder else { return };
        let mut recorder = recorder.borrow_mut();
        if !recorder.is_empty() {
            let mut collector = self.collector.lock().unwrap_or_else(PoisonError::into_inner);
            collector.absorb(&mut recorder, self.clock.now().monotonic_ms());
        }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.empty();
    }
}

/// Sums up a request: its tries, and the status that the client got.
pub(crate) fn request_end(tries: &[Try], status: u16) -> RequestEnd {
    let mut end = RequestEnd { status, ..RequestEnd::default() };
    for one in tries {
        if let Some(us) = one.response_us {
            end.response_us = Some(end.response_us.unwrap_or(0) + us);
        }
        end.received += one.received;
        end.sent += one.sent;
    }
    end
}
