//! `pointsman watch`: what happens, as it happens.
//!
//! Owns the verb's words, and the reading of server-sent events (WHATWG HTML, "Server-sent events"). Must never show
//! an event twice: it says which one it saw last when it comes back.

use crate::client::Call;
use crate::fault::{Code, Fault, say};
use crate::figures::{self, clock};
use crate::verbs::Session;
use clap::Args;
use control::api::types::{Event, Happening};
use std::time::Duration;

/// Between two attempts to come back.
const PAUSE: Duration = Duration::from_secs(1);

/// Show commits, gates, drains and holds as they happen
#[derive(Debug, Args)]
#[command(after_help = "It ends with Ctrl-C. When the server is started anew, it comes back by itself.")]
pub(crate) struct Watch {
    /// Also what happened after this event, as far as it is still known
    #[arg(long, value_name = "EVENT")]
    after: Option<u64>,
}

impl Watch {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Fault> {
        let only = session.switch_name();
        let mut last = self.after;
        let mut met = false;
        loop {
            let mut call = Call::get("/v1/events");
            if let Some(last) = last {
                call.headers.push(("last-event-id", last.to_string()));
            }
            let mut reader = Reader::default();
            let outcome = session.client.listen(&call, |bytes| {
                for data in reader.feed(bytes) {
                    let Ok(event) = serde_json::from_str::<Event>(&data) else { continue };
                    last = Some(event.id);
                    if only.is_some_and(|name| name != event.switch) {
                        continue;
                    }
                    say(&if session.json { format!("{data}\n") } else { text(&event) })?;
                }
                Ok(())
            });
            match outcome {
                // It was there before, so it is worth waiting for.
                Err(fault) if fault.code == Code::Unreachable && met => {}
                Err(fault) => return Err(fault),
                Ok(()) => met = true,
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Puts the data of events together from pieces of a stream.
#[derive(Default)]
struct Reader {
    rest: Vec<u8>,
    data: String,
}

impl Reader {
    /// The data of the events that end within this piece.
    fn feed(&mut self, piece: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(piece);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                if !self.data.is_empty() {
                    events.push(std::mem::take(&mut self.data));
                }
            } else if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
        }
        events
    }
}

/// An event for people.
fn text(event: &Event) -> String {
    let head = format!("{}  {}", clock(event.time_ms), event.switch);
    let because =
        |reason: &Option<String>| reason.as_ref().map(|reason| format!("  \"{reason}\"")).unwrap_or_default();
    match &event.happening {
        Happening::Committed { revision, kind, actor, reason, changes, confirm_by_ms } => {
            let kind = if kind == "set" { String::new() } else { format!("  {kind}") };
            let by = confirm_by_ms.map(|by| format!("  until {}", clock(by))).unwrap_or_default();
            let mut text = format!("{head}  revision {revision}{kind}  {actor}{}{by}\n", because(reason));
            for change in changes {
                text.push_str(&format!("          {}\n", figures::change(change)));
            }
            text
        }
        Happening::Gate { passed, actor, results } => {
            let verdict = if *passed { "passed" } else { "refused" };
            let mut text = format!("{head}  gate {verdict}  {actor}\n");
            for server in results.iter().flat_map(|result| &result.servers).filter(|server| !server.healthy) {
                text.push_str(&format!("          {}: {}\n", server.address, server.reason));
            }
            text
        }
        Happening::Drained { receipt } => match &receipt.drain {
            Some(drain) => format!("{head}  revision {}  {}\n", receipt.revision, figures::drain(drain)),
            None => format!("{head}  revision {}  drained\n", receipt.revision),
        },
        Happening::Held { key, actor, reason } => {
            format!("{head}  {key} is held  {actor}{}\n", because(reason))
        }
        Happening::Released { key, actor, waiting } => {
            format!("{head}  {key} is released, {waiting} waited  {actor}\n")
        }
        Happening::StoreFailed { text, remedy } => format!("{head}  not kept: {text}; {remedy}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_put_together_from_pieces() {
        let stream = b"retry: 1000\n\n: alive\n\nid: 1\nevent: held\ndata: {\"a\":\ndata: 1}\n\nid: 2\r\ndata:x\r\n\r\n";
        for size in 1..stream.len() {
            let mut reader = Reader::default();
            let events: Vec<String> = stream.chunks(size).flat_map(|piece| reader.feed(piece)).collect();
            assert_eq!(events, ["{\"a\":1}", "x"], "{size}");
        }
    }
}
