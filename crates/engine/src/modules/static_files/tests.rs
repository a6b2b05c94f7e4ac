//! Responses for files; they are those of nginx 1.22.1.

use crate::host::Symlinks;
use crate::testing::{MODIFIED, Node, TestHost, answer, faults_of, server_of};

fn world() -> TestHost {
    TestHost::new()
        .file("/www/a.txt", "hello\n")
        .file("/www/empty.html", "")
        .file("/www/dir/index.html", "<p>\n")
        .file("/www/bare/x", "x")
        .file("/www/ä b/x", "x")
        .file("/prefix/html/index.html", "default\n")
        .node("/www/locked", Node::Locked(libc::EACCES))
        .node("/www/loop", Node::Locked(libc::ELOOP))
        .node("/www/broken", Node::Locked(libc::EIO))
        .node("/www/socket", Node::Special)
}

/// Returns the answer to `GET target` with further lines of a head.
fn get(server: &str, target: &str, fields: &str) -> (String, Vec<String>) {
    ask(server, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"))
}

fn ask(server: &str, request: &str) -> (String, Vec<String>) {
    let config = server_of(server);
    let mut host = world();
    let sent = answer(&config, &mut host, request);
    let lines = host.error_lines.iter().map(|line| match line.split_once(", client: ") {
        Some((text, _)) => text.to_owned(),
        None => line.clone(),
    });
    (sent, lines.collect())
}

fn status(server: &str, target: &str) -> String {
    get(server, target, "").0.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn body(server: &str, target: &str) -> String {
    get(server, target, "").0.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

const ROOT: &str = "root /www;";

#[test]
fn a_file_is_served_with_nginx_s_fields_in_nginx_s_order() {
    let expected = format!(
        "HTTP/1.1 200 OK\r\nServer: pointsman/{}\r\nDate: Sun, 09 Sep 2001 01:46:40 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: 6\r\nLast-Modified: {MODIFIED}\r\n\
         Connection: keep-alive\r\nETag: \"3b9abbf0-6\"\r\nAccept-Ranges: bytes\r\n\r\nhello\n",
        env!("CARGO_PKG_VERSION"),
    );
    let (sent, lines) = get(ROOT, "/a.txt", "");
    assert_eq!(sent, expected);
    assert!(lines.is_empty(), "{lines:?}");
    let (head, _) = ask(ROOT, "HEAD /a.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(head, expected.trim_end_matches("hello\n"));
}

#[test]
fn settings_change_the_head() {
    let has = |server: &str, text: &str| get(server, "/a.txt", "").0.contains(text);
    assert!(!has("root /www; etag off;", "ETag"));
    assert!(!has("root /www; max_ranges 0;", "Accept-Ranges"));
    assert!(has("root /www; types { text/x TxT; }", "Content-Type: text/x\r\n"));
    assert!(has("root /www; types { text/x y; } default_type a/b;", "Content-Type: a/b\r\n"));
    assert!(has("root /www; types {} default_type '';", "200 OK"));
    assert!(!has("root /www; types {} default_type '';", "Content-Type"));
    assert!(body(ROOT, "/empty.html").is_empty());
    assert!(get(ROOT, "/empty.html", "").0.contains("Content-Type: text/html\r\nContent-Length: 0\r\n"));
}

#[test]
fn unservable_files_are_logged_in_nginx_s_words() {
    let long = format!("/{}", "x".repeat(256));
    for (target, expected, line) in [
        ("/no", "404", "[error] open() \"/www/no\" failed (2: No such file or directory)"),
        ("/a.txt/x", "404", "[error] open() \"/www/a.txt/x\" failed (20: Not a directory)"),
        (&long, "404", &format!("[error] open() \"/www{long}\" failed (36: File name too long)")),
        ("/locked", "403", "[error] open() \"/www/locked\" failed (13: Permission denied)"),
        ("/loop", "403", "[error] open() \"/www/loop\" failed (40: Too many levels of symbolic links)"),
        ("/broken", "500", "[crit] open() \"/www/broken\" failed (5: Input/output error)"),
        ("/socket", "404", "[crit] \"/www/socket\" is not a regular file"),
        ("/bare/", "403", "[error] directory index of \"/www/bare/\" is forbidden"),
        ("/none/", "404", "[error] \"/www/none/index.html\" is not found (2: No such file or directory)"),
        ("/a.txt/", "404", "[error] \"/www/a.txt/index.html\" is not found (20: Not a directory)"),
        ("/locked/", "403", "[error] \"/www/locked/index.html\" is forbidden (13: Permission denied)"),
    ] {
        let (sent, lines) = get(ROOT, target, "");
        assert!(sent.starts_with(&format!("HTTP/1.1 {expected} ")), "{target}: {sent}");
        assert_eq!(lines, [line], "{target}");
    }
    for target in ["/no", "/none/", "/a.txt/"] {
        assert_eq!(get("root /www; log_not_found off;", target, "").1, [""; 0], "{target}");
    }
    assert_eq!(get("root /www; log_not_found off;", "/locked", "").1.len(), 1);
}

#[test]
fn files_answer_get_and_head_only() {
    for (method, target, expected) in [
        ("POST", "/a.txt", "405"),
        ("POST", "/no", "404"),
        ("POST", "/dir", "301"),
        ("POST", "/dir/", "405"),
        ("PUT", "/a.txt", "405"),
        ("PUT", "/no", "405"),
        ("DELETE", "/dir/", "405"),
        ("OPTIONS", "/", "405"),
        ("HEAD", "/dir/", "200"),
    ] {
        let (sent, _) = ask(ROOT, &format!("{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(sent.starts_with(&format!("HTTP/1.1 {expected} ")), "{method} {target}: {sent}");
    }
}

#[test]
fn a_directory_without_its_slash_is_redirected() {
    for (target, to) in [
        ("/dir", "http://x/dir/"),
        ("/dir?a=1&b", "http://x/dir/?a=1&b"),
        ("/%C3%A4%20b", "http://x/%C3%A4%20b/"),
        ("/%C3%A4%20b?q", "http://x/%C3%A4%20b/?q"),
    ] {
        let (sent, _) = get(ROOT, target, "");
        assert!(sent.starts_with("HTTP/1.1 301 ") && sent.contains(&format!("Location: {to}\r\n")), "{sent}");
    }
    let (sent, _) = get("location /i { alias /www/dir; }", "/i", "");
    assert!(sent.contains("Location: http://x/i/\r\n"), "{sent}");
}

#[test]
fn root_appends_the_uri_and_alias_replaces_the_prefix() {
    assert_eq!(body("", "/"), "default\n");
    assert_eq!(body("root html;", "/"), "default\n");
    assert_eq!(body("root /prefix/html/;", "/index.html"), "default\n");
    assert_eq!(body("root /;", "/www/a.txt"), "hello\n");
    assert_eq!(body("root $arg_r;", "/a.txt?r=/www"), "hello\n");
    assert_eq!(body("root $arg_r;", "/index.html?r=html"), "default\n");
    assert_eq!(body("root ht$arg_r;", "/index.html?r=ml"), "default\n");
    assert_eq!(body("location /i/ { alias /www/; }", "/i/a.txt"), "hello\n");
    assert_eq!(body("location /i { alias /www; }", "/i/a.txt"), "hello\n");
    assert_eq!(body("location /i/ { alias /www/$arg_d/; }", "/i/index.html?d=dir"), "<p>\n");
    assert_eq!(body("location = /one { alias /www/a.txt; }", "/one"), "hello\n");
    assert_eq!(body(r"location ~ ^/u/(\w+)\.t$ { alias /www/$1.txt; }", "/u/a.t"), "hello\n");
    assert_eq!(body("location ~ ^/fix { alias /www/a.txt; }", "/fix/whatever"), "hello\n");
    assert_eq!(body("location /i/ { alias /www/; if ($arg_x) { set $y 1; } }", "/i/a.txt?x=1"), "hello\n");
    assert_eq!(body("location /i/ { alias /www/; location /i/dir/ { } }", "/i/dir/index.html"), "<p>\n");
    let (sent, lines) = get("location /i/ { rewrite ^ /a.txt break; alias /www/; }", "/i/x", "");
    assert!(sent.starts_with("HTTP/1.1 500 "));
    assert_eq!(lines, ["[alert] \"alias\" cannot be used in location \"/i/\" where URI was rewritten"]);
    assert_eq!(body("location /i/ { rewrite ^ /a.txt break; root /www; }", "/i/x"), "hello\n");
}

#[test]
fn the_first_existing_index_file_is_served() {
    assert_eq!(body(ROOT, "/dir/"), "<p>\n");
    assert_eq!(body("root /www; index no.html x index.html;", "/dir/"), "<p>\n");
    assert_eq!(body("root /www; index a.$arg_e;", "/?e=txt"), "hello\n");
    assert_eq!(body("root /www; index none /a.txt;", "/bare/"), "hello\n");
    assert_eq!(body("root /www; index none /$arg_i;", "/bare/?i=a.txt"), "hello\n");
    assert_eq!(body("location /i/ { alias /www/dir/; }", "/i/"), "<p>\n");
    // An internal redirect: the file's own location serves it.
    let locations = "root /www; location = /dir/index.html { return 200 \"$uri?$args\"; }";
    assert_eq!(body(locations, "/dir/?q=1"), "/dir/index.html?q=1");
    // An alias without its slash names another file, as in nginx, and the directory is looked at all the same.
    let (_, lines) = get("location /i/ { alias /www/dir; }", "/i/", "");
    assert_eq!(lines, ["[error] directory index of \"/www/dir\" is forbidden"]);
    let (sent, lines) = get("root /www; index /dir/;", "/dir/", "");
    assert!(sent.starts_with("HTTP/1.1 500 "));
    assert_eq!(
        lines,
        ["[error] rewrite or internal redirection cycle while internally redirecting to \"/dir/\""]
    );
}

#[test]
fn conditional_requests_get_304_or_412() {
    let date = |days: u32| format!("{:02} Sep 2001 00:46:40 GMT", days);
    let same = format!("Sun, {}", date(9));
    let later = format!("Mon, {}", date(10));
    let earlier = format!("Sat, {}", date(8));
    for (server, fields, expected) in [
        ("", format!("If-Modified-Since: {same}"), "304"),
        ("", format!("If-Modified-Since: {later}"), "200"),
        ("if_modified_since before;", format!("If-Modified-Since: {later}"), "304"),
        ("if_modified_since before;", format!("If-Modified-Since: {earlier}"), "200"),
        ("if_modified_since off;", format!("If-Modified-Since: {same}"), "200"),
        ("", "If-Modified-Since: nonsense".to_owned(), "200"),
        ("", "If-None-Match: \"3b9abbf0-6\"".to_owned(), "304"),
        ("", "If-None-Match: W/\"3b9abbf0-6\"".to_owned(), "304"),
        ("", "If-None-Match: \"x\"".to_owned(), "200"),
        ("", "If-None-Match: *".to_owned(), "304"),
        ("", format!("If-Modified-Since: {same}\r\nIf-None-Match: \"x\""), "200"),
        ("", format!("If-Modified-Since: {later}\r\nIf-None-Match: *"), "200"),
        ("", "If-Match: \"3b9abbf0-6\"".to_owned(), "200"),
        ("", "If-Match: W/\"3b9abbf0-6\"".to_owned(), "412"),
        ("etag off;", "If-Match: \"3b9abbf0-6\"".to_owned(), "412"),
        ("", format!("If-Unmodified-Since: {same}"), "200"),
        ("", format!("If-Unmodified-Since: {earlier}"), "412"),
        ("", "If-Unmodified-Since: nonsense".to_owned(), "412"),
    ] {
        let (sent, _) = get(&format!("root /www; {server}"), "/a.txt", &format!("{fields}\r\n"));
        assert!(sent.starts_with(&format!("HTTP/1.1 {expected} ")), "{server} {fields}: {sent}");
    }
    let (sent, _) = get("root /www; add_header X-A 1;", "/a.txt", "If-None-Match: *\r\n");
    let (_, fields) = sent.split_once("GMT\r\n").unwrap();
    let expected = "Connection: keep-alive\r\nETag: \"3b9abbf0-6\"\r\nX-A: 1\r\n\r\n";
    assert_eq!(fields, format!("Last-Modified: {MODIFIED}\r\n{expected}"));
}

#[test]
fn conditions_apply_to_generated_answers_too() {
    for (server, fields, expected) in [
        ("return 200 hi;", "If-None-Match: *", "304"),
        ("return 200 hi;", "If-None-Match: \"x\"", "200"),
        ("return 200 hi;", "If-Modified-Since: Sun, 09 Sep 2001 00:46:40 GMT", "200"),
        ("return 200 hi;", "If-Unmodified-Since: Sun, 09 Sep 2001 00:46:40 GMT", "412"),
        ("return 201 hi;", "If-None-Match: *", "201"),
        ("return 404;", "If-Match: \"x\"", "404"),
    ] {
        let (sent, _) = get(&format!("location / {{ {server} }}"), "/", &format!("{fields}\r\n"));
        assert!(sent.starts_with(&format!("HTTP/1.1 {expected} ")), "{server} {fields}: {sent}");
    }
    let (sent, _) = get(
        "root /www; add_header X-A 1; add_header X-B 2 always; error_page 412 /dir/index.html;",
        "/a.txt",
        "If-Match: \"x\"\r\n",
    );
    assert!(sent.starts_with("HTTP/1.1 412 ") && sent.ends_with("<p>\n"), "{sent}");
    assert!(sent.contains("ETag: \"3b9abbf0-4\"\r\n") && !sent.contains("3b9abbf0-6"), "{sent}");
    assert!(!sent.contains("X-A") && sent.matches("X-B").count() == 1, "{sent}");
}

#[test]
fn ranges_get_206_or_416() {
    let (sent, _) = get(ROOT, "/a.txt", "Range: bytes=1-3\r\n");
    assert!(sent.starts_with("HTTP/1.1 206 Partial Content\r\n") && sent.ends_with("\r\n\r\nell"), "{sent}");
    assert!(
        sent.contains("Content-Length: 3\r\n") && sent.contains("Content-Range: bytes 1-3/6\r\n"),
        "{sent}"
    );
    assert!(!sent.contains("Accept-Ranges"), "{sent}");
    let (sent, _) = get(ROOT, "/a.txt", "Range: bytes=0-1,-2\r\n");
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: multipart/byteranges; boundary=00000000000000000001\r\n"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    assert!(!head.contains("Content-Range"), "{head}");
    assert_eq!(
        body,
        "\r\n--00000000000000000001\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/6\r\n\r\nhe\
         \r\n--00000000000000000001\r\nContent-Type: text/plain\r\nContent-Range: bytes 4-5/6\r\n\r\no\n\
         \r\n--00000000000000000001--\r\n"
    );
    let (head, _) = ask(ROOT, "HEAD /a.txt HTTP/1.0\r\nRange: bytes=-1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 206 ") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn ranges_are_refused_or_ignored() {
    let (sent, _) =
        get("root /www; add_header X-A 1; add_header X-B 2 always;", "/a.txt", "Range: bytes=6-\r\n");
    assert!(sent.starts_with("HTTP/1.1 416 "), "{sent}");
    assert!(sent.contains("Content-Range: bytes */6\r\n") && !sent.contains("ETag"), "{sent}");
    assert!(!sent.contains("Accept-Ranges") && !sent.contains("Last-Modified"), "{sent}");
    // The header filters run for the file and again for the error page: so they do in nginx.
    assert_eq!((sent.matches("X-A").count(), sent.matches("X-B").count()), (1, 2), "{sent}");
    assert!(sent.contains("<title>416 Requested Range Not Satisfiable</title>"), "{sent}");
    for (server, fields, expected) in [
        ("max_ranges 0;", "Range: bytes=0-1", "200"),
        ("max_ranges 1;", "Range: bytes=0-1,3-4", "200"),
        ("", "Range: lines=0-1", "200"),
        ("", "Range: bytes=0-1\r\nIf-Range: \"3b9abbf0-6\"", "206"),
        ("", "Range: bytes=0-1\r\nIf-Range: \"x\"", "200"),
        ("", "Range: bytes=0-1\r\nIf-Range: W/\"3b9abbf0-6\"", "200"),
        ("", "Range: bytes=0-1\r\nIf-Range: Sun, 09 Sep 2001 00:46:40 GMT", "206"),
        ("", "Range: bytes=0-1\r\nIf-Range: Sun, 09 Sep 2001 00:46:41 GMT", "200"),
        ("add_header ETag '\"mine\"';", "Range: bytes=0-1\r\nIf-Range: \"mine\"", "206"),
        ("", "Range: bytes=0-1\r\nIf-None-Match: *", "304"),
    ] {
        let (sent, _) = get(&format!("root /www; {server}"), "/a.txt", &format!("{fields}\r\n"));
        assert!(sent.starts_with(&format!("HTTP/1.1 {expected} ")), "{server} {fields}: {sent}");
    }
}

#[test]
fn an_error_page_keeps_the_error_s_status() {
    let (sent, _) =
        get("root /www; error_page 404 /a.txt;", "/no", "Range: bytes=0-1\r\nIf-None-Match: *\r\n");
    assert!(sent.starts_with("HTTP/1.1 404 Not Found\r\n") && sent.ends_with("\r\n\r\nhello\n"), "{sent}");
    assert!(!sent.contains("Accept-Ranges") && !sent.contains("Last-Modified"), "{sent}");
    assert_eq!(status("root /www; error_page 404 =200 /a.txt;", "/no"), "200");
    assert_eq!(status("root /www; error_page 404 = /a.txt;", "/no"), "200");
    assert_eq!(status("root /www; error_page 404 = /none;", "/no"), "404");
}

#[test]
fn symlink_rules_reach_the_host() {
    for (server, expected) in [
        ("", (Symlinks::Follow, 0)),
        ("disable_symlinks on;", (Symlinks::Refuse, 0)),
        ("disable_symlinks if_not_owner;", (Symlinks::RefuseOtherOwner, 0)),
        ("disable_symlinks on from=/www;", (Symlinks::Refuse, 4)),
        ("disable_symlinks on from=/www/;", (Symlinks::Refuse, 4)),
        ("disable_symlinks on from=/ww;", (Symlinks::Refuse, 0)),
        ("disable_symlinks on from=/www/a.txt;", (Symlinks::Follow, 0)),
        ("disable_symlinks on from=$arg_none;", (Symlinks::Refuse, 0)),
    ] {
        let config = server_of(&format!("root /www; {server}"));
        let mut host = world();
        answer(&config, &mut host, "GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(host.opened, [("/www/a.txt".to_owned(), expected.0, expected.1)], "{server}");
    }
}

#[test]
fn faults_have_nginx_s_words() {
    for (text, expected) in [
        ("root /a; root /b;", "\"root\" directive is duplicate"),
        ("location /a { alias /a; alias /b; }", "\"alias\" directive is duplicate"),
        (
            "location /a { root /a; alias /b; }",
            "\"alias\" directive is duplicate, \"root\" directive was specified earlier",
        ),
        ("location @a { alias /a; }", "the \"alias\" directive cannot be used inside the named location"),
        ("root $document_root/x;", "the $document_root variable cannot be used in the \"root\" directive"),
        ("index a '';", "index \"\" in \"index\" directive is invalid"),
        ("index /a b;", "only the last index in \"index\" directive should be absolute"),
        (
            "types { a/b x; a/c X; }",
            "duplicate extension \"X\", content type: \"a/c\", previous content type: \"a/b\"",
        ),
        ("if_modified_since never;", "invalid value \"never\""),
        ("max_ranges x;", "invalid value"),
        ("disable_symlinks maybe;", "invalid parameter \"maybe\""),
        (
            "disable_symlinks from=/a;",
            "\"disable_symlinks\" must have \"off\", \"on\" or \"if_not_owner\" parameter",
        ),
        ("disable_symlinks on off;", "duplicate parameters \"on off\""),
        ("disable_symlinks off from=/a;", "\"from=\" cannot be used with \"off\" parameter"),
    ] {
        let faults = faults_of(&format!("http {{ server {{ listen 80; {text} }} }}"));
        assert_eq!(faults, [format!("{expected} in /etc/pointsman/nginx.conf:1")], "{text}");
    }
}

#[test]
fn parent_segments_from_requests_are_refused_and_configured_ones_kept() {
    for (server, target, path) in [
        ("location /f { alias /www/; }", "/f../locked", Some("/www/../locked")),
        ("location /f { alias /www/.; }", "/f./a.txt", Some("/www/../a.txt")),
        ("location ~ ^/f(.*)$ { alias /www/$1; }", "/f../a.txt", Some("/www/../a.txt")),
        ("location / { root /www/$arg_a./; }", "/a.txt?a=.", Some("/www/..")),
        ("location / { root /www/dir$arg_a; }", "/a.txt?a=/..", Some("/www/dir/..")),
        ("location / { root /www/dir/../$arg_a; }", "/a.txt", None),
        ("location /f { alias /www/dir/../; }", "/f/a.txt", None),
        ("location /f { alias /www/dir/..; }", "/f/a.txt", None),
        ("location / { root /www; index $arg_a; }", "/dir/?a=../a.txt", Some("/www/dir/../a.txt")),
        ("location / { root /www/dir/..; if (-f $document_root/a.txt) { return 200; } }", "/", None),
    ] {
        let (_, lines) = get(server, target, "");
        let refusal =
            path.map(|path| format!("[error] path \"{path}\" is refused: the request put a \"..\" into it"));
        let refused = lines.iter().find(|line| line.contains("is refused"));
        assert_eq!(refused, refusal.as_ref(), "{server} {target}: {lines:?}");
        if path.is_some() {
            assert_eq!(status(server, target), "403", "{server} {target}");
        }
    }
}

#[test]
fn an_alias_off_by_a_slash_gets_a_warning() {
    for (location, warned) in [
        ("/f { alias /www/; }", true),
        ("^~ /f { alias /www/; }", true),
        ("/f/ { alias /www/; }", false),
        ("/f { alias /www; }", false),
        ("= /f { alias /www/; }", false),
        ("~ ^/f { alias /www/; }", false),
    ] {
        let faults = faults_of(&format!("http {{ server {{ listen 80; location {location} }} }}"));
        let expected =
            "location \"/f\" has no slash at its end, its \"alias\" has one in /etc/pointsman/nginx.conf:1";
        assert_eq!(faults, if warned { vec![expected] } else { vec![] }, "{location}");
    }
}
