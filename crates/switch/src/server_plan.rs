//! Checking an order about servers: what would change in the overlay, or why not.
//!
//! Owns the refusals that depend on the groups. Must never look at anything but the configuration's groups and the table.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::group::{all_groups, gone_group};
use crate::group_checks::{bad_order, check_groups, check_windows, group};
use crate::server::{PIN, SERVER_SUBJECT, named_server, server_address, subject_name};
use crate::{
    BaseGroup, BaseServer, Code, Details, OverlayServer, Pending, Refusal, Rules, ServerEntry, ServerOrder,
    ServerParams, ServerSource, ServerVerb, SubjectChange, Subjects, Table, apply_overlay, overlay_of,
};

/// What an order says of servers, by group and server, while it is planned.
struct Draft<'a> {
    rules: &'a Rules,
    table: &'a Table,
    /// The entries that it touches, as they would be.
    entries: BTreeMap<String, ServerEntry>,
}

/// Returns the changes that these orders make.
pub(crate) fn set(
    table: &Table,
    rules: &Rules,
    orders: &[ServerOrder],
    force: bool,
    pending: &[Pending],
) -> Result<Vec<SubjectChange>, Refusal> {
    if orders.is_empty() {
        return Err(bad_order("it names no server", "name at least one, or reset the whole group"));
    }
    let mut draft = Draft { rules, table, entries: BTreeMap::new() };
    for order in orders {
        draft.take(order)?;
    }
    let changes = draft.changes();
    check_groups(table, rules, &changes, force)?;
    if !force {
        check_windows(table, rules, &changes, pending)?;
    }
    Ok(changes)
}

impl<'a> Draft<'a> {
    fn take(&mut self, order: &ServerOrder) -> Result<(), Refusal> {
        let group = &*self.group(order)?;
        let overlay = overlay_of(self.table.subjects(), &group.name);
        if order.server.is_empty() && order.verb == ServerVerb::Reset {
            for said in &overlay {
                self.put(group, &said.name, ServerEntry::default())?;
            }
            return Ok(());
        }
        let is_pinned = overlay.iter().any(OverlayServer::is_pin);
        if order.verb == ServerVerb::Pin {
            return self.pin(group, &overlay, &order.server);
        }
        // It is what a pinned group has in the table, and no server.
        if order.server == PIN && order.verb != ServerVerb::Reset {
            return Err(unknown_server(group, PIN, None));
        }
        let server = identity(group, &overlay, &order.server, matches!(order.verb, ServerVerb::Add(_)))?;
        let base = group.servers.iter().find(|one| one.name == server);
        let base = base.filter(|one| !is_pinned || !one.is_discovered);
        let said = overlay.iter().find(|one| one.name == server);
        let entry = changed(group, &server, base, said, &order.verb)?;
        check_params(group, &server, &entry.params)?;
        self.put(group, &server, entry)
    }

    /// Returns the group that an order is on: of one that is gone orders can only be forgotten.
    fn group(&self, order: &ServerOrder) -> Result<Cow<'a, BaseGroup>, Refusal> {
        let subjects = self.table.subjects();
        match (gone_group(self.rules, subjects, &order.group), &order.verb) {
            (None, _) => group(self.table, self.rules, &[], &order.group),
            (Some(gone), ServerVerb::Reset) => Ok(Cow::Owned(gone)),
            (Some(_), _) => Err(Refusal::unknown_group(self.rules, subjects, &order.group)),
        }
    }

    /// Makes orders of the servers that were looked up.
    fn pin(&mut self, group: &BaseGroup, overlay: &[OverlayServer], server: &str) -> Result<(), Refusal> {
        if !server.is_empty() {
            return Err(bad_order("pin is of a group, not of one server", "name no server"));
        }
        if overlay.iter().any(OverlayServer::is_pin) {
            return self.put(group, PIN, ServerEntry::pin());
        }
        let found = apply_overlay(&group.servers, overlay);
        let discovered = found.servers.iter().filter(|one| one.source == ServerSource::Discovered);
        let discovered: Vec<_> = discovered.collect();
        if discovered.is_empty() {
            let text =
                format!("no server of group \"{}\" was looked up, so there is none to pin", group.name);
            return Err(bad_order(&text, "servers that are written or were added stay without it"));
        }
        for one in discovered {
            self.put(group, &one.name, ServerEntry::added(one.params.clone()))?;
        }
        self.put(group, PIN, ServerEntry::pin())
    }

    fn put(&mut self, group: &BaseGroup, server: &str, entry: ServerEntry) -> Result<(), Refusal> {
        match self.entries.insert(subject_name(&group.name, server), entry) {
            None => Ok(()),
            Some(_) => {
                let text = format!("it names the server {server} of group \"{}\" twice", group.name);
                Err(bad_order(&text, "name each server once"))
            }
        }
    }

    fn changes(self) -> Vec<SubjectChange> {
        let subjects = self.table.subjects();
        let change = |(name, entry): (String, ServerEntry)| {
            let before = subjects.get(SERVER_SUBJECT, &name).map(|value| value.value.clone());
            let after = (!entry.is_empty()).then(|| entry.to_string());
            (before != after).then(|| of_server(name, before, after, None))
        };
        self.entries.into_iter().filter_map(change).collect()
    }
}

