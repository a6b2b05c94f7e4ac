//! Opening the switches of a configuration.
//!
//! Owns: what must be so before a switch is served: its store can be trusted, its table fits the configuration, and what
//! nobody confirmed in time has gone back. Must never: start with less than that.

use super::desk::{Place, Position};
use crate::store::{Keep, MemoryKeep, SqliteStore, StoreThread};
use engine::Config;
use engine::modules::switch::StatePath;
use std::sync::Arc;
use switch::{
    Action, Commit, KeyKind, Meta, Order, Pending, Plan, Refusal, Rules, StoreFault, StoreFaultKind, Table,
    Tables, Undoing,
};

/// How many stores are opened at a time.
const AT_ONCE: usize = 8;
/// How many keys are named when a table does not fit.
const NAMED: usize = 10;
/// How often a table is read again that another process changes at the same time.
const TRIES: u32 = 5;
/// Who takes back what nobody confirmed.
pub(super) const ITSELF: &str = "pointsman";

/// Everything the control thread begins with.
pub(super) struct Opened {
    pub(super) tables: Arc<Tables>,
    pub(super) desks: Vec<(Place, StoreThread, Position)>,
    /// What went back because nobody confirmed it while nothing ran.
    pub(super) reverted: Vec<(Arc<str>, Commit)>,
}

/// One switch, opened.
pub(super) struct OpenedSwitch {
    pub(super) place: Place,
    pub(super) store: StoreThread,
    pub(super) position: Position,
    pub(super) reverted: Vec<Commit>,
}

/// Opens all switches of a configuration.
pub(super) fn open(config: &Arc<Config>, now_ms: u64) -> Result<Opened, String> {
    let places = (0..config.switches.len()).map(|number| Place { config: config.clone(), number }).collect();
    let mut opened = Opened { tables: Arc::default(), desks: Vec::new(), reverted: Vec::new() };
    for one in open_all(places, now_ms)? {
        let name: Arc<str> = Arc::from(&*one.place.spec().rules.name);
        opened.reverted.extend(one.reverted.into_iter().map(|commit| (name.clone(), commit)));
        opened.desks.push((one.place, one.store, one.position));
    }
    let tables = opened.desks.iter().map(|(_, _, position)| position.table.clone()).collect();
    opened.tables = Arc::new(Tables { tables, number: 1, ..Tables::default() });
    Ok(opened)
}

/// Opens switches, some at a time: whoever has a million keys in each does not want to wait for one after the other.
pub(super) fn open_all(places: Vec<Place>, now_ms: u64) -> Result<Vec<OpenedSwitch>, String> {
    let mut opened = Vec::with_capacity(places.len());
    for some in places.chunks(AT_ONCE) {
        let results: Vec<Result<OpenedSwitch, String>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                some.iter().map(|place| scope.spawn(move || open_one(place.clone(), now_ms))).collect();
            let ended = || Err("a switch could not be opened: its thread ended".to_owned());
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| ended())).collect()
        });
        for result in results {
            opened.push(result?);
        }
    }
    Ok(opened)
}

fn open_one(place: Place, now_ms: u64) -> Result<OpenedSwitch, String> {
    let rules = place.spec().rules.clone();
    let wrong = |fault: StoreFault| format!("switch \"{}\": {fault}", rules.name);
    let (state, kind) = (place.spec().state.clone(), rules.kind);
    let store = StoreThread::start(&rules.name, move || -> Result<Box<dyn Keep>, StoreFault> {
        Ok(match state {
            StatePath::File(path) => Box::new(SqliteStore::open(&path, kind)?),
            StatePath::Memory => Box::new(MemoryKeep::new(kind)),
        })
    })
    .map_err(wrong)?;
    if !store.with_blocking(move |store| fits_kind(store, kind)).map_err(wrong)? {
        return Err(other_kind(&rules));
    }
    let mut tries = TRIES;
    loop {
        let loaded = store.with_blocking(|store| store.load()).map_err(wrong)?;
        let position =
            Position { table: Arc::new(loaded.table), hash: loaded.last_hash, pending: loaded.pending };
        fits(&rules, &position.table)?;
        let asked = (rules.clone(), position);
        let outcome = store.with_blocking(move |store| {
            let (rules, mut position) = asked;
            let outcome = take_back(store, &rules, &mut position, now_ms)?;
            Ok(outcome.map(|reverted| (position, reverted)))
        });
        tries -= 1;
        match outcome {
            // The process that this one is to replace was faster.
            Err(fault) if fault.kind == StoreFaultKind::Conflict && tries > 0 => {}
            outcome => {
                let taken = outcome.map_err(wrong)?;
                let (position, reverted) =
                    taken.map_err(|text| format!("switch \"{}\": {text}", rules.name))?;
                return Ok(OpenedSwitch { place, store, position, reverted });
            }
        }
    }
}

