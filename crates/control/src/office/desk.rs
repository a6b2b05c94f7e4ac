//! One switch behind the counter: its store, and where its table is.
//!
//! Owns: the position (table, last hash, what awaits confirmation) of what is published, and the slot in which one commit
//! is made at a time. Must never: publish.

use super::stopping;
use crate::state::{Entries, EntryQuery, EntryState, Verification};
use crate::store::StoreThread;
use engine::Config;
use engine::modules::switch::{StatePath, SwitchSpec};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use switch::{Chain, Code, Commit, Filter, Hash, Order, Pending, Plan, Refusal, Rules, StoreFault, Table};
use tokio::sync::{Mutex, Notify};

/// Most orders that wait for one switch.
const MAX_WAITING: usize = 1024;
/// How many commits are read at a time when a history is checked.
const PAGE: usize = 512;

/// Where a switch is.
#[derive(Clone)]
pub(super) struct Position {
    pub(super) table: Arc<Table>,
    pub(super) hash: Hash,
    pub(super) pending: Vec<Pending>,
}

/// Where a desk stands: which switch of which configuration it serves.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) config: Arc<Config>,
    pub(super) number: usize,
}

/// One switch.
pub(super) struct Desk {
    name: RefCell<Arc<str>>,
    place: RefCell<Place>,
    pub(super) store: StoreThread,
    /// Whoever has it may commit.
    pub(super) slot: Mutex<()>,
    position: RefCell<Position>,
    pub(super) fault: RefCell<Option<StoreFault>>,
    /// The configuration has the switch no more.
    pub(super) retired: Cell<bool>,
    waiting: Cell<usize>,
    /// Something awaits confirmation, or does not any more.
    pub(super) pending_changed: Notify,
}

/// A place in the queue.
pub(super) struct InLine<'a>(&'a Desk);

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

impl Desk {
    pub(super) fn new(place: Place, store: StoreThread, position: Position) -> Desk {
        let name = Arc::from(&*place.spec().rules.name);
        Desk {
            name: RefCell::new(name),
            place: RefCell::new(place),
            store,
            slot: Mutex::new(()),
            position: RefCell::new(position),
            fault: RefCell::new(None),
            retired: Cell::new(false),
            waiting: Cell::new(0),
            pending_changed: Notify::new(),
        }
    }

    /// The switch's name.
    pub(super) fn name(&self) -> Arc<str> {
        self.name.borrow().clone()
    }

    pub(super) fn place(&self) -> Place {
        self.place.borrow().clone()
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        self.place.borrow().spec().rules.clone()
    }

    /// It serves another configuration from now on.
    pub(super) fn move_to(&self, place: Place) {
        *self.name.borrow_mut() = Arc::from(&*place.spec().rules.name);
        *self.place.borrow_mut() = place;
    }

    pub(super) fn position(&self) -> Position {
        self.position.borrow().clone()
    }

    pub(super) fn table(&self) -> Arc<Table> {
        self.position.borrow().table.clone()
    }

