//! What health checks find out, for people: the log, and events of the switches that it concerns.
//!
//! Owns: the words. Must never: judge a check.

use super::ControlHandle;
use crate::event::EventKind;
use engine::Config;
use engine::host::Level;
use engine::modules::switch::SwitchSpec;
use prober::HealthReport;
use statistics::{GroupCondition, PeerState};
use std::sync::Arc;
use upstream::health::{Health, HealthTable};
use upstream::{GroupSets, PeerSpec};

/// A server of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TargetServer {
    /// Its name, as written.
    pub(super) name: String,
    /// Its state as the configuration, orders and its checks have it.
    pub(super) state: PeerState,
    /// What the check that keeps it out has found.
    pub(super) reason: Option<Arc<str>>,
}

/// Returns the servers of a group with their states as the configuration, orders and checks have them.
pub(super) fn states(
    config: &Config,
    groups: &GroupSets,
    health: &HealthTable,
    group: &str,
) -> Vec<TargetServer> {
    let number = config.group(group.as_bytes());
    let entry = number.and_then(|number| config.groups.get(number));
    let published = groups.get(group.as_bytes()).map(|set| &set.spec);
    let Some(spec) = published.or_else(|| entry.map(|entry| &entry.spec)) else { return Vec::new() };
    let entries = health.find(&spec.name);
    let server = |peer: &PeerSpec| {
        let known = entries.as_ref().and_then(|entries| entries.known(peer));
        let state = match known.as_ref().map_or(Health::Healthy, |server| server.health()) {
            _ if peer.down => PeerState::Down,
            _ if peer.drain => PeerState::Draining,
            Health::Healthy => PeerState::Up,
            Health::Checking => PeerState::Checking,
            Health::Unhealthy => PeerState::Unhealthy,
        };
        let reason = known.filter(|_| state == PeerState::Unhealthy).and_then(|known| {
            let worst = known.view().checks.into_iter().max_by_key(|check| check.progress.health())?;
            // One that has passed, and must pass again, does not say why.
            worst.last.filter(|last| !last.passed).map(|last| last.reason)
        });
        TargetServer { name: peer.name.clone(), state, reason }
    };
    spec.peers.iter().map(server).collect()
}

/// Returns the condition of a group as its checks have it.
fn condition(config: &Config, groups: &GroupSets, health: &HealthTable, group: &str) -> GroupCondition {
    GroupCondition::of(states(config, groups, health, group).iter().map(|server| server.state))
}

impl ControlHandle {
    /// Writes a change of a server's health to the log, and announces it to those who watch a switch that may lead there.
    pub fn note_health(&self, report: &HealthReport) {
        let HealthReport { group, address, check, from, to, reason } = report;
        let config = self.shared.config();
        let groups = &self.shared.routing().groups;
        let group_state = condition(&config, groups, self.shared.data_plane.prober().health(), group);
        let is_made = config.group(group.as_bytes()).is_none();
        let level = if *to == Health::Healthy { Level::Notice } else { Level::Warn };
        let (name, state) = (to.name(), group_state.name());
        let text = format!(
            "upstream \"{group}\": server {address} is {name} after health check {check}: {reason}; the group is {state}"
        );
        self.shared.log(level, &text);
        let is_concerned = |switch: &&SwitchSpec| {
            let admits = is_made && switch.rules.run_time.is_admitted;
            admits || switch.rules.targets.iter().any(|target| **target == **group)
        };
        for switch in config.switches.iter().filter(is_concerned) {
            let kind = EventKind::Health {
                group: group.to_string(),
                group_state,
                server: address.clone(),
                from: *from,
                to: *to,
                check: check.to_string(),
                reason: reason.to_string(),
            };
            self.shared.announce(&Arc::from(&*switch.rules.name), kind);
        }
    }
}
