//! HTTP/1 messages cut out of bytes: strict, independent of the servers under test, and as short as it can be.
//!
//! httparse reads the heads; where a body ends is decided here by RFC 9112 §6.3, with every doubt resolved to a refusal.
//! A lone LF ends a line of a head, as in httparse (RFC 9112 §2.2 allows it).

use httparse::Status;

/// A request, out of its framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The target as in the request line.
    pub target: String,
    /// The fields: names in lower case, values without the white space around them.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body, out of its framing.
    pub body: Vec<u8>,
}

impl Request {
    /// Returns the target without scheme and authority.
    pub fn path(&self) -> &str {
        let Some((_, rest)) = self.target.split_once("://") else { return &self.target };
        rest.find('/').map_or("/", |at| &rest[at..])
    }

    /// Returns the first field of this name, in lower case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        find(&self.fields, name)
    }
}

/// A response, out of its framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The fields: names in lower case, values without the white space around them.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body, out of its framing.
    pub body: Vec<u8>,
    /// Trailers followed the last chunk.
    pub has_trailers: bool,
}

impl Response {
    /// Returns the first field of this name, in lower case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        find(&self.fields, name)
    }
}

/// The message at the beginning of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read<T> {
    /// A message, and its length in bytes.
    Whole(T, usize),
    /// The beginning of one.
    Partial,
    /// No message, or one with more than one meaning.
    Bad(String),
}

/// The end of a body.
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// Reads one request.
pub(crate) fn request(input: &[u8]) -> Read<Request> {
    let mut storage = [httparse::EMPTY_HEADER; 1200];
    let mut head = httparse::Request::new(&mut storage);
    let len = match head.parse(input) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Read::Partial,
        Err(error) => return Read::Bad(error.to_string()),
    };
    let fields = copied(head.headers);
    let hosts = fields.iter().filter(|(name, _)| name == "host").count();
    if hosts > 1 || (hosts == 0 && head.version == Some(1)) {
        return Read::Bad(format!("{hosts} Host fields"));
    }
    let framing = match framing(&fields, head.version) {
        Ok(Some(framing)) => framing,
        Ok(None) => Framing::Length(0),
        Err(why) => return Read::Bad(why),
    };
    let (method, target) = (head.method.unwrap_or_default(), head.path.unwrap_or_default());
    let (method, target) = (method.to_owned(), target.to_owned());
    match body(&input[len..], framing, false) {
        Read::Whole((body, _), used) => Read::Whole(Request { method, target, fields, body }, len + used),
        Read::Partial => Read::Partial,
        Read::Bad(why) => Read::Bad(why),
    }
}

/// Reads all requests. The second part is an error with the reason if something is left that is not a whole request.
pub(crate) fn requests(mut input: &[u8]) -> (Vec<Request>, Result<(), String>) {
    let mut found = Vec::new();
    while !input.is_empty() {
        match request(input) {
            Read::Whole(request, len) => {
                found.push(request);
                input = &input[len..];
            }
            Read::Partial => return (found, Err("incomplete".to_owned())),
            Read::Bad(why) => return (found, Err(why)),
        }
    }
    (found, Ok(()))
}

/// Reads one response to a request of this method; `ended` says that nothing follows the input.
pub(crate) fn response(input: &[u8], method: &str, ended: bool) -> Read<Response> {
    let mut storage = [httparse::EMPTY_HEADER; 200];
    let mut head = httparse::Response::new(&mut storage);
    let len = match head.parse(input) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Read::Partial,
        Err(error) => return Read::Bad(error.to_string()),
    };
    let (status, fields) = (head.code.unwrap_or_default(), copied(head.headers));
    let framing = match framing(&fields, Some(1)) {
        _ if method == "HEAD" || status < 200 || status == 204 || status == 304 => Framing::Length(0),
        Ok(framing) => framing.unwrap_or(Framing::UntilClose),
        Err(why) => return Read::Bad(why),
    };
    match body(&input[len..], framing, ended) {
        Read::Whole((body, has_trailers), used) => {
            Read::Whole(Response { status, fields, body, has_trailers }, len + used)
        }
        Read::Partial => Read::Partial,
        Read::Bad(why) => Read::Bad(why),
    }
}

fn copied(fields: &[httparse::Header<'_>]) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())).collect()
}

fn find<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
}

