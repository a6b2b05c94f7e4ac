//! The directives of TLS.

use super::cache::CertificateCache;
use super::files::{self, SslText};
use super::settings::{SslCache, SslSettings, TlsVersions};
use super::source::SslSource;
use crate::config::{Builder, invalid_choice, invalid_value, number, once};
use crate::directive::{ApplyCode, Args, Contexts, Directive};
use crate::setting::Setting;
use crate::ssl_file::SslFile;
use crate::tls_session::VerifyClient;
use conf::{Diagnostic, Word};

/// Returns a directive that names a file.
fn file(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    what: &str,
    setting: fn(&mut SslSettings) -> &mut Setting<Option<SslFile>>,
) -> Result<(), Diagnostic> {
    let file = files::read(b, &d.args[0], what)?;
    once(setting(b.ssl()).write(Some(file)), d)
}

/// Returns a directive that is refused by its name, but for `off`.
const fn refused(name: &'static str, args: Args, syntax: &'static str, code: ApplyCode) -> Directive {
    Directive::new(name, Contexts::HS, args, syntax, code)
}

fn only_off(d: &conf::Directive, why: &str) -> Result<(), Diagnostic> {
    match d.args[0].str()? {
        "off" => Ok(()),
        _ => Err(unsupported(d, why)),
    }
}

fn unsupported(d: &conf::Directive, why: &str) -> Diagnostic {
    let name = d.name.text();
    Diagnostic::error(
        d.name.span,
        format!("directive \"{name}\" is known to nginx, not supported by pointsman"),
    )
    .label("not supported")
    .help(why)
}

/// Reads a file, unless ACME issues what it is about, or its name has variables.
fn source(b: &mut Builder<'_>, word: &Word, variable: &str, what: &str) -> Result<SslSource, Diagnostic> {
    match word.text() == variable {
        true => Ok(SslSource::File(SslFile::issued(variable, word.span))),
        false => SslSource::read(b, word, what),
    }
}

pub(super) const CERTIFICATES: &[Directive] = &[
    Directive::new("ssl_certificate", Contexts::HS, Args::Exactly(1), "file | $acme_certificate", |b, d| {
        let source = source(b, &d.args[0], "$acme_certificate", "certificate")?;
        b.ssl().certificates.push(source);
        Ok(())
    })
    .doc(
        "The server's certificate in PEM, followed by the intermediate certificates; data: has it in the \
         configuration. May be given once for each kind of key: RSA and ECDSA. A name with variables is evaluated, \
         and the file is read, in each handshake, as the user of the worker process. $acme_certificate is the \
         certificate that acme_certificate orders.",
    )
    .example("ssl_certificate cert.pem;"),
    Directive::new("ssl_certificate_key", Contexts::HS, Args::Exactly(1), "file | $acme_certificate_key", |b, d| {
        let source = source(b, &d.args[0], "$acme_certificate_key", "certificate key")?;
        b.ssl().keys.push(source);
        Ok(())
    })
    .doc(
        "The private key of the certificate at the same place, in PEM. The master reads it with its own privileges \
         and passes it on; it appears in no log and not in the output of -T. $acme_certificate_key belongs to \
         $acme_certificate.",
    )
    .example("ssl_certificate_key cert.key;"),
    Directive::new(
        "ssl_certificate_cache",
        Contexts::HS,
        Args::Between(1, 3),
        "off | max=N [inactive=time] [valid=time]",
        |b, d| {
            let cache = CertificateCache::read(d)?;
            once(b.ssl().cache.write(cache), d)
        },
    )
    .default("off")
    .doc(
        "Caches up to max= certificates and keys whose names have variables, for each server. Those not used within \
         `inactive` (10s) are dropped; changes of files are noticed after `valid` (60s).",
    )
    .example("ssl_certificate_cache max=1000 inactive=20s valid=1m;"),
    Directive::new("ssl_password_file", Contexts::HS, Args::Exactly(1), "file", |b, d| {
        file(b, d, "password file", |ssl| &mut ssl.passwords)
    })
    .doc("Passwords for encrypted keys, one a line; each is tried.")
    .example("ssl_password_file passwords;"),
    Directive::new("ssl_stapling", Contexts::HS, Args::Flag, "on | off", |b, d| {
        let on = b.flag(d)?;
        once(b.ssl().stapling.write(on), d)
    })
    .default("off")
    .doc(
        "Sends the response of an OCSP responder with the certificate. The responder that the certificate names is \
         asked in the background, at the start and every hour or sooner, and its response is sent if the \
         certificate's issuer has signed it. The issuer's certificate comes from the chain of ssl_certificate, or \
         from ssl_trusted_certificate.",
    )
    .example("ssl_stapling on;"),
    Directive::new("ssl_stapling_file", Contexts::HS, Args::Exactly(1), "file", |b, d| {
        file(b, d, "OCSP response", |ssl| &mut ssl.stapling_file)
    })
    .doc("A file with the response of an OCSP responder in DER, sent unchecked: no responder is asked.")
    .example("ssl_stapling_file stapling.der;"),
    Directive::new("ssl_stapling_responder", Contexts::HS, Args::Exactly(1), "url", |b, d| {
        let url = d.args[0].str()?.to_owned();
        once(b.ssl().stapling_responder.write(Some(url)), d)
    })
    .doc("The responder that is asked instead of the one that the certificate names: an http URL.")
    .example("ssl_stapling_responder http://ocsp.example.com/;"),
    Directive::new("ssl_stapling_verify", Contexts::HS, Args::Flag, "on | off", |b, d| {
        let on = b.flag(d)?;
        once(b.ssl().stapling_verify.write(on), d)
    })
    .default("off")
    .doc(
        "Whether an OCSP response is sent only if the certificate chains to an authority of ssl_trusted_certificate. \
         The issuer's signature on the response is always verified.",
    )
    .example("ssl_stapling_verify on;"),
    refused("ssl", Args::Flag, "on | off", |b, d| match b.flag(d)? {
        false => Ok(()),
        true => Err(Diagnostic::error(d.name.span, "the \"ssl\" directive is removed, as in nginx 1.25")
            .help("write `ssl` behind the address instead: `listen 443 ssl;`")),
    })
    .default("off")
    .doc("Only `off` is accepted: write `listen … ssl` instead.")
    .example("ssl off;"),
];

