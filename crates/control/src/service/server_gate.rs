//! The gate of orders on servers: a server that joins a group, or is brought up, is asked before it gets a request.
//!
//! Owns which gates ask it: those of all switches that lead to its group now, each as strict as it is. The asking is the
//! prober's. Must never commit.

use super::groups::address;
use super::state::ControlState;
use super::switch_state::{ConfiguredSwitch, SwitchState};
use super::trace;
use crate::gate;
use crate::receipt::{GateResult, ServerResult};
use engine::modules::switch::GateSpec;
use std::rc::Rc;
use std::sync::Arc;
use switch::{GROUP_SUBJECT, MadeGroup, Plan, Table};
use tracing::Instrument;

/// A gate by which a server is asked, with the switch that has it; none is the order's own wish.
type AskedGate = (Option<Arc<str>>, GateSpec);

impl ControlState {
    /// Asks the servers that get requests by a plan and get none now. How, say the gates of switches; `anyway` asks without
    /// one too.
    pub(super) async fn probe_servers(
        &self,
        (place, table): (&ConfiguredSwitch, &Table),
        plan: &Plan,
        anyway: bool,
    ) -> Vec<GateResult> {
        let mut results: Vec<GateResult> = Vec::new();
        let mut known_gates: Vec<(Arc<str>, Vec<AskedGate>)> = Vec::new();
        for (group, server) in &plan.enlisted {
            let subjects = &plan.subjects;
            let own = subjects.iter().find(|one| one.subject == GROUP_SUBJECT && *one.name == **group);
            let made = match own {
                Some(own) => own.after.as_deref().map(MadeGroup::parse),
                None => MadeGroup::find(table.subjects(), group),
            };
            if !known_gates.iter().any(|(known, _)| known == group) {
                let mut gates = self.gates_to(group, made.is_some()).await;
                if gates.is_empty() && anyway {
                    gates.push((None, GateSpec::CONNECT));
                }
                known_gates.push((Arc::clone(group), gates));
            }
            let gates = known_gates.iter().find(|(known, _)| known == group).map(|(_, gates)| &gates[..]);
            let Some(gates) = gates.filter(|gates| !gates.is_empty()) else { continue };
            let entry =
                gate::entry(&place.config, group, made.as_ref().and_then(|made| made.like.as_deref()));
            let base = place.spec().rules.groups.iter().find(|one| one.name == *group);
            let known = base.and_then(|group| group.servers.iter().find(|one| one.name == *server));
            let texts = known.map_or_else(|| vec![server.clone()], |known| known.addresses.clone());
            let addresses: Vec<_> = texts.iter().filter_map(|text| address(text)).collect();
            let mut servers: Vec<ServerResult> = Vec::new();
            for (switch, spec) in gates {
                let prober = self.data_plane().prober();
                let asked = gate::ask_servers((&place.config, entry), prober, spec, group, addresses.clone());
                let asked = asked.instrument(trace::gate(plan)).await;
                add(&mut servers, asked, switch.as_deref());
            }
            let servers = servers.into_iter().map(|one| ServerResult { server: server.clone(), ..one });
            let at = results.iter().position(|result| *result.target == **group).unwrap_or_else(|| {
                results.push(GateResult { target: group.to_string(), ..GateResult::default() });
                results.len() - 1
            });
            let result = &mut results[at];
            result.servers.extend(servers);
            result.required = result.servers.len();
            result.healthy = result.servers.iter().filter(|server| server.healthy).count();
            result.passed = result.healthy >= result.required;
        }
        results
    }

    /// Returns the gates of the switches that lead to a group now, each once. If none does, it is that of the first switch that
    /// may: another one asks for itself when a key is led there.
    async fn gates_to(&self, group: &Arc<str>, is_made: bool) -> Vec<AskedGate> {
        let may_lead = |switch: &&Rc<SwitchState>| {
            let spec = switch.configured();
            let rules = &spec.spec().rules;
            let admits = is_made && rules.run_time.is_admitted;
            spec.spec().gate.is_some() && (admits || rules.target(group).is_some())
        };
        let may: Vec<Rc<SwitchState>> = self.switches.borrow().iter().filter(may_lead).cloned().collect();
        let mut leading = Vec::new();
        // Of a single one it does not matter.
        for switch in may.iter().filter(|_| may.len() > 1) {
            if self.leads_to(switch, group).await {
                leading.push(switch);
            }
        }
        if leading.is_empty() {
            leading.extend(may.first());
        }
        let mut gates: Vec<AskedGate> = Vec::new();
        for switch in leading {
            let Some(gate) = switch.configured().spec().gate.clone() else { continue };
            if !gates.iter().any(|(_, known)| *known == gate) {
                gates.push((Some(switch.name()), gate));
            }
        }
        gates
    }
}

/// Adds what one more gate has found: a server is well if it is by all of them.
fn add(servers: &mut Vec<ServerResult>, asked: Vec<ServerResult>, switch: Option<&str>) {
    for one in asked {
        let reason = match switch.filter(|_| !one.healthy) {
            Some(switch) => format!("{} (gate of switch \"{switch}\")", one.reason),
            None => one.reason.clone(),
        };
        let one = ServerResult { reason, ..one };
        match servers.iter_mut().find(|known| known.address == one.address) {
            None => servers.push(one),
            Some(known) if known.healthy => *known = one,
            // The first reason is enough.
            Some(_) => {}
        }
    }
}
