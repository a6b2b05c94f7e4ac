//! Hostile messages in frames of HTTP/2: none of them reaches an origin over HTTP/1, where it would mean something else. Those in
//! bytes of HTTP/1 are in `cases/hostile/`.

use super::http2::{Client, block, raw};
use super::*;
use http::h2::frame::{END_HEADERS, END_STREAM, FrameKind};

type Fields<'a> = Vec<(&'a str, &'a str)>;

/// A request of these fields, with so much of a body, and fields behind it.
struct Hostile<'a> {
    what: &'a str,
    fields: Fields<'a>,
    body: Option<usize>,
    trailers: Option<Fields<'a>>,
}

impl Hostile<'_> {
    fn frames(&self) -> Vec<u8> {
        let ends = |is_last: bool| if is_last { END_STREAM } else { 0 };
        let bare = self.body.is_none() && self.trailers.is_none();
        let mut out = raw(FrameKind::Headers, END_HEADERS | ends(bare), 1, &block(&self.fields));
        if let Some(len) = self.body {
            out.extend(raw(FrameKind::Data, ends(self.trailers.is_none()), 1, &vec![b'x'; len]));
        }
        if let Some(trailers) = &self.trailers {
            out.extend(raw(FrameKind::Headers, END_HEADERS | END_STREAM, 1, &block(trailers)));
        }
        out
    }
}

/// Returns the usual pseudo-headers, with others in the place of some.
fn usual<'a>(others: &[(&'a str, &'a str)]) -> Fields<'a> {
    let usual = [(":method", "GET"), (":scheme", "http"), (":path", "/hostile"), (":authority", "a.example")];
    let of = |(name, value): (&'a str, &'a str)| {
        (name, others.iter().find(|(other, _)| *other == name).map_or(value, |(_, value)| *value))
    };
    usual.map(of).to_vec()
}

#[test]
fn http2_hostile_messages_reach_no_origin() {
    let mut table = Vec::new();
    let mut row = |what, fields, body, trailers| table.push(Hostile { what, fields, body, trailers });
    // Pseudo-headers become the request line.
    for (what, other) in [
        ("a line end in the path", (":path", "/\r\nx: y")),
        ("a whole request in the path", (":path", "/ HTTP/1.1\r\nhost: b\r\n\r\nGET /smuggled")),
        ("NUL in the path", (":path", "/\0")),
        ("no path", (":path", "")),
        ("a path without a slash", (":path", "hostile")),
        ("a space in the method", (":method", "GET /smuggled HTTP/1.1\r\nx:")),
        ("a method with a blank", (":method", "GET X")),
        ("no method", (":method", "")),
        ("CONNECT", (":method", "CONNECT")),
        ("a line end in the authority", (":authority", "a.example\r\nx: y")),
        ("a blank in the authority", (":authority", "a.example b")),
        ("a path in the authority", (":authority", "a.example/x")),
        ("a line end in the scheme", (":scheme", "http\r\nx: y")),
    ] {
        row(what, usual(&[other]), None, None);
    }
    // Fields that would end early, or mean a framing.
    for (what, field) in [
        ("a line end in a value", ("x", "a\r\nhost: b")),
        ("LF in a value", ("x", "a\nb")),
        ("CR in a value", ("x", "a\rb")),
        ("NUL in a value", ("x", "a\0b")),
        ("a line end in a cookie", ("cookie", "a=b\r\nhost: b")),
        ("a line end in a name", ("x\r\ny", "z")),
        ("a blank in a name", ("x ", "z")),
        ("a colon in a name", ("x:y", "z")),
        ("an empty name", ("", "z")),
        ("a name in upper case", ("Transfer-Encoding", "chunked")),
        ("transfer-encoding", ("transfer-encoding", "chunked")),
        ("transfer-encoding identity", ("transfer-encoding", "identity")),
        ("connection", ("connection", "content-length")),
        ("keep-alive", ("keep-alive", "1")),
        ("proxy-connection", ("proxy-connection", "close")),
        ("upgrade", ("upgrade", "h2c")),
        ("te", ("te", "chunked")),
        ("another host", ("host", "b.example")),
        ("a pseudo-header behind fields", (":path", "/other")),
        ("an unknown pseudo-header", (":smuggled", "x")),
        ("a length that is none", ("content-length", "1x")),
        ("a length with a sign", ("content-length", "+1")),
        ("two lengths in one", ("content-length", "0, 5")),
        ("a length without a body", ("content-length", "5")),
    ] {
        let mut fields = usual(&[]);
        fields.extend([("y", "1"), field]);
        row(what, fields, None, None);
    }
    let post = |more: &[(&'static str, &'static str)]| [&usual(&[(":method", "POST")])[..], more].concat();
    row("more than the length", post(&[("content-length", "3")]), Some(5), None);
    row("less than the length", post(&[("content-length", "5")]), Some(3), None);
    row("two lengths", post(&[("content-length", "3"), ("content-length", "5")]), Some(3), None);
    row("a pseudo-header behind the body", post(&[]), Some(3), Some(vec![(":path", "/other")]));
    row("a line end behind the body", post(&[]), Some(3), Some(vec![("x", "a\r\n\r\nGET / HTTP/1.1")]));
    row("a pseudo-header twice", [usual(&[]), vec![(":path", "/other")]].concat(), None, None);
    row(
        "no authority",
        usual(&[]).into_iter().filter(|(name, _)| *name != ":authority").collect(),
        None,
        None,
    );

    let server = Server::start("", "http2 on;");
    let mut found = String::new();
    for hostile in &table {
        let mut client = Client::new(server.connect());
        client.send(&hostile.frames());
        let kinds = [FrameKind::RstStream, FrameKind::Headers, FrameKind::GoAway];
        let refused = client.next_of(&kinds).map(|(header, payload)| match header.kind {
            FrameKind::Headers => client.status(&payload),
            kind => format!("{kind:?}"),
        });
        let is_refused = matches!(refused.as_deref(), Some("400" | "405" | "RstStream"));
        if !is_refused {
            found.push_str(&format!("{}: {refused:?}\n", hostile.what));
        }
    }
    assert!(found.is_empty(), "{found}");
    // What came to the origin first is what was sent last.
    let mut client = Client::new(server.connect());
    client.ask(1, "a.example");
    let mut origin = server.asked_blue();
    let mut request = [0; 16];
    origin.read_exact(&mut request).unwrap();
    assert_eq!(request, *b"GET / HTTP/1.1\r\n");
}
