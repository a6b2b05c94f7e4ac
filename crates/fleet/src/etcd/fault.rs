//! etcd's errors in words for people.
//!
//! Owns: which of them say that nothing was done. Must never: take one for that which may come after a commit, as "request
//! timed out" does.

use crate::fault::{FaultKind, FleetFault};
use std::time::Duration;
use tonic::{Code, Status};

/// Returns the fault of a call, and whether it certainly was not carried out. Without a status there was no answer in time.
pub(super) fn of(place: &str, status: Option<&Status>, timeout: Duration) -> (FleetFault, bool) {
    let Some(status) = status else {
        return (unreachable(place, &format!("it does not answer within {} ms", timeout.as_millis())), false);
    };
    let said = status.message();
    let fault = |kind, text: String, remedy: &str| FleetFault::new(kind, text, remedy);
    match status.code() {
        Code::ResourceExhausted if said.contains("space") => (
            fault(
                FaultKind::Full,
                format!("etcd at {place} has no space left: {said}"),
                "compact and defragment it, raise --quota-backend-bytes, then: etcdctl alarm disarm",
            ),
            true,
        ),
        Code::InvalidArgument if said.contains("too large") || said.contains("too many operations") => (
            fault(
                FaultKind::TooLarge,
                format!("etcd at {place} refuses the size: {said}"),
                "divide the order",
            ),
            true,
        ),
        Code::InvalidArgument if said.contains("authentication") || said.contains("auth") => (
            fault(
                FaultKind::Denied,
                format!("etcd at {place} does not let this node in: {said}"),
                "correct user= and password_file= of the directive fleet",
            ),
            true,
        ),
        Code::Unauthenticated | Code::PermissionDenied => (
            fault(
                FaultKind::Denied,
                format!("etcd at {place} does not let this node in: {said}"),
                "give its user (user= of the directive fleet) a role that may read and write below the prefix",
            ),
            true,
        ),
        Code::FailedPrecondition if said.contains("auth") => (
            fault(
                FaultKind::Denied,
                format!("etcd at {place} has no users: {said}"),
                "leave user= out, or enable authentication in etcd",
            ),
            true,
        ),
        Code::Unimplemented => (
            fault(
                FaultKind::Refused,
                format!("{place} is no etcd of version 3: {said}"),
                "name the client URLs of etcd in the directive fleet",
            ),
            true,
        ),
        Code::InvalidArgument | Code::OutOfRange => {
            (fault(FaultKind::Refused, format!("etcd at {place} refuses it: {said}"), "report it"), true)
        }
        _ => {
            let said = if said.is_empty() { status.code().description() } else { said };
            (unreachable(place, said), false)
        }
    }
}

/// Returns true if another member may carry out what this one certainly did not.
pub(super) fn is_the_members(status: Option<&Status>) -> bool {
    status.is_some_and(|status| status.code() == Code::Unimplemented)
}

/// Returns true if the token is not good any more.
pub(super) fn wants_new_token(status: &Status) -> bool {
    let said = status.message();
    status.code() == Code::Unauthenticated
        || said.contains("invalid auth token")
        || said.contains("revision of auth store is old")
}

pub(super) fn unreachable(place: &str, why: &str) -> FleetFault {
    FleetFault::new(
        FaultKind::Unreachable,
        format!("etcd at {place} cannot be reached: {why}"),
        "check that it runs and has a leader, and that the URLs of the directive fleet are right; traffic continues \
         with the last table",
    )
}

pub(super) fn unusable(place: &str, why: &str) -> FleetFault {
    FleetFault::new(
        FaultKind::Refused,
        format!("{place} cannot be used as etcd: {why}"),
        "correct the URLs of the directive fleet",
    )
}

pub(super) fn no_member(place: &str) -> FleetFault {
    unreachable(place, "no member answers")
}
