//! The progress of a drain on a terminal.
//!
//! Owns the line that is written over itself. Must never decide how an order ends: the receipt says it.

use crate::client::Call;
use crate::error::{Error, say, say_raw};
use crate::format;
use crate::session::Session;
use control::api::types::{Drain, DrainState, Outcome, Receipt};
use std::time::{Duration, Instant};

/// Between two looks at the receipt.
const EACH: Duration = Duration::from_millis(200);
/// To the beginning of the line, and an empty line from there on.
const OVER: &str = "\r\x1b[K";

/// Returns true if a receipt's drain goes on.
pub(crate) fn is_draining(receipt: &Receipt) -> bool {
    let is_commit = matches!(receipt.outcome, Outcome::Committed | Outcome::Repeated);
    is_commit && receipt.drain.as_ref().is_some_and(|drain| drain.state == DrainState::Draining)
}

/// Shows a commit's drain until it has ended or the time is over. Returns the receipt as it is then.
pub(crate) fn follow(session: &Session, mut receipt: Receipt, limit: Duration) -> Result<Receipt, Error> {
    let path =
        format!("/v1/switches/{}/receipts/{}", crate::client::encoded(&receipt.switch), receipt.revision);
    // Interrupted here, the program ends without a word.
    let hint = format!("pointsman wait {}{}", session.switch_option(&receipt.switch), receipt.revision);
    say(&format!("  Ctrl-C ends the waiting, not the switch; {hint} waits again\n"))?;
    let began = Instant::now();
    while is_draining(&receipt) && began.elapsed() < limit {
        let drain = receipt.drain.take().unwrap_or_default();
        say_raw(&format!("{OVER}{}", line(&drain, began.elapsed())))?;
        std::thread::sleep(EACH);
        receipt = session.client.ask::<Receipt>(&Call::get(&*path))?.0;
    }
    say_raw(OVER)?;
    Ok(receipt)
}

/// `draining: 3 left and 2 streams, 2.1 s, oldest GET /export 41 s`.
fn line(drain: &Drain, after: Duration) -> String {
    let streams = match drain.streams {
        0 => String::new(),
        streams => format!(" and {}", format::count(streams, "stream")),
    };
    let oldest = drain.oldest.as_ref().map(|one| {
        let request = switch::visible(&one.request);
        format!(", oldest {request} {}", age(Duration::from_millis(one.age_ms)))
    });
    let oldest = oldest.unwrap_or_default();
    let elsewhere =
        if drain.elsewhere { ", plus requests that another process is still serving" } else { "" };
    format!("draining: {} left{streams}{elsewhere}, {:.1} s{oldest}", drain.in_flight, after.as_secs_f64())
}

/// `2.1 s`, `41 s`.
fn age(age: Duration) -> String {
    let seconds = age.as_secs_f64();
    if seconds < 10.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::api::types::OldestRequest;

    #[test]
    fn the_line_counts_what_is_left() {
        let drain = Drain { in_flight: 3, ..Drain::default() };
        assert_eq!(line(&drain, Duration::from_millis(2_140)), "draining: 3 left, 2.1 s");
        let oldest = |request: &str, age_ms| Some(OldestRequest { request: request.into(), age_ms });
        let known = Drain { oldest: oldest("GET /export", 41_200), ..drain.clone() };
        assert_eq!(
            line(&known, Duration::from_millis(2_140)),
            "draining: 3 left, 2.1 s, oldest GET /export 41 s"
        );
        let hidden = Drain { oldest: oldest("GET /\x1b[2J", 900), ..drain.clone() };
        assert_eq!(line(&hidden, Duration::ZERO), "draining: 3 left, 0.0 s, oldest GET /\\u{1b}[2J 0.9 s");
        let drain = Drain { streams: 1, ..drain };
        assert_eq!(line(&drain, Duration::ZERO), "draining: 3 left and 1 stream, 0.0 s");
        let receipt = |state| {
            let drain = Some(Drain { state, ..Drain::default() });
            Receipt { drain, ..Receipt::default() }
        };
        assert!(is_draining(&receipt(DrainState::Draining)) && !is_draining(&receipt(DrainState::Drained)));
        let planned = Receipt { outcome: Outcome::WouldCommit, ..receipt(DrainState::Draining) };
        assert!(!is_draining(&planned) && !is_draining(&Receipt::default()));
    }
}
