//! The servers of groups: what orders say of them is one switch without keys, whose table becomes groups.
//!
//! Owns what is published of that switch, and what is known of its servers. Must never change its table.
//!
//! Hash rings are made here, on the control thread, and shared by all that serve.

use super::state::ControlState;
use super::switch_state::{ConfiguredSwitch, SwitchState};
use crate::barred;
use crate::data_plane::{Acknowledgement, Watch};
use crate::options::{Options, Wait};
use crate::receipt::{Drain, DrainState, Receipt};
use engine::host::Level;
use engine::modules::upstream::{GroupEntry, Origin, with_params};
use engine::{Config, Routing};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use switch::{
    Action, Code, Commit, GROUP_SUBJECT, MadeGroup, Order, OverlayServer, Plan, Refusal, Rules, ServerOrder,
    ServerVerb, Table, apply_overlay, find_group, made_groups, named_server, overlay_of, server_address,
};
use tokio::sync::mpsc;
use upstream::{
    Address, BalancerSpec, GroupSet, GroupSets, GroupSpec, KeepaliveSpec, PeerSource, PeerSpec, Ring,
};

/// The first and the longest pause between two looks at a server that is drained.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// Returns the groups whose servers are others than the configuration's, by what was looked up and by orders over it, and
/// those made at run time. Those of `former` that are the same stay the same value.
pub(super) fn merged(place: &ConfiguredSwitch, table: &Table, former: &GroupSets) -> GroupSets {
    let config = &place.config;
    let blocks = config.groups.iter().filter(|entry| entry.origin == Origin::Block);
    let made =
        made_groups(table.subjects()).filter_map(|(name, made)| made_set(config, table, name, &made, former));
    blocks.filter_map(|entry| set_of(place, entry, table, former)).chain(made).collect()
}

/// Returns `former` with these groups as they are in a table.
pub(super) fn with_groups(
    place: &ConfiguredSwitch,
    table: &Table,
    former: &GroupSets,
    names: &[&str],
) -> GroupSets {
    let config = &place.config;
    names.iter().fold(former.clone(), |sets, name| {
        let entry = config.group(name.as_bytes()).and_then(|number| config.groups.get(number));
        let set = match (entry, MadeGroup::find(table.subjects(), name)) {
            (Some(entry), _) => set_of(place, entry, table, former),
            (None, made) => made.and_then(|made| made_set(config, table, name, &made, former)),
        };
        match set {
            Some(set) => sets.with(set),
            None => sets.without(name.as_bytes()),
        }
    })
}

/// Returns a group that was made at run time, unless the configuration has taken it over.
fn made_set(
    config: &Config,
    table: &Table,
    name: &str,
    made: &MadeGroup,
    former: &GroupSets,
) -> Option<GroupSet> {
    if config.group(name.as_bytes()).is_some() {
        return None;
    }
    let like = made.like.as_deref().and_then(|like| config.group(like.as_bytes()));
    let like = like.and_then(|number| config.groups.get(number));
    let settings = GroupSpec {
        name: name.to_owned(),
        peers: Vec::new(),
        balancer: like.map_or_else(BalancerSpec::default, |like| like.spec.balancer),
        keepalive: like.map_or_else(KeepaliveSpec::default, |like| like.spec.keepalive),
        ring: Ring::default(),
    };
    let like = like.map(|like| like.spec.name.as_str().into());
    let peers = peers(config, &[], &overlay_of(table.subjects(), name));
    Some(set(&settings, peers, like, former))
}

/// Returns a group, if what was looked up or orders give it other servers than the configuration.
fn set_of(
    place: &ConfiguredSwitch,
    entry: &GroupEntry,
    table: &Table,
    former: &GroupSets,
) -> Option<GroupSet> {
    let base = &entry.spec;
    let overlay = overlay_of(table.subjects(), &base.name);
    // Once the group is pinned, what is looked up does not count.
    let is_pinned = overlay.iter().any(OverlayServer::is_pin);
    let found = if is_pinned { &base.peers } else { place.bases.peers(entry) };
    let peers = peers(&place.config, found, &overlay);
    if peers == base.peers {
        return None;
    }
    Some(set(base, peers, None, former))
}

