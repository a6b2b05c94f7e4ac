//! Directives about what is sent to the upstream.

use crate::config::Builder;
use crate::directive::{Apply, Args, Contexts, Directive};
use crate::modules::proxy::PassKind;
use conf::Diagnostic;
use http::Version;

/// Settings of the request that is sent to the upstream.
pub(in crate::modules::proxy) const REQUEST: &[Directive] = &[
    Directive::new("proxy_set_header", Contexts::HSL, Args::Exactly(2), "field value", |b, d| {
        set_header(b, d, PassKind::Proxy)
    })
    .doc(
        "A field sent to the upstream instead of the client's; an empty value sends none. Fields at one level \
         replace all of those of the outer level.",
    )
    .example("proxy_set_header Host $host;"),
    Directive::template("proxy_set_body", Contexts::HSL, "value", |b| &mut b.settings().proxy.request.body)
        .doc("A body sent instead of the client's.")
        .example("proxy_set_body $request_method;"),
    Directive::template("proxy_method", Contexts::HSL, "method", |b| &mut b.settings().proxy.request.method)
        .doc("A method sent instead of the client's.")
        .example("proxy_method GET;"),
    Directive::new("proxy_http_version", Contexts::HSL, Args::Exactly(1), "1.0 | 1.1 | 2", http_version)
        .default("1.1")
        .doc(
            "The HTTP version for upstreams: 1.0, 1.1 or 2. As in nginx since 1.29.7, the default is 1.1 and no \
             Connection field is sent, so that connections can be reused.",
        )
        .example("proxy_http_version 1.0;"),
    Directive::ignored("proxy_headers_hash_max_size", Contexts::HSL, Apply::IgnoredNumber)
        .default("512")
        .doc("Has no effect: tables of fields grow as needed.")
        .example("proxy_headers_hash_max_size 512;"),
    Directive::ignored("proxy_headers_hash_bucket_size", Contexts::HSL, Apply::IgnoredNumber)
        .default("64")
        .doc("Has no effect: tables of fields grow as needed.")
        .example("proxy_headers_hash_bucket_size 64;"),
];

pub(in crate::modules) fn set_header(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
) -> Result<(), Diagnostic> {
    let value = b.template(&d.args[1])?;
    let name = d.args[0].text().to_vec().into_boxed_slice();
    kind.settings(b.settings()).request.set_headers.push((name, value));
    Ok(())
}

fn http_version(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let version = match &**word.text() {
        b"1.0" => Version::Http10,
        b"1.1" => Version::Http11,
        b"2" => Version::Http2,
        _ => {
            let fault = Diagnostic::error(word.span, format!("invalid value \"{}\"", word.text()));
            return Err(fault.help("1.0, 1.1 or 2"));
        }
    };
    b.write(d, |s| &mut s.proxy.request.version, version)
}
