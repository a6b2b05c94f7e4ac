//! `health_check` and `match`: how the servers of a group are checked while they serve.
//!
//! Owns: what a check asks, of which groups, and over which TLS. Must never: ask a server, or judge what its results come
//! to; the first is the prober's, the second the crate `upstream`'s.
//!
//! Source of behaviour: <https://nginx.org/en/docs/http/ngx_http_upstream_hc_module.html>.

mod directives;
mod match_block;

pub use directives::CheckDraft;
pub use match_block::MatchBlock;

use super::proxy::{Destination, Pass, PassKind, ProxySettings};
use super::upstream::Origin;
use super::{Module, proxy};
use crate::config::{Builder, LocationId, Settings};
use crate::probe::{
    AnswerTest, CheckSpec, CheckTimes, GroupTls, GrpcProbe, HttpProbe, Probe, ProbeHost, ProbeTls, Scheme,
};
use crate::template::Part;
use conf::{Diagnostic, Span};
use directives::CheckPlace;
use std::sync::Arc;

/// The settings of health checks, before the whole text is read and after.
#[derive(Clone, Debug, Default)]
pub struct HealthSettings {
    /// The checks as they are written.
    checks: Vec<CheckDraft>,
    /// The `match` blocks.
    matches: Vec<MatchBlock>,
    /// A question is asked with the TLS of http's own level.
    pub tls_at_http: bool,
}

/// The module.
pub static MODULE: Module = Module {
    finish: Some(finish),
    ..Module::new("health_check", &[directives::DIRECTIVES, match_block::DIRECTIVES])
};

/// Gives each group its checks, once it is known which location leads where.
fn finish(b: &mut Builder<'_>) {
    for number in 0..b.draft.groups.len() {
        b.draft.groups[number].tls = group_tls(b, number);
    }
    let checks = std::mem::take(&mut b.draft.http.health.checks);
    for check in &checks {
        let added = add(b, check);
        b.diagnostics.extend(added.err());
    }
    let gates = b.draft.switches.iter().filter_map(|switch| Some((switch, switch.gate.as_ref()?)));
    let is_lonely = |target: &Arc<str>| {
        let group = b.draft.groups.iter().find(|entry| *entry.spec.name == **target);
        group.is_some_and(|group| group.tls.first.is_none())
    };
    let mut over_tls = gates.filter(|(_, gate)| gate.scheme == Some(Scheme::Https));
    let by_gate = over_tls.any(|(switch, _)| switch.rules.targets.iter().any(is_lonely));
    if by_gate || b.draft.http.health.tls_at_http {
        b.draft.http.health.tls_at_http = true;
        let fault =
            proxy::check_ssl(&b.draft.scopes[0].settings.proxy, PassKind::Proxy, b.draft.scopes[0].span);
        b.diagnostics.extend(fault);
    }
}

fn group_tls(b: &Builder<'_>, number: usize) -> GroupTls {
    let mut tls = GroupTls::default();
    let mut in_http1 = false;
    for (index, scope) in b.draft.scopes.iter().enumerate() {
        let settings = serving(&scope.settings);
        // Application servers are asked for a connection alone.
        let Some(pass) = settings.pass.as_ref().filter(|_| settings.kind.gateway().is_none()) else {
            continue;
        };
        if !leads_to(b, pass, number) {
            continue;
        }
        match settings.speaks_http2() {
            true => tls.http2 = true,
            false => in_http1 = true,
        }
        match pass.over_tls {
            true if tls.first.is_none() => tls.first = Some(probe_tls(settings, index)),
            true => {}
            false => tls.in_clear = true,
        }
    }
    tls.http2 &= !in_http1;
    tls
}

fn leads_to(b: &Builder<'_>, pass: &Pass, number: usize) -> bool {
    match &pass.to {
        Destination::Group(group) => *group == number,
        Destination::Evaluated(_) => {
            let name = &b.draft.groups[number].spec.name;
            targets(b, pass).is_some_and(|targets| targets.iter().any(|target| **target == **name))
        }
    }
}

