//! Orders on groups and their servers over a configuration that changes and over servers that are looked up, compared with a
//! stack of decisions for each of them and with a merge of words: what a group has is what the file says now, what was looked
//! up and is believed, and over both the newest decisions that were neither undone nor left unconfirmed. Groups are made and
//! removed, and keys lead to some of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pointsman_sim::{Scenario, Seeded, explore, holds, tell};
use switch::{
    Action, BaseGroup, BaseServer, Code, Commit, EffectiveGroup, GROUP_SUBJECT, GroupOrder, GroupUse,
    GroupVerb, KeyKind, MadeGroup, MemoryStore, Meta, Order, Refusal, Rules, RunTimeRules, SERVER_SUBJECT,
    ServerEntry, ServerOrder, ServerVerb, Store, Table, Undoing, apply_overlay, check_made, find_group,
    made_groups, overlay_of, plan,
};
use upstream::{Address, BalancerSpec, Group, GroupSpec, KeepaliveSpec, PeerSpec, PickInput, Ring, Tried};

const GROUPS: [&str; 3] = ["blue", "green", "teal"];
/// Those that orders make; the file may have the first of them, too.
const MADE: [&str; 2] = ["green", "teal"];
const SERVERS: [&str; 4] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "unix:/run/app.sock"];
const WORDS: [&str; 6] = ["weight=2", "weight=7", "max_conns=9", "max_fails=0", "backup", "fail_timeout=5s"];

/// What somebody has decided for a server.
#[derive(Debug)]
struct Decision {
    revision: u64,
    says: Option<String>,
    /// It was undone, or not confirmed in time.
    gone: bool,
    /// It is part of taking another one back.
    is_of_undo: bool,
}

struct Run {
    seeded: Seeded,
    store: MemoryStore,
    table: Table,
    /// The servers of each group of the file, with their parameters. `blue` is used by a switch.
    file: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
    /// The groups of the file that take over made ones.
    adopting: BTreeSet<&'static str>,
    /// The made groups that a key leads to.
    led_to: BTreeSet<&'static str>,
    /// What was looked up for each group, and is believed.
    looked_up: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
    min_servers: u32,
    now_ms: u64,
    /// By subject and name.
    decisions: BTreeMap<(String, String), Vec<Decision>>,
}

fn entry(text: &str) -> ServerEntry {
    ServerEntry::parse(text)
}

/// Parameters as words by their names.
fn by_name(text: &str) -> BTreeMap<String, String> {
    let words = text.split(' ').filter(|word| !["", "added", "removed"].contains(word));
    words.map(|word| (word.split('=').next().unwrap().to_owned(), word.to_owned())).collect()
}

impl Run {
    fn new(mut seeded: Seeded) -> Run {
        let mut file = BTreeMap::new();
        for group in ["blue", "green"] {
            let count = seeded.below(3) + usize::from(group == "blue");
            file.insert(group, SERVERS[..count].iter().map(|server| (*server, String::new())).collect());
        }
        let (store, table) = (MemoryStore::new(), Table::default());
        Run {
            min_servers: seeded.below(3) as u32,
            seeded,
            store,
            table,
            file,
            adopting: BTreeSet::new(),
            led_to: BTreeSet::new(),
            looked_up: BTreeMap::new(),
            now_ms: 1,
            decisions: BTreeMap::new(),
        }
    }

    fn rules(&self) -> Rules {
        let server = |is_discovered: bool, (name, params): (&&'static str, &String)| BaseServer {
            name: (*name).to_owned(),
            addresses: vec![(*name).to_owned()],
            params: entry(params).params,
            is_discovered,
        };
        let found = |name: &'static str, file: &BTreeMap<&'static str, String>| -> Vec<BaseServer> {
            let found = self.looked_up.get(name).into_iter().flatten();
            found.filter(|(name, _)| !file.contains_key(*name)).map(|one| server(true, one)).collect()
        };
        let group = |(name, servers): (&&'static str, &BTreeMap<&'static str, String>)| BaseGroup {
            name: (*name).into(),
            servers: servers.iter().map(|one| server(false, one)).chain(found(name, servers)).collect(),
            allows_backup: true,
            max_weights: None,
            users: if *name == "blue" { vec!["switch \"live\"".to_owned()] } else { Vec::new() },
            adopts: self.adopting.contains(name),
        };
        let led_to = |group: &&'static str| GroupUse { group: (*group).into(), by: "a key".to_owned() };
        Rules {
            name: "groups".into(),
            default: "".into(),
            targets: Box::default(),
            kind: KeyKind::Text,
            max_keys: 0,
            max_key_len: 0,
            groups: self.file.iter().map(group).collect(),
            run_time: RunTimeRules {
                users: ["switch \"live\"".to_owned()].into(),
                uses: self.led_to.iter().map(led_to).collect(),
                ..RunTimeRules::default()
            },
        }
    }

