//! The directives of ACME.

use super::certificates::{certificate, duplicate};
use super::{ChallengeKind, Issuer, dns_update};
use crate::config::{Builder, invalid_choice, invalid_parameter};
use crate::directive::{Args, Contexts, Directive};
use crate::modules::ssl::read_file;
use conf::{Diagnostic, Word};

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new("acme_issuer", Contexts::HTTP, Args::Block(1, 1), "name { … }", issuer)
        .doc("Declares a server that issues certificates by ACME (RFC 8555): its directory URL and the account's \
             data.")
        .example("acme_issuer example { uri https://acme.example.com/directory; accept_terms_of_service; }"),
    Directive::new(
        "acme_certificate",
        Contexts::SERVER,
        Args::AtLeast(1),
        "issuer [identifier … | keys=$variable | ask=URL] [key=alg[:size]]",
        certificate,
    )
    .doc(
        "Orders the server's certificate from an issuer, renews it, and gives it to \
         `ssl_certificate $acme_certificate`. Without identifiers the names of server_name count; `.example.com` is \
         example.com and www.example.com. key= is ecdsa:256 (the default), ecdsa:384, ecdsa:521, rsa:2048, rsa:3072 \
         or rsa:4096. With keys= or ask= each host gets a certificate of its own, ordered when a handshake first \
         names it: if the host is a key in the table of the switch with this variable, or if a server answers \
         URL?domain=HOST with a status of 200 to 299.",
    )
    .example("acme_certificate example shop.example.com;"),
    Directive::new("acme_shared_zone", Contexts::HTTP, Args::Exactly(1), "zone=name:size", |_, d| {
        let word = &d.args[0];
        let size = word.str()?.strip_prefix("zone=").and_then(|zone| zone.split_once(':'));
        if !size.is_some_and(|(name, size)| !name.is_empty() && conf::value::parse_size(size.as_bytes()).is_some()) {
            return Err(invalid_parameter(word).help("for example: acme_shared_zone zone=acme:1m;"));
        }
        Ok(())
    })
    .default("zone=ngx_acme_shared:256k")
    .doc("Has no effect: certificates take the memory that they need.")
    .example("acme_shared_zone zone=acme:1m;"),
];

