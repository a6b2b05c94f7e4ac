//! Opening the switches of a configuration.
//!
//! Owns: the conditions of serving a switch: its table can be trusted and fits the configuration, and commits that await
//! their confirmation could be reverted. A switch whose store is damaged is served without the last. Must never: start with
//! less than that.

use super::damage::{self, Condition};
use super::default::{self, FileDefault};
use super::elsewhere;
use super::fleet::{self, FleetService};
use super::follow_store;
use super::groups;
use super::hold_take_up::{TakenUp, take_up, with_holds};
use super::hold_watch;
use super::lookups::FirstLooks;
use super::lost_groups;
use super::made::Made;
use super::name_list::named;
use super::revert;
use super::shared::Shared;
use super::state::ControlState;
use super::switch_state::{ConfiguredSwitch, Position, SwitchState};
use crate::discovery::Beliefs;
use crate::setup::Log;
use crate::store::{FileStore, LazyStore, MemoryBackend, OrderLock, StoreBackend, StoreThread};
use engine::host::Level;
use engine::modules::switch::StatePath;
use engine::{Config, Routing};
use prober::Prober;
use std::rc::Rc;
use std::sync::Arc;
use switch::{
    Commit, KeyKind, Refusal, Rules, StoreFault, StoreFaultKind, Table, Tables, Undoing, check_made,
};
use upstream::GroupSets;

/// The number of stores opened in parallel.
const AT_ONCE: usize = 8;
/// The number of attempts to commit where another process commits at the same time.
const TRIES: u32 = 5;
/// How often, and in what distance, a start tries to get the lock of orders.
const LOCK_TRIES: u32 = 1000;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(2);

/// The initial state of the control thread.
pub(super) struct Opened {
    pub(super) routing: Arc<Routing>,
    pub(super) switches: Vec<(ConfiguredSwitch, StoreThread, Position)>,
    /// The groups.
    pub(super) groups: Option<OpenedSwitch>,
    /// What was looked up for them.
    pub(super) beliefs: Beliefs,
    /// The conditions of their stores.
    pub(super) conditions: Vec<Condition>,
    /// Their holds, which are in the tables.
    pub(super) holds: Vec<TakenUp>,
    /// The commits of defaults that the configuration has changed while nothing ran, with their switches.
    pub(super) defaults: Vec<(Box<str>, Commit)>,
    /// The fleet that this node is in.
    pub(super) member: Option<::fleet::Membership>,
}

/// An opened switch.
pub(super) struct OpenedSwitch {
    pub(super) place: ConfiguredSwitch,
    pub(super) store: StoreThread,
    pub(super) position: Position,
    pub(super) condition: Condition,
    pub(super) holds: TakenUp,
    /// The commit of a default that the configuration has changed while nothing ran.
    pub(super) default: Option<Commit>,
}

impl OpenedSwitch {
    /// Returns its name and the fault of its store, if that is damaged.
    pub(super) fn damaged(&self) -> Option<(&str, &StoreFault)> {
        Some((&self.place.spec().rules.name, self.condition.damage.as_ref()?))
    }
}

