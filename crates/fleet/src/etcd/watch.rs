//! A watch of etcd.
//!
//! Owns: the stream. The follower notices silence, and opens another one. Must never: pass over changes: what etcd has
//! compacted ends it.

use super::api::etcdserverpb::watch_client::WatchClient;
use super::api::etcdserverpb::watch_request::RequestUnion;
use super::api::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use super::api::mvccpb::key_event::EventType;
use super::members::Members;
use super::{MAX_MESSAGE, entry, fault};
use crate::fault::{FaultKind, FleetFault};
use crate::keyspace::{KeyWatch, LocalBoxFuture, SeenChange, end_of};
use std::rc::Rc;
use tonic::Streaming;
use tonic::codegen::tokio_stream::{self, StreamExt};

pub(super) struct EtcdWatch {
    place: String,
    members: Rc<Members>,
    answers: Streaming<WatchResponse>,
}

/// Opens a watch.
pub(super) async fn open(members: &Rc<Members>, prefix: String, from: i64) -> Result<EtcdWatch, FleetFault> {
    let (place, channel) = match members.channel().await {
        Ok(found) => found,
        Err(fault) => {
            members.pass_over();
            return Err(fault);
        }
    };
    let create = WatchCreateRequest {
        range_end: end_of(&prefix).into_bytes(),
        key: prefix.into_bytes(),
        start_revision: from,
    };
    let wanted = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    // The stream of requests stays open as long as the watch is wanted.
    let requests = tokio_stream::once(wanted).chain(tokio_stream::pending());
    let mut client = WatchClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let asked = client.watch(members.signed(requests));
    let fault = match tokio::time::timeout(members.timeout(), asked).await {
        Ok(Ok(answers)) => {
            return Ok(EtcdWatch { place, members: members.clone(), answers: answers.into_inner() });
        }
        Ok(Err(status)) => fault::of(&place, Some(&status), members.timeout()).0,
        Err(_) => fault::of(&place, None, members.timeout()).0,
    };
    members.pass_over();
    Err(fault)
}

impl KeyWatch for EtcdWatch {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Vec<SeenChange>, FleetFault>> {
        Box::pin(async move {
            loop {
                let answer = match self.answers.message().await {
                    Ok(Some(answer)) => answer,
                    Ok(None) => return Err(fault::unreachable(&self.place, "it has ended the watch")),
                    Err(status) => {
                        return Err(fault::of(&self.place, Some(&status), self.members.timeout()).0);
                    }
                };
                if answer.canceled {
                    let why = match answer.compact_revision {
                        0 => answer.cancel_reason,
                        _ => "its revision was compacted".to_owned(),
                    };
                    return Err(FleetFault::new(
                        FaultKind::Refused,
                        format!("etcd at {} has ended the watch: {why}", self.place),
                        "everything is read anew",
                    ));
                }
                if answer.events.is_empty() {
                    continue;
                }
                let changes = answer.events.into_iter().map(|event| {
                    let is_removed = event.r#type() == EventType::Delete;
                    Ok(SeenChange { entry: entry(event.kv.unwrap_or_default())?, is_removed })
                });
                return changes.collect();
            }
        })
    }
}
