//! The measurements of each thread under each generation, and how they reach the process's collector.
//!
//! Owns when a recorder is emptied: about once a second, when a report is read, and when its generation ends, so that a
//! reload loses nothing and counts nothing twice. Recording itself takes no lock and writes to no shared memory.

use engine::Config;
use engine::exchange::Try;
use engine::modules::upstream::Origin;
use statistics::{Collector, GroupLayout, Layout, Recorder, RequestEnd};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use transport::clock::Clock;
use upstream::{GroupSpec, PeerSpec};

/// How many switch keys are counted by themselves; the rest are counted together.
const MAX_KEYS: usize = 1000;

/// Returns the names under which a configuration is measured. Peers are in the order in which groups have them.
pub(crate) fn layout(config: &Config) -> Layout {
    let groups = config.groups.iter().map(|entry| {
        let spec = &entry.spec;
        let name = match entry.origin {
            Origin::Implied { port, has_port: true, .. } => format!("{}:{port}", spec.name).into(),
            _ => Arc::from(spec.name.as_str()),
        };
        GroupLayout { name, peers: in_order(spec).map(|peer| Arc::from(peer.name.as_str())).collect() }
    });
    Layout {
        groups: groups.collect(),
        switches: config.switches.iter().map(|spec| Arc::from(&*spec.rules.name)).collect(),
        max_keys: MAX_KEYS,
    }
}

/// Returns the peers of a group in the order of [`upstream::Group::peers`].
pub(crate) fn in_order(spec: &GroupSpec) -> impl Iterator<Item = &PeerSpec> {
    let of = |backup: bool| spec.peers.iter().filter(move |peer| peer.backup == backup);
    of(false).chain(of(true))
}

/// The measurements of one thread under one generation.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// `None` if metrics are off.
    recorder: Option<RefCell<Recorder>>,
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
