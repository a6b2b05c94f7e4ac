//! Numbers and names as people read them: times, rates, percentages, routes; and tables.
//!
//! Owns the units and their rounding. Must never be parsed: programs take `--json`.

use comfy_table::{CellAlignment, ContentArrangement};
use control::api::types::{
    AnswerCounts, Drain, DrainState, Hold, HoldState, HoldThen, Horizon, HorizonState, KeyChange, Overdue,
    StoreFault, Subject,
};
use engine::modules::switch::GROUPS_NAME;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::borrow::Cow;

/// Formats a time in microseconds with three significant digits.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{} ms", digits(us as f64 / 1e3)),
        1_000_000..120_000_000 => format!("{} s", digits(us as f64 / 1e6)),
        _ => format!("{} min", digits(us as f64 / 60e6)),
    }
}

/// Formats a time that may be unknown.
pub(crate) fn micros_if(us: Option<u64>) -> String {
    us.map_or_else(|| "-".into(), micros)
}

/// Formats a number per second.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second == 0.0 { "0".into() } else { digits(per_second) }
}

/// Formats a part of a whole in percent; a dash if there is no whole.
pub(crate) fn share(part: u64, whole: u64) -> String {
    match (part, whole) {
        (_, 0) => "-".into(),
        (0, _) => "0 %".into(),
        _ => format!("{} %", digits(part as f64 * 100.0 / whole as f64)),
    }
}

/// Formats three significant digits, or all that are before the point.
fn digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// Formats a point in time in the reader's time zone, with its date and offset.
pub(crate) fn moment(ms: u64) -> String {
    written(ms, "%Y-%m-%d %H:%M:%S%:z")
}

/// Formats a point in time in the reader's time zone.
pub(crate) fn clock(ms: u64) -> String {
    written(ms, "%H:%M:%S")
}

fn written(ms: u64, format: &str) -> String {
    match i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
        Some(at) => at.to_zoned(TimeZone::system()).strftime(format).to_string(),
        None => "-".into(),
    }
}

/// Formats a number of things.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Formats a key; the empty one as quotes.
pub(crate) fn key_text(key: &str) -> Cow<'_, str> {
    switch::shown_key(key)
}

/// Formats a hold, without its key.
pub(crate) fn hold(hold: &Hold) -> String {
    let state = match hold.state {
        HoldState::Held if hold.of_order => "held for an order",
        HoldState::Held => "held",
        HoldState::Refusing => "refused since its hold has expired, held",
        HoldState::Releasing => "on its way after its release, held",
        HoldState::Released => "released, held",
    };
    let since = clock(hold.since_ms);
    let mut text =
        format!("{state} since {since} by {}, {} of {} waiting", hold.actor, hold.waiting, hold.max);
    text.push_str(&elsewhere(hold.waiting_elsewhere, hold.partial));
    if hold.rejected > 0 {
        text.push_str(&format!(", {} refused", hold.rejected));
    }
    if let (Some(until_ms), HoldState::Held) = (hold.until_ms, hold.state) {
        let then = match hold.then {
            Some(HoldThen::Release) => "release",
            _ => "refuse",
        };
        text.push_str(&format!(", until {}, then {then}", clock(until_ms)));
    }
    if let Some(reason) = &hold.reason {
        text.push_str(&format!("  \"{reason}\""));
    }
    text
}

/// Formats how many of those that were counted are in another process of the server.
pub(crate) fn elsewhere(others: u64, is_partial: bool) -> String {
    match (others, is_partial) {
        (0, false) => String::new(),
        (others, false) => format!(", {others} of them in another process"),
        (0, true) => " in this process".to_owned(),
        (others, true) => format!(", {others} of them in another process, others not counted"),
    }
}