pub(super) const OF_ISSUERS: &[Directive] = &[
    Directive::new("uri", Contexts::ACME_ISSUER, Args::Exactly(1), "uri", |b, d| {
        let word = &d.args[0];
        let text = word.str()?;
        let rest = text.strip_prefix("https://").unwrap_or_default();
        if rest.is_empty() || rest.starts_with(['/', ':']) || text.contains(|c: char| c.is_whitespace()) {
            return Err(Diagnostic::error(word.span, format!("invalid \"uri\" value \"{text}\""))
                .help("give the issuer's directory, for example: uri https://acme.example.com/directory;"));
        }
        let issuer = last(b);
        duplicate(!issuer.directory.is_empty(), d)?;
        issuer.directory = text.to_owned();
        Ok(())
    })
    .doc("The issuer's directory, an https address. An issuer needs one.")
    .example("uri https://acme.example.com/directory;"),
    Directive::new("account_key", Contexts::ACME_ISSUER, Args::Exactly(1), "alg[:size] | file", account_key)
        .default("ecdsa:256")
        .doc(
            "The key of the account. ecdsa:256 makes one and keeps it in state_path; a file has one in PEM, ECDSA with \
             P-256 in PKCS #8. Other kinds are refused.",
        )
        .example("account_key account.key;"),
    Directive::new("challenge", Contexts::ACME_ISSUER, Args::Exactly(1), "http-01 | tls-alpn-01 | dns-01", |b, d| {
        let word = &d.args[0];
        last(b).challenge = match word.str()? {
            "http-01" | "http" => ChallengeKind::Http01,
            "tls-alpn-01" | "tls-alpn" => ChallengeKind::TlsAlpn01,
            "dns-01" | "dns" => ChallengeKind::Dns01,
            _ => return Err(invalid_choice(word).help("supported are: http-01, tls-alpn-01 and dns-01")),
        };
        Ok(())
    })
    .default("http-01")
    .doc(
        "How we prove to the issuer that we control a name: http-01 by a text over HTTP at port 80 (any server of \
         the \
         address answers), tls-alpn-01 in a handshake at port 443, dns-01 by a record that dns_update or dns_hook sets.",
    )
    .example("challenge tls-alpn-01;"),
    Directive::new("common_name_in_csr", Contexts::ACME_ISSUER, Args::Flag, "on | off", |b, d| {
        last(b).common_name = b.flag(d)?;
        Ok(())
    })
    .default("off")
    .doc("Also puts the first name into the subject of the certificate request.")
    .example("common_name_in_csr on;"),
    Directive::new("contact", Contexts::ACME_ISSUER, Args::AtLeast(1), "URL …", |b, d| {
        for word in &d.args {
            let text = word.str()?;
            // A colon may be in no address without a scheme.
            let url = if text.contains(':') { text.to_owned() } else { format!("mailto:{text}") };
            last(b).contacts.push(url);
        }
        Ok(())
    })
    .doc("How the issuer can reach the account's owner: mail addresses or other URLs.")
    .example("contact admin@example.com;"),
    Directive::new("dns_hook", Contexts::ACME_ISSUER, Args::AtLeast(1), "program [argument …]", |b, d| {
        let mut words = vec![b.conf_path(&d.args[0])?.display().to_string()];
        for word in &d.args[1..] {
            words.push(word.str()?.to_owned());
        }
        duplicate(last(b).dns_hook.is_some(), d)?;
        last(b).dns_hook = Some(words);
        Ok(())
    })
    .doc(
        "The program that sets records for the challenge dns-01, without a shell: PROGRAM ARGUMENT … present NAME VALUE, \
         and cleanup instead of present when the issuer has asked. It runs as the worker's user for at most two \
         minutes, and must exit with 0 once the record can be resolved.",
    )
    .example("dns_hook /usr/local/bin/set-record --zone example.com;"),
    Directive::new(
        "dns_update",
        Contexts::ACME_ISSUER,
        Args::AtLeast(2),
        "address[:port] key=file [zone=name] [wait=time]",
        |b, d| {
            let update = dns_update::read(b, d)?;
            duplicate(last(b).dns_update.is_some(), d)?;
            last(b).dns_update = Some(update);
            Ok(())
        },
    )
    .doc(
        "The name server that records of the challenge dns-01 are sent to, by dynamic updates of their zone (RFC \
         2136), signed with a TSIG key from a file in the format that `tsig-keygen` prints. Without zone= the server \
         is asked which zone a name is in; wait= is how long the zone's other name servers need to pick up a record.",
    )
    .example("dns_update 192.0.2.53 key=acme.key zone=example.com wait=5s;"),
    Directive::new(
        "external_account_key",
        Contexts::ACME_ISSUER,
        Args::Exactly(2),
        "kid file",
        |b, d| {
            let key = read_file(b, &d.args[1], "external account key")?;
            let is_base64url = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_=".contains(byte);
            let text = key.bytes().trim_ascii();
            if text.is_empty() || !text.iter().all(is_base64url) {
                let text = format!("the external account key \"{}\" is not base64url", key.name);
                return Err(Diagnostic::error(d.args[1].span, text)
                    .help("put the MAC key there as the issuer shows it"));
            }
            let kid = d.args[0].str()?.to_owned();
            duplicate(last(b).external.is_some(), d)?;
            last(b).external = Some((kid, key));
            Ok(())
        },
    )
    .doc(
        "Binds the account to an existing account at the issuer: the key's identifier, and a file with the key in \
         base64url, or data: with the key itself.",
    )
    .example("external_account_key kid-1 eab.key;"),
    Directive::new("on_demand_limit", Contexts::ACME_ISSUER, Args::Exactly(1), "number", |b, d| {
        let word = &d.args[0];
        let number = word.str()?.parse::<u32>().ok().filter(|number| *number > 0);
        let Some(number) = number else {
            return Err(invalid_parameter(word).help("a number of certificates, at least 1"));
        };
        last(b).on_demand_per_hour = number;
        Ok(())
    })
    .default("20")
    .doc("The maximum number of orders in an hour for hosts that only handshakes name (keys= and ask= of \
         acme_certificate).")
    .example("on_demand_limit 50;"),
    Directive::new("profile", Contexts::ACME_ISSUER, Args::Between(1, 2), "name [require]", |b, d| {
        let required = match d.args.get(1) {
            None => false,
            Some(word) if word.text() == "require" => true,
            Some(word) => return Err(invalid_parameter(word).help("profile NAME [require];")),
        };
        let name = d.args[0].str()?.to_owned();
        duplicate(last(b).profile.is_some(), d)?;
        last(b).profile = Some((name, required));
        Ok(())
    })
    .doc(
        "The certificate profile to request, if the issuer offers it; with `require`, nothing is ordered if it does \
         not.",
    )
    .example("profile shortlived;"),
    Directive::new("ssl_trusted_certificate", Contexts::ACME_ISSUER, Args::Exactly(1), "file", |b, d| {
        let file = read_file(b, &d.args[0], "CA certificates")?;
        duplicate(last(b).trusted.is_some(), d)?;
        last(b).trusted = Some(file);
        Ok(())
    })
    .doc("The certificate authorities that the issuer's server is verified with; the system's by default.")
    .example("ssl_trusted_certificate ca.pem;"),
    Directive::new("ssl_verify", Contexts::ACME_ISSUER, Args::Flag, "on | off", |b, d| {
        last(b).verify = b.flag(d)?;
        Ok(())
    })
    .default("on")
    .doc("Whether the certificate of the issuer's own server is verified.")
    .example("ssl_verify off;"),
    Directive::new("state_path", Contexts::ACME_ISSUER, Args::Exactly(1), "path | off", |b, d| {
        let word = &d.args[0];
        let path = (word.text() != "off").then(|| b.inputs.prefix.join(word.str().unwrap_or_default()));
        word.str()?;
        last(b).state = path;
        Ok(())
    })
    .doc(
        "The folder for the account, keys and certificates, below the prefix; without it, acme_NAME there. It is \
         created readable by the worker's user only. off keeps them in memory and orders again after a restart.",
    )
    .example("state_path /var/lib/pointsman/acme;"),
    Directive::new("accept_terms_of_service", Contexts::ACME_ISSUER, Args::Exactly(0), "", |b, _| {
        last(b).accepts_terms = true;
        Ok(())
    })
    .doc("Agrees to the issuer's terms of service. Most issuers require it.")
    .example("accept_terms_of_service;"),
];