    fn found(&self, group: &str) -> EffectiveGroup {
        let rules = self.rules();
        let base = rules.groups.iter().find(|one| &*one.name == group);
        apply_overlay(base.map_or(&[], |base| &base.servers), &overlay_of(self.table.subjects(), group))
    }

    fn carry_out(&mut self, order: &Order) -> Result<Option<Commit>, Refusal> {
        let loaded = self.store.load().unwrap();
        let plan = plan(&self.table, &self.rules(), order, &loaded.pending)?;
        if plan.unchanged {
            return Ok(None);
        }
        let commit = plan.commit(loaded.last_hash, self.now_ms, Vec::new());
        self.store.commit(&commit).unwrap();
        self.table = self.table.apply(&commit);
        Ok(Some(commit))
    }

    fn params(&mut self) -> String {
        let count = self.seeded.below(3);
        (0..count).map(|_| *self.seeded.one_of(&WORDS)).collect::<Vec<_>>().join(" ")
    }

    fn verb(&mut self) -> ServerVerb {
        match self.seeded.below(9) {
            0 | 1 => ServerVerb::Add(entry(&self.params()).params),
            2 => ServerVerb::Set(entry(&self.params()).params),
            3 => ServerVerb::Drain,
            4 => ServerVerb::Down,
            5 => ServerVerb::Up,
            6 => ServerVerb::Remove,
            7 => ServerVerb::Pin,
            _ => ServerVerb::Reset,
        }
    }

    fn change(&mut self) {
        let count = 1 + self.seeded.below(3);
        let orders: Vec<ServerOrder> = (0..count)
            .map(|_| {
                let verb = self.verb();
                let server = if verb == ServerVerb::Pin { "" } else { *self.seeded.one_of(&SERVERS) };
                let group = (*self.seeded.one_of(&GROUPS)).to_owned();
                ServerOrder { group, server: server.to_owned(), verb }
            })
            .collect();
        let within_ms = self.seeded.chance(30).then(|| self.seeded.within(1..=40));
        let force = self.seeded.chance(10);
        let meta = Meta { actor: "sim".to_owned(), force, confirm_within_ms: within_ms, ..Meta::default() };
        let order = Order { action: Action::Servers(orders.clone()), meta };
        let was_usable = self.found("blue").is_usable();
        tell!("{orders:?}, force {force}, to confirm within {within_ms:?}");
        let commit = match self.carry_out(&order) {
            Ok(Some(commit)) => commit,
            Ok(None) => return,
            Err(refusal) => {
                tell!("refused: {refusal}");
                return;
            }
        };
        self.decide(&commit, false);
        let is_usable = self.found("blue").is_usable();
        holds!("never-emptied", force || !was_usable || is_usable, "{orders:?} has emptied blue");
        for order in &orders {
            self.shows(order);
        }
        holds!("made-by-it", order.may_have_made(&commit), "{orders:?} did not make {commit:?}");
        let again = plan(
            &self.table,
            &self.rules(),
            &Order { meta: Meta { actor: "sim".into(), force: true, ..Meta::default() }, ..order.clone() },
            &[],
        );
        let is_done = match &again {
            Ok(plan) => plan.unchanged,
            Err(refusal) => [Code::ServerExists, Code::UnknownServer].contains(&refusal.code),
        };
        holds!("applied-once", is_done, "{orders:?} would be applied again: {again:?}");
        if within_ms.is_none() && self.seeded.chance(30) {
            self.undo(commit.revision);
        }
    }