pub(super) const HANDSHAKE: &[Directive] = &[
    Directive::new(
        "ssl_protocols",
        Contexts::HS,
        Args::AtLeast(1),
        "[SSLv2] [SSLv3] [TLSv1] [TLSv1.1] [TLSv1.2] [TLSv1.3]",
        protocols,
    )
    .default("TLSv1.2 TLSv1.3")
    .doc("The TLS versions to accept. Versions before TLS 1.2 are not supported: naming one is a warning when the \
         configuration \
         is loaded.")
    .example("ssl_protocols TLSv1.2 TLSv1.3;"),
    Directive::new("ssl_ciphers", Contexts::HS, Args::Exactly(1), "ciphers", |b, d| {
        let text = SslText::new(&d.args[0])?;
        once(b.ssl().handshake.ciphers.write(Some(text)), d)
    })
    .default("HIGH:!aNULL:!MD5")
    .doc(
        "The TLS 1.2 cipher suites, in OpenSSL's format. It selects among the supported suites: ECDHE with AES-GCM \
         or ChaCha20.",
    )
    .example("ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256;"),
    Directive::new("ssl_conf_command", Contexts::HS, Args::Exactly(2), "name value", |b, d| {
        let text = SslText::of_conf_command(d)?;
        once(b.ssl().handshake.suites.write(Some(text)), d)
    })
    .doc("`Ciphersuites` sets the TLS 1.3 cipher suites, in order of preference. Other commands of OpenSSL are \
         refused.")
    .example("ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;"),
    Directive::new("ssl_prefer_server_ciphers", Contexts::HS, Args::Flag, "on | off", |b, d| {
        let on = b.flag(d)?;
        once(b.ssl().handshake.prefer_server_ciphers.write(on), d)
    })
    .default("off")
    .doc("Whether the server's order of cipher suites is preferred over the client's.")
    .example("ssl_prefer_server_ciphers on;"),
    Directive::new("ssl_ecdh_curve", Contexts::HS, Args::Exactly(1), "curve", |b, d| {
        let text = SslText::new(&d.args[0])?;
        once(b.ssl().handshake.curves.write(Some(text)), d)
    })
    .default("auto")
    .doc(
        "The groups for the key exchange in order of preference, separated by colons; auto is \
         X25519MLKEM768:X25519:prime256v1:secp384r1.",
    )
    .example("ssl_ecdh_curve X25519:prime256v1;"),
    Directive::new("ssl_reject_handshake", Contexts::HS, Args::Flag, "on | off", |b, d| {
        let on = b.flag(d)?;
        once(b.ssl().handshake.reject.write(on), d)
    })
    .default("off")
    .doc("Rejects TLS handshakes for this server's names: clients get the alert unrecognized_name.")
    .example("ssl_reject_handshake on;"),
    Directive::new("ssl_buffer_size", Contexts::HS, Args::Exactly(1), "size", |b, d| {
        let size = b.size(&d.args[0])?;
        once(b.ssl().handshake.buffer_size.write(size), d)
    })
    .default("16k")
    .doc("The maximum size of TLS records that are sent.")
    .example("ssl_buffer_size 4k;"),
    Directive::new("ssl_dhparam", Contexts::HS, Args::Exactly(1), "file", |b, d| {
        let file = files::read(b, &d.args[0], "DH parameters")?;
        let text = format!("\"ssl_dhparam\" is not used: there are no cipher suites with DHE, \"{}\" has no effect", file.name);
        b.diagnostics.push(Diagnostic::warn(d.name.span, text));
        Ok(())
    })
    .doc("Has no effect: cipher suites with DHE are not supported.")
    .example("ssl_dhparam dhparam.pem;"),
    Directive::new("ssl_early_data", Contexts::HS, Args::Flag, "on | off", |b, d| {
        let on = b.flag(d)?;
        once(b.ssl().handshake.early_data.write(on), d)
    })
    .default("off")
    .doc(
        "Whether clients that resume a TLS 1.3 session may send requests before the handshake ends. A session can be \
         used once only, so this needs ssl_session_cache, and ssl_session_tickets off. Upstreams get the field \
         Early-Data; only GET, HEAD and OPTIONS are served before the handshake ends.",
    )
    .example("ssl_early_data on;"),
];

