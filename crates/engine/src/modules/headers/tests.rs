//! Added fields in responses; they are those of nginx 1.22.1.

use crate::testing::{MODIFIED, TestHost, answer, faults_of, server_of};

fn get(server: &str, target: &str) -> String {
    let config = server_of(server);
    let mut host = TestHost::new().file("/www/a.txt", "hello\n");
    answer(&config, &mut host, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

/// Returns the fields after `Connection`.
fn added(server: &str, target: &str) -> String {
    let sent = get(server, target);
    let (_, fields) = sent.split_once("Connection: keep-alive\r\n").unwrap();
    fields.split_once("\r\n\r\n").map_or("", |(fields, _)| fields).to_owned()
}

#[test]
fn fields_are_added_by_status() {
    let fields = "add_header X-A $arg_a; add_header X-B b always; add_header X-E ''; add_header x-a 2;";
    for (status, safe) in
        [(200, true), (201, true), (204, true), (302, true), (308, true), (400, false), (500, false)]
    {
        let server = format!("location / {{ {fields} return {status} t; }}");
        let expected = if safe { "X-A: 1\r\nX-B: b\r\nx-a: 2" } else { "X-B: b" };
        assert!(added(&server, "/?a=1").ends_with(expected), "{status}");
        assert!(!added(&server, "/").contains("X-A"), "an empty value adds no field");
    }
    assert!(added(&format!("{fields} location / {{ return 404; }}"), "/").ends_with("X-B: b"));
}

#[test]
fn a_level_s_own_fields_replace_the_outer_ones() {
    let outer = "add_header X-O o; ";
    for (inner, expected) in [
        ("", "X-O: o"),
        ("add_header X-I i;", "X-I: i"),
        ("add_header X-I i; add_header_inherit merge;", "X-I: i\r\nX-O: o"),
        ("add_header_inherit merge;", "X-O: o"),
        ("add_header_inherit off;", ""),
    ] {
        assert_eq!(
            added(&format!("{outer} location / {{ {inner} return 200 t; }}"), "/"),
            expected,
            "{inner}"
        );
    }
    let merged = "add_header X-O o; add_header_inherit merge; location / { add_header X-I i; return 200 t; }";
    assert_eq!(added(merged, "/"), "X-I: i\r\nX-O: o", "the rule itself is inherited");
}

#[test]
fn some_fields_are_replaced_instead() {
    assert_eq!(added("root /www; add_header ETag \"\";", "/a.txt"), "Accept-Ranges: bytes");
    assert_eq!(added("root /www; add_header ETag '\"x\"';", "/a.txt"), "ETag: \"x\"\r\nAccept-Ranges: bytes");
    let sent =
        get("root /www; etag off; add_header Last-Modified 'Sun, 06 Nov 1994 08:49:37 GMT';", "/a.txt");
    assert_eq!(sent.matches("Last-Modified").count(), 1, "{sent}");
    assert!(sent.contains("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "{sent}");
    assert!(!get("root /www; add_header Last-Modified \"\";", "/a.txt").contains("Last-Modified"));
    let both = "location / { add_header Cache-Control a; add_header Cache-Control b; return 200 t; }";
    assert_eq!(added(both, "/"), "Cache-Control: a\r\nCache-Control: b");
    // nginx has expires first, whatever comes first in the text.
    let three = "location / { add_header Cache-Control private; expires 1h; return 200 t; }";
    let expires = "Expires: Sun, 09 Sep 2001 02:46:40 GMT\r\nCache-Control: max-age=3600";
    assert_eq!(added(three, "/"), format!("{expires}\r\nCache-Control: private"));
}

#[test]
fn nothing_in_a_value_ends_the_line() {
    assert_eq!(
        added("location / { add_header X-U $uri; return 200 t; }", "/a%0d%0aX-Evil:1"),
        "X-U: /a  X-Evil:1"
    );
}

#[test]
fn expires_sets_two_fields() {
    for (rule, expected) in [
        ("30", "Expires: Sun, 09 Sep 2001 01:47:10 GMT\r\nCache-Control: max-age=30"),
        ("-1", "Expires: Sun, 09 Sep 2001 01:46:39 GMT\r\nCache-Control: no-cache"),
        ("0", "Expires: Sun, 09 Sep 2001 01:46:40 GMT\r\nCache-Control: max-age=0"),
        ("epoch", "Expires: Thu, 01 Jan 1970 00:00:01 GMT\r\nCache-Control: no-cache"),
        ("max", "Expires: Thu, 31 Dec 2037 23:55:55 GMT\r\nCache-Control: max-age=315360000"),
        ("off", ""),
        ("@12h", "Expires: Sun, 09 Sep 2001 12:00:00 GMT\r\nCache-Control: max-age=36800"),
        ("modified +2h", "Expires: Sun, 09 Sep 2001 03:46:40 GMT\r\nCache-Control: max-age=7200"),
        ("$arg_e", "Expires: Sun, 09 Sep 2001 01:46:50 GMT\r\nCache-Control: max-age=10"),
        ("$arg_none", ""),
    ] {
        let server = format!("location / {{ expires {rule}; return 200 t; }}");
        assert_eq!(added(&server, "/?e=10"), expected, "{rule}");
    }
    let sent = get("root /www; expires modified +2h;", "/a.txt");
    assert!(
        sent.contains("Expires: Sun, 09 Sep 2001 02:46:40 GMT\r\nCache-Control: max-age=3600\r\n"),
        "{sent}"
    );
    assert!(sent.contains(MODIFIED), "{sent}");
    assert_eq!(added("expires 1h; location / { return 404; }", "/"), "");
    assert_eq!(added("expires 1h; location / { expires off; return 200 t; }", "/"), "");
}

#[test]
fn trailers_make_the_answer_chunked() {
    let sent = get("root /www; etag off; add_trailer X-T $body_bytes_sent; add_trailer X-N '';", "/a.txt");
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Transfer-Encoding: chunked") && !head.contains("Content-Length"), "{head}");
    assert!(body.starts_with("6\r\nhello\n\r\n0\r\nX-T: ") && body.ends_with("\r\n\r\n"), "{body}");
    assert!(!get("location / { add_trailer X-T 1; return 404; }", "/").contains("X-T"));
    assert!(
        get("location / { add_trailer X-T 1 always; return 404; }", "/").ends_with("0\r\nX-T: 1\r\n\r\n")
    );
    let config = server_of("root /www; add_trailer X-T 1;");
    let mut host = TestHost::new().file("/www/a.txt", "hello\n");
    for request in ["HEAD /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a.txt HTTP/1.0\r\n\r\n"] {
        let sent = answer(&config, &mut host, request);
        assert!(sent.contains("Content-Length: 6\r\n") && !sent.contains("X-T"), "{sent}");
    }
}

#[test]
fn faults_have_nginx_s_words() {
    for (text, expected) in [
        ("add_header X-A 1 sometimes;", "invalid parameter \"sometimes\""),
        ("add_header_inherit maybe;", "invalid value"),
        ("expires 1x;", "invalid value"),
        ("expires often 1h;", "invalid value"),
        ("expires modified @1h;", "daily time cannot be used with \"modified\" parameter"),
        ("expires @25h;", "daily time value must be less than 24 hours"),
        ("expires 1h; expires 2h;", "\"expires\" directive is duplicate"),
    ] {
        let faults = faults_of(&format!("http {{ server {{ listen 80; {text} }} }}"));
        assert_eq!(faults, [format!("{expected} in /etc/pointsman/nginx.conf:1")], "{text}");
    }
}
