//! Response heads of upstreams: `http::ResponseHead`.
//!
//! Compares one decoding with the same bytes in other pieces, with httparse, and with the head that is written from the
//! result.

use crate::dice::cuts;
use bstr::BStr;
use http::framing::{self, FramingError};
use http::{BodyFraming, HeadEncoder, Method, Progress, ResponseError, ResponseHead, Version};

/// The `proxy_buffer_size`.
const SIZES: [usize; 3] = [64, 4096, 1 << 20];

#[derive(Debug, PartialEq)]
struct Told {
    outcome: Result<Progress, ResponseError>,
    words: Vec<u8>,
    status: u16,
    version: Version,
    line: Vec<u8>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    framing: [Result<BodyFraming, FramingError>; 2],
    interim: bool,
}

fn decode(data: &[u8], ends: &[usize], max_bytes: usize) -> (ResponseHead, Told) {
    let mut head = ResponseHead::default();
    let mut outcome = Ok(Progress::Partial);
    for &end in ends {
        outcome = head.decode(&data[..end], max_bytes);
        if outcome != Ok(Progress::Partial) {
            break;
        }
    }
    let mut words = Vec::new();
    if let Err(error) = outcome {
        head.explain(error, data, &mut words);
    }
    let whole = head.has_line();
    let told = Told {
        outcome,
        words,
        status: if whole { head.status } else { 0 },
        version: if whole { head.version } else { Version::Http11 },
        line: if whole { head.status_line().to_vec() } else { Vec::new() },
        fields: head.headers.iter().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect(),
        framing: [Method::Get, Method::Head].map(|method| framing::response_body(&head, method)),
        interim: whole && head.is_interim(),
    };
    (head, told)
}

pub(crate) fn check(data: &[u8]) {
    for max_bytes in SIZES {
        let (head, told) = decode(data, &[data.len()], max_bytes);
        for ends in cuts(data) {
            assert_eq!(told, decode(data, &ends, max_bytes).1, "in pieces that end at {ends:?}");
        }
        if let Ok(Progress::Complete { consumed }) = told.outcome {
            assert!(consumed <= data.len().min(max_bytes));
            accepted(&head);
        }
    }
    beside_httparse(data);
}

fn accepted(head: &ResponseHead) {
    assert!(head.status <= 999);
    assert!(head.status_line().starts_with(format!("{:03}", head.status).as_bytes()));
    for (_, name, value) in &head.headers {
        assert!(!name.is_empty() && !name.iter().any(|byte| *byte <= b' ' || *byte == b':' || *byte == 0x7f));
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{:?}", BStr::new(value));
    }
    let mut bytes = Vec::new();
    let mut encoder = HeadEncoder::response_as(&mut bytes, head.status_line());
    encoder.fields(&head.headers);
    encoder.end();
    let mut again = ResponseHead::default();
    let outcome = again.decode(&bytes, usize::MAX);
    assert_eq!(outcome, Ok(Progress::Complete { consumed: bytes.len() }), "{:?}", BStr::new(&bytes));
    assert_eq!((again.status, again.status_line()), (head.status, head.status_line()));
    assert_eq!(framing::response_body(&again, Method::Get), framing::response_body(head, Method::Get));
    let fields = |head: &ResponseHead| -> Vec<(Vec<u8>, Vec<u8>)> {
        head.headers.iter().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect()
    };
    assert_eq!(fields(&again), fields(head));
}

/// Checks that a head that httparse accepts too ends in the same place and has the same parts.
fn beside_httparse(data: &[u8]) {
    let mut head = ResponseHead::default();
    let ours = head.decode(data, usize::MAX);
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut response = httparse::Response::new(&mut fields);
    match (ours, response.parse(data)) {
        (Ok(Progress::Complete { consumed }), Ok(httparse::Status::Complete(end))) => {
            assert_eq!((consumed, head.status), (end, response.code.unwrap()));
            assert_eq!(head.headers.len(), response.headers.len());
            for ((_, name, value), field) in head.headers.iter().zip(response.headers.iter()) {
                assert_eq!(BStr::new(name), BStr::new(field.name));
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
