//! Request heads: what is accepted, what is refused, and that it does not matter in which pieces they come.

#[path = "../../tests/described/mod.rs"]
mod described;

use super::*;
use described::describe;

const LIMITS: HeadLimits = HeadLimits {
    client_header_buffer_size: 1024,
    large_client_header_buffers: (4, 8192),
    max_fields: 1000,
    underscores_in_headers: false,
    ignore_invalid_headers: true,
    merge_slashes: true,
    allow_bare_lf: true,
};

fn whole(input: &[u8]) -> String {
    describe(input, &mut std::iter::empty(), &LIMITS)
}

/// Returns the first line: how decoding ended.
fn outcome(input: &[u8], limits: &HeadLimits) -> String {
    describe(input, &mut std::iter::empty(), limits).lines().next().unwrap().to_string()
}

#[test]
fn a_request_has_its_parts() {
    assert_eq!(
        whole(b"\r\nGET /a%20b?x=1 HTTP/1.1\r\nHost: Shop.Example.com:8080\r\nX-A:  b \r\nbad_name: 1\r\n\r\nbody"),
        "complete 81 of which 79\n\
         GET /a%20b?x=1 HTTP/1.1|GET|/a%20b?x=1|HTTP/1.1|Http11|/a b|Ok(\"x=1\")|shop.example.com:8080\n\
         Host=Shop.Example.com:8080;X-A=b;\n\
         [\"bad_name: 1\"]"
    );
    assert_eq!(
        whole(b"POST http://h.example:1/p HTTP/1.0\nHost: other\n\n"),
        "complete 48 of which 48\n\
         POST http://h.example:1/p HTTP/1.0|POST|/p|HTTP/1.0|Http10|/p|Ok(\"\")|h.example:1\n\
         Host=other;\n[]"
    );
    assert_eq!(
        whole(b"GET http://h?q HTTP/1.1\r\nHost: h\r\n\r\n"),
        "complete 36 of which 36\n\
         GET http://h?q HTTP/1.1|GET|?q|HTTP/1.1|Http11|/|Ok(\"q\")|h:0\nHost=h;\n[]"
    );
    assert_eq!(
        whole(b"GET http://h HTTP/1.1\r\nHost: h\r\n\r\n"),
        "complete 34 of which 34\n\
         GET http://h HTTP/1.1|GET|/|HTTP/1.1|Http11|/|Ok(\"\")|h:0\nHost=h;\n[]"
    );
    assert_eq!(
        whole(b"GET /x?y#z\r\nHost: no field in 0.9"),
        "complete 12 of which 12\nGET /x?y#z|GET|/x?y#z||Http09|/x|Ok(\"y\")|:0\n\n[]"
    );
}

#[test]
fn an_error_is_explained_in_nginx_words() {
    let cases: &[(&str, &str)] = &[
        ("get / HTTP/1.1\r\n", "400 client sent invalid method"),
        ("GET / HTTP/2.0\r\n", "505 client sent invalid version"),
        ("GET * HTTP/1.1\r\n", "400 client sent invalid request"),
        ("GET /%zz HTTP/1.1\r\n", "400 client sent invalid request"),
        ("GET /a/../.. HTTP/1.1\r\n", "400 client sent invalid request"),
        ("PUT /\r\n", "400 client sent invalid method in HTTP/0.9 request"),
        ("GET / HTTP/1.1\r\n\r\n", "400 client sent HTTP/1.1 request without \"Host\" header"),
        ("GET / HTTP/1.0\r\n\r\n", "complete 18 of which 18"),
        ("GET / HTTP/1.1\r\nHost: \r\n\r\n", "400 client sent invalid host header"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400 client sent invalid host header"),
        ("GET http://h/ HTTP/1.1\r\nHost: a/b\r\n\r\n", "400 client sent invalid host header"),
        ("GET http:///x HTTP/1.1\r\n", "400 client sent invalid host in request line"),
        ("GET http://a..b/x HTTP/1.1\r\n", "400 client sent invalid host in request line"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
            "400 client sent duplicate host header: \"host: b\", previous value: \"Host: a\"",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\n",
            "400 client sent duplicate header line: \"content-length: 1\", previous value: \"Content-Length: 1\"",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-A: 1\r\n\r\n", "complete 43 of which 43"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400 client sent invalid header line: \"Host\\x20...\""),
        ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "400 client sent invalid header line: \"\\x20...\""),
        ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", "400 client sent invalid header line: \"Host: a\\x0d...\""),
        ("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", "400 client sent invalid header line: \"Host: a\\x00...\""),
        ("GET / HTTP/1.1\r\nHost: a", "partial"),
        ("", "partial"),
        ("\r\n\r\n", "partial"),
    ];
    for (input, expected) in cases {
        assert_eq!(outcome(input.as_bytes(), &LIMITS), *expected, "{input:?}");
    }
}

