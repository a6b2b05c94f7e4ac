//! The faults, the stages of a proxied request at which they happen, and the kinds of client that meet them.
//!
//! Owns the contents and the order of the matrix; `expect` has the results.

/// The progress of a proxied request when its upstream broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The upstream's name is being looked up.
    LookUp,
    /// A connection is being made.
    Connect,
    /// Connected, and no byte of the answer has come.
    BeforeHead,
    /// Some of the answer's head has come.
    InHead,
    /// The head has come, and nothing of the body.
    AfterHead,
    /// Half of the body has come.
    InBody,
    /// The last byte of the body has come, but for the last chunk of a chunked one.
    AtEnd,
    /// The request goes over a connection that served another one before.
    Reused,
    /// After `101`.
    Tunnel,
}

impl Stage {
    /// All, in the order of a request's life.
    pub const ALL: [Stage; 9] = [
        Stage::LookUp,
        Stage::Connect,
        Stage::BeforeHead,
        Stage::InHead,
        Stage::AfterHead,
        Stage::InBody,
        Stage::AtEnd,
        Stage::Reused,
        Stage::Tunnel,
    ];

    /// Returns its name in test names.
    pub fn name(self) -> &'static str {
        match self {
            Stage::LookUp => "look-up",
            Stage::Connect => "connect",
            Stage::BeforeHead => "before-head",
            Stage::InHead => "in-head",
            Stage::AfterHead => "after-head",
            Stage::InBody => "in-body",
            Stage::AtEnd => "at-end",
            Stage::Reused => "reused",
            Stage::Tunnel => "tunnel",
        }
    }

    /// Returns its heading in the document.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Stage::LookUp => "While the name is looked up",
            Stage::Connect => "While connecting",
            Stage::BeforeHead => "Connected, before the first byte of the answer",
            Stage::InHead => "Inside the answer's head",
            Stage::AfterHead => "After the head, before the body",
            Stage::InBody => "Inside the body",
            Stage::AtEnd => "At the end of the body",
            Stage::Reused => "On a connection that was idle",
            Stage::Tunnel => "In a tunnel (after 101)",
        }
    }
}

/// The fault of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The name server knows no such name.
    NoSuchName,
    /// The name server says that it failed.
    ServerFailure,
    /// The name has no addresses.
    NoAddress,
    /// The name server says nothing.
    Silence,
    /// The name server's replies cannot be read.
    Malformed,
    /// The name server does not listen.
    NoNameServer,
    /// The name has 4,000 addresses.
    Thousands,
    /// The name had a dead address, and has another one now.
    Changes,
    /// The connection is refused.
    Refuse,
    /// The connection is reset as soon as it is there.
    ResetAtOnce,
    /// The connection is reset.
    Reset,
    /// The connection is closed in an orderly way.
    Close,
    /// Nothing comes any more; while connecting: not even the connection.
    Hang,
    /// Everything comes, a byte at a time.
    Trickle,
    /// Bytes that do not belong there.
    Garbage,
    /// Interim answers without end.
    Storm,
    /// A head without end.
    Endless,
    /// A head of 64 KiB.
    Oversized,
    /// An answer before the request's body was read, and a close with the body unread.
    EarlyClose,
    /// An answer before the request's body was read, which is read afterwards.
    EarlyDrain,
    /// More bytes than the framing says.
    Extra,
    /// A close behind the last byte.
    CloseAfter,
    /// The idle connection is closed.
    IdleClose,
    /// The idle connection is reset.
    IdleReset,
    /// An unrequested answer comes on the idle connection.
    IdleGarbage,
}

impl Fault {
    /// Returns its name in the document; with dashes for blanks, in test names.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Fault::NoSuchName => "no such name",
            Fault::ServerFailure => "server failure",
            Fault::NoAddress => "no address",
            Fault::Silence => "hang",
            Fault::Malformed => "garbage",
            Fault::NoNameServer => "no listener",
            Fault::Thousands => "4000 addresses",
            Fault::Changes => "changed address",
            Fault::Refuse => "refuse",
            Fault::ResetAtOnce => "reset at once",
            Fault::Reset => "reset",
            Fault::Close => "close",
            Fault::Hang => "hang",
            Fault::Trickle => "trickle",
            Fault::Garbage => "garbage",
            Fault::Storm => "1xx storm",
            Fault::Endless => "endless head",
            Fault::Oversized => "oversized head",
            Fault::EarlyClose => "early answer, close",
            Fault::EarlyDrain => "early answer",
            Fault::Extra => "too long",
            Fault::CloseAfter => "close behind it",
            Fault::IdleClose => "close while idle",
            Fault::IdleReset => "reset while idle",
            Fault::IdleGarbage => "garbage while idle",
        }
    }

    /// Returns true if it ends only by a timeout.
    pub(crate) fn hangs(self) -> bool {
        matches!(self, Fault::Silence | Fault::Malformed | Fault::NoNameServer | Fault::Hang)
    }
}

