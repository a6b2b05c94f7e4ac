//! What goes wrong in a fleet, in words for people.
//!
//! Owns: the kinds and their texts. Must never: be vague about whether something was carried out.

use std::fmt;

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The store cannot be reached, or does not answer in time.
    Unreachable,
    /// The store does not let this node in: user, password or permission.
    Denied,
    /// The value to be written is larger than the store takes.
    TooLarge,
    /// The store has no space left.
    Full,
    /// The store is not that of this node's fleet, or has lost what this node knows: nothing of it is applied.
    Foreign,
    /// A value cannot be understood, or its hash is wrong.
    Damaged,
    /// The fleet does not exist, or this node is not in it.
    NotMember,
    /// The name is taken, or the fleet exists.
    Taken,
    /// A node is silent, or is not configured for the order.
    Node,
    /// Anything else that the store refuses.
    Refused,
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetFault {
    /// Its kind.
    pub kind: FaultKind,
    /// The fault, and its place.
    pub text: String,
    /// The remedy.
    pub remedy: String,
}

impl FleetFault {
    /// Returns a fault.
    pub fn new(kind: FaultKind, text: impl Into<String>, remedy: impl Into<String>) -> FleetFault {
        FleetFault { kind, text: text.into(), remedy: remedy.into() }
    }

    /// Returns the fault of a value that cannot be used.
    pub fn damaged(key: &str, what: impl fmt::Display) -> FleetFault {
        FleetFault::new(
            FaultKind::Damaged,
            format!("the value of {key} in etcd cannot be used: {what}"),
            "nothing of it is applied; find out who wrote it, or restore etcd from a snapshot",
        )
    }

    /// Returns the fault of a store that is not the one that this node knows.
    pub fn foreign(text: impl Into<String>) -> FleetFault {
        FleetFault::new(
            FaultKind::Foreign,
            text,
            "the table is kept, and orders are refused; bring the right etcd back, or write this node's history \
             there: pointsman fleet restore",
        )
    }
}

impl fmt::Display for FleetFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.text, self.remedy)
    }
}

impl std::error::Error for FleetFault {}
