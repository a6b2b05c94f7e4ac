//! Instructions of decoding and encoding heads; `cargo xtask counts` runs and compares them.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the macros make items that have neither documentation nor users"
)]

use gungraun::{library_benchmark, library_benchmark_group, main};
use http::{HeadEncoder, HeadLimits, Headers, Known, Progress, RequestHead, ResponseHead, Version};
use std::hint::black_box;

/// As a browser asks.
const BROWSER: &[u8] = b"GET /articles/2026/11/a-long-title?page=2&sort=newest HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.com/articles/\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Priority: u=0, i\r\n\
    \r\n";

/// As a program asks.
const SHORT: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// As an application answers.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: gunicorn\r\n\
    Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 12345\r\n\
    Cache-Control: private, max-age=0\r\n\
    ETag: \"5f1d7a84-3039\"\r\n\
    Vary: Cookie, Accept-Encoding\r\n\
    X-Request-Id: 0123456789abcdef\r\n\
    \r\n";

/// `proxy_buffer_size`.
const HEAD_BYTES: usize = 4096;

/// Returns a head that has been used before: what it holds is allocated.
fn warm_request(input: &'static [u8]) -> (RequestHead, &'static [u8]) {
    let mut head = RequestHead::new();
    assert!(matches!(head.decode(input, &HeadLimits::default()), Ok(Progress::Complete { .. })));
    head.clear();
    (head, input)
}

fn warm_response(input: &'static [u8]) -> (ResponseHead, &'static [u8]) {
    let mut head = ResponseHead::new();
    assert!(matches!(head.decode(input, HEAD_BYTES), Ok(Progress::Complete { .. })));
    head.clear();
    (head, input)
}

#[library_benchmark]
#[bench::browser(args = (BROWSER), setup = warm_request)]
#[bench::short(args = (SHORT), setup = warm_request)]
fn decode_request((mut head, input): (RequestHead, &'static [u8])) -> RequestHead {
    let progress = head.decode(black_box(input), &HeadLimits::default());
    assert!(black_box(progress).is_ok());
    head
}

#[library_benchmark]
#[bench::application(args = (ANSWER), setup = warm_response)]
fn decode_response((mut head, input): (ResponseHead, &'static [u8])) -> ResponseHead {
    let progress = head.decode(black_box(input), HEAD_BYTES);
    assert!(black_box(progress).is_ok());
    head
}

/// Returns the fields of the application's answer and a buffer that is large enough.
fn fields() -> (Headers, Vec<u8>) {
    let mut head = ResponseHead::new();
    assert!(head.decode(ANSWER, HEAD_BYTES).is_ok());
    (head.headers, Vec::with_capacity(4096))
}

#[library_benchmark]
#[bench::proxied(setup = fields)]
fn encode_response((headers, mut out): (Headers, Vec<u8>)) -> (Headers, Vec<u8>) {
    let mut encoder = HeadEncoder::response(&mut out, black_box(200));
    encoder
        .known(Known::Server, b"pointsman")
        .known(Known::Date, b"Thu, 01 Jan 2026 00:00:00 GMT")
        .number(Known::ContentLength, black_box(12_345))
        .fields(black_box(&headers));
    encoder.end();
    (headers, out)
}

fn request_fields() -> (Headers, Vec<u8>) {
    let mut head = RequestHead::new();
    assert!(head.decode(BROWSER, &HeadLimits::default()).is_ok());
    (head.headers, Vec::with_capacity(4096))
}

#[library_benchmark]
#[bench::proxied(setup = request_fields)]
fn encode_request((headers, mut out): (Headers, Vec<u8>)) -> (Headers, Vec<u8>) {
    let mut encoder =
        HeadEncoder::request(&mut out, b"GET", black_box(b"/articles/2026/11/a-long-title"), Version::Http11);
    encoder.field(b"Host", b"backend").fields(black_box(&headers));
    encoder.end();
    (headers, out)
}

library_benchmark_group!(
    name = heads,
    benchmarks = [decode_request, decode_response, encode_response, encode_request]
);
main!(library_benchmark_groups = heads);
