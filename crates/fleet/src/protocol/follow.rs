//! Following the fleet: the connection, the watch, and the signs of life.
//!
//! Owns: when a node is connected, and that silence is noticed whatever the connection says. Must never: start a watch above
//! the revision that was just read.

use super::Fleet;
use crate::fault::{FaultKind, FleetFault};
use crate::keyspace::{CallFault, Condition, KeyStep, KeyWatch, Read, Transaction};
use crate::record::{self, Acknowledgement, Beat};
use crate::view::{ChangeSubject, View};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// A connection that was just made: the store is this node's fleet.
#[derive(Clone, Copy, Debug)]
pub struct Connected {
    /// The revision of the key space at which everything was read.
    pub revision: i64,
}

/// The changes of the fleet's keys.
pub struct Follower<'f> {
    fleet: &'f Fleet,
    watch: Box<dyn KeyWatch>,
}

impl Fleet {
    /// Reads what is below the prefix, checks that it is this node's fleet, and states the node.
    ///
    /// # Errors
    /// The store cannot be reached; it is another one; the node is in no fleet, or no member of it any more.
    pub async fn connect(&self) -> Result<Connected, FleetFault> {
        self.connected.set(None);
        let id = self.fleet_id()?;
        let transaction = Transaction::reading(View::reads(&self.layout));
        let answer = self.keys.transact(transaction).await.map_err(CallFault::fault)?;
        let mut seen = View::default();
        seen.take(&self.layout, answer.reads.clone())?;
        self.check_identity(&id, &seen)?;
        if !seen.member_names().contains(&self.node) {
            return Err(FleetFault::new(
                FaultKind::NotMember,
                format!("node \"{}\" was removed from the fleet", self.node),
                "have it join again: pointsman fleet join",
            ));
        }
        self.view.borrow_mut().take(&self.layout, answer.reads)?;
        let statement = self.new_statement();
        let transaction = Transaction {
            conditions: vec![
                Condition::Value(self.layout.identity(), self.identity_value(&id)),
                Condition::Written(
                    self.layout.members(),
                    seen.members.as_ref().map_or(0, |(_, written)| *written),
                ),
            ],
            then: vec![KeyStep::Put(self.layout.node(&self.node), record::bytes(&statement))],
            otherwise: Vec::new(),
        };
        let stated = self.keys.transact(transaction).await.map_err(CallFault::fault)?;
        if !stated.held {
            let text = "the fleet's members changed while this node connected";
            return Err(FleetFault::new(FaultKind::Unreachable, text, "it tries again"));
        }
        // Whatever this node proposed before cannot be carried out any more.
        self.unsettled.set(false);
        self.view.borrow_mut().nodes.insert(self.node.clone(), (statement, stated.revision));
        let now = Instant::now();
        self.connected.set(Some(now));
        self.heard.set(Some(now));
        self.note_change();
        Ok(Connected { revision: answer.revision })
    }

