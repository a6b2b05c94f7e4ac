//! Directives of TLS on sockets that scripts open (`lua_ssl_…`).

use crate::config::{Builder, once};
use crate::directive::{Args, Contexts, Directive};
use crate::modules::proxy::ProxySslSettings;
use crate::modules::ssl::{SslSource, SslText, read_file, versions};
use crate::setting::Setting;
use crate::ssl_file::SslFile;
use conf::Diagnostic;

/// Reads a directive that names a file; the empty name is none.
fn file(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    what: &str,
    setting: fn(&mut ProxySslSettings) -> &mut Setting<Option<SslFile>>,
) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let file = if word.text().is_empty() { None } else { Some(read_file(b, word, what)?) };
    once(setting(&mut b.settings().lua.ssl).write(file), d)
}

/// Reads a directive that names a certificate or its key.
fn source(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    what: &str,
    setting: fn(&mut ProxySslSettings) -> &mut Setting<Option<SslSource>>,
) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let file = if word.text().is_empty() { None } else { Some(SslSource::File(read_file(b, word, what)?)) };
    once(setting(&mut b.settings().lua.ssl).write(file), d)
}

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new(
        "lua_ssl_protocols",
        Contexts::HSL,
        Args::AtLeast(1),
        "[SSLv2] [SSLv3] [TLSv1] [TLSv1.1] [TLSv1.2] [TLSv1.3]",
        |b, d| {
            let versions = versions(b, d)?;
            once(b.settings().lua.ssl.versions.write(versions), d)
        },
    )
    .default("TLSv1.2 TLSv1.3")
    .doc("The TLS versions of `sslhandshake`. Versions before TLS 1.2 are not supported: naming one is a warning \
         when \
         the configuration is loaded.")
    .example("lua_ssl_protocols TLSv1.3;"),
    Directive::new("lua_ssl_ciphers", Contexts::HSL, Args::Exactly(1), "ciphers", |b, d| {
        let text = SslText::new(&d.args[0])?;
        once(b.settings().lua.ssl.ciphers.write(Some(text)), d)
    })
    .default("DEFAULT")
    .doc("The TLS 1.2 cipher suites of `sslhandshake`, in OpenSSL's format; see ssl_ciphers.")
    .example("lua_ssl_ciphers HIGH:!aNULL;"),
    Directive::new("lua_ssl_conf_command", Contexts::HSL, Args::Exactly(2), "name value", |b, d| {
        let text = SslText::of_conf_command(d)?;
        once(b.settings().lua.ssl.suites.write(Some(text)), d)
    })
    .doc("`Ciphersuites` sets the TLS 1.3 cipher suites, in order of preference. Other commands of OpenSSL are \
         refused.")
    .example("lua_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;"),
    Directive::new("lua_ssl_certificate", Contexts::HSL, Args::Exactly(1), "file", |b, d| {
        source(b, d, "certificate", |ssl| &mut ssl.certificate)
    })
    .doc("The certificate in PEM for peers of `sslhandshake` that ask for one.")
    .example("lua_ssl_certificate client.pem;"),
    Directive::new("lua_ssl_certificate_key", Contexts::HSL, Args::Exactly(1), "file", |b, d| {
        source(b, d, "certificate key", |ssl| &mut ssl.key)
    })
    .doc("Its private key in PEM; see ssl_certificate_key.")
    .example("lua_ssl_certificate_key client.key;"),
    Directive::number("lua_ssl_verify_depth", Contexts::HSL, |b| &mut b.settings().lua.ssl.depth)
        .default("1")
        .doc("The maximum number of intermediate certificates between the peer's and the authority's.")
        .example("lua_ssl_verify_depth 2;"),
    Directive::new("lua_ssl_trusted_certificate", Contexts::HSL, Args::Exactly(1), "file", |b, d| {
        file(b, d, "CA certificates", |ssl| &mut ssl.trusted)
    })
    .doc("The authorities of peers' certificates in PEM, for an `sslhandshake` that verifies.")
    .example("lua_ssl_trusted_certificate ca.pem;"),
    Directive::new("lua_ssl_crl", Contexts::HSL, Args::Exactly(1), "file", |b, d| {
        file(b, d, "revocation list", |ssl| &mut ssl.revocations)
    })
    .doc("Certificate revocation lists for peers' certificates, in PEM: one for each authority.")
    .example("lua_ssl_crl crl.pem;"),
];
