//! Two writers who both say which revision they expect: each revision is won by one of them.

use super::Plan;
use super::control::{Control, number};
use super::gateway::{GROUPS, Gateway};
use crate::server::Server;
use serde_json::json;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const WRITERS: usize = 2;

/// Runs it, and gives the figures.
pub(super) fn run(plan: &Plan) -> Result<String, String> {
    let gateway = Gateway::make("race")?;
    let server = Server::start_in(&plan.program, &gateway.folder, gateway.front)?;
    let folder = gateway.folder.path();
    let tries = AtomicU64::new(0);
    let won = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let tries = &tries;
                scope.spawn(move || write(folder, writer, tries, plan.tries))
            })
            .collect();
        let joined = writers
            .into_iter()
            .map(|writer| writer.join().map_err(|_| "a writer panicked".to_owned()).and_then(|won| won));
        joined.collect::<Result<Vec<_>, String>>()
    })?;
    let revision = number(&Control::open(folder)?.get("/v1/switches/live/keys?limit=1")?, "revision")?;
    let all: HashSet<u64> = won.iter().flatten().copied().collect();
    let sum: usize = won.iter().map(Vec::len).sum();
    if all.len() != sum {
        return Err(format!("{} revisions were won twice", sum - all.len()));
    }
    if sum as u64 != revision || !(1..=revision).all(|revision| all.contains(&revision)) {
        return Err(format!("{sum} orders were won, and the table is at revision {revision}"));
    }
    let history = Control::open(folder)?.get("/v1/switches/live/history?limit=1&verify=true")?;
    if history["verified"]["intact"] != json!(true) {
        return Err(format!("the history is not intact: {history}"));
    }
    server.finish(&["alert", "emerg", "crit"])?;
    let shares: Vec<String> = won.iter().map(|won| won.len().to_string()).collect();
    Ok(format!(
        "{} tries of {WRITERS} writers, {sum} won ({}), each revision by one",
        plan.tries,
        shares.join(" and ")
    ))
}

/// One writer: the revisions that it won.
fn write(folder: &Path, writer: usize, tries: &AtomicU64, most: u64) -> Result<Vec<u64>, String> {
    let mut control = Control::open(folder)?;
    let mut won = Vec::new();
    let mut expected = 0;
    while tries.fetch_add(1, Ordering::SeqCst) < most {
        // The target alternates with the revision, so that whoever wins changes something.
        let body =
            json!({"target": GROUPS[(expected % 2) as usize ^ 1], "reason": format!("writer {writer}")});
        let said = control.order("PUT", "/v1/switches/live/keys/www.example.com", Some(expected), &body)?;
        match said.status {
            200 => {
                let revision = number(&said.body, "revision")?;
                if revision != expected + 1 {
                    return Err(format!("expected {expected} and won {revision}"));
                }
                won.push(revision);
                expected = revision;
            }
            412 if said.body["code"] == "revision_conflict" => {
                expected = number(&control.get("/v1/switches/live/keys?limit=1")?, "revision")?;
            }
            status => return Err(format!("{status} {}", said.body)),
        }
    }
    Ok(won)
}