/// Returns a group with these servers: the former value if nothing is new in it.
fn set(base: &GroupSpec, peers: Vec<PeerSpec>, like: Option<Arc<str>>, former: &GroupSets) -> GroupSet {
    let is_same = |known: &&GroupSet| {
        let spec = &known.spec;
        (&spec.name, spec.balancer, spec.keepalive) == (&base.name, base.balancer, base.keepalive)
            && spec.peers == peers
            && known.like == like
    };
    match former.get(base.name.as_bytes()).filter(is_same) {
        Some(known) => known.clone(),
        None => GroupSet { spec: Arc::new(base.with_peers(peers)), like },
    }
}

/// Returns the servers of a group: the rules are those of [`apply_overlay`], for each address of a server. One that orders have
/// added, and that leads back into this server since the configuration has changed, is left out.
fn peers(config: &Config, base: &[PeerSpec], overlay: &[OverlayServer]) -> Vec<PeerSpec> {
    let mut peers = Vec::with_capacity(base.len() + overlay.len());
    for peer in base {
        match overlay.iter().find(|said| said.name == peer.name) {
            Some(said) if said.entry.is_removed => {}
            Some(said) => peers.push(with_params(peer.clone(), &said.entry.params)),
            None => peers.push(peer.clone()),
        }
    }
    let added = overlay.iter().filter(|said| said.entry.is_added && !said.entry.is_removed);
    for said in added.filter(|said| !base.iter().any(|peer| peer.name == said.name)) {
        // The plan has let no other address in.
        if let Some(address) = address(&said.name).filter(|address| !barred::leads_back(config, address)) {
            let peer = PeerSpec { source: PeerSource::Order, ..PeerSpec::new(said.name.as_str(), address) };
            peers.push(with_params(peer, &said.entry.params));
        }
    }
    peers
}

/// Parses an address as [`server_address`] writes it.
pub(super) fn address(text: &str) -> Option<Address> {
    match text.strip_prefix("unix:") {
        Some(path) => Some(Address::Unix(PathBuf::from(path))),
        None => server_address(text).ok()?.parse().ok().map(Address::Inet),
    }
}

/// Returns what is to be said of orders that the configuration does not show, or that have no effect because their servers or
/// groups are gone from it. `actor` knows who made a commit.
pub(super) fn notes(
    rules: &Rules,
    table: &Table,
    actor: &mut dyn FnMut(u64) -> Option<String>,
) -> Vec<String> {
    let mut by = |revision: u64| match actor(revision) {
        Some(actor) => format!("{actor} at revision {revision}"),
        None => format!("revision {revision}"),
    };
    let mut notes = Vec::new();
    let mut names: Vec<&str> = table
        .subjects()
        .of(switch::SERVER_SUBJECT)
        .filter_map(|(name, _)| Some(named_server(name)?.0))
        .collect();
    names.dedup();
    for name in names {
        let overlay = overlay_of(table.subjects(), name);
        let Some(group) = find_group(rules, table.subjects(), name) else {
            notes.push(format!(
                "groups: the configuration has no group \"{name}\" any more: what orders say of {} is without effect; \
                 pointsman server {name} reset forgets it",
                counted(overlay.len())
            ));
            continue;
        };
        let found = apply_overlay(&group.servers, &overlay);
        for said in &found.removed {
            let base = group.servers.iter().find(|server| server.name == said.name);
            let still = match base.is_some_and(|server| server.is_discovered) {
                true => "it is still found where the configuration looks",
                false => "the configuration still has it",
            };
            notes.push(format!(
                "groups: server {} of group \"{}\" was removed by {}; {still}",
                said.name,
                group.name,
                by(said.revision)
            ));
        }
        let taken_out = found
            .servers
            .iter()
            .filter(|server| server.ordered.down == Some(true) || server.ordered.drain == Some(true));
        for server in taken_out {
            let how = if server.ordered.down == Some(true) { "down" } else { "drained" };
            notes.push(format!(
                "groups: server {} of group \"{}\" is {how}; the last order on it is by {}",
                server.name,
                group.name,
                by(server.revision.unwrap_or_default())
            ));
        }
        for said in &found.dormant {
            notes.push(format!(
                "groups: \"{}\" of server {} of group \"{}\" by {} is without effect: the configuration does not have it any more",
                said.entry,
                said.name,
                group.name,
                by(said.revision)
            ));
        }
    }
    for (name, value) in table.subjects().of(switch::GROUP_SUBJECT) {
        if let Some(block) = rules.groups.iter().find(|group| group.name.eq_ignore_ascii_case(name)) {
            notes.push(format!(
                "groups: group \"{}\", made at run time by {}, is the configuration's now; pointsman group remove {name} \
                 forgets that it was made",
                block.name,
                by(value.revision)
            ));
        }
    }
    notes
}

