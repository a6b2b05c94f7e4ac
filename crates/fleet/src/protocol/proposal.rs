//! A commit of all nodes.
//!
//! Owns: the transaction that makes it, and what is known when there is no answer. Must never: call what may still happen
//! refused.
//!
//! The transaction compares the fleet's id, the switch's head, the members and each node's statement, this node's own among them.
//! Without an answer, it may be carried out later still, even after a read has not seen it. So the node's own statement is
//! written anew, and the commit looked up in the same transaction: once that is answered, the first one either was carried out,
//! and is seen, or cannot be any more.

use super::Fleet;
use crate::fault::{FaultKind, FleetFault};
use crate::keyspace::{CallFault, Condition, Entry, KeyStep, Read, Transaction};
use crate::record::{self, Head, Position};
use crate::stored_commit;
use crate::view::View;
use std::collections::BTreeSet;
use std::time::Duration;
use switch::{Commit, KeyKind};
use tokio::time::Instant;

/// The maximum size of a commit's value, in bytes. etcd takes 1.5 MiB in a request.
pub const MAX_COMMIT_BYTES: usize = 512 << 10;
/// The number of attempts while nodes rewrite their statements.
const TRIES: usize = 8;
/// Between two questions about an unknown outcome.
const SETTLE_PAUSE: Duration = Duration::from_millis(100);

/// The outcome of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// It is committed.
    Committed,
    /// Another commit came first: it is to be read, and the order planned against it.
    Conflict,
    /// It is not committed, and will not be.
    Refused(FleetFault),
    /// It may be committed, or may still be.
    Unknown(FleetFault),
}

/// A commit that is proposed.
#[derive(Clone, Copy, Debug)]
pub struct Commitment<'a> {
    /// The switch.
    pub switch: &'a str,
    /// The kind of its keys.
    pub kind: KeyKind,
    /// The position that it follows.
    pub position: Position,
    /// The commit.
    pub commit: &'a Commit,
}

impl Fleet {
    /// Proposes a commit.
    pub async fn propose(&self, proposed: Commitment<'_>) -> Proposal {
        let Commitment { kind, commit, .. } = proposed;
        let value = stored_commit::write(commit, kind);
        if value.len() > MAX_COMMIT_BYTES {
            return Proposal::Refused(FleetFault::new(
                FaultKind::TooLarge,
                format!("the commit has {} bytes, and a fleet takes {MAX_COMMIT_BYTES}", value.len()),
                format!("divide the order: some {} keys at a time", (commit.changes.len() / 2).max(1)),
            ));
        }
        match self.propose_value(proposed, value).await {
            Ok(proposal) => proposal,
            Err(fault) => Proposal::Refused(fault),
        }
    }

