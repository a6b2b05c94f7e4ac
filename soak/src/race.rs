//! Two writers give orders with the revision that they expect: each revision must be won by one of them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use crate::Plan;
use crate::control::{Control, number};
use crate::gateway::{GROUPS, Gateway};
use crate::server::SEVERE;

const WRITERS: usize = 2;

/// Runs the test; returns a summary.
pub(crate) fn run(plan: &Plan) -> Result<String, String> {
    let gateway = Gateway::prepare()?;
    let server = gateway.start(&plan.program())?;
    let prefix = gateway.dir.prefix();
    let tries = AtomicU64::new(0);
    let won = std::thread::scope(|scope| {
        let write = |writer| {
            let tries = &tries;
            scope.spawn(move || write(prefix, writer, tries, plan.tries))
        };
        let writers: Vec<_> = (0..WRITERS).map(write).collect();
        let joined = writers
            .into_iter()
            .map(|writer| writer.join().unwrap_or_else(|_| Err("a writer panicked".to_owned())));
        joined.collect::<Result<Vec<_>, String>>()
    })?;
    let mut control = Control::open(prefix)?;
    let revision = control.revision()?;
    let all: HashSet<u64> = won.iter().flatten().copied().collect();
    let sum: usize = won.iter().map(Vec::len).sum();
    if all.len() != sum {
        return Err(format!("{} revisions were won twice", sum - all.len()));
    }
    if sum as u64 != revision || !(1..=revision).all(|revision| all.contains(&revision)) {
        return Err(format!("{sum} orders were won, and the table is at revision {revision}"));
    }
    control.check_history()?;
    server.finish(&SEVERE)?;
    let shares: Vec<String> = won.iter().map(|won| won.len().to_string()).collect();
    Ok(format!(
        "{} tries of {WRITERS} writers, {sum} won ({}), each revision by one writer",
        plan.tries,
        shares.join(" and ")
    ))
}

/// Gives orders until all tries are used up; returns the revisions that this writer won.
fn write(prefix: &Path, writer: usize, tries: &AtomicU64, max_tries: u64) -> Result<Vec<u64>, String> {
    let mut control = Control::open(prefix)?;
    let mut won = Vec::new();
    let mut expected = 0;
    while tries.fetch_add(1, Ordering::SeqCst) < max_tries {
        // The target alternates with the revision, so that every order changes something.
        let body =
            json!({"target": GROUPS[(expected % 2) as usize ^ 1], "reason": format!("writer {writer}")});
        let reply = control.order("PUT", "/v1/switches/live/keys/www.example.com", Some(expected), &body)?;
        match reply.status {
            200 => {
                let revision = number(&reply.body, "revision")?;
                if revision != expected + 1 {
                    return Err(format!("expected {expected} and won {revision}"));
                }
                won.push(revision);
                expected = revision;
            }
            412 if reply.body["code"] == "revision_conflict" => expected = control.revision()?,
            status => return Err(format!("{status} {}", reply.body)),
        }
    }
    Ok(won)
}