/// Returns the issuer whose block is being read.
fn last<'d>(b: &'d mut Builder<'_>) -> &'d mut Issuer {
    let at = b.draft.http.acme.issuers.len() - 1;
    &mut b.draft.http.acme.issuers[at]
}

fn issuer(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let name = word.str()?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !name.bytes().all(is_name) || name.starts_with('.') || name.is_empty() {
        return Err(Diagnostic::error(word.span, format!("invalid name \"{name}\" of an issuer"))
            .help("letters, digits, _, - and ."));
    }
    if b.draft.http.acme.issuers.iter().any(|known| *known.name == *name) {
        return Err(Diagnostic::error(word.span, format!("duplicate acme issuer \"{name}\"")));
    }
    b.draft.http.acme.issuers.push(Issuer {
        name: name.into(),
        directory: String::new(),
        contacts: Vec::new(),
        challenge: ChallengeKind::default(),
        dns_hook: None,
        dns_update: None,
        account_key: None,
        external: None,
        trusted: None,
        verify: true,
        state: Some(b.inputs.prefix.join(format!("acme_{name}"))),
        accepts_terms: false,
        profile: None,
        common_name: false,
        on_demand_per_hour: 20,
    });
    let faults = b.diagnostics.len();
    b.block(d, Contexts::ACME_ISSUER);
    let issuer = last(b);
    if issuer.directory.is_empty() {
        // A uri that is refused already explains it.
        return match b.diagnostics.len() == faults {
            true => Err(Diagnostic::error(word.span, format!("\"uri\" is missing in the issuer \"{name}\""))
                .help("give its directory, for example: uri https://acme.example.com/directory;")),
            false => Ok(()),
        };
    }
    if let (Some(_), Some(key)) = (&issuer.external, &issuer.account_key) {
        return Err(Diagnostic::error(
            key.span,
            "a file of \"account_key\" beside \"external_account_key\" is not supported by pointsman",
        )
        .help("remove account_key: a key is made, and kept in state_path"));
    }
    let ways = [("dns_hook", issuer.dns_hook.is_some()), ("dns_update", issuer.dns_update.is_some())];
    let ways: Vec<_> = ways.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect();
    match (issuer.challenge, &ways[..]) {
        (ChallengeKind::Dns01, []) => {
            return Err(Diagnostic::error(
                word.span,
                "the challenge \"dns-01\" needs a \"dns_update\" or a \"dns_hook\"",
            )
            .help(
                "name the server that takes updates: dns_update 192.0.2.53 key=acme.key; or a program that sets \
                 records: dns_hook /usr/local/bin/set-record;",
            ));
        }
        (ChallengeKind::Dns01, [_, other, ..]) => {
            return Err(Diagnostic::error(
                word.span,
                format!("\"{other}\" beside \"dns_hook\": records are set once"),
            )
            .help("remove one of them"));
        }
        (ChallengeKind::Http01 | ChallengeKind::TlsAlpn01, [way, ..]) => {
            let text = format!("\"{way}\" has no effect with the challenge {}", issuer.challenge);
            b.diagnostics.push(Diagnostic::warn(word.span, text));
        }
        _ => {}
    }
    let issuer = last(b);
    if !issuer.verify && issuer.trusted.is_some() {
        let text = "\"ssl_trusted_certificate\" has no effect beside \"ssl_verify off\"";
        let span = issuer.trusted.as_ref().map(|file| file.span);
        b.diagnostics.push(Diagnostic::warn(span, text));
    }
    same_folder(b, word)
}

