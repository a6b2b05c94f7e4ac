//! Directives of TLS to upstreams, of either family.

/// The directives whose names begin with `$prefix`, of this [`crate::modules::proxy::PassKind`]; `$name` is which name upstreams have
/// by default.
macro_rules! ssl_directives {
    ($prefix:literal, $kind:expr, $name:literal) => {{
        use crate::config::once;
        use crate::directive::{Args, Contexts, Directive};
        use crate::modules::proxy::{ssl_file, ssl_source};
        use crate::modules::ssl::{CertificateCache, SslText, versions};
        const DIRECTIVES: &[Directive] = &[
        Directive::new(
            concat!($prefix, "_ssl_protocols"),
            Contexts::HSL,
            Args::AtLeast(1),
            "[SSLv2] [SSLv3] [TLSv1] [TLSv1.1] [TLSv1.2] [TLSv1.3]",
            |b, d| {
                let versions = versions(b, d)?;
                once($kind.settings(b.settings()).ssl.versions.write(versions), d)
            },
        )
        .default("TLSv1.2 TLSv1.3")
        .doc("The TLS versions for connections to upstreams. Versions before TLS 1.2 are not supported: naming one \
             is a \
             warning when the configuration is loaded.")
        .example(concat!($prefix, "_ssl_protocols TLSv1.3;")),
        Directive::new(concat!($prefix, "_ssl_ciphers"), Contexts::HSL, Args::Exactly(1), "ciphers", |b, d| {
            let text = SslText::new(&d.args[0])?;
            once($kind.settings(b.settings()).ssl.ciphers.write(Some(text)), d)
        })
        .default("DEFAULT")
        .doc("The TLS 1.2 cipher suites for connections to upstreams, in OpenSSL's format; see ssl_ciphers.")
        .example(concat!($prefix, "_ssl_ciphers HIGH:!aNULL;")),
        Directive::new(concat!($prefix, "_ssl_conf_command"), Contexts::HSL, Args::Exactly(2), "name value", |b, d| {
            let text = SslText::of_conf_command(d)?;
            once($kind.settings(b.settings()).ssl.suites.write(Some(text)), d)
        })
        .doc("`Ciphersuites` sets the TLS 1.3 cipher suites, in order of preference. Other commands of OpenSSL are \
             refused.")
        .example(concat!($prefix, "_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;")),
        Directive::new(concat!($prefix, "_ssl_certificate"), Contexts::HSL, Args::Exactly(1), "file", |b, d| {
            ssl_source(b, d, $kind, "certificate", |ssl| &mut ssl.certificate)
        })
        .doc("The certificate in PEM for upstreams that ask for one. A name with variables is evaluated for each \
             request, and the file is read for each new connection.")
        .example(concat!($prefix, "_ssl_certificate client.pem;")),
        Directive::new(concat!($prefix, "_ssl_certificate_key"), Contexts::HSL, Args::Exactly(1), "file", |b, d| {
            ssl_source(b, d, $kind, "certificate key", |ssl| &mut ssl.key)
        })
        .doc("Its private key in PEM; see ssl_certificate_key.")
        .example(concat!($prefix, "_ssl_certificate_key client.key;")),
        Directive::new(
            concat!($prefix, "_ssl_certificate_cache"),
            Contexts::HSL,
            Args::Between(1, 3),
            "off | max=N [inactive=time] [valid=time]",
            |b, d| {
                let cache = CertificateCache::read(d)?;
                once($kind.settings(b.settings()).ssl.cache.write(cache), d)
            },
        )
        .default("off")
        .doc("Keeps certificates whose names have variables; see ssl_certificate_cache.")
        .example(concat!($prefix, "_ssl_certificate_cache max=1000;")),
        Directive::new(concat!($prefix, "_ssl_password_file"), Contexts::HSL, Args::Exactly(1), "file", |b, d| {
            ssl_file(b, d, $kind, "password file", |ssl| &mut ssl.passwords)
        })
        .doc("Passwords for an encrypted key, one a line; each is tried.")
        .example(concat!($prefix, "_ssl_password_file passwords;")),
        Directive::flag(concat!($prefix, "_ssl_verify"), Contexts::HSL, |b| &mut $kind.settings(b.settings()).ssl.verify)
            .default("off")
            .doc(
                concat!(
                    "Whether an upstream's certificate is verified: it must be for ", $prefix, "_ssl_name and chain \
                     to an authority of ",
                    $prefix, "_ssl_trusted_certificate."
                ),
            )
            .example(concat!($prefix, "_ssl_verify on;")),
        Directive::number(concat!($prefix, "_ssl_verify_depth"), Contexts::HSL, |b| &mut $kind.settings(b.settings()).ssl.depth)
            .default("1")
            .doc("The maximum number of intermediate certificates between the upstream's and the authority's.")
            .example(concat!($prefix, "_ssl_verify_depth 2;")),
        Directive::new(concat!($prefix, "_ssl_trusted_certificate"), Contexts::HSL, Args::Exactly(1), "file", |b, d| {
            ssl_file(b, d, $kind, "CA certificates", |ssl| &mut ssl.trusted)
        })
        .doc("The authorities of upstreams' certificates in PEM.")
        .example(concat!($prefix, "_ssl_trusted_certificate ca.pem;")),
        Directive::new(concat!($prefix, "_ssl_crl"), Contexts::HSL, Args::Exactly(1), "file", |b, d| {
            ssl_file(b, d, $kind, "revocation list", |ssl| &mut ssl.revocations)
        })
        .doc("Certificate revocation lists for upstreams' certificates, in PEM: one for each authority.")
        .example(concat!($prefix, "_ssl_crl crl.pem;")),
        Directive::template(concat!($prefix, "_ssl_name"), Contexts::HSL, "name", |b| &mut $kind.settings(b.settings()).ssl.name)
            .default($name)
            .doc(
                concat!(
                    "The name that the certificate of an upstream must be for, and that is sent (SNI) if ", $prefix,
                    "_ssl_server_name is on. A port in it is ignored."
                ),
            )
            .example(concat!($prefix, "_ssl_name backend.example.com;")),
        Directive::flag(concat!($prefix, "_ssl_server_name"), Contexts::HSL, |b| &mut $kind.settings(b.settings()).ssl.server_name)
            .default("off")
            .doc("Whether the name is sent to an upstream over TLS (SNI).")
            .example(concat!($prefix, "_ssl_server_name on;")),
        Directive::flag(concat!($prefix, "_ssl_session_reuse"), Contexts::HSL, |b| &mut $kind.settings(b.settings()).ssl.session_reuse)
            .default("on")
            .doc("Whether TLS sessions with upstreams are resumed.")
            .example(concat!($prefix, "_ssl_session_reuse off;")),
        ];
        DIRECTIVES
    }};
}
pub(in crate::modules) use ssl_directives;
