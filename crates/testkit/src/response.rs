//! One HTTP response cut out of a byte stream, strictly: a framing error is a failure of the case.
//!
//! Owns RFC 9112 §6 as a client sees it. It never reads a socket; it is given what came so far.

/// A response with its body taken out of the framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// Status line and header lines, without line ends.
    pub(crate) head: Vec<Vec<u8>>,
    /// The body, chunks joined.
    pub(crate) body: Vec<u8>,
    /// How many bytes of the stream it took.
    pub(crate) used: usize,
    /// 1xx other than 101: another response follows for the same request.
    pub(crate) interim: bool,
    /// It answers a HEAD request.
    pub(crate) to_head: bool,
}

/// What can be said about the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Done(Response),
    More,
    Bad(String),
}

/// Reads one response; `ended` says that the peer has closed, `to_head` that it answers a HEAD request.
pub(crate) fn decode(input: &[u8], ended: bool, to_head: bool) -> Progress {
    let Some(end) = find(input, b"\r\n\r\n") else {
        return if ended {
            Progress::Bad("the connection ended before a response".to_owned())
        } else {
            Progress::More
        };
    };
    let mut head: Vec<Vec<u8>> = Vec::new();
    for line in split_lines(&input[..end]) {
        if line.contains(&b'\n') || line.contains(&b'\r') {
            return Progress::Bad("a bare CR or LF in the head".to_owned());
        }
        head.push(line.to_vec());
    }
    let Some(status) = status_of(&head[0]) else { return Progress::Bad("no status line".to_owned()) };
    let interim = (100..200).contains(&status) && status != 101;
    let start = end + 4;
    if to_head || status < 200 || status == 204 || status == 304 {
        return Progress::Done(Response { head, body: Vec::new(), used: start, interim, to_head });
    }
    let codings = values(&head, b"transfer-encoding");
    let lengths = values(&head, b"content-length");
    let rest = &input[start..];
    let body = if !codings.is_empty() {
        if !lengths.is_empty() || !codings[0].eq_ignore_ascii_case(b"chunked") || codings.len() > 1 {
            return Progress::Bad("Transfer-Encoding that is not chunked alone".to_owned());
        }
        chunked(rest)
    } else if let Some(length) = lengths.first() {
        match std::str::from_utf8(length).ok().and_then(|l| l.parse::<usize>().ok()) {
            Some(length) if lengths.len() == 1 => match rest.get(..length) {
                Some(body) => Body::Whole(body.to_vec(), length),
                None => Body::More,
            },
            _ => Body::Bad("a Content-Length that is not one number".to_owned()),
        }
    } else if ended {
        Body::Whole(rest.to_vec(), rest.len())
    } else {
        return Progress::More;
    };
    match body {
        Body::Whole(body, used) => {
            Progress::Done(Response { head, body, used: start + used, interim, to_head })
        }
        Body::More if ended => Progress::Bad("the connection ended inside a body".to_owned()),
        Body::More => Progress::More,
        Body::Bad(why) => Progress::Bad(why),
    }
}

enum Body {
    Whole(Vec<u8>, usize),
    More,
    Bad(String),
}

fn chunked(input: &[u8]) -> Body {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(end) = find(&input[at..], b"\r\n") else { return Body::More };
        let digits = String::from_utf8_lossy(&input[at..at + end]).into_owned();
        let Ok(size) = usize::from_str_radix(digits.trim(), 16) else {
            return Body::Bad(format!("chunk size \"{digits}\""));
        };
        at += end + 2;
        if size == 0 {
            return match input.get(at..at + 2) {
                Some(b"\r\n") => Body::Whole(body, at + 2),
                Some(_) => Body::Bad("trailers: expect them with << lines".to_owned()),
                None => Body::More,
            };
        }
        let Some(chunk) = input.get(at..at + size + 2) else { return Body::More };
        if !chunk.ends_with(b"\r\n") {
            return Body::Bad("a chunk that does not end with CR LF".to_owned());
        }
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
    }
}

/// How many bytes at the start of `input` are one whole request, or nothing while it is incomplete.
pub(crate) fn request_length(input: &[u8]) -> Option<usize> {
    let end = find(input, b"\r\n\r\n")?;
    let head: Vec<Vec<u8>> = split_lines(&input[..end]).map(<[u8]>::to_vec).collect();
    let start = end + 4;
    if !values(&head, b"transfer-encoding").is_empty() {
        let done = find(&input[start..], b"0\r\n\r\n")?;
        return Some(start + done + 5);
    }
    let length =
        values(&head, b"content-length").first().and_then(|v| std::str::from_utf8(v).ok()?.parse().ok());
    let all = start + length.unwrap_or(0);
    (input.len() >= all).then_some(all)
}

fn split_lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let text = rest?;
        match find(text, b"\r\n") {
            Some(at) => {
                rest = Some(&text[at + 2..]);
                Some(&text[..at])
            }
            None => rest.take(),
        }
    })
}

fn status_of(line: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(line).ok()?;
    let rest = text.strip_prefix("HTTP/1.1 ").or_else(|| text.strip_prefix("HTTP/1.0 "))?;
    rest.get(..3)?.parse().ok()
}

fn values<'a>(head: &'a [Vec<u8>], name: &[u8]) -> Vec<&'a [u8]> {
    let mut out = Vec::new();
    for line in &head[1..] {
        if let Some(colon) = line.iter().position(|&b| b == b':')
            && line[..colon].eq_ignore_ascii_case(name)
        {
            out.push(line[colon + 1..].trim_ascii());
        }
    }
    out
}

pub(crate) fn find(input: &[u8], what: &[u8]) -> Option<usize> {
    input.windows(what.len()).position(|w| w == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(input: &[u8], ended: bool, to_head: bool) -> Response {
        match decode(input, ended, to_head) {
            Progress::Done(response) => response,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bodies_are_cut_by_length_chunks_or_the_end() {
        let r = done(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP", false, false);
        assert_eq!((r.body.as_slice(), r.head.len()), (&b"ab"[..], 2));
        let r = done(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\nx",
            false,
            false,
        );
        assert_eq!(r.body, b"abc");
        assert_eq!(decode(b"HTTP/1.1 200 OK\r\n\r\nabc", false, false), Progress::More);
        assert_eq!(done(b"HTTP/1.1 200 OK\r\n\r\nabc", true, false).body, b"abc");
    }

    #[test]
    fn some_responses_have_no_body() {
        assert_eq!(done(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", false, true).body, b"");
        assert_eq!(done(b"HTTP/1.1 304 Not Modified\r\n\r\n", false, false).body, b"");
        assert!(done(b"HTTP/1.1 100 Continue\r\n\r\n", false, false).interim);
    }

    #[test]
    fn broken_framing_is_named() {
        for input in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
            b"SSH-2.0\r\n\r\n",
            b"",
        ] {
            assert!(matches!(decode(input, true, false), Progress::Bad(_)));
        }
    }

    #[test]
    fn a_request_ends_with_its_body() {
        assert_eq!(request_length(b"GET / HTTP/1.1\r\n\r\nGET"), Some(18));
        assert_eq!(request_length(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"), None);
        assert_eq!(
            request_length(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
            Some(58)
        );
    }
}
