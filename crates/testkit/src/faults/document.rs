//! `docs/fault-matrix.md`: what was executed, as tables.
//!
//! Owns the document's words and its notation. Every cell shows a result of the run.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::expect::{Answer, CellOutcome, Logged, logged};
use super::run::Seen;
use super::table::{Client, Row, Stage, rows};

const BEGINNING: &str = "\
# The fault matrix

The result of a client when an upstream breaks: each fault, at each stage of a request, for each kind of client. `cargo
xtask faults` generates this page from a run; `cargo test -p pointsman --test faults` runs every cell and fails if one of
them, or this page, is wrong. The settings are nginx's defaults, with `keepalive` for the group and HTTP/1.1 to it. Each
group has two servers: the first breaks, the second is a `backup` that works.

## Rules

1. Until the head of an answer is complete, nothing of it has been sent to the client. The try has failed, the server is
   marked (`max_fails`), and another server is tried, unless `proxy_next_upstream` forbids it. By default it forbids it
   after an answer that is not HTTP, and for a POST that was sent in part or whole.
2. A body that is passed on while it arrives (`proxy_request_buffering off`) is sent to one server at most. A body that is
   sent to another server is sent completely.
3. Once the head has been sent to the client there is no other try. An answer that breaks then is cut so that the client
   notices: too few bytes, no last chunk, or, if only the end of the connection ends the answer, a reset. Over HTTP/2 its
   stream is reset, and the connection serves on.
4. A connection to a server on which anything went wrong serves no other request.
5. A client that leaves is no fault of the server. The connection to the server is closed at once.
6. The next request is served, whatever happened. Every cell ends with one.

## Notation

| in a cell | means |
|---|---|
| `200` | a complete answer with this status |
| `200 cut` | a visibly incomplete answer with this status |
| `(502, 200)` | `$upstream_status`, if it says more: the status of each server that was tried |
| marked | the broken server is not tried again for `fail_timeout` |
| closed | the client's connection is closed after the answer, though it should be kept |
| reused | the connection to the broken server was still good, and served the next request |
| log 499 | the status in the access log of a client that had left |
| – | impossible, or random |

The clients: GET over HTTP/1.1 and 1.0; HEAD; POST with a length, read first; the same passed on while it arrives; POST
in chunks; PUT; two GETs in one write; one that leaves as soon as the upstream hangs; one that opens a WebSocket; GET and
POST over HTTP/2 (h2), whose connection is asked again after a cut answer, too.
";

/// The heading of the part that comes from a run on nginx.
const NGINX_BEGINS: &str = "\n## Where nginx differs\n";

/// Returns the tables of a run on our own program, with the introduction.
pub fn matrix(seen: &[Seen]) -> String {
    let mut out = BEGINNING.to_owned();
    let by_place: BTreeMap<(usize, Client), &CellOutcome> =
        seen.iter().filter_map(|s| Some(((place(&s.cell.row)?, s.cell.client), &s.outcome))).collect();
    for stage in Stage::ALL {
        let places: Vec<(usize, Row)> =
            rows().into_iter().enumerate().filter(|(_, row)| row.stage == stage).collect();
        let clients: Vec<Client> = Client::ALL
            .into_iter()
            .filter(|client| places.iter().any(|(n, _)| by_place.contains_key(&(*n, *client))))
            .collect();
        let _ = writeln!(out, "\n## {}\n", stage.title());
        if clients.is_empty() {
            continue;
        }
        let titles: Vec<&str> = clients.iter().map(|client| client.title()).collect();
        let _ = writeln!(out, "| fault | {} | in the error log |", titles.join(" | "));
        let _ = writeln!(out, "|---{}|---|", "|---".repeat(clients.len()));
        for (number, row) in &places {
            let told: Vec<String> = clients
                .iter()
                .map(|client| {
                    by_place.get(&(*number, *client)).map_or("–".to_owned(), |o| cell(o, *client))
                })
                .collect();
            // Nothing is logged for clients that leave, and for HEAD there may be no error.
            let usual = clients.iter().find(|client| !matches!(client, Client::Aborts | Client::Head));
            let words = match usual.map_or(Logged::Nothing, |client| logged(row, *client)) {
                Logged::Words(words) => format!("`{words}`"),
                Logged::Nothing | Logged::Anything => String::new(),
            };
            let _ = writeln!(out, "| {} | {} | {words} |", row.title(), told.join(" | "));
        }
    }
    out
}

