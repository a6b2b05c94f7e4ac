//! Whether the targets of an order can serve, as far as it is known before requests are led there.
//!
//! Owns the note about a group that is degraded or down. Must never ask a server, or hold an order up: the workers are asked
//! beside it, and a dry run alone waits for what they answer.

use super::health::{TargetServer, states};
use super::state::{ControlState, collect_replies, reply_into};
use crate::data_plane::GroupState;
use crate::receipt::GateResult;
use statistics::{GroupCondition, PeerState};
use std::collections::BTreeSet;
use std::sync::Arc;
use switch::{Plan, SERVER_SUBJECT, named_server};
use tokio::sync::mpsc;

/// The maximum number of targets that have a note of their own, and of servers that one names.
const NAMED: (usize, usize) = (5, 3);

/// The targets of an order, and the workers' answers about them.
pub(super) struct TargetLook {
    targets: Vec<(Arc<str>, Vec<TargetServer>)>,
    answers: mpsc::UnboundedReceiver<Vec<GroupState>>,
}

impl ControlState {
    /// Looks at the targets of an order that its gate has not asked.
    pub(super) fn look_at_targets(&self, targets: &[Arc<str>], gate: &[GateResult]) -> TargetLook {
        let (config, routing) = (self.shared.config(), self.routing());
        let health = self.data_plane().prober().health();
        let is_asked = |target: &Arc<str>| gate.iter().any(|result| *result.target == **target);
        let targets: Vec<(Arc<str>, Vec<TargetServer>)> = targets
            .iter()
            .filter(|target| !is_asked(target))
            .map(|target| (Arc::clone(target), states(&config, &routing.groups, health, target)))
            .collect();
        let (sender, answers) = mpsc::unbounded_channel();
        if !targets.is_empty() {
            let names = targets.iter().map(|(target, _)| Arc::clone(target)).collect();
            self.data_plane().peers_of(names, reply_into(sender));
        }
        TargetLook { targets, answers }
    }
}

impl ControlState {
    /// Returns a note for each group that an order on servers leaves without a healthy one.
    pub(super) fn notes_of_groups(&self, plan: &Plan) -> Vec<String> {
        let (config, routing) = (self.shared.config(), self.routing());
        let health = self.data_plane().prober().health();
        let changed: BTreeSet<&str> = plan
            .subjects
            .iter()
            .filter(|change| change.subject == SERVER_SUBJECT)
            .filter_map(|change| Some(named_server(&change.name)?.0))
            .collect();
        let down = changed.into_iter().filter_map(|group| {
            let servers = states(&config, &routing.groups, health, group);
            let condition = GroupCondition::of(servers.iter().map(|server| server.state));
            (condition == GroupCondition::Down && !servers.is_empty()).then(|| note(group, &servers))?
        });
        down.take(NAMED.0).collect()
    }
}

impl TargetLook {
    /// Returns a note for each target that cannot serve, or not with all of its servers.
    pub(super) fn notes(self) -> Vec<String> {
        let TargetLook { targets, mut answers } = self;
        let mut taken = Vec::new();
        while let Ok(states) = answers.try_recv() {
            taken.extend(states);
        }
        notes(targets, &taken)
    }

    /// Does the same once so many workers have answered.
    pub(super) async fn awaited(self, threads: usize) -> Vec<String> {
        let TargetLook { targets, answers } = self;
        if targets.is_empty() {
            return Vec::new();
        }
        notes(targets, &collect_replies(answers, threads).await.concat())
    }
}

fn notes(targets: Vec<(Arc<str>, Vec<TargetServer>)>, answers: &[GroupState]) -> Vec<String> {
    let seen = |(target, mut servers): (Arc<str>, Vec<TargetServer>)| {
        let of_group = answers.iter().filter(|state| state.name.eq_ignore_ascii_case(&target));
        for peer in of_group.flat_map(|state| &state.peers).filter(|peer| peer.failed && !peer.departed) {
            for server in servers.iter_mut().filter(|server| *server.name == *peer.name) {
                server.state = server.state.max(PeerState::Failed);
            }
        }
        note(&target, &servers)
    };
    let mut notes: Vec<String> = targets.into_iter().filter_map(seen).collect();
    let more = notes.len().saturating_sub(NAMED.0);
    notes.truncate(NAMED.0);
    notes.extend((more > 0).then(|| format!("and {more} more targets are degraded or down")));
    notes
}

