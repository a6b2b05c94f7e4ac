//! `docs/fault-matrix.md`: what was executed, as tables.
//!
//! Owns the document's words and its notation. Every cell is what was seen in the run it is made of.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::expect::{Answer, Logged, Outcome, logged};
use super::run::Seen;
use super::table::{Client, Row, Stage, rows};

const BEGINNING: &str = "\
# The fault matrix

What a client gets when an upstream breaks: each way of breaking, at each stage of a request, for each kind of client.
`cargo xtask faults` makes this page from a run, and `cargo test -p pointsman --test faults` runs every cell and fails
when one of them, or this page, is not true. The settings are nginx's defaults, with `keepalive` for the group and
HTTP/1.1 to it. Each group has two servers: the first breaks, the second is a `backup` that is well.

## What holds everywhere

1. Until the head of an answer is whole, nothing of it has gone to the client. The try has failed, the server is marked
   (`max_fails`), and another server is asked, unless `proxy_next_upstream` forbids it. By default it forbids it after
   an answer that is no HTTP, and for a POST of which anything was sent.
2. A body that is passed on while it comes (`proxy_request_buffering off`) goes to one server at most. A body that is
   sent to another server is sent whole.
3. Once the head has gone to the client there is no other try. An answer that breaks then is cut so that the client
   sees it: too few bytes, no last chunk, or, where only the end of the connection tells the end of the answer, a reset.
4. A connection to a server on which anything went wrong serves no other request.
5. A client that goes is no fault of the server. The server's connection is closed at once.
6. The next request is served, whatever happened. Every cell ends with one.

## How to read it

| in a cell | means |
|---|---|
| `200` | a whole answer with this status |
| `200 cut` | an answer with this status that is visibly not whole |
| `(502, 200)` | `$upstream_status`, where it says more: the status of each server that was tried |
| marked | the broken server is asked no more for `fail_timeout` |
| closed | the client's connection is closed behind the answer, though it was to be kept |
| reused | the connection to the broken server was fine after all, and served the next request |
| log 499 | what the access log says of a client that had gone |
| – | does not arise, or is up to chance |

The clients: GET over HTTP/1.1 and 1.0; HEAD; POST with a length, read first; the same passed on while it comes; POST
in chunks; PUT; two GETs in one write; one that goes as soon as the upstream hangs; one that asks for a WebSocket.
";

/// Where the part begins that a run on nginx gives.
const NGINX_BEGINS: &str = "\n## Where nginx differs\n";

/// The tables of a run on our own program, with all that stands before them.
pub fn matrix(seen: &[Seen]) -> String {
    let mut out = BEGINNING.to_owned();
    let by_place: BTreeMap<(usize, Client), &Outcome> =
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
            // Nobody logs for those who leave, and for HEAD there may be nothing left to go wrong.
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

/// An outcome in the page's notation.
fn cell(outcome: &Outcome, client: Client) -> String {
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
    if matches!(outcome.answer, Answer::Whole(_)) && stays && !outcome.kept {
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

/// The whole page: our own run, and where a run on nginx came out otherwise.
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

/// What came of a cell on nginx, where it is not what came of it on our own program.
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

/// Where a page's tables are not those of a run: the first line of each.
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
