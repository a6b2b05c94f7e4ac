//! Orders: routing, undoing, confirming, holding.
//!
//! Owns the handlers of PUT, POST and DELETE. Must never acknowledge an order before it is durable.

use super::auth::Caller;
use super::context::{Api, Tagged};
use super::error::{ApiError, OrderErrors};
use super::request::{
    CommitBody, Conditions, JsonBody, KeyPath, PathParams, Tag, bad_order, bounds, check_new, expected_route,
    hold_end, key, options, route, rules, span,
};
use super::types::{self, Terms};
use super::view;
use crate::options::{HoldOrder, Options, Wait};
use crate::receipt::Receipt;
use crate::service::{LongCall, UndoWhat};
use axum::Extension;
use axum::Json;
use axum::extract::State;
use engine::modules::switch::WATCH_MS;
use switch::{Action, Expected, Key, Meta, Order, Refusal, Route};

/// Routes a key to a target
#[utoipa::path(put, path = "/v1/switches/{name}/keys/{key}", tag = "orders",
    params(("name" = String, Path, description = "The switch."),
        ("key" = String, Path, description = "The key, percent-encoded; the empty one is an empty segment."),
        Conditions),
    request_body = types::KeyOrder,
    responses((status = 200, description = "The receipt.", body = Receipt,
        headers(("etag" = String, description = "The switch's revision."))), OrderErrors))]
pub(super) async fn put_key(
    State(api): State<Api>,
    KeyPath(name, text): KeyPath,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    JsonBody(order): JsonBody<types::KeyOrder>,
) -> Result<Tagged<Receipt>, ApiError> {
    let rules = rules(&api.control.config(), &name)?;
    let terms = order.terms();
    let changes = vec![(key(&rules, &text)?, route(order.target, order.split, false)?)];
    check_new(&rules, &*api.control.table(&name).await?, &changes, terms.force)?;
    let meta = meta(caller.clone(), conditions, &terms)?;
    set(&api, &name, changes, caller, meta, &terms).await
}

/// Resets a key to the default
#[utoipa::path(delete, path = "/v1/switches/{name}/keys/{key}", tag = "orders",
    params(("name" = String, Path, description = "The switch."),
        ("key" = String, Path, description = "The key, percent-encoded; the empty one is an empty segment."),
        Conditions),
    request_body = types::ResetOrder,
    responses((status = 200, description = "The receipt.", body = Receipt,
        headers(("etag" = String, description = "The switch's revision."))), OrderErrors))]
pub(super) async fn delete_key(
    State(api): State<Api>,
    KeyPath(name, text): KeyPath,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    JsonBody(order): JsonBody<types::ResetOrder>,
) -> Result<Tagged<Receipt>, ApiError> {
    let key = key(&*rules(&api.control.config(), &name)?, &text)?;
    let terms = order.terms();
    let meta = meta(caller.clone(), conditions, &terms)?;
    set(&api, &name, vec![(key, None)], caller, meta, &terms).await
}

/// Routes many keys in one commit: all or none
#[utoipa::path(post, path = "/v1/switches/{name}/commits", tag = "orders",
    params(("name" = String, Path, description = "The switch."),
        Conditions),
    request_body = types::ManyOrder,
    responses((status = 200, description = "The receipt.", body = Receipt,
        headers(("etag" = String, description = "The switch's revision."))), OrderErrors))]
pub(super) async fn commit(
    State(api): State<Api>,
    PathParams(name): PathParams<String>,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    CommitBody(order): CommitBody<types::ManyOrder>,
) -> Result<Tagged<Receipt>, ApiError> {
    let rules = rules(&api.control.config(), &name)?;
    let terms = order.terms();
    let mut expect_each = Vec::new();
    let change = |change: types::OneChange| -> Result<(Key, Option<Route>), Refusal> {
        let key = key(&rules, &change.key)?;
        let route_now = change.expect_route.as_deref().map(expected_route).transpose()?;
        let expected = route_now.into_iter().chain(change.expect_revision.map(Expected::Revision));
        expect_each.extend(expected.map(|expected| (key.clone(), expected)));
        Ok((key, route(change.target, change.split, change.default)?))
    };
    let changes = order.changes.into_iter().map(change).collect::<Result<Vec<_>, Refusal>>()?;
    check_new(&rules, &*api.control.table(&name).await?, &changes, terms.force)?;
    let meta = Meta { expect_each, ..meta(caller.clone(), conditions, &terms)? };
    set(&api, &name, changes, caller, meta, &terms).await
}

/// Returns the actor, the conditions and the reason of an order.
pub(super) fn meta(caller: Caller, conditions: Conditions, terms: &Terms) -> Result<Meta, Refusal> {
    let route = terms.expect_route.as_deref().map(expected_route).transpose()?;
    let (expect, entry) = match conditions.expect {
        Some(Tag::Switch(revision)) => (Some(revision), None),
        Some(Tag::Entry(revision)) => (None, Some(Expected::Revision(revision))),
        None => (None, None),
    };
    let new = conditions.is_new.then_some(Expected::NoEntry);
    Ok(Meta {
        actor: caller.actor,
        reason: terms.reason.clone(),
        expect,
        expect_keys: entry.into_iter().chain(route).chain(new).collect(),
        expect_each: Vec::new(),
        idempotency: conditions.idempotency,
        force: terms.force,
        confirm_within_ms: terms
            .confirm_within
            .as_deref()
            .map(|text| span("confirm_within", text))
            .transpose()?,
        watch_ms: terms.watch.as_deref().map(watch).transpose()?,
    })
}

/// Returns how long answers are counted.
fn watch(text: &str) -> Result<u64, Refusal> {
    let ms = span("watch", text)?;
    if !(1..=WATCH_MS.1).contains(&ms) {
        return Err(bad_order(
            format!("invalid watch {text:?}: expected a time of at most an hour"),
            "use a shorter time; what comes later is in the statistics",
        ));
    }
    Ok(ms)
}

