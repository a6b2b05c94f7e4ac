//! `upstream_status` and `metrics`: the measurements of this moment.
//!
//! Owns the gathering of what a report shows; the crate `statistics` formats it. Must never block a thread: threads answer
//! in their own time, and a long report is written elsewhere.

use crate::context::generation::Generation;
use crate::context::thread_context::ThreadContext;
use crate::request::cx::RequestCx;
use crate::request::respond::Unfinished;
use control::{DataPlane, GroupState};
use engine::phase::{Report, ReportForm};
use engine::{Config, Exchange};
use http::Known;
use statistics::render::{Exposition, Page, metrics};
use statistics::{CertificateNow, Collector, Connections, PeerNow, Snapshot, SwitchNow, Window};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// How long threads are waited for: one in a long script is shown as it last was.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// The format of a report.
#[derive(Clone, Copy)]
enum Form {
    Page(Page, Window),
    Metrics(Exposition),
}

/// Serves a report.
pub(crate) async fn serve(cx: &mut RequestCx<'_>, report: Report) -> Result<(), Unfinished> {
    let form = form(cx.exchange, report)?;
    let thread = &*cx.client.thread;
    let snapshot = snapshot(thread, cx.generation).await;
    let (collector, now_ms) = (thread.bus.shared_collector(), thread.clock.now().monotonic_ms());
    let written = tokio::task::spawn_blocking(move || write(&collector, &snapshot, form, now_ms)).await;
    let Ok(body) = written else { return Err(Unfinished::Status(500)) };
    cx.exchange.response.content_length = Some(body.len() as u64);
    cx.serve_bytes(body.as_bytes()).await
}

fn form(exchange: &mut Exchange, report: Report) -> Result<Form, Unfinished> {
    Ok(match report {
        Report::Metrics => {
            let exposition = Exposition::asked_for(exchange.request.head.headers.get(Known::Accept));
            exchange.response.content_type = Some(exposition.content_type().into());
            Form::Metrics(exposition)
        }
        Report::UpstreamStatus(form) => {
            let window = match http::args::find(&exchange.request.args, b"window") {
                None => Some(Window::default()),
                Some(name) => std::str::from_utf8(name).ok().and_then(Window::parse),
            };
            let page = match form {
                ReportForm::Text => Page::Text,
                ReportForm::Html => Page::Html,
                ReportForm::Json => Page::Json,
            };
            Form::Page(page, window.ok_or(Unfinished::Status(400))?)
        }
    })
}

fn write(collector: &Mutex<Collector>, snapshot: &Snapshot, form: Form, now_ms: u64) -> String {
    let read = |read: &dyn Fn(&mut Collector) -> statistics::Summary| {
        read(&mut collector.lock().unwrap_or_else(PoisonError::into_inner))
    };
    match form {
        Form::Page(page, window) => page.render(&read(&|all| all.summary(window, now_ms)), snapshot),
        Form::Metrics(exposition) => metrics(&read(&|all| all.totals(now_ms)), snapshot, exposition),
    }
}

/// Empties all recorders, and collects the state of peers and switches.
async fn snapshot(thread: &ThreadContext, generation: &Generation) -> Snapshot {
    let (done, collected) = oneshot::channel::<()>();
    let done = Mutex::new(Some(done));
    thread.bus.collect(Box::new(move |()| drop(done.lock().unwrap_or_else(PoisonError::into_inner).take())));
    let (sender, mut received) = mpsc::unbounded_channel();
    thread.bus.peers(Box::new(move |groups| drop(sender.send(groups))));
    let mut states: Vec<GroupState> = Vec::new();
    let gathered = async {
        // The sender is dropped when all have emptied theirs.
        let _ = collected.await;
        while let Some(groups) = received.recv().await {
            states.extend(groups);
        }
    };
    let _ = tokio::time::timeout(ANSWER_TIMEOUT, gathered).await;
    Snapshot {
        peers: merged(states, thread.now_ms()),
        checks: control::checks_now(generation.groups.health()),
        switches: switches(thread).await,
        groups_fault: has_groups_fault(thread).await,
        connections: connections(thread),
        log_lines_lost: thread.counters.read().log_lines_lost,
        certificates: certificates(&generation.config),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn certificates(config: &Config) -> Vec<CertificateNow> {
    let now = config.http.expiries().into_iter();
    now.map(|known| CertificateNow { file: known.file, until_s: known.until_s }).collect()
}

/// Returns the state of each server as all threads have it, in the order of the first thread, which has all groups. A server
/// that is listed twice is counted as one.
fn merged(mut states: Vec<GroupState>, now_ms: u64) -> Vec<PeerNow> {
    let epoch_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    states.sort_by_key(|group| group.worker);
    let mut places: HashMap<(Arc<str>, Arc<str>), usize> = HashMap::new();
    let mut merged: Vec<PeerNow> = Vec::new();
    for group in states {
        // One that was removed has no state any more, only requests.
        for peer in group.peers.into_iter().filter(|peer| !peer.departed) {
            let (state, source, since_s) = (peer.state(), peer.origin(), peer.since_s(now_ms, epoch_ms));
            let place =
                *places.entry((Arc::clone(&group.name), Arc::clone(&peer.name))).or_insert(merged.len());
            let Some(known) = merged.get_mut(place) else {
                let connections = u64::from(peer.connections);
                let group = Arc::clone(&group.name);
                merged.push(PeerNow { group, peer: peer.name, state, connections, source, since_s });
                continue;
            };
            known.state = known.state.max(state);
            known.connections += u64::from(peer.connections);
        }
    }
    merged
}

async fn switches(thread: &ThreadContext) -> Vec<SwitchNow> {
    if thread.generation().config.switches.is_empty() {
        return Vec::new();
    }
    let listed = tokio::time::timeout(ANSWER_TIMEOUT, thread.control.list()).await;
    let Ok(Ok(states)) = listed else { return Vec::new() };
    let now = states.into_iter().map(|state| SwitchNow {
        held_keys: state.held_keys(),
        held_requests: state.held_requests(),
        refused_requests: state.refused_requests(),
        revision: state.revision,
        keys: state.keys as u64,
        pending: state.pending.len() as u64,
        overdue: state.overdue(),
        store_fault: state.store_fault.is_some(),
        name: state.name.into(),
    });
    now.collect()
}

async fn has_groups_fault(thread: &ThreadContext) -> bool {
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, thread.control.groups_fault()).await;
    asked.is_ok_and(|answer| answer.is_ok_and(|fault| fault.is_some()))
}

fn connections(thread: &ThreadContext) -> Connections {
    let now = thread.counters.read();
    Connections {
        active: now.active,
        accepted: now.accepted,
        handled: now.handled,
        requests: now.requests,
        reading: now.reading,
        writing: now.writing,
        waiting: now.waiting,
    }
}
