//! `upstream_status` and `metrics`: what was measured, as it is at this moment.
//!
//! Owns the gathering of what stands in a report. How it looks is the crate `statistics`'s. Must never hold a thread up:
//! threads are asked and answer in their own time, and what takes long to write is written elsewhere.

use super::in_order;
use crate::client::Client;
use crate::generation::{Generation, Pinned};
use crate::respond::Unfinished;
use crate::worker::Worker;
use control::{GroupState, Traffic};
use engine::Exchange;
use engine::phase::{Report, ReportForm};
use http::Known;
use statistics::render::{Exposition, Page, metrics};
use statistics::{Collector, Connections, PeerNow, PeerState, Surroundings, SwitchNow, Window};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The longest time that threads are waited for: one in a long script is shown as it last was.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a report is to look like.
#[derive(Clone, Copy)]
enum Form {
    Page(Page, Window),
    Metrics(Exposition),
}

/// Serves a report.
pub(crate) async fn serve(
    client: &mut Client,
    exchange: &mut Exchange,
    generation: &Pinned,
    report: Report,
) -> Result<(), Unfinished> {
    let form = form(exchange, report)?;
    let worker = std::rc::Rc::clone(&client.worker);
    let surroundings = surroundings(&worker, generation).await;
    let (collector, now_ms) = (worker.crossing.shared_collector(), worker.clock.now().monotonic_ms());
    let written = tokio::task::spawn_blocking(move || write(&collector, &surroundings, form, now_ms)).await;
    let Ok(body) = written else { return Err(Unfinished::Status(500)) };
    exchange.response.content_length = Some(body.len() as u64);
    client.serve_bytes(exchange, generation, body.as_bytes()).await
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

fn write(collector: &Mutex<Collector>, surroundings: &Surroundings, form: Form, now_ms: u64) -> String {
    let read = |read: &dyn Fn(&mut Collector) -> statistics::Summary| {
        read(&mut collector.lock().unwrap_or_else(PoisonError::into_inner))
    };
    match form {
        Form::Page(page, window) => page.render(&read(&|all| all.summary(window, now_ms)), surroundings),
        Form::Metrics(exposition) => metrics(&read(&|all| all.totals(now_ms)), surroundings, exposition),
    }
}

/// Empties all recorders, and asks how peers and switches are.
async fn surroundings(worker: &Worker, generation: &Generation) -> Surroundings {
    let (done, collected) = oneshot::channel::<()>();
    let done = Mutex::new(Some(done));
    worker
        .crossing
        .collect(Box::new(move |()| drop(done.lock().unwrap_or_else(PoisonError::into_inner).take())));
    let (tell, mut told) = mpsc::unbounded_channel();
    worker.crossing.peers(Box::new(move |groups| drop(tell.send(groups))));
    let mut peers = PeersNow::new();
    let gathered = async {
        // It is dropped when all have emptied theirs.
        let _ = collected.await;
        while let Some(groups) = told.recv().await {
            groups.into_iter().for_each(|group| merge(&mut peers, group));
        }
    };
    let _ = tokio::time::timeout(PATIENCE, gathered).await;
    let mut all = Vec::new();
    for (layout, entry) in generation.layout.groups.iter().zip(&generation.config.groups) {
        for (label, spec) in layout.peers.iter().zip(in_order(&entry.spec)) {
            let key = (Arc::clone(&layout.name), Arc::clone(label));
            // One that stands in the group twice has been counted as one.
            let (failed, connections) = peers.remove(&key).unwrap_or_default();
            let state = match () {
                () if spec.down => PeerState::Down,
                () if failed => PeerState::Failed,
                () => PeerState::Up,
            };
            all.push(PeerNow { group: key.0, peer: key.1, state, connections });
        }
    }
    Surroundings {
        peers: all,
        switches: switches(worker).await,
        connections: connections(worker),
        log_lines_lost: worker.counters.read().log_lines_lost,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// By group and peer: whether a thread leaves it alone, and the connections of all threads.
type PeersNow = HashMap<(Arc<str>, Arc<str>), (bool, u64)>;

fn merge(peers: &mut PeersNow, group: GroupState) {
    for peer in group.peers {
        let known = peers.entry((Arc::clone(&group.name), peer.address)).or_default();
        known.0 |= peer.failed;
        known.1 += u64::from(peer.connections);
    }
}

async fn switches(worker: &Worker) -> Vec<SwitchNow> {
    if worker.generation().config.switches.is_empty() {
        return Vec::new();
    }
    let listed = tokio::time::timeout(PATIENCE, worker.office.list()).await;
    let Ok(Ok(states)) = listed else { return Vec::new() };
    let now = states.into_iter().map(|state| SwitchNow {
        name: state.name.into(),
        revision: state.revision,
        keys: state.keys as u64,
        pending: state.pending.len() as u64,
    });
    now.collect()
}

fn connections(worker: &Worker) -> Connections {
    let now = worker.counters.read();
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
