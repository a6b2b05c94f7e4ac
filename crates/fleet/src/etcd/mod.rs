//! etcd as the store that the nodes share.
//!
//! Owns: what a transaction is in etcd's words, and which of its errors say that nothing was done. Must never: repeat a
//! transaction that may have been carried out.

mod api;
mod fault;
mod members;
mod watch;

use crate::fault::FleetFault;
use crate::keyspace::{
    CallFault, Condition, Entry, KeyAnswer, KeyStep, KeyWatch, Keyspace, LocalBoxFuture, Read, Transaction,
};
use api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use api::etcdserverpb::kv_client::KvClient;
use api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse, request_op,
    response_op,
};
use api::mvccpb::KeyValue;
use members::Members;
use std::rc::Rc;
use std::time::Duration;

/// The longest message that is read: a page of commits.
const MAX_MESSAGE: usize = 64 << 20;

/// The settings of etcd.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// The members: `http://HOST:PORT`.
    pub urls: Vec<String>,
    /// The user and the password, if etcd asks for them.
    pub user: Option<(String, String)>,
    /// How long a member may take to answer, before another one is asked.
    pub timeout: Duration,
}

/// A connection to etcd.
pub struct Etcd {
    members: Rc<Members>,
}

impl Etcd {
    /// Returns a connection, which is made when it is used.
    pub fn new(settings: EtcdSettings) -> Etcd {
        Etcd { members: Rc::new(Members::new(settings)) }
    }

    async fn carry_out(&self, transaction: Transaction) -> Result<KeyAnswer, CallFault> {
        let is_read = transaction.is_read();
        let request = request(&transaction);
        let mut last = None;
        // A new token may be needed once at each member.
        for _ in 0..2 * self.members.count() {
            let (place, channel) = match self.members.channel().await {
                Ok(found) => found,
                Err(fault) => {
                    last = Some(fault);
                    self.members.pass_over();
                    continue;
                }
            };
            let mut client = KvClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
            let asked = self.members.signed(request.clone());
            let status = match tokio::time::timeout(self.members.timeout(), client.txn(asked)).await {
                Ok(Ok(response)) => return answer(response.into_inner()),
                Ok(Err(status)) => Some(status),
                Err(_) => None,
            };
            if status.as_ref().is_some_and(fault::wants_new_token) && self.members.forget_token() {
                continue;
            }
            let (fault, is_definite) = fault::of(&place, status.as_ref(), self.members.timeout());
            if is_definite && !fault::is_the_members(status.as_ref()) {
                return Err(CallFault::NotDone(fault));
            }
            // Another member may do better.
            self.members.pass_over();
            if !is_read && !is_definite {
                return Err(CallFault::Unknown(fault));
            }
            last = Some(fault);
        }
        Err(CallFault::NotDone(last.unwrap_or_else(|| fault::no_member(&self.members.place()))))
    }
}

impl Keyspace for Etcd {
    fn transact(&self, transaction: Transaction) -> LocalBoxFuture<'_, Result<KeyAnswer, CallFault>> {
        Box::pin(self.carry_out(transaction))
    }

    fn watch(&self, prefix: String, from: i64) -> LocalBoxFuture<'_, Result<Box<dyn KeyWatch>, FleetFault>> {
        Box::pin(async move {
            let opened = watch::open(&self.members, prefix, from).await;
            opened.map(|watch| Box::new(watch) as Box<dyn KeyWatch>)
        })
    }

    fn place(&self) -> String {
        self.members.place()
    }
}

fn request(transaction: &Transaction) -> TxnRequest {
    TxnRequest {
        compare: transaction.conditions.iter().map(compare).collect(),
        success: transaction.then.iter().map(step).collect(),
        failure: transaction.otherwise.iter().map(|read| operation(range(read))).collect(),
    }
}

fn operation(asked: request_op::Asked) -> RequestOp {
    RequestOp { asked: Some(asked) }
}

fn compare(condition: &Condition) -> Compare {
    let (target, key, union) = match condition {
        // A key that is not there has the create revision 0.
        Condition::Absent(key) => (CompareTarget::Create, key, TargetUnion::CreateRevision(0)),
        Condition::Value(key, value) => (CompareTarget::Value, key, TargetUnion::Value(value.clone())),
        Condition::Written(key, written) => (CompareTarget::Mod, key, TargetUnion::ModRevision(*written)),
    };
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.as_bytes().to_vec(),
        target_union: Some(union),
    }
}

fn step(step: &KeyStep) -> RequestOp {
    operation(match step {
        KeyStep::Put(key, value) => {
            request_op::Asked::RequestPut(PutRequest { key: key.as_bytes().to_vec(), value: value.clone() })
        }
        KeyStep::Delete(key) => {
            request_op::Asked::RequestDeleteRange(DeleteRangeRequest { key: key.as_bytes().to_vec() })
        }
        KeyStep::Read(read) => range(read),
    })
}

fn range(read: &Read) -> request_op::Asked {
    request_op::Asked::RequestRange(match read {
        Read::Key(key) => RangeRequest { key: key.as_bytes().to_vec(), ..RangeRequest::default() },
        Read::Range { from, below, limit } => RangeRequest {
            key: from.as_bytes().to_vec(),
            range_end: below.as_bytes().to_vec(),
            limit: i64::try_from(*limit).unwrap_or(0),
        },
    })
}

fn answer(response: TxnResponse) -> Result<KeyAnswer, CallFault> {
    let revision = response.header.map_or(0, |header| header.revision);
    let mut reads = Vec::new();
    for one in response.responses {
        if let Some(response_op::Answered::ResponseRange(range)) = one.answered {
            let entries: Result<Vec<Entry>, FleetFault> = range.kvs.into_iter().map(entry).collect();
            // It was carried out, and what it read is nothing of ours: the caller cannot use it.
            reads.push(entries.map_err(CallFault::NotDone)?);
        }
    }
    Ok(KeyAnswer { held: response.succeeded, revision, reads })
}

fn entry(found: KeyValue) -> Result<Entry, FleetFault> {
    let key = String::from_utf8(found.key)
        .map_err(|error| FleetFault::damaged("a key below the prefix", error.utf8_error()))?;
    Ok(Entry { key, value: found.value, written: found.mod_revision })
}
