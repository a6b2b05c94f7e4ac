//! The journal: what happens and changes no table, in a chain of its own beside the histories of the switches.
//!
//! Owns its thread, the queue to it, and the count of what was lost. One file for all switches, beside the store of the
//! first. Must never hold anything up: what finds the queue full, or the disk failing, is lost, counted, and reported in the
//! error log and in the journal itself. Only commits have revisions, so that nothing here disturbs a comparison of
//! revisions or an undo.

mod entry;
mod file;
mod kept;
mod refusals;

pub use entry::{JournalEntry, Occurrence};
pub use file::{JournalQuery, JournalVerification};

pub(crate) use kept::{kept, start};

use crate::setup::Log;
use engine::Config;
use engine::host::Level;
use engine::modules::switch::{StatePath, groups_file};
use engine::modules::upstream::Origin;
use file::JournalFile;
use refusals::Refusals;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use switch::{Code, Refusal, StoreFault};
use tokio::sync::oneshot;

/// The maximum length of the queue.
const QUEUE: usize = 1024;
/// The maximum number of entries in one transaction.
const BATCH: usize = 256;
/// How often the thread looks for refusals whose minute has ended.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often a failure is reported.
const REPORTED_EVERY: Duration = Duration::from_secs(60);

/// A message to the thread.
enum Message {
    Append(Occurrence),
    Read(JournalQuery, oneshot::Sender<Result<Vec<JournalEntry>, StoreFault>>),
    Verify(oneshot::Sender<Result<JournalVerification, StoreFault>>),
    /// The file is another one from now on.
    Move(Option<JournalPlace>),
    Stop,
}

/// What the thread shares with the others.
#[derive(Default)]
struct State {
    refusals: Mutex<Refusals>,
    /// What was lost since the process began.
    lost: AtomicU64,
}

/// The journal of this process.
pub(crate) struct Journal {
    queue: SyncSender<Message>,
    state: Arc<State>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Where a journal is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JournalPlace {
    path: PathBuf,
    /// The configuration has no switch that keeps anything: that a process began or read its configuration makes no file.
    is_of_groups: bool,
}

/// What alone makes no file where no switch keeps anything.
const USUAL: [&str; 3] = ["start", "reload", "upgrade"];

impl JournalPlace {
    #[cfg(test)]
    pub(crate) fn of_switches(path: PathBuf) -> JournalPlace {
        JournalPlace { path, is_of_groups: false }
    }

    /// Returns true if these entries make no file here.
    fn passes_over(&self, batch: &[Occurrence]) -> bool {
        self.is_of_groups && batch.iter().all(|one| USUAL.contains(&&*one.kind)) && !self.path.exists()
    }
}

/// Returns the place of a configuration's journal: beside the store of the first switch that keeps anything, else beside that of
/// the groups. `None` if everything is kept in memory.
pub(crate) fn place(config: &Config) -> Option<JournalPlace> {
    let stores = || {
        config.switches.iter().filter_map(|spec| match &spec.state {
            StatePath::File(path) => Some(path),
            StatePath::Memory => None,
        })
    };
    let groups = groups_file(&config.prefix);
    let is_of_groups = config.switches.is_empty();
    let has_groups = || config.groups.iter().any(|entry| entry.origin == Origin::Block);
    let first = stores().next().or_else(|| (is_of_groups && has_groups()).then_some(&groups))?;
    let folder = first.parent()?;
    // A switch may be called "journal".
    let free = ["journal.db", "journal-of-switches.db"].map(|name| folder.join(name));
    let path = free.into_iter().find(|path| stores().all(|store| store != path))?;
    Some(JournalPlace { path, is_of_groups })
}

impl Journal {
    /// Starts the thread. It opens the file when there is something to do.
    pub(crate) fn start(
        place: Option<JournalPlace>,
        now_ms: impl Fn() -> u64 + Send + 'static,
        log: Log,
    ) -> std::io::Result<Journal> {
        let (queue, inbox) = sync_channel(QUEUE);
        let state = Arc::<State>::default();
        let writer = Writer { place, file: None, state: state.clone(), unreported: 0, reported: None, log };
        let thread =
            std::thread::Builder::new().name("journal".into()).spawn(move || writer.run(&inbox, now_ms))?;
        Ok(Journal { queue, state, thread: Mutex::new(Some(thread)) })
    }

