//! A store in memory that behaves as etcd does, and as etcd behaves when it fails: for tests and the simulation.
//!
//! Owns: the faults. Must never: be kinder than etcd: an answer may be lost, a transaction may be carried out late, a watch
//! above the newest revision is silent.

use crate::fault::{FaultKind, FleetFault};
use crate::keyspace::{
    CallFault, Condition, Entry, KeyAnswer, KeyStep, KeyWatch, Keyspace, LocalBoxFuture, Read, SeenChange,
    Transaction,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;

/// The fate of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out and answered.
    #[default]
    Answered,
    /// The store is not reached.
    Unreachable,
    /// It is lost on its way.
    Lost,
    /// It is carried out, and the answer is lost.
    AnswerLost,
    /// There is no answer, and it is carried out after this time.
    Late(Duration),
}

/// The content of a store at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    revision: i64,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Default)]
struct Content {
    now: Snapshot,
    /// All changes, with their revisions.
    log: Vec<(i64, SeenChange)>,
    compacted: i64,
}

type Fates = Box<dyn FnMut(&str, &Transaction) -> Fate>;

/// The store. Its clones are clients of the same one.
#[derive(Clone)]
pub struct SimulatedStore {
    content: Rc<RefCell<Content>>,
    fates: Rc<RefCell<Option<Fates>>>,
    changed: Rc<watch::Sender<u64>>,
    client: String,
}

impl Default for SimulatedStore {
    fn default() -> SimulatedStore {
        SimulatedStore {
            content: Rc::default(),
            fates: Rc::default(),
            changed: Rc::new(watch::Sender::new(0)),
            client: String::new(),
        }
    }
}

impl SimulatedStore {
    /// Returns an empty store.
    pub fn new() -> SimulatedStore {
        SimulatedStore::default()
    }

    /// Returns a client with a name.
    pub fn client(&self, name: &str) -> SimulatedStore {
        SimulatedStore { client: name.to_owned(), ..self.clone() }
    }

    /// Decides what becomes of each call, by the client's name.
    pub fn set_fates(&self, fates: impl FnMut(&str, &Transaction) -> Fate + 'static) {
        *self.fates.borrow_mut() = Some(Box::new(fates));
    }

    /// Has every call answered again.
    pub fn clear_fates(&self) {
        *self.fates.borrow_mut() = None;
    }

    /// Returns the content.
    pub fn snapshot(&self) -> Snapshot {
        self.content.borrow().now.clone()
    }

    /// Puts a content back, as from a snapshot; the empty one is a wipe. Watches stay, and see what comes after their revision.
    pub fn put_back(&self, snapshot: Snapshot) {
        let mut content = self.content.borrow_mut();
        *content = Content { now: snapshot, ..Content::default() };
    }

    /// Forgets the changes up to the present revision.
    pub fn compact(&self) {
        let mut content = self.content.borrow_mut();
        content.compacted = content.now.revision;
        content.log.clear();
    }

    /// Raises the revision by writes outside any prefix.
    pub fn raise(&self, by: i64) {
        self.content.borrow_mut().now.revision += by;
    }

    fn carry_out(&self, transaction: &Transaction) -> KeyAnswer {
        let mut content = self.content.borrow_mut();
        let held = transaction.conditions.iter().all(|condition| holds(&content.now, condition));
        let mut answer = KeyAnswer { held, ..KeyAnswer::default() };
        if !held {
            answer.reads = transaction.otherwise.iter().map(|read| content.now.read(read)).collect();
        } else {
            let revision = content.now.revision + 1;
            let mut wrote = false;
            for step in &transaction.then {
                let (entry, is_removed) = match step {
                    KeyStep::Read(read) => {
                        answer.reads.push(content.now.read(read));
                        continue;
                    }
                    KeyStep::Put(key, value) => {
                        (Entry { key: key.clone(), value: value.clone(), written: revision }, false)
                    }
                    KeyStep::Delete(key) => {
                        if content.now.entries.remove(key).is_none() {
                            continue;
                        }
                        (Entry { key: key.clone(), value: Vec::new(), written: revision }, true)
                    }
                };
                if !is_removed {
                    content.now.entries.insert(entry.key.clone(), entry.clone());
                }
                content.log.push((revision, SeenChange { entry, is_removed }));
                wrote = true;
            }
            if wrote {
                content.now.revision = revision;
            }
        }
        answer.revision = content.now.revision;
        drop(content);
        self.changed.send_modify(|count| *count += 1);
        answer
    }
}

