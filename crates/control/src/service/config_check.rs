//! Whether a configuration may follow: what it does to the entries that its switches and former switches have.
//!
//! Owns: the checks that a start, a reload and `-t` have in common. Must never: change a store.

use super::damage;
use super::default;
use super::groups;
use super::lost_groups;
use super::made::Made;
use super::name_list::named;
use super::registry::{self, Record};
use super::startup;
use super::state::ControlState;
use super::switch_state::SwitchState;
use crate::discovery::{Beliefs, Kept};
use crate::store::StoreCopy;
use engine::Config;
use engine::host::Level;
use engine::modules::switch::{StatePath, SwitchSpec, groups_file};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use switch::{Rules, StoreFault, StoreFaultKind, Table};

/// The switches that a configuration declares.
#[derive(Clone, Debug)]
pub struct Declarations {
    /// Its switches.
    pub switches: Vec<Declared>,
    /// The names of `switch_retired`.
    pub retired: Vec<Box<str>>,
    /// The folder of stores that `state` does not name.
    pub folder: PathBuf,
}

/// A declared switch.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Its rules.
    pub rules: Arc<Rules>,
    /// Its store.
    pub state: StatePath,
}

impl Declarations {
    /// Returns those of a configuration.
    pub fn of(config: &Config) -> Declarations {
        let declared = |spec: &engine::modules::switch::SwitchSpec| Declared {
            rules: spec.rules.clone(),
            state: spec.state.clone(),
        };
        Declarations {
            switches: config.switches.iter().map(declared).collect(),
            retired: config.control.retired_switches.iter().map(|one| one.name.as_str().into()).collect(),
            folder: config.prefix.join("state"),
        }
    }

    /// Returns the folders of stores, each once.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.folder.clone()];
        for one in &self.switches {
            if let StatePath::File(path) = &one.state
                && let Some(folder) = path.parent()
                && !folders.iter().any(|known| known == folder)
            {
                folders.push(folder.to_owned());
            }
        }
        folders
    }

    /// Returns true if a switch uses this store.
    fn uses(&self, store: &Path) -> bool {
        self.switches.iter().any(|one| matches!(&one.state, StatePath::File(path) if path == store))
    }
}

impl Declared {
    /// Returns true if it has the store of a switch that is open.
    fn shares_store(&self, open: &SwitchState) -> bool {
        match &self.state {
            StatePath::File(path) => open.store_path().as_deref() == Some(path),
            StatePath::Memory => open.store_path().is_none() && open.rules().name == self.rules.name,
        }
    }
}

/// What the records of used switches say about a configuration.
#[derive(Debug, Default)]
pub(super) struct Former {
    /// Switches whose entries no switch has any more, without a word about it.
    left_out: Vec<Record>,
    /// Switches that are gone on purpose.
    retired: Vec<Record>,
    /// Records that could not be read.
    unread: Vec<String>,
}

/// Looks up which switches a configuration leaves out. `folders` are looked at beside its own.
fn former(declared: &Declarations, folders: Vec<PathBuf>) -> Former {
    let mut all = declared.folders();
    all.extend(folders);
    all.sort();
    all.dedup();
    let mut former = Former::default();
    for folder in all {
        match registry::read(&folder) {
            Ok(records) => {
                for record in records.into_iter().filter(|record| !declared.uses(&record.path)) {
                    match declared.retired.iter().any(|name| **name == *record.name) {
                        true => former.retired.push(record),
                        false => former.left_out.push(record),
                    }
                }
            }
            Err(error) => former.unread.push(format!(
                "the record of used switches in {} cannot be read, and is made again: {error}",
                folder.display()
            )),
        }
    }
    former
}

/// Checks before a start that no used switch is left out.
///
/// # Errors
/// A line for each that is, with its keys and the remedy.
pub(super) fn check_start(declared: &Declarations) -> Result<Former, Vec<String>> {
    let former = former(declared, Vec::new());
    let faults: Vec<String> = former
        .left_out
        .iter()
        .filter_map(|record| match stored_table(&record.path) {
            Ok(table) => left_out(record, table.as_ref()?, declared),
            Err(fault) => Some(unreadable(record, &fault)),
        })
        .collect();
    if faults.is_empty() { Ok(former) } else { Err(faults) }
}

