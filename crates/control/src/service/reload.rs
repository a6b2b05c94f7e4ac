//! The control plane's part of a reload: prepare, then apply or abort.
//!
//! Owns: checking that tables and holds survive, and that nothing is committed meanwhile. Must never: leave the control
//! plane between two configurations; dropping a [`Prepared`] changes nothing.

use super::config_check::{self, Declarations, Former};
use super::default::{self, DefaultCommit, FileDefault};
use super::groups;
use super::hold_take_up::{TakenUp, with_holds};
use super::lookups::FirstLooks;
use super::shared::stopping;
use super::startup::{self, InForce, OpenedSwitch};
use super::state::ControlState;
use super::switch_state::{ConfiguredSwitch, Position, SwitchState};
use crate::discovery::Beliefs;
use crate::store::StoreThread;
use engine::host::Level;
use engine::{Config, Routing};
use std::rc::Rc;
use std::sync::Arc;
use switch::{Rules, Table, Tables};
use tokio::sync::OwnedRwLockWriteGuard;

/// A prepared reload.
pub(super) struct Prepared {
    config: Arc<Config>,
    pub(super) routing: Arc<Routing>,
    /// In the order of the new configuration.
    sources: Vec<Source>,
    former: Former,
    /// What was looked up for its groups.
    beliefs: Beliefs,
    /// Changed defaults: stored before the configuration is in force.
    defaults: Vec<DefaultCommit>,
    /// What would have refused it, had it not been forced.
    forced_over: Vec<String>,
    /// Dropped last: then orders are committed again.
    reload_lock: OwnedRwLockWriteGuard<()>,
}

/// Where a switch of the new configuration comes from.
enum Source {
    /// The switch that had this number.
    Kept(usize),
    /// A new switch, with its store.
    New(ConfiguredSwitch, StoreThread, Position, TakenUp),
}

/// Checks a new configuration against the tables, and opens the stores that are new in it.
pub(super) async fn prepare(state: &Rc<ControlState>, config: Arc<Config>) -> Result<Prepared, String> {
    if config.control.fleet != state.shared.config().control.fleet {
        return Err("the directive fleet has changed, which takes a restart: the connection to etcd belongs to the process".to_owned());
    }
    state.take_up_restored().await;
    let (known, shared) = (state.discovery.borrow().beliefs.clone(), state.shared.clone());
    let looks = FirstLooks::at(&config, &known, &|level, text| shared.log(level, text)).await;
    // Waits for commits in progress.
    let reload_lock = state.reload_lock.clone().write_owned().await;
    let old: Vec<(usize, ConfiguredSwitch)> =
        state.switches.borrow().iter().map(|switch| switch.configured()).enumerate().collect();
    let (former, faults) = config_check::check_former(state, &Declarations::of(&config)).await;
    if !faults.is_empty() && !state.shared.reload_is_forced() {
        return Err(faults.join("; "));
    }
    let (open_groups, made) = (state.groups.borrow().clone(), state.made());
    let beliefs = looks.beliefs(&config, &state.discovery.borrow().beliefs);
    let groups = ConfiguredSwitch::of_groups(config.clone(), beliefs.bases().clone());
    if let Some(open) = &open_groups {
        config_check::still_fits(open, &groups.spec().rules).await?;
    }
    let mut sources: Vec<Option<Source>> = Vec::new();
    let mut new = Vec::new();
    for number in 0..config.switches.len() {
        let place = ConfiguredSwitch::new(config.clone(), number);
        match old.iter().find(|(_, known)| known.shares_store(&place)) {
            Some((kept, _)) => {
                let switch = state.switches.borrow()[*kept].clone();
                adopt_kind(&switch, &place.spec().rules).await?;
                config_check::still_fits(&switch, &made.rules(&place.spec().rules)).await?;
                sources.push(Some(Source::Kept(*kept)));
            }
            None => {
                new.push(place);
                sources.push(None);
            }
        }
    }
    let kept = |number: usize| match sources.get(number) {
        Some(Some(Source::Kept(old))) => Some(*old),
        _ => None,
    };
    config_check::holds_stay(state, kept)?;
    let prober = state.data_plane().prober().clone();
    let in_force = InForce { made, groups: state.routing().groups.clone() };
    let open = move || startup::open_all(new, FileDefault::Ignored, &prober, &in_force);
    let opened = tokio::task::spawn_blocking(open).await.map_err(|_| stopping().text)??;
    // The configuration in force does without it; a start would serve what can be trusted.
    if let Some((name, fault)) = opened.iter().find_map(|one| one.damaged()) {
        return Err(format!("switch \"{name}\": {fault}"));
    }
    let mut opened = opened.into_iter().map(|one| {
        let OpenedSwitch { place, store, position, holds, .. } = one;
        Source::New(place, store, position, holds)
    });
    let sources: Vec<Source> =
        sources.into_iter().filter_map(|source| source.or_else(|| opened.next())).collect();
    let published = state.routing();
    let (mut tables, mut defaults): (Vec<Arc<Table>>, Vec<DefaultCommit>) = (Vec::new(), Vec::new());
    for (number, source) in sources.iter().enumerate() {
        let place = ConfiguredSwitch::new(config.clone(), number);
        let (changed, table) = match source {
            Source::Kept(kept) => {
                let switch = state.switches.borrow()[*kept].clone();
                let (position, former) = (switch.position(), switch.rules());
                let former = Some(&former.default);
                (state.plan_default(&place, &switch.store, &position, former).await?, position.table)
            }
            Source::New(_, store, position, _) => {
                (state.plan_default(&place, store, position, None).await?, position.table.clone())
            }
        };
        tables.push(changed.as_ref().map_or(table.clone(), |changed| Arc::new(table.apply(&changed.commit))));
        defaults.extend(changed);
    }
    let tables = tables.into();
    let Tables { holds, number, .. } = &published.tables;
    let tables = Tables { tables, holds: holds.clone(), number: number + 1 };
    let taken = sources.iter().filter_map(|source| match source {
        Source::New(.., taken) => Some(taken),
        Source::Kept(_) => None,
    });
    let tables = with_holds(tables, taken);
    let groups = match &open_groups {
        Some(open) => groups::merged(&groups, &open.table(), &published.groups),
        None => published.groups.clone(),
    };
    let routing = Arc::new(Routing { tables, groups });
    let mut forced_over = faults;
    forced_over.extend(defaults.iter().filter_map(DefaultCommit::forced_over));
    Ok(Prepared { config, routing, sources, former, beliefs, defaults, forced_over, reload_lock })
}

