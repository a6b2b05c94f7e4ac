//! Directives of nginx's that are read here and have no effect, because what they adjust is not there: a `memcached_read_timeout`
//! without a `memcached_pass`, which is refused, or the size of a table of nginx's.
//!
//! Must never take one without which an answer, a permission or a bound of nginx's would differ. Their values are not checked.

use crate::directive::Contexts;
use conf::known_directives::{self, Block, DirectiveOrigin, KnownDirective};
use conf::{Diagnostic, Directive};

/// Modules of nginx's that do nothing without the directive that sends requests to an upstream, which is the second name, and
/// why the others have no effect.
const MODULES: [(&str, &str, &str); 1] =
    [("ngx_http_memcached_module", "memcached_pass", "adjusts memcached_pass, which is not supported")];

/// Directives that adjust how nginx uses the machine, and why they have no effect.
const MACHINE: [(&str, &str); 11] = [
    ("accept_mutex_delay", "threads have sockets of their own"),
    ("lock_file", "threads have sockets of their own"),
    ("aio", "files are read by the thread that serves"),
    ("aio_write", "files are read by the thread that serves"),
    ("directio", "files are read through the system's cache"),
    ("directio_alignment", "files are read through the system's cache"),
    ("read_ahead", "files are read through the system's cache"),
    ("worker_aio_requests", "files are read by the thread that serves"),
    ("timer_resolution", "the clock is read as often as it is needed"),
    ("worker_cpu_affinity", "the system places threads"),
    ("postpone_gzipping", "a compressor takes bytes as they come"),
];

/// Parts of names whose writers count on what they do: caches make folders, verification protects.
const REFUSED: [&str; 6] = ["_cache", "_store", "_verify", "_hide_header", "_bind", "_pass_"];

/// Returns why a directive of nginx's is read here without effect; `None` if it is not.
pub fn reason(entry: &KnownDirective) -> Option<&'static str> {
    let DirectiveOrigin::Nginx(module) = entry.origin else { return None };
    let name = entry.name;
    if let Some((_, reason)) = MACHINE.iter().find(|(known, _)| *known == name) {
        return Some(reason);
    }
    let (_, pass, reason) = MODULES.iter().find(|(known, ..)| *known == module)?;
    let is_refused = REFUSED.iter().any(|part| name.contains(part)) && !name.contains("_pass_request_");
    let is_read = name != *pass && !is_refused && entry.block == Block::None;
    is_read.then_some(reason)
}

/// Reads a directive, if it is one without effect.
pub(crate) fn read(directive: &Directive, context: Contexts) -> Option<Result<(), Diagnostic>> {
    let name = directive.name.text().to_string();
    let entry = known_directives::find_all(&name).iter().find(|entry| reason(entry).is_some())?;
    let places = context.names();
    if !entry.contexts.iter().any(|place| places.contains(&&*place.replace('-', " "))) {
        let text = format!("\"{name}\" directive is not allowed here");
        let places = entry.contexts.join(", ");
        let fault = Diagnostic::error(directive.name.span, text);
        return Some(Err(fault.help(format!("\"{name}\" is allowed in: {places}"))));
    }
    if !entry.takes(directive.args.len()) || !matches!(directive.body, conf::Body::None) {
        let text = format!("invalid number of arguments in \"{name}\" directive");
        return Some(Err(Diagnostic::error(directive.name.span, text)));
    }
    Some(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::faults_of;

    #[test]
    fn directives_that_protect_keep_or_serve_are_refused() {
        let has_no_effect = |name| reason(known_directives::find(name).unwrap()).is_some();
        for name in ["memcached_read_timeout", "memcached_buffer_size", "aio", "timer_resolution"] {
            assert!(has_no_effect(name), "{name}");
        }
        for name in [
            "memcached_pass",
            "memcached_bind",
            "fastcgi_cache_path",
            "fastcgi_no_cache",
            "fastcgi_store",
            "uwsgi_cache_key",
            "scgi_store_access",
            "mirror",
            "image_filter",
            "auth_request",
        ] {
            assert!(!has_no_effect(name), "{name}");
        }
    }

    #[test]
    fn places_and_numbers_of_arguments_are_nginx_s() {
        let faults = |text: &str| faults_of(&format!("events {{}} {text}"));
        let fine = "worker_cpu_affinity auto; http { memcached_buffer_size 8k; server { read_ahead 8k;
                    location / { memcached_read_timeout 1s; aio threads; } } }";
        assert_eq!(faults(fine), [] as [String; 0]);
        let file = "in /etc/pointsman/nginx.conf:1";
        for (text, fault) in [
            ("memcached_read_timeout 8s;", "\"memcached_read_timeout\" directive is not allowed here"),
            (
                "http { memcached_read_timeout 1 2; }",
                "invalid number of arguments in \"memcached_read_timeout\" directive",
            ),
            ("http { lock_file x; }", "\"lock_file\" directive is not allowed here"),
        ] {
            assert_eq!(faults(text), [format!("{fault} {file}")]);
        }
    }
}