    async fn propose_value(&self, proposed: Commitment<'_>, value: Vec<u8>) -> Result<Proposal, FleetFault> {
        let Commitment { switch, position, commit, .. } = proposed;
        let id = self.fleet_id()?;
        let until = Instant::now() + self.times.silent;
        while !self.is_connected() {
            if Instant::now() >= until {
                return Err(FleetFault::new(
                    FaultKind::Unreachable,
                    format!("this node is not connected to its fleet in etcd at {}", self.place()),
                    "see what is wrong: pointsman fleet status",
                ));
            }
            self.change_until(until).await;
        }
        if self.unsettled.get() {
            self.settle(switch, commit).await?;
        }
        let mut lost = None;
        for _ in 0..TRIES {
            self.check_identity(&id, &self.view.borrow())?;
            self.all_take(switch, commit).await?;
            let Some(head) = self.head_condition(switch, position) else { return Ok(Proposal::Conflict) };
            let transaction = Transaction {
                conditions: self.conditions(&id, head)?,
                then: vec![
                    KeyStep::Put(self.layout.commit(switch, commit.revision), value.clone()),
                    KeyStep::Put(self.layout.head(switch), record::bytes(&Head::of(&id, commit))),
                ],
                otherwise: View::narrow_reads(&self.layout),
            };
            // If the future is dropped while it waits, nothing is known either.
            let settled = self.unsettled.replace(true);
            let answer = self.keys.transact(transaction).await;
            match answer {
                Ok(answer) if answer.held => {
                    self.unsettled.set(settled);
                    let (key, head) = (self.layout.head(switch), Head::of(&id, commit));
                    let entry = Entry { key, value: record::bytes(&head), written: answer.revision };
                    self.view.borrow_mut().heads.insert(switch.to_owned(), (head, entry));
                    return Ok(Proposal::Committed);
                }
                Ok(answer) => {
                    self.unsettled.set(settled);
                    self.view.borrow_mut().take(&self.layout, answer.reads)?;
                    self.note_change();
                }
                Err(CallFault::NotDone(fault)) => {
                    self.unsettled.set(settled);
                    return Err(fault);
                }
                Err(CallFault::Unknown(fault)) => match self.settle(switch, commit).await {
                    Ok(true) => return Ok(Proposal::Committed),
                    // Nothing of it can come any more, so that it may be proposed again.
                    Ok(false) => lost = Some(fault),
                    Err(_) => return Ok(Proposal::Unknown(fault)),
                },
            }
        }
        Err(match lost {
            Some(fault) => FleetFault::new(
                FaultKind::Unreachable,
                format!(
                    "etcd gives no answers, and did not commit revision {}: {}",
                    commit.revision, fault.text
                ),
                "repeat the order",
            ),
            None => FleetFault::new(
                FaultKind::Refused,
                "nodes of the fleet restart or reload all the time",
                "repeat the order when they have settled",
            ),
        })
    }

    /// Makes sure that no earlier proposal of this node can be carried out any more, and returns true if this commit was.
    async fn settle(&self, switch: &str, commit: &Commit) -> Result<bool, FleetFault> {
        let id = self.fleet_id()?;
        let deadline = Instant::now() + self.times.settle;
        loop {
            let own = self.layout.node(&self.node);
            let statement = self.new_statement();
            let transaction = Transaction {
                conditions: vec![Condition::Value(self.layout.identity(), self.identity_value(&id))],
                then: vec![
                    KeyStep::Put(own.clone(), record::bytes(&statement)),
                    KeyStep::Read(Read::Key(self.layout.commit(switch, commit.revision))),
                ],
                otherwise: vec![Read::Key(self.layout.identity())],
            };
            match self.keys.transact(transaction).await {
                Ok(answer) if answer.held => {
                    self.unsettled.set(false);
                    self.view.borrow_mut().nodes.insert(self.node.clone(), (statement, answer.revision));
                    let found = answer.reads.first().and_then(|entries| entries.first());
                    let found = found.and_then(|entry| stored_commit::read(&entry.value).ok());
                    return Ok(found.is_some_and(|found| found.hash == commit.hash));
                }
                Ok(answer) => {
                    let identity = answer.reads.into_iter().flatten().next();
                    self.check_identity(&id, &View { identity, ..View::default() })?;
                    return Err(FleetFault::foreign("the fleet's id in etcd was rewritten"));
                }
                Err(CallFault::NotDone(fault) | CallFault::Unknown(fault)) => {
                    if Instant::now() + SETTLE_PAUSE >= deadline {
                        return Err(fault);
                    }
                    tokio::time::sleep(SETTLE_PAUSE).await;
                }
            }
        }
    }

    /// Returns the condition that the head is at the position, or `None` if it was not when it was last seen.
    fn head_condition(&self, switch: &str, position: Position) -> Option<Condition> {
        let view = self.view.borrow();
        let key = self.layout.head(switch);
        match view.heads.get(switch) {
            None => (position.revision == 0).then_some(Condition::Absent(key)),
            Some((head, entry)) => {
                let is_here = head.revision == position.revision && head.hash == position.hash.to_string();
                is_here.then(|| Condition::Value(key, entry.value.clone()))
            }
        }
    }

