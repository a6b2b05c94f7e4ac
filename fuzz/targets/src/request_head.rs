//! Request heads: `http::RequestHead`.
//!
//! Compares one decoding with the same bytes in other pieces, with httparse, and with the head that is written from the
//! result.

use crate::dice::cuts;
use bstr::BStr;
use http::framing::{self, FramingError};
use http::{BodyFraming, HeadEncoder, HeadError, HeadLimits, Method, Progress, RequestHead, Version};

/// The result of a decoder.
#[derive(Debug, PartialEq)]
struct Told {
    outcome: Result<Progress, HeadError>,
    /// The text for the log, if it is refused.
    words: Vec<u8>,
    line: Vec<u8>,
    method: Vec<u8>,
    target: Vec<u8>,
    protocol: Vec<u8>,
    host: Vec<u8>,
    port: u16,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    dropped: Vec<Vec<u8>>,
    framing: Result<BodyFraming, FramingError>,
}

fn decode(data: &[u8], ends: &[usize], limits: &HeadLimits) -> (RequestHead, Told) {
    let mut head = RequestHead::new();
    let mut outcome = Ok(Progress::Partial);
    let mut seen = 0;
    for &end in ends {
        seen = end;
        outcome = head.decode(&data[..end], limits);
        if outcome != Ok(Progress::Partial) {
            break;
        }
    }
    let mut words = Vec::new();
    if let Err(error) = outcome {
        head.explain(error, data, &mut words);
        assert!((400..=505).contains(&error.status()));
    }
    let told = Told {
        outcome,
        words,
        // A refused line is as long as it had arrived.
        line: if head.has_line() { head.request_line().to_vec() } else { Vec::new() },
        method: head.method_bytes().to_vec(),
        target: head.target().to_vec(),
        protocol: head.protocol().to_vec(),
        host: head.host().to_vec(),
        port: head.port(),
        fields: head.headers.iter().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect(),
        dropped: head.dropped_lines(&data[..seen]).map(<[u8]>::to_vec).collect(),
        framing: framing::request_body(&head),
    };
    (head, told)
}

/// Limits that no input reaches, so that only its form decides.
fn wide() -> HeadLimits {
    HeadLimits {
        client_header_buffer_size: 1 << 20,
        large_client_header_buffers: (4, 1 << 20),
        max_fields: 100_000,
        ..HeadLimits::default()
    }
}

pub(crate) fn check(data: &[u8]) {
    let tight = HeadLimits {
        client_header_buffer_size: 40,
        large_client_header_buffers: (2, 60),
        max_fields: 4,
        ..HeadLimits::default()
    };
    let strict = HeadLimits { allow_bare_lf: false, underscores_in_headers: true, ..HeadLimits::default() };
    let all_names = HeadLimits { ignore_invalid_headers: false, merge_slashes: false, ..wide() };
    for limits in [&HeadLimits::default(), &tight, &strict, &all_names] {
        let (head, told) = decode(data, &[data.len()], limits);
        for ends in cuts(data) {
            assert_eq!(told, decode(data, &ends, limits).1, "in pieces that end at {ends:?}");
        }
        if let Ok(Progress::Complete { consumed }) = told.outcome {
            accepted(data, &head, consumed, limits);
        }
    }
    beside_httparse(data, &all_names);
}

