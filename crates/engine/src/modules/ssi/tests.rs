//! Commands without a request inside another: what they write, and what they log.

use crate::testing::{TestHost, answer, config_of};

/// Returns what a page becomes, and the lines of the error log.
fn page(directives: &str, text: &str) -> (String, Vec<String>) {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "${dollar}");
    let config = config_of(&format!(
        "http {{ geo $dollar {{ default \"$\"; }} server {{ listen 80; ssi on; {directives} \
         location / {{ default_type text/html; return 200 \"{text}\"; }} }} }}"
    ));
    let mut host = TestHost::new();
    let sent = answer(&config, &mut host, "GET /a/b?c=%26 HTTP/1.0\r\nHost: x\r\n\r\n");
    let body = sent.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    (body, host.error_lines)
}

#[test]
fn commands_write_what_they_say() {
    for (text, expected) in [
        ("a<!--#echo var='uri' -->b", "a/a/bb"),
        ("<!--#echo var='none' -->", "(none)"),
        ("<!--#echo var='none' default='' -->", ""),
        ("<!--#set var='X' value='<$uri>' --><!--#echo var='x' -->", "&lt;/a/b&gt;"),
        (
            "<!--#set var='x' value='<&>' --><!--#echo var='x' encoding='none' --><!--#echo var='x' -->",
            "<&><&>",
        ),
        ("<!--#set var='x' value='a b' --><!--#echo var='x' encoding='url' -->", "a%20b"),
        ("<!--#set var='x' value='${uri}1' --><!--#echo var='x' -->", "/a/b1"),
        ("<!--#set var='x' value='\\$uri' --><!--#echo var='x' -->", "$uri"),
        ("<!--#if expr='$none' -->a<!--#else -->b<!--#endif -->c", "bc"),
        ("<!--#if expr='$uri' -->a<!--#else -->b<!--#endif -->c", "ac"),
        ("<!--#if expr='$uri = \\/a/b' -->a<!--#endif -->", "a"),
        ("<!--#if expr='$uri != x' -->a<!--#elif expr='$uri' -->b<!--#else -->c<!--#endif -->", "a"),
        ("<!--#if expr='$x' -->a<!--#elif expr='$uri' -->b<!--#else -->c<!--#endif -->", "b"),
        ("<!--#if expr='$uri = /(.)\\/b/' --><!--#echo var='1' --><!--#endif -->", "a"),
        ("<!--#if expr='$uri = /(?P<n>b)/' --><!--#echo var='N' --><!--#endif -->", "b"),
        ("<!--#config timefmt='%s' errmsg='!' --><!--#x -->", "!"),
        ("<!--#block name='b' -->text<!--#endblock -->rest", "rest"),
    ] {
        let (body, _) = page("", text);
        assert_eq!(body, expected, "{text}");
    }
}

#[test]
fn faults_are_shown_and_logged() {
    for (text, fault) in [
        ("<!--#x -->", "invalid SSI command: \"x\""),
        ("<!--#echo -->", "mandatory \"var\" parameter is absent in \"echo\" SSI command"),
        ("<!--#echo var='a' var='b' -->", "duplicate \"var\" parameter in \"echo\" SSI command"),
        ("<!--#echo x='a' -->", "invalid parameter name: \"x\" in \"echo\" SSI command"),
        ("<!--#endif -->", "invalid context of SSI command: \"endif\""),
        ("<!--#include -->", "no parameter in \"include\" SSI command"),
        ("<!--#include virtual='a' file='b' -->", "inclusion may be either virtual=\"a\" or file=\"b\""),
        ("<!--#include virtual='/../../x' -->", "unsafe URI \"/../../x\" was detected"),
        ("<!--#include virtual='/x' stub='y' -->", "\"stub\"=\"y\" for \"include\" not found"),
        ("<!--#include file='/x' wait='yes' -->", "\"wait\" cannot be used with file=\"/x\""),
        ("<!--#if expr='$uri ~ x' -->", "invalid expression in \"$uri ~ x\""),
        ("<!--#if expr='$uri = /a/b' -->", "invalid expression in \"$uri = /a/b\""),
        ("<!--#set var='x' value='$' -->", "invalid variable name in \"$\""),
        ("<!--#set var='x' value='${a' -->", "the closing bracket in \"a\" variable is missing"),
    ] {
        let (body, log) = page("", text);
        assert_eq!(body, "[an error occurred while processing the directive]", "{text}");
        assert!(log.iter().any(|line| line.contains(fault)), "{text}: {log:?}");
        let (body, _) = page("ssi_silent_errors on;", text);
        assert_eq!(body, "", "{text}");
    }
}

#[test]
fn stored_ssi_blocks_are_bounded() {
    let block = format!("<!--#block name='b' -->{}<!--#endblock -->end", "x".repeat(2 << 20));
    let config =
        config_of("http { server { listen 80; ssi on; default_type text/html; location / { root /r; } } }");
    let mut host = TestHost::new().file("/r/a.html", &block);
    let sent = answer(&config, &mut host, "GET /a.html HTTP/1.0\r\nHost: x\r\n\r\n");
    assert!(sent.ends_with("\r\n\r\nend"), "{}", sent.len());
    let log = host.error_lines;
    assert!(log.iter().any(|line| line.contains("a block is cut short")), "{log:?}");
}