/// Whether a store's keys are of this kind; one without a commit takes it on.
pub(super) fn fits_kind(store: &mut dyn Keep, kind: KeyKind) -> Result<bool, StoreFault> {
    if store.key_kind() == kind { Ok(true) } else { store.rekey(kind) }
}

/// Why a store does not fit a switch whose KEY has changed from a host to another text, or back.
pub(super) fn other_kind(rules: &Rules) -> String {
    let (old, new) = match rules.kind {
        KeyKind::Host => ("texts", "hosts"),
        KeyKind::Text => ("hosts", "texts"),
    };
    format!(
        "switch \"{}\": the keys in its store are {old}, and its KEY gives {new} now; name another file in its `state`",
        rules.name
    )
}

/// Whether a table fits: every target is there.
pub(super) fn fits(rules: &Rules, table: &Table) -> Result<(), String> {
    let Err(orphans) = rules.admits(table) else { return Ok(()) };
    let named: Vec<String> =
        orphans.iter().take(NAMED).map(|orphan| format!("{} ({})", orphan.key, orphan.target)).collect();
    let more = orphans.len().saturating_sub(named.len());
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Err(format!(
        "switch \"{}\" has no such target any more, and keys lead there: {}{more}; keep the target, or switch these keys first",
        rules.name,
        named.join(", ")
    ))
}

/// The order by which a commit goes back that nobody confirmed.
pub(super) fn revert_order(undoing: Undoing) -> Order {
    let reason = Some("nobody confirmed it in time".to_owned());
    Order {
        action: Action::Revert(undoing),
        meta: Meta { actor: ITSELF.to_owned(), reason, ..Meta::default() },
    }
}

/// Plans for all that awaits confirmation to go back, newest first: of two for the same key, the older one says what it
/// was before both.
fn plan_back(
    store: &mut dyn Keep,
    rules: &Rules,
    position: &Position,
    waiting: Pending,
    now_ms: u64,
) -> Result<Result<Plan, Refusal>, StoreFault> {
    let Some(undoing) = Undoing::of_commit(store, waiting.revision)? else {
        return Ok(Err(Refusal::unknown_revision(waiting.revision)));
    };
    Ok(switch::plan(&position.table, rules, &revert_order(undoing), &position.pending, now_ms))
}

/// Takes back what nobody confirmed in time, and checks that the rest could go back when its time comes.
pub(super) fn take_back(
    store: &mut dyn Keep,
    rules: &Rules,
    position: &mut Position,
    now_ms: u64,
) -> Result<Result<Vec<Commit>, String>, StoreFault> {
    let mut reverted = Vec::new();
    for waiting in position.pending.clone().into_iter().rev() {
        let plan = match plan_back(store, rules, position, waiting, now_ms)? {
            Ok(plan) => plan,
            Err(refusal) => {
                return Ok(Err(format!(
                    "revision {} awaits a confirmation and could not go back: {}; confirm it first, or keep what it leads back to",
                    waiting.revision, refusal.text
                )));
            }
        };
        if waiting.confirm_by_ms > now_ms {
            continue;
        }
        let commit = plan.commit(position.hash, now_ms, Vec::new());
        store.commit(&commit)?;
        position.table = Arc::new(position.table.apply(&commit));
        position.hash = commit.hash;
        Pending::follow(&mut position.pending, &commit);
        reverted.push(commit);
    }
    Ok(Ok(reverted))
}