/// Begins a long call if the order waits for requests to end.
pub(super) fn long_call(api: &Api, caller: &Caller, options: &Options) -> Result<Option<LongCall>, Refusal> {
    let waits = options.wait == Wait::Drained || options.hold.is_some();
    (waits && !options.dry_run).then(|| api.control.long_call(&caller.identity)).transpose()
}

async fn set(
    api: &Api,
    name: &str,
    changes: Vec<(Key, Option<Route>)>,
    caller: Caller,
    meta: Meta,
    terms: &Terms,
) -> Result<Tagged<Receipt>, ApiError> {
    let options = options(terms)?;
    let _long_call = long_call(api, &caller, &options)?;
    let order = Order { action: Action::Set(changes), meta };
    let receipt = api.control.order(name, order, options).await?;
    Ok(Tagged(receipt.revision, receipt))
}

/// Undoes changes
///
/// With `keys`, the last change of each; with `commit` or `id`, that commit; with none of them, the last commit.
#[utoipa::path(post, path = "/v1/switches/{name}/undo", tag = "orders",
    params(("name" = String, Path, description = "The switch."),
        Conditions),
    request_body = types::UndoOrder,
    responses((status = 200, description = "The receipt.", body = Receipt,
        headers(("etag" = String, description = "The switch's revision."))), OrderErrors))]
pub(super) async fn undo(
    State(api): State<Api>,
    PathParams(name): PathParams<String>,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    JsonBody(order): JsonBody<types::UndoOrder>,
) -> Result<Tagged<Receipt>, ApiError> {
    let rules = rules(&api.control.config(), &name)?;
    let what = match (&order.keys[..], order.commit, &order.id) {
        ([], None, None) => UndoWhat::Last,
        ([], Some(revision), None) => UndoWhat::Commit(revision),
        ([], None, Some(id)) => UndoWhat::Id(id.clone()),
        (keys, None, None) => {
            UndoWhat::Keys(keys.iter().map(|text| key(&rules, text)).collect::<Result<_, Refusal>>()?)
        }
        _ => {
            let remedy = "send one of them, or none to undo the last commit";
            return Err(super::request::bad_order("keys, commit and id exclude each other", remedy).into());
        }
    };
    let terms = order.terms();
    let options = options(&terms)?;
    let _long_call = long_call(&api, &caller, &options)?;
    let meta = meta(caller, conditions, &terms)?;
    let receipt = api.control.undo(&name, what, meta, options).await?;
    Ok(Tagged(receipt.revision, receipt))
}

/// Confirms a commit, so that it is not reverted
#[utoipa::path(post, path = "/v1/switches/{name}/confirm", tag = "orders",
    params(("name" = String, Path, description = "The switch."),
        Conditions),
    request_body = types::Confirm,
    responses((status = 200, description = "The receipt.", body = Receipt,
        headers(("etag" = String, description = "The switch's revision."))), OrderErrors))]
pub(super) async fn confirm(
    State(api): State<Api>,
    PathParams(name): PathParams<String>,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    JsonBody(order): JsonBody<types::Confirm>,
) -> Result<Tagged<Receipt>, ApiError> {
    let terms = Terms { reason: order.reason, ..Terms::default() };
    let meta = meta(caller, conditions, &terms)?;
    let receipt = api.control.confirm(&name, order.revision, meta).await?;
    Ok(Tagged(receipt.revision, receipt))
}

/// Holds a key's new requests
#[utoipa::path(put, path = "/v1/switches/{name}/holds/{key}", tag = "orders",
    params(("name" = String, Path, description = "The switch."),
        ("key" = String, Path, description = "The key, percent-encoded; the empty one is an empty segment.")),
    request_body = types::HoldOrder,
    responses((status = 200, description = "The hold.", body = types::Hold), OrderErrors))]
pub(super) async fn put_hold(
    State(api): State<Api>,
    KeyPath(name, text): KeyPath,
    Extension(caller): Extension<Caller>,
    JsonBody(order): JsonBody<types::HoldOrder>,
) -> Result<Json<types::Hold>, ApiError> {
    let rules = rules(&api.control.config(), &name)?;
    let key = key(&rules, &text)?;
    rules.doubt(&key, true).map_err(|fault| Refusal::bad_key(text.as_bytes(), fault))?;
    let options = bounds(order.max, order.timeout.as_deref(), order.max_size.as_deref(), None)?;
    let end = hold_end(order.span.as_deref(), order.then)?;
    let order = HoldOrder { key, options, end, actor: caller.actor, reason: order.reason };
    Ok(Json(view::hold(api.control.hold(&name, order).await?)))
}

/// Releases a key's held requests
#[utoipa::path(delete, path = "/v1/switches/{name}/holds/{key}", tag = "orders",
    params(("name" = String, Path, description = "The switch."),
        ("key" = String, Path, description = "The key, percent-encoded; the empty one is an empty segment.")),
    request_body = types::ReleaseOrder,
    responses((status = 200, description = "The hold as it was.", body = types::Hold), OrderErrors))]
pub(super) async fn delete_hold(
    State(api): State<Api>,
    KeyPath(name, text): KeyPath,
    Extension(caller): Extension<Caller>,
    JsonBody(order): JsonBody<types::ReleaseOrder>,
) -> Result<Json<types::Hold>, ApiError> {
    let key = key(&*rules(&api.control.config(), &name)?, &text)?;
    let per_second = bounds(None, None, None, order.per_second)?.per_second;
    let released = api.control.release(&name, key, per_second, caller.actor, order.reason).await?;
    Ok(Json(view::hold(released)))
}
