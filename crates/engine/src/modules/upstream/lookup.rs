//! The directives of `upstream {}` that say where servers are looked up while the group serves.
//!
//! Owns their words, nginx's where nginx has them. Must never look anything up.

use super::discovery::{FilePlace, NamePlace, Place, Source, UrlPlace};
use super::url::{DEFAULT_PORT, HostKind, Url};
use super::{Origin, entry, host_not_found, resolve};
use crate::config::{Builder, invalid_parameter, once};
use crate::directive::{Args, Contexts, Directive};
use crate::modules::core::{Resolver, read_resolver};
use crate::setting::Duplicate;
use conf::{Diagnostic, Span, Word};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use upstream::{Address, PeerSpec};

/// How often a file is looked at, and a URL asked.
const INTERVALS_MS: (u64, u64) = (1_000, 10_000);
/// The shortest and the longest interval.
const BOUNDS_MS: (u64, u64) = (100, 3_600_000);
/// How long a URL may take.
const TIMEOUT_MS: u64 = 5_000;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new(
        "resolver",
        Contexts::UPSTREAM,
        Args::AtLeast(1),
        "address ... [valid=time] [ipv4=on|off] [ipv6=on|off]",
        |b, d| {
            let resolver = Arc::new(read_resolver(d)?);
            match entry(b, d)?.discovery.resolver.replace(resolver) {
                Some(_) => once(Err(Duplicate), d),
                None => Ok(()),
            }
        },
    )
    .doc("The name servers for `server ... resolve` of this group; by default those of `http`.")
    .example("resolver 127.0.0.53 valid=30s ipv6=off;"),
    Directive::new("resolver_timeout", Contexts::UPSTREAM, Args::Exactly(1), "time", |b, d| {
        let ms = b.time_ms(&d.args[0])?;
        match entry(b, d)?.discovery.timeout_ms.replace(ms) {
            Some(_) => once(Err(Duplicate), d),
            None => Ok(()),
        }
    })
    .doc("How long resolving a name of `server ... resolve` may take; by default as in `http`.")
    .example("resolver_timeout 5s;"),
    Directive::new("min_servers", Contexts::UPSTREAM, Args::Exactly(1), "number", |b, d| {
        let count = b.number(&d.args[0])?;
        entry(b, d)?.discovery.min_servers = u32::try_from(count).unwrap_or(u32::MAX);
        Ok(())
    })
    .default("1")
    .doc(
        "The minimum number of servers that looked-up ones (`server ... resolve`, `servers`) must leave in the \
         group: an answer that leaves fewer, and fewer than there are, is ignored, and the last good set stays. \
         Backups and servers that are down do not count. 0 accepts every answer.",
    )
    .example("min_servers 2;"),
    Directive::new(
        "servers",
        Contexts::UPSTREAM,
        Args::Between(1, 3),
        "file=path [interval=time] | http=url [interval=time] [timeout=time]",
        servers,
    )
    .doc(
        "Reads servers while the group serves: from a file, checked every second, or from a URL, requested every 10 \
         seconds. Each line is `server address [parameters];`, or it is the same as JSON. If the source cannot be \
         read or is invalid, the last good set stays.",
    )
    .example("servers file=/run/pointsman/blue.servers;"),
];

/// `resolve` and `service=` of a `server` line.
#[derive(Clone, Debug, Default)]
pub(super) struct LookUp {
    /// `resolve`.
    pub(super) resolve: bool,
    /// `service=`.
    pub(super) service: Option<(Box<str>, Span)>,
}

impl LookUp {
    /// Returns the place that a `server` line means: none if its servers are known.
    pub(super) fn source(
        &self,
        word: &Word,
        url: &Url<'_>,
        template: PeerSpec,
        line: &str,
    ) -> Result<Option<Source>, Diagnostic> {
        let text = word.text();
        let fault =
            |why: &str| Err(Diagnostic::error(word.span, format!("service upstream \"{text}\" {why}")));
        if let Some((service, span)) = &self.service {
            if service.is_empty() {
                return Err(Diagnostic::error(*span, "service is empty"));
            }
            if !self.resolve {
                return fault("requires \"resolve\" parameter");
            }
            if url.port_text.is_some() {
                return fault("may not have port");
            }
            if url.kind != HostKind::Name {
                return fault("requires domain name");
            }
        }
        if !self.resolve || url.kind != HostKind::Name {
            return Ok(None);
        }
        let host = String::from_utf8_lossy(url.host).into_owned();
        // A name without a dot is that of a service over TCP.
        let service = self.service.as_ref().map(|(service, _)| match service.contains('.') {
            true => format!("{service}.{host}").into_boxed_str(),
            false => format!("_{service}._tcp.{host}").into_boxed_str(),
        });
        let said = match &self.service {
            Some((said, _)) => format!("{text} service={said} resolve"),
            None => format!("{text} resolve"),
        };
        let address = Address::Inet(SocketAddr::from((Ipv4Addr::UNSPECIFIED, url.port)));
        let resolver = Arc::new(Resolver::default());
        let place = NamePlace { host: host.into(), service, resolver, timeout_ms: 0 };
        Ok(Some(Source {
            place: Place::Name(place),
            text: said.into(),
            line: line.into(),
            template: PeerSpec { address, ..template },
        }))
    }
}

