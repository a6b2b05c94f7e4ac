//! The switches that this node has in common with others.
//!
//! Owns: what a fault of the fleet means for switches and orders. Must never: change a
//! table that the store of the fleet does not vouch for: what differs is an alarm.

mod keep;
mod nodes;
pub(super) mod own_node;
mod run;

pub(super) use keep::{check, named};
pub use nodes::FleetInfo;
pub(super) use own_node::{FleetService, membership};
pub(super) use run::start;

use super::state::ControlState;
use super::switch_state::SwitchState;
use engine::Config;
use engine::host::Level;
use fleet::record::{StatedSwitch, Statement};
use fleet::{FaultKind, FleetFault};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::rc::Rc;
use switch::{Code, KeyKind, Refusal, StoreFault, StoreFaultKind};

/// Returns what a configuration says of this node's switches in the fleet.
fn statement(config: &Config) -> Statement {
    let mut switches = BTreeMap::new();
    for spec in config.switches.iter().filter(|spec| spec.in_fleet) {
        let stated = StatedSwitch {
            keys: match spec.rules.kind {
                KeyKind::Host => "host".to_owned(),
                KeyKind::Text => "text".to_owned(),
            },
            targets: spec.rules.targets.iter().map(ToString::to_string).collect(),
        };
        switches.insert(spec.rules.name.to_string(), stated);
    }
    let mut sum = Sha256::new();
    for (name, stated) in &switches {
        sum.update(format!("{name}\n{}\n{}\n", stated.keys, stated.targets.join(" ")));
    }
    let digest = sum.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Statement { version: env!("CARGO_PKG_VERSION").to_owned(), digest, switches, ..Statement::default() }
}

/// Returns the refusal of an order for a fault of the fleet.
pub(super) fn refusal(fault: FleetFault) -> Refusal {
    let code = match fault.kind {
        FaultKind::Unreachable => Code::StoreUnreachable,
        FaultKind::Foreign => Code::StoreForeign,
        FaultKind::Damaged => Code::StoreDamaged,
        FaultKind::Full => Code::StoreFull,
        FaultKind::TooLarge => Code::BadOrder,
        FaultKind::NotMember => Code::NotInFleet,
        FaultKind::Taken => Code::FleetTaken,
        FaultKind::Node => Code::NodeNotReady,
        FaultKind::Denied | FaultKind::Refused => Code::StoreFailed,
    };
    Refusal::new(code, fault.text, fault.remedy)
}

impl ControlState {
    /// Returns the node's side of the fleet.
    pub(super) fn fleet_service(&self) -> Result<Rc<FleetService>, Refusal> {
        self.fleet.borrow().clone().ok_or_else(|| {
            Refusal::new(
                Code::NotInFleet,
                "the configuration has no fleet",
                "add to http: fleet etcd http://10.0.0.1:2379 node=a;",
            )
        })
    }

    /// Lets another process of this node speak for it.
    pub(super) fn leave_fleet(&self) {
        if let Some(service) = &*self.fleet.borrow() {
            service.leave();
        }
    }

    /// Returns the switches that are in the fleet.
    fn fleet_switches(&self) -> Vec<Rc<SwitchState>> {
        self.switches.borrow().iter().filter(|switch| switch.is_in_fleet()).cloned().collect()
    }

    /// Notes what is wrong with the fleet, or that nothing is: in the log, as an event, and in the state of its switches.
    fn note_fleet(&self, service: &FleetService, found: Option<FleetFault>) {
        let before = service.trouble.replace(found.clone());
        let known = before.as_ref().map(|fault| (fault.kind, &fault.text));
        if known == found.as_ref().map(|fault| (fault.kind, &fault.text)) {
            return;
        }
        let of_fleet = |fault: &FleetFault| StoreFault {
            kind: StoreFaultKind::Unreadable,
            text: fault.text.clone(),
            remedy: fault.remedy.clone(),
        };
        let switches = self.fleet_switches();
        match (&found, before) {
            (Some(fault), _) => {
                switches.iter().for_each(|switch| self.store_failed(switch, &of_fleet(fault)));
                if switches.is_empty() {
                    self.shared.log(Level::Crit, &format!("fleet: {fault}"));
                }
            }
            (None, Some(before)) => {
                for switch in switches {
                    let is_gone = switch.fault.borrow().as_ref() == Some(&of_fleet(&before));
                    if is_gone {
                        *switch.fault.borrow_mut() = None;
                    }
                }
                self.shared.log(Level::Notice, "fleet: this node follows it again");
            }
            (None, None) => {}
        }
    }
}