/// Returns the targets of the switch that a `proxy_pass` with a variable follows: `http://$live`.
fn targets<'b>(b: &'b Builder<'_>, pass: &Pass) -> Option<&'b [Arc<str>]> {
    let Destination::Evaluated(template) = &pass.to else { return None };
    let (scheme, rest): (&[u8], _) = match template.parts() {
        [Part::Text(scheme), rest @ ..] => (scheme, rest),
        rest => (b"", rest),
    };
    let [Part::Variable(id), rest @ ..] = rest else { return None };
    // What follows the variable must be a path: else it is a part of the host.
    let is_host = match rest {
        [] => true,
        [Part::Text(rest), ..] => rest.starts_with(b"/"),
        _ => false,
    };
    if !is_host || !pass.kind.is_before_host(scheme) {
        return None;
    }
    let name = &b.draft.variables.entry(*id).name;
    let switch = b.draft.switches.iter().find(|switch| *switch.rules.name == **name)?;
    Some(&switch.rules.targets)
}

/// Returns the settings by which a location is served.
fn serving(settings: &Settings) -> &ProxySettings {
    let kind = PassKind::ALL.into_iter().find(|kind| kind.of(settings).pass.is_some());
    kind.unwrap_or_default().of(settings)
}

fn probe_tls(settings: &ProxySettings, scope: usize) -> ProbeTls {
    let name = settings.ssl.name.as_ref().and_then(|name| name.constant());
    ProbeTls {
        location: LocationId(scope as u32),
        name: name.and_then(|name| std::str::from_utf8(name).ok()).map(Box::from),
    }
}

/// Adds a check to the groups that it is for.
fn add(b: &mut Builder<'_>, check: &CheckDraft) -> Result<(), Diagnostic> {
    let expected = expected(b, check)?;
    match check.place {
        CheckPlace::Group(number) => {
            let tls = b.draft.groups[number].tls.of(check.scheme);
            b.draft.http.health.tls_at_http |= tls == Some(ProbeTls::AT_HTTP);
            let over_http2 = check.port.is_none() && b.draft.groups[number].tls.http2;
            let spec = spec(b, check, (number, 0), tls, over_http2, &expected);
            push(b, number, spec);
        }
        CheckPlace::Location(scope) => {
            let settings = serving(&b.draft.scopes[scope].settings);
            let Some(pass) = settings.pass.clone() else {
                return Err(Diagnostic::error(check.span, "health_check in a location without proxy_pass")
                    .help("write it beside proxy_pass http://GROUP;, or into the upstream block"));
            };
            let over_http2 = check.port.is_none() && settings.speaks_http2();
            if check.grpc.is_some() && !settings.speaks_http2() {
                let text = "type=grpc of health_check in a location that speaks no HTTP/2";
                return Err(Diagnostic::error(check.span, text)
                    .help("write it beside grpc_pass, or into the upstream block"));
            }
            if pass.kind.gateway().is_some() && check.uri.is_some() && check.port.is_none() {
                let prefix = pass.kind.row().prefix;
                let text =
                    format!("health_check asks over HTTP, which servers of {prefix}_pass do not speak");
                return Err(Diagnostic::error(check.span, text)
                    .help("ask for a connection alone: health_check type=tcp; or name a port that speaks HTTP: port="));
            }
            let tls = match check.scheme {
                Some(Scheme::Http) => None,
                Some(Scheme::Https) => Some(probe_tls(settings, scope)),
                None => pass.over_tls.then(|| probe_tls(settings, scope)),
            };
            if !pass.over_tls && tls.is_some() {
                let fault = proxy::check_ssl(settings, pass.kind, Some(check.span));
                b.diagnostics.extend(fault);
            }
            for number in groups(b, &pass, check.span)? {
                let spec = spec(b, check, (number, scope), tls.clone(), over_http2, &expected);
                push(b, number, spec);
            }
        }
    }
    Ok(())
}

