//! The field Referer against lists.

use crate::testing::{TestHost, answer, faults_of, server_of};

/// Returns the value of `$invalid_referer` for a field, or for none.
fn invalid(settings: &str, field: Option<&str>) -> String {
    let config = server_of(&format!("{settings} location / {{ return 200 \"[$invalid_referer]\"; }}"));
    let field = field.map(|value| format!("Referer: {value}\r\n")).unwrap_or_default();
    let answer = answer(&config, &mut TestHost::new(), &format!("GET / HTTP/1.1\r\nHost: x\r\n{field}\r\n"));
    answer.rsplit_once("\r\n\r\n").unwrap().1.to_owned()
}

fn valid(settings: &str, field: &str) -> bool {
    match invalid(settings, Some(field)).as_str() {
        "[]" => true,
        "[1]" => false,
        other => panic!("{other}"),
    }
}

#[test]
fn hosts_wildcards_and_paths() {
    let list = "valid_referers Example.com *.b.org .dual.net www.tail.* img.test/pics/ h.test/;";
    for (field, wanted) in [
        ("http://example.com", true),
        ("HTTPS://EXAMPLE.com:8080/x", true),
        ("http://www.example.com/", false),
        ("http://a.b.org/", true),
        ("http://b.org/x", false),
        ("http://dual.net/", true),
        ("http://x.dual.net/", true),
        ("http://www.tail.com/", true),
        ("http://img.test/pics/1.png", true),
        ("http://img.test:80/pics/", true),
        ("http://img.test/other", false),
        ("http://img.test", false),
        ("http://h.test", false),
        ("http://h.test/", true),
        ("ftp://example.com/", false),
        ("http://i.r", false),
        ("example.com/is/long/enough", false),
    ] {
        assert_eq!(valid(list, field), wanted, "{field}");
    }
    assert_eq!(invalid(list, None), "[1]");
}

#[test]
fn none_and_blocked() {
    assert_eq!(invalid("valid_referers none a.test;", None), "[]");
    assert!(!valid("valid_referers none a.test;", "-blocked-by-a-wall-"));
    assert!(valid("valid_referers blocked a.test;", "-blocked-by-a-wall-"));
    assert!(valid("valid_referers blocked a.test;", "x"));
    assert_eq!(invalid("valid_referers blocked a.test;", None), "[1]");
    assert_eq!(invalid("", Some("http://whatever/")), "[]");
}

#[test]
fn names_and_regular_expressions() {
    let list =
        "server_name own.test .sub.test ~^re\\d\\.test$; valid_referers server_names ~shop\\.test/sale;";
    for (field, wanted) in [
        ("http://own.test/x", true),
        ("http://a.sub.test/", true),
        ("http://RE1.test/", true),
        ("http://rex.test/", false),
        ("http://www.SHOP.test/Sale/1", true),
        ("http://www.shop.test/other", false),
    ] {
        assert_eq!(valid(list, field), wanted, "{field}");
    }
    let long = format!("http://{}/", "a".repeat(257));
    assert!(!valid("valid_referers ~a;", &long));
    assert!(valid("valid_referers ~a;", &long.replacen('a', "", 1)));
}

#[test]
fn a_location_s_list_replaces_all_but_the_server_s_regexes() {
    let of = |inner: &str, field: &str| {
        let config = server_of(&format!(
            "valid_referers a.test ~b; location / {{ {inner} return 200 \"[$invalid_referer]\"; }}"
        ));
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\nReferer: {field}\r\n\r\n");
        answer(&config, &mut TestHost::new(), &request).ends_with("[]")
    };
    assert!(of("", "http://a.test/"));
    assert!(!of("valid_referers c.test;", "http://a.test/"));
    assert!(of("valid_referers c.test;", "http://b.test/"));
    assert!(!of("valid_referers ~c;", "http://b.test/"));
}

#[test]
fn faults_have_nginx_s_words() {
    let fault = |text: &str| {
        let faults = faults_of(&format!("http {{ server {{ listen 80; {text} }} }}"));
        let words = |line: String| line.split(" in /").next().unwrap_or_default().to_owned();
        faults.into_iter().map(words).collect::<Vec<_>>()
    };
    assert_eq!(fault("valid_referers a.*.b;"), ["invalid hostname or wildcard \"a.*.b\""]);
    assert_eq!(fault("valid_referers a.b A.b/x;"), ["conflicting parameter \"A.b\""]);
    assert_eq!(fault("valid_referers ~;"), ["empty regex in \"~\""]);
    assert_eq!(fault("server_name a.b; valid_referers a.b server_names;"), ["conflicting parameter \"a.b\""]);
    assert_eq!(
        fault("valid_referers none;"),
        [
            "the \"none\" or \"blocked\" referers are specified in the \"valid_referers\" directive without any valid referer"
        ]
    );
}