/// Returns the framing that the fields announce, if any.
fn framing(fields: &[(String, Vec<u8>)], minor: Option<u8>) -> Result<Option<Framing>, String> {
    let all = |name: &'static str| fields.iter().filter(move |(known, _)| known == name);
    let (lengths, codings) = (all("content-length").count(), all("transfer-encoding").count());
    match (lengths, codings) {
        (0, 0) => Ok(None),
        (1, 0) => {
            let value = find(fields, "content-length").unwrap_or_default();
            let digits = std::str::from_utf8(value).unwrap_or_default();
            let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok());
            number.flatten().map(|length| Some(Framing::Length(length))).ok_or("no length".to_owned())
        }
        (0, 1) if minor == Some(0) => Err("Transfer-Encoding in HTTP/1.0".to_owned()),
        (0, 1) => match find(fields, "transfer-encoding") {
            Some(value) if value.eq_ignore_ascii_case(b"chunked") => Ok(Some(Framing::Chunked)),
            _ => Err("a transfer coding that is not chunked".to_owned()),
        },
        _ => Err(format!("{lengths} Content-Length and {codings} Transfer-Encoding fields")),
    }
}

/// Returns a body, and whether trailers follow it.
fn body(input: &[u8], framing: Framing, ended: bool) -> Read<(Vec<u8>, bool)> {
    match framing {
        Framing::Length(length) => {
            let there = usize::try_from(length).ok().and_then(|length| input.get(..length));
            there.map_or(Read::Partial, |body| Read::Whole((body.to_vec(), false), body.len()))
        }
        Framing::UntilClose if ended => Read::Whole((input.to_vec(), false), input.len()),
        Framing::UntilClose => Read::Partial,
        Framing::Chunked => chunked(input),
    }
}

fn chunked(input: &[u8]) -> Read<(Vec<u8>, bool)> {
    let bad = |why: &str| Read::Bad(why.to_owned());
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let (size, next) = match size_line(&input[at..]) {
            Read::Whole(size, used) => (size, at + used),
            Read::Partial => return Read::Partial,
            Read::Bad(why) => return Read::Bad(why),
        };
        at = next;
        if size == 0 {
            break;
        }
        let Some(end) = usize::try_from(size).ok().and_then(|size| at.checked_add(size)) else {
            return bad("a chunk larger than memory");
        };
        match (input.get(at..end), input.get(end), input.get(end + 1)) {
            (Some(chunk), Some(b'\r'), Some(b'\n')) => data.extend_from_slice(chunk),
            (Some(_), None, _) | (Some(_), Some(b'\r'), None) | (None, ..) => return Read::Partial,
            _ => return bad("a chunk that does not end with CR LF"),
        }
        at = end + 2;
    }
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let trailers = &input[at..];
    match httparse::parse_headers(trailers, &mut fields) {
        Ok(Status::Complete((used, _))) if has_lone_lf(&trailers[..used]) => bad("a lone LF in the trailers"),
        Ok(Status::Complete((used, fields))) => Read::Whole((data, !fields.is_empty()), at + used),
        Ok(Status::Partial) if has_lone_lf(trailers) => bad("a lone LF in the trailers"),
        Ok(Status::Partial) => Read::Partial,
        Err(error) => Read::Bad(error.to_string()),
    }
}

/// Returns a chunk's size, digits and then white space or an extension that holds no control byte, up to its CR LF.
fn size_line(input: &[u8]) -> Read<u64> {
    let digits = input.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let rest = input[digits..].iter();
    let blank = rest.take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let after = digits + blank;
    let text = std::str::from_utf8(&input[..digits]).unwrap_or_default();
    if digits == 0 && !input.is_empty() {
        return Read::Bad("a chunk without a size".to_owned());
    }
    let extension = match input.get(after) {
        Some(b';') => {
            let allowed = |byte: &&u8| **byte == b'\t' || (**byte >= b' ' && **byte != 0x7f);
            input[after..].iter().take_while(allowed).count()
        }
        _ => 0,
    };
    match (input.get(after + extension), input.get(after + extension + 1)) {
        (Some(b'\r'), Some(b'\n')) => match u64::from_str_radix(text, 16) {
            Ok(size) if size <= i64::MAX as u64 => Read::Whole(size, after + extension + 2),
            _ => Read::Bad(format!("chunk size \"{text}\"")),
        },
        (None, _) | (Some(b'\r'), None) => Read::Partial,
        _ => Read::Bad("a byte that no chunk size has".to_owned()),
    }
}