/// Returns what orders say of a server after one more.
fn changed(
    group: &BaseGroup,
    server: &str,
    base: Option<&BaseServer>,
    said: Option<&OverlayServer>,
    verb: &ServerVerb,
) -> Result<ServerEntry, Refusal> {
    let mut entry = said.map(|said| said.entry.clone()).unwrap_or_default();
    let is_there = !entry.is_removed && (base.is_some() || entry.is_added);
    match verb {
        ServerVerb::Add(_) if is_there => return Err(server_exists(group, server)),
        ServerVerb::Add(params) => return Ok(ServerEntry::added(params.clone())),
        ServerVerb::Reset | ServerVerb::Pin => return Ok(ServerEntry::default()),
        // It is gone already.
        ServerVerb::Remove if entry.is_removed => return Ok(entry),
        _ if !is_there => return Err(unknown_server(group, server, said)),
        ServerVerb::Remove if base.is_some() => return Ok(ServerEntry::removed()),
        ServerVerb::Remove => return Ok(ServerEntry::default()),
        ServerVerb::Set(params) if params.is_empty() => {
            return Err(bad_order("it sets no parameter", "name one, such as weight=2"));
        }
        ServerVerb::Set(params) => entry.params = params.over(&entry.params),
        ServerVerb::Drain => entry.params.drain = Some(true),
        ServerVerb::Down => entry.params.down = Some(true),
        ServerVerb::Up => {
            let file = base.map(|base| base.params.clone()).unwrap_or_default();
            let lifted = |file: Option<bool>| (file == Some(true)).then_some(false);
            entry.params.drain = lifted(file.drain);
            entry.params.down = lifted(file.down);
        }
    }
    Ok(entry)
}

/// Returns the name of a server: as the configuration has it written, or its address.
fn identity(
    group: &BaseGroup,
    overlay: &[OverlayServer],
    text: &str,
    is_new: bool,
) -> Result<String, Refusal> {
    if group.servers.iter().any(|server| server.name == text) || overlay.iter().any(|said| said.name == text)
    {
        return Ok(text.to_owned());
    }
    let address = match server_address(text) {
        Ok(address) => address,
        Err(fault) if is_new => return Err(bad_address(text, &fault)),
        Err(_) => return Err(unknown_server(group, text, None)),
    };
    // The configuration may write it otherwise: without its port, or by a name that has this address.
    match group.servers.iter().find(|server| server.addresses.contains(&address)) {
        Some(server) => Ok(server.name.clone()),
        None => Ok(address),
    }
}

pub(crate) fn check_params(group: &BaseGroup, server: &str, params: &ServerParams) -> Result<(), Refusal> {
    if params.backup == Some(true) && !group.allows_backup {
        return Err(Refusal::new(
            Code::BadServer,
            format!("invalid server {server}: the balancer of group \"{}\" has no backups", group.name),
            "leave backup out",
        ));
    }
    if params.slow_start_ms.is_some_and(|ms| ms > 0) && !group.allows_backup {
        return Err(Refusal::new(
            Code::BadServer,
            format!("invalid server {server}: the balancer of group \"{}\" has no slow_start", group.name),
            "leave slow_start out",
        ));
    }
    Ok(())
}