/// Returns what is to be said of servers that orders have added and that lead back into this server now.
fn left_out(config: &Config, table: &Table) -> Vec<String> {
    let added = table.subjects().of(switch::SERVER_SUBJECT).filter_map(|(name, value)| {
        let entry = switch::ServerEntry::parse(&value.value);
        let (group, server) = named_server(name).filter(|_| entry.is_added && !entry.is_removed)?;
        barred::leads_back(config, &address(server)?).then(|| {
            format!(
                "groups: server {server} of group \"{group}\", added at revision {}, is left out: this server listens there now; \
                 pointsman server {group} remove {server}",
                value.revision
            )
        })
    });
    added.collect()
}

/// Returns a number of servers in words.
pub(super) fn counted(servers: usize) -> String {
    if servers == 1 { "1 server".to_owned() } else { format!("{servers} servers") }
}

impl ConfiguredSwitch {
    /// Refuses an order that is not for this kind of switch: the groups have no keys, and others no servers.
    pub(super) fn takes(&self, order: &Order) -> Result<(), Refusal> {
        match order.action {
            Action::Set(_) | Action::Default { .. } if self.is_groups() => Err(no_keys()),
            Action::Group(_) if !self.is_groups() => Err(no_servers(&self.spec().rules.name)),
            _ => Ok(()),
        }
    }
}

/// Refuses servers of a switch.
fn no_servers(switch: &str) -> Refusal {
    Refusal::new(
        Code::BadOrder,
        format!("invalid order: switch \"{switch}\" has keys, and no servers"),
        "change servers and groups: pointsman server, pointsman group",
    )
}

/// Refuses keys of the groups.
pub(super) fn no_keys() -> Refusal {
    Refusal::new(
        Code::BadOrder,
        "invalid order: \"groups\" has no keys, it has the servers of groups",
        "name a switch, or change servers: pointsman server GROUP add ADDRESS",
    )
}

impl ControlState {
    /// Logs what orders on servers have no effect, or one that the configuration does not show.
    pub(super) fn note_groups(&self) {
        if let Some(switch) = &*self.groups.borrow() {
            let mut notes = notes(&switch.rules(), &switch.table(), &mut |_| None);
            notes.extend(left_out(&switch.configured().config, &switch.table()));
            notes.iter().for_each(|note| self.shared.log(Level::Warn, note));
        }
    }

    /// Refuses a plan that brings back a server which leads back into this one: what an undo or a reset brings was perhaps allowed
    /// under another configuration.
    pub(super) fn check_ways_back(&self, place: &ConfiguredSwitch, plan: &Plan) -> Result<(), Refusal> {
        for (group, server) in &plan.enlisted {
            let base = place.spec().rules.groups.iter().find(|one| one.name == *group);
            let is_configured = base.is_some_and(|base| base.servers.iter().any(|one| one.name == *server));
            let Some(address) = address(server).filter(|_| !is_configured) else { continue };
            if barred::leads_back(&place.config, &address) {
                return Err(Refusal::new(
                    Code::ServerNotAllowed,
                    format!(
                        "no order may add server {server} into group \"{group}\": it leads back into this server"
                    ),
                    "name the server that is meant; a loop through this one is written in the configuration",
                ));
            }
        }
        Ok(())
    }

