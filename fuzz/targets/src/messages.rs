//! The messages of one connection, and the end of each.
//!
//! Compares the decision with the same bytes in other pieces, and with a second reader (httparse and a plain reading of
//! RFC 9112 §6.3): two readers that both accept a message must see its end in the same place.

use crate::chunked::{self, Reading};
use crate::dice::cuts;
use bstr::BStr;
use http::framing::{self, FramingError};
use http::{
    BodyFraming, ChunkError, ChunkLimits, ChunkedDecoder, HeadError, HeadLimits, Progress, RequestHead,
};

/// A complete message: its first byte, the end of its head, its own end; and its body.
#[derive(Debug, PartialEq)]
struct Message {
    start: usize,
    head_end: usize,
    end: usize,
    body: Vec<u8>,
}

/// The reason why no more messages are read.
#[derive(Debug, PartialEq)]
enum Stop {
    Head(HeadError),
    Framing(FramingError),
    Chunk(ChunkError),
    /// The message says that it is the last.
    Last,
    /// More bytes are needed; the number of complete messages.
    Wanting,
}

/// A reader of requests that gets bytes as they arrive, as the server does.
struct Reader {
    limits: HeadLimits,
    head: RequestHead,
    /// The end of the last complete message.
    start: usize,
    head_end: Option<usize>,
    body: Vec<u8>,
    at: usize,
    left: u64,
    chunks: Option<ChunkedDecoder>,
    messages: Vec<Message>,
}

impl Reader {
    fn new(limits: HeadLimits) -> Reader {
        Reader {
            limits,
            head: RequestHead::new(),
            start: 0,
            head_end: None,
            body: Vec::new(),
            at: 0,
            left: 0,
            chunks: None,
            messages: Vec::new(),
        }
    }

    /// Reads as far as possible; the input has the same bytes as before, and more behind them.
    fn read(&mut self, input: &[u8]) -> Result<(), Stop> {
        loop {
            if self.head_end.is_none() {
                match self.head.decode(&input[self.start..], &self.limits).map_err(Stop::Head)? {
                    Progress::Partial => return Ok(()),
                    Progress::Complete { consumed } => {
                        self.at = self.start + consumed;
                        self.head_end = Some(self.at);
                    }
                }
                match framing::request_body(&self.head).map_err(Stop::Framing)? {
                    BodyFraming::None => self.left = 0,
                    BodyFraming::Length(length) => self.left = length,
                    BodyFraming::Chunked => self.chunks = Some(ChunkedDecoder::new(ChunkLimits::default())),
                    BodyFraming::UntilClose => panic!("a request ends by itself"),
                }
            }
            if !self.read_body(input)? {
                return Ok(());
            }
            let keep = framing::keep_alive(self.head.version, &self.head.headers);
            let head_end = self.head_end.take().unwrap();
            let body = std::mem::take(&mut self.body);
            self.messages.push(Message { start: self.start, head_end, end: self.at, body });
            self.start = self.at;
            self.head.clear();
            self.chunks = None;
            if !keep {
                return Err(Stop::Last);
            }
        }
    }

    /// Returns true if the body is complete.
    fn read_body(&mut self, input: &[u8]) -> Result<bool, Stop> {
        let Some(decoder) = &mut self.chunks else {
            let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - self.at);
            self.body.extend_from_slice(&input[self.at..self.at + take]);
            self.at += take;
            self.left -= take as u64;
            return Ok(self.left == 0);
        };
        while self.at < input.len() && !decoder.is_done() {
            let rest = &input[self.at..];
            let step = decoder.decode(rest).map_err(Stop::Chunk)?;
            self.body.extend_from_slice(&rest[step.data]);
            self.at += step.consumed;
        }
        Ok(decoder.is_done())
    }
}

fn messages(data: &[u8], ends: &[usize]) -> (Vec<Message>, Stop, usize) {
    let mut reader = Reader::new(HeadLimits::default());
    let mut stop = Stop::Wanting;
    for &end in ends {
        if let Err(why) = reader.read(&data[..end]) {
            stop = why;
            break;
        }
    }
    (reader.messages, stop, reader.start)
}

pub(crate) fn check(data: &[u8]) {
    let told = messages(data, &[data.len()]);
    for ends in cuts(data) {
        assert_eq!(told, messages(data, &ends), "in pieces that end at {ends:?}");
    }
    for message in &told.0 {
        beside_a_plain_reader(&data[message.start..], message);
    }
}

/// The end of a message to the second reader, if it accepts the message.
fn beside_a_plain_reader(data: &[u8], message: &Message) {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(head_end)) = request.parse(data) else { return };
    assert_eq!(head_end, message.head_end - message.start, "the end of the head");
    let all = |name: &str| -> Vec<&[u8]> {
        request
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
            .collect()
    };
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    let end = match (&lengths[..], &codings[..]) {
        ([], []) => head_end,
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => match chunked::read(&data[head_end..]) {
            Reading::Whole(body, end) => {
                assert_eq!(BStr::new(&body), BStr::new(&message.body));
                head_end + end
            }
            Reading::OddTrailer => return,
            Reading::Short | Reading::Wrong => panic!("a chunked body that is none"),
        },
        ([length], []) => {
            let length: usize =
                std::str::from_utf8(length).unwrap().parse().expect("the length of a message that was taken");
            assert_eq!(BStr::new(&data[head_end..head_end + length]), BStr::new(&message.body));
            head_end + length
        }
        _ => panic!("two framings were taken: {lengths:?} {codings:?}"),
    };
    assert_eq!(end, message.end - message.start, "the end of the message");
    // RFC 9112 §6.1: before HTTP/1.1 there are no transfer codings.
    assert!(codings.is_empty() || request.version == Some(1));
}
