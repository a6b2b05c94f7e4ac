//! The state of a switch: its store and its published position.
//!
//! Owns: the position (table, last hash, pending confirmations) that is published, and the lock under which commits are
//! made. Must never: publish.

use super::holds::OwnHolds;
use super::made::Made;
use super::registry::{self, Record};
use super::shared::stopping;
use super::unchanged::Unchanged;
use super::window::Windows;
use crate::info::{Entries, EntryInfo, EntryQuery, Verification};
use crate::store::StoreThread;
use engine::Config;
use engine::modules::switch::{StatePath, SwitchSpec};
use engine::modules::upstream::Bases;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use switch::{
    Chain, Code, Commit, Filter, GroupUse, Hash, Order, Pending, Plan, Refusal, Rules, StoreFault, Table,
};
use tokio::sync::{Mutex, Notify};

/// The maximum number of orders that wait for one switch.
const MAX_WAITING: usize = 1024;
/// The number of commits read at a time when a history is verified.
const PAGE: usize = 512;

/// The position of a switch in its history.
#[derive(Clone)]
pub(super) struct Position {
    pub(super) table: Arc<Table>,
    pub(super) hash: Hash,
    pub(super) pending: Vec<Pending>,
}

/// A switch of a configuration.
#[derive(Clone)]
pub(super) struct ConfiguredSwitch {
    pub(super) config: Arc<Config>,
    /// Its number there; of the groups, one that no switch has.
    pub(super) number: usize,
    /// The groups, which are no switch of the configuration's.
    groups: Option<Arc<SwitchSpec>>,
    /// The servers that they have before orders.
    pub(super) bases: Bases,
}

/// One switch.
pub(super) struct SwitchState {
    name: RefCell<Arc<str>>,
    place: RefCell<ConfiguredSwitch>,
    /// Those of its configuration, with the groups made at run time.
    rules: RefCell<Arc<Rules>>,
    pub(super) store: StoreThread,
    /// Taken to commit.
    pub(super) commit_lock: Mutex<()>,
    position: RefCell<Position>,
    pub(super) fault: RefCell<Option<StoreFault>>,
    /// True once the configuration no longer has the switch.
    pub(super) removed: Cell<bool>,
    waiting: Cell<usize>,
    /// Notified when the pending confirmations change.
    pub(super) pending_changed: Notify,
    /// The store may hold a commit of this process of which it does not know.
    pub(super) is_behind: Cell<bool>,
    /// What is remembered of the pending commits' windows.
    pub(super) windows: RefCell<Windows>,
    /// Orders that changed nothing.
    pub(super) unchanged: RefCell<Unchanged>,
    pub(super) own_holds: OwnHolds,
}

/// A place in the queue of orders.
pub(super) struct QueueSlot<'a>(&'a SwitchState);

impl Drop for QueueSlot<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

impl SwitchState {
    /// Returns the fault of its store, with its remedy.
    pub(super) fn fault_text(&self) -> Option<(String, String)> {
        self.fault.borrow().as_ref().map(|fault| (fault.text.clone(), fault.remedy.clone()))
    }

    pub(super) fn new(place: ConfiguredSwitch, store: StoreThread, position: Position) -> SwitchState {
        let (name, rules) = (Arc::from(&*place.spec().rules.name), place.spec().rules.clone());
        SwitchState {
            name: RefCell::new(name),
            place: RefCell::new(place),
            rules: RefCell::new(rules),
            store,
            commit_lock: Mutex::new(()),
            position: RefCell::new(position),
            fault: RefCell::new(None),
            removed: Cell::new(false),
            waiting: Cell::new(0),
            pending_changed: Notify::new(),
            is_behind: Cell::new(false),
            windows: RefCell::default(),
            unchanged: RefCell::default(),
            own_holds: OwnHolds::default(),
        }
    }

    /// Returns the switch's name.
    pub(super) fn name(&self) -> Arc<str> {
        self.name.borrow().clone()
    }

