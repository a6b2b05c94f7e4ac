//! Switches and groups together: no key leads to a group that is gone.
//!
//! Owns the lock of orders that touch both, what leads to a group that is to go, and that what other processes have committed
//! to either is published as one. Must never take this lock while another one is held: it comes first, then that of reloads,
//! then those of commits.

use super::made::Made;
use super::state::ControlState;
use super::switch_state::SwitchState;
use crate::store::{OrderLock, StoreBackend};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use switch::{Code, GroupUse, Order, Refusal, StoreFault, Table, Undoing};
use tokio::time::Instant;

/// How long an order waits for the lock, and the time between two attempts to get it.
const LOCK_TIMES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(1));
/// The number of keys that a refusal names.
const NAMED: usize = 3;

impl ControlState {
    /// Returns the groups made at run time.
    pub(super) fn made(&self) -> Made {
        match &*self.groups.borrow() {
            Some(groups) => Made::of(&groups.table()),
            None => Made::none(),
        }
    }

    /// Gives each switch the targets that it has by the groups' table.
    pub(super) fn admit_made(&self) {
        let made = self.made();
        self.switches.borrow().iter().for_each(|switch| switch.admit(&made));
    }

    /// Returns the switches whose keys may lead to groups made at run time.
    fn admitting(&self) -> Vec<Rc<SwitchState>> {
        self.switches.borrow().iter().filter(|switch| switch.admits_made()).cloned().collect()
    }

    /// Returns true if an order on this switch is one that concerns groups and switches.
    fn is_linked(&self, switch: &SwitchState) -> bool {
        match switch.configured().is_groups() {
            true => self.switches.borrow().iter().any(|switch| switch.admits_made()),
            false => switch.admits_made(),
        }
    }

    /// Takes the lock that an order needs before any other, and learns what other processes have done until then.
    pub(super) async fn link(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        order: &Order,
    ) -> Result<Option<OrderLock>, Refusal> {
        let touches_groups = switch.configured().is_groups() && order.touches_groups();
        if !touches_groups && !self.is_linked(switch) {
            return Ok(None);
        }
        let lock = self.order_lock(!touches_groups).await?;
        self.catch_up_linked(&lock).await?;
        if touches_groups {
            for one in self.admitting() {
                self.follow_holds(&one).await?;
            }
            self.look_at_uses(switch, order).await?;
        }
        Ok(Some(lock))
    }

    async fn order_lock(&self, is_shared: bool) -> Result<OrderLock, Refusal> {
        let folder = self.shared.config().prefix.join("state");
        let until = Instant::now() + LOCK_TIMES.0;
        loop {
            if let Some(lock) = OrderLock::try_take(&folder, is_shared)? {
                return Ok(lock);
            }
            if Instant::now() >= until {
                return Err(Refusal::new(
                    Code::StoreLocked,
                    format!("another process makes or removes a group: {} is locked", folder.display()),
                    "repeat the order in a moment",
                ));
            }
            tokio::time::sleep(LOCK_TIMES.1).await;
        }
    }

    /// Learns what other processes have committed to the groups and to the switches whose keys may lead to groups made at
    /// run time: while no one makes or removes one. Returns false if this switch has nothing to do with them.
    pub(super) async fn catch_up_with_groups(
        self: &Rc<ControlState>,
        switch: &SwitchState,
    ) -> Result<bool, Refusal> {
        if !self.is_linked(switch) {
            return Ok(false);
        }
        let groups = self.groups.borrow().clone();
        let mut has_news = !switch.unseen_commits().await?.is_empty();
        if let Some(groups) = groups.filter(|_| !has_news) {
            has_news = groups.unseen_commits().await.is_ok_and(|news| !news.is_empty());
        }
        if has_news {
            let lock = self.order_lock(true).await?;
            self.catch_up_linked(&lock).await?;
        }
        Ok(true)
    }

    async fn catch_up_linked(self: &Rc<ControlState>, _lock: &OrderLock) -> Result<(), Refusal> {
        let mut linked = self.admitting();
        linked.extend(self.groups.borrow().clone());
        let mut has_news = false;
        for one in &linked {
            // What cannot be read is reported by the next order of that switch.
            has_news |= one.unseen_commits().await.is_ok_and(|news| !news.is_empty());
        }
        if !has_news {
            return Ok(());
        }
        let _reload_lock = self.reload_lock.read().await;
        let mut locks = Vec::with_capacity(linked.len());
        for one in &linked {
            locks.push(one.commit_lock.lock().await);
        }
        let mut news = Vec::new();
        for one in linked.iter().filter(|one| !one.removed.get()) {
            match one.unseen_commits().await {
                Ok(commits) if commits.is_empty() => {}
                Ok(commits) => news.push((one.clone(), commits)),
                // Said already, and the others go on.
                Err(_) if one.fault.borrow().is_some() => {}
                // One without the other is not published: it is read again in a moment.
                Err(fault) => return Err(fault.into()),
            }
        }
        self.take_over_all(&news)
    }