    /// Publishes the table of a switch, which these commits have changed; that of the groups as groups.
    pub(super) fn publish_table(
        &self,
        switch: &SwitchState,
        news: &[Commit],
        watch: Option<Arc<Watch>>,
    ) -> mpsc::UnboundedReceiver<Acknowledgement> {
        let routing = self.routing_with(Routing::clone(&self.routing()), switch, news);
        self.know_groups(&routing);
        self.publish_routing(routing, watch)
    }

    /// Returns a publication with the table of a switch, which these commits have changed.
    pub(super) fn routing_with(&self, routing: Routing, switch: &SwitchState, news: &[Commit]) -> Routing {
        let (place, table) = (switch.configured(), switch.table());
        if !place.is_groups() {
            return Routing {
                tables: routing.tables.with_table(place.number, table),
                groups: routing.groups,
            };
        }
        let is_of_group = |commit: &Commit| commit.subjects.iter().any(|one| one.subject == GROUP_SUBJECT);
        if news.is_empty() || news.iter().any(is_of_group) {
            self.admit_made();
        }
        let changes = news.iter().flat_map(|commit| &commit.subjects);
        let mut names: Vec<&str> = changes
            .map(|change| named_server(&change.name).map_or(&*change.name, |(group, _)| group))
            .collect();
        names.sort_unstable();
        names.dedup();
        let groups = match &names[..] {
            [] => merged(&place, &table, &routing.groups),
            names => with_groups(&place, &table, &routing.groups, names),
        };
        Routing { tables: routing.tables.again(), groups }
    }

    /// Has groups made at run time checked as those that they are like, before they are published.
    pub(super) fn know_groups(&self, routing: &Routing) {
        let config = self.shared.config();
        let present = self.routing();
        let changes = routing.groups.changes_since(&present.groups).into_iter();
        let mut made = changes.filter(|(name, _)| config.group(name).is_none());
        let like = |set: Option<&GroupSet>| set.map(|set| set.like.clone());
        if made.any(|(name, set)| like(set) != like(present.groups.get(name))) {
            self.data_plane().prober().configure(&config, &routing.groups);
        }
    }

    /// Waits until no request is at the servers that a commit of the groups has drained, if that is wanted.
    pub(super) async fn with_idle_servers(
        &self,
        switch: &SwitchState,
        receipt: Receipt,
        wait: Wait,
        timeout: Duration,
    ) -> Receipt {
        if wait != Wait::Drained || !switch.configured().is_groups() {
            return receipt;
        }
        let servers: Vec<(String, String)> =
            receipt.servers.iter().map(|one| (one.group.clone(), one.server.clone())).collect();
        let drain = self.wait_until_idle(switch, receipt.revision, &servers, timeout).await;
        Receipt { drain: Some(drain), ..receipt }
    }

