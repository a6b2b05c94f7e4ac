//! What the workers of a simulated process have answered: as their recorders count it, and as a plain list.

use super::World;
use crate::horizon::HorizonState;
use sim::{Seeded, holds};
use statistics::{Collector, GroupLayout, Layout, Recorder, RequestEnd, RoutedRequest};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use switch::Table;
use tokio::time::{Instant, sleep};

/// A request that has ended.
struct Answer {
    key: &'static str,
    /// The revision of the table that it asked.
    revision: u64,
    failed: bool,
    at: Instant,
}

pub(super) struct Answers {
    recorder: Mutex<Recorder>,
    pub(super) collector: Mutex<Collector>,
    all: Mutex<Vec<Answer>>,
}

impl Answers {
    pub(super) fn new() -> Answers {
        let group = |name: &str| GroupLayout { name: name.into(), peers: Vec::new() };
        let groups = vec![group("blue"), group("green")];
        let layout = Arc::new(Layout { groups, switches: vec!["live".into()], max_keys: 1000 });
        Answers {
            recorder: Mutex::new(Recorder::new(layout.clone())),
            collector: Mutex::new(Collector::new(layout, 0)),
            all: Mutex::default(),
        }
    }

    /// Counts a request that ends and has asked this table.
    pub(super) fn count(&self, id: u64, key: &'static str, target: &str, table: &Table, is_stream: bool) {
        let failed = id.is_multiple_of(7);
        let revision = table.route_revision(table.find(key.as_bytes()).map(|entry| &**entry));
        let routed =
            RoutedRequest { revision, is_stream, failed, ..RoutedRequest::new(key.as_bytes(), target) };
        self.recorder.lock().unwrap().key_ended(0, &routed, &RequestEnd::default());
        let answer = Answer { key, revision: table.revision(), failed, at: Instant::now() };
        self.all.lock().unwrap().push(answer);
    }

    pub(super) fn collect(&self, now_ms: u64) {
        self.collector.lock().unwrap().absorb(&mut self.recorder.lock().unwrap(), now_ms);
    }

    /// Returns how many requests a commit has routed that have ended before then, and how many of them have failed, by the
    /// tables on the disk.
    fn of(&self, tables: &[Table], commit: u64, before: Instant) -> (u64, u64) {
        let entry = |revision: u64, key: &str| {
            // An entry that is set anew as it is has not changed.
            tables[revision as usize].find(key.as_bytes()).map(|entry| entry.route.clone())
        };
        let is_by = |answer: &&Answer| {
            let changed = (1..=answer.revision)
                .rev()
                .find(|revision| entry(*revision, answer.key) != entry(revision - 1, answer.key));
            changed == Some(commit) && answer.at < before
        };
        let all = self.all.lock().unwrap();
        let own = all.iter().filter(is_by);
        own.fold((0, 0), |(served, failed), one| (served + 1, failed + u64::from(one.failed)))
    }
}

/// Reads receipts of commits whose answers are counted.
pub(super) async fn read_receipts(world: Rc<World>, mut seeded: Seeded) {
    loop {
        sleep(Duration::from_millis(seeded.within(100..=1_500))).await;
        let Some(process) = world.any_process(&mut seeded) else { continue };
        let newest = process.workers.lowest();
        if newest == 0 {
            continue;
        }
        let revision = seeded.within(newest.saturating_sub(8).max(1)..=newest);
        let asked = Instant::now();
        let Ok(receipt) = process.control.receipt("live", revision).await else { continue };
        let (Some(horizon), Some(drain)) = (receipt.horizon, receipt.drain) else { continue };
        // Another process counts its own requests.
        if horizon.state != HorizonState::Watching || horizon.process != process.number.to_string() {
            continue;
        }
        let disk = world.shared.disk.lock().unwrap();
        let answers = &process.workers.answers;
        let (least, most) = (
            answers.of(&disk.tables, revision, asked),
            answers.of(&disk.tables, revision, Instant::now() + Duration::from_millis(1)),
        );
        let counted = (drain.served_new, drain.failed_new);
        holds!(
            "answers-to-their-commit",
            (least.0..=most.0).contains(&counted.0) && (least.1..=most.1).contains(&counted.1),
            "the receipt of {revision} has {counted:?} of {least:?} to {most:?} requests (failed)"
        );
    }
}
