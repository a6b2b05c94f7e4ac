//! Which certificate a server has: what `acme_certificate` says, once all issuers, names and switches are known.

use super::names::{self, Identifier};
use super::{Certificates, ChallengeKind, KeyKind, OnDemand, Permission, Wanted, Written};
use crate::config::{Builder, invalid_parameter};
use crate::modules::process::Sandbox;
use conf::{Diagnostic, Span};

/// Reads `acme_certificate`.
pub(super) fn certificate(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let Some(server) = b.server_index() else { return Ok(()) };
    duplicate(b.draft.http.acme.written.iter().any(|known| known.server == server), d)?;
    let mut key = None;
    let mut identifiers: Vec<Identifier> = Vec::new();
    let mut permission = None;
    for word in &d.args[1..] {
        let text = word.str()?;
        if text.starts_with("keys=") || text.starts_with("ask=") {
            duplicate(permission.is_some(), d)?;
            permission = Some((text.to_owned(), word.span));
            continue;
        }
        if let Some(kind) = text.strip_prefix("key=") {
            duplicate(key.is_some(), d)?;
            key = Some(key_kind(kind).ok_or_else(|| {
                let names: Vec<&str> = KeyKind::ALL.iter().map(|(name, _)| *name).collect();
                invalid_parameter(word).help(format!("one of {}", names.join(", ")))
            })?);
            continue;
        }
        add(&mut identifiers, text, word.span)?;
    }
    let issuer = (d.args[0].str()?.to_owned(), d.args[0].span);
    let key = key.unwrap_or_default();
    if let (Some((text, span)), Some(name)) = (&permission, identifiers.first()) {
        let text = format!("\"{name}\" beside \"{text}\": hosts on demand are not named here");
        return Err(Diagnostic::error(*span, text).help("give the named hosts a server of their own"));
    }
    b.draft.http.acme.written.push(Written {
        server,
        issuer,
        identifiers,
        key,
        permission,
        span: d.name.span,
    });
    Ok(())
}

/// Reads `ask=` or `keys=`: the switch may come further down than what names it.
fn permission(b: &Builder<'_>, text: &str, span: Span) -> Result<Permission, Diagnostic> {
    if let Some(address) = text.strip_prefix("ask=") {
        let rest = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"));
        let host = rest.and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
        let is_fine = !host.is_empty()
            && !host.starts_with(':')
            && !host.contains('@')
            && address.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        return match is_fine {
            true => Ok(Permission::Ask(address.to_owned())),
            false => Err(Diagnostic::error(span, format!("invalid address in \"{text}\""))
                .help("for example: ask=http://127.0.0.1:9000/may-have-certificate")),
        };
    }
    let name = text.strip_prefix("keys=").unwrap_or_default();
    let help = "name the variable of a switch whose keys are hosts: keys=$live";
    let Some(name) = name.strip_prefix('$') else {
        return Err(Diagnostic::error(span, format!("invalid variable in \"{text}\"")).help(help));
    };
    // Their order stays, and those of them that are at fault make the configuration useless.
    let Some(number) = b.draft.switch_blocks.iter().position(|block| block.identity().0 == name) else {
        return Err(Diagnostic::error(
            span,
            format!("\"{text}\": there is no switch with the variable ${name}"),
        )
        .help(help));
    };
    match b.draft.switch_blocks[number].identity().1 {
        switch::KeyKind::Host => Ok(Permission::Keys(number)),
        _ => {
            Err(Diagnostic::error(span, format!("\"{text}\": the keys of this switch are no hosts"))
                .help(help))
        }
    }
}

fn key_kind(text: &str) -> Option<KeyKind> {
    match text {
        "ecdsa" => Some(KeyKind::Ecdsa256),
        "rsa" => Some(KeyKind::Rsa2048),
        _ => KeyKind::ALL.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind),
    }
}

fn add(identifiers: &mut Vec<Identifier>, text: &str, span: Span) -> Result<(), Diagnostic> {
    let read = names::read(text).map_err(|why| {
        Diagnostic::error(span, format!("invalid identifier of \"acme_certificate\": {why}"))
            .help("name the hosts that the certificate is for: acme_certificate ISSUER shop.example.com;")
    })?;
    for identifier in read {
        if !identifiers.contains(&identifier) {
            identifiers.push(identifier);
        }
    }
    Ok(())
}

pub(super) fn duplicate(is: bool, d: &conf::Directive) -> Result<(), Diagnostic> {
    match is {
        true => {
            let name = d.name.text();
            Err(Diagnostic::error(d.name.span, format!("\"{name}\" directive is duplicate")))
        }
        false => Ok(()),
    }
}

