//! Measuring: what each thread counts under each generation, and its way into the process's collector.
//!
//! Owns when a recorder is emptied: about once a second, when somebody reads, and when its generation ends, so that
//! nothing is lost or counted twice over a reload. Recording itself takes no lock and no shared count.

use crate::clock::Clock;
use crate::generation::Generation;
use crate::worker::Worker;
use engine::Config;
use engine::exchange::Try;
use engine::modules::upstream::Origin;
use statistics::{Collector, GroupLayout, Layout, Recorder, RequestEnd};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use upstream::{GroupSpec, PeerSpec};

pub(crate) mod report;

/// How many switch keys are counted each by itself; the rest are counted together.
const MAX_KEYS: usize = 1000;

/// The names of everything that is measured under a configuration. Peers are in the order in which groups have them.
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

/// The peers of a group in the order in which [`upstream::Group::peers`] has them.
fn in_order(spec: &GroupSpec) -> impl Iterator<Item = &PeerSpec> {
    let of = |backup: bool| spec.peers.iter().filter(move |peer| peer.backup == backup);
    of(false).chain(of(true))
}

/// One thread's recorder of one generation.
#[derive(Debug)]
pub(crate) struct Recording {
    /// None if nothing is to be recorded.
    recorder: Option<RefCell<Recorder>>,
    collector: Arc<Mutex<Collector>>,
    clock: Rc<Clock>,
}

impl Recording {
    /// Begins to record under these names, or not to.
    pub(crate) fn new(
        layout: Option<&Arc<Layout>>,
        collector: &Arc<Mutex<Collector>>,
        clock: &Rc<Clock>,
    ) -> Recording {
        Recording {
            recorder: layout.map(|layout| RefCell::new(Recorder::new(Arc::clone(layout)))),
            collector: Arc::clone(collector),
            clock: Rc::clone(clock),
        }
    }

    /// Records something, if anything is to be recorded.
    #[inline]
    pub(crate) fn note(&self, what: impl FnOnce(&mut Recorder)) {
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

impl Drop for Recording {
    fn drop(&mut self) {
        self.empty();
    }
}

/// Hands everything that this thread has recorded to the collector, older generations' too.
pub(crate) fn collect(worker: &Worker) {
    worker.generation().recording.empty();
    worker.older_generations().iter().for_each(|older| older.recording.empty());
}

/// What a request came to: the tries from `first` on, and the status that the client was answered with.
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

/// A request has ended: it counts for each key by which a switch was asked for it.
#[inline]
pub(crate) fn keys_ended(exchange: &engine::Exchange, generation: &Generation) {
    let choices = exchange.switches.choices();
    if choices.is_empty() {
        return;
    }
    let end = request_end(&exchange.upstream.tries, exchange.response.status);
    generation.recording.note(|recorder| {
        for choice in choices {
            recorder.key_ended(usize::from(choice.switch), &choice.key, &choice.target, &end);
        }
    });
}