/// Fails if another issuer has the same folder: an account belongs to one of them.
fn same_folder(b: &Builder<'_>, word: &Word) -> Result<(), Diagnostic> {
    let Some((last, before)) = b.draft.http.acme.issuers.split_last() else { return Ok(()) };
    match before.iter().find(|other| last.state.is_some() && other.state == last.state) {
        Some(other) => {
            let text =
                format!("\"state_path\" of \"{}\" is that of the issuer \"{}\"", last.name, other.name);
            Err(Diagnostic::error(word.span, text).help("give each issuer a folder of its own"))
        }
        None => Ok(()),
    }
}

fn account_key(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let text = word.str()?;
    match text {
        "ecdsa" | "ecdsa:256" => return Ok(()),
        "ecdsa:384" | "ecdsa:521" | "rsa" | "rsa:2048" | "rsa:3072" | "rsa:4096" => {
            return Err(Diagnostic::error(
                word.span,
                format!("\"account_key {text}\" is known to nginx, not supported by pointsman"),
            )
            .help("supported is: ecdsa:256, or a file with such a key"));
        }
        _ => {}
    }
    let file = read_file(b, word, "account key")?;
    if !file.bytes().windows(27).any(|bytes| bytes == b"-----BEGIN PRIVATE KEY-----") {
        return Err(Diagnostic::error(word.span, format!("the account key \"{}\" is not in PKCS #8", file.name))
            .help("convert it: `openssl pkcs8 -topk8 -nocrypt -in old.key -out account.key`; it must be ECDSA with P-256"));
    }
    duplicate(last(b).account_key.is_some(), d)?;
    last(b).account_key = Some(file);
    Ok(())
}