    pub(super) fn configured(&self) -> ConfiguredSwitch {
        self.place.borrow().clone()
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        self.rules.borrow().clone()
    }

    /// Returns true if its keys may lead to groups made at run time.
    pub(super) fn admits_made(&self) -> bool {
        self.rules.borrow().run_time.is_admitted
    }

    /// Makes the groups that were made at run time targets, if it admits them.
    pub(super) fn admit(&self, made: &Made) {
        *self.rules.borrow_mut() = made.rules(&self.place.borrow().spec().rules);
    }

    /// Sets what leads to groups that an order may remove.
    pub(super) fn set_uses(&self, uses: Vec<GroupUse>) {
        Arc::make_mut(&mut self.rules.borrow_mut()).run_time.uses = uses.into();
    }

    /// Moves the switch to another configuration.
    pub(super) fn reconfigure(&self, place: ConfiguredSwitch) {
        *self.name.borrow_mut() = Arc::from(&*place.spec().rules.name);
        *self.rules.borrow_mut() = place.spec().rules.clone();
        *self.place.borrow_mut() = place;
    }

    /// Returns the file of its store, if it has one.
    pub(super) fn store_path(&self) -> Option<PathBuf> {
        match &self.place.borrow().spec().state {
            StatePath::File(path) => Some(path.clone()),
            StatePath::Memory => None,
        }
    }

    /// Returns the record of a switch that keeps a store and has been used.
    pub(super) fn record(&self) -> Option<Record> {
        let path = self.store_path().filter(|_| !self.place.borrow().is_groups())?;
        (self.table().revision() > 0).then(|| Record { name: self.name().to_string(), path })
    }

    pub(super) fn position(&self) -> Position {
        self.position.borrow().clone()
    }

    /// Replaces the position: the store was opened again.
    pub(super) fn set_position(&self, position: Position) {
        *self.position.borrow_mut() = position;
        self.pending_changed.notify_one();
    }

    pub(super) fn table(&self) -> Arc<Table> {
        self.position.borrow().table.clone()
    }

    /// Takes a place in the queue; fails if it is full.
    pub(super) fn enqueue(&self) -> Result<QueueSlot<'_>, Refusal> {
        if self.waiting.get() >= MAX_WAITING {
            return Err(Refusal::new(
                Code::Busy,
                format!("too many orders wait for switch \"{}\": at most {MAX_WAITING}", self.name()),
                "retry in a moment",
            ));
        }
        self.waiting.set(self.waiting.get() + 1);
        Ok(QueueSlot(self))
    }

    /// Fails if the configuration no longer has the switch.
    pub(super) fn ensure_configured(&self) -> Result<(), Refusal> {
        match self.removed.get() {
            true => Err(Refusal::unknown_switch(&self.name(), &[])),
            false => Ok(()),
        }
    }

    pub(super) fn plan(&self, order: &Order) -> Result<Plan, Refusal> {
        self.place.borrow().takes(order)?;
        let position = self.position.borrow();
        switch::plan(&position.table, &self.rules(), order, &position.pending)
    }

    /// Returns the commits in the store that are not applied yet.
    pub(super) async fn unseen_commits(&self) -> Result<Vec<Commit>, StoreFault> {
        let revision = self.table().revision();
        self.store.with(move |store| store.since(revision)).await
    }

    /// Applies commits that follow. Returns the table before them.
    pub(super) fn apply(&self, news: &[Commit]) -> Result<Arc<Table>, StoreFault> {
        let before = self.position();
        let mut chain = Chain { revision: before.table.revision(), hash: before.hash };
        let mut pending = before.pending.clone();
        let mut table: Option<Table> = None;
        for commit in news {
            chain.follow(commit).map_err(|found| StoreFault {
                kind: switch::StoreFaultKind::Damaged,
                text: format!(
                    "the store of switch \"{}\" holds a commit that does not follow: {found}",
                    self.name()
                ),
                remedy: "stop all processes that use the store, and check it (history --verify)".to_owned(),
            })?;
            table = Some(table.as_ref().unwrap_or(&before.table).apply(commit));
            Pending::follow(&mut pending, commit);
        }
        if let Some(table) = table {
            *self.position.borrow_mut() = Position { table: Arc::new(table), hash: chain.hash, pending };
            self.pending_changed.notify_one();
        }
        if before.table.revision() == 0
            && let Some(record) = self.record()
        {
            // What fails here is done again at the next start.
            self.store.tell(move |_| drop(registry::record(record)));
        }
        Ok(before.table)
    }

    pub(super) async fn entries(&self, query: EntryQuery) -> Result<Entries, Refusal> {
        entries_of(self.table(), query).await
    }

    pub(super) async fn history(&self, filter: Filter) -> Result<Vec<Commit>, Refusal> {
        Ok(self.store.with(move |store| store.history(&filter)).await?)
    }

    /// Verifies the history page by page, so that commits can be made between two pages.
    pub(super) async fn verify(&self) -> Result<Verification, Refusal> {
        let (mut chain, mut commits) = (Chain::start(), 0);
        let fault = loop {
            let after = chain.revision;
            let page = self.store.with(move |store| store.page(after, PAGE)).await?;
            if let Some(found) = page.iter().find_map(|commit| chain.follow(commit).err()) {
                break Some((found.revision, found.to_string()));
            }
            // A restore leaves revisions out.
            commits += page.len() as u64;
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
                        "the history ends at revision {}, but {} is published",
                        chain.revision, published.0
                    ),
                )
            })
        });
        let hash = chain.hash.to_string();
        Ok(Verification { commits, revision: chain.revision, hash, fault })
    }
}

