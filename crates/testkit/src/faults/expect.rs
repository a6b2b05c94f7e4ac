//! The expected result of a cell, by a few principles:
//!
//! 1. Until the answer's head is whole, nothing of it has gone to the client: the try has failed, its server is marked,
//!    and another one is asked, unless `proxy_next_upstream` forbids it (by default an answer that is no HTTP, and a
//!    request that must not be sent twice, once any of it was sent).
//! 2. A body that was passed on while it came is sent to one server at most.
//! 3. Once the head has gone to the client there is no other try. An answer that breaks then is cut so that the client
//!    sees it, and its connection is closed.
//! 4. A connection on which anything was wrong serves no other request. Over HTTP/2 that is the stream alone.
//! 5. A client that goes is no fault of the server; the server's connection is closed at once.
//! 6. Whatever happened, the next request is served.

use super::table::{Cell, Client, Fault, Framing, Row, Stage};

/// The client's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A complete answer.
    Whole(u16),
    /// A visibly incomplete answer.
    Cut(u16),
    /// The connection ended without an answer.
    Nothing,
    /// The client had left; this status is in the access log.
    Gone(u16),
    /// An impossible result.
    Wrong,
}

/// The result of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellOutcome {
    /// The client's result.
    pub answer: Answer,
    /// `$upstream_status`: one for each server that was tried; empty if there was none.
    pub tries: String,
    /// The broken server is asked no more.
    pub marked: bool,
    /// The client's connection took another request.
    pub kept: bool,
    /// So did the connection to the broken server.
    pub reused: bool,
}

/// The expected lines of the error log about a cell's request, from `warn` up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logged {
    /// Nothing.
    Nothing,
    /// A line with these words.
    Words(&'static str),
    /// It may say anything.
    Anything,
}

/// The failure of a try.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Failed {
    Error,
    Timeout,
    Invalid,
}

/// Returns the expected result of a cell.
pub(crate) fn expected(cell: &Cell) -> CellOutcome {
    let Cell { row, client, .. } = cell;
    if *client == Client::Aborts {
        let status = match row.stage {
            Stage::LookUp | Stage::Connect | Stage::BeforeHead | Stage::InHead | Stage::Reused => 499,
            Stage::Tunnel => 101,
            _ => 200,
        };
        let tries = if status == 499 { String::new() } else { status.to_string() };
        return CellOutcome {
            answer: Answer::Gone(status),
            tries,
            marked: false,
            kept: false,
            reused: false,
        };
    }
    match row.stage {
        Stage::LookUp => match row.fault {
            Fault::Thousands => whole(cell, good(*client), good(*client).to_string()),
            Fault::Changes => whole(cell, 502, "502".to_owned()),
            _ => whole(cell, 502, String::new()),
        },
        Stage::Connect | Stage::BeforeHead | Stage::InHead | Stage::Reused => early(cell),
        Stage::AfterHead | Stage::InBody | Stage::AtEnd => in_answer(cell),
        Stage::Tunnel if row.fault == Fault::Trickle => whole(cell, 101, "101".to_owned()),
        Stage::Tunnel => CellOutcome { answer: Answer::Cut(101), ..whole(cell, 101, "101".to_owned()) },
    }
}

/// Returns the status of an answer without fault.
fn good(client: Client) -> u16 {
    if client == Client::WebSocket { 101 } else { 200 }
}

fn whole(cell: &Cell, status: u16, tries: String) -> CellOutcome {
    let kept = cell.client != Client::Get10 && status != 101;
    CellOutcome { answer: Answer::Whole(status), tries, marked: false, kept, reused: false }
}

/// Principles 1 and 2.
fn early(cell: &Cell) -> CellOutcome {
    let Cell { row, client, .. } = cell;
    let sent = row.stage != Stage::Connect;
    let failed = match row.fault {
        Fault::Refuse | Fault::ResetAtOnce | Fault::Reset | Fault::Close => Failed::Error,
        Fault::Hang => Failed::Timeout,
        Fault::Garbage | Fault::Storm | Fault::Endless | Fault::Oversized => Failed::Invalid,
        // The server's own answer.
        Fault::EarlyClose | Fault::EarlyDrain => return whole(cell, 413, "413".to_owned()),
        Fault::Trickle => {
            let status = good(*client);
            return CellOutcome { reused: status == 200, ..whole(cell, status, status.to_string()) };
        }
        // The proxy notices that the connection is unusable before it sends anything.
        _ => return whole(cell, good(*client), good(*client).to_string()),
    };
    let status = if failed == Failed::Timeout { 504 } else { 502 };
    let again = failed != Failed::Invalid && !(sent && client.is_non_idempotent());
    let outcome = match again {
        true => whole(cell, good(*client), format!("{status}, {}", good(*client))),
        false => whole(cell, status, status.to_string()),
    };
    CellOutcome { marked: true, ..outcome }
}