    /// Returns a journal that keeps nothing.
    #[cfg(test)]
    pub(crate) fn off() -> Journal {
        let (queue, _) = sync_channel(0);
        Journal { queue, state: Arc::default(), thread: Mutex::default() }
    }

    /// Appends an entry. Never waits.
    pub(crate) fn append(&self, occurrence: Occurrence) {
        if self.queue.try_send(Message::Append(occurrence)).is_err() {
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts the refusal of an authenticated caller.
    pub(crate) fn refused(&self, now_ms: u64, actor: &str, code: Code, reason: &str) {
        let mut refusals = self.state.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.count(now_ms, actor, code.name(), reason);
    }

    /// Returns how many entries were lost since the process began.
    pub(crate) fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Relaxed)
    }

    /// Returns entries, newest first.
    pub(crate) async fn read(&self, query: JournalQuery) -> Result<Vec<JournalEntry>, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.ask(Message::Read(query, answer), answered).await
    }

    /// Verifies the chain.
    pub(crate) async fn verify(&self) -> Result<JournalVerification, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.ask(Message::Verify(answer), answered).await
    }

    async fn ask<T>(
        &self,
        message: Message,
        answered: oneshot::Receiver<Result<T, StoreFault>>,
    ) -> Result<T, Refusal> {
        let busy =
            || Refusal::new(Code::Busy, "the journal has too much to write just now", "retry in a moment");
        self.queue.try_send(message).map_err(|_| busy())?;
        Ok(answered.await.map_err(|_| busy())??)
    }

    /// Goes on in another file.
    pub(crate) fn move_to(&self, place: Option<JournalPlace>) {
        // A full queue is of a disk that fails, and the next reload comes.
        let _ = self.queue.try_send(Message::Move(place));
    }

    /// Writes what there is, and ends the thread.
    pub(crate) fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = self.queue.send(Message::Stop);
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Writer {
    place: Option<JournalPlace>,
    file: Option<JournalFile>,
    state: Arc<State>,
    /// What was lost and is in no entry yet.
    unreported: u64,
    /// When a failure was reported last.
    reported: Option<Instant>,
    log: Log,
}

impl Writer {
    fn run(mut self, inbox: &Receiver<Message>, now_ms: impl Fn() -> u64) {
        let mut seen = 0;
        loop {
            let first = inbox.recv_timeout(INTERVAL);
            let mut batch = Vec::new();
            let mut questions = Vec::new();
            let mut over = matches!(first, Err(RecvTimeoutError::Disconnected));
            for message in first.into_iter().chain(std::iter::from_fn(|| inbox.try_recv().ok())) {
                match message {
                    Message::Append(occurrence) => batch.push(occurrence),
                    Message::Stop => over = true,
                    // The order of entries and questions is kept.
                    question => questions.push(question),
                }
                if over || !questions.is_empty() || batch.len() >= BATCH {
                    break;
                }
            }
            let now = now_ms();
            let ended = (!over).then_some(now);
            let refusals = self.state.refusals.lock().map(|mut refusals| refusals.take(ended));
            batch.extend(refusals.unwrap_or_default());
            // What found the queue full.
            let lost = self.state.lost.load(Ordering::Relaxed);
            self.unreported += lost - seen;
            seen = lost + self.write(batch, now);
            questions.into_iter().for_each(|question| self.answer(question));
            if over {
                return;
            }
        }
    }

    /// Writes entries. Returns how many are lost by that.
    fn write(&mut self, mut batch: Vec<Occurrence>, now_ms: u64) -> u64 {
        let Some(place) = self.place.as_ref().filter(|_| !batch.is_empty() || self.unreported > 0) else {
            return 0;
        };
        if place.passes_over(&batch) {
            return 0;
        }
        let count = batch.len() as u64;
        if self.unreported > 0 {
            batch.push(Occurrence {
                time_ms: now_ms,
                kind: "lost".into(),
                actor: "pointsman".into(),
                reason: Some("the queue was full, or the disk failed".into()),
                count: self.unreported,
                ..Occurrence::default()
            });
        }
        match self.file().and_then(|file| file.append(&batch, now_ms)) {
            Ok(()) if self.unreported > 0 => {
                let text = format!("the journal is written again; {} entries were lost", self.unreported);
                (self.log)(Level::Error, &text);
                (self.unreported, self.reported) = (0, None);
                0
            }
            Ok(()) => 0,
            Err(fault) => {
                self.unreported += count;
                self.state.lost.fetch_add(count, Ordering::Relaxed);
                self.file = None;
                if self.reported.is_none_or(|at| at.elapsed() >= REPORTED_EVERY) {
                    self.reported = Some(Instant::now());
                    let text = format!("{fault}; {} entries were lost so far", self.unreported);
                    (self.log)(Level::Error, &text);
                }
                count
            }
        }
    }