/// Checks before a reload which used switches are left out: a line for each, with its keys and the remedy.
pub(super) async fn check_former(state: &Rc<ControlState>, declared: &Declarations) -> (Former, Vec<String>) {
    let open = state.switches.borrow().clone();
    let running = Declarations::of(&state.shared.config()).folders();
    let former = former(declared, running);
    let mut faults = Vec::new();
    for record in &former.left_out {
        let known = open.iter().find(|switch| switch.store_path().as_deref() == Some(&*record.path));
        let path = record.path.clone();
        let table = match known {
            Some(switch) => Ok(Some(switch.table())),
            None => match tokio::task::spawn_blocking(move || stored_table(&path)).await {
                Ok(table) => table,
                Err(_) => continue,
            },
        };
        match table {
            Ok(Some(table)) => faults.extend(left_out(record, &table, declared)),
            Ok(None) => {}
            Err(fault) => faults.push(unreadable(record, &fault)),
        }
    }
    // Without a store nothing is recorded.
    for switch in &open {
        let rules = switch.rules();
        let stays = declared
            .switches
            .iter()
            .any(|one| one.state == StatePath::Memory && one.rules.name == rules.name);
        if switch.store_path().is_none() && !stays && !declared.retired.contains(&rules.name) {
            let record = Record { name: rules.name.to_string(), path: PathBuf::from("memory") };
            faults.extend(left_out(&record, &switch.table(), declared));
        }
    }
    (former, faults)
}

/// Fails unless the table of a switch fits these rules, and its pending commits could be reverted under them.
pub(super) async fn still_fits(switch: &Rc<SwitchState>, rules: &Arc<Rules>) -> Result<(), String> {
    let position = switch.position();
    if switch.rules().kind != rules.kind && position.table.revision() > 0 {
        return Err(startup::other_kind(rules));
    }
    let (rules, _) = &lost_groups::tolerated(rules, &position.table, Some(&switch.rules()));
    startup::fits(rules, &position.table)?;
    default::fits(rules, &position.table, Some(&switch.rules().default))?;
    let wrong = |fault: StoreFault| format!("switch \"{}\": {fault}", rules.name);
    let is_damaged = switch.store.with(|store| Ok(store.damage().is_some())).await.map_err(wrong)?;
    if position.pending.is_empty() || is_damaged || rules.run_time.are_unknown {
        return Ok(());
    }
    let (asked, served) = (rules.clone(), switch.rules());
    let could = switch.store.with(move |store| match startup::could_revert(store, &asked, &position)? {
        // A group that is gone is missing with the present configuration, too.
        Err(_)
            if asked.run_time.is_admitted && startup::could_revert(store, &served, &position)?.is_err() =>
        {
            Ok(Ok(()))
        }
        could => Ok(could),
    });
    could.await.map_err(wrong)?.map_err(|text| format!("switch \"{}\": {text}", rules.name))
}

/// Fails if a held key's switch gets another position: held requests know their switch by its number. `kept` returns the
/// present number of a switch of the new configuration.
pub(super) fn holds_stay(state: &ControlState, kept: impl Fn(usize) -> Option<usize>) -> Result<(), String> {
    match state.routing().tables.holds.iter().find(|hold| kept(hold.switch()) != Some(hold.switch())) {
        None => Ok(()),
        Some(hold) => Err(format!(
            "key \"{}\" is held, and its switch has another position in the new configuration; release it first",
            hold.key()
        )),
    }
}

