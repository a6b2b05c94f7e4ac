//! Orders: keys are led elsewhere, back, or made to wait.
//!
//! Owns the handlers of PUT, POST and DELETE. Must never answer before the office has: what is acknowledged is kept.

use super::entry::Caller;
use super::refused::{OfOrders, Refused};
use super::request::{Body, Conditions, Place, bounds, key, meta, options, route, rules};
use super::router::{Api, Tagged};
use super::types::{self, Terms};
use super::view;
use crate::office::UndoWhat;
use crate::order::HoldOrder;
use crate::receipt::Receipt;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use switch::{Action, Key, Order, Refusal, Route};

/// Leads a key somewhere
#[utoipa::path(put, path = "/v1/switches/{name}/keys/{key}", tag = "orders",
    params(("name" = String, Path, description = "The switch."),
        ("key" = String, Path, description = "The key, percent-encoded."),
        Conditions),
    request_body = types::KeyOrder,
    responses((status = 200, description = "What became of it.", body = Receipt,
        headers(("etag" = String, description = "The switch's revision."))), OfOrders))]
pub(super) async fn put_key(
    State(api): State<Api>,
    Place((name, text)): Place<(String, String)>,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    Body(order): Body<types::KeyOrder>,
) -> Result<Tagged<Receipt>, Refused> {
    let key = key(&*rules(&api.office.config(), &name)?, &text)?;
    let terms = order.terms();
    let route = route(order.target, order.split, false)?;
    set(&api, &name, vec![(key, route)], caller, conditions, &terms).await
}

/// Takes a key's entry away, so that the default applies
#[utoipa::path(delete, path = "/v1/switches/{name}/keys/{key}", tag = "orders",
    params(("name" = String, Path, description = "The switch."),
        ("key" = String, Path, description = "The key, percent-encoded."),
        Conditions),
    request_body = types::ResetOrder,
    responses((status = 200, description = "What became of it.", body = Receipt,
        headers(("etag" = String, description = "The switch's revision."))), OfOrders))]
pub(super) async fn delete_key(
    State(api): State<Api>,
    Place((name, text)): Place<(String, String)>,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    Body(order): Body<types::ResetOrder>,
) -> Result<Tagged<Receipt>, Refused> {
    let key = key(&*rules(&api.office.config(), &name)?, &text)?;
    set(&api, &name, vec![(key, None)], caller, conditions, &order.terms()).await
}

/// Leads many keys somewhere in one commit: all or none
#[utoipa::path(post, path = "/v1/switches/{name}/commits", tag = "orders",
    params(("name" = String, Path, description = "The switch."),
        Conditions),
    request_body = types::ManyOrder,
    responses((status = 200, description = "What became of it.", body = Receipt,
        headers(("etag" = String, description = "The switch's revision."))), OfOrders))]
pub(super) async fn commit(
    State(api): State<Api>,
    Place(name): Place<String>,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    Body(order): Body<types::ManyOrder>,
) -> Result<Tagged<Receipt>, Refused> {
    let rules = rules(&api.office.config(), &name)?;
    let terms = order.terms();
    let change = |change: types::OneChange| -> Result<(Key, Option<Route>), Refusal> {
        Ok((key(&rules, &change.key)?, route(change.target, change.split, change.default)?))
    };
    let changes = order.changes.into_iter().map(change).collect::<Result<Vec<_>, Refusal>>()?;
    set(&api, &name, changes, caller, conditions, &terms).await
}

async fn set(
    api: &Api,
    name: &str,
    changes: Vec<(Key, Option<Route>)>,
    caller: Caller,
    conditions: Conditions,
    terms: &Terms,
) -> Result<Tagged<Receipt>, Refused> {
    let order = Order { action: Action::Set(changes), meta: meta(caller, conditions, terms)? };
    let receipt = api.office.order(name, order, options(terms)?).await?;
    Ok(Tagged(receipt.revision, receipt))
}