pub(super) const SESSIONS: &[Directive] = &[
    Directive::new(
        "ssl_session_cache",
        Contexts::HS,
        Args::Between(1, 2),
        "off | none | [builtin[:size]] [shared:name:size]",
        session_cache,
    )
    .default("none")
    .doc("Where TLS sessions are stored for resumption. A shared cache survives a reload.")
    .example("ssl_session_cache shared:SSL:10m;"),
    Directive::new("ssl_session_timeout", Contexts::HS, Args::Exactly(1), "time", |b, d| {
        let ms = b.time_ms(&d.args[0])?;
        once(b.ssl().sessions.timeout_ms.write(ms), d)
    })
    .default("5m")
    .doc("How long a TLS session can be resumed.")
    .example("ssl_session_timeout 1d;"),
    Directive::new("ssl_session_tickets", Contexts::HS, Args::Flag, "on | off", |b, d| {
        let on = b.flag(d)?;
        once(b.ssl().sessions.tickets.write(on), d)
    })
    .default("on")
    .doc("Whether TLS sessions are resumed through session tickets, which clients keep.")
    .example("ssl_session_tickets off;"),
    Directive::new("ssl_session_ticket_key", Contexts::HS, Args::Exactly(1), "file", |b, d| {
        let file = files::read(b, &d.args[0], "session ticket key")?;
        if !matches!(file.bytes().len(), 48 | 80) {
            let text = format!("\"{}\" must be 48 or 80 bytes", file.name);
            return Err(Diagnostic::error(d.args[0].span, text)
                .help("make one: `openssl rand 80 > ticket.key`"));
        }
        b.ssl().sessions.ticket_keys.push(file);
        Ok(())
    })
    .doc(
        "A key for tickets, of 48 or 80 bytes. The first encrypts, all decrypt. The tickets differ from nginx's: \
         keys can be shared among pointsman servers only.",
    )
    .example("ssl_session_ticket_key current.key;"),
];

