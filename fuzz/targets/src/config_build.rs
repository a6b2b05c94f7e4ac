//! A complete configuration: from text to the typed one, and requests through it.
//!
//! Checks that every fault can be shown, and every answer can be read. An input may be several files, see
//! [`crate::files`]; a file named `request` is a request.

use crate::config_text::show;
use crate::files::{MAIN, split};
use crate::world::{World, answer, built, exchange};
use conf::Loader;

const REQUESTS: [&[u8]; 3] = [
    b"GET /a/b.html?c=d&e HTTP/1.1\r\nHost: one.example\r\nCookie: side=green; uid=7\r\nRange: bytes=0-4\r\n\r\n",
    b"POST /%7ea//../x%20y.php HTTP/1.0\r\nContent-Length: 3\r\nAuthorization: Basic dTpw\r\nReferer: http://x.example/\r\n\r\n",
    b"HEAD http://www.two.example:8080 HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"a\"\r\nUser-Agent: Mozilla\r\n\r\n",
];

pub(crate) fn check(data: &[u8]) {
    let (main, files) = split(data);
    let parsed = conf::parse_text(MAIN, main, &files);
    let config = match built(&parsed, &files) {
        Ok((config, warnings)) => {
            assert!(!parsed.has_errors() && warnings.iter().all(|warning| !warning.is_error()));
            show(&warnings, &parsed.sources);
            config
        }
        Err(faults) => {
            assert!(faults.iter().any(conf::Diagnostic::is_error));
            show(&faults, &parsed.sources);
            return;
        }
    };
    // Without a server there is no listener, and no request.
    if config.listeners.is_empty() {
        return;
    }
    let own = files.read("/c/request".as_ref()).unwrap_or_default();
    let mut world = World::new();
    for request in REQUESTS.into_iter().chain([&own[..]]) {
        let Some(mut exchange) = exchange(&config, &mut world, request) else { continue };
        answer(&config, &mut world, &mut exchange);
        assert!(exchange.response.status < 1000, "{}", exchange.response.status);
    }
}