/// Returns what is to be said of a target, if anything.
fn note(target: &str, servers: &[TargetServer]) -> Option<String> {
    let condition = GroupCondition::of(servers.iter().map(|server| server.state));
    let (up, all) = (servers.iter().filter(|server| server.state == PeerState::Up).count(), servers.len());
    let head = match condition {
        GroupCondition::Healthy => return None,
        GroupCondition::Degraded => format!("{target} is degraded, {up} of {all} servers up"),
        GroupCondition::Down if servers.is_empty() => {
            return Some(format!("{target} is down: it has no server"));
        }
        GroupCondition::Down => format!("{target} is down"),
    };
    // Those that people have taken out are no reason unless there are no others.
    let is_failing = |server: &&TargetServer| {
        matches!(server.state, PeerState::Failed | PeerState::Checking | PeerState::Unhealthy)
    };
    let failing: Vec<&TargetServer> = servers.iter().filter(is_failing).collect();
    let out = if failing.is_empty() { servers.iter().collect() } else { failing };
    let mut texts: Vec<String> = out.iter().take(NAMED.1).map(|server| text(server)).collect();
    match out.len().saturating_sub(NAMED.1) {
        0 => {}
        more => texts.push(format!("and {more} more")),
    }
    Some(format!("{head}: {}", texts.join(", ")))
}

fn text(server: &TargetServer) -> String {
    let TargetServer { name, state, reason } = server;
    match (state, reason) {
        (PeerState::Failed, _) => {
            format!("{name} is left alone since requests have failed there (max_fails)")
        }
        (PeerState::Checking, _) => format!("{name} has not passed its first health check yet"),
        (_, Some(reason)) => format!("{name} is {} ({reason})", state.name()),
        (_, None) => format!("{name} is {}", state.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PeerState::{Checking, Down, Draining, Failed, Unhealthy, Up};

    fn said(states: &[(PeerState, &str)]) -> Option<String> {
        let server = |(at, (state, reason)): (usize, &(PeerState, &str))| TargetServer {
            name: format!("10.0.0.{at}:80"),
            state: *state,
            reason: (!reason.is_empty()).then(|| Arc::from(*reason)),
        };
        note("green", &states.iter().enumerate().map(server).collect::<Vec<_>>())
    }

    #[test]
    fn a_target_that_cannot_serve_is_said_with_the_reason() {
        for (states, text) in [
            (&[(Up, ""), (Down, ""), (Draining, "")][..], None),
            (&[][..], Some("green is down: it has no server")),
            (
                &[(Up, ""), (Unhealthy, "answered 503"), (Down, "")],
                Some("green is degraded, 1 of 3 servers up: 10.0.0.1:80 is unhealthy (answered 503)"),
            ),
            (
                &[(Checking, ""), (Failed, ""), (Draining, "")],
                Some(
                    "green is down: 10.0.0.0:80 has not passed its first health check yet, 10.0.0.1:80 is left alone since \
                     requests have failed there (max_fails)",
                ),
            ),
            (
                &[(Down, ""), (Draining, "")],
                Some("green is down: 10.0.0.0:80 is down, 10.0.0.1:80 is draining"),
            ),
            (
                &[(Unhealthy, "x"), (Unhealthy, ""), (Unhealthy, ""), (Unhealthy, ""), (Unhealthy, "")],
                Some(
                    "green is down: 10.0.0.0:80 is unhealthy (x), 10.0.0.1:80 is unhealthy, 10.0.0.2:80 is unhealthy, and 2 \
                     more",
                ),
            ),
        ] {
            assert_eq!(said(states).as_deref(), text, "{states:?}");
        }
    }
}
