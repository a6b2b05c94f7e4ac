//! The journal: what happened and changed no table.
//!
//! Owns the handler of its path. Must never write to it.

use super::context::Api;
use super::error::{ApiError, QueryErrors};
use super::queries::{PAGE, page_size};
use super::request::QueryParams;
use super::types;
use crate::journal::{JournalEntry, JournalQuery, JournalVerification};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

/// The maximum number of entries in an answer.
const MAX_ENTRIES: usize = 1000;

/// A query for entries.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct JournalParams {
    /// Only entries before this one: the `next` of the page before.
    before: Option<u64>,
    /// Only entries of this kind.
    kind: Option<String>,
    /// Only entries of this switch, and those of none.
    switch: Option<String>,
    /// Only entries from this time on, in milliseconds since 1970.
    since_ms: Option<u64>,
    /// The maximum number of entries: default 100, at most 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Also verify the whole chain of hashes.
    verify: Option<bool>,
}

/// Lists holds, releases, reloads, starts, upgrades and refusals, newest first
///
/// They have a chain of their own, for all switches together. Refusals of an actor with one code are one entry for each
/// minute, written when it has ended.
#[utoipa::path(get, path = "/v1/journal", tag = "switches", params(JournalParams),
    responses((status = 200, description = "A page of entries.", body = types::Journal), QueryErrors))]
pub(super) async fn journal(
    State(api): State<Api>,
    QueryParams(asked): QueryParams<JournalParams>,
) -> Result<Json<types::Journal>, ApiError> {
    let JournalParams { before, kind, switch, since_ms, limit, verify } = asked;
    let limit = page_size(limit.or(Some(PAGE)), MAX_ENTRIES)?;
    // One more than requested shows whether there are more.
    let query = JournalQuery { before, kind, switch, since_ms, limit: limit + 1 };
    let (mut entries, lost) = api.control.journal(query).await?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().filter(|_| more).map(|entry| entry.sequence);
    let verified = match verify {
        Some(true) => Some(verified(api.control.verify_journal().await?)),
        _ => None,
    };
    Ok(Json(types::Journal { entries: entries.into_iter().map(item).collect(), next, lost, verified }))
}

fn item(entry: JournalEntry) -> types::JournalItem {
    let JournalEntry { sequence, occurrence, previous, hash } = entry;
    types::JournalItem {
        sequence,
        time_ms: occurrence.time_ms,
        kind: occurrence.kind,
        switch: occurrence.switch,
        subject: occurrence.subject,
        actor: occurrence.actor,
        reason: occurrence.reason,
        count: occurrence.count,
        previous: previous.to_string(),
        hash: hash.to_string(),
    }
}

fn verified(found: JournalVerification) -> types::VerifiedJournal {
    types::VerifiedJournal {
        intact: found.fault.is_none(),
        entries: found.entries,
        pruned: found.pruned,
        hash: found.hash.to_string(),
        fault: found.fault,
    }
}
