//! What is known of each node.
//!
//! Owns: the view of nodes for people, and waiting for their acknowledgements. Must never: call a node that is silent well.

use super::Fleet;
use crate::record::Acknowledgement;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// A node as it is known here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// True for this node.
    pub is_own: bool,
    /// Its version.
    pub version: String,
    /// The digest of its fleet's switches.
    pub digest: String,
    /// The revisions of its tables, as its last sign of life says.
    pub revisions: BTreeMap<String, u64>,
    /// The revisions that its workers follow, by switch.
    pub applied: BTreeMap<String, u64>,
    /// When its last sign of life was seen, in milliseconds ago; `None` if none was since this process connected.
    pub seen_ms_ago: Option<u64>,
    /// True if it counts as silent.
    pub is_silent: bool,
}

impl Fleet {
    /// Returns the member nodes.
    pub fn nodes(&self) -> Vec<NodeView> {
        let view = self.view.borrow();
        let of = |name: &String| {
            let statement = view.nodes.get(name).map(|(statement, _)| statement.clone()).unwrap_or_default();
            let beat = view.beats.get(name);
            let applied = view.acknowledgements.iter().filter(|((_, node), _)| node == name);
            NodeView {
                is_own: *name == self.node,
                version: statement.version,
                digest: statement.digest,
                revisions: beat.map(|beat| beat.beat.revisions.clone()).unwrap_or_default(),
                applied: applied.map(|((switch, _), done)| (switch.clone(), done.revision)).collect(),
                seen_ms_ago: beat.and_then(|beat| beat.at).map(|at| at.elapsed().as_millis() as u64),
                is_silent: self.silent_for(&view, name).is_some(),
                name: name.clone(),
            }
        };
        view.member_names().iter().map(of).collect()
    }

    /// Returns the names of the members.
    pub fn members(&self) -> Vec<String> {
        self.view.borrow().member_names().to_vec()
    }

    /// Returns the nodes whose workers follow this revision or a newer one, with what they said.
    pub fn applied(&self, switch: &str, revision: u64) -> BTreeMap<String, Acknowledgement> {
        let view = self.view.borrow();
        // A sign of life says it too, if the acknowledgement did not get through.
        let beats = view.beats.iter().filter_map(|(node, beat)| {
            let revision = *beat.beat.revisions.get(switch).filter(|_| beat.at.is_some())?;
            Some((node.clone(), Acknowledgement { revision, ..Acknowledgement::default() }))
        });
        let done = view.acknowledgements.iter().filter(|((of, _), _)| of == switch);
        let done = done.map(|((_, node), done)| (node.clone(), done.clone()));
        beats.chain(done).filter(|(_, done)| done.revision >= revision).collect()
    }

    /// Waits until what is known of the fleet changes, at most until this moment.
    pub async fn changed(&self, deadline: Instant) {
        self.change_until(deadline).await;
    }
}
