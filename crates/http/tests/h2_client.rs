//! The codec of HTTP/2 against the client of the crate `h2`: what one writes the other must read.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use hyper::body::Bytes;
use hyper::http::{HeaderMap, Request, Version};
use pointsman_http::h2::hpack::{encode_field, encode_status};
use pointsman_http::h2::{H2Connection, H2Limits, HeadSlot, ReadContext, Received};
use pointsman_http::{HeadLimits, Known, RequestHead};
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// A request as the server got it, and how much of the answer has gone.
#[derive(Default)]
struct Echo {
    head: RequestHead,
    body: Vec<u8>,
    ended: bool,
    head_sent: bool,
    sent: usize,
}

/// Answers each request with its path as a field and its body as the body, and with trailers if there is a body.
async fn serve(mut wire: DuplexStream, limits: H2Limits) {
    let mut connection = H2Connection::new(limits);
    let mut echoes: BTreeMap<u32, Echo> = BTreeMap::new();
    let mut input = Vec::new();
    loop {
        let mut out = std::mem::take(connection.control());
        answer(&mut connection, &mut echoes, &mut out);
        out.splice(0..0, std::mem::take(connection.control()));
        if wire.write_all(&out).await.is_err() {
            return;
        }
        let mut chunk = vec![0; 4096];
        match wire.read(&mut chunk).await {
            Ok(count @ 1..) => input.extend_from_slice(&chunk[..count]),
            _ => return,
        }
        receive(&mut connection, &mut echoes, &mut input);
    }
}

fn receive(connection: &mut H2Connection, echoes: &mut BTreeMap<u32, Echo>, input: &mut Vec<u8>) {
    let mut head = RequestHead::new();
    loop {
        let mut cx = ReadContext {
            heads: HeadSlot::Request { head: &mut head, limits: &HeadLimits::default() },
            scratch: &mut Vec::new(),
            now_ms: 0,
        };
        let step = connection.receive(input, &mut cx).unwrap();
        match step.received {
            Received::Partial if step.consumed == 0 => return,
            Received::Request { stream, ends, refused } => {
                assert_eq!(refused, None);
                let echo = Echo { head: std::mem::take(&mut head), ended: ends, ..Echo::default() };
                echoes.insert(stream, echo);
                connection.wanted(stream);
            }
            Received::Data { stream, range, ends } => {
                let echo = echoes.get_mut(&stream).unwrap();
                connection.taken(stream, range.len() as u32);
                echo.body.extend_from_slice(&input[range]);
                echo.ended = ends;
            }
            Received::Gone { stream, .. } => {
                echoes.remove(&stream);
            }
            _ => {}
        }
        input.drain(..step.consumed);
    }
}

fn answer(connection: &mut H2Connection, echoes: &mut BTreeMap<u32, Echo>, out: &mut Vec<u8>) {
    echoes.retain(|stream, echo| {
        if !echo.ended {
            return true;
        }
        if !std::mem::replace(&mut echo.head_sent, true) {
            let mut block = Vec::new();
            encode_status(&mut block, 200);
            encode_field(&mut block, Some(Known::Location), b"Location", echo.head.target());
            for (known, name, value) in
                echo.head.headers.iter().filter(|(_, name, _)| name.starts_with(b"x-"))
            {
                encode_field(&mut block, known, name, value);
            }
            connection.write_head(*stream, &block, echo.body.is_empty(), out);
        }
        let room = connection.send_room(*stream).min(echo.body.len() - echo.sent);
        if room > 0 {
            connection.write_data(*stream, &echo.body[echo.sent..echo.sent + room], false, out);
            echo.sent += room;
        }
        let is_done = echo.sent == echo.body.len();
        if is_done {
            if !echo.body.is_empty() {
                let mut block = Vec::new();
                encode_field(&mut block, None, b"X-Length", echo.body.len().to_string().as_bytes());
                connection.write_head(*stream, &block, true, out);
            }
            connection.finish(*stream);
        }
        !is_done
    });
}

/// One request, and its answer compared with it.
async fn ask(mut send: h2::client::SendRequest<Bytes>, number: usize) {
    let path = format!("/{number}/{}?q={number}", "p".repeat(number * 7 % 300));
    let value = "v~ \"".repeat(number * 13 % 500) + "end";
    let body = Bytes::from(vec![number as u8; number * number * 131]);
    let request = Request::builder()
        .uri(format!("http://shop.example.com{path}"))
        .version(Version::HTTP_2)
        .header("x-value", &value)
        .header("x-number", number)
        .body(())
        .unwrap();
    std::future::poll_fn(|cx| send.poll_ready(cx)).await.unwrap();
    let (response, mut stream) = send.send_request(request, body.is_empty()).unwrap();
    if !body.is_empty() {
        // The crate keeps what the windows do not let through.
        stream.send_data(body.clone(), true).unwrap();
    }
    let response = response.await.unwrap();
    let text = |headers: &HeaderMap, name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!((response.status().as_u16(), text(response.headers(), "location")), (200, path));
    assert_eq!(text(response.headers(), "x-value"), value);
    let mut incoming = response.into_body();
    let mut got = Vec::new();
    while let Some(chunk) = incoming.data().await {
        let chunk = chunk.unwrap();
        incoming.flow_control().release_capacity(chunk.len()).unwrap();
        got.extend_from_slice(&chunk);
    }
    assert_eq!(got, body);
    if !body.is_empty() {
        let trailers = incoming.trailers().await.unwrap().unwrap();
        assert_eq!(text(&trailers, "x-length"), body.len().to_string());
    }
}

async fn converse(limits: H2Limits, configure: impl FnOnce(&mut h2::client::Builder)) {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let (client, server) = tokio::io::duplex(1000);
            tokio::task::spawn_local(serve(server, limits));
            let mut builder = h2::client::Builder::new();
            configure(&mut builder);
            let (send, connection) = builder.handshake::<_, Bytes>(client).await.unwrap();
            tokio::task::spawn_local(async { connection.await.unwrap() });
            let asked: Vec<_> =
                (0..60).map(|number| tokio::task::spawn_local(ask(send.clone(), number))).collect();
            for asked in asked {
                asked.await.unwrap();
            }
        })
        .await;
}

#[tokio::test]
async fn sixty_requests_at_a_time_are_answered() {
    converse(H2Limits::default(), |_| {}).await;
}

#[tokio::test]
async fn small_windows_and_no_table_change_nothing() {
    let limits = H2Limits { initial_window: 300, max_streams: 7, ..H2Limits::default() };
    converse(limits, |builder| {
        builder.initial_window_size(500).header_table_size(0).max_frame_size(20_000);
    })
    .await;
}
