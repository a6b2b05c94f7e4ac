//! Which types get a charset.

use crate::host::Env;
use crate::output::write_head;
use crate::testing::{TestHost, config_of, exchange};

/// Returns the `Content-Type` that an answer of this type gets.
fn sent(directives: &str, kind: &str) -> String {
    let config =
        config_of(&format!("http {{ server {{ listen 80; location / {{ {directives} return 200 x; }} }} }}"));
    let mut host = TestHost::new();
    let mut exchange = exchange(&config, &mut host, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    exchange.route.location = crate::LocationId(config.locations.len() as u32 - 1);
    exchange.response.content_type = Some(kind.as_bytes().to_vec());
    write_head(&mut exchange, &mut Env { config: &config, host: &mut host }).unwrap();
    String::from_utf8(exchange.response.content_type.unwrap()).unwrap()
}

#[test]
fn charsets_are_added_to_the_types_that_have_none() {
    for (directives, kind, expected) in [
        ("", "text/html", "text/html"),
        ("charset utf-8;", "text/html", "text/html; charset=utf-8"),
        ("charset utf-8;", "Text/Plain; x=1", "Text/Plain; x=1; charset=utf-8"),
        ("charset utf-8;", "text/css", "text/css"),
        ("charset utf-8; charset_types text/css;", "text/css", "text/css; charset=utf-8"),
        ("charset utf-8; charset_types text/css;", "text/plain", "text/plain"),
        ("charset utf-8; charset_types *;", "image/png", "image/png; charset=utf-8"),
        ("charset utf-8;", "text/html; charset=koi8-r", "text/html; charset=koi8-r"),
        ("charset utf-8; override_charset on;", "text/html; Charset=koi8-r", "text/html; Charset=koi8-r"),
        ("set $c utf-16; charset $c;", "text/html", "text/html"),
        ("charset $host;", "text/html", "text/html; charset=a"),
        ("charset off;", "text/html", "text/html"),
        ("charset utf-8; source_charset UTF-8;", "text/html", "text/html; charset=utf-8"),
    ] {
        assert_eq!(sent(directives, kind), expected, "{directives} {kind}");
    }
}
