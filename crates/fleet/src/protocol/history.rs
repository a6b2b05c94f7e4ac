//! What follows a node's position in a switch's history, and whether the store is the one that the node knows.
//!
//! Owns: the comparison of fleet id, revision and hash. Must never: return a commit that does not follow the position.

use super::Fleet;
use crate::fault::{FaultKind, FleetFault};
use crate::keyspace::{Condition, Entry, KeyStep, Read, Transaction};
use crate::record::{self, Head, Position};
use crate::stored_commit;
use crate::view::View;
use switch::{Chain, Commit};

/// The number of commits that are read at a time.
const PAGE: usize = 64;

/// The commits read from a known position on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The commits that follow, oldest first.
    pub commits: Vec<Commit>,
    /// The newest revision of the store; more are there if it is not the last of `commits`.
    pub newest: u64,
}

impl Fleet {
    /// Returns the commits that follow a position, at most a page of them. The read is not behind any commit that was
    /// answered before it began.
    ///
    /// # Errors
    /// The store cannot be read; it is another one ([`FaultKind::Foreign`]); a value is damaged.
    pub async fn since(&self, switch: &str, position: Position) -> Result<Known, FleetFault> {
        let id = self.fleet_id()?;
        let first = position.revision.saturating_add(1);
        let commits = Read::Range {
            from: self.layout.commit(switch, first),
            below: self.layout.commit(switch, u64::MAX),
            limit: PAGE,
        };
        let reads = vec![Read::Key(self.layout.identity()), Read::Key(self.layout.head(switch)), commits];
        let answer = self.keys.transact(Transaction::reading(reads)).await.map_err(|fault| fault.fault())?;
        let [identity, heads, commits] = <[Vec<Entry>; 3]>::try_from(answer.reads)
            .map_err(|_| FleetFault::damaged(switch, "the answer has other reads than were asked for"))?;
        let mut seen = View { identity: identity.into_iter().next(), ..View::default() };
        self.check_identity(&id, &seen)?;
        seen.identity = None;
        let head: Option<Head> = heads.first().map(record::value).transpose()?;
        let known = head.clone().zip(heads.into_iter().next());
        let newest = self.check_head(&id, switch, position, head.as_ref())?;
        let (mut chain, mut found) = (Chain { revision: position.revision, hash: position.hash }, Vec::new());
        for entry in &commits {
            let commit =
                stored_commit::read(&entry.value).map_err(|what| FleetFault::damaged(&entry.key, what))?;
            // What lies beyond the head is of no commit.
            if commit.revision > newest {
                break;
            }
            chain.follow(&commit).map_err(|fault| self.forked(switch, position, &fault.to_string()))?;
            found.push(commit);
        }
        if found.is_empty() && newest > position.revision {
            return Err(self.forked(switch, position, "the commits after it are missing"));
        }
        if chain.revision == newest
            && let Some(head) = head
            && head.hash != chain.hash.to_string()
        {
            return Err(self.forked(switch, position, "its head names another hash"));
        }
        if let Some((head, entry)) = known {
            let mut view = self.view.borrow_mut();
            if view.heads.get(switch).is_none_or(|(_, before)| before.written < entry.written) {
                view.heads.insert(switch.to_owned(), (head, entry));
            }
        }
        Ok(Known { commits: found, newest })
    }

    /// Fails unless the store is that of this fleet.
    pub(crate) fn check_identity(&self, id: &str, view: &View) -> Result<(), FleetFault> {
        match view.fleet_id()? {
            Some(found) if found == id => Ok(()),
            Some(found) => Err(FleetFault::foreign(format!(
                "etcd at {} has another fleet below {}: {found}, and this node is in {id}",
                self.place(),
                self.prefix()
            ))),
            None => Err(FleetFault::foreign(format!(
                "etcd at {} has no fleet below {} any more: it was wiped, or is another one",
                self.place(),
                self.prefix()
            ))),
        }
    }

    /// Returns the newest revision of a head, unless the node knows more or other things than the store.
    fn check_head(
        &self,
        id: &str,
        switch: &str,
        position: Position,
        head: Option<&Head>,
    ) -> Result<u64, FleetFault> {
        let Some(head) = head else {
            return match position.revision {
                0 => Ok(0),
                own => Err(self.older(switch, own, 0)),
            };
        };
        if head.fleet != id {
            return Err(FleetFault::foreign(format!(
                "the head of switch \"{switch}\" in etcd is that of fleet {}, and this node is in {id}",
                head.fleet
            )));
        }
        if head.revision < position.revision {
            return Err(self.older(switch, position.revision, head.revision));
        }
        if head.revision == position.revision && head.hash != position.hash.to_string() {
            return Err(self.forked(switch, position, "both are at this revision with another hash"));
        }
        Ok(head.revision)
    }

