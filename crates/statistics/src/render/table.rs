//! The tables for people, in whatever form.
//!
//! Owns: which columns there are and how a number is written. Must never: know of a form.

use super::readable_key;
use crate::{Counters, OTHER, Snapshot, Summary, SwitchSummary};

/// A table of words.
pub(super) struct Table {
    pub(super) title: String,
    /// The first `words` columns are read from the left, the others are numbers.
    pub(super) words: usize,
    pub(super) heads: Vec<&'static str>,
    pub(super) rows: Vec<Row>,
    /// A note about rows that are not shown.
    pub(super) note: Option<String>,
}

/// One line of a table.
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    /// It belongs to the last row above that is not below another.
    pub(super) below: bool,
}

/// Keys of one switch that are shown: the busiest in the window. Programs get all of them.
const KEYS: usize = 20;
/// Characters of a key that are shown.
const KEY_CHARS: usize = 60;

const NUMBERS: [&str; 11] =
    ["total", "requests", "req/s", "errors", "in flight", "mean", "p50", "p90", "p99", "p99.9", "max"];

/// Returns `average upstream response time: 0.00345 (1234 reqs)`: the mean in seconds over everything since the
/// beginning.
pub(super) fn average(summary: &Summary) -> String {
    let response = &summary.all.response;
    let mean = response.mean_us().map_or_else(|| "-".to_owned(), seconds);
    format!("average upstream response time: {mean} ({} reqs)", response.count())
}

/// Returns a line that explains the tables.
pub(super) fn legend(summary: &Summary) -> String {
    let span = summary.span_ms as f64 / 1_000.0;
    format!(
        "window {}, the last {span:.1} s; times in milliseconds; \"total\" is since the start, {} s ago",
        summary.window.name(),
        summary.age_ms / 1_000
    )
}

/// Returns the table of the groups with their servers, then one for each switch with its keys.
pub(super) fn tables(summary: &Summary, snapshot: &Snapshot) -> Vec<Table> {
    let mut tables = vec![groups(summary, snapshot)];
    tables.extend(summary.switches.iter().map(|switch| keys(summary, snapshot, switch)));
    tables
}

fn groups(summary: &Summary, snapshot: &Snapshot) -> Table {
    let now = snapshot.peers_now();
    let mut rows = Vec::new();
    for group in &summary.groups {
        let state = if group.configured || &*group.name == OTHER { "" } else { "gone" };
        let mut cells = vec![group.name.to_string(), state.to_owned()];
        cells.extend(numbers(summary, &group.totals, &group.window, Some(group.in_flight)));
        rows.push(Row { cells, below: false });
        for peer in &group.peers {
            let state = match now.get(&(&*group.name, &*peer.name)) {
                Some((state, _)) => state.name(),
                None if peer.configured || &*peer.name == OTHER => "",
                None => "gone",
            };
            let mut cells = vec![peer.name.to_string(), state.to_owned()];
            cells.extend(numbers(summary, &peer.totals, &peer.window, Some(peer.in_flight)));
            rows.push(Row { cells, below: true });
        }
    }
    let heads = ["upstream", "state"].into_iter().chain(NUMBERS).collect();
    Table { title: "upstreams".to_owned(), words: 2, heads, rows, note: None }
}

fn keys(summary: &Summary, snapshot: &Snapshot, switch: &SwitchSummary) -> Table {
    let mut title = format!("switch ${}", switch.name);
    if let Some(now) = snapshot.switches.iter().find(|now| now.name == switch.name) {
        title += &format!(": revision {}, keys {}, pending commits {}", now.revision, now.keys, now.pending);
        if now.overdue > 0 {
            title += &format!(" ({} overdue)", now.overdue);
        }
        if now.held_keys > 0 || now.held_requests > 0 {
            title += &format!(", held keys {}, held requests {}", now.held_keys, now.held_requests);
        }
    }
    let mut keys: Vec<_> = switch.keys.iter().collect();
    keys.sort_by_key(|key| (key.key.is_none(), std::cmp::Reverse((key.window.ended, key.totals.ended))));
    let named = keys.iter().take_while(|key| key.key.is_some()).count();
    let note = match named {
        0 if keys.is_empty() => Some("no requests yet".to_owned()),
        _ => (named > KEYS).then(|| format!("{} more keys are not shown", named - KEYS)),
    };
    keys.drain(KEYS.min(named)..named);
    let rows = keys.into_iter().map(|key| {
        let name = key.key.as_deref().map_or_else(|| "(other keys)".to_owned(), short_key);
        let mut cells = vec![name, key.target.to_string()];
        cells.extend(numbers(summary, &key.totals, &key.window, None));
        Row { cells, below: false }
    });
    let numbers = NUMBERS.into_iter().filter(|&head| head != "in flight");
    let heads = ["key", "target"].into_iter().chain(numbers).collect();
    Table { title, words: 2, heads, rows: rows.collect(), note }
}

fn short_key(key: &[u8]) -> String {
    let readable = readable_key(key);
    match readable.char_indices().nth(KEY_CHARS) {
        None if readable.is_empty() => "(empty)".to_owned(),
        None => readable,
        Some((end, _)) => format!("{}…", &readable[..end]),
    }
}

fn numbers(summary: &Summary, totals: &Counters, window: &Counters, in_flight: Option<u64>) -> Vec<String> {
    let times = &window.response;
    let quantile = |q| milliseconds(times.quantile(q).map(|us| us as f64));
    let mut cells = vec![
        totals.ended.to_string(),
        window.ended.to_string(),
        format!("{:.1}", summary.per_second(window.ended)),
        window.errors.to_string(),
    ];
    cells.extend(in_flight.map(|count| count.to_string()));
    cells.extend([
        milliseconds(times.mean_us()),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(0.999),
        milliseconds((times.count() > 0).then(|| times.max_us() as f64)),
    ]);
    cells
}

/// Formats milliseconds with their significant digits.
fn milliseconds(us: Option<f64>) -> String {
    match us.map(|us| us / 1_000.0) {
        None => "-".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.3}"),
        Some(ms) if ms < 1_000.0 => format!("{ms:.1}"),
        Some(ms) => format!("{ms:.0}"),
    }
}

/// Formats seconds to the microsecond, without trailing zeros.
fn seconds(us: f64) -> String {
    let text = format!("{:.6}", us / 1e6);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
