//! Letting a new configuration in.
//!
//! Owns: what a reload must not do to the tables, and that nothing is committed while one is under way. Must never: leave
//! the control plane between two configurations; an admission that is dropped has changed nothing.

use super::desk::{Desk, Place, Position};
use super::opening::{self, OpenedSwitch};
use super::room::Room;
use super::{Office, now_ms};
use crate::store::StoreThread;
use engine::Config;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use switch::{Hold, Tables};
use tokio::sync::OwnedRwLockWriteGuard;

const STOPPING: &str = "the control plane is stopping";

/// A configuration that may come in. Until it is finished or dropped nothing is committed or held.
pub struct Admission {
    office: Office,
    tables: Arc<Tables>,
    inner: Option<Inner>,
}

/// What is taken over when an admission is finished.
struct Inner {
    config: Arc<Config>,
    tables: Arc<Tables>,
    /// In the order of the new configuration.
    seats: Vec<Seat>,
    /// Dropped last: then the door is open again.
    door: OwnedRwLockWriteGuard<()>,
}

/// Where a switch of the new configuration comes from.
enum Seat {
    /// From the switch that had this number.
    Kept(usize),
    /// Its store was opened for it.
    New(Place, StoreThread, Position),
}

/// Asks for a configuration to be let in; blocks.
pub(super) fn admit(office: &Office, config: &Arc<Config>) -> Result<Admission, String> {
    let (answer, answered) = mpsc::channel();
    let config = config.clone();
    office.send(Box::new(move |room| {
        let room = room.clone();
        tokio::task::spawn_local(async move {
            let _ = answer.send(check(&room, config).await);
        });
    }));
    let inner = answered.recv().map_err(|_| STOPPING.to_owned())??;
    Ok(Admission { office: office.clone(), tables: inner.tables.clone(), inner: Some(inner) })
}

impl Admission {
    /// The tables that the new configuration is served with from its first request on. Its workers must have them when
    /// they begin; they are not published once more.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// The new configuration is in force. Blocks until the control plane follows it.
    pub fn finish(mut self) {
        let Some(inner) = self.inner.take() else { return };
        let (done, awaited) = mpsc::channel::<()>();
        self.office.send(Box::new(move |room| {
            take_over(room, inner);
            drop(done);
        }));
        // The other end is dropped when it is done, or when the thread has stopped.
        let _ = awaited.recv();
    }
}

async fn check(room: &Rc<Room>, config: Arc<Config>) -> Result<Inner, String> {
    // Whoever is committing finishes first.
    let door = room.door.clone().write_owned().await;
    let old: Vec<(usize, Place)> = room.desks.borrow().iter().map(|desk| desk.place()).enumerate().collect();
    let mut seats: Vec<Option<Seat>> = Vec::new();
    let mut new = Vec::new();
    for number in 0..config.switches.len() {
        let place = Place { config: config.clone(), number };
        match old.iter().find(|(_, known)| known.shares_store(&place)) {
            Some((kept, _)) => {
                let desk = room.desks.borrow()[*kept].clone();
                still_fits(&desk, &place).await?;
                seats.push(Some(Seat::Kept(*kept)));
            }
            None => {
                new.push(place);
                seats.push(None);
            }
        }
    }
    holds_stay(room, &seats)?;
    let opened = tokio::task::spawn_blocking(move || opening::open_all(new, now_ms()))
        .await
        .map_err(|_| STOPPING.to_owned())??;
    let mut opened = opened.into_iter().map(|one| {
        let OpenedSwitch { place, store, position, reverted: _ } = one;
        Seat::New(place, store, position)
    });
    let seats: Vec<Seat> = seats.into_iter().filter_map(|seat| seat.or_else(|| opened.next())).collect();
    let published = room.tables();
    let tables = seats
        .iter()
        .map(|seat| match seat {
            Seat::Kept(number) => room.desks.borrow()[*number].table(),
            Seat::New(_, _, position) => position.table.clone(),
        })
        .collect();
    let tables = Arc::new(Tables { tables, holds: published.holds.clone(), number: published.number + 1 });
    Ok(Inner { config, tables, seats, door })
}

/// Whether the table of a switch fits what the new configuration says of it.
async fn still_fits(desk: &Rc<Desk>, place: &Place) -> Result<(), String> {
    let rules = place.spec().rules.clone();
    let wrong = |fault: switch::StoreFault| format!("switch \"{}\": {fault}", rules.name);
    let kind = rules.kind;
    if desk.rules().kind != kind
        && !desk.store.with(move |store| opening::fits_kind(store, kind)).await.map_err(wrong)?
    {
        return Err(opening::other_kind(&rules));
    }
    let mut position = desk.position();
    opening::fits(&rules, &position.table)?;
    if position.pending.is_empty() {
        return Ok(());
    }
    let asked = rules.clone();
    // At the beginning of time nothing is overdue: this only asks whether it could go back.
    let could = desk
        .store
        .with(move |store| opening::take_back(store, &asked, &mut position, 0))
        .await
        .map_err(wrong)?;
    could.map(drop).map_err(|text| format!("switch \"{}\": {text}", rules.name))
}

/// Requests that wait know their switch by its number: it may not change under them.
fn holds_stay(room: &Room, seats: &[Option<Seat>]) -> Result<(), String> {
    let moved = |hold: &Arc<Hold>| !matches!(seats.get(hold.switch()), Some(Some(Seat::Kept(old))) if *old == hold.switch());
    match room.tables().holds.iter().find(|hold| moved(hold)) {
        None => Ok(()),
        Some(hold) => Err(format!(
            "key \"{}\" is held, and its switch has another place in the new configuration; release it first",
            hold.key()
        )),
    }
}

fn take_over(room: &Rc<Room>, inner: Inner) {
    let Inner { config, tables, seats, door } = inner;
    let old = std::mem::take(&mut *room.desks.borrow_mut());
    let mut kept = vec![false; old.len()];
    for (number, seat) in seats.into_iter().enumerate() {
        match seat {
            Seat::Kept(before) => {
                kept[before] = true;
                old[before].move_to(Place { config: config.clone(), number });
                room.desks.borrow_mut().push(old[before].clone());
            }
            Seat::New(place, store, position) => {
                room.open_desk(Rc::new(Desk::new(place, store, position)));
            }
        }
    }
    for (desk, _) in old.into_iter().zip(kept).filter(|(_, kept)| !kept) {
        desk.retired.set(true);
        desk.pending_changed.notify_one();
    }
    room.set_tables(tables);
    room.office.adopt(config);
    drop(door);
}