    fn older(&self, switch: &str, own: u64, found: u64) -> FleetFault {
        FleetFault::foreign(format!(
            "etcd at {} is older than this node: switch \"{switch}\" is at revision {found} there, and at {own} here",
            self.place()
        ))
    }

    fn forked(&self, switch: &str, position: Position, what: &str) -> FleetFault {
        FleetFault::new(
            FaultKind::Foreign,
            format!(
                "etcd at {} has another history of switch \"{switch}\" than this node, which is at revision {}: {what}",
                self.place(),
                position.revision
            ),
            "the table is kept, and orders are refused; bring the right etcd back. If etcd's history is the right one: stop this \
             node, move its copies (state/fleet) away, start it, and have it join again (pointsman fleet join)",
        )
    }

    /// Writes to the store what this node's copies have and it has not: after it was wiped, or an older snapshot was put
    /// back. `after` returns the commits of a switch after a revision, oldest first, some at a time; none at the end.
    ///
    /// # Errors
    /// The store has another fleet, or another history; or it cannot be written: then it may be repeated.
    pub async fn restore<F, R>(
        &self,
        switches: &[(String, switch::KeyKind)],
        mut after: F,
    ) -> Result<u64, FleetFault>
    where
        F: FnMut(String, u64) -> R,
        R: Future<Output = Result<Vec<Commit>, FleetFault>>,
    {
        let id = self.fleet_id()?;
        let seen = self.read_view().await?;
        if seen.fleet_id()?.is_some() {
            self.check_identity(&id, &seen)?;
        }
        let identity = match &seen.identity {
            Some(entry) => Condition::Value(entry.key.clone(), entry.value.clone()),
            None => Condition::Absent(self.layout.identity()),
        };
        let (mut written, mut heads, mut conditions) = (0, Vec::new(), vec![identity.clone()]);
        for (switch, kind) in switches {
            let head = seen.heads.get(switch);
            let mut last: Option<Commit> = None;
            let mut from = head.map_or(0, |(head, _)| head.revision.saturating_sub(1));
            loop {
                let page = after(switch.clone(), from).await?;
                let Some(newest) = page.last() else { break };
                from = newest.revision;
                let mut steps = Vec::new();
                for commit in &page {
                    if let Some((head, _)) = head.filter(|(head, _)| commit.revision == head.revision) {
                        if head.hash != commit.hash.to_string() {
                            let here = Position { revision: commit.revision, hash: commit.hash };
                            return Err(self.forked(switch, here, "the hashes differ"));
                        }
                        continue;
                    }
                    let key = self.layout.commit(switch, commit.revision);
                    steps.push(KeyStep::Put(key, stored_commit::write(commit, *kind)));
                    written += 1;
                }
                for step in steps {
                    // One at a time: each may have half a megabyte, and a transaction takes little more.
                    let one = Transaction {
                        conditions: vec![identity.clone()],
                        then: vec![step],
                        otherwise: Vec::new(),
                    };
                    self.done(one).await?;
                }
                last = page.into_iter().next_back();
            }
            let key = self.layout.head(switch);
            let Some(last) = last else {
                if head.is_some_and(|(head, _)| head.revision > 0) {
                    let text = format!("this node has no commit of switch \"{switch}\", and etcd has");
                    return Err(FleetFault::new(
                        FaultKind::Foreign,
                        text,
                        "restore from a node that has them",
                    ));
                }
                continue;
            };
            conditions.push(match head {
                Some((_, entry)) => Condition::Value(key.clone(), entry.value.clone()),
                None => Condition::Absent(key.clone()),
            });
            heads.push(KeyStep::Put(key, record::bytes(&Head::of(&id, &last))));
        }
        if seen.identity.is_none() {
            heads.push(KeyStep::Put(self.layout.identity(), self.identity_value(&id)));
            let mut nodes = self.view.borrow().member_names().to_vec();
            if !nodes.contains(&self.node) {
                nodes.push(self.node.clone());
            }
            heads.push(KeyStep::Put(self.layout.members(), record::bytes(&record::Members { nodes })));
        }
        self.done(Transaction { conditions, then: heads, otherwise: Vec::new() }).await?;
        Ok(written)
    }

    /// Carries a transaction out whose conditions are to hold.
    async fn done(&self, transaction: Transaction) -> Result<(), FleetFault> {
        let answer = self.keys.transact(transaction).await.map_err(|fault| fault.fault())?;
        if answer.held {
            return Ok(());
        }
        Err(FleetFault::new(
            FaultKind::Refused,
            "etcd was changed by somebody else meanwhile",
            "look at it (pointsman fleet status), and repeat the command if it is still right",
        ))
    }
}
