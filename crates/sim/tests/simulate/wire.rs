//! Messages on a connection whose bytes arrive in pieces, and may stop anywhere: each head, each body and each end must be
//! where it was sent.

use http::{
    BodyFraming, ChunkLimits, ChunkedDecoder, HeadLimits, Progress, RequestHead, ResponseHead,
    chunk_size_line, framing,
};
use pointsman_sim::{Scenario, Seeded, explore, holds, tell};

#[test]
fn wire() {
    explore(&Scenario {
        name: "wire",
        invariants: &[
            "head-agrees",
            "framing-agrees",
            "body-agrees",
            "one-end",
            "cut-is-seen",
            "trailers-agree",
        ],
        usual: 500,
        kept: &[],
        run: |seeded| World::new(seeded).run(),
    });
}

/// A message as it was sent.
struct Message {
    line: Vec<u8>,
    fields: Vec<(String, String)>,
    framing: BodyFraming,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
}

/// A connection: bytes that arrive, and their reader.
struct World {
    seeded: Seeded,
    requests: bool,
    /// The messages, and the length of each on the wire.
    sent: Vec<(Message, usize)>,
    wire: Vec<u8>,
    /// The number of bytes that have arrived.
    come: usize,
    /// The number of bytes that were used.
    used: usize,
}

const MAX_HEAD: usize = 16 << 10;

impl World {
    fn new(seeded: Seeded) -> World {
        World { seeded, requests: true, sent: Vec::new(), wire: Vec::new(), come: 0, used: 0 }
    }

    fn run(mut self) {
        self.requests = self.seeded.chance(60);
        for _ in 0..self.seeded.within(1..=4) {
            let message = self.message();
            let bytes = bytes_of(&message, &mut self.seeded);
            self.wire.extend_from_slice(&bytes);
            self.sent.push((message, bytes.len()));
        }
        if self.seeded.chance(30) {
            let cut = self.seeded.below(self.wire.len() + 1);
            tell!("{} of {} bytes come", cut, self.wire.len());
            self.wire.truncate(cut);
        }
        let sent = std::mem::take(&mut self.sent);
        let mut start = 0;
        for (message, len) in &sent {
            let end = start + len;
            let is_there = self.wire.len() >= end;
            let read = self.read(message);
            holds!(
                "cut-is-seen",
                read == is_there,
                "the message ends at {end} of {}: {read}",
                self.wire.len()
            );
            if !read {
                return;
            }
            holds!("one-end", self.used == end, "it ends at {end}, and {} bytes were used", self.used);
            start = end;
        }
    }

