//! `pointsman watch`: events as they happen.
//!
//! Owns the verb's options and the parsing of server-sent events (WHATWG HTML, "Server-sent events"). Must never show
//! an event twice: when it reconnects it names the last one that it saw.

use crate::client::Call;
use crate::error::{Code, Error, say, say_json};
use crate::format::{self, clock};
use crate::session::Session;
use clap::Args;
use control::api::types::{Event, Happening, HoldThen, Switch};
use std::time::Duration;

/// Between two attempts to reconnect.
const PAUSE: Duration = Duration::from_secs(1);

/// Show commits, gates, drains and holds as they happen
#[derive(Debug, Args)]
#[command(after_help = "Ctrl-C ends it. When the server restarts, it reconnects.")]
pub(crate) struct WatchArgs {
    /// Also show earlier events, from the one after this on, as far as the server still has them
    #[arg(long, value_name = "EVENT")]
    after: Option<u64>,
}

impl WatchArgs {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let only = session.switch_name();
        let mut last = self.after;
        let mut met = false;
        loop {
            let mut call = Call::get("/v1/events");
            if let Some(last) = last {
                call.headers.push(("last-event-id", last.to_string()));
            }
            // The defaults of the configuration that the server has now: a reload ends the stream.
            let switches = if session.json { Vec::new() } else { session.switches().unwrap_or_default() };
            let mut reader = Reader::default();
            let outcome = session.client.listen(&call, |bytes| {
                let pieces = reader.feed(bytes);
                last = reader.id.or(last);
                for data in pieces {
                    let Ok(event) = serde_json::from_str::<Event>(&data) else { continue };
                    last = Some(event.id);
                    if only.is_some_and(|name| name != event.switch) {
                        continue;
                    }
                    if session.json { say_json(data.as_bytes()) } else { say(&text(&event, &switches)) }?;
                }
                Ok(())
            });
            match outcome {
                // It answered before, so it is worth waiting for; so is the place of a stream that has just ended.
                Err(fault) if met && (fault.code == Code::Unreachable || is_full(&fault)) => {}
                Err(fault) => return Err(fault),
                Ok(()) => met = true,
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Returns true if the server has no place for the stream just now.
fn is_full(fault: &Error) -> bool {
    matches!(&*fault.problem.code, "busy" | "too_many_calls")
}

/// Assembles the data of events from pieces of a stream.
#[derive(Default)]
struct Reader {
    rest: Vec<u8>,
    data: String,
    /// The number of what is being read.
    read: Option<u64>,
    /// The number of what was read last, also without an event: what follows it has not been seen.
    id: Option<u64>,
}

impl Reader {
    /// Returns the data of the events that end within this piece.
    fn feed(&mut self, piece: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(piece);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                self.id = self.read.or(self.id);
                if !self.data.is_empty() {
                    events.push(std::mem::take(&mut self.data));
                }
            } else if let Some(id) = line.strip_prefix("id:") {
                self.read = id.trim().parse().ok();
            } else if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
        }
        events
    }
}

/// Returns the lines of an event.
fn text(event: &Event, switches: &[Switch]) -> String {
    let option = if switches.len() > 1 { format!("--switch {} ", event.switch) } else { String::new() };
    let option = option.as_str();
    let head = format!("{}  {}", clock(event.time_ms), event.switch);
    let because =
        |reason: &Option<String>| reason.as_ref().map(|reason| format!("  \"{reason}\"")).unwrap_or_default();
    match &event.happening {
        Happening::Committed { revision, kind, actor, reason, changes, servers, confirm_by_ms } => {
            let kind = if kind == "set" { String::new() } else { format!("  {kind}") };
            let by = confirm_by_ms
                .map(|by| format!("  reverts at {} unless confirmed", clock(by)))
                .unwrap_or_default();
            let mut text = format!("{head}  revision {revision}{kind}  {actor}{}{by}\n", because(reason));
            let switch = switches.iter().find(|switch| switch.name == event.switch);
            let default = switch.map(|switch| switch.default.as_str());
            for server in servers {
                text.push_str(&format!("          {}\n", server.change));
            }
            for change in changes {
                text.push_str(&format!("          {}\n", format::change(change, default)));
            }
            text
        }
        Happening::Gate { passed, actor, results } => {
            let verdict = if *passed { "passed" } else { "refused" };
            let targets: Vec<&str> = results.iter().map(|result| result.target.as_str()).collect();
            let mut text = format!("{head}  gate {verdict} for {}  {actor}\n", targets.join(", "));
            for server in results.iter().flat_map(|result| &result.servers).filter(|server| !server.healthy) {
                text.push_str(&format!("          {}: {}\n", server.address, server.reason));
            }
            text
        }
        Happening::Unconfirmed { revision, left_ms, .. } => {
            let left_s = left_ms.div_ceil(1_000);
            format!("{head}  revision {revision} reverts in {left_s} s unless confirmed\n")
        }
        Happening::Overdue { revision, results } => {
            let mut text = format!("{head}  revision {revision} was not confirmed in time, and stays\n");
            for server in results.iter().flat_map(|result| &result.servers) {
                text.push_str(&format!("          {}: {}\n", server.address, server.reason));
            }
            text
        }
        Happening::Drained { receipt } => {
            let drain = receipt.drain.as_ref().map_or_else(|| "drained".to_owned(), format::drain);
            format!("{head}  revision {}  {drain}\n", receipt.revision)
        }
        Happening::Receipt { receipt } => {
            let counted =
                receipt.horizon.iter().flat_map(|one| format::horizon(one, receipt.revision, option));
            let mut lines = counted.map(|line| format!("{line}\n          "));
            let first = lines.next().unwrap_or_default();
            let text = lines.fold(first, |text, line| text + &line);
            format!("{head}  revision {}  {}\n", receipt.revision, text.trim_end())
        }
        Happening::Held { key, actor, reason, .. } => {
            format!("{head}  {} held  {actor}{}\n", format::key_text(key), because(reason))
        }
        Happening::StillHeld { key, actor, since_ms, waiting, rejected } => format!(
            "{head}  {} still held since {}, {waiting} waiting, {rejected} refused  {actor}\n",
            format::key_text(key),
            format::clock(*since_ms)
        ),
        Happening::HoldExpired { key, actor, then, waiting } => {
            let then = match then {
                HoldThen::Refuse => "requests are refused",
                HoldThen::Release => "released",
            };
            format!("{head}  hold of {} expired, {then}, {waiting} waiting  {actor}\n", format::key_text(key))
        }
        Happening::Released { key, actor, reason, waiting } => {
            let key = format::key_text(key);
            format!("{head}  {key} released, {waiting} waiting  {actor}{}\n", because(reason))
        }
        Happening::Health { group, group_state, server, to, check, reason, .. } => {
            format!("{head}  {group} is {group_state}: {server} is {to} ({check}: {reason})\n")
        }
        Happening::StoreFailed { text, remedy } => format!("{head}  store: {text}; {remedy}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_assembled_from_pieces() {
        let stream = b"retry: 1000\n\n: alive\n\nid: 1\nevent: held\ndata: {\"a\":\ndata: 1}\n\nid: 2\r\ndata:x\r\n\r\n";
        for size in 1..stream.len() {
            let mut reader = Reader::default();
            let events: Vec<String> = stream.chunks(size).flat_map(|piece| reader.feed(piece)).collect();
            assert_eq!(events, ["{\"a\":1}", "x"], "{size}");
        }
    }

    #[test]
    fn promise_13_the_place_in_the_stream_is_known_before_the_first_event() {
        let mut reader = Reader::default();
        assert!(reader.feed(b"id: 7\nretry: 1000\n\n").is_empty());
        assert_eq!(reader.id, Some(7));
        // Of an event that has not come to its end nothing was seen.
        assert!(reader.feed(b"id: 8\nevent: held\ndata: {}\n").is_empty());
        assert_eq!(reader.id, Some(7));
        assert_eq!(reader.feed(b"\n"), ["{}"]);
        assert_eq!(reader.id, Some(8));
    }
}
