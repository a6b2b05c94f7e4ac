//! What the protocol needs of the store that the nodes share: transactions and a watch.
//!
//! Owns: the contract, which etcd and the simulation keep, and which one suite checks. Must never: know what the keys mean.

use crate::fault::FleetFault;
use std::future::Future;
use std::pin::Pin;

/// An answer that is waited for, on one thread.
pub type LocalBoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The revision of the key space in which it was written.
    pub written: i64,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key is not there.
    Absent(String),
    /// The key has this value.
    Value(String, Vec<u8>),
    /// The key was written in this revision, and not since.
    Written(String, i64),
}

/// Which keys are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// One key.
    Key(String),
    /// The first so many keys from this one on, below another one.
    Range {
        /// The first key.
        from: String,
        /// The first one that is not read.
        below: String,
        /// How many.
        limit: usize,
    },
}

impl Read {
    /// Returns the read of all keys that begin so, up to a limit.
    pub fn prefix(prefix: &str, limit: usize) -> Read {
        Read::Range { from: prefix.to_owned(), below: end_of(prefix), limit }
    }
}

/// Returns the first key behind all that begin so.
pub(crate) fn end_of(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    // All prefixes of the layout end with '/', whose successor is '0'.
    match end.pop() {
        Some('/') => end.push('0'),
        Some(last) => {
            end.push(last);
            end.push('\u{10ffff}');
        }
        None => end.push('\u{10ffff}'),
    }
    end
}

/// A step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyStep {
    /// Writes a key.
    Put(String, Vec<u8>),
    /// Removes a key.
    Delete(String),
    /// Reads.
    Read(Read),
}

/// Steps that are carried out as one, under conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// All of them must hold.
    pub conditions: Vec<Condition>,
    /// The steps if all conditions hold.
    pub then: Vec<KeyStep>,
    /// The reads otherwise.
    pub otherwise: Vec<Read>,
}

impl Transaction {
    /// Returns one that reads, at one revision of the key space and not behind any answer that was given before it began.
    pub fn reading(reads: Vec<Read>) -> Transaction {
        Transaction { then: reads.into_iter().map(KeyStep::Read).collect(), ..Transaction::default() }
    }

    /// Returns true if it changes nothing.
    pub fn is_read(&self) -> bool {
        self.then.iter().all(|step| matches!(step, KeyStep::Read(_)))
    }
}

/// The outcome of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyAnswer {
    /// True if the conditions held.
    pub held: bool,
    /// The revision of the key space then; of a transaction that wrote, the one that it made.
    pub revision: i64,
    /// The results of the reads, in their order.
    pub reads: Vec<Vec<Entry>>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFault {
    /// It was certainly not carried out.
    NotDone(FleetFault),
    /// It may have been carried out, or may still be.
    Unknown(FleetFault),
}

impl CallFault {
    /// Returns the words for it.
    pub fn fault(self) -> FleetFault {
        match self {
            CallFault::NotDone(fault) | CallFault::Unknown(fault) => fault,
        }
    }
}

/// A change that a watch reports: a key was written, or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenChange {
    /// The key; of one that was removed, the value is empty.
    pub entry: Entry,
    /// True if it was removed.
    pub is_removed: bool,
}

/// The changes of keys, in their order. Dropping it ends it.
pub trait KeyWatch {
    /// Returns the next changes; all of one revision come together.
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Vec<SeenChange>, FleetFault>>;
}

/// The store that the nodes share.
pub trait Keyspace {
    /// Carries a transaction out.
    fn transact(&self, transaction: Transaction) -> LocalBoxFuture<'_, Result<KeyAnswer, CallFault>>;
    /// Watches the keys that begin so, from a revision of the key space on.
    fn watch(&self, prefix: String, from: i64) -> LocalBoxFuture<'_, Result<Box<dyn KeyWatch>, FleetFault>>;
    /// Returns where it is, for people.
    fn place(&self) -> String;
}