/// Returns the state of the control thread, with the opened switches.
pub(super) fn control_state(opened: Opened, shared: Arc<Shared>) -> Rc<ControlState> {
    let state = ControlState::new(opened.routing, shared);
    state.believe(opened.beliefs);
    for (switch, commit) in &opened.defaults {
        state.announce_commit(&Arc::from(&**switch), commit);
    }
    let mut conditions = opened.conditions.into_iter();
    for (configured, store, position) in opened.switches {
        let switch = Rc::new(SwitchState::new(configured, store, position));
        add_switch(&state, switch.clone());
        if let Some(condition) = conditions.next() {
            state.report(&switch, condition);
        }
        if let Some(note) = default::note(&switch.rules(), &switch.table(), None) {
            state.shared.log(Level::Warn, &note);
        }
    }
    if let Some(one) = opened.groups {
        let switch = Rc::new(SwitchState::new(one.place, one.store, one.position));
        *state.groups.borrow_mut() = Some(switch.clone());
        watch_switch(&state, &switch);
        state.report(&switch, one.condition);
        state.admit_made();
        state.note_groups();
    }
    opened.holds.into_iter().for_each(|taken| state.add_taken_up(taken));
    state.announce_process();
    let config = state.shared.config();
    if let Some(spec) = &config.control.fleet {
        let service = Rc::new(FleetService::new(&config, spec, opened.member));
        *state.fleet.borrow_mut() = Some(service.clone());
        fleet::start(&state, &service);
    }
    tokio::task::spawn_local(hold_watch::watch_holds(Rc::downgrade(&state)));
    tokio::task::spawn_local(elsewhere::exchange_reports(Rc::downgrade(&state)));
    state.watch_places();
    state.tell_places_of(&state.shared.config());
    state
}

/// Adds a switch, and starts its background tasks.
pub(super) fn add_switch(state: &Rc<ControlState>, switch: Rc<SwitchState>) {
    state.switches.borrow_mut().push(switch.clone());
    watch_switch(state, &switch);
}

/// Starts the background tasks of a switch.
fn watch_switch(state: &Rc<ControlState>, switch: &Rc<SwitchState>) {
    tokio::task::spawn_local(revert::watch_windows(Rc::downgrade(state), Rc::downgrade(switch)));
    if matches!(switch.configured().spec().state, StatePath::File(_)) {
        tokio::task::spawn_local(follow_store::follow_store(Rc::downgrade(state), Rc::downgrade(switch)));
    }
}

/// Opens all switches of a configuration.
pub(super) fn open(
    config: &Arc<Config>,
    file: FileDefault,
    prober: &Prober,
    log: &Log,
) -> Result<Opened, String> {
    let places = (0..config.switches.len()).map(|number| ConfiguredSwitch::new(config.clone(), number));
    let beliefs = FirstLooks::at_start(config, log).beliefs(config, &Beliefs::default());
    let _order_lock = order_lock(config);
    let of_groups = vec![ConfiguredSwitch::of_groups(config.clone(), beliefs.bases().clone())];
    let groups = open_all(of_groups, file, prober, &InForce::default())?.pop();
    let in_force = groups.as_ref().map(|one| InForce {
        made: Made::of(&one.position.table),
        groups: groups::merged(&one.place, &one.position.table, &GroupSets::default()),
    });
    let in_force = in_force.unwrap_or_default();
    let mut opened = Opened {
        routing: Arc::default(),
        switches: Vec::new(),
        groups,
        beliefs,
        conditions: Vec::new(),
        holds: Vec::new(),
        defaults: Vec::new(),
        member: fleet::membership(config)?,
    };
    for one in open_all(places.collect(), file, prober, &in_force)? {
        opened.defaults.extend(one.default.map(|commit| (one.place.spec().rules.name.clone(), commit)));
        opened.switches.push((one.place, one.store, one.position));
        opened.conditions.push(one.condition);
        opened.holds.push(one.holds);
    }
    let tables = opened.switches.iter().map(|(_, _, position)| position.table.clone()).collect();
    let tables = Tables { tables, number: 1, ..Tables::default() };
    let tables = with_holds(tables, opened.holds.iter());
    opened.routing = Arc::new(Routing { tables, groups: in_force.groups });
    Ok(opened)
}

/// The groups as they are when a switch is opened.
#[derive(Clone, Default)]
pub(super) struct InForce {
    /// Those made at run time.
    pub(super) made: Made,
    /// Those whose servers are others than the configuration's.
    pub(super) groups: GroupSets,
}