    /// A place in the queue, if there is one.
    pub(super) fn queue(&self) -> Result<InLine<'_>, Refusal> {
        if self.waiting.get() >= MAX_WAITING {
            return Err(Refusal::new(
                Code::Busy,
                format!("{MAX_WAITING} orders wait for switch \"{}\" already", self.name()),
                "repeat the order in a moment",
            ));
        }
        self.waiting.set(self.waiting.get() + 1);
        Ok(InLine(self))
    }

    /// Whether it still serves a switch.
    pub(super) fn in_office(&self) -> Result<(), Refusal> {
        match self.retired.get() {
            true => Err(Refusal::unknown_switch(&self.name(), &[])),
            false => Ok(()),
        }
    }

    pub(super) fn plan(&self, order: &Order, now_ms: u64) -> Result<Plan, Refusal> {
        let position = self.position.borrow();
        switch::plan(&position.table, &self.rules(), order, &position.pending, now_ms)
    }

    /// What the store has that is not taken over yet.
    pub(super) async fn news(&self) -> Result<Vec<Commit>, StoreFault> {
        let revision = self.table().revision();
        self.store.with(move |store| store.since(revision)).await
    }

    /// Takes over what the store has: commits that follow. Gives the table before.
    pub(super) fn advance(&self, news: &[Commit]) -> Result<Arc<Table>, StoreFault> {
        let before = self.position();
        let mut chain = Chain { revision: before.table.revision(), hash: before.hash };
        let mut pending = before.pending.clone();
        let mut table: Option<Table> = None;
        for commit in news {
            chain.follow(commit).map_err(|found| StoreFault {
                kind: switch::StoreFaultKind::Damaged,
                text: format!("what the store of switch \"{}\" says does not follow: {found}", self.name()),
                remedy: "stop all processes that use the store, and check it (history --verify)".to_owned(),
            })?;
            table = Some(table.as_ref().unwrap_or(&before.table).apply(commit));
            Pending::follow(&mut pending, commit);
        }
        if let Some(table) = table {
            *self.position.borrow_mut() = Position { table: Arc::new(table), hash: chain.hash, pending };
            self.pending_changed.notify_one();
        }
        Ok(before.table)
    }

    pub(super) async fn entries(&self, query: EntryQuery) -> Result<Entries, Refusal> {
        let table = self.table();
        // A million keys take a while to look at; this thread has others to serve.
        tokio::task::spawn_blocking(move || select(&table, &query)).await.map_err(|_| stopping())
    }

    pub(super) async fn history(&self, filter: Filter) -> Result<Vec<Commit>, Refusal> {
        Ok(self.store.with(move |store| store.history(&filter)).await?)
    }

    /// Goes through the history page by page, so that commits find their turn between two of them.
    pub(super) async fn verify(&self) -> Result<Verification, Refusal> {
        let mut chain = Chain::start();
        let fault = loop {
            let after = chain.revision;
            let page = self.store.with(move |store| store.page(after, PAGE)).await?;
            if let Some(found) = page.iter().find_map(|commit| chain.follow(commit).err()) {
                break Some((found.revision, found.to_string()));
            }
            if page.len() < PAGE {
                break None;
            }
        };
        let fault = fault.or_else(|| {
            let position = self.position.borrow();
            let published = (position.table.revision(), position.hash);
            let behind =
                chain.revision < published.0 || (chain.revision == published.0 && chain.hash != published.1);
            behind.then(|| {
                (
                    published.0,
                    format!(
                        "the history ends with revision {}, and {} is published",
                        chain.revision, published.0
                    ),
                )
            })
        });
        let (commits, hash) = (chain.revision, chain.hash.to_string());
        Ok(Verification { commits, revision: chain.revision, hash, fault })
    }
}

impl Place {
    pub(super) fn spec(&self) -> &SwitchSpec {
        &self.config.switches[self.number]
    }

    /// Whether two switches have the same store.
    pub(super) fn shares_store(&self, other: &Place) -> bool {
        let (own, other) = (self.spec(), other.spec());
        match (&own.state, &other.state) {
            (StatePath::Memory, StatePath::Memory) => own.rules.name == other.rules.name,
            (own, other) => own == other,
        }
    }
}

/// The entries that a query asks for, in the order of their keys. Goes through the whole table, and holds no more than is
/// asked for.
fn select(table: &Table, query: &EntryQuery) -> Entries {
    let limit = if query.limit == 0 { 100 } else { query.limit };
    let wanted = |key: &switch::Key, route: &switch::Route| {
        query.contains.as_ref().is_none_or(|part| key.as_str().contains(&**part))
            && query.after.as_ref().is_none_or(|after| key.as_str() > &**after)
            && query.target.as_ref().is_none_or(|target| route.targets().any(|one| **one == **target))
    };
    let mut found: std::collections::BTreeMap<&switch::Key, &Arc<switch::TableEntry>> = Default::default();
    for (key, entry) in table.iter().filter(|(key, entry)| wanted(key, &entry.route)) {
        found.insert(key, entry);
        // One more than is shown tells that there is more.
        if found.len() > limit + 1 {
            found.pop_last();
        }
    }
    let more = found.len() > limit;
    let state = |(key, entry): (&switch::Key, &Arc<switch::TableEntry>)| EntryState {
        key: key.clone(),
        route: entry.route.clone(),
        revision: entry.revision,
    };
    Entries { revision: table.revision(), entries: found.into_iter().take(limit).map(state).collect(), more }
}
