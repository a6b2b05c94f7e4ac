//! Directives about what is sent to the upstream.

use super::flag;
use crate::config::Builder;
use crate::directive::{Args, Contexts, Directive};
use conf::Diagnostic;
use http::Version;

/// What is sent to the upstream.
pub(in crate::modules::proxy) const REQUEST: &[Directive] = &[
    Directive {
        name: "proxy_set_header",
        contexts: Contexts::HSL,
        args: Args::Exactly(2),
        doc: "A field sent to the upstream, in the place of the client's; an empty value sends none. Fields written at one level replace all of the outer one's.",
        example: "proxy_set_header Host $host;",
        apply: set_header,
    },
    Directive {
        name: "proxy_set_body",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "A body sent instead of the client's.",
        example: "proxy_set_body $request_method;",
        apply: |b, d| {
            let body = b.template(&d.args[0])?;
            b.write(d, |s| &mut s.proxy.request.body, Some(body))
        },
    },
    Directive {
        name: "proxy_method",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "A method sent instead of the client's.",
        example: "proxy_method GET;",
        apply: |b, d| {
            let method = b.template(&d.args[0])?;
            b.write(d, |s| &mut s.proxy.request.method, Some(method))
        },
    },
    Directive {
        name: "proxy_pass_request_headers",
        contexts: Contexts::HSL,
        args: Args::Flag,
        doc: "Whether the client's fields are passed on.",
        example: "proxy_pass_request_headers off;",
        apply: |b, d| flag(b, d, |s| &mut s.proxy.request.pass_headers),
    },
    Directive {
        name: "proxy_pass_request_body",
        contexts: Contexts::HSL,
        args: Args::Flag,
        doc: "Whether the client's body is passed on.",
        example: "proxy_pass_request_body off;",
        apply: |b, d| flag(b, d, |s| &mut s.proxy.request.pass_body),
    },
    Directive {
        name: "proxy_request_buffering",
        contexts: Contexts::HSL,
        args: Args::Flag,
        doc: "Whether the client's body is read whole before the upstream is asked.",
        example: "proxy_request_buffering off;",
        apply: |b, d| flag(b, d, |s| &mut s.proxy.request.buffering),
    },
    Directive {
        name: "proxy_http_version",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "The version spoken to upstreams, 1.0 or 1.1. As in nginx since 1.29.7 it is 1.1, and no Connection field is sent, so that connections can be kept.",
        example: "proxy_http_version 1.0;",
        apply: http_version,
    },
    Directive {
        name: "proxy_headers_hash_max_size",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "In nginx the size of a table; here tables have the size they need, and it is without effect.",
        example: "proxy_headers_hash_max_size 512;",
        apply: |b, d| b.number(&d.args[0]).map(|_| ()),
    },
    Directive {
        name: "proxy_headers_hash_bucket_size",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "In nginx the size of a table's rows; here it is without effect.",
        example: "proxy_headers_hash_bucket_size 64;",
        apply: |b, d| b.number(&d.args[0]).map(|_| ()),
    },
];

fn set_header(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let value = b.template(&d.args[1])?;
    let name = d.args[0].text().to_vec().into_boxed_slice();
    b.settings().proxy.request.set_headers.push((name, value));
    Ok(())
}

fn http_version(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let version = match &**word.text() {
        b"1.0" => Version::Http10,
        b"1.1" => Version::Http11,
        b"2" => {
            return Err(Diagnostic::error(
                word.span,
                "HTTP/2 to upstreams is known to nginx, not supported by pointsman",
            )
            .label("not supported"));
        }
        _ => {
            return Err(
                Diagnostic::error(word.span, format!("invalid value \"{}\"", word.text())).mend("1.0 or 1.1")
            );
        }
    };
    b.write(d, |s| &mut s.proxy.request.version, version)
}