/// Principles 3 and 4.
fn in_answer(cell: &Cell) -> CellOutcome {
    let Cell { row, client, .. } = cell;
    let all = whole(cell, 200, "200".to_owned());
    if *client == Client::Head {
        return all;
    }
    let ends_well = match (row.fault, row.framing) {
        (Fault::Trickle | Fault::Extra | Fault::CloseAfter, _) => true,
        // Such an answer ends like this: it cannot be known whether that was intended.
        (Fault::Close, Framing::UntilClose) => true,
        // Nothing was missing.
        (_, Framing::Length) => row.stage == Stage::AtEnd,
        _ => false,
    };
    if !ends_well {
        return CellOutcome { answer: Answer::Cut(200), kept: client.is_http2(), ..all };
    }
    let in_order = matches!(row.fault, Fault::Trickle | Fault::Hang) && row.framing != Framing::UntilClose;
    CellOutcome { reused: in_order, ..all }
}

/// Returns the words of the error log.
pub(crate) fn logged(row: &Row, client: Client) -> Logged {
    let in_answer = matches!(row.stage, Stage::AfterHead | Stage::InBody | Stage::AtEnd);
    if client == Client::Aborts {
        return Logged::Nothing;
    }
    if client == Client::Head && in_answer {
        return Logged::Anything;
    }
    Logged::Words(match (row.stage, row.fault) {
        (Stage::LookUp, Fault::NoSuchName | Fault::NoAddress) => "could not be resolved (3: Host not found)",
        (Stage::LookUp, Fault::ServerFailure) => "could not be resolved (2: Server failure)",
        (Stage::LookUp, Fault::Changes) | (_, Fault::Refuse) => "connect() failed (111: Connection refused)",
        (Stage::LookUp, Fault::Thousands) => return Logged::Nothing,
        (Stage::LookUp, _) => "could not be resolved (110: Operation timed out)",
        (Stage::Connect, _) => "upstream timed out (110: Connection timed out) while connecting to upstream",
        (Stage::Tunnel, Fault::Hang) => {
            "upstream timed out (110: Connection timed out) while proxying upgraded connection"
        }
        (Stage::Tunnel, Fault::Reset) => "failed (104: Connection reset by peer)",
        (Stage::Tunnel, _) => return Logged::Nothing,
        (_, Fault::Storm) => "upstream sent too many interim responses",
        (_, Fault::Endless | Fault::Oversized) => "upstream sent too big header",
        (Stage::InHead, Fault::Garbage) => "upstream sent invalid header",
        (Stage::InBody, Fault::Garbage) => "upstream sent invalid chunked response",
        (_, Fault::Garbage) => "upstream sent no valid HTTP/1.0 header",
        (Stage::AtEnd, Fault::Extra) if row.framing == Framing::Length => {
            "upstream sent more data than specified"
        }
        (Stage::AtEnd, Fault::Extra) => return Logged::Anything,
        (Stage::AtEnd, _) if row.framing == Framing::Length => return Logged::Nothing,
        (_, Fault::Close) if in_answer && row.framing == Framing::UntilClose => return Logged::Nothing,
        (_, Fault::ResetAtOnce | Fault::Reset) => "failed (104: Connection reset by peer)",
        (_, Fault::Close) if in_answer => "upstream prematurely closed connection while reading upstream",
        (_, Fault::Close) => "upstream prematurely closed connection",
        (_, Fault::Hang) if in_answer => {
            "upstream timed out (110: Connection timed out) while reading upstream"
        }
        (_, Fault::Hang) => "upstream timed out (110: Connection timed out)",
        _ => return Logged::Nothing,
    })
}
