//! The same bytes to our decoders and to hyper's server: a message that both accept is the same to both.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod random;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, service::service_fn};
use hyper_util::rt::TokioIo;
use pointsman_http::{BodyFraming, ChunkLimits, ChunkedDecoder, HeadLimits, Progress, RequestHead, framing};
use random::Xorshift;
use std::cell::RefCell;
use std::convert::Infallible;
use tokio::io::AsyncWriteExt;

/// Method and body of each request, as far as the bytes are accepted.
type Seen = Vec<(String, Vec<u8>)>;

/// Returns the requests that we see in a connection's bytes.
fn ours(mut input: &[u8]) -> Seen {
    let mut seen = Seen::new();
    let mut head = RequestHead::new();
    while !input.is_empty() {
        head.clear();
        let Ok(Progress::Complete { consumed }) = head.decode(input, &HeadLimits::default()) else { break };
        input = &input[consumed..];
        let Ok(body) = framing::request_body(&head) else { break };
        if framing::check_method(&head, body, false).is_err() {
            break;
        }
        let Some((body, len)) = whole_body(body, input) else { break };
        input = &input[len..];
        seen.push((String::from_utf8_lossy(head.method_bytes()).into_owned(), body));
        if !framing::keep_alive(head.version, &head.headers) {
            break;
        }
    }
    seen
}

/// Returns the body at the beginning of the input and how many bytes it takes, if it is whole.
fn whole_body(framing: BodyFraming, input: &[u8]) -> Option<(Vec<u8>, usize)> {
    match framing {
        BodyFraming::None => Some((Vec::new(), 0)),
        BodyFraming::Length(len) => {
            let len = usize::try_from(len).ok()?;
            input.get(..len).map(|body| (body.to_vec(), len))
        }
        BodyFraming::Chunked => {
            let mut decoder =
                ChunkedDecoder::new(ChunkLimits { keep_trailers: true, ..ChunkLimits::default() });
            let (mut body, mut at) = (Vec::new(), 0);
            while at < input.len() && !decoder.is_done() {
                let step = decoder.decode(&input[at..]).ok()?;
                body.extend_from_slice(&input[at..][step.data]);
                at += step.consumed;
            }
            decoder.is_done().then_some((body, at))
        }
        BodyFraming::UntilClose => None,
    }
}

/// Returns the requests that hyper sees in them.
fn theirs(runtime: &tokio::runtime::Runtime, input: &[u8]) -> Seen {
    let seen = RefCell::new(Seen::new());
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(input).await.unwrap();
        client.shutdown().await.unwrap();
        let service = service_fn(|request: Request<Incoming>| async {
            let method = request.method().to_string();
            if let Ok(body) = request.into_body().collect().await {
                seen.borrow_mut().push((method, body.to_bytes().to_vec()));
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service);
        // An error ends the connection: the requests before it count.
        let _ = connection.await;
    });
    seen.into_inner()
}

#[test]
fn hyper_sees_the_same_messages() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut random = Xorshift(0x5DEE_CE66_D123_4567);
    let (mut both, mut ours_alone, mut theirs_alone) = (0, 0, 0);
    for _ in 0..8_000 {
        let input = random::messages(&mut random);
        let (ours, theirs) = (ours(&input), theirs(&runtime, &input));
        let common = ours.len().min(theirs.len());
        assert_eq!(ours[..common], theirs[..common], "{}", input.escape_ascii());
        both += common;
        ours_alone += ours.len() - common;
        theirs_alone += theirs.len() - common;
    }
    assert!(
        both > 2_000,
        "{both} were accepted by both, {ours_alone} by us alone, {theirs_alone} by hyper alone"
    );
}
