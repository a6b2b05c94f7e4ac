//! What health checks find out, for people: the log, and events of the switches that it concerns.
//!
//! Owns: the words, and the states of servers and groups as everything shows them. Must never: judge a check.

use super::ControlHandle;
use crate::event::EventKind;
use engine::Config;
use engine::host::Level;
use prober::HealthReport;
use statistics::{GroupCondition, PeerState};
use std::sync::Arc;
use upstream::PeerSpec;
use upstream::health::{GroupHealth, Health, HealthTable};

/// Returns the state of a server: `failed` says that a thread skips it because of `max_fails`.
pub fn peer_state(spec: &PeerSpec, health: Option<&GroupHealth>, failed: bool) -> PeerState {
    if spec.down {
        return PeerState::Down;
    }
    match health.and_then(|group| group.known(spec)).map_or(Health::Healthy, |server| server.health()) {
        Health::Unhealthy => PeerState::Unhealthy,
        Health::Checking => PeerState::Checking,
        Health::Healthy if failed => PeerState::Failed,
        Health::Healthy => PeerState::Up,
    }
}

/// Returns the condition of a group as its checks have it.
fn condition(config: &Config, health: &HealthTable, group: &str) -> GroupCondition {
    let entry = config.groups.iter().find(|entry| *entry.spec.name == *group);
    let (peers, entries) = (entry.map_or(&[][..], |entry| &entry.spec.peers), health.find(group));
    GroupCondition::of(peers.iter().map(|peer| peer_state(peer, entries.as_deref(), false)))
}

impl ControlHandle {
    /// Writes a change of a server's health to the log, and announces it to those who watch a switch that may lead there.
    pub fn note_health(&self, report: &HealthReport) {
        let HealthReport { group, address, check, from, to, reason } = report;
        let config = self.shared.config();
        let group_state = condition(&config, self.shared.data_plane.prober().health(), group);
        let level = if *to == Health::Healthy { Level::Notice } else { Level::Warn };
        let (name, state) = (to.name(), group_state.name());
        let text = format!(
            "upstream \"{group}\": server {address} is {name} after health check {check}: {reason}; the group is {state}"
        );
        self.shared.log(level, &text);
        let is_concerned = |targets: &[Arc<str>]| targets.iter().any(|target| **target == **group);
        for switch in config.switches.iter().filter(|switch| is_concerned(&switch.rules.targets)) {
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