impl ConfiguredSwitch {
    /// Returns the switch of this number.
    pub(super) fn new(config: Arc<Config>, number: usize) -> ConfiguredSwitch {
        ConfiguredSwitch { config, number, groups: None, bases: Bases::default() }
    }

    /// Returns the groups, with these servers before orders.
    pub(super) fn of_groups(config: Arc<Config>, bases: Bases) -> ConfiguredSwitch {
        let groups = Some(Arc::new(SwitchSpec::of_groups_with(&config, &bases)));
        ConfiguredSwitch { config, number: usize::MAX, groups, bases }
    }

    /// Returns true if it is that of the groups, which has servers and no keys.
    pub(super) fn is_groups(&self) -> bool {
        self.groups.is_some()
    }

    pub(super) fn spec(&self) -> &SwitchSpec {
        self.groups.as_deref().unwrap_or_else(|| &self.config.switches[self.number])
    }

    /// Returns true if two switches have the same store.
    pub(super) fn shares_store(&self, other: &ConfiguredSwitch) -> bool {
        let (own, other) = (self.spec(), other.spec());
        match (&own.state, &other.state) {
            (StatePath::Memory, StatePath::Memory) => own.rules.name == other.rules.name,
            (own, other) => own == other,
        }
    }
}

/// Returns the entries of a query.
pub(super) async fn entries_of(table: Arc<Table>, query: EntryQuery) -> Result<Entries, Refusal> {
    // Searching a million keys takes a while; the control thread serves others too.
    tokio::task::spawn_blocking(move || select(&table, &query)).await.map_err(|_| stopping())
}

/// Returns the entries of a query, in the order of their keys. Scans the whole table, but holds no more than requested.
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
        // One more than requested shows that there are more.
        if found.len() > limit + 1 {
            found.pop_last();
        }
    }
    let more = found.len() > limit;
    let state = |(key, entry): (&switch::Key, &Arc<switch::TableEntry>)| EntryInfo {
        key: key.clone(),
        route: entry.route.clone(),
        revision: entry.revision,
    };
    Entries { revision: table.revision(), entries: found.into_iter().take(limit).map(state).collect(), more }
}
