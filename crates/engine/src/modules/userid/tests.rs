//! Cookies that are given, kept, marked and reset.

use crate::testing::{TestHost, answer, config_of};

/// Returns the cookie of an answer, its body, and the lines of the error log.
fn asked(directives: &str, cookie: &str) -> (Option<String>, String, Vec<String>) {
    let config = config_of(&format!(
        "http {{ error_log e notice; server {{ listen 80; location / {{ {directives} return 200 \"$uid_got|$uid_set\"; }} }} }}"
    ));
    let mut host = TestHost::new();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
    let sent = answer(&config, &mut host, &request);
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    let cookie = head.lines().find_map(|line| line.strip_prefix("Set-Cookie: ")).map(str::to_owned);
    (cookie, body.to_owned(), host.error_lines)
}

/// The numbers 1, 2, 3 and 4, as the machine has them, in base64.
const COOKIE: &str = "uid=AQAAAAIAAAADAAAABAAAAA==";
const NUMBERS: &str = "uid=00000001000000020000000300000004";

#[test]
fn clients_without_a_cookie_get_one() {
    let (cookie, body, _) = asked("userid on; userid_service 5; userid_flags samesite=lax secure;", "x=1");
    let cookie = cookie.unwrap();
    assert!(
        cookie.starts_with("uid=AAAABTuayg") && cookie.ends_with("==; path=/; secure; samesite=lax"),
        "{cookie}"
    );
    assert!(body.starts_with("|uid=0500000000CA9A3B") && body.len() == 37, "{body}");
    let (cookie, ..) = asked("userid on; userid_domain a.b; userid_path /c; userid_expires max;", "x=1");
    let end = "; expires=Thu, 31-Dec-37 23:55:55 GMT; domain=a.b; path=/c";
    assert!(cookie.is_some_and(|cookie| cookie.ends_with(end)));
    let (cookie, ..) = asked("userid v1; userid_expires 1h;", "x=1");
    let end = "; expires=Sun, 09-Sep-01 02:46:40 GMT; path=/";
    assert!(cookie.is_some_and(|cookie| cookie.ends_with(end)));
}

#[test]
fn cookies_are_known_and_kept() {
    for mode in ["on", "v1", "log"] {
        let (cookie, body, _) = asked(&format!("userid {mode};"), COOKIE);
        assert_eq!((cookie, body), (None, format!("{NUMBERS}|")), "{mode}");
    }
    let (cookie, body, _) = asked("userid off;", COOKIE);
    assert_eq!((cookie, &*body), (None, "|"));
    let (cookie, body, _) = asked("userid log;", "x=1");
    assert_eq!((cookie, &*body), (None, "|"));
}

#[test]
fn a_cookie_with_another_mark_is_given_anew() {
    let (cookie, ..) = asked("userid on; userid_mark t;", COOKIE);
    assert_eq!(cookie.as_deref(), Some("uid=AQAAAAIAAAADAAAABAAAAAt=; path=/"));
    let (cookie, ..) = asked("userid on; userid_mark t;", "uid=AQAAAAIAAAADAAAABAAAAAt=");
    assert_eq!(cookie, None);
    let (cookie, ..) = asked("userid on; userid_mark t;", "x=1");
    assert!(cookie.is_some_and(|cookie| cookie.ends_with("t=; path=/")));
}

#[test]
fn a_cookie_is_reset() {
    let (cookie, body, log) = asked("userid on; set $uid_reset log;", COOKIE);
    assert!(cookie.as_ref().is_some_and(|cookie| cookie.starts_with("uid=fwAAATuayg")), "{cookie:?}");
    assert!(body.starts_with(&format!("{NUMBERS}|uid=")), "{body}");
    assert!(
        log.iter().any(|line| line.contains(&format!("userid cookie \"{NUMBERS}\" was reset"))),
        "{log:?}"
    );
    let (cookie, ..) = asked("userid on; set $uid_reset 0;", COOKIE);
    assert_eq!(cookie, None);
}

#[test]
fn faulty_cookies_are_replaced_and_logged() {
    for (cookie, fault) in [
        ("uid=short", "client sent too short userid cookie \"uid=short\""),
        (
            "uid=!!!!AAAAAAAAAAAAAAAAAA==",
            "client sent invalid userid cookie \"uid=!!!!AAAAAAAAAAAAAAAAAA==\"",
        ),
    ] {
        let (given, body, log) = asked("userid on;", cookie);
        assert!(given.is_some() && body.starts_with("|uid="), "{cookie}");
        assert!(log.iter().any(|line| line.contains(fault)), "{log:?}");
    }
}
