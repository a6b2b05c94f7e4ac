//! What a node has seen of its fleet.
//!
//! Owns: members, statements, heads, acknowledgements and signs of life as they were last read or reported. Must never: be the
//! ground of a commit: that is what a transaction compares.

use crate::fault::FleetFault;
use crate::keyspace::{Entry, Read, SeenChange};
use crate::record::{self, Acknowledgement, Beat, Head, Identity, Layout, Members, Statement};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// More nodes than a transaction could compare are never read.
const MOST: usize = 10_000;

/// A node's sign of life, and when this node saw it.
#[derive(Clone, Debug)]
pub(crate) struct SeenBeat {
    pub(crate) beat: Beat,
    pub(crate) written: i64,
    /// `None` for one that was there when the view was first read: it may be old.
    pub(crate) at: Option<Instant>,
}

/// The view.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) identity: Option<Entry>,
    pub(crate) members: Option<(Members, i64)>,
    pub(crate) nodes: BTreeMap<String, (Statement, i64)>,
    pub(crate) heads: BTreeMap<String, (Head, Entry)>,
    pub(crate) acknowledgements: BTreeMap<(String, String), Acknowledgement>,
    pub(crate) beats: BTreeMap<String, SeenBeat>,
}

/// The subject of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangeSubject {
    Identity,
    Members,
    Head(String),
    Beat(String),
    Other,
}

impl View {
    /// Returns the reads that make a whole view.
    pub(crate) fn reads(layout: &Layout) -> Vec<Read> {
        let folder = |name: &str| Read::prefix(&layout.folder(name), MOST);
        vec![
            Read::Key(layout.identity()),
            Read::Key(layout.members()),
            folder("nodes"),
            folder("head"),
            folder("ack"),
            folder("beat"),
        ]
    }

    /// Returns the reads of what a commit depends on.
    pub(crate) fn narrow_reads(layout: &Layout) -> Vec<Read> {
        View::reads(layout).into_iter().take(4).collect()
    }

    /// Takes what was read: the folders that were read are as they are there, whatever was seen before.
    pub(crate) fn take(&mut self, layout: &Layout, reads: Vec<Vec<Entry>>) -> Result<(), FleetFault> {
        self.identity = None;
        self.members = None;
        self.nodes.clear();
        self.heads.clear();
        if reads.len() > 4 {
            self.acknowledgements.clear();
        }
        for entry in reads.into_iter().flatten() {
            self.put(layout, entry, None)?;
        }
        Ok(())
    }

    /// Takes a reported change.
    pub(crate) fn change(
        &mut self,
        layout: &Layout,
        change: SeenChange,
    ) -> Result<ChangeSubject, FleetFault> {
        if !change.is_removed {
            return self.put(layout, change.entry, Some(Instant::now()));
        }
        let Some((kind, name)) = layout.split(&change.entry.key) else { return Ok(ChangeSubject::Other) };
        Ok(match kind {
            "fleet" => {
                self.identity = None;
                ChangeSubject::Identity
            }
            "members" => {
                self.members = None;
                ChangeSubject::Members
            }
            "nodes" => {
                self.nodes.remove(name);
                ChangeSubject::Members
            }
            "head" => {
                self.heads.remove(name);
                ChangeSubject::Head(name.to_owned())
            }
            "beat" => {
                self.beats.remove(name);
                ChangeSubject::Other
            }
            _ => ChangeSubject::Other,
        })
    }

    fn put(
        &mut self,
        layout: &Layout,
        entry: Entry,
        seen: Option<Instant>,
    ) -> Result<ChangeSubject, FleetFault> {
        let key = entry.key.clone();
        let Some((kind, name)) = layout.split(&key) else { return Ok(ChangeSubject::Other) };
        Ok(match kind {
            "fleet" => {
                self.identity = Some(entry);
                ChangeSubject::Identity
            }
            "members" => {
                self.members = Some((record::value(&entry)?, entry.written));
                ChangeSubject::Members
            }
            "nodes" => {
                self.nodes.insert(name.to_owned(), (record::value(&entry)?, entry.written));
                ChangeSubject::Members
            }
            "head" => {
                self.heads.insert(name.to_owned(), (record::value(&entry)?, entry));
                ChangeSubject::Head(name.to_owned())
            }
            "ack" => {
                if let Some((switch, node)) = name.split_once('/') {
                    let at = (switch.to_owned(), node.to_owned());
                    self.acknowledgements.insert(at, record::value(&entry)?);
                }
                ChangeSubject::Other
            }
            "beat" => {
                let known = self.beats.get(name).filter(|known| known.written == entry.written);
                // One that was read again is as old as it was.
                let at = known.map_or(seen, |known| known.at);
                let beat = SeenBeat { beat: record::value(&entry)?, written: entry.written, at };
                self.beats.insert(name.to_owned(), beat);
                ChangeSubject::Beat(name.to_owned())
            }
            _ => ChangeSubject::Other,
        })
    }

    /// Returns the fleet's id.
    pub(crate) fn fleet_id(&self) -> Result<Option<String>, FleetFault> {
        let Some(entry) = &self.identity else { return Ok(None) };
        let identity: Identity = record::value(entry)?;
        if identity.form != record::FORM {
            let what = format!("it has form {}, and this version knows form {}", identity.form, record::FORM);
            return Err(FleetFault::damaged(&entry.key, what));
        }
        Ok(Some(identity.id))
    }

    /// Returns the names of the members.
    pub(crate) fn member_names(&self) -> &[String] {
        self.members.as_ref().map_or(&[], |(members, _)| &members.nodes)
    }
}