/// Takes the lock of orders that touch groups and switches, so that a table that is read after the groups leads to none that
/// was made since. Without it a start goes on: what other processes commit is followed.
fn order_lock(config: &Config) -> Option<OrderLock> {
    let admits = config.switches.iter().any(|spec| spec.rules.run_time.is_admitted);
    let folder = config.prefix.join("state");
    if !admits || !folder.is_dir() {
        return None;
    }
    for _ in 0..LOCK_TRIES {
        match OrderLock::try_take(&folder, true) {
            Ok(None) => std::thread::sleep(LOCK_PAUSE),
            taken => return taken.ok().flatten(),
        }
    }
    None
}

/// Opens switches in parallel: each may have a million keys.
pub(super) fn open_all(
    places: Vec<ConfiguredSwitch>,
    file: FileDefault,
    prober: &Prober,
    in_force: &InForce,
) -> Result<Vec<OpenedSwitch>, String> {
    let mut opened = Vec::with_capacity(places.len());
    for some in places.chunks(AT_ONCE) {
        let results: Vec<Result<OpenedSwitch, String>> = std::thread::scope(|scope| {
            let open = |place: &ConfiguredSwitch| {
                let place = place.clone();
                scope.spawn(move || open_one(place, file, prober, in_force))
            };
            let threads: Vec<_> = some.iter().map(open).collect();
            let ended = || Err("a switch could not be opened: its thread panicked".to_owned());
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| ended())).collect()
        });
        for result in results {
            opened.push(result?);
        }
    }
    Ok(opened)
}

fn open_one(
    place: ConfiguredSwitch,
    file: FileDefault,
    prober: &Prober,
    in_force: &InForce,
) -> Result<OpenedSwitch, String> {
    let rules = in_force.made.rules(&place.spec().rules);
    let wrong = |fault: StoreFault| format!("switch \"{}\": {fault}", rules.name);
    let (state, kind, is_groups) = (place.spec().state.clone(), rules.kind, place.is_groups());
    let store = StoreThread::start(&rules.name, move || -> Result<Box<dyn StoreBackend>, StoreFault> {
        Ok(match state {
            StatePath::File(path) if is_groups => Box::new(LazyStore::open(&path, kind)?),
            StatePath::File(path) => Box::new(FileStore::open(&path, kind)?),
            StatePath::Memory => Box::new(MemoryBackend::new(kind)),
        })
    })
    .map_err(wrong)?;
    let mut condition = store.with_blocking(|store| Ok(Condition::of(store))).map_err(wrong)?;
    let is_sound = condition.damage.is_none();
    if is_sound && !store.with_blocking(move |store| fits_kind(store, kind)).map_err(wrong)? {
        return Err(other_kind(&rules));
    }
    let mut position = store.with_blocking(damage::load).map_err(wrong)?;
    let (rules, lost) = lost_groups::tolerated(&rules, &position.table, None);
    condition.lost.extend(lost);
    fits(&rules, &position.table)?;
    let mut default = None;
    if is_sound && !rules.run_time.are_unknown {
        default::fits(&rules, &position.table, None)?;
        let (asked, known) = (rules.clone(), position.clone());
        match store.with_blocking(move |store| could_revert(store, &asked, &known)) {
            Ok(Err(text)) if rules.run_time.is_admitted => {
                condition.lost.push(format!("switch \"{}\": {text}", rules.name));
            }
            Ok(could) => could.map_err(|text| format!("switch \"{}\": {text}", rules.name))?,
            Err(fault) => condition.warnings.push(fault),
        }
    }
    let mut tries = TRIES;
    while is_sound && !is_groups && !place.spec().in_fleet && default.is_none() {
        tries -= 1;
        match default::commit_at_start((&place, &in_force.groups), &store, &mut position, file, prober) {
            // Another process was faster.
            Err(fault) if fault.kind == StoreFaultKind::Conflict && tries > 0 => {
                position = store.with_blocking(damage::load).map_err(wrong)?;
            }
            // A full disk, or a lock that is held: the table keeps its default, and the next start or reload tries again.
            Err(fault) if fault.kind != StoreFaultKind::Failed => {
                condition.warnings.push(fault);
                break;
            }
            made => {
                default = made.map_err(wrong)?;
                break;
            }
        }
    }
    let number = place.number;
    let holds = store.with_blocking(move |store| Ok(take_up(store, &rules, number)));
    let holds = holds.map_err(|fault| fault.to_string())?;
    Ok(OpenedSwitch { place, store, position, condition, holds, default })
}