/// Checks an accepted head.
fn accepted(data: &[u8], head: &RequestHead, consumed: usize, limits: &HeadLimits) {
    assert!(consumed <= data.len() && head.len() <= consumed);
    assert!(head.headers.len() <= limits.max_fields);
    let breaks = |text: &[u8]| text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    for (_, name, value) in &head.headers {
        assert!(!name.is_empty() && !name.iter().any(|byte| *byte <= b' ' || *byte == b':' || *byte == 0x7f));
        assert!(!breaks(value), "{:?}", BStr::new(value));
        assert!(!value.starts_with(b" ") && !value.ends_with(b" "), "{:?}", BStr::new(value));
        if limits.ignore_invalid_headers {
            let valid = |byte: &u8| {
                byte.is_ascii_alphanumeric()
                    || *byte == b'-'
                    || limits.underscores_in_headers && *byte == b'_'
            };
            assert!(name.iter().all(valid), "{:?}", BStr::new(name));
        }
    }
    let line = head.request_line();
    assert!(!line.iter().any(|byte| *byte < b' ' || *byte == 0x7f), "{:?}", BStr::new(line));
    assert!(!head.host().iter().any(u8::is_ascii_uppercase) && !breaks(head.host()));
    let mut path = Vec::new();
    if let Ok(query) = head.split_target(limits.merge_slashes, &mut path) {
        crate::uri::is_normal(&path, limits.merge_slashes);
        assert!(!query.contains(&b'#') && !query.contains(&b' '));
    } else {
        panic!("a target that was taken cannot be split");
    }
    if let Ok(body) = framing::request_body(head) {
        let _ = framing::check_method(head, body, true);
    }
    let _ = (
        framing::keep_alive(head.version, &head.headers),
        framing::expects_continue(head.version, &head.headers),
    );
    written_anew(head);
}

/// Checks that the head written from the result gives the same result.
fn written_anew(head: &RequestHead) {
    if head.version == Version::Http09 || head.method == Method::Connect || !head.is_target_whole() {
        return;
    }
    let mut bytes = Vec::new();
    let mut encoder = HeadEncoder::request(&mut bytes, head.method_bytes(), head.target(), head.version);
    encoder.fields(&head.headers);
    encoder.end();
    let limits = HeadLimits { ignore_invalid_headers: false, merge_slashes: false, ..wide() };
    let mut again = RequestHead::new();
    match again.decode(&bytes, &limits) {
        Ok(Progress::Complete { consumed }) => assert_eq!(consumed, bytes.len()),
        // The authority of its target was not written.
        Err(HeadError::MissingHost) if head.authority().is_some() => return,
        // With it, the field is ignored.
        Err(HeadError::InvalidHost) if head.authority().is_some() => return,
        other => panic!("{other:?} for {:?}", BStr::new(&bytes)),
    }
    assert_eq!((again.method, again.version), (head.method, head.version));
    assert_eq!(again.method_bytes(), head.method_bytes());
    assert_eq!(again.target(), head.target());
    assert_eq!(framing::request_body(&again), framing::request_body(head));
    assert_eq!(framing::connection(&again.headers), framing::connection(&head.headers));
    let fields = |head: &RequestHead| -> Vec<(Vec<u8>, Vec<u8>)> {
        head.headers.iter().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect()
    };
    assert_eq!(fields(&again), fields(head), "{:?}", BStr::new(&bytes));
}

/// Checks that a head that httparse accepts too ends in the same place and has the same parts.
fn beside_httparse(data: &[u8], limits: &HeadLimits) {
    let mut head = RequestHead::new();
    let ours = head.decode(data, limits);
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    let theirs = request.parse(data);
    match (ours, theirs) {
        (Ok(Progress::Complete { .. }), _) if head.version == Version::Http09 => {}
        (Ok(Progress::Complete { consumed }), Ok(httparse::Status::Complete(end))) => {
            assert_eq!(consumed, end);
            assert_eq!(head.method_bytes(), request.method.unwrap().as_bytes());
            if head.authority().is_none() {
                assert_eq!(head.target(), request.path.unwrap().as_bytes());
            }
            assert_eq!(head.headers.len(), request.headers.len());
            for ((_, name, value), field) in head.headers.iter().zip(request.headers.iter()) {
                assert_eq!(BStr::new(name), BStr::new(field.name));
                // httparse removes tabs around a value too.
                assert_eq!(BStr::new(value.trim_ascii()), BStr::new(field.value.trim_ascii()));
            }
        }
        (Ok(Progress::Complete { consumed }), Ok(httparse::Status::Partial)) => {
            panic!("it ends at {consumed}, and httparse waits for more");
        }
        (Ok(Progress::Partial), Ok(httparse::Status::Complete(end))) => {
            panic!("httparse ends it at {end}, and we wait for more");
        }
        _ => {}
    }
}