    /// Takes a commit's changes as decisions. One that takes others back decides only that servers go with their group, if they do
    /// not by what is taken back.
    fn decide(&mut self, commit: &Commit, is_of_undo: bool) {
        // One that goes, or gives its place to an older one of its name.
        let gone = commit.subjects.iter().filter(|one| one.subject == GROUP_SUBJECT && one.before.is_some());
        let gone: Vec<&str> = gone.map(|one| &*one.name).collect();
        for change in &commit.subjects {
            let goes_with = change.named_server().is_some_and(|(group, _)| gone.contains(&group));
            if is_of_undo && !(goes_with && change.after.is_none()) {
                continue;
            }
            let says = change.after.clone();
            let name = (change.subject.clone(), change.name.clone());
            if is_of_undo && self.decided(&name) == says {
                continue;
            }
            let decision = Decision { revision: commit.revision, says, gone: false, is_of_undo };
            self.decisions.entry(name).or_default().push(decision);
        }
    }

    /// A group that is made has no server but those that its commit names, whatever was said of an older one; one that is removed
    /// goes with all of them, unless a block has taken it over.
    fn decide_for_others(&mut self, group: &str, commit: &Commit) {
        // The last is whether it is pinned.
        for server in SERVERS.into_iter().chain(["*"]) {
            let name = format!("{group} {server}");
            if !commit.subjects.iter().any(|one| one.subject == SERVER_SUBJECT && one.name == name) {
                let decision =
                    Decision { revision: commit.revision, says: None, gone: false, is_of_undo: false };
                self.decisions.entry((SERVER_SUBJECT.to_owned(), name)).or_default().push(decision);
            }
        }
    }

    /// Returns what the newest decision that stands says.
    fn decided(&self, name: &(String, String)) -> Option<String> {
        let decisions = self.decisions.get(name)?;
        decisions.iter().rev().find(|one| !one.gone)?.says.clone()
    }

    fn is_made(&self, group: &str) -> bool {
        MadeGroup::find(self.table.subjects(), group).is_some()
    }

    /// Makes a group, or removes one.
    fn change_group(&mut self) {
        let group = *self.seeded.one_of(&MADE);
        let count = self.seeded.below(3);
        let like = self.seeded.chance(50).then(|| (*self.seeded.one_of(&GROUPS)).to_owned());
        let servers: Vec<(String, switch::ServerParams)> = SERVERS[..count]
            .iter()
            .map(|server| ((*server).to_owned(), entry(&self.params()).params))
            .collect();
        let verb = match self.seeded.chance(60) {
            true => GroupVerb::Make { like, servers: servers.clone() },
            false => GroupVerb::Remove,
        };
        let within_ms = self.seeded.chance(30).then(|| self.seeded.within(1..=40));
        let meta = Meta { actor: "sim".to_owned(), confirm_within_ms: within_ms, ..Meta::default() };
        let order =
            Order { action: Action::Group(GroupOrder { group: group.to_owned(), verb: verb.clone() }), meta };
        tell!("{group} {verb:?}, to confirm within {within_ms:?}, led to {:?}", self.led_to);
        let commit = match self.carry_out(&order) {
            Ok(Some(commit)) => commit,
            Ok(None) => unreachable!("a group is made or removed"),
            Err(refusal) => {
                tell!("refused: {refusal}");
                return;
            }
        };
        self.decide(&commit, false);
        if matches!(verb, GroupVerb::Make { .. }) || !self.file.contains_key(group) {
            self.decide_for_others(group, &commit);
        }
        let said = overlay_of(self.table.subjects(), group);
        let names: Vec<&str> = said.iter().map(|one| &*one.name).collect();
        let mut own: Vec<&str> = servers.iter().map(|(name, _)| &**name).collect();
        own.sort_unstable();
        match verb {
            GroupVerb::Make { .. } => {
                holds!(
                    "made-with-its-servers",
                    self.is_made(group) && names == own,
                    "{group} has {names:?}, not {own:?}"
                );
            }
            GroupVerb::Remove => {
                let is_gone = !self.is_made(group) && (names.is_empty() || self.file.contains_key(group));
                holds!("gone-with-its-servers", is_gone, "of {group} is left: {names:?}");
            }
        }
        holds!("made-by-it", order.may_have_made(&commit), "{order:?} did not make {commit:?}");
        if within_ms.is_none() && self.seeded.chance(20) {
            self.undo(commit.revision);
        }
    }