impl SubjectChange {
    /// Returns the change of a server, or of a group, as people read it: `green: 10.0.0.1:80 added, weight=3`.
    pub fn server_text(&self) -> Option<String> {
        let Some((group, server)) = self.named_server() else { return self.group_text() };
        if server == PIN {
            let what = if self.after.is_some() { "pinned" } else { "follows what is looked up again" };
            return Some(format!("{group}: {what}"));
        }
        let read = |value: &Option<String>| value.as_deref().map(ServerEntry::parse).unwrap_or_default();
        let (before, after) = (read(&self.before), read(&self.after));
        let with = |word: &str| match after.params.to_string() {
            params if params.is_empty() => word.to_owned(),
            params => format!("{word}, {params}"),
        };
        let what = match (&before, &after) {
            (before, after) if before == after => "unchanged".to_owned(),
            (_, after) if after.is_removed => "removed".to_owned(),
            (before, after) if after.is_added && !before.is_added => with("added"),
            // Whether the configuration has it, and it stays, is not known here.
            (before, after) if before.is_added && after.is_empty() => "no longer added".to_owned(),
            (_, after) if after.is_empty() => "as in the configuration".to_owned(),
            (before, _) if before.is_removed => with("back"),
            (before, after) => differences(&before.params, &after.params),
        };
        Some(format!("{group}: {server} {what}"))
    }
}