/// Formats a key with its route before and after; a key without an entry has the default, which may be known.
pub(crate) fn sides(key: &str, from: &Option<String>, to: &Option<String>, default: Option<&str>) -> String {
    let side = |route: &Option<String>| match (route, default) {
        (Some(route), _) => route.clone(),
        (None, Some(default)) => format!("default ({default})"),
        (None, None) => "default".to_owned(),
    };
    format!("{}: {} -> {}", key_text(key), side(from), side(to))
}

/// Formats a change of anything but a key. `None` for what people have not changed: the default as the configuration has
/// it, and the one that a table takes down with its first order, which was there before.
pub(crate) fn subject(change: &Subject) -> Option<String> {
    // That a group's name is free again is told by its removal.
    if change.subject == "forgotten" {
        return None;
    }
    if change.text.is_some() {
        return change.text.clone();
    }
    let is_new = change.subject != "default" || change.name.is_empty() && change.from.is_some();
    let what = format!("{} {}", change.subject, change.name);
    let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "none".into());
    is_new.then(|| format!("{} {} -> {}", what.trim(), side(&change.from), side(&change.to)))
}

/// Formats a key with its route before and after, and with its traffic where a plan knows it.
pub(crate) fn change(change: &KeyChange, default: Option<&str>) -> String {
    let mut text = sides(&change.key, &change.from, &change.to, default);
    if let Some(per_second) = change.requests_per_second {
        text.push_str(&format!(", now {} requests/s", rate(per_second)));
    }
    if let Some(in_flight) = change.in_flight {
        text.push_str(&format!(", {in_flight} in flight"));
    }
    if let Some(streams) = change.streams.filter(|streams| *streams > 0) {
        text.push_str(&format!(", {}", count(streams, "stream")));
    }
    text
}

/// Formats the progress of a drain.
pub(crate) fn drain(drain: &Drain) -> String {
    let others = match drain.in_other_processes {
        0 => String::new(),
        others => format!(", {others} in another process"),
    };
    let left = match (drain.in_flight, drain.streams) {
        (0, 0) => "empty".to_owned(),
        (requests, 0) => format!("{} in flight", count(requests, "request")),
        (0, streams) => format!("{} open", count(streams, "stream")),
        (requests, streams) => {
            format!("{} in flight, {} open", count(requests, "request"), count(streams, "stream"))
        }
    };
    let mut text = match drain.state {
        _ if drain.overtaken_by.is_some() => {
            let newer = drain.overtaken_by.unwrap_or_default();
            format!("old side: wait ended: revision {newer} changed these keys")
        }
        DrainState::Drained => match drain.last_old_us {
            Some(us) => format!("old side: empty after {}", micros(us)),
            None => "old side: empty".to_owned(),
        },
        DrainState::Draining if drain.elsewhere && drain.in_flight + drain.streams == 0 => {
            "old side: another process is still serving requests, which are not counted here".to_owned()
        }
        DrainState::Draining if drain.elsewhere => {
            format!("old side: {left}{others}, plus requests that another process is still serving")
        }
        DrainState::Draining => format!("old side: {left}{others}"),
        DrainState::GivenUp => format!("old side: {left}{others}, no longer watched"),
    };
    if drain.state == DrainState::Drained && drain.streams > 0 {
        text.push_str(&format!("; {} kept open", count(drain.streams, "stream")));
    }
    text.push_str(&match drain.first_new_us {
        Some(us) if drain.served_new > 0 => format!(
            "; new side: first request after {}, {} served within {}",
            micros(us),
            drain.served_new,
            micros(drain.span_us)
        ),
        Some(us) => format!("; new side: first request after {}", micros(us)),
        None => "; new side: no request yet".to_owned(),
    });
    if drain.failed_new + drain.failed_old > 0 {
        text.push_str(&format!("; failed: {} new, {} old", drain.failed_new, drain.failed_old));
    }
    text
}

/// Returns true if requests were moved, as far as is known.
pub(crate) fn has_moved(drain: &Drain) -> bool {
    let left = drain.in_flight + drain.streams + drain.failed_new + drain.failed_old;
    left > 0 || drain.first_new_us.is_some() || drain.last_old_us.is_some()
}