    /// Looks up what leads to the groups that an order may remove: its plan asks for that.
    pub(super) async fn look_at_uses(&self, groups: &SwitchState, order: &Order) -> Result<(), Refusal> {
        let names = order.leaving_groups();
        if names.is_empty() || !groups.configured().is_groups() {
            return Ok(());
        }
        let mut uses = Vec::new();
        for switch in self.admitting() {
            let configured = switch.configured().spec().rules.clone();
            // A target of the configuration stays one.
            let is_target =
                |name: &str| configured.targets.iter().any(|target| target.eq_ignore_ascii_case(name));
            let leaving: Vec<Arc<str>> =
                names.iter().filter(|name| !is_target(name)).map(|name| name.as_str().into()).collect();
            if !leaving.is_empty() {
                uses.extend(self.uses_of(&switch, leaving).await?);
            }
        }
        groups.set_uses(uses);
        Ok(())
    }

    /// Returns true if a switch leads to a group now: by an entry, its default, what would come back, or an order under way. What
    /// cannot be read may.
    pub(super) async fn leads_to(&self, switch: &SwitchState, group: &Arc<str>) -> bool {
        let is_default = {
            let (table, rules) = (switch.table(), switch.rules());
            table.default_target(&rules.default).eq_ignore_ascii_case(group)
        };
        is_default
            || !matches!(self.uses_of(switch, vec![Arc::clone(group)]).await, Ok(uses) if uses.is_empty())
    }

    /// Returns what leads to these groups in a switch: its entries, its default, what would come back, and orders under way.
    async fn uses_of(&self, switch: &SwitchState, names: Vec<Arc<str>>) -> Result<Vec<GroupUse>, Refusal> {
        let (position, of) = (switch.position(), format!("of switch \"{}\"", switch.name()));
        let (table, asked, text) = (position.table.clone(), names.clone(), of.clone());
        let found = tokio::task::spawn_blocking(move || entries_to(&table, &asked, &text)).await;
        let mut uses = found.map_err(|_| super::shared::stopping())?;
        let mut add = |group: &str, by: String| {
            if let Some(group) = names.iter().find(|name| ***name == *group) {
                uses.push(GroupUse { group: Arc::clone(group), by });
            }
        };
        if let Some((own, _)) = position.table.own_default() {
            add(own, format!("the default {of}"));
        }
        for waiting in &position.pending {
            let revision = waiting.revision;
            let read = move |store: &mut dyn StoreBackend| restored_by(store, revision);
            for target in switch.store.with(read).await? {
                add(
                    &target,
                    format!("revision {revision} {of}, which waits to be confirmed and would go back there"),
                );
            }
        }
        let number = switch.configured().number;
        let waiting = self.holds.filter_map(|held| {
            let order = held.kept.order.as_ref().filter(|_| held.hold.switch() == number)?;
            Some((held.hold.key().to_string(), order.targets.clone()))
        });
        for (key, targets) in waiting {
            targets.iter().for_each(|target| add(target, format!("an order that holds key \"{key}\" {of}")));
        }
        Ok(uses)
    }
}

/// Returns the entries of a table that lead to these groups: the first few by name, and how many more there are.
fn entries_to(table: &Table, names: &[Arc<str>], of: &str) -> Vec<GroupUse> {
    let mut uses = Vec::new();
    for group in names {
        let (mut first, mut count): (BTreeSet<&str>, usize) = (BTreeSet::new(), 0);
        let leads = |entry: &switch::TableEntry| entry.route.targets().any(|target| target == group);
        for (key, _) in table.iter().filter(|(_, entry)| leads(entry)) {
            count += 1;
            first.insert(key.as_str());
            if first.len() > NAMED {
                first.pop_last();
            }
        }
        let more = count - first.len();
        let named = first.into_iter().map(|key| format!("key \"{key}\" {of}"));
        let rest = (more > 0).then(|| format!("{more} other keys {of}"));
        uses.extend(named.chain(rest).map(|by| GroupUse { group: Arc::clone(group), by }));
    }
    uses
}

/// Returns the targets that would get requests again if a commit went back, each once.
fn restored_by(store: &mut dyn StoreBackend, revision: u64) -> Result<BTreeSet<String>, StoreFault> {
    let Some(undoing) = Undoing::of_commit(store, revision)? else { return Ok(BTreeSet::new()) };
    let routes = undoing.keys().iter().filter_map(|undone| undone.restore.as_ref());
    let targets = routes.flat_map(switch::Route::targets).map(ToString::to_string);
    Ok(targets.chain(undoing.default_change().map(|undone| undone.restore.clone())).collect())
}