    /// Follows the changes after a connection.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn follow(&self, connected: Connected) -> Result<Follower<'_>, FleetFault> {
        let watch = self.keys.watch(self.layout.prefix.clone(), connected.revision + 1).await?;
        Ok(Follower { fleet: self, watch })
    }

    /// Gives a sign of life, with the revisions of this node's tables.
    ///
    /// # Errors
    /// The store cannot be reached, or is another one; another process gives signs of life under this name.
    pub async fn beat(&self, revisions: BTreeMap<String, u64>) -> Result<(), FleetFault> {
        let id = self.fleet_id()?;
        self.beats.set(self.beats.get() + 1);
        let key = self.layout.beat(&self.node);
        let beat = Beat { count: self.beats.get(), process: self.process.clone(), revisions };
        let transaction = Transaction {
            conditions: vec![Condition::Value(self.layout.identity(), self.identity_value(&id))],
            then: vec![KeyStep::Read(Read::Key(key.clone())), KeyStep::Put(key, record::bytes(&beat))],
            otherwise: vec![Read::Key(self.layout.identity())],
        };
        let answer = self.keys.transact(transaction).await.map_err(CallFault::fault)?;
        let found = answer.reads.into_iter().flatten().next();
        if !answer.held {
            self.check_identity(&id, &View { identity: found, ..View::default() })?;
            return Ok(());
        }
        let last = self.last_beat.replace(answer.revision);
        let is_others = found.is_some_and(|entry| {
            let before: Result<Beat, _> = record::value(&entry);
            entry.written > last && last > 0 && before.is_ok_and(|before| before.process != self.process)
        });
        // A process that is replaced may have given its last one late.
        self.twins.set(if is_others { self.twins.get() + 1 } else { 0 });
        if self.twins.get() > 1 {
            return Err(FleetFault::new(
                FaultKind::Taken,
                format!("another process runs as node \"{}\" of the fleet", self.node),
                "give each node a name of its own (node=), and a state folder of its own",
            ));
        }
        Ok(())
    }

    /// Says that all workers of this node follow a commit.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn acknowledge(&self, switch: &str, done: &Acknowledgement) -> Result<(), FleetFault> {
        let id = self.fleet_id()?;
        let key = self.layout.acknowledgement(switch, &self.node);
        let transaction = Transaction {
            conditions: vec![Condition::Value(self.layout.identity(), self.identity_value(&id))],
            then: vec![KeyStep::Put(key, record::bytes(done))],
            otherwise: Vec::new(),
        };
        self.keys.transact(transaction).await.map_err(CallFault::fault)?;
        // The others see it a moment later.
        let at = (switch.to_owned(), self.node.clone());
        self.view.borrow_mut().acknowledgements.insert(at, done.clone());
        self.note_change();
        Ok(())
    }

    /// Ends the connection: until the next one nothing is known of the others.
    pub fn disconnect(&self) {
        self.connected.set(None);
        self.note_change();
    }

    /// Returns true while this node sees its own signs of life come back.
    pub fn is_connected(&self) -> bool {
        self.connected.get().is_some()
    }
}

impl Follower<'_> {
    /// Waits for changes, and returns the switches that have a new head.
    ///
    /// # Errors
    /// The watch has ended, this node's own signs of life do not come back, or its fleet is gone.
    pub async fn next(&mut self) -> Result<Vec<String>, FleetFault> {
        let Follower { fleet, watch } = self;
        // Two signs of life that do not come back, and some time for the way.
        let heard = fleet.heard.get().unwrap_or_else(Instant::now);
        let deadline = heard + fleet.times.beat * 2 + fleet.times.beat / 2;
        let Ok(changes) = tokio::time::timeout_at(deadline, watch.next()).await else {
            let text =
                format!("etcd at {} is silent: this node's signs of life do not come back", fleet.place());
            return Err(FleetFault::new(
                FaultKind::Unreachable,
                text,
                "see whether etcd runs and can be reached",
            ));
        };
        let mut heads = Vec::new();
        for change in changes? {
            match fleet.view.borrow_mut().change(&fleet.layout, change)? {
                ChangeSubject::Head(switch) => heads.push(switch),
                ChangeSubject::Beat(node) if node == fleet.node => fleet.heard.set(Some(Instant::now())),
                ChangeSubject::Identity
                | ChangeSubject::Members
                | ChangeSubject::Beat(_)
                | ChangeSubject::Other => {}
            }
        }
        fleet.note_change();
        let id = fleet.fleet_id()?;
        fleet.check_identity(&id, &fleet.view.borrow())?;
        if !fleet.view.borrow().member_names().contains(&fleet.node) {
            let text = format!("node \"{}\" was removed from the fleet", fleet.node);
            return Err(FleetFault::new(
                FaultKind::NotMember,
                text,
                "have it join again: pointsman fleet join",
            ));
        }
        Ok(heads)
    }
}