    /// A key is led to a made group, or away from it.
    fn lead(&mut self) {
        let group = *self.seeded.one_of(&MADE);
        if !self.led_to.remove(group) && self.is_made(group) {
            self.led_to.insert(group);
        }
    }

    /// An order that was carried out shows in its group.
    fn shows(&self, order: &ServerOrder) {
        let found = self.found(&order.group);
        let server = found.server(&order.server);
        let shows = match &order.verb {
            ServerVerb::Add(params) => server.is_some_and(|one| params.over(&one.params) == one.params),
            ServerVerb::Set(params) => server.is_some_and(|one| params.over(&one.params) == one.params),
            ServerVerb::Drain | ServerVerb::Down => server.is_some_and(|one| !one.params.is_in_use()),
            ServerVerb::Up => server.is_some_and(|one| one.params.is_in_use()),
            ServerVerb::Remove => server.is_none(),
            ServerVerb::Reset => server.is_none_or(|one| one.revision.is_none()),
            ServerVerb::Pin => found.pinned.is_some(),
        };
        holds!("order-shows", shows, "{order:?} does not show: {found:?}");
    }

    fn undo(&mut self, revision: u64) {
        let undoing = Undoing::of_commit(&mut self.store, revision).unwrap().unwrap();
        let order = Order {
            action: Action::Undo(undoing),
            meta: Meta { actor: "sim".to_owned(), ..Meta::default() },
        };
        match self.carry_out(&order) {
            Ok(commit) => {
                tell!("{revision} is undone");
                self.forget(revision);
                commit.iter().for_each(|commit| self.decide(commit, true));
            }
            Err(refusal) => {
                let known = [
                    Code::ChangedSince,
                    Code::NothingToUndo,
                    Code::GroupEmptied,
                    Code::UnknownGroup,
                    Code::GroupExists,
                    Code::GroupInUse,
                ];
                assert!(known.contains(&refusal.code), "{refusal}");
            }
        }
    }

    fn forget(&mut self, revision: u64) {
        for decision in self.decisions.values_mut().flatten() {
            decision.gone |= decision.revision == revision;
        }
    }

    /// Undoes one of the commits that are in effect.
    fn undo_any(&mut self) {
        let standing = self.decisions.values().flatten().filter(|one| !one.gone && !one.is_of_undo);
        let standing = standing.map(|one| one.revision);
        let standing: Vec<u64> = standing.collect();
        if !standing.is_empty() {
            let revision = *self.seeded.one_of(&standing);
            self.undo(revision);
        }
    }

    /// The configuration is read again: a server or a group has come, gone or changed in it.
    fn reload(&mut self) {
        let group = *self.seeded.one_of(&GROUPS);
        let server = *self.seeded.one_of(&SERVERS);
        let mut params = self.params();
        if self.seeded.chance(20) {
            params = format!("{params} down").trim().to_owned();
        }
        let former = (self.file.clone(), self.adopting.clone());
        match self.seeded.below(10) {
            0 | 1 => drop(self.file.remove(group)),
            2..4 => drop(self.file.entry(group).or_default().remove(server)),
            _ => drop(self.file.entry(group).or_default().insert(server, params)),
        }
        match self.seeded.chance(50) {
            true => drop(self.adopting.insert(group)),
            false => drop(self.adopting.remove(group)),
        }
        let faults = check_made(&self.rules(), self.table.subjects());
        if !faults.is_empty() {
            tell!("a reload is refused: {faults:?}");
            (self.file, self.adopting) = former;
        }
        tell!("the file has {:?}, of which {:?} adopt", self.file, self.adopting);
    }