/// Gives each server its certificate: issuers and names may come further down.
pub(super) fn finish(b: &mut Builder<'_>) {
    let written = std::mem::take(&mut b.draft.http.acme.written);
    for Written { server, issuer: (name, span), identifiers, key, permission: allowed, span: at } in written {
        let Some(issuer) = b.draft.http.acme.issuers.iter().position(|known| *known.name == *name) else {
            let known = b.draft.http.acme.issuers.iter().map(|known| &*known.name);
            let mut fault = Diagnostic::error(span, format!("unknown acme issuer \"{name}\""));
            if let Some(near) = conf::nearest(&name, known) {
                fault = fault.help(format!("did you mean \"{near}\"?"));
            }
            b.diagnostics.push(fault);
            continue;
        };
        if let Some((text, span)) = allowed {
            match permission(b, &text, span) {
                Ok(permission) => {
                    let id = format!("{name} {} on-demand", key.name()).into();
                    let acme = &mut b.draft.http.acme;
                    let on_demand = OnDemand { issuer, key, permission, id };
                    let known = acme.on_demand.iter().position(|known| *known == on_demand);
                    let number = known.unwrap_or_else(|| {
                        acme.on_demand.push(on_demand);
                        acme.on_demand.len() - 1
                    });
                    acme.servers.push((server, Certificates::OnDemand(number)));
                }
                Err(fault) => b.diagnostics.push(fault),
            }
            continue;
        }
        let identifiers = match identifiers.is_empty() {
            false => Ok(identifiers),
            true => of_server_names(b, server, at),
        };
        let challenge = b.draft.http.acme.issuers[issuer].challenge;
        let wildcard = |all: &[Identifier]| all.iter().find(|it| it.is_wildcard()).cloned();
        match identifiers {
            Ok(identifiers) if challenge != ChallengeKind::Dns01 && wildcard(&identifiers).is_some() => {
                let name = wildcard(&identifiers).map(|it| it.to_string()).unwrap_or_default();
                let text = format!("the wildcard \"{name}\" cannot be proven by {challenge}");
                b.diagnostics.push(
                    Diagnostic::error(at, text)
                        .help("order it from an issuer with `challenge dns-01`, or name each host"),
                );
            }
            Ok(identifiers) => {
                let names: Vec<String> = identifiers.iter().map(Identifier::to_string).collect();
                let id = format!("{name} {} {}", key.name(), names.join(",")).into();
                let wanted = Wanted { issuer, identifiers, key, id };
                let acme = &mut b.draft.http.acme;
                let known = acme.certificates.iter().position(|known| *known == wanted);
                let number = known.unwrap_or_else(|| {
                    acme.certificates.push(wanted);
                    acme.certificates.len() - 1
                });
                acme.servers.push((server, Certificates::One(number)));
            }
            Err(fault) => b.diagnostics.push(fault),
        }
    }
    check_uses(b);
    let hook = b.draft.http.acme.issuers.iter().find(|issuer| issuer.dns_hook.is_some());
    if let (Some(issuer), Sandbox::Strict) = (hook, *b.draft.main.process.sandbox) {
        let text = format!("\"sandbox strict\" forbids the \"dns_hook\" of the issuer \"{}\"", issuer.name);
        b.diagnostics.push(Diagnostic::error(None, text).help("use `sandbox on`, or another challenge"));
    }
}

fn of_server_names(b: &mut Builder<'_>, server: usize, at: Span) -> Result<Vec<Identifier>, Diagnostic> {
    let mut identifiers = Vec::new();
    for (name, span) in b.draft.servers[server].names.clone() {
        let text = String::from_utf8_lossy(&name).into_owned();
        if text.is_empty() {
            continue;
        }
        if text.starts_with('~') {
            let text =
                format!("no certificate is ordered for the regular expression \"{text}\" in server_name");
            b.diagnostics.push(Diagnostic::warn(span, text));
            continue;
        }
        add(&mut identifiers, &text, span)?;
    }
    match identifiers.is_empty() {
        true => {
            Err(Diagnostic::error(at, "no identifiers for \"acme_certificate\": the server has no names")
                .help("give it a server_name, or name them: acme_certificate ISSUER shop.example.com;"))
        }
        false => Ok(identifiers),
    }
}

/// Checks that who uses `$acme_certificate` has one.
fn check_uses(b: &mut Builder<'_>) {
    let mut faults = Vec::new();
    for (number, server) in b.draft.servers.iter().enumerate() {
        let own = &server.ssl;
        let inherited = &b.draft.ssl;
        let certificates =
            if own.certificates.written() { &own.certificates } else { &inherited.certificates };
        let Some(file) = certificates.iter().find(|file| file.is_issued()) else { continue };
        // Faults of its acme_certificate are said already.
        let acme = &b.draft.http.acme;
        let has_some = acme.servers.iter().any(|(server, _)| *server == number);
        if !has_some && !b.diagnostics.iter().any(Diagnostic::is_error) {
            faults.push(
                Diagnostic::error(
                    file.span(),
                    "\"$acme_certificate\" is empty: the server has no acme_certificate",
                )
                .help("name the issuer in the server: acme_certificate ISSUER;"),
            );
        }
    }
    b.diagnostics.extend(faults);
}