impl Snapshot {
    fn read(&self, read: &Read) -> Vec<Entry> {
        match read {
            Read::Key(key) => self.entries.get(key).cloned().into_iter().collect(),
            Read::Range { from, below, limit } => self
                .entries
                .range(from.clone()..below.clone())
                .take(*limit)
                .map(|(_, entry)| entry.clone())
                .collect(),
        }
    }
}

fn holds(content: &Snapshot, condition: &Condition) -> bool {
    match condition {
        Condition::Absent(key) => !content.entries.contains_key(key),
        Condition::Value(key, value) => content.entries.get(key).is_some_and(|entry| entry.value == *value),
        Condition::Written(key, written) => {
            content.entries.get(key).map_or(0, |entry| entry.written) == *written
        }
    }
}

fn lost() -> FleetFault {
    FleetFault::new(FaultKind::Unreachable, "the simulated store gave no answer", "it tries again")
}

impl Keyspace for SimulatedStore {
    fn transact(&self, transaction: Transaction) -> LocalBoxFuture<'_, Result<KeyAnswer, CallFault>> {
        Box::pin(async move {
            // As the network is never at once, others come between.
            tokio::task::yield_now().await;
            let fate = self.fates.borrow_mut().as_mut().map(|fates| fates(&self.client, &transaction));
            let is_read = transaction.is_read();
            let unknown = || if is_read { CallFault::NotDone(lost()) } else { CallFault::Unknown(lost()) };
            match fate.unwrap_or_default() {
                Fate::Answered => Ok(self.carry_out(&transaction)),
                Fate::Unreachable => Err(CallFault::NotDone(lost())),
                Fate::Lost => Err(unknown()),
                Fate::AnswerLost => {
                    self.carry_out(&transaction);
                    Err(unknown())
                }
                Fate::Late(after) => {
                    let store = self.clone();
                    tokio::task::spawn_local(async move {
                        tokio::time::sleep(after).await;
                        store.carry_out(&transaction);
                    });
                    Err(unknown())
                }
            }
        })
    }

    fn watch(&self, prefix: String, from: i64) -> LocalBoxFuture<'_, Result<Box<dyn KeyWatch>, FleetFault>> {
        let watch = SimulatedWatch { store: self.clone(), prefix, from };
        Box::pin(async move { Ok(Box::new(watch) as Box<dyn KeyWatch>) })
    }

    fn place(&self) -> String {
        "a simulated store".to_owned()
    }
}

struct SimulatedWatch {
    store: SimulatedStore,
    prefix: String,
    from: i64,
}

impl KeyWatch for SimulatedWatch {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Vec<SeenChange>, FleetFault>> {
        Box::pin(async move {
            let mut changed = self.store.changed.subscribe();
            loop {
                {
                    let content = self.store.content.borrow();
                    if self.from <= content.compacted {
                        return Err(FleetFault::new(
                            FaultKind::Refused,
                            "the revision to watch from was compacted",
                            "it reads everything anew",
                        ));
                    }
                    let first = content.log.iter().find(|(revision, change)| {
                        *revision >= self.from && change.entry.key.starts_with(&self.prefix)
                    });
                    if let Some((revision, _)) = first {
                        let revision = *revision;
                        let of = content.log.iter().filter(|(one, _)| *one == revision);
                        let changes = of
                            .filter(|(_, change)| change.entry.key.starts_with(&self.prefix))
                            .map(|(_, change)| change.clone())
                            .collect();
                        self.from = revision + 1;
                        return Ok(changes);
                    }
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        })
    }
}