/// Checks declarations as a reload would, without one.
pub(super) async fn check_reload(state: &Rc<ControlState>, declared: Declarations) -> StoreCheck {
    let open = state.switches.borrow().clone();
    let (_, faults) = check_former(state, &declared).await;
    let (mut check, made) = (StoreCheck { faults, ..StoreCheck::default() }, state.made());
    let mut kept = Vec::new();
    let mut new = Vec::new();
    for one in &declared.switches {
        let number = open.iter().position(|switch| one.shares_store(switch));
        kept.push(number);
        match number {
            Some(number) => {
                let known = &open[number];
                check.faults.extend(still_fits(known, &made.rules(&one.rules)).await.err());
                let former = known.rules();
                check.notes.extend(default::note(&one.rules, &known.table(), Some(&former.default)));
            }
            None => new.push(one.clone()),
        }
    }
    check.faults.extend(holds_stay(state, |number| kept.get(number).copied().flatten()).err());
    match tokio::task::spawn_blocking(move || check_copies(&new, &made)).await {
        Ok(more) => {
            check.faults.extend(more.faults);
            check.unchecked.extend(more.unchecked);
            check.notes.extend(more.notes);
        }
        Err(_) => check.unchecked.push("new stores not checked: the process is stopping".to_owned()),
    }
    check
}

/// Returns the table of a store that no switch has open, read from a copy; `None` if there is none.
fn stored_table(path: &Path) -> Result<Option<Arc<Table>>, StoreFault> {
    let Some(copy) = StoreCopy::of(path)? else { return Ok(None) };
    let position = damage::load(&mut copy.open()?).map_err(|fault| copy.of_original(fault))?;
    Ok(Some(position.table))
}

/// Returns the fault of a switch that a configuration leaves out; `None` if it has no entries.
fn left_out(record: &Record, table: &Table, declared: &Declarations) -> Option<String> {
    let mut keys: Vec<(&switch::Key, String)> =
        table.iter().map(|(key, entry)| (key, entry.route.to_string())).collect();
    if keys.is_empty() {
        return None;
    }
    keys.sort();
    let shown = named(keys.iter().map(|(key, route)| format!("{key} ({route})")));
    let name = &record.name;
    Some(match declared.switches.iter().any(|one| *one.rules.name == **name) {
        true => format!(
            "switch \"{name}\" no longer uses its store {}, in which keys have routes: {shown}; set its `state` to that \
             file, or write switch_retired {name}; to give these keys the default",
            record.path.display()
        ),
        false => format!(
            "switch \"{name}\" is gone from the configuration, and keys have routes in it: {shown}; keep the switch, or \
             write from={name} at the one that replaces it, or switch_retired {name}; to give them up"
        ),
    })
}

fn unreadable(record: &Record, fault: &StoreFault) -> String {
    format!(
        "switch \"{0}\" is gone from the configuration, and its keys cannot be read: {fault}; keep the switch, or write \
         switch_retired {0}; to give them up",
        record.name
    )
}

impl Former {
    fn is_empty(&self) -> bool {
        self.left_out.is_empty() && self.retired.is_empty() && self.unread.is_empty()
    }

    /// Records the switches that are in force and used, and forgets those that are gone. Returns what failed.
    pub(super) fn settle(self, used: &[Record]) -> Vec<String> {
        let gone: Vec<Record> = self.left_out.into_iter().chain(self.retired).collect();
        let mut folders: Vec<PathBuf> =
            used.iter().chain(&gone).filter_map(|record| Some(record.path.parent()?.to_owned())).collect();
        folders.sort();
        folders.dedup();
        let of = |folder: &Path, records: &[Record]| -> Vec<Record> {
            records.iter().filter(|record| record.path.parent() == Some(folder)).cloned().collect()
        };
        let update = |folder: PathBuf| {
            let written = registry::update(&folder, &of(&folder, used), &of(&folder, &gone));
            written.err().map(|error| {
                format!("the record of used switches in {} cannot be written: {error}", folder.display())
            })
        };
        folders.into_iter().filter_map(update).collect()
    }
}

/// The result of checking a configuration against stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreCheck {
    /// The faults for which a reload or a start would be refused.
    pub faults: Vec<String>,
    /// Parts that could not be checked, and why.
    pub unchecked: Vec<String>,
    /// Defaults that the table has otherwise, or would change, and stores that there are not.
    pub notes: Vec<String>,
}