    fn conditions(&self, id: &str, head: Condition) -> Result<Vec<Condition>, FleetFault> {
        let view = self.view.borrow();
        let Some((members, written)) = &view.members else {
            return Err(FleetFault::foreign("the fleet in etcd has no members"));
        };
        let mut conditions = vec![
            Condition::Value(self.layout.identity(), self.identity_value(id)),
            head,
            Condition::Written(self.layout.members(), *written),
        ];
        for node in &members.nodes {
            if let Some((_, written)) = view.nodes.get(node) {
                conditions.push(Condition::Written(self.layout.node(node), *written));
            }
        }
        Ok(conditions)
    }

    /// Fails unless every member node gives signs of life and has what the commit needs. Right after the start it
    /// waits for the signs.
    async fn all_take(&self, switch: &str, commit: &Commit) -> Result<(), FleetFault> {
        let patient = self.connected.get().map(|at| at + self.times.silent);
        let mut is_fresh = false;
        loop {
            let Err((fault, is_silence)) = self.check_nodes(switch, commit) else { return Ok(()) };
            match patient.filter(|until| is_silence && Instant::now() < *until) {
                Some(until) => self.change_until(until).await,
                // A node may have been removed, or reloaded, a moment ago.
                None if !is_fresh => {
                    is_fresh = true;
                    let asked = Transaction::reading(View::narrow_reads(&self.layout));
                    let answer = self.keys.transact(asked).await.map_err(CallFault::fault)?;
                    self.view.borrow_mut().take(&self.layout, answer.reads)?;
                    self.check_identity(&self.fleet_id()?, &self.view.borrow())?;
                }
                None => return Err(fault),
            }
        }
    }

    /// Returns the fault of a node, and whether it is that it is silent.
    fn check_nodes(&self, switch: &str, commit: &Commit) -> Result<(), (FleetFault, bool)> {
        let view = self.view.borrow();
        let mut targets: BTreeSet<&str> = BTreeSet::new();
        for change in &commit.changes {
            targets.extend(change.after.iter().flat_map(|route| route.targets()).map(|target| &**target));
        }
        let names = view.member_names();
        if !names.contains(&self.node) {
            return Err((
                FleetFault::new(
                    FaultKind::NotMember,
                    format!("node \"{}\" was removed from the fleet", self.node),
                    "have it join again: pointsman fleet join",
                ),
                false,
            ));
        }
        for node in names {
            let refuse = |text: String, remedy: String| FleetFault::new(FaultKind::Node, text, remedy);
            let silent = self.silent_for(&view, node);
            let Some((statement, _)) = view.nodes.get(node).filter(|_| silent.is_none()) else {
                let since = silent.flatten().map_or_else(String::new, |for_ms| {
                    format!(" for {}.{} s", for_ms / 1000, for_ms % 1000 / 100)
                });
                let text = format!("node \"{node}\" of the fleet gives no sign of life{since}");
                let remedy = format!(
                    "start it, or see why it does not reach etcd; if it is gone for good: pointsman fleet remove {node}"
                );
                return Err((refuse(text, remedy), true));
            };
            let Some(stated) = statement.switches.get(switch) else {
                let text = format!("node \"{node}\" has no switch \"{switch}\" with `state fleet`");
                let remedy = format!(
                    "give it the configuration of the others, and reload it; or: pointsman fleet remove {node}"
                );
                return Err((refuse(text, remedy), false));
            };
            if let Some(missing) =
                targets.iter().find(|target| !stated.targets.iter().any(|known| known == **target))
            {
                let text = format!("node \"{node}\" has no target \"{missing}\" for switch \"{switch}\"");
                return Err((
                    refuse(text, format!("add it to the configuration of {node}, and reload it")),
                    false,
                ));
            }
        }
        Ok(())
    }

    /// Returns `None` if a node gives signs of life, else for how many milliseconds it has not, if it ever did.
    pub(crate) fn silent_for(&self, view: &View, node: &str) -> Option<Option<u64>> {
        if node == self.node {
            return None;
        }
        let at = view.beats.get(node).and_then(|beat| beat.at);
        let silent = at.map(|at| at.elapsed());
        match silent {
            Some(silent) if silent <= self.times.silent => None,
            silent => Some(silent.map(|silent| silent.as_millis() as u64)),
        }
    }
}