fn place(row: &Row) -> Option<usize> {
    rows().iter().position(|other| other == row)
}

/// Returns an outcome in the page's notation.
fn cell(outcome: &CellOutcome, client: Client) -> String {
    let (mut out, status) = match outcome.answer {
        Answer::Whole(status) => (status.to_string(), status),
        Answer::Cut(status) => (format!("{status} cut"), status),
        Answer::Nothing => ("nothing".to_owned(), 0),
        Answer::Gone(status) => (format!("log {status}"), status),
        Answer::Wrong => ("**wrong**".to_owned(), 0),
    };
    if outcome.tries != status.to_string() && !outcome.tries.is_empty() {
        let _ = write!(out, " ({})", outcome.tries);
    }
    let stays = !matches!(client, Client::Get10 | Client::Aborts) && status != 101;
    let goes_on = matches!(outcome.answer, Answer::Whole(_))
        || client.is_http2() && matches!(outcome.answer, Answer::Cut(_));
    if goes_on && stays && !outcome.kept {
        out.push_str(", closed");
    }
    if outcome.marked {
        out.push_str(", marked");
    }
    if outcome.reused {
        out.push_str(", reused");
    }
    out
}

/// Returns the whole page: our own run, and where a run on nginx came out otherwise.
pub fn document(own: &[Seen], nginx: &[Seen], version: &str) -> String {
    let mut out = matrix(own);
    out.push_str(NGINX_BEGINS);
    let alike = |one: &&Seen| other(one, nginx).is_some_and(|theirs| theirs.outcome == one.outcome);
    let _ = writeln!(
        out,
        "\nThe same cells on {version}: {} of {} come out alike, and these do not.\n\n\
         | stage | fault | clients | pointsman | nginx |\n|---|---|---|---|---|",
        own.iter().filter(alike).count(),
        own.len()
    );
    // Neighbours that differ in the same way share a line.
    let mut lines: Vec<(Row, String, String, Vec<&str>)> = Vec::new();
    for one in own.iter().filter(|one| !alike(one)) {
        let Some(theirs) = other(one, nginx) else { continue };
        let client = one.cell.client;
        let (ours, theirs) = (cell(&one.outcome, client), on_nginx(one, theirs));
        let row = one.cell.row;
        match lines.iter_mut().find(|line| line.0 == row && line.1 == ours && line.2 == theirs) {
            Some((.., clients)) => clients.push(client.title()),
            None => lines.push((row, ours, theirs, vec![client.title()])),
        }
    }
    for (row, ours, theirs, clients) in lines {
        let (stage, clients) = (row.stage.name(), clients.join(", "));
        let _ = writeln!(out, "| {stage} | {} | {clients} | {ours} | {theirs} |", row.title());
    }
    out
}

/// Returns the result of a cell on nginx, if it differs from ours.
fn on_nginx(own: &Seen, theirs: &Seen) -> String {
    if theirs.outcome.answer == Answer::Wrong {
        let why = theirs.faults.first().map_or("", |why| why.lines().next().unwrap_or_default());
        return why.replace('|', "\\|");
    }
    let mut told = cell(&theirs.outcome, own.cell.client);
    if let (Answer::Cut(_), Answer::Whole(_)) = (own.outcome.answer, theirs.outcome.answer) {
        told.push_str(", and it looks complete");
    }
    told
}

fn other<'a>(one: &Seen, others: &'a [Seen]) -> Option<&'a Seen> {
    others.iter().find(|other| other.cell == one.cell)
}

/// Returns the first line of a page's tables that differs from those of a run, and the line of the run.
pub fn difference(page: &str, seen: &[Seen]) -> Option<(String, String)> {
    let own = page.split(NGINX_BEGINS).next().unwrap_or_default();
    let now = matrix(seen);
    let (mut old, mut new) = (own.lines(), now.lines());
    loop {
        match (old.next(), new.next()) {
            (None, None) => return None,
            (one, other) if one == other => {}
            (one, other) => {
                return Some((one.unwrap_or_default().to_owned(), other.unwrap_or_default().to_owned()));
            }
        }
    }
}