/// Returns true if a store's keys are of this kind; an empty store adopts it.
pub(super) fn fits_kind(store: &mut dyn StoreBackend, kind: KeyKind) -> Result<bool, StoreFault> {
    if store.key_kind() == kind { Ok(true) } else { store.rekey(kind) }
}

/// Returns the fault of a store whose switch's KEY has changed from hosts to texts, or back.
pub(super) fn other_kind(rules: &Rules) -> String {
    let (old, new) = match rules.kind {
        KeyKind::Host => ("texts", "hosts"),
        KeyKind::Text => ("hosts", "texts"),
    };
    format!(
        "switch \"{}\": its store holds {old}, but its KEY now gives {new}; name another file in its `state`",
        rules.name
    )
}

/// Fails unless the configuration has every target of a table, and goes with the groups made at run time.
pub(super) fn fits(rules: &Rules, table: &Table) -> Result<(), String> {
    let faults = check_made(rules, table.subjects());
    if !faults.is_empty() {
        return Err(faults.join("; "));
    }
    let Err(orphans) = rules.admits(table) else { return Ok(()) };
    let shown = named(orphans.iter().map(|orphan| format!("{} ({})", orphan.key, orphan.target)));
    Err(format!(
        "switch \"{}\" no longer has targets that keys lead to: {shown}; keep these targets (groups made at run time are targets with \"targets … dynamic\"), or switch the keys first",
        rules.name,
    ))
}

/// What a start would say of a store, and go on.
#[derive(Debug, Default)]
pub(super) struct StartNotes {
    pub(super) damage: Option<StoreFault>,
    /// Keys that lead to groups which are gone.
    pub(super) lost: Vec<String>,
}

/// Checks a store as a start would, and changes nothing that a reader could notice.
pub(super) fn check(
    store: &mut dyn StoreBackend,
    rules: &Arc<Rules>,
) -> Result<Result<StartNotes, String>, StoreFault> {
    let damage = store.damage();
    if damage.is_none() && !fits_kind(store, rules.kind)? {
        return Ok(Err(other_kind(rules)));
    }
    let position = damage::load(store)?;
    let (rules, lost) = lost_groups::tolerated(rules, &position.table, None);
    let mut said = StartNotes { damage, lost: lost.into_iter().collect() };
    if let Err(fault) = fits(&rules, &position.table) {
        return Ok(Err(fault));
    }
    if said.damage.is_some() || rules.run_time.are_unknown {
        return Ok(Ok(said));
    }
    if let Err(fault) = default::fits(&rules, &position.table, None) {
        return Ok(Err(fault));
    }
    if let Err(text) = could_revert(store, &rules, &position)? {
        let text = format!("switch \"{}\": {text}", rules.name);
        if !rules.run_time.is_admitted {
            return Ok(Err(text));
        }
        said.lost.push(text);
    }
    Ok(Ok(said))
}

/// Checks that the commits which await their confirmation could be reverted.
pub(super) fn could_revert(
    store: &mut dyn StoreBackend,
    rules: &Rules,
    position: &Position,
) -> Result<Result<(), String>, StoreFault> {
    for waiting in &position.pending {
        let planned = match Undoing::of_commit(store, waiting.revision)? {
            Some(undoing) => {
                switch::plan(&position.table, rules, &revert::revert_order(undoing), &position.pending)
            }
            None => Err(Refusal::unknown_revision(waiting.revision)),
        };
        if let Err(refusal) = planned {
            return Ok(Err(format!(
                "revision {} awaits confirmation and could not be reverted: {}; confirm it first, or keep the targets that it would be reverted to",
                waiting.revision, refusal.text
            )));
        }
    }
    Ok(Ok(()))
}