#[test]
fn a_unique_field_is_refused_when_repeated() {
    for known in Known::all().filter(|known| known.is_unique_in_request()) {
        let name = known.name();
        let input = format!("GET / HTTP/1.0\r\n{name}: h\r\n{name}: h\r\n\r\n");
        assert!(outcome(input.as_bytes(), &LIMITS).starts_with("400 client sent duplicate h"), "{name}");
    }
    for known in Known::all().filter(|known| !known.is_unique_in_request()) {
        let name = known.name();
        let input = format!("GET / HTTP/1.0\r\n{name}: h\r\n{name}: h\r\n\r\n");
        assert!(outcome(input.as_bytes(), &LIMITS).starts_with("complete"), "{name}");
    }
}

#[test]
fn each_limit_refuses_a_longer_head() {
    let request = |uri: usize, fields: &[usize]| {
        let mut text = format!("GET /{} HTTP/1.1\r\n", "u".repeat(uri - 16));
        for (number, len) in fields.iter().enumerate() {
            text += &format!("H{number:03}: {}\r\n", "v".repeat(len - 8));
        }
        text + "Host: h\r\n\r\n"
    };
    let ends = |text: String| outcome(text.as_bytes(), &LIMITS);
    assert!(ends(request(8192, &[])).starts_with("complete"));
    assert_eq!(ends(request(8193, &[])), "414 client sent too long URI");
    assert!(ends(request(100, &[8192, 8192, 8192])).starts_with("complete"));
    assert!(ends(request(100, &[8193])).starts_with("494 client sent too long header line: \"H000: vvv"));
    assert!(ends(request(100, &[8193])).ends_with("v...\""));
    assert_eq!(
        ends(request(100, &[8193])).len(),
        "494 client sent too long header line: \"...\"".len() + 1748
    );
    let four = [8192, 8192, 8192, 8192];
    assert!(ends(request(100, &four)).starts_with("494 client sent too long header line: \"Host: h"));
    assert!(ends(request(8192, &four[..2])).starts_with("complete"));
    let few = HeadLimits { max_fields: 3, ..LIMITS };
    assert!(outcome(request(100, &[20, 20]).as_bytes(), &few).starts_with("complete"));
    assert_eq!(
        outcome(request(100, &[20, 20, 20]).as_bytes(), &few),
        "494 client sent too many header lines"
    );
    let one = HeadLimits { large_client_header_buffers: (1, 100), client_header_buffer_size: 50, ..LIMITS };
    assert_eq!(outcome(request(100, &[20]).as_bytes(), &one), "494 client sent too large request");
    let blank = "\r\n".repeat(20_000);
    assert_eq!(outcome(blank.as_bytes(), &LIMITS), "400 client sent invalid request");
}

#[test]
fn odd_names_are_dropped_passed_or_refused() {
    let input = b"GET / HTTP/1.0\r\na_b: 1\r\nc.d: 2\r\n\r\n";
    let fields = |limits: &HeadLimits| {
        describe(input, &mut std::iter::empty(), limits).lines().nth(2).unwrap().to_string()
    };
    assert_eq!(fields(&LIMITS), "");
    assert_eq!(fields(&HeadLimits { underscores_in_headers: true, ..LIMITS }), "a_b=1;");
    assert_eq!(fields(&HeadLimits { ignore_invalid_headers: false, ..LIMITS }), "a_b=1;c.d=2;");
    let strict = HeadLimits { allow_bare_lf: false, ..LIMITS };
    assert_eq!(outcome(b"GET / HTTP/1.0\n\n", &strict), "400 client sent invalid request");
    assert!(
        outcome(b"GET / HTTP/1.0\r\na: b\n\r\n", &strict).starts_with("400 client sent invalid header line")
    );
}