/// Gives an unused store the kind of keys of the new configuration.
async fn adopt_kind(switch: &Rc<SwitchState>, rules: &Arc<Rules>) -> Result<(), String> {
    let kind = rules.kind;
    if switch.rules().kind == kind {
        return Ok(());
    }
    let wrong = |fault: switch::StoreFault| format!("switch \"{}\": {fault}", rules.name);
    match switch.store.with(move |store| startup::fits_kind(store, kind)).await.map_err(wrong)? {
        true => Ok(()),
        false => Err(startup::other_kind(rules)),
    }
}

/// Stores the commits of changed defaults: the last step before the configuration is in force. If one cannot be stored,
/// those before it are taken back.
pub(super) async fn commit_defaults(state: &Rc<ControlState>, prepared: &mut Prepared) -> Result<(), String> {
    for at in 0..prepared.defaults.len() {
        let changed = &prepared.defaults[at];
        let commit = changed.commit.clone();
        let kept = match &mut prepared.sources[changed.number] {
            Source::Kept(number) => {
                let switch = state.switches.borrow()[*number].clone();
                switch.store.with(move |store| store.commit(&commit)).await
            }
            Source::New(_, store, position, _) => {
                position.hash = commit.hash;
                position.table = prepared.routing.tables.tables[changed.number].clone();
                store.with(move |store| store.commit(&commit)).await
            }
        };
        let Err(fault) = kept else { continue };
        let name = prepared.config.switches[changed.number].rules.name.clone();
        for made in &prepared.defaults[..at] {
            let commit = made.commit.clone();
            let work = move |store: &mut dyn crate::store::StoreBackend| default::take_back(store, &commit);
            let taken = match &prepared.sources[made.number] {
                Source::Kept(number) => {
                    let switch = state.switches.borrow()[*number].clone();
                    switch.is_behind.set(true);
                    switch.store.with(work).await
                }
                Source::New(_, store, ..) => store.with(work).await,
            };
            if let Err(fault) = taken {
                state.shared.log(Level::Crit, &format!("a default could not be taken back: {fault}"));
            }
        }
        return Err(format!("switch \"{name}\": its default could not be stored: {fault}"));
    }
    Ok(())
}

/// Activates a prepared configuration.
pub(super) fn apply(state: &Rc<ControlState>, prepared: Prepared) {
    let Prepared { config, routing, sources, former, beliefs, defaults, forced_over, reload_lock } = prepared;
    for fault in &forced_over {
        state.shared.log(Level::Warn, &format!("the reload was forced: {fault}"));
    }
    state.shared.set_forced_over(forced_over);
    let old = std::mem::take(&mut *state.switches.borrow_mut());
    let mut kept = vec![false; old.len()];
    let mut taken = Vec::new();
    for (number, source) in sources.into_iter().enumerate() {
        match source {
            Source::Kept(before) => {
                kept[before] = true;
                old[before].reconfigure(ConfiguredSwitch::new(config.clone(), number));
                if let Some(changed) = defaults.iter().find(|changed| changed.number == number) {
                    // It was planned on this very position.
                    let applied = old[before].apply(std::slice::from_ref(&changed.commit));
                    applied.map_or_else(|fault| state.store_failed(&old[before], &fault), drop);
                }
                state.switches.borrow_mut().push(old[before].clone());
            }
            Source::New(place, store, position, holds) => {
                startup::add_switch(state, Rc::new(SwitchState::new(place, store, position)));
                taken.push(holds);
            }
        }
    }
    for (switch, _) in old.into_iter().zip(kept).filter(|(_, kept)| !kept) {
        switch.removed.set(true);
        switch.pending_changed.notify_one();
    }
    let bases = state.believe(beliefs);
    if let Some(open) = &*state.groups.borrow() {
        open.reconfigure(ConfiguredSwitch::of_groups(config.clone(), bases));
    }
    state.admit_made();
    state.set_routing(routing);
    taken.into_iter().for_each(|taken| state.add_taken_up(taken));
    state.shared.journal.move_to(crate::journal::place(&config));
    state.shared.set_config(config);
    config_check::settle(state, former);
    let switches = state.switches.borrow().clone();
    for changed in defaults {
        state.publish_default(&switches[changed.number], changed);
    }
    for note in switches.iter().filter_map(|switch| default::note(&switch.rules(), &switch.table(), None)) {
        state.shared.log(Level::Warn, &note);
    }
    state.note_groups();
    state.watch_places();
    state.tell_places_of(&state.shared.config());
    if let Ok(service) = state.fleet_service() {
        service.renew();
    }
    drop(reload_lock);
}