    /// Servers are looked up: an answer has come.
    fn look_up(&mut self) {
        let group = *self.seeded.one_of(&GROUPS);
        if !self.file.contains_key(group) {
            return;
        }
        let mut answer = BTreeMap::new();
        for server in SERVERS {
            if self.seeded.chance(50) {
                answer.insert(server, self.params());
            }
        }
        tell!("looked up for {group}: {answer:?}, at least {}", self.min_servers);
        let before = self.found(group);
        let (asked_before, former) = (self.asked(group), self.looked_up.insert(group, answer));
        let after = self.found(group);
        if !after.is_credible(&before, self.min_servers) {
            match former {
                Some(former) => drop(self.looked_up.insert(group, former)),
                None => drop(self.looked_up.remove(group)),
            }
        }
        let asked = self.asked(group);
        holds!(
            "floor-kept",
            asked >= self.min_servers as usize || asked >= asked_before,
            "{group} has gone from {asked_before} to {asked} servers, and must have {}",
            self.min_servers
        );
        self.compare_rings(&before, &self.found(group));
    }

    /// Counts the servers of a group that are asked while all are well, by words.
    fn asked(&self, group: &str) -> usize {
        let found = self.found(group);
        let is_asked = |text: String| {
            !["backup", "down", "drain"]
                .iter()
                .any(|word| by_name(&text).get(*word).is_some_and(|said| said == word))
        };
        found.servers.iter().filter(|one| is_asked(one.params.to_string())).count()
    }