    fn answer(&mut self, question: Message) {
        // A receiver that has gone wants no answer.
        match question {
            Message::Read(query, answer) => {
                let entries = match self.is_kept() {
                    true => self.file().and_then(|file| file.read(&query)),
                    false => Ok(Vec::new()),
                };
                let _ = answer.send(entries);
            }
            Message::Verify(answer) => {
                let nothing =
                    || JournalVerification { entries: 0, pruned: 0, hash: switch::Hash::ZERO, fault: None };
                let verified = match self.is_kept() {
                    true => self.file().and_then(|file| file.verify()),
                    false => Ok(nothing()),
                };
                let _ = answer.send(verified);
            }
            Message::Move(place) if place != self.place => (self.place, self.file) = (place, None),
            _ => {}
        }
    }

    /// Returns true if there is a file, or one is to be made.
    fn is_kept(&self) -> bool {
        self.place.as_ref().is_some_and(|place| !place.passes_over(&[]))
    }

    fn file(&mut self) -> Result<&mut JournalFile, StoreFault> {
        let Writer { place: Some(JournalPlace { path, .. }), file, .. } = self else { return Err(nowhere()) };
        if file.as_ref().is_some_and(|file| !file.is_in_place()) {
            *file = None;
        }
        match file {
            Some(file) => Ok(file),
            none => Ok(none.insert(JournalFile::open(path)?)),
        }
    }
}

fn nowhere() -> StoreFault {
    let text = "no switch keeps its table in a file, so there is no journal".to_owned();
    StoreFault {
        kind: switch::StoreFaultKind::Unreadable,
        text,
        remedy: "give a switch a state file".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(number: u64) -> Occurrence {
        Occurrence { kind: "hold".into(), actor: format!("a{number}"), count: 1, ..Occurrence::default() }
    }

    fn all() -> JournalQuery {
        JournalQuery { limit: 10_000, ..JournalQuery::default() }
    }

    fn started(path: PathBuf) -> (Journal, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let log = lines.clone();
        let log: Log = Arc::new(move |_, text: &str| log.lock().unwrap().push(text.to_owned()));
        (Journal::start(Some(JournalPlace::of_switches(path)), || 5, log).unwrap(), lines)
    }

    #[tokio::test]
    async fn entries_keep_their_order_and_outlive_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let (journal, lines) = started(path.clone());
        (0..300).for_each(|number| journal.append(hold(number)));
        (0..500).for_each(|_| journal.refused(5, "ci", Code::BadKey, "no key"));
        let entries = journal.read(all()).await.unwrap();
        assert_eq!((entries.len(), &*entries[0].occurrence.actor, journal.lost()), (300, "a299", 0));
        journal.stop();
        let (journal, _) = started(path);
        let entries = journal.read(all()).await.unwrap();
        let last = &entries[0].occurrence;
        assert_eq!(
            (entries.len(), &*last.kind, last.count),
            (301, "refused", 500),
            "folded, and written at the end"
        );
        assert_eq!(journal.verify().await.unwrap().fault, None);
        assert!(lines.lock().unwrap().is_empty());
        journal.stop();
    }

    #[tokio::test]
    async fn a_disk_that_fails_holds_nothing_up_and_what_is_lost_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        // A folder in its place cannot be written.
        std::fs::create_dir(&path).unwrap();
        let (journal, lines) = started(path.clone());
        let began = Instant::now();
        (0..10_000).for_each(|number| journal.append(hold(number)));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(journal.read(all()).await.is_err());
        while journal.lost() < 10_000 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let said = lines.lock().unwrap().len();
        assert_eq!(said, 1, "once a minute");
        std::fs::remove_dir(&path).unwrap();
        journal.append(hold(1));
        let entries = journal.read(all()).await.unwrap();
        let lost: Vec<_> = entries.iter().filter(|entry| entry.occurrence.kind == "lost").collect();
        assert_eq!(lost.iter().map(|entry| entry.occurrence.count).sum::<u64>(), 10_000);
        assert!(lines.lock().unwrap().last().unwrap().contains("10000 entries were lost"));
        journal.stop();
    }
}