    fn message(&mut self) -> Message {
        let line: &[u8] = match self.requests {
            true => self.seeded.one_of::<&[u8]>(&[b"POST /a HTTP/1.1", b"PUT /some/where?x=1 HTTP/1.1"]),
            false => self.seeded.one_of::<&[u8]>(&[b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found"]),
        };
        let mut fields = vec![("Host".to_owned(), "a.example".to_owned())];
        for number in 0..self.seeded.within(0..=4) {
            let len = self.seeded.within(0..=60) as usize;
            fields.push((format!("X-Field-{number}"), "v".repeat(len)));
        }
        let len = match self.seeded.below(4) {
            0 => 0,
            1 => self.seeded.within(1..=3),
            _ => self.seeded.within(4..=700),
        };
        let body: Vec<u8> = (0..len).map(|_| self.seeded.draw() as u8).collect();
        let chunked = self.seeded.chance(50);
        let framing = if chunked { BodyFraming::Chunked } else { BodyFraming::Length(len) };
        let mut trailers = Vec::new();
        if chunked && self.seeded.chance(30) {
            trailers.push(("X-Trailer".to_owned(), "t".repeat(self.seeded.within(0..=20) as usize)));
        }
        match chunked {
            true => fields.push(("Transfer-Encoding".into(), "chunked".into())),
            false => fields.push(("Content-Length".into(), len.to_string())),
        }
        Message { line: line.to_vec(), fields, framing, body, trailers }
    }

    /// Reads one message as it arrives; returns true if it ends.
    fn read(&mut self, message: &Message) -> bool {
        let Some(framing) = (match self.requests {
            true => self.read_request(message),
            false => self.read_response(message),
        }) else {
            return false;
        };
        // A length of 0 may be reported as no body.
        let bare = |framing| if framing == BodyFraming::Length(0) { BodyFraming::None } else { framing };
        let same = bare(framing) == bare(message.framing);
        holds!("framing-agrees", same, "{framing:?}, not {:?}", message.framing);
        self.read_body(message)
    }

    fn read_request(&mut self, message: &Message) -> Option<BodyFraming> {
        let mut head = RequestHead::new();
        let limits = HeadLimits::default();
        loop {
            match head.decode(&self.wire[self.used..self.come], &limits) {
                Ok(Progress::Complete { consumed }) => self.used += consumed,
                Ok(Progress::Partial) => {
                    if !self.more() {
                        return None;
                    }
                    continue;
                }
                Err(error) => pointsman_sim::violated("head-agrees", format!("{error:?}")),
            }
            holds!("head-agrees", head.request_line() == message.line, "{:?}", head.request_line());
            check_fields(&head.headers, message);
            return Some(framing::request_body(&head).unwrap());
        }
    }

    fn read_response(&mut self, message: &Message) -> Option<BodyFraming> {
        let mut head = ResponseHead::new();
        loop {
            match head.decode(&self.wire[self.used..self.come], MAX_HEAD) {
                Ok(Progress::Complete { consumed }) => self.used += consumed,
                Ok(Progress::Partial) => {
                    if !self.more() {
                        return None;
                    }
                    continue;
                }
                Err(error) => pointsman_sim::violated("head-agrees", format!("{error:?}")),
            }
            let status = String::from_utf8_lossy(&message.line[9..12]).parse().unwrap_or(0);
            holds!("head-agrees", head.status == status, "{} is read, and {status} was sent", head.status);
            check_fields(&head.headers, message);
            return Some(framing::response_body(&head, http::Method::Get).unwrap());
        }
    }

    fn read_body(&mut self, message: &Message) -> bool {
        let mut body = Vec::new();
        match message.framing {
            BodyFraming::Length(len) => {
                while body.len() < len as usize {
                    let run = (self.come - self.used).min(len as usize - body.len());
                    body.extend_from_slice(&self.wire[self.used..self.used + run]);
                    self.used += run;
                    if body.len() < len as usize && !self.more() {
                        return false;
                    }
                }
            }
            _ => {
                let limits = ChunkLimits { keep_trailers: true, ..ChunkLimits::default() };
                let mut decoder = ChunkedDecoder::new(limits);
                while !decoder.is_done() {
                    let step = match decoder.decode(&self.wire[self.used..self.come]) {
                        Ok(step) => step,
                        Err(error) => pointsman_sim::violated("body-agrees", format!("{error:?}")),
                    };
                    body.extend_from_slice(&self.wire[self.used..self.come][step.data.clone()]);
                    self.used += step.consumed;
                    holds!("cut-is-seen", step.done == decoder.is_done(), "{step:?}");
                    if !step.done && self.used == self.come && !self.more() {
                        let prefix = message.body.starts_with(&body);
                        holds!("body-agrees", prefix, "what came of the body is no part of it");
                        return false;
                    }
                }
                let trailers: Vec<(String, String)> =
                    decoder.trailers().iter().map(|(_, name, value)| (text(name), text(value))).collect();
                holds!(
                    "trailers-agree",
                    trailers == message.trailers,
                    "{trailers:?}, not {:?}",
                    message.trailers
                );
            }
        }
        let (got, wanted) = (body.len(), message.body.len());
        holds!("body-agrees", body == message.body, "{got} bytes came out, {wanted} went in, or others");
        true
    }

    /// Lets the next piece arrive; returns false if there is none.
    fn more(&mut self) -> bool {
        let left = self.wire.len() - self.come;
        let most = if self.seeded.chance(50) { 3 } else { 300 };
        let piece = (self.seeded.within(1..=most) as usize).min(left);
        self.come += piece;
        piece > 0
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn check_fields(headers: &http::Headers, message: &Message) {
    let fields: Vec<(String, String)> =
        headers.iter().map(|(_, name, value)| (text(name), text(value))).collect();
    holds!("head-agrees", fields == message.fields, "{fields:?}, not {:?}", message.fields);
}

/// Encodes a message; chunks of any size, sometimes with extensions.
fn bytes_of(message: &Message, seeded: &mut Seeded) -> Vec<u8> {
    let mut bytes = message.line.clone();
    bytes.extend_from_slice(b"\r\n");
    for (name, value) in &message.fields {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    if message.framing != BodyFraming::Chunked {
        bytes.extend_from_slice(&message.body);
        return bytes;
    }
    let mut rest = &message.body[..];
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at((seeded.within(1..=200) as usize).min(rest.len()));
        let mut line = [0; 18];
        let line = chunk_size_line(chunk.len() as u64, &mut line);
        match seeded.chance(20) {
            true => {
                bytes.extend_from_slice(&line[..line.len() - 2]);
                bytes.extend_from_slice(b";name=\"value\"\r\n");
            }
            false => bytes.extend_from_slice(line),
        }
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        rest = after;
    }
    bytes.extend_from_slice(b"0\r\n");
    for (name, value) in &message.trailers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}
