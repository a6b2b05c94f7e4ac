//! Messages as clients and origins read and write them: each is made from a number, so that a byte shows whose it is.
//!
//! Must never share code with the product: it is a second opinion on where a message ends.

/// Returns a byte of a number's body.
pub(super) fn byte(id: u64, at: usize) -> u8 {
    ((id.wrapping_mul(131) + at as u64 * 7 + (at as u64 >> 8) * 13) % 251) as u8
}

/// Returns a number's body.
pub(super) fn body(id: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| byte(id, at)).collect()
}

/// Returns a body in chunks of such sizes, with its last chunk.
pub(super) fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut wire = Vec::with_capacity(body.len() + 64);
    for run in body.chunks(size.max(1)) {
        wire.extend_from_slice(format!("{:x}\r\n", run.len()).as_bytes());
        wire.extend_from_slice(run);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

/// How a message that is read is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// A message, as far as it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    /// Its first line, and then its fields.
    pub(super) head: Vec<String>,
    pub(super) body: Vec<u8>,
    /// Its end was seen.
    pub(super) whole: bool,
}

impl Message {
    /// Returns a field's value.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.iter().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// Returns the second word of its first line: an answer's status, a request's target.
    pub(super) fn second(&self) -> &str {
        self.head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default()
    }

    /// Returns true if the sender keeps the connection open.
    pub(super) fn keeps(&self) -> bool {
        let closes = self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let old = self.head.first().is_some_and(|line| line.contains("HTTP/1.0"));
        !closes && !old
    }
}

/// Reads one message after another.
#[derive(Debug, Default)]
pub(super) struct Reader {
    bytes: Vec<u8>,
    /// The one under way, and what its framing still wants.
    now: Option<(Message, Framing)>,
    /// Bytes left of the present chunk, its end included.
    chunk: usize,
    /// Read already, and to be given out again.
    whole: Option<Message>,
}

/// Why bytes are no message.
pub(super) type Malformed = String;

impl Reader {
    /// Takes in further bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns true if a message has begun that is not whole.
    pub(super) fn is_inside(&self) -> bool {
        self.now.is_some() || !self.bytes.is_empty()
    }

    /// Returns the message under way, once its head has come.
    pub(super) fn begun(&self) -> Option<&Message> {
        self.whole.as_ref().or(self.now.as_ref().map(|(message, _)| message))
    }

    /// Puts a message back, which is read once more.
    pub(super) fn put_back(&mut self, message: Message) {
        self.whole = Some(message);
    }

    /// Takes the message under way, because the sender has ended.
    pub(super) fn rest(&mut self, ended: bool) -> Option<Message> {
        let (mut message, framing) = self.now.take()?;
        message.whole = ended && framing == Framing::UntilClose;
        Some(message)
    }

    /// Returns the next whole message, if there is one. A response without a body need not state its framing.
    pub(super) fn next(&mut self, is_answer: bool) -> Result<Option<Message>, Malformed> {
        if self.whole.is_some() {
            return Ok(self.whole.take());
        }
        if self.now.is_none() {
            let Some(end) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Ok(None);
            };
            let text = String::from_utf8(self.bytes[..end].to_vec()).map_err(|error| error.to_string())?;
            self.bytes.drain(..end + 4);
            let message =
                Message { head: text.split("\r\n").map(str::to_owned).collect(), ..Message::default() };
            if !message.head[0].contains("HTTP/1.") {
                return Err(format!("this is no first line: {}", message.head[0]));
            }
            if is_answer && message.second().starts_with('1') {
                return self.next(is_answer);
            }
            let framing = framing(&message, is_answer)?;
            self.now = Some((message, framing));
            self.chunk = 0;
        }
        let Some((message, framing)) = &mut self.now else { return Ok(None) };
        match framing {
            Framing::UntilClose => message.body.append(&mut self.bytes),
            Framing::Length(left) => {
                let count = self.bytes.len().min(*left as usize);
                message.body.extend(self.bytes.drain(..count));
                *left -= count as u64;
                message.whole = *left == 0;
            }
            Framing::Chunked => {
                message.whole = take_chunks(&mut self.bytes, &mut self.chunk, &mut message.body)?
            }
        }
        if !message.whole {
            return Ok(None);
        }
        Ok(self.now.take().map(|(message, _)| message))
    }
}

/// Takes what has come of chunks; `true` when their last one has.
fn take_chunks(bytes: &mut Vec<u8>, chunk: &mut usize, body: &mut Vec<u8>) -> Result<bool, Malformed> {
    loop {
        if *chunk > 2 {
            let count = bytes.len().min(*chunk - 2);
            body.extend(bytes.drain(..count));
            *chunk -= count;
            if *chunk > 2 {
                return Ok(false);
            }
        }
        if *chunk == 2 {
            if bytes.len() < 2 {
                return Ok(false);
            }
            if bytes[..2] != *b"\r\n" {
                return Err(format!("a chunk ends with {:?}", &bytes[..2]));
            }
            bytes.drain(..2);
            *chunk = 0;
        }
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else { return Ok(false) };
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let size =
            usize::from_str_radix(&line, 16).map_err(|_| format!("this is no chunk's size: {line}"))?;
        if size == 0 {
            // No trailers are sent in these worlds.
            if bytes.len() < end + 4 {
                return Ok(false);
            }
            bytes.drain(..end + 4);
            return Ok(true);
        }
        bytes.drain(..end + 2);
        *chunk = size + 2;
    }
}

fn framing(message: &Message, is_answer: bool) -> Result<Framing, Malformed> {
    if is_answer && ["204", "304"].contains(&message.second()) {
        return Ok(Framing::Length(0));
    }
    match (message.field("transfer-encoding"), message.field("content-length")) {
        (Some("chunked"), None) => Ok(Framing::Chunked),
        (None, Some(len)) => {
            Ok(Framing::Length(len.parse().map_err(|_| format!("this is no length: {len}"))?))
        }
        (None, None) if is_answer => Ok(Framing::UntilClose),
        (None, None) => Ok(Framing::Length(0)),
        (coding, len) => Err(format!("coding {coding:?} and length {len:?}")),
    }
}