/// The framing of the answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By Content-Length.
    Length,
    /// By chunks.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

impl Framing {
    const ALL: [Framing; 3] = [Framing::Length, Framing::Chunked, Framing::UntilClose];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Framing::Length => "length",
            Framing::Chunked => "chunked",
            Framing::UntilClose => "until close",
        }
    }
}

/// The client that meets the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// GET over HTTP/1.1.
    Get,
    /// GET over HTTP/1.0.
    Get10,
    /// HEAD.
    Head,
    /// POST with a length; the proxy reads the body first.
    Post,
    /// POST with a length; the proxy passes the body on while it comes.
    PostStreamed,
    /// POST in chunks; the proxy reads the body first.
    PostChunked,
    /// PUT, which may be repeated; the proxy reads the body first.
    Put,
    /// Two GETs in one write.
    Pipelined,
    /// One that closes as soon as the upstream hangs.
    Aborts,
    /// One that asks for a WebSocket.
    WebSocket,
    /// GET over HTTP/2 in clear.
    Http2,
    /// POST over HTTP/2 in clear; the proxy reads the body first.
    Http2Post,
}

impl Client {
    /// All, as the document's columns.
    pub const ALL: [Client; 12] = [
        Client::Get,
        Client::Get10,
        Client::Head,
        Client::Post,
        Client::PostStreamed,
        Client::PostChunked,
        Client::Put,
        Client::Pipelined,
        Client::Aborts,
        Client::WebSocket,
        Client::Http2,
        Client::Http2Post,
    ];

    /// Returns its name in test names.
    pub fn name(self) -> &'static str {
        match self {
            Client::Get => "get",
            Client::Get10 => "get-1.0",
            Client::Head => "head",
            Client::Post => "post",
            Client::PostStreamed => "post-streamed",
            Client::PostChunked => "post-chunked",
            Client::Put => "put",
            Client::Pipelined => "pipelined",
            Client::Aborts => "aborts",
            Client::WebSocket => "websocket",
            Client::Http2 => "h2",
            Client::Http2Post => "h2-post",
        }
    }

    /// Returns its column's heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Client::Get => "GET",
            Client::Get10 => "GET 1.0",
            Client::Head => "HEAD",
            Client::Post => "POST",
            Client::PostStreamed => "POST streamed",
            Client::PostChunked => "POST chunked",
            Client::Put => "PUT",
            Client::Pipelined => "pipelined",
            Client::Aborts => "aborts",
            Client::WebSocket => "WebSocket",
            Client::Http2 => "GET h2",
            Client::Http2Post => "POST h2",
        }
    }

    /// Returns true if it sends a body.
    pub(crate) fn has_body(self) -> bool {
        matches!(
            self,
            Client::Post | Client::PostStreamed | Client::PostChunked | Client::Put | Client::Http2Post
        )
    }

    /// Returns true if its request must not be sent twice (nginx names POST, LOCK and PATCH).
    pub(crate) fn is_non_idempotent(self) -> bool {
        matches!(self, Client::Post | Client::PostStreamed | Client::PostChunked | Client::Http2Post)
    }

    /// Returns true if it speaks HTTP/2: a fault ends its stream, and never its connection.
    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Client::Http2 | Client::Http2Post)
    }
}

/// One line of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The stage.
    pub stage: Stage,
    /// The fault.
    pub fault: Fault,
    /// The framing of the answer; a length where it makes no difference.
    pub framing: Framing,
}

impl Row {
    /// Returns the text of its first column.
    pub(crate) fn title(self) -> String {
        match self.stage {
            Stage::AfterHead | Stage::InBody | Stage::AtEnd => {
                format!("{}, {}", self.fault.title(), self.framing.title())
            }
            _ => self.fault.title().to_owned(),
        }
    }