    /// Waits until no request is at these servers, which this commit or an earlier one has drained.
    async fn wait_until_idle(
        &self,
        switch: &SwitchState,
        revision: u64,
        servers: &[(String, String)],
        timeout: Duration,
    ) -> Drain {
        let began = Instant::now();
        let is_meant = |group: &str, server: &str| {
            servers.iter().any(|(known, one)| known.eq_ignore_ascii_case(group) && one == server)
        };
        let mut pause = PAUSES.0;
        loop {
            let (mut answered, mut in_flight) = (0, 0);
            let reports = self.gather(|data_plane, reply| data_plane.peers(reply)).await;
            for groups in reports {
                answered += 1;
                for state in groups {
                    let at = state.peers.iter().filter(|peer| is_meant(&state.name, &peer.name));
                    in_flight += at.map(|peer| u64::from(peer.connections)).sum::<u64>();
                }
            }
            let elsewhere = self.busy_elsewhere(switch, revision, is_meant);
            in_flight += elsewhere.in_flight;
            let is_idle = self.are_all(answered) && !elsewhere.is_unknown && in_flight == 0;
            let left = timeout.saturating_sub(began.elapsed());
            if is_idle || left.is_zero() {
                let state = if is_idle { DrainState::Drained } else { DrainState::Draining };
                let seen_us = began.elapsed().as_micros() as u64;
                return Drain {
                    state,
                    in_flight,
                    seen_us,
                    in_other_processes: elsewhere.in_flight,
                    elsewhere: elsewhere.is_unknown,
                    ..Drain::default()
                };
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// Refuses an order on servers with options that are for keys, or that waits for servers that go on.
pub(super) fn check(switch: &SwitchState, order: &Order, options: &Options) -> Result<(), Refusal> {
    if !switch.configured().is_groups() {
        return Ok(());
    }
    let bad = |text: &str, remedy: &str| {
        Err(Refusal::new(Code::BadOrder, format!("invalid order: {text}"), remedy))
    };
    if options.hold.is_some() {
        return bad("requests are held by keys, not by servers", "leave the hold out");
    }
    let orders = match &order.action {
        Action::Servers(orders) => &orders[..],
        Action::Group(_) => &[],
        _ => return Ok(()),
    };
    let drains =
        |one: &ServerOrder| matches!(one.verb, ServerVerb::Drain | ServerVerb::Down | ServerVerb::Remove);
    if options.wait == Wait::Drained && (orders.is_empty() || !orders.iter().all(drains)) {
        let text = "only drain, down and remove can wait until a server is drained";
        return bad(text, "leave the wait out, or give those orders alone");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;
    use engine::modules::upstream::Bases;
    use std::path::Path;
    use switch::{ServerEntry, SubjectValue};

    fn place(config: &std::sync::Arc<engine::Config>) -> ConfiguredSwitch {
        ConfiguredSwitch::of_groups(std::sync::Arc::clone(config), Bases::default())
    }

    fn table(entries: &[(&str, &str)]) -> Table {
        let mut subjects = switch::Subjects::default();
        for (name, value) in entries {
            let value = SubjectValue { value: (*value).to_owned(), revision: 1 };
            subjects.put(switch::SERVER_SUBJECT, name, Some(value));
        }
        Table::default().with_subjects(subjects)
    }

    /// Returns the servers of a group in a publication.
    fn shown(sets: &GroupSets, group: &str) -> Option<String> {
        let set = sets.get(group.as_bytes())?;
        let peer = |peer: &PeerSpec| {
            let mut out = format!("{} w{}", peer.address, peer.weight);
            for (is_so, word) in [(peer.backup, " backup"), (peer.drain, " drain"), (peer.down, " down")] {
                out.push_str(if is_so { word } else { "" });
            }
            out
        };
        Some(set.spec.peers.iter().map(peer).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn groups_are_merged_with_what_orders_say_and_unchanged_ones_are_shared() {
        let config = config(
            Path::new("/tmp"),
            "upstream Blue { server 127.0.0.1:1 weight=2; server 127.0.0.1:2 backup; }
             upstream ring { hash $uri consistent; server 127.0.0.1:3; }
             upstream same { server 127.0.0.1:4; }",
        );
        let first = table(&[
            ("blue 127.0.0.1:1", "drain"),
            ("blue 127.0.0.1:9", "added weight=5 down"),
            ("ring 127.0.0.1:3", "removed"),
            ("ring [::1]:80", "added"),
            ("ring unix:/a.sock", "added"),
            ("same 127.0.0.1:5", "weight=2"),
            ("gone 127.0.0.1:5", "added"),
        ]);
        let sets = merged(&place(&config), &first, &GroupSets::default());
        let blue = "127.0.0.1:1 w2 drain, 127.0.0.1:2 w1 backup, 127.0.0.1:9 w5 down";
        assert_eq!(shown(&sets, "blue").as_deref(), Some(blue));
        assert_eq!(shown(&sets, "ring").as_deref(), Some("[::1]:80 w1, unix:/a.sock w1"));
        assert_eq!((shown(&sets, "same"), shown(&sets, "gone"), sets.iter().count()), (None, None, 2));

        let second = table(&[
            ("blue 127.0.0.1:2", "backup=off"),
            ("ring [::1]:80", "added"),
            ("ring unix:/a.sock", "added"),
            ("ring 127.0.0.1:3", "removed"),
        ]);
        for next in [
            merged(&place(&config), &second, &sets),
            with_groups(&place(&config), &second, &sets, &["blue", "gone"]),
        ] {
            assert_eq!(shown(&next, "blue").as_deref(), Some("127.0.0.1:1 w2, 127.0.0.1:2 w1"));
            assert!(Arc::ptr_eq(&next.get(b"ring").unwrap().spec, &sets.get(b"ring").unwrap().spec));
        }
        let none = with_groups(&place(&config), &Table::default(), &sets, &["blue", "ring"]);
        assert!(none.is_empty());
    }

    #[test]
    fn the_overlay_of_the_plan_and_what_is_published_agree() {
        let config = config(
            Path::new("/tmp"),
            "upstream blue { server 127.0.0.1:1 weight=2; server 127.0.0.1:2 max_fails=7; }",
        );
        let rules = engine::modules::switch::SwitchSpec::of_groups(&config).rules;
        let values = ["removed", "added weight=5", "weight=3 drain", "down", "down=off", "backup", ""];
        for one in values {
            for other in values {
                let entries: Vec<(&str, &str)> = [
                    ("blue 127.0.0.1:1", one),
                    ("blue 127.0.0.1:3", other),
                    ("blue 127.0.0.1:2", "max_conns=4"),
                ]
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .collect();
                let table = table(&entries);
                let found = apply_overlay(&rules.groups[0].servers, &overlay_of(table.subjects(), "blue"));
                let sets = merged(&place(&config), &table, &GroupSets::default());
                let peers = &sets.get(b"blue").unwrap().spec.peers;
                let planned: Vec<(String, PeerSpec)> = found
                    .servers
                    .iter()
                    .map(|server| {
                        let peer = PeerSpec::new(server.name.as_str(), address(&server.name).unwrap());
                        let source = match server.source {
                            switch::ServerSource::File => PeerSource::File,
                            switch::ServerSource::Discovered => PeerSource::Discovered,
                            switch::ServerSource::Order => PeerSource::Order,
                        };
                        let peer = PeerSpec { source, ..peer };
                        (server.name.clone(), with_params(peer, &server.params))
                    })
                    .collect();
                let published: Vec<(String, PeerSpec)> =
                    peers.iter().map(|peer| (peer.name.clone(), peer.clone())).collect();
                assert_eq!(planned, published, "{one} and {other}");
            }
        }
    }

    #[test]
    fn orders_without_effect_are_said() {
        let config = config(Path::new("/tmp"), "upstream blue { server 127.0.0.1:1; server 127.0.0.1:2; }");
        let rules = engine::modules::switch::SwitchSpec::of_groups(&config).rules;
        let table = table(&[
            ("blue 127.0.0.1:1", "removed"),
            ("blue 127.0.0.1:7", "drain"),
            ("blue 127.0.0.1:8", "added"),
            ("green 127.0.0.1:8", "added"),
        ]);
        let notes = notes(&rules, &table, &mut |revision| (revision == 1).then(|| "anna".to_owned()));
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(
            notes[0].contains("was removed by anna at revision 1; the configuration still has it"),
            "{notes:?}"
        );
        assert!(
            notes[1].contains(
                "\"drain\" of server 127.0.0.1:7 of group \"blue\" by anna at revision 1 is without effect"
            ),
            "{notes:?}"
        );
        assert!(notes[2].contains("no group \"green\" any more: what orders say of 1 server"), "{notes:?}");
        assert!(ServerEntry::parse("drain").params.drain.is_some());
    }
}