/// Returns the groups that a location leads to.
fn groups(b: &Builder<'_>, pass: &Pass, at: Span) -> Result<Vec<usize>, Diagnostic> {
    let url = String::from_utf8_lossy(&pass.url);
    match &pass.to {
        Destination::Group(number) if b.draft.groups[*number].origin == Origin::Block => Ok(vec![*number]),
        Destination::Group(_) => {
            let text = format!("health_check needs an upstream block: \"{url}\" names none");
            Err(Diagnostic::error(at, text)
                .help("name the servers in a block, upstream NAME { server …; }, and pass to http://NAME"))
        }
        Destination::Evaluated(_) => {
            let Some(targets) = targets(b, pass) else {
                let text = format!("which group health_check is for is not known at load: \"{url}\"");
                return Err(Diagnostic::error(at, text)
                    .help("write health_check into the upstream blocks that are to be checked"));
            };
            let is_target = |name: &str| targets.iter().any(|target| **target == *name);
            let groups = b.draft.groups.iter().enumerate();
            Ok(groups
                .filter(|(_, entry)| entry.origin == Origin::Block && is_target(&entry.spec.name))
                .map(|(number, _)| number)
                .collect())
        }
    }
}

fn expected(b: &Builder<'_>, check: &CheckDraft) -> Result<AnswerTest, Diagnostic> {
    let Some((name, at)) = &check.matches else { return Ok(AnswerTest::default()) };
    let blocks = &b.draft.http.health.matches;
    if let Some(block) = blocks.iter().find(|block| *block.name == **name) {
        return Ok(block.expected.clone());
    }
    let fault = Diagnostic::error(*at, format!("no match \"{name}\""));
    Err(match conf::nearest(name, blocks.iter().map(|block| &*block.name)) {
        Some(near) => fault.help(format!("did you mean {near}?")),
        None => fault.help(format!("define it in http: match {name} {{ status 200; }}")),
    })
}

fn spec(
    b: &Builder<'_>,
    check: &CheckDraft,
    (number, scope): (usize, usize),
    tls: Option<ProbeTls>,
    over_http2: bool,
    expected: &AnswerTest,
) -> CheckSpec {
    let connection = &serving(&b.draft.scopes[scope].settings).connection;
    let (connect, read) = (*connection.connect_timeout_ms, *connection.read_timeout_ms);
    // A check that takes longer than the interval would delay the next one, and with it what it finds out.
    let total = check.timeout_ms.unwrap_or(check.interval_ms.min(connect.saturating_add(read)));
    let host = check.host.as_deref().unwrap_or(&b.draft.groups[number].spec.name);
    let name = ProbeHost::Name(host.into());
    let probe = match (&check.grpc, &check.uri) {
        (Some((service, status)), _) => {
            Probe::Grpc(GrpcProbe { service: service.clone(), status: *status, host: name })
        }
        (None, None) => Probe::Connect,
        (None, Some(uri)) => Probe::Http(HttpProbe {
            uri: uri.clone(),
            expected: expected.clone(),
            host: name,
            headers: Box::default(),
            over_http2,
        }),
    };
    CheckSpec {
        text: check.text(tls.is_some(), probe.is_over_http2()).into(),
        rules: check.rules,
        probe,
        host: host.into(),
        tls,
        port: check.port,
        times: CheckTimes {
            interval: check.interval_ms,
            jitter: check.jitter_ms,
            connect: connect.min(total),
            total,
            keepalive: check.keepalive_ms,
        },
    }
}

/// Adds a check, unless the group has one that asks the same: two locations may lead there.
fn push(b: &mut Builder<'_>, number: usize, spec: CheckSpec) {
    let checks = &mut b.draft.groups[number].checks;
    if !checks.iter().any(|known| known.text == spec.text) {
        checks.push(spec);
    }
}

#[cfg(test)]
mod tests;