pub(super) const CLIENTS: &[Directive] = &[
    Directive::new(
        "ssl_verify_client",
        Contexts::HS,
        Args::Exactly(1),
        "on | off | optional | optional_no_ca",
        |b, d| {
            let verify = match d.args[0].str()? {
                "on" => VerifyClient::On,
                "off" => VerifyClient::Off,
                "optional" => VerifyClient::Optional,
                "optional_no_ca" => VerifyClient::OptionalNoCa,
                _ => return Err(invalid_choice(&d.args[0])),
            };
            once(b.ssl().client.verify.write(verify), d)
        },
    )
    .default("off")
    .doc("Whether clients are asked for a certificate; $ssl_client_verify has the result.")
    .example("ssl_verify_client on;"),
    Directive::new("ssl_verify_depth", Contexts::HS, Args::Exactly(1), "number", |b, d| {
        let depth = b.number(&d.args[0])?;
        once(b.ssl().client.depth.write(depth), d)
    })
    .default("1")
    .doc("The maximum number of intermediate certificates between the client's and the authority's.")
    .example("ssl_verify_depth 2;"),
    Directive::new("ssl_client_certificate", Contexts::HS, Args::Exactly(1), "file", |b, d| {
        file(b, d, "CA certificates", |ssl| &mut ssl.client.certificate)
    })
    .doc("The authorities of clients' certificates in PEM. Their names are sent to clients.")
    .example("ssl_client_certificate ca.pem;"),
    Directive::new("ssl_trusted_certificate", Contexts::HS, Args::Exactly(1), "file", |b, d| {
        file(b, d, "CA certificates", |ssl| &mut ssl.client.trusted)
    })
    .doc("The authorities of clients' certificates in PEM. Unlike those of ssl_client_certificate, their names are \
         not sent to clients.")
    .example("ssl_trusted_certificate chain.pem;"),
    Directive::new("ssl_crl", Contexts::HS, Args::Exactly(1), "file", |b, d| {
        file(b, d, "revocation list", |ssl| &mut ssl.client.revocations)
    })
    .doc("Certificate revocation lists for clients' certificates, in PEM: one for each authority.")
    .example("ssl_crl crl.pem;"),
    refused("ssl_ocsp", Args::Exactly(1), "on | off | leaf", |_, d| {
        only_off(d, "name the revoked certificates in a list: `ssl_crl crl.pem;`")
    })
    .default("off")
    .doc("Only `off` is accepted: clients' certificates are not checked by OCSP.")
    .example("ssl_ocsp off;"),
];

fn protocols(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let versions = versions(b, d)?;
    once(b.ssl().handshake.versions.write(versions), d)
}

/// Reads a list of protocols.
pub(in crate::modules) fn versions(
    b: &mut Builder<'_>,
    d: &conf::Directive,
) -> Result<TlsVersions, Diagnostic> {
    let name = d.name.text();
    let mut versions = TlsVersions { tls12: false, tls13: false };
    let mut older: Vec<&Word> = Vec::new();
    for word in &d.args {
        match word.str()? {
            "TLSv1.2" => versions.tls12 = true,
            "TLSv1.3" => versions.tls13 = true,
            "SSLv2" | "SSLv3" | "TLSv1" | "TLSv1.1" => older.push(word),
            _ => return Err(invalid_choice(word)),
        }
    }
    if let Some(first) = older.first() {
        let (be, they) = if older.len() == 1 { ("is", "it is") } else { ("are", "they are") };
        let names: Vec<_> = older.iter().map(|word| word.text().to_string()).collect();
        let text = format!("{} in \"{name}\" {} not supported: {} not secure", names.join(", "), be, they);
        if !versions.tls12 && !versions.tls13 {
            return Err(Diagnostic::error(first.span, format!("{text}, and no other protocol is named"))
                .help(format!("write `{name} TLSv1.2 TLSv1.3;`")));
        }
        b.diagnostics.push(Diagnostic::warn(first.span, text));
    }
    Ok(versions)
}

fn session_cache(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let mut cache = None;
    for word in &d.args {
        let text = word.str()?;
        let parsed = match text.split(':').collect::<Vec<_>>()[..] {
            ["off"] => SslCache::Off,
            ["none"] => SslCache::None,
            ["builtin"] => SslCache::BuiltIn(20_480),
            ["builtin", size] => SslCache::BuiltIn(number(size.as_bytes()).ok_or_else(|| wrong(word))?),
            ["shared", name, size] if !name.is_empty() => {
                let size = conf::value::parse_size(size.as_bytes()).ok_or_else(|| wrong(word))?;
                // nginx: eight pages.
                if size < 8 * 4096 {
                    return Err(Diagnostic::error(
                        word.span,
                        format!("session cache \"{name}\" is too small"),
                    )
                    .help("give it 32k or more; 1m holds about 4000 sessions"));
                }
                SslCache::Shared(name.to_owned(), size)
            }
            _ => return Err(wrong(word)),
        };
        // Of `builtin` and `shared` together, the shared one is used.
        if !matches!(cache, Some(SslCache::Shared(..))) {
            cache = Some(parsed);
        }
    }
    let cache = cache.ok_or_else(|| invalid_value(&d.name))?;
    once(b.ssl().sessions.cache.write(cache), d)
}

fn wrong(word: &Word) -> Diagnostic {
    Diagnostic::error(word.span, format!("invalid session cache \"{}\"", word.text()))
}