/// Formats the fault of a switch's store as a line, if it has one.
pub(crate) fn store_fault(switch: &str, fault: Option<&StoreFault>) -> String {
    fault.map_or_else(String::new, |fault| format!("{switch}: store: {}; {}\n", fault.text, fault.remedy))
}

/// Does the same for what orders say of servers.
pub(crate) fn groups_fault(fault: Option<&StoreFault>) -> String {
    store_fault(GROUPS_NAME, fault)
}

/// Formats a commit that was not confirmed in time and stays.
pub(crate) fn overdue(revision: u64, overdue: &Overdue, option: &str) -> String {
    let mut text = format!(
        "revision {revision} was not confirmed in time, and stays since {}: the side that it would go back to fails; keep it: \
         pointsman confirm {option}{revision}",
        clock(overdue.since_ms)
    );
    overdue.answers.iter().for_each(|answer| text.push_str(&format!("\n    {answer}")));
    text
}

/// Formats what was answered on both sides of a switch, a line for each target. `option` names the switch in commands.
pub(crate) fn horizon(horizon: &Horizon, revision: u64, option: &str) -> Vec<String> {
    let (span, until) = (micros(horizon.span_us), clock(horizon.until_ms));
    let watching = horizon.state == HorizonState::Watching;
    let is_new = watching && horizon.targets.iter().all(|target| target.after.all().0 == 0);
    let head = match (horizon.state, &horizon.cut_short) {
        _ if is_new => format!("answers are counted until {until}: pointsman receipt {option}{revision}"),
        (HorizonState::Watching, _) => format!("in {span} after the switch (watching until {until}):"),
        (HorizonState::CutShort, Some(why)) => {
            format!("in {span} after the switch (counted no longer: {why}):")
        }
        _ => format!("in {span} after the switch:"),
    };
    let target = |target: &control::api::types::TargetAnswers| {
        let (before, after) = (answers(&target.before), answers(&target.after));
        format!("  {}: {after}; in the minute before: {before}", target.target)
    };
    let mut lines = vec![head];
    lines.extend(horizon.targets.iter().filter(|_| !is_new).map(target));
    if horizon.old.all().0 > 0 {
        lines.push(format!("  begun before the switch: {}", answers(&horizon.old)));
    }
    lines
}

/// Formats counts of answers: `500 requests, 40 failed, p50 3.00 ms, p99 9.00 ms; 2 streams`.
fn answers(counts: &AnswerCounts) -> String {
    let part = |number: u64, failed: u64, what: &str| match failed {
        0 => count(number, what),
        failed => format!("{}, {failed} failed", count(number, what)),
    };
    let mut parts = Vec::new();
    if counts.requests > 0 {
        let mut text = part(counts.requests, counts.failed, "request");
        if let (Some(p50), Some(p99)) = (counts.p50_us, counts.p99_us) {
            text.push_str(&format!(", p50 {}, p99 {}", micros(p50), micros(p99)));
        }
        parts.push(text);
    }
    if counts.streams > 0 {
        parts.push(part(counts.streams, counts.failed_streams, "stream"));
    }
    if parts.is_empty() { "no request".to_owned() } else { parts.join(" and ") }
}

/// Formats the deadline of a commit that awaits its confirmation. `option` names the switch in the command.
pub(crate) fn pending(revision: u64, by_ms: u64, option: &str) -> String {
    let at = clock(by_ms);
    format!("revision {revision} reverts at {at} unless confirmed: pointsman confirm {option}{revision}")
}

/// Columns under a head. A column whose head begins with `>` is aligned to the right.
pub(crate) struct Table {
    table: comfy_table::Table,
}