/// Goes back to what it was before
///
/// With `keys`, each of them goes back to what it was before its last change; with `commit`, all that it changed; with
/// neither, all that the last commit changed.
#[utoipa::path(post, path = "/v1/switches/{name}/undo", tag = "orders",
    params(("name" = String, Path, description = "The switch."),
        Conditions),
    request_body = types::UndoOrder,
    responses((status = 200, description = "What became of it.", body = Receipt,
        headers(("etag" = String, description = "The switch's revision."))), OfOrders))]
pub(super) async fn undo(
    State(api): State<Api>,
    Place(name): Place<String>,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    Body(order): Body<types::UndoOrder>,
) -> Result<Tagged<Receipt>, Refused> {
    let rules = rules(&api.office.config(), &name)?;
    let what = match (&order.keys[..], order.commit) {
        ([], None) => UndoWhat::Last,
        ([], Some(revision)) => UndoWhat::Commit(revision),
        (keys, None) => {
            UndoWhat::Keys(keys.iter().map(|text| key(&rules, text)).collect::<Result<_, Refusal>>()?)
        }
        _ => {
            let remedy = "send one of keys and commit, or neither for the last commit";
            return Err(super::request::bad_order("keys and a commit are named", remedy).into());
        }
    };
    let terms = order.terms();
    let meta = meta(caller, conditions, &terms)?;
    let receipt = api.office.undo(&name, what, meta, options(&terms)?).await?;
    Ok(Tagged(receipt.revision, receipt))
}

/// Keeps a commit that would go back by itself
#[utoipa::path(post, path = "/v1/switches/{name}/confirm", tag = "orders",
    params(("name" = String, Path, description = "The switch."),
        Conditions),
    request_body = types::Confirm,
    responses((status = 200, description = "What became of it.", body = Receipt,
        headers(("etag" = String, description = "The switch's revision."))), OfOrders))]
pub(super) async fn confirm(
    State(api): State<Api>,
    Place(name): Place<String>,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    Body(order): Body<types::Confirm>,
) -> Result<Tagged<Receipt>, Refused> {
    let terms = Terms { reason: order.reason, ..Terms::default() };
    let meta = meta(caller, conditions, &terms)?;
    let receipt = api.office.confirm(&name, order.revision, meta).await?;
    Ok(Tagged(receipt.revision, receipt))
}

/// Makes a key's new requests wait
#[utoipa::path(put, path = "/v1/switches/{name}/holds/{key}", tag = "orders",
    params(("name" = String, Path, description = "The switch."),
        ("key" = String, Path, description = "The key, percent-encoded.")),
    request_body = types::HoldOrder,
    responses((status = 200, description = "The hold.", body = types::Hold), OfOrders))]
pub(super) async fn put_hold(
    State(api): State<Api>,
    Place((name, text)): Place<(String, String)>,
    Extension(caller): Extension<Caller>,
    Body(order): Body<types::HoldOrder>,
) -> Result<Json<types::Hold>, Refused> {
    let key = key(&*rules(&api.office.config(), &name)?, &text)?;
    let options = bounds(order.max, order.timeout.as_deref(), order.max_size.as_deref(), None)?;
    let order = HoldOrder { key, options, actor: caller.actor, reason: order.reason };
    Ok(Json(view::hold(api.office.hold(&name, order).await?)))
}

/// Lets a key's waiting requests go on
#[utoipa::path(delete, path = "/v1/switches/{name}/holds/{key}", tag = "orders",
    params(("name" = String, Path, description = "The switch."),
        ("key" = String, Path, description = "The key, percent-encoded.")),
    request_body = types::ReleaseOrder,
    responses((status = 200, description = "The hold, as it was.", body = types::Hold), OfOrders))]
pub(super) async fn delete_hold(
    State(api): State<Api>,
    Place((name, text)): Place<(String, String)>,
    Extension(caller): Extension<Caller>,
    Body(order): Body<types::ReleaseOrder>,
) -> Result<Json<types::Hold>, Refused> {
    let key = key(&*rules(&api.office.config(), &name)?, &text)?;
    let per_second = bounds(None, None, None, order.per_second)?.per_second;
    Ok(Json(view::hold(api.office.release(&name, key, per_second, caller.actor).await?)))
}