    /// Returns true if this client can meet this fault, with a definite result.
    fn applies(self, client: Client) -> bool {
        let in_body = matches!(self.stage, Stage::AfterHead | Stage::InBody | Stage::AtEnd);
        match (self.stage, self.fault, client) {
            // Clients abort because no bytes come.
            (Stage::LookUp, fault, Client::Aborts) => fault == Fault::Silence,
            // At its end an answer with a length is complete.
            (Stage::AtEnd, _, Client::Aborts) if self.framing == Framing::Length => false,
            (_, fault, Client::Aborts) => fault == Fault::Hang,
            (Stage::Tunnel, _, client) => client == Client::WebSocket,
            // The client of HTTP/2 sends no body that is larger than its windows.
            (_, Fault::EarlyClose | Fault::EarlyDrain, client) => client.has_body() && !client.is_http2(),
            // Whether any of the request was sent before the reset is random.
            (_, Fault::ResetAtOnce, client) => !client.is_non_idempotent() && client != Client::WebSocket,
            // Its answer ends with the head; where bytes follow, they are too many.
            (Stage::AfterHead, _, Client::Head) => false,
            // Whether the next request meets the connection before or after the reset is random.
            (Stage::AtEnd, Fault::Reset, Client::Pipelined) => self.framing != Framing::Length,
            // Without 101 it is a GET.
            (_, _, Client::WebSocket) => !in_body && self.stage != Stage::Reused,
            _ => true,
        }
    }
}

/// One cell: a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Its number among all cells.
    pub number: usize,
    /// Its line.
    pub row: Row,
    /// Its column.
    pub client: Client,
}

impl Cell {
    /// Returns the name of its test.
    pub fn name(&self) -> String {
        let row = self.row.title().replace(", ", "-").replace(' ', "-");
        format!("{}/{row}/{}", self.row.stage.name(), self.client.name())
    }
}

/// Returns all lines, in their order.
pub fn rows() -> Vec<Row> {
    let row = |stage, fault| Row { stage, fault, framing: Framing::Length };
    let mut rows = Vec::new();
    let look_up = [
        Fault::NoSuchName,
        Fault::ServerFailure,
        Fault::NoAddress,
        Fault::Silence,
        Fault::Malformed,
        Fault::NoNameServer,
        Fault::Thousands,
        Fault::Changes,
    ];
    rows.extend(look_up.map(|fault| row(Stage::LookUp, fault)));
    rows.extend([Fault::Refuse, Fault::Hang].map(|fault| row(Stage::Connect, fault)));
    let before = [
        Fault::ResetAtOnce,
        Fault::Reset,
        Fault::Close,
        Fault::Hang,
        Fault::Garbage,
        Fault::Storm,
        Fault::EarlyClose,
        Fault::EarlyDrain,
    ];
    rows.extend(before.map(|fault| row(Stage::BeforeHead, fault)));
    let inside = [
        Fault::Reset,
        Fault::Close,
        Fault::Hang,
        Fault::Trickle,
        Fault::Garbage,
        Fault::Endless,
        Fault::Oversized,
    ];
    rows.extend(inside.map(|fault| row(Stage::InHead, fault)));
    for framing in Framing::ALL {
        let faults = [Fault::Reset, Fault::Close, Fault::Hang];
        rows.extend(faults.map(|fault| Row { stage: Stage::AfterHead, fault, framing }));
    }
    for framing in Framing::ALL {
        let faults = [Fault::Reset, Fault::Close, Fault::Hang, Fault::Trickle];
        rows.extend(faults.map(|fault| Row { stage: Stage::InBody, fault, framing }));
    }
    rows.push(Row { stage: Stage::InBody, fault: Fault::Garbage, framing: Framing::Chunked });
    for framing in [Framing::Length, Framing::Chunked] {
        let faults = [Fault::Reset, Fault::Close, Fault::Hang, Fault::Extra];
        rows.extend(faults.map(|fault| Row { stage: Stage::AtEnd, fault, framing }));
    }
    rows.push(Row { stage: Stage::AtEnd, fault: Fault::CloseAfter, framing: Framing::Chunked });
    let idle = [
        Fault::IdleClose,
        Fault::IdleReset,
        Fault::IdleGarbage,
        Fault::Reset,
        Fault::Close,
        Fault::Hang,
        Fault::Garbage,
    ];
    rows.extend(idle.map(|fault| row(Stage::Reused, fault)));
    let tunnel = [Fault::Reset, Fault::Close, Fault::Hang, Fault::Trickle];
    rows.extend(tunnel.map(|fault| row(Stage::Tunnel, fault)));
    rows
}

/// Returns all cells, line by line.
pub fn cells() -> Vec<Cell> {
    let pairs = rows().into_iter().flat_map(|row| {
        Client::ALL.into_iter().filter(move |client| row.applies(*client)).map(move |client| (row, client))
    });
    pairs.enumerate().map(|(number, (row, client))| Cell { number, row, client }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_cell_has_a_name_of_its_own() {
        let all = cells();
        let names: BTreeSet<String> = all.iter().map(Cell::name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.len() > 400, "{}", all.len());
        for row in rows() {
            assert!(all.iter().any(|cell| cell.row == row), "{}", row.title());
        }
    }
}