/// Returns what differs between the parameters of orders.
fn differences(before: &ServerParams, after: &ServerParams) -> String {
    let words = |params: &ServerParams| -> Vec<String> {
        params.to_string().split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let (old, new) = (words(before), words(after));
    let name = |word: &str| word.split('=').next().unwrap_or_default().to_owned();
    let mut out: Vec<String> = Vec::new();
    for word in new.iter().filter(|word| !old.contains(word)) {
        match old.iter().find(|other| name(other) == name(word)) {
            Some(other) if word.contains('=') && other.contains('=') => {
                out.push(format!("{word} (was {other})"))
            }
            _ => out.push(word.clone()),
        }
    }
    for word in old.iter().filter(|word| !new.iter().any(|other| name(other) == name(word))) {
        out.push(match word.as_str() {
            "down" | "drain" => "up".to_owned(),
            word => format!("{} as in the configuration", name(word)),
        });
    }
    out.dedup();
    out.join(", ")
}

pub(crate) fn of_server(
    name: String,
    before: Option<String>,
    after: Option<String>,
    undoes: Option<u64>,
) -> SubjectChange {
    SubjectChange { subject: SERVER_SUBJECT.to_owned(), name, before, after, undoes }
}

/// Returns a server and its group for people.
pub(crate) fn shown(name: &str) -> String {
    match named_server(name) {
        Some((group, server)) => format!("server {server} of group \"{group}\""),
        None => format!("group \"{name}\""),
    }
}

impl Refusal {
    /// Refuses a group that is not there.
    pub fn unknown_group(rules: &Rules, subjects: &Subjects, name: &str) -> Refusal {
        let groups = all_groups(rules, subjects);
        let known: Vec<Arc<str>> = groups.iter().map(|group| Arc::clone(&group.name)).collect();
        let remedy = match &known[..] {
            _ if gone_group(rules, subjects, name).is_some() => format!(
                "orders still say something of its servers: write it in the configuration again, or forget them (pointsman server \
                 {name} reset)"
            ),
            [] => "make it (pointsman group create), or write it in the configuration and reload".to_owned(),
            known => format!("there are {}; others are made with pointsman group create", known.join(", ")),
        };
        Refusal::new(Code::UnknownGroup, format!("there is no group \"{name}\""), remedy)
            .with(Details::Names(known))
    }

    /// Refuses a server that a group does not have.
    pub fn no_server(group: &str, server: &str) -> Refusal {
        Refusal::new(
            Code::UnknownServer,
            format!("group \"{group}\" has no server {server}"),
            "add it, or use one that list shows",
        )
    }

    /// Refuses a text that is no valid parameter of a server.
    pub fn bad_server(server: &str, fault: &str) -> Refusal {
        Refusal::new(
            Code::BadServer,
            format!("invalid server {server:?}: {fault}"),
            "write the parameters as in a server line: weight=3 max_conns=100 fail_timeout=30s",
        )
    }
}

pub(crate) fn bad_address(text: &str, fault: &str) -> Refusal {
    Refusal::new(
        Code::BadServer,
        format!("invalid server {text:?}: {fault}"),
        "write its address: 10.0.0.1:8081, [2001:db8::1]:8081 or unix:/run/app.sock",
    )
}

fn server_exists(group: &BaseGroup, server: &str) -> Refusal {
    Refusal::new(
        Code::ServerExists,
        format!("group \"{}\" already has the server {server}", group.name),
        "change it (set), or remove it first",
    )
}

fn unknown_server(group: &BaseGroup, server: &str, said: Option<&OverlayServer>) -> Refusal {
    let known = group.servers.iter().map(|server| Arc::from(&*server.name)).collect();
    let text = match said {
        Some(said) if said.entry.is_removed => format!(
            "group \"{}\" has no server {server}: revision {} has removed it",
            group.name, said.revision
        ),
        Some(_) => format!(
            "group \"{}\" has no server {server}: the configuration does not have it any more",
            group.name
        ),
        None => return Refusal::no_server(&group.name, server).with(Details::Names(known)),
    };
    Refusal::new(Code::UnknownServer, text, "add it, or use one that list shows").with(Details::Names(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group_checks::enlisted;
    use crate::{
        Action, Commit, CommitKind, KeyKind, MemoryStore, Meta, Order, Store, SubjectValue, Table, Undoing,
        plan,
    };

    /// Returns two groups: `blue` is a target of a switch and has `a` and `b`, `ring` has `hash … consistent` and is used by
    /// nothing.
    fn rules() -> Rules {
        let server = |name: &str, params: &str| BaseServer {
            name: name.into(),
            addresses: vec![format!("10.0.0.{}:80", name.len())],
            params: ServerEntry::parse(params).params,
            is_discovered: false,
        };
        let blue = BaseGroup {
            name: "Blue".into(),
            servers: vec![server("a", "weight=2"), server("bb", "down")],
            allows_backup: true,
            max_weights: None,
            users: vec!["switch \"live\"".into()],
            adopts: false,
        };
        let ring = BaseGroup {
            name: "ring".into(),
            servers: Vec::new(),
            allows_backup: false,
            max_weights: Some(10),
            users: Vec::new(),
            adopts: false,
        };
        Rules {
            name: "groups".into(),
            default: "".into(),
            targets: Box::default(),
            kind: KeyKind::Text,
            max_keys: 0,
            max_key_len: 0,
            groups: [blue, ring].into(),
            run_time: Default::default(),
        }
    }

    struct Groups(MemoryStore, Rules);

    impl Groups {
        fn new() -> Groups {
            Groups(MemoryStore::new(), rules())
        }

        fn order(&mut self, action: Action, meta: Meta) -> Result<Commit, Refusal> {
            let loaded = self.0.load().unwrap();
            let order = Order { action, meta: Meta { actor: "anna".into(), ..meta } };
            let plan = plan(&loaded.table, &self.1, &order, &loaded.pending)?;
            if plan.unchanged {
                return Err(Refusal::new(Code::Internal, "unchanged", ""));
            }
            let commit = plan.commit(loaded.last_hash, 1, Vec::new());
            assert!(!matches!(order.action, Action::Servers(_)) || order.may_have_made(&commit));
            self.0.commit(&commit)?;
            Ok(commit)
        }

        /// Carries out lines such as `blue add 10.0.0.9:80 weight=3`; returns what the commit says of it.
        fn servers(&mut self, lines: &str, force: bool) -> Result<String, String> {
            let orders: Vec<ServerOrder> = lines.split(';').map(|line| parse(line.trim())).collect();
            let meta = Meta { force, ..Meta::default() };
            match self.order(Action::Servers(orders), meta) {
                Ok(commit) => {
                    assert_eq!(commit.kind, CommitKind::Server);
                    let texts = commit.subjects.iter().filter_map(SubjectChange::server_text);
                    Ok(texts.collect::<Vec<_>>().join("; "))
                }
                Err(refusal) if refusal.text == "unchanged" => Ok("unchanged".into()),
                Err(refusal) => Err(refusal.code.to_string()),
            }
        }

        fn undo(&mut self, revision: u64, force: bool) -> Result<Commit, Refusal> {
            let undoing = Undoing::of_commit(&mut self.0, revision).unwrap().unwrap();
            self.order(Action::Undo(undoing), Meta { force, ..Meta::default() })
        }

        /// Returns the servers of a group: `a weight=2, b down`.
        fn list(&mut self, group: &str) -> String {
            let table = self.0.load().unwrap().table;
            let group = self.1.groups.iter().find(|one| &*one.name == group).unwrap();
            let found = apply_overlay(&group.servers, &overlay_of(table.subjects(), &group.name));
            let line =
                |one: &crate::EffectiveServer| format!("{} {}", one.name, one.params).trim_end().to_owned();
            found.servers.iter().map(line).collect::<Vec<_>>().join(", ")
        }
    }

    fn parse(line: &str) -> ServerOrder {
        let mut words = line.split(' ');
        let (group, verb) = (words.next().unwrap().to_owned(), words.next().unwrap());
        let server = words.next().unwrap_or_default().to_owned();
        let mut params = ServerParams::default();
        words.for_each(|word| params.read(word).unwrap());
        let verb = match verb {
            "add" => ServerVerb::Add(params),
            "set" => ServerVerb::Set(params),
            "drain" => ServerVerb::Drain,
            "down" => ServerVerb::Down,
            "up" => ServerVerb::Up,
            "remove" => ServerVerb::Remove,
            "reset" => ServerVerb::Reset,
            "pin" => ServerVerb::Pin,
            other => panic!("{other}"),
        };
        ServerOrder { group, server, verb }
    }

    #[test]
    fn orders_change_the_overlay_and_describe_the_change() {
        let mut groups = Groups::new();
        for (line, said, list) in [
            (
                "blue add 10.0.0.9 weight=3",
                "blue: 10.0.0.9:80 added, weight=3",
                "a weight=2, bb down, 10.0.0.9:80 weight=3",
            ),
            ("BLUE set a weight=5", "blue: a weight=5", "a weight=5, bb down, 10.0.0.9:80 weight=3"),
            // By an address of its own.
            (
                "blue set 10.0.0.1:80 weight=6",
                "blue: a weight=6 (was weight=5)",
                "a weight=6, bb down, 10.0.0.9:80 weight=3",
            ),
            ("blue set a weight=6", "unchanged", "a weight=6, bb down, 10.0.0.9:80 weight=3"),
            (
                "blue drain 10.0.0.9:80",
                "blue: 10.0.0.9:80 drain",
                "a weight=6, bb down, 10.0.0.9:80 weight=3 drain",
            ),
            ("blue up bb", "blue: bb down=off", "a weight=6, bb down=off, 10.0.0.9:80 weight=3 drain"),
            (
                "blue up 10.0.0.9:80; blue down a",
                "blue: 10.0.0.9:80 up; blue: a down",
                "a weight=6 down, bb down=off, 10.0.0.9:80 weight=3",
            ),
            ("blue up a", "blue: a up", "a weight=6, bb down=off, 10.0.0.9:80 weight=3"),
            ("blue remove a", "blue: a removed", "bb down=off, 10.0.0.9:80 weight=3"),
            ("blue remove a", "unchanged", "bb down=off, 10.0.0.9:80 weight=3"),
            ("blue remove 10.0.0.9:80", "blue: 10.0.0.9:80 no longer added", "bb down=off"),
            ("blue add a weight=1", "blue: a added, weight=1", "a weight=1, bb down=off"),
            ("blue reset a", "blue: a no longer added", "a weight=2, bb down=off"),
            ("blue reset", "blue: bb as in the configuration", "a weight=2, bb down"),
            ("blue reset", "unchanged", "a weight=2, bb down"),
        ] {
            assert_eq!(groups.servers(line, false).as_deref(), Ok(said), "{line}");
            assert_eq!(groups.list("Blue"), list, "{line}");
        }
    }

    #[test]
    fn impossible_orders_are_refused_and_change_nothing() {
        let mut groups = Groups::new();
        groups.servers("ring add 10.0.0.7 weight=9", false).unwrap();
        for (line, code) in [
            ("red add 10.0.0.1", "unknown_group"),
            ("blue add backend", "bad_server"),
            ("blue add 10.0.0.1:99999", "bad_server"),
            ("blue add a", "server_exists"),
            ("blue add 10.0.0.2", "server_exists"),
            ("blue add 10.0.0.8; blue add 10.0.0.8:80", "bad_order"),
            ("blue set 10.0.0.8 weight=2", "unknown_server"),
            ("blue set backend weight=2", "unknown_server"),
            ("blue set a", "bad_order"),
            ("blue remove 10.0.0.8", "unknown_server"),
            ("blue remove a", "group_emptied"),
            ("blue down a", "group_emptied"),
            ("blue drain a", "group_emptied"),
            ("ring set 10.0.0.7 backup", "bad_server"),
            ("ring set 10.0.0.7 slow_start=10s", "bad_server"),
            ("ring add 10.0.0.8 weight=2", "bad_server"),
            ("blue set a weight=9; red down a", "unknown_group"),
        ] {
            assert_eq!(groups.servers(line, false), Err(code.into()), "{line}");
            assert_eq!(groups.0.load().unwrap().table.revision(), 1, "{line}");
        }
        // A replacement in one commit; and what is not used may be empty.
        assert!(groups.servers("blue add 10.0.0.8; blue remove a", false).is_ok());
        assert!(groups.servers("ring remove 10.0.0.7", false).is_ok());
        assert!(groups.servers("blue remove 10.0.0.8", true).is_ok(), "forced");
        assert_eq!(groups.servers("blue set a weight=1", false), Err("unknown_server".into()));
    }

    #[test]
    fn an_undo_takes_back_the_overlay_and_not_the_file() {
        let mut groups = Groups::new();
        groups.servers("blue set a weight=5; blue add 10.0.0.9", false).unwrap();
        groups.servers("blue set a weight=7", false).unwrap();
        let refusal = groups.undo(1, false).unwrap_err();
        assert_eq!(refusal.code, Code::ChangedSince);
        assert!(
            refusal.text.contains("server a of group \"blue\" (changed by revision 2)"),
            "{}",
            refusal.text
        );
        groups.undo(2, false).unwrap();
        assert_eq!(groups.list("Blue"), "a weight=5, bb down, 10.0.0.9:80");
        // The file changes meanwhile.
        groups.1.groups[0].servers[0].params.weight = Some(4);
        let undone = groups.undo(1, false).unwrap();
        assert_eq!(undone.kind, CommitKind::Undo { of: 1 });
        assert_eq!(groups.list("Blue"), "a weight=4, bb down");
        // It can be taken back itself.
        groups.undo(4, false).unwrap();
        assert_eq!(groups.list("Blue"), "a weight=5, bb down, 10.0.0.9:80");
        groups.undo(3, false).unwrap();
        assert_eq!(groups.list("Blue"), "a weight=7, bb down, 10.0.0.9:80");
    }

    #[test]
    fn an_undo_that_leads_to_no_group_or_empties_one_is_refused() {
        let mut groups = Groups::new();
        groups.servers("blue add 10.0.0.9; ring add 10.0.0.9", false).unwrap();
        groups.servers("blue remove a", false).unwrap();
        let refusal = groups.undo(1, false).unwrap_err();
        assert_eq!(refusal.code, Code::GroupEmptied, "{refusal}");
        groups.undo(2, false).unwrap();
        groups.servers("ring remove 10.0.0.9; ring add 10.0.0.8", false).unwrap();
        let one = groups.1.groups[0].clone();
        groups.1.groups = [one].into();
        let refusal = groups.undo(4, false).unwrap_err();
        assert_eq!(refusal.text, "there is no group \"ring\"");
    }

    #[test]
    fn what_is_said_of_a_group_that_is_gone_can_be_forgotten_and_no_more() {
        let mut groups = Groups::new();
        groups.servers("blue add 10.0.0.9; ring add 10.0.0.9; ring add 10.0.0.8", false).unwrap();
        let (ring, blue) = (groups.1.groups[1].clone(), groups.1.groups[0].clone());
        groups.1.groups = [blue.clone()].into();
        for line in
            ["ring add 10.0.0.7", "ring set 10.0.0.9 weight=2", "RING drain 10.0.0.9", "ring remove 10.0.0.9"]
        {
            let order = Action::Servers(vec![parse(line)]);
            let refusal = groups.order(order, Meta { force: true, ..Meta::default() }).unwrap_err();
            assert_eq!(refusal.code, Code::UnknownGroup, "{line}");
            assert!(refusal.remedy.to_lowercase().contains("pointsman server ring reset"), "{refusal:?}");
        }
        assert_eq!(groups.servers("ring reset 10.0.0.1", false).unwrap(), "unchanged");
        let one = groups.servers("RING reset 10.0.0.8", false).unwrap();
        assert_eq!(one, "ring: 10.0.0.8:80 no longer added");
        let both = groups.servers("blue reset; ring reset", false).unwrap();
        assert_eq!(both, "blue: 10.0.0.9:80 no longer added; ring: 10.0.0.9:80 no longer added");
        assert_eq!(groups.servers("ring reset", false).unwrap_err(), "unknown_group");
        // Nothing comes back to a group that is not there.
        assert_eq!(groups.undo(3, false).unwrap_err().code, Code::UnknownGroup);
        groups.1.groups = [blue, ring].into();
        groups.undo(3, false).unwrap();
        assert_eq!(groups.list("ring"), "10.0.0.9:80");
    }

    #[test]
    fn a_revert_leaves_what_was_changed_since() {
        let mut groups = Groups::new();
        let meta = Meta { confirm_within_ms: Some(1000), ..Meta::default() };
        let orders = vec![parse("blue set a weight=5"), parse("blue add 10.0.0.9")];
        groups.order(Action::Servers(orders), meta).unwrap();
        groups.servers("blue set a weight=7", false).unwrap();
        let undoing = Undoing::of_commit(&mut groups.0, 1).unwrap().unwrap();
        let commit = groups.order(Action::Revert(undoing), Meta::default()).unwrap();
        assert_eq!((commit.kind, commit.subjects.len()), (CommitKind::Revert { of: 1 }, 2));
        assert_eq!(groups.list("Blue"), "a weight=7, bb down");
        // What was not confirmed does not come back beneath the newer change.
        groups.undo(2, false).unwrap();
        assert_eq!(groups.list("Blue"), "a weight=2, bb down");
    }

    #[test]
    fn a_group_in_use_is_not_left_to_servers_that_a_window_takes_back() {
        let mut groups = Groups::new();
        let servers = |line: &str| Action::Servers(vec![parse(line)]);
        let meta = Meta { confirm_within_ms: Some(60_000), ..Meta::default() };
        groups.order(servers("Blue add 10.0.0.9:80"), meta).unwrap();
        let refused = groups.order(servers("Blue drain a"), Meta::default()).unwrap_err();
        assert_eq!(refused.code, Code::GroupEmptied);
        assert!(refused.text.contains("revision 1 is reverted, which added 10.0.0.9:80"), "{}", refused.text);
        groups.order(Action::Confirm(1), Meta::default()).unwrap();
        assert_eq!(groups.servers("Blue drain a", false).as_deref(), Ok("blue: a drain"));
    }

    #[test]
    fn servers_that_get_requests_newly_are_named_for_the_gate() {
        let mut table = Table::default();
        let rules = rules();
        let asked = |table: &Table, line: &str| -> Vec<String> {
            let orders: Vec<ServerOrder> = line.split(';').map(|line| parse(line.trim())).collect();
            let changes = set(table, &rules, &orders, true, &[]).unwrap();
            enlisted(table, &rules, &changes)
                .into_iter()
                .map(|(group, server)| format!("{group} {server}"))
                .collect()
        };
        assert_eq!(asked(&table, "blue add 10.0.0.9; blue set a weight=3"), ["Blue 10.0.0.9:80"]);
        assert_eq!(asked(&table, "blue up bb"), ["Blue bb"]);
        assert!(asked(&table, "blue add 10.0.0.9 down").is_empty());
        assert!(asked(&table, "blue remove a; blue reset bb").is_empty());
        let mut subjects = table.subjects().clone();
        subjects.put(SERVER_SUBJECT, "blue a", Some(SubjectValue { value: "removed".into(), revision: 1 }));
        table = table.with_subjects(subjects);
        assert_eq!(asked(&table, "blue reset a"), ["Blue a"]);
    }
}
