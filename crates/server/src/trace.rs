//! Spans of single requests, for a file of JSON lines; off by default.
//!
//! Owns the names and fields of the spans: `accept` for a connection, and `request` with `phase`, `pick`, `attempt` and
//! `relay` below it. While tracing is off, each costs the look at a global level. Spans are never entered, because requests
//! take turns on their thread: each names its parent.

use engine::Exchange;
use engine::exchange::Connection;
use engine::phase::Step;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use tracing::field::{Empty, display};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span, debug_span};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::prelude::*;

/// The environment variable that names the file; without it nothing is traced.
pub(crate) const VARIABLE: &str = "POINTSMAN_TRACE";

/// Starts to write spans to a file, a line for each that ends.
///
/// # Errors
/// Fails if the file cannot be opened.
pub(crate) fn install(path: &Path) -> io::Result<()> {
    let file = File::options().append(true).create(true).open(path)?;
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(Mutex::new(file))
        .with_filter(Targets::new().with_target("pointsman", Level::DEBUG));
    // It fails if one is installed already, which then goes on.
    let _ = tracing_subscriber::registry().with(lines).try_init();
    Ok(())
}

/// Creates a span if anything is traced.
#[inline]
fn span(create: impl FnOnce() -> Span) -> Span {
    #[cold]
    fn cold(create: impl FnOnce() -> Span) -> Span {
        create()
    }
    if LevelFilter::current() == LevelFilter::OFF { Span::none() } else { cold(create) }
}

/// Returns the numbers by which the spans of a request are found: its connection's, and its own on that.
#[inline]
fn number(exchange: &Exchange) -> (u64, u64) {
    (exchange.connection.serial, exchange.connection.requests)
}

/// Traces that a connection was accepted.
#[inline]
pub(crate) fn accept(connection: &Connection) {
    drop(span(
        || debug_span!(parent: None, "accept", connection = connection.serial, remote = ?connection.remote),
    ));
}

/// Starts the span of a request whose head was read.
#[inline]
pub(crate) fn request(exchange: &Exchange) -> Span {
    let (connection, request) = number(exchange);
    span(|| {
        debug_span!(
            parent: None,
            "request",
            connection,
            request,
            method = %String::from_utf8_lossy(exchange.method()),
            target = %String::from_utf8_lossy(exchange.request.head.target()),
            status = Empty,
            sent = Empty,
        )
    })
}

/// Completes the span of a request.
#[inline]
pub(crate) fn responded(span: &Span, exchange: &Exchange) {
    if !span.is_disabled() {
        span.record("status", exchange.response.status);
        span.record("sent", exchange.output.sent);
    }
}

/// Starts the span of a walk through the phases.
#[inline]
pub(crate) fn phase(parent: &Span, exchange: &Exchange) -> Span {
    let (connection, request) = number(exchange);
    span(|| debug_span!(parent: parent, "phase", connection, request, step = Empty))
}

/// Completes the span of a walk with the step that it led to.
#[inline]
pub(crate) fn stepped(span: &Span, step: &Step) {
    if !span.is_disabled() {
        span.record(
            "step",
            match step {
                Step::Wait(_) => "wait",
                Step::Drop => "drop",
                Step::Written => "written",
                Step::Serve(_) => "serve",
            },
        );
    }
}

/// Starts the span of a pick.
#[inline]
pub(crate) fn pick(parent: &Span, exchange: &Exchange, group: &str) -> Span {
    let (connection, request) = number(exchange);
    span(|| debug_span!(parent: parent, "pick", connection, request, group, peer = Empty))
}

/// Completes the span of a pick with the peer.
#[inline]
pub(crate) fn picked(span: &Span, peer: &str) {
    if !span.is_disabled() {
        span.record("peer", peer);
    }
}

/// Starts the span of a try.
#[inline]
pub(crate) fn attempt(parent: &Span, exchange: &Exchange, peer: &str, reused: bool) -> Span {
    let (connection, request) = number(exchange);
    span(|| {
        debug_span!(
            parent: parent, "attempt", connection, request, peer, reused, status = Empty, fault = Empty
        )
    })
}

/// Completes the span of a try with the status of the response.
#[inline]
pub(crate) fn attempted(span: &Span, status: u16) {
    if !span.is_disabled() {
        span.record("status", status);
    }
}

/// Completes the span of a try with the reason why it failed.
#[inline]
pub(crate) fn failed(span: &Span, fault: impl FnOnce() -> String) {
    if !span.is_disabled() {
        span.record("fault", display(fault()));
    }
}

/// Starts the span of a relay.
#[inline]
pub(crate) fn relay(parent: &Span, exchange: &Exchange) -> Span {
    let (connection, request) = number(exchange);
    span(|| debug_span!(parent: parent, "relay", connection, request, received = Empty, whole = Empty))
}

/// Completes the span of a relay.
#[inline]
pub(crate) fn relayed(span: &Span, received: u64, whole: bool) {
    if !span.is_disabled() {
        span.record("received", received);
        span.record("whole", whole);
    }
}