#[test]
fn a_cleared_head_starts_over() {
    let first = b"CONNECT h:1 HTTP/1.0\r\nbad_name: x\r\nA: 1\r\n\r\n";
    let second = b"GET / HTTP/1.1\r\nHost: b\r\n\r\n";
    let mut head = RequestHead::new();
    assert!(!head.has_begun() && head.is_empty());
    head.decode(first, &LIMITS).unwrap();
    assert_eq!(
        (head.method, head.authority(), head.target()),
        (Method::Connect, Some(&b"h:1"[..]), &b"/"[..])
    );
    assert_eq!(head.decode(first, &LIMITS), Ok(Progress::Complete { consumed: first.len() }), "asked again");
    head.clear();
    assert!(!head.has_begun() && !head.has_line());
    assert_eq!(head.decode(&second[..10], &LIMITS), Ok(Progress::Partial));
    assert!(head.has_begun() && !head.has_line() && head.target().is_empty());
    assert_eq!(head.decode(&second[..20], &LIMITS), Ok(Progress::Partial));
    assert!(head.has_line());
    head.decode(second, &LIMITS).unwrap();
    assert_eq!((head.host(), head.headers.len(), head.dropped.len()), (&b"b"[..], 1, 0));
    assert!(head.is_plain() && head.is_target_whole() && head.scheme().is_none());
}

#[test]
fn a_head_in_single_bytes_takes_linear_time() {
    // A megabyte, byte by byte: a decoder that begins each line anew would need minutes.
    let limits = HeadLimits { large_client_header_buffers: (4, 1 << 20), ..LIMITS };
    let input =
        format!("GET /{} HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "p".repeat(500_000), "v".repeat(500_000));
    let mut head = RequestHead::new();
    for end in 1..input.len() {
        assert_eq!(head.decode(&input.as_bytes()[..end], &limits), Ok(Progress::Partial));
    }
    assert_eq!(head.decode(input.as_bytes(), &limits), Ok(Progress::Complete { consumed: input.len() }));
}

/// Every message about a head with a secret in it: all kinds of faults, in front of the secret, in it and behind it, however
/// the head comes in pieces.
#[test]
fn no_message_about_a_head_quotes_a_secret() {
    let small =
        HeadLimits { client_header_buffer_size: 128, large_client_header_buffers: (2, 128), ..LIMITS };
    let strict = HeadLimits { ignore_invalid_headers: false, max_fields: 2, ..LIMITS };
    let mut masked = 0;
    for name in ["Authorization", "PROXY-AUTHORIZATION", "cookie", "Set-Cookie", "Set_Cookie", "Cookie "] {
        let secret = format!("{name}: s3cret-s3cret\r\n");
        let twice = format!("{secret}{}", secret.to_lowercase());
        let long = format!("{name}: s3cret{}\r\n", "s3cret".repeat(40));
        let after_long = format!("X: {}\r\n{secret}{secret}", "x".repeat(200));
        let folded = format!("{name}: a\r\n s3cret\r\n");
        let mut heads = vec![twice, long, after_long, folded];
        heads.extend((0..secret.len()).flat_map(|at| {
            ["\0", "\r", "\n", "\x7f", " "].map(|byte| format!("{}{byte}{}", &secret[..at], &secret[at..]))
        }));
        heads.extend(
            ["Host: y\r\n", "Host: ..\r\n", "Content-Length: x\r\n"].map(|more| format!("{secret}{more}")),
        );
        for fields in heads {
            for head in [
                format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n"),
                format!("GET / HTTP/1.1\r\n{fields}\r\n"),
            ] {
                for (limits, piece) in
                    [(&LIMITS, 4096), (&LIMITS, 1), (&small, 4096), (&small, 7), (&strict, 64)]
                {
                    let mut decoded = RequestHead::new();
                    for end in (piece..).step_by(piece).map(|end| end.min(head.len())) {
                        match decoded.decode(&head.as_bytes()[..end], limits) {
                            Ok(Progress::Partial) if end < head.len() => continue,
                            Ok(_) => {}
                            Err(error) => {
                                let mut message = Vec::new();
                                decoded.explain(error, &head.as_bytes()[..end], &mut message);
                                let message = String::from_utf8_lossy(&message);
                                assert!(!message.contains("s3cret"), "{head:?}: {message}");
                                masked += usize::from(message.contains("***"));
                            }
                        }
                        break;
                    }
                }
            }
        }
    }
    assert!(masked > 100, "{masked}");
}
