//! Making a fleet, and who is in it.
//!
//! Owns: the list of members, which says what *all* means, and the file in which a node keeps the fleet that it is in. Must never: make
//! a fleet where a node only wanted to join one.

use super::{Fleet, MAX_NODES};
use crate::fault::{FaultKind, FleetFault};
use crate::keyspace::{CallFault, Condition, KeyStep, Transaction};
use crate::record::{self, FORM, Identity, Members};
use crate::view::View;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// The number of attempts to change the members while others change it.
const TRIES: usize = 8;

/// The fleet that a node is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The fleet's id.
    pub fleet: String,
    /// The node's name there.
    pub node: String,
    /// The prefix of the fleet's keys.
    pub prefix: String,
}

impl Membership {
    /// Reads the file of a node; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is none of ours.
    pub fn read(path: &Path) -> Result<Option<Membership>, String> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            format!(
                "{} does not say which fleet this node is in: {error}; put it back from a backup, or move the folder away \
                 and join again (pointsman fleet join)",
                path.display()
            )
        })
    }

    /// Writes the file of a node: returns once it is durable.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let fresh = path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&record::bytes(self))?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        File::open(folder)?.sync_all()
    }
}

impl Fleet {
    /// Reads everything but commits.
    pub(crate) async fn read_view(&self) -> Result<View, FleetFault> {
        let transaction = Transaction::reading(View::reads(&self.layout));
        let answer = self.keys.transact(transaction).await.map_err(CallFault::fault)?;
        let mut seen = View::default();
        seen.take(&self.layout, answer.reads)?;
        Ok(seen)
    }

    pub(crate) fn identity_value(&self, id: &str) -> Vec<u8> {
        record::bytes(&Identity { form: FORM, id: id.to_owned() })
    }

    fn membership(&self, fleet: String) -> Membership {
        Membership { fleet, node: self.node.clone(), prefix: self.prefix().to_owned() }
    }

    /// Makes a fleet, with this node in it. What is returned is to be saved, and then given to [`Fleet::set_member`].
    ///
    /// # Errors
    /// There is one below the prefix, this node is in one, or the store cannot be written.
    pub async fn init(&self) -> Result<Membership, FleetFault> {
        if let Some(member) = self.member() {
            return Err(FleetFault::new(
                FaultKind::Taken,
                format!("node \"{}\" is in fleet {} already", self.node, member.fleet),
                "if etcd lost it, write it back: pointsman fleet restore",
            ));
        }
        let id = record::random();
        let members = Members { nodes: vec![self.node.clone()] };
        let transaction = Transaction {
            conditions: vec![
                Condition::Absent(self.layout.identity()),
                Condition::Absent(self.layout.members()),
            ],
            then: vec![
                KeyStep::Put(self.layout.identity(), self.identity_value(&id)),
                KeyStep::Put(self.layout.members(), record::bytes(&members)),
                KeyStep::Put(self.layout.node(&self.node), record::bytes(&self.new_statement())),
            ],
            otherwise: Vec::new(),
        };
        let made = match self.keys.transact(transaction).await {
            Ok(answer) => answer.held,
            // The id is random: if it is there, it is this one's.
            Err(CallFault::Unknown(_)) => {
                self.read_view().await?.fleet_id()?.is_some_and(|found| found == id)
            }
            Err(CallFault::NotDone(fault)) => return Err(fault),
        };
        match made {
            true => Ok(self.membership(id)),
            false => Err(FleetFault::new(
                FaultKind::Taken,
                format!("there is a fleet below {} in etcd at {} already", self.prefix(), self.place()),
                "join it: pointsman fleet join; or give this fleet another prefix=",
            )),
        }
    }

