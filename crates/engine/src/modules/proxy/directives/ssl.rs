//! Directives of TLS to upstreams.

use crate::config::{Builder, once};
use crate::directive::{Args, Contexts, Directive};
use crate::modules::proxy::ProxySslSettings;
use crate::modules::ssl::{SslText, read_file, versions};
use crate::setting::Setting;
use crate::ssl_file::SslFile;
use conf::Diagnostic;

/// A directive that names a file; the empty name is none.
fn file(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    what: &str,
    setting: fn(&mut ProxySslSettings) -> &mut Setting<Option<SslFile>>,
) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let file = if word.text().is_empty() { None } else { Some(read_file(b, word, what)?) };
    once(setting(&mut b.settings().proxy.ssl).write(file), d)
}

/// TLS to upstreams.
pub(in crate::modules::proxy) const SSL: &[Directive] = &[
    Directive::new(
        "proxy_ssl_protocols",
        Contexts::HSL,
        Args::AtLeast(1),
        "[SSLv2] [SSLv3] [TLSv1] [TLSv1.1] [TLSv1.2] [TLSv1.3]",
        |b, d| {
            let versions = versions(b, d)?;
            once(b.settings().proxy.ssl.versions.write(versions), d)
        },
    )
    .default("TLSv1.2 TLSv1.3")
    .doc("The protocols with https upstreams. Those before TLS 1.2 are not to be had, which is said when the configuration is loaded.")
    .example("proxy_ssl_protocols TLSv1.3;"),
    Directive::new("proxy_ssl_ciphers", Contexts::HSL, Args::Exactly(1), "ciphers", |b, d| {
        let text = SslText::new(&d.args[0])?;
        once(b.settings().proxy.ssl.ciphers.write(Some(text)), d)
    })
    .default("DEFAULT")
    .doc("The cipher suites of TLS 1.2 with https upstreams, as an expression of OpenSSL; see ssl_ciphers.")
    .example("proxy_ssl_ciphers HIGH:!aNULL;"),
    Directive::new("proxy_ssl_conf_command", Contexts::HSL, Args::Exactly(2), "name value", |b, d| {
        let text = SslText::of_conf_command(d)?;
        once(b.settings().proxy.ssl.suites.write(Some(text)), d)
    })
    .doc("`Ciphersuites` sets the cipher suites of TLS 1.3, in order. Other commands of OpenSSL are refused.")
    .example("proxy_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;"),
    Directive::new("proxy_ssl_certificate", Contexts::HSL, Args::Exactly(1), "file", |b, d| {
        file(b, d, "certificate", |ssl| &mut ssl.certificate)
    })
    .doc("The certificate in PEM for https upstreams that ask for one.")
    .example("proxy_ssl_certificate client.pem;"),
    Directive::new("proxy_ssl_certificate_key", Contexts::HSL, Args::Exactly(1), "file", |b, d| {
        file(b, d, "certificate key", |ssl| &mut ssl.key)
    })
    .doc("Its private key in PEM; see ssl_certificate_key.")
    .example("proxy_ssl_certificate_key client.key;"),
    Directive::new("proxy_ssl_password_file", Contexts::HSL, Args::Exactly(1), "file", |b, d| {
        file(b, d, "password file", |ssl| &mut ssl.passwords)
    })
    .doc("Passwords for an encrypted key, one a line; each is tried.")
    .example("proxy_ssl_password_file passwords;"),
    Directive::flag("proxy_ssl_verify", Contexts::HSL, |b| &mut b.settings().proxy.ssl.verify)
        .default("off")
        .doc(
            "Whether an https upstream's certificate must be for proxy_ssl_name and lead to an authority of \
             proxy_ssl_trusted_certificate.",
        )
        .example("proxy_ssl_verify on;"),
    Directive::number("proxy_ssl_verify_depth", Contexts::HSL, |b| &mut b.settings().proxy.ssl.depth)
        .default("1")
        .doc("How many intermediate certificates may be between an upstream's and an authority's.")
        .example("proxy_ssl_verify_depth 2;"),
    Directive::new("proxy_ssl_trusted_certificate", Contexts::HSL, Args::Exactly(1), "file", |b, d| {
        file(b, d, "CA certificates", |ssl| &mut ssl.trusted)
    })
    .doc("The authorities of https upstreams' certificates in PEM.")
    .example("proxy_ssl_trusted_certificate ca.pem;"),
    Directive::new("proxy_ssl_crl", Contexts::HSL, Args::Exactly(1), "file", |b, d| {
        file(b, d, "revocation list", |ssl| &mut ssl.revocations)
    })
    .doc("Revoked certificates of upstreams, in PEM: a list for each authority.")
    .example("proxy_ssl_crl crl.pem;"),
    Directive::template("proxy_ssl_name", Contexts::HSL, "name", |b| &mut b.settings().proxy.ssl.name)
        .default("$proxy_host")
        .doc(
            "The name that the certificate of an https upstream must be for, and that is sent if proxy_ssl_server_name \
             says so. A port in it is left out.",
        )
        .example("proxy_ssl_name backend.example.com;"),
    Directive::flag("proxy_ssl_server_name", Contexts::HSL, |b| &mut b.settings().proxy.ssl.server_name)
        .default("off")
        .doc("Whether an https upstream is sent the name (SNI) by which it may choose its certificate.")
        .example("proxy_ssl_server_name on;"),
    Directive::flag("proxy_ssl_session_reuse", Contexts::HSL, |b| &mut b.settings().proxy.ssl.session_reuse)
        .default("on")
        .doc("Whether sessions with https upstreams are resumed.")
        .example("proxy_ssl_session_reuse off;"),
];