impl Table {
    pub(crate) fn new(heads: &[&str]) -> Table {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(heads.iter().map(|head| head.trim_start_matches('>')));
        for (column, head) in table.column_iter_mut().zip(heads) {
            column.set_padding((0, 2));
            if head.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Table { table }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells.into_iter().collect::<Vec<String>>());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns the lines, the head first, none with blanks at its end.
    pub(crate) fn text(&self) -> String {
        self.table.trim_fmt() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::api::types::TargetAnswers;

    #[test]
    fn numbers_have_three_digits() {
        for (us, text) in [
            (0, "0 us"),
            (999, "999 us"),
            (1_000, "1.00 ms"),
            (12_345, "12.3 ms"),
            (123_456, "123 ms"),
            (9_999, "10.0 ms"),
            (1_234_567, "1.23 s"),
            (180_000_000, "3.00 min"),
        ] {
            assert_eq!(micros(us), text);
        }
        assert_eq!((share(0, 0), share(0, 9), share(1, 3)), ("-".into(), "0 %".into(), "33.3 %".into()));
        assert_eq!((rate(0.0), rate(0.25), rate(1234.5)), ("0".into(), "0.25".into(), "1234".into()));
    }

    #[test]
    fn tables_are_aligned() {
        let mut table = Table::new(&["key", ">n", "route"]);
        table.row(["a".into(), "1".into(), "blue".into()]);
        table.row(["long.example".into(), "100".into(), String::new()]);
        assert_eq!(table.text(), "key             n  route\na               1  blue\nlong.example  100\n");
    }

    #[test]
    fn a_change_shows_both_sides() {
        let there = KeyChange { key: "a".into(), to: Some("green".into()), ..KeyChange::default() };
        assert_eq!(change(&there, None), "a: default -> green");
        assert_eq!(change(&there, Some("blue")), "a: default (blue) -> green");
        let planned = KeyChange { requests_per_second: Some(12.0), in_flight: Some(3), ..there };
        assert_eq!(change(&planned, None), "a: default -> green, now 12.0 requests/s, 3 in flight");
    }

    #[test]
    fn a_drain_hides_no_failure() {
        let seen = Drain {
            state: DrainState::Drained,
            first_new_us: Some(150),
            last_old_us: Some(2_000_000),
            served_new: 7,
            failed_new: 1,
            span_us: 2_500_000,
            ..Drain::default()
        };
        assert_eq!(
            drain(&seen),
            "old side: empty after 2.00 s; new side: first request after 150 us, 7 served within 2.50 s; \
             failed: 1 new, 0 old"
        );
    }

    #[test]
    fn promise_8_the_span_of_counted_answers_is_always_said() {
        let green = TargetAnswers {
            target: "green".into(),
            after: AnswerCounts {
                requests: 500,
                failed: 40,
                streams: 1,
                p50_us: Some(3_000),
                p99_us: Some(9_000),
                ..AnswerCounts::default()
            },
            ..TargetAnswers::default()
        };
        let counted = Horizon { span_us: 2_500_000, targets: vec![green], ..Horizon::default() };
        let until = clock(0);
        let lines = horizon(&counted, 7, "");
        assert_eq!(lines[0], format!("in 2.50 s after the switch (watching until {until}):"));
        assert_eq!(
            lines[1],
            "  green: 500 requests, 40 failed, p50 3.00 ms, p99 9.00 ms and 1 stream; in the minute before: \
             no request"
        );
        let complete = Horizon { state: HorizonState::Complete, ..counted.clone() };
        assert_eq!(horizon(&complete, 7, "")[0], "in 2.50 s after the switch:");
        let why = Some("revision 9 changed its keys".to_owned());
        let cut = Horizon { state: HorizonState::CutShort, cut_short: why, ..counted };
        assert_eq!(
            horizon(&cut, 7, "")[0],
            "in 2.50 s after the switch (counted no longer: revision 9 changed its keys):"
        );
        assert_eq!(
            horizon(&Horizon::default(), 7, "--switch live "),
            [format!("answers are counted until {until}: pointsman receipt --switch live 7")]
        );
    }
}