/// Checks declarations against copies of the stores on disk, as a start would.
pub fn check_stores(declared: &Declarations) -> StoreCheck {
    let groups = declared.folder.join("groups.db");
    let made =
        stored_table(&groups).ok().map(|table| table.map_or_else(Made::none, |table| Made::of(&table)));
    let mut check = check_copies(&declared.switches, &made.unwrap_or_default());
    if let Err(faults) = check_start(declared) {
        check.faults.extend(faults);
    }
    check
}

fn check_copies(switches: &[Declared], made: &Made) -> StoreCheck {
    let mut check = StoreCheck::default();
    for one in switches {
        let StatePath::File(path) = &one.state else { continue };
        let name = &one.rules.name;
        let checked = StoreCopy::of(path).and_then(|copy| {
            let Some(copy) = copy else {
                check.notes.push(format!(
                    "switch \"{name}\": there is no store {} yet, so that no key is lost",
                    path.display()
                ));
                return Ok(Ok(None));
            };
            let mut store = copy.open().map_err(|fault| copy.of_original(fault))?;
            let checked = startup::check(&mut store, &made.rules(&one.rules))
                .map_err(|fault| copy.of_original(fault))?;
            if let Ok(position) = damage::load(&mut store) {
                check.notes.extend(default::note(&one.rules, &position.table, None));
            }
            Ok(checked.map(|said| {
                check.notes.extend(said.lost);
                said.damage.map(|fault| copy.of_original(fault))
            }))
        });
        match checked {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(damage))) => check.unchecked.push(format!("switch \"{name}\": {damage}")),
            Ok(Err(fault)) => check.faults.push(fault),
            Err(fault) if fault.kind == StoreFaultKind::Unreadable => {
                check.unchecked.push(format!("switch \"{name}\": store not checked: {}", fault.text));
            }
            Err(fault) => check.faults.push(format!("switch \"{name}\": {fault}")),
        }
    }
    check
}

/// Checks a configuration against a copy of what orders say of servers, as a start would.
pub fn check_groups(config: &Config) -> StoreCheck {
    let mut check = StoreCheck::default();
    // Without what was last found, orders on it would look as if their servers were gone.
    let kept = Kept::read(&Kept::path(config)).unwrap_or_default();
    let beliefs = Beliefs::under(config, &Beliefs::default(), &kept);
    let rules = SwitchSpec::of_groups_with(config, beliefs.bases()).rules;
    let checked = StoreCopy::of(&groups_file(&config.prefix)).and_then(|copy| {
        let Some(copy) = copy else { return Ok(()) };
        let look = |check: &mut StoreCheck| {
            let mut store = copy.open()?;
            match startup::check(&mut store, &rules)? {
                Ok(said) => check
                    .unchecked
                    .extend(said.damage.map(|damage| format!("groups: {}", copy.of_original(damage)))),
                Err(fault) => check.faults.push(fault),
            }
            let table = damage::load(&mut store)?.table;
            let mut by =
                |revision| switch::commit_at(&mut store, revision).ok().flatten().map(|commit| commit.actor);
            check.notes.extend(groups::notes(&rules, &table, &mut by));
            Ok(())
        };
        look(&mut check).map_err(|fault: StoreFault| copy.of_original(fault))
    });
    match checked {
        Ok(()) => {}
        Err(fault) if fault.kind == StoreFaultKind::Unreadable => {
            check.unchecked.push(format!("groups: store not checked: {}", fault.text));
        }
        Err(fault) => check.faults.push(format!("groups: {fault}")),
    }
    check
}

/// Records and forgets switches after a configuration has come into force, beside this thread.
pub(super) fn settle(state: &Rc<ControlState>, former: Former) {
    let used: Vec<Record> = state.switches.borrow().iter().filter_map(|switch| switch.record()).collect();
    if used.is_empty() && former.is_empty() {
        return;
    }
    let shared = state.shared.clone();
    tokio::task::spawn_blocking(move || {
        former.unread.iter().for_each(|text| shared.log(Level::Warn, text));
        former.settle(&used).iter().for_each(|text| shared.log(Level::Error, text));
    });
}