    /// Joins the fleet that is there. What is returned is to be saved, and then given to [`Fleet::set_member`].
    ///
    /// # Errors
    /// There is none, the node's name is taken, or the store cannot be written.
    pub async fn join(&self) -> Result<Membership, FleetFault> {
        for _ in 0..TRIES {
            let seen = self.read_view().await?;
            let Some(id) = seen.fleet_id()? else {
                return Err(FleetFault::new(
                    FaultKind::NotMember,
                    format!("there is no fleet below {} in etcd at {}", self.prefix(), self.place()),
                    "make it, once, on one node: pointsman fleet init; or correct prefix= and the URLs",
                ));
            };
            if let Some(member) = self.member()
                && member.fleet != id
            {
                self.check_identity(&member.fleet, &seen)?;
            }
            let (mut members, written) = seen.members.clone().unwrap_or_default();
            if members.nodes.contains(&self.node) {
                return match self.member() {
                    Some(member) => Ok(member),
                    None => Err(FleetFault::new(
                        FaultKind::Taken,
                        format!("a node named \"{}\" is in the fleet already", self.node),
                        format!(
                            "give this one another name (node=); or, if that one is gone for good: pointsman fleet remove {}",
                            self.node
                        ),
                    )),
                };
            }
            if members.nodes.len() >= MAX_NODES {
                let text = format!("the fleet has {MAX_NODES} nodes, which is the most");
                return Err(FleetFault::new(
                    FaultKind::Refused,
                    text,
                    "remove one: pointsman fleet remove NAME",
                ));
            }
            members.nodes.push(self.node.clone());
            members.nodes.sort();
            let own = self.new_statement();
            let transaction = Transaction {
                conditions: vec![
                    Condition::Value(self.layout.identity(), self.identity_value(&id)),
                    Condition::Written(self.layout.members(), written),
                ],
                then: vec![
                    KeyStep::Put(self.layout.members(), record::bytes(&members)),
                    KeyStep::Put(self.layout.node(&self.node), record::bytes(&own)),
                ],
                otherwise: Vec::new(),
            };
            match self.keys.transact(transaction).await {
                Ok(answer) if answer.held => return Ok(self.membership(id)),
                // Somebody else has changed the members.
                Ok(_) => {}
                Err(CallFault::Unknown(fault)) => {
                    let seen = self.read_view().await.map_err(|_| fault)?;
                    let nonce = seen.nodes.get(&self.node).map(|(found, _)| found.nonce.clone());
                    if nonce == Some(own.nonce) {
                        return Ok(self.membership(id));
                    }
                }
                Err(CallFault::NotDone(fault)) => return Err(fault),
            }
        }
        Err(busy())
    }

    /// Takes a node out of the members: *all* is without it from then on.
    ///
    /// # Errors
    /// There is no such node, or the store cannot be written.
    pub async fn remove(&self, node: &str) -> Result<(), FleetFault> {
        let id = self.fleet_id()?;
        for attempt in 0..TRIES {
            let seen = self.read_view().await?;
            self.check_identity(&id, &seen)?;
            let (mut members, written) = seen.members.clone().unwrap_or_default();
            let Some(at) = members.nodes.iter().position(|known| known == node) else {
                if attempt > 0 {
                    return Ok(());
                }
                let text = format!("no node of the fleet is named \"{node}\"");
                return Err(FleetFault::new(
                    FaultKind::Node,
                    text,
                    format!("its nodes are {}", members.nodes.join(", ")),
                ));
            };
            members.nodes.remove(at);
            let mut then = vec![
                KeyStep::Put(self.layout.members(), record::bytes(&members)),
                KeyStep::Delete(self.layout.node(node)),
                KeyStep::Delete(self.layout.beat(node)),
            ];
            let acknowledged = seen.acknowledgements.keys().filter(|(_, of)| of == node);
            then.extend(
                acknowledged
                    .map(|(switch, of)| KeyStep::Delete(self.layout.acknowledgement(switch, of)))
                    .take(100),
            );
            let transaction = Transaction {
                conditions: vec![
                    Condition::Value(self.layout.identity(), self.identity_value(&id)),
                    Condition::Written(self.layout.members(), written),
                ],
                then,
                otherwise: Vec::new(),
            };
            match self.keys.transact(transaction).await {
                Ok(answer) if answer.held => return Ok(()),
                // Done again, it is the same.
                Ok(_) | Err(CallFault::Unknown(_)) => {}
                Err(CallFault::NotDone(fault)) => return Err(fault),
            }
        }
        Err(busy())
    }

    /// Sets the fleet that this node is in, once that is saved.
    pub fn set_member(&self, member: Membership) {
        *self.member.borrow_mut() = Some(member);
        self.note_change();
    }
}

fn busy() -> FleetFault {
    FleetFault::new(FaultKind::Refused, "the list of members keeps changing", "retry in a moment")
}