fn servers(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let text = word.str()?.to_owned();
    let mut place = match text.split_once('=') {
        Some(("file", path)) if !path.is_empty() => {
            let path = b.inputs.file.parent().map_or_else(|| path.into(), |folder| folder.join(path));
            Place::File(FilePlace { path, interval_ms: INTERVALS_MS.0 })
        }
        Some(("http", url)) => Place::Url(url_place(b, word, url, &SERVERS)?),
        _ => return Err(invalid_parameter(word).help("servers file=PATH; or servers http=URL;")),
    };
    for word in &d.args[1..] {
        let said = word.str()?;
        let time = |value: &str| {
            let ms = conf::value::parse_time_ms(value.as_bytes());
            ms.filter(|ms| (BOUNDS_MS.0..=BOUNDS_MS.1).contains(ms))
                .ok_or_else(|| invalid_parameter(word).help("a time of 100ms to 1h"))
        };
        match (said.split_once('='), &mut place) {
            (Some(("interval", value)), Place::File(file)) => file.interval_ms = time(value)?,
            (Some(("interval", value)), Place::Url(url)) => url.interval_ms = time(value)?,
            (Some(("timeout", value)), Place::Url(url)) => url.timeout_ms = time(value)?,
            _ => return Err(invalid_parameter(word)),
        }
    }
    let template = PeerSpec::new("", Address::Inet(SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT))));
    let source = Source { place, text: format!("servers {text}").into(), line: line_of(d).into(), template };
    entry(b, d)?.discovery.sources.push(source);
    Ok(())
}

/// Returns a directive as it is written.
pub(super) fn line_of(d: &conf::Directive) -> String {
    let words = std::iter::once(&d.name).chain(&d.args).map(|word| word.text().to_string());
    let written: Vec<String> = words.map(|word| conf::written(&word).into_owned()).collect();
    format!("{};", written.join(" "))
}

/// Parses a URL of a directive, and finds the addresses of its host.
pub(crate) fn url_place(
    b: &Builder<'_>,
    word: &Word,
    text: &str,
    directive: &UrlDirective,
) -> Result<UrlPlace, Diagnostic> {
    let name = directive.name;
    let invalid = |why: &str| Diagnostic::error(word.span, format!("{why} in \"{name}\" directive"));
    let rest = match text.split_once("://") {
        Some(("http", rest)) => rest,
        Some(("https", _)) => return Err(invalid("https is not supported").help(directive.without_https)),
        _ => return Err(invalid("invalid URL").help(directive.example)),
    };
    let url = Url::parse(rest.as_bytes(), DEFAULT_PORT, true).map_err(invalid)?;
    let addresses = match url.address() {
        Some(address) => vec![address],
        None => {
            let host = String::from_utf8_lossy(url.host);
            resolve(b, &host, url.port).map_err(|reason| host_not_found(&host, &reason, word.span))?
        }
    };
    let mut host = Vec::new();
    url.append_host_header(&mut host);
    let uri = match String::from_utf8_lossy(url.uri) {
        uri if uri.is_empty() => "/".to_owned(),
        uri if uri.starts_with('?') => format!("/{uri}"),
        uri => uri.into_owned(),
    };
    if uri.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
        return Err(invalid("invalid URL"));
    }
    Ok(UrlPlace {
        url: text.into(),
        host: String::from_utf8_lossy(&host).into_owned().into(),
        addresses,
        uri: uri.into(),
        interval_ms: INTERVALS_MS.1,
        timeout_ms: TIMEOUT_MS,
    })
}

/// The texts of a directive with a URL for wrong ones.
pub(crate) struct UrlDirective {
    /// The directive.
    pub(crate) name: &'static str,
    /// The advice instead of https.
    pub(crate) without_https: &'static str,
    /// How it is written.
    pub(crate) example: &'static str,
}

/// The directive `servers`.
const SERVERS: UrlDirective = UrlDirective {
    name: "servers",
    without_https: "ask it from a program beside pointsman that writes a file, and use servers file=PATH;",
    example: "servers http=http://127.0.0.1:8500/path;",
};

/// Takes the group's name servers, or those of `http`, once the whole text has been read.
pub(super) fn finish(b: &mut Builder<'_>) {
    let core = &b.draft.scopes[0].settings.core;
    let outer = core.resolver.get().clone().map(Arc::new);
    let outer_timeout_ms = *core.resolver_timeout_ms.get();
    for entry in b.draft.groups.iter_mut().filter(|entry| entry.origin == Origin::Block) {
        let resolver = entry.discovery.resolver.clone().or_else(|| outer.clone());
        let limit_ms = entry.discovery.timeout_ms.unwrap_or(outer_timeout_ms);
        let mut lacks = false;
        for source in &mut entry.discovery.sources {
            let Place::Name(place) = &mut source.place else { continue };
            match &resolver {
                Some(resolver) => (place.resolver, place.timeout_ms) = (Arc::clone(resolver), limit_ms),
                None => lacks = true,
            }
        }
        if lacks {
            let name = &entry.spec.name;
            let fault = format!("no resolver defined to resolve names at run time in upstream \"{name}\"");
            let help = "write `resolver ADDRESS;` in http or in the upstream";
            b.diagnostics.push(Diagnostic::error(entry.span, fault).help(help));
        }
    }
}
