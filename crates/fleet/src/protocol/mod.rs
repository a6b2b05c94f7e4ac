//! The protocol of a fleet, over any [`Keyspace`].
//!
//! Owns: a node's side of it. Must never: believe a store whose fleet id or hashes are not this node's own.

mod follow;
mod history;
mod membership;
mod nodes;
mod proposal;

pub use follow::{Connected, Follower};
pub use history::Known;
pub use membership::Membership;
pub use nodes::NodeView;
pub use proposal::{Commitment, MAX_COMMIT_BYTES, Proposal};

use crate::fault::{FaultKind, FleetFault};
use crate::keyspace::Keyspace;
use crate::record::{self, Layout, Statement};
use crate::view::View;
use std::cell::{Cell, RefCell};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The maximum number of nodes: each is a condition of each commit's transaction, which has at most 128 operations in etcd.
pub const MAX_NODES: usize = 100;

/// The times of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct FleetTimes {
    /// Between two signs of life.
    pub beat: Duration,
    /// Without a sign of life for so long a node is silent.
    pub silent: Duration,
    /// How long an unknown outcome is asked about before the order is answered.
    pub settle: Duration,
}

impl Default for FleetTimes {
    fn default() -> FleetTimes {
        FleetTimes {
            beat: Duration::from_secs(1),
            silent: Duration::from_millis(3500),
            settle: Duration::from_secs(5),
        }
    }
}

/// The settings of a node.
#[derive(Clone, Debug)]
pub struct FleetSettings {
    /// The prefix of all keys.
    pub prefix: String,
    /// The node's name.
    pub node: String,
    /// The times.
    pub times: FleetTimes,
}

/// A node's side of a fleet. It belongs to one thread.
pub struct Fleet {
    pub(crate) keys: Box<dyn Keyspace>,
    pub(crate) layout: Layout,
    node: String,
    times: FleetTimes,
    /// The fleet that this node is a member of.
    member: RefCell<Option<Membership>>,
    pub(crate) view: RefCell<View>,
    /// Counts the changes of the view.
    changed: watch::Sender<u64>,
    statement: RefCell<Statement>,
    /// A proposal may still be carried out: the statement that it compares is to be written anew first.
    unsettled: Cell<bool>,
    /// Of this process among those that ever wrote this node's signs of life.
    process: String,
    beats: Cell<u64>,
    /// The revision in which this process wrote its last sign of life.
    last_beat: Cell<i64>,
    /// How often in a row another process has given signs of life between two of this one's.
    twins: Cell<u32>,
    /// When this node last saw its own sign of life come back.
    heard: Cell<Option<Instant>>,
    connected: Cell<Option<Instant>>,
}

impl Fleet {
    /// Returns the side of a node that is a member of this fleet, or not yet of any.
    pub fn new(keys: Box<dyn Keyspace>, settings: FleetSettings, member: Option<Membership>) -> Fleet {
        Fleet {
            keys,
            layout: Layout::new(&settings.prefix),
            node: settings.node,
            times: settings.times,
            member: RefCell::new(member),
            view: RefCell::default(),
            changed: watch::Sender::new(0),
            statement: RefCell::default(),
            unsettled: Cell::new(false),
            process: record::random(),
            beats: Cell::new(0),
            last_beat: Cell::new(0),
            twins: Cell::new(0),
            heard: Cell::new(None),
            connected: Cell::new(None),
        }
    }

    /// Returns the node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns where the store is, for people.
    pub fn place(&self) -> String {
        self.keys.place()
    }

    /// Returns the prefix, without the last '/'.
    pub fn prefix(&self) -> &str {
        self.layout.prefix.trim_end_matches('/')
    }

    /// Returns the fleet that this node is a member of.
    pub fn member(&self) -> Option<Membership> {
        self.member.borrow().clone()
    }

    /// Returns the id of the fleet, or the fault of a node that has none.
    pub(crate) fn fleet_id(&self) -> Result<String, FleetFault> {
        let member = self.member.borrow();
        member.as_ref().map(|member| member.fleet.clone()).ok_or_else(|| {
            FleetFault::new(
                FaultKind::NotMember,
                format!("node \"{}\" is in no fleet", self.node),
                "create a fleet, once: pointsman fleet init; or join an existing one: pointsman fleet join",
            )
        })
    }

    pub(crate) fn note_change(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Waits until the view changes, or until this moment.
    pub(crate) async fn change_until(&self, deadline: Instant) {
        let mut changed = self.changed.subscribe();
        // At the deadline the caller looks again, too.
        let _ = tokio::time::timeout_at(deadline, changed.changed()).await;
    }

    /// Returns the value of the node's own statement, which is another one each time.
    pub(crate) fn new_statement(&self) -> Statement {
        let mut statement = self.statement.borrow_mut();
        statement.nonce = record::random();
        statement.clone()
    }

    /// Sets what this node says of itself; it is written by the next [`Fleet::connect`].
    pub fn set_statement(&self, statement: Statement) {
        *self.statement.borrow_mut() = statement;
    }
}