    /// A key goes to another server only if its own has left or is another one, or the other has come or is.
    fn compare_rings(&self, before: &EffectiveGroup, after: &EffectiveGroup) {
        let of = |group: &EffectiveGroup| -> BTreeMap<String, String> {
            group.servers.iter().map(|one| (one.name.clone(), one.params.to_string())).collect()
        };
        // Where servers are out, nginx looks at twenty points of the ring, and then takes any server.
        if before.servers.iter().chain(&after.servers).any(|one| !one.params.is_in_use()) {
            return;
        }
        let (old, new) = (of(before), of(after));
        let same: BTreeSet<&String> = new
            .iter()
            .filter(|(name, params)| old.get(*name) == Some(params))
            .map(|(name, _)| name)
            .collect();
        let (mut old_ring, mut new_ring) = (ring(before), ring(after));
        for key in 0..40_u32 {
            let key = key.to_string();
            let (from, to) = (pick(&mut old_ring, &key), pick(&mut new_ring, &key));
            let (Some(from), Some(to)) = (from, to) else { continue };
            holds!(
                "ring-movement-minimal",
                from == to || !(same.contains(&from) && same.contains(&to)),
                "key {key} has gone from {from} to {to}: {old:?}, {new:?}"
            );
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let (pending, now_ms) = (self.store.load().unwrap().pending, self.now_ms);
        let due = pending.iter().filter(|one| one.confirm_by_ms <= now_ms);
        for revision in due.map(|one| one.revision) {
            tell!("{revision} was not confirmed");
            let undoing = Undoing::of_commit(&mut self.store, revision).unwrap().unwrap();
            let meta = Meta { actor: "sim".to_owned(), ..Meta::default() };
            match self.carry_out(&Order { action: Action::Revert(undoing), meta }) {
                Ok(commit) => {
                    self.forget(revision);
                    commit.iter().for_each(|commit| self.decide(commit, true));
                }
                // It is tried again: what it leads away from is in use, or what it would bring back has no place.
                Err(refusal) => {
                    let known = [Code::GroupInUse, Code::GroupExists, Code::UnknownGroup];
                    assert!(known.contains(&refusal.code), "{refusal}");
                    tell!("{refusal}");
                }
            }
            self.compare();
        }
    }

    fn compare(&self) {
        for ((subject, name), decisions) in &self.decisions {
            let says = self.table.subjects().get(subject, name).map(|value| value.value.clone());
            let decided = self.decided(&(subject.clone(), name.clone()));
            holds!(
                "newest-decision-stays",
                says == decided,
                "{name} is {says:?}, not {decided:?}: {decisions:?}"
            );
        }
        for group in GROUPS {
            self.compare_group(group);
        }
        let (rules, subjects) = (self.rules(), self.table.subjects());
        for group in &self.led_to {
            let is_there = find_group(&rules, subjects, group).is_some() && self.is_made(group);
            holds!("led-to-stays", is_there, "a key leads to {group}, which is gone");
        }
        for (group, _) in made_groups(subjects) {
            let is_one = !self.file.contains_key(group) || self.adopting.contains(group);
            holds!(
                "one-group-of-a-name",
                is_one,
                "{group} was made, and the file has it without adopting it"
            );
        }
    }

    /// Compares a group with a merge of words.
    fn compare_group(&self, group: &str) {
        let found = self.found(group);
        let file = self.file.get(group).cloned().unwrap_or_default();
        let says = |server: &str| {
            let value = self.table.subjects().get(SERVER_SUBJECT, &format!("{group} {server}"));
            value.map(|value| value.value.clone())
        };
        let is_pinned = says("*").is_some();
        let looked_up = match self.file.contains_key(group) && !is_pinned {
            true => self.looked_up.get(group).cloned().unwrap_or_default(),
            false => BTreeMap::new(),
        };
        holds!("pin-shows", found.pinned.is_some() == is_pinned, "{group}: {found:?}");
        let mut lost = 0;
        for server in SERVERS {
            let (own, said) = (file.get(server).or(looked_up.get(server)), says(server));
            lost += usize::from(said.is_some());
            let said = said.unwrap_or_default();
            let is_there = !said.contains("removed") && (own.is_some() || said.contains("added"));
            let shown = found.server(server);
            holds!(
                "file-and-orders",
                shown.is_some() == is_there,
                "{server} of {group}: {said:?} over {own:?}, {found:?}"
            );
            let Some(shown) = shown else { continue };
            let mut merged = by_name(own.map_or("", String::as_str));
            merged.extend(by_name(&said));
            let now = by_name(&shown.params.to_string());
            holds!("each-parameter-alone", now == merged, "{server} of {group}: {now:?} is not {merged:?}");
        }
        let said = found.servers.iter().filter(|one| one.revision.is_some()).count();
        let shown = said + found.removed.len() + found.dormant.len();
        holds!("no-order-lost", shown == lost, "{group}: {lost} orders, {shown} are shown: {found:?}");
    }
}

/// Returns a group with `hash … consistent`, before its first request.
fn ring(group: &EffectiveGroup) -> Group {
    let peer = |(number, one): (usize, &switch::EffectiveServer)| PeerSpec {
        weight: one.params.weight.unwrap_or(1),
        down: one.params.down == Some(true),
        drain: one.params.drain == Some(true),
        ..PeerSpec::new(one.name.clone(), Address::Unix(number.to_string().into()))
    };
    let spec = GroupSpec {
        name: "ring".into(),
        peers: group.servers.iter().enumerate().map(peer).collect(),
        balancer: BalancerSpec::Hash { consistent: true },
        keepalive: KeepaliveSpec::OFF,
        ring: Ring::default(),
    };
    Group::new(Arc::new(spec))
}

/// Returns the server that gets a key.
fn pick(group: &mut Group, key: &str) -> Option<String> {
    let input = PickInput { key: key.as_bytes(), ..PickInput::default() };
    let lease = group.pick(1, &input, &mut Tried::default(), &mut || 0).ok()?;
    let name = group.peer(&lease).spec().name.clone();
    group.finish(lease, upstream::TryOutcome::Success, 1);
    Some(name)
}

#[test]
fn servers() {
    explore(&Scenario {
        name: "servers",
        invariants: &[
            "never-emptied",
            "order-shows",
            "made-by-it",
            "applied-once",
            "newest-decision-stays",
            "file-and-orders",
            "each-parameter-alone",
            "no-order-lost",
            "made-with-its-servers",
            "gone-with-its-servers",
            "led-to-stays",
            "one-group-of-a-name",
            "pin-shows",
            "floor-kept",
            "ring-movement-minimal",
        ],
        usual: 300,
        kept: &[78_100],
        run: |seeded| {
            let mut run = Run::new(seeded);
            for _ in 0..run.seeded.within(5..=30) {
                match run.seeded.below(18) {
                    0..5 => run.change(),
                    5 | 6 => run.undo_any(),
                    7 | 8 => run.reload(),
                    9..13 => run.change_group(),
                    13 => run.lead(),
                    14 | 15 => run.look_up(),
                    _ => {
                        let ms = run.seeded.within(1..=30);
                        run.pass(ms);
                    }
                }
                run.compare();
            }
            run.pass(50);
            run.compare();
        },
    });
}