/// Returns how many bytes at the start of `input` are one whole request, however odd; `None` while it is incomplete.
pub(crate) fn request_length(input: &[u8]) -> Option<usize> {
    let mut storage = [httparse::EMPTY_HEADER; 200];
    let mut head = httparse::Request::new(&mut storage);
    let Ok(Status::Complete(start)) = head.parse(input) else { return None };
    let fields = copied(head.headers);
    if find(&fields, "transfer-encoding").is_some() {
        return position(&input[start..], b"0\r\n\r\n").map(|end| start + end + 5);
    }
    let length = find(&fields, "content-length").and_then(|v| std::str::from_utf8(v).ok()?.parse().ok());
    let all = start + length.unwrap_or(0);
    (input.len() >= all).then_some(all)
}

/// Returns the first place of a piece in some bytes.
pub(crate) fn position(input: &[u8], what: &[u8]) -> Option<usize> {
    input.windows(what.len()).position(|window| window == what)
}

fn has_lone_lf(text: &[u8]) -> bool {
    text.iter().enumerate().any(|(at, byte)| *byte == b'\n' && (at == 0 || text[at - 1] != b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(text: &str) -> (Vec<String>, Result<(), String>) {
        let (found, end) = requests(text.as_bytes());
        (found.into_iter().map(|r| String::from_utf8_lossy(&r.body).into_owned()).collect(), end)
    }

    #[test]
    fn requests_are_cut_where_they_end() {
        let two =
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhiGET / HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(bodies(two), (vec!["hi".into(), String::new()], Ok(())));
        let chunks = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n2;x=\"y\"\r\nhi\r\n0\r\nA: b\r\n\r\n";
        assert_eq!(bodies(chunks), (vec!["hi".into()], Ok(())));
        for end in 1..chunks.len() {
            assert_eq!(bodies(&chunks[..end]), (vec![], Err("incomplete".into())), "{end}");
        }
    }

    #[test]
    fn ambiguous_messages_are_bad() {
        for fields in [
            "Host: h\r\nContent-Length: 1\r\nContent-Length: 1",
            "Host: h\r\nContent-Length: +1",
            "Host: h\r\nContent-Length: ",
            "Host: h\r\nContent-Length: 99999999999999999999",
            "Host: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
            "Host: h\r\nTransfer-Encoding: identity",
            "Host: h\r\nTransfer-Encoding: gzip, chunked",
            "Host: h\r\nHost: h",
            "A: b",
            "Host : h",
            "Host: h\r\n folded",
        ] {
            let text = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n0\r\n\r\n");
            assert!(matches!(request(text.as_bytes()), Read::Bad(_)), "{fields}");
        }
        for chunks in [
            "x\r\n",
            "1\nx",
            "1\r\nxy",
            "1\r\nx\n",
            "-1\r\n",
            "1 2\r\n",
            "1;\nx",
            "0\r\nA: b\n\r\n",
            "8000000000000000\r\n",
        ] {
            let text = format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            assert!(matches!(request(text.as_bytes()), Read::Bad(_)), "{chunks:?}");
        }
    }

    #[test]
    fn responses_end_by_length_chunks_or_the_end() {
        let text = b"HTTP/1.1 200 OK\r\n\r\nabc";
        assert_eq!(response(text, "GET", false), Read::Partial);
        assert!(matches!(response(text, "GET", true), Read::Whole(r, 22) if r.body == b"abc"));
        assert!(matches!(response(text, "HEAD", false), Read::Whole(_, 19)));
    }

    #[test]
    fn trailers_are_seen() {
        let text = |end: &str| {
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{end}\r\n")
        };
        for (end, seen) in [("", false), ("A: b\r\n", true)] {
            let read = response(text(end).as_bytes(), "GET", false);
            assert!(matches!(read, Read::Whole(ref r, _) if r.has_trailers == seen), "{read:?}");
        }
    }

    #[test]
    fn the_length_of_a_request_includes_its_body() {
        assert_eq!(request_length(b"GET / HTTP/1.1\r\n\r\nGET"), Some(18));
        assert_eq!(request_length(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"), None);
        let chunks = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        assert_eq!(request_length(chunks), Some(58));
    }
}
