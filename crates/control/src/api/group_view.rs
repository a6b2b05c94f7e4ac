//! Groups as the API shows them.
//!
//! Owns how what orders say, what threads and checks see and what was measured come together. Must never change anything.

use super::context::Api;
use super::error::ApiError;
use super::status;
use super::types::{self, ServerSettings};
use super::view;
use crate::data_plane::PeerState;
use crate::info::{GroupInfo, GroupsInfo};
use prober::Prober;
use statistics::{Collector, GroupCondition, GroupSummary, Summary, Window};
use switch::{EffectiveServer, OverlayServer, ServerParams, ServerSource};

/// The state of a group of which orders alone say something.
const GONE: &str = "gone";

/// Returns the groups of this name, or all, with what was measured in this window.
pub(super) async fn groups(
    api: &Api,
    name: Option<String>,
    window: Window,
) -> Result<types::Groups, ApiError> {
    let control = &api.control;
    control.collect().await?;
    let found = control.groups(name).await?;
    let read = move |collector: &mut Collector, now_ms| collector.summary(window, now_ms);
    let summary = status::collected(control, read).await?;
    let figures = Figures { all: &found, summary: &summary, prober: control.data_plane().prober() };
    let groups = found.groups.iter().map(|group| figures.group(group)).collect();
    let span_ms = summary.span_ms;
    let store_fault = found.store_fault.map(|(text, remedy)| types::StoreFault { text, remedy });
    Ok(types::Groups { revision: found.revision, window: window.name().into(), span_ms, groups, store_fault })
}

/// What is known of groups: what was said, what was measured, what checks have found.
struct Figures<'a> {
    all: &'a GroupsInfo,
    summary: &'a Summary,
    prober: &'a Prober,
}

impl Figures<'_> {
    fn group(&self, group: &GroupInfo) -> types::ServerGroup {
        let (all, name) = (self.all, &*group.base.name);
        let of_group: Vec<&PeerState> = all
            .peers
            .iter()
            .filter(|state| state.name.eq_ignore_ascii_case(name))
            .flat_map(|state| &state.peers)
            .collect();
        let measured = self.summary.groups.iter().find(|one| one.name.eq_ignore_ascii_case(name));
        let found = group.found.servers.iter();
        let (states, servers): (Vec<statistics::PeerState>, Vec<types::Server>) =
            found.map(|server| self.server(group, server, &of_group, measured)).unzip();
        let condition = GroupCondition::of(states.into_iter());
        let overlaid = |one: &OverlayServer| said(all, &one.name, one.entry.to_string(), one.revision);
        let removed = |one: &OverlayServer| {
            let base = group.base.servers.iter().find(|server| server.name == one.name);
            let still = base.map(|server| match server.is_discovered {
                true => types::ServerOrigin::Discovered,
                false => types::ServerOrigin::File,
            });
            types::SaidOfServer { source: still, ..overlaid(one) }
        };
        let made = group.made.as_ref();
        types::ServerGroup {
            name: name.to_owned(),
            source: match group.is_gone || made.is_some_and(|made| !made.is_adopted) {
                true => types::ServerOrigin::Order,
                false => types::ServerOrigin::File,
            },
            like: made.and_then(|made| made.like.clone()),
            made: made.map(|made| said(all, "", "made".to_owned(), made.revision)),
            state: if group.is_gone { GONE } else { condition.name() }.into(),
            servers,
            removed: group.found.removed.iter().map(removed).collect(),
            dormant: group.found.dormant.iter().map(overlaid).collect(),
            used_by: group.base.users.clone(),
            sources: group.sources.iter().map(view::lookup).collect(),
            pinned: group.found.pinned.map(|revision| said(all, "", "pinned".to_owned(), revision)),
            traffic: measured
                .map(|one| status::traffic(self.summary, &one.totals, &one.window, Some(one.in_flight))),
        }
    }

    fn server(
        &self,
        group: &GroupInfo,
        server: &EffectiveServer,
        of_group: &[&PeerState],
        measured: Option<&GroupSummary>,
    ) -> (statistics::PeerState, types::Server) {
        let peers: Vec<_> =
            of_group.iter().filter(|peer| *peer.name == *server.name && !peer.departed).collect();
        let health = self.prober.health().find(&group.base.name);
        let health = health.and_then(|entries| entries.named(&server.name)).map(|entry| entry.view());
        let measured = measured.and_then(|one| one.peers.iter().find(|peer| *peer.name == *server.name));
        let state = peers.iter().map(|peer| peer.state()).max().unwrap_or(statistics::PeerState::Up);
        let shown = types::Server {
            server: server.name.clone(),
            source: match server.source {
                ServerSource::File => types::ServerOrigin::File,
                ServerSource::Discovered => types::ServerOrigin::Discovered,
                ServerSource::Order => types::ServerOrigin::Order,
            },
            params: settings(&server.params),
            said: server.revision.map(|revision| {
                let is_added = server.source == ServerSource::Order;
                let words = [if is_added { "added" } else { "" }.to_owned(), server.ordered.to_string()];
                let says = words.join(" ").trim().to_owned();
                said(self.all, &server.name, says, revision)
            }),
            state: state.name().into(),
            since_ms: match state {
                statistics::PeerState::Down | statistics::PeerState::Draining => {
                    group.out_since.get(&server.name).copied()
                }
                _ => health.as_ref().and_then(|view| status::at_epoch(view.since_ms, self.prober)),
            },
            checks: health.map_or_else(Vec::new, |view| status::checks(view, self.prober)),
            in_flight: peers.iter().map(|peer| u64::from(peer.connections)).sum(),
            failed: peers.iter().filter(|peer| peer.failed).count() as u64,
            traffic: measured
                .map(|peer| status::traffic(self.summary, &peer.totals, &peer.window, Some(peer.in_flight))),
        };
        (state, shown)
    }
}

fn said(all: &GroupsInfo, server: &str, says: String, revision: u64) -> types::SaidOfServer {
    let info = all.said.get(&revision);
    types::SaidOfServer {
        server: server.to_owned(),
        says,
        revision,
        actor: info.map(|info| info.actor.clone()).unwrap_or_default(),
        reason: info.and_then(|info| info.reason.clone()),
        time_ms: info.map(|info| info.time_ms).unwrap_or_default(),
        source: None,
    }
}

/// Returns parameters as they are written.
fn settings(params: &ServerParams) -> ServerSettings {
    let time = |ms: Option<u64>| ms.map(switch::time_text);
    ServerSettings {
        weight: params.weight,
        max_conns: params.max_conns,
        max_fails: params.max_fails,
        fail_timeout: time(params.fail_timeout_ms),
        slow_start: time(params.slow_start_ms),
        backup: params.backup,
        drain: params.drain,
        down: params.down,
    }
}
