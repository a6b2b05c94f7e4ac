//! The directives of `upstream {}`.
//!
//! Owns how a block's text becomes a [`GroupSpec`]. Must never judge what a peer is worth while it serves.

use super::lookup::{LookUp, line_of};
use super::{GroupEntry, Url, define, entry, host_not_found, resolve};
use crate::config::{Builder, invalid_parameter, invalid_value, once};
use crate::directive::{Args, Contexts, Directive};
use crate::modules::lua::script::ScriptId;
use crate::setting::{Duplicate, Setting};
use conf::{Diagnostic, Span, Word};
use std::path::PathBuf;
use std::sync::Arc;
use upstream::{Address, BalancerSpec, GroupSpec, KeepaliveSpec, PeerSpec, Ring, TwoBy};

/// A block while it is read.
#[derive(Clone, Debug)]
pub(super) struct GroupDraft {
    peers: Vec<PeerSpec>,
    balancer: Option<BalancerSpec>,
    /// The last `hash`.
    hash: Option<Span>,
    /// The first `backup`, which not every balancing method takes.
    backup: Option<Span>,
    /// The first `slow_start`, likewise.
    slow_start: Option<Span>,
    keepalive: Setting<Option<(u32, bool)>>,
    /// `balancer_keepalive`.
    script_idle: Setting<u32>,
    requests: Setting<u32>,
    time_ms: Setting<u64>,
    timeout_ms: Setting<u64>,
}

impl Default for GroupDraft {
    fn default() -> Self {
        let keepalive = KeepaliveSpec::default();
        GroupDraft {
            peers: Vec::new(),
            balancer: None,
            hash: None,
            backup: None,
            slow_start: None,
            keepalive: Setting::new(None),
            script_idle: Setting::new(SCRIPT_IDLE),
            requests: Setting::new(keepalive.requests),
            time_ms: Setting::new(keepalive.time_ms),
            timeout_ms: Setting::new(keepalive.timeout_ms),
        }
    }
}

/// `zone NAME [size]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zone {
    name: Vec<u8>,
    size: Option<u64>,
    span: Span,
}

/// How many connections are kept for scripts without `balancer_keepalive`.
pub(super) const SCRIPT_IDLE: u32 = 32;

/// nginx refuses a zone of less than eight pages.
const MIN_ZONE_BYTES: u64 = 8 * 4096;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new("upstream", Contexts::HTTP, Args::Block(1, 2), "name [adopt] { … }", block)
        .doc(
            "Defines a group of servers. Without a `server` it is empty until one is added at run time: requests get \
             502. If a group of this name was created at run time (`pointsman group create`), the block is refused \
             unless it says `adopt`: then the block's settings and servers apply, and servers that orders have added \
             are kept on top.",
        )
        .example("upstream blue { server 127.0.0.1:8081; server 127.0.0.1:8082; }"),
    Directive::new(
        "server",
        Contexts::UPSTREAM,
        Args::AtLeast(1),
        "address [weight=number] [max_conns=number] [max_fails=number] [fail_timeout=time] \
         [slow_start=time] [backup] [down] [resolve] [service=name]",
        server,
    )
    .doc(
        "A server of the group, with weight=, max_conns=, max_fails=, fail_timeout=, slow_start=, backup, down. \
         After a recovery its weight rises from low to full over slow_start=. A host name is resolved when the \
         configuration is loaded, and each of its addresses is a server. With `resolve` it is resolved while the \
         group serves, as often as the TTL of the answers says; service= looks up SRV records, whose ports and \
         weights are used; those of lower priority are backups.",
    )
    .example("server 127.0.0.1:8081 weight=2 max_fails=3 fail_timeout=30s;"),
    Directive::new("least_conn", Contexts::UPSTREAM, Args::Exactly(0), "", |b, d| {
        balance(b, d, BalancerSpec::LeastConn)
    })
    .doc("Chooses the server with the fewest connections in proportion to its weight.")
    .example("least_conn;"),
    Directive::new("ip_hash", Contexts::UPSTREAM, Args::Exactly(0), "", |b, d| {
        balance(b, d, BalancerSpec::IpHash)
    })
    .doc(
        "Chooses the server by the client's address: by the first three bytes of an IPv4 address, or the whole IPv6 \
         address.",
    )
    .example("ip_hash;"),
    Directive::new("hash", Contexts::UPSTREAM, Args::Between(1, 2), "key [consistent]", hash)
        .doc(
            "Chooses the server by the hash of a text with variables; with `consistent`, few keys move when servers \
             change.",
        )
        .example("hash $request_uri consistent;"),
    Directive::new("random", Contexts::UPSTREAM, Args::Between(0, 2), "[two [least_conn]]", random)
        .doc("Chooses a random server; with `two`, of two random ones the one with fewer connections.")
        .example("random two least_conn;"),
    Directive::new("keepalive", Contexts::UPSTREAM, Args::Between(1, 2), "connections [local]", keepalive)
        .default("32 local")
        .doc(
            "The number of idle connections that each thread keeps for the group; `local` keeps them separately for \
             each location. 0 keeps none.",
        )
        .example("keepalive 64;"),
    Directive::new("balancer_keepalive", Contexts::UPSTREAM, Args::Exactly(1), "connections", |b, d| {
        let word = &d.args[0];
        let count = conf::value::parse_number(word.text()).and_then(|count| u32::try_from(count).ok());
        let count = count.filter(|count| *count > 0).ok_or_else(|| {
            let fault = format!("invalid value \"{}\" in \"balancer_keepalive\" directive", word.text());
            Diagnostic::error(word.span, fault).help("a number of connections, at least 1")
        })?;
        once(draft(b, d)?.script_idle.write(count), d)
    })
    .default("32")
    .doc(
        "The number of idle connections that each thread keeps for scripts that called enable_keepalive in \
         balancer_by_lua_block.",
    )
    .example("balancer_keepalive 64;"),
    Directive::new("keepalive_requests", Contexts::UPSTREAM, Args::Exactly(1), "number", |b, d| {
        let count = b.number(&d.args[0])?;
        once(draft(b, d)?.requests.write(u32::try_from(count).unwrap_or(u32::MAX)), d)
    })
    .default("1000")
    .doc("The maximum number of requests on one connection to a server.")
    .example("keepalive_requests 1000;"),
    Directive::new("keepalive_time", Contexts::UPSTREAM, Args::Exactly(1), "time", |b, d| {
        let ms = b.time_ms(&d.args[0])?;
        once(draft(b, d)?.time_ms.write(ms), d)
    })
    .default("1h")
    .doc("The maximum time for which one connection to a server is used.")
    .example("keepalive_time 1h;"),
    Directive::new("keepalive_timeout", Contexts::UPSTREAM, Args::Exactly(1), "time", |b, d| {
        let ms = b.time_ms(&d.args[0])?;
        once(draft(b, d)?.timeout_ms.write(ms), d)
    })
    .default("60s")
    .doc("How long an idle connection to a server stays open.")
    .example("keepalive_timeout 60s;"),
    Directive::new("zone", Contexts::UPSTREAM, Args::Between(1, 2), "name [size]", zone)
        .doc(
            "Shares the group's state among all threads: rotation, failures, connections. The size is checked and \
             has no other effect.",
        )
        .example("zone blue 64k;"),
];

fn block(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let adopts = match d.args.get(1) {
        None => false,
        Some(word) if word.text() == "adopt" => true,
        Some(word) => return Err(invalid_parameter(word).help("adopt, or nothing")),
    };
    let number = define(b, &d.args[0])?;
    b.draft.groups[number].adopts = adopts;
    b.block(d, Contexts::UPSTREAM);
    let entry = &mut b.draft.groups[number];
    let Some(draft) = entry.draft.take() else { return Ok(()) };
    entry.script_idle = *draft.script_idle;
    let (spec, fault) = complete(entry, *draft);
    entry.spec = Arc::new(spec);
    fault.map_or(Ok(()), Err)
}

/// Makes the group of what the block said.
fn complete(entry: &GroupEntry, draft: GroupDraft) -> (GroupSpec, Option<Diagnostic>) {
    let GroupDraft {
        peers,
        balancer,
        hash,
        backup,
        slow_start,
        keepalive,
        requests,
        time_ms,
        timeout_ms,
        ..
    } = draft;
    let balancer = balancer.unwrap_or_default();
    let fallback = KeepaliveSpec::default();
    let (max_idle, local) = keepalive.unwrap_or((fallback.max_idle, fallback.local));
    let keepalive =
        KeepaliveSpec { max_idle, local, requests: *requests, time_ms: *time_ms, timeout_ms: *timeout_ms };
    let sources = &entry.discovery.sources;
    let has_primary =
        peers.iter().any(|peer| !peer.backup) || sources.iter().any(|source| !source.template.backup);
    let name = &entry.spec.name;
    let fault = match backup {
        Some(span) if !balancer.allows_backup() => Some(
            Diagnostic::error(span, "balancing method does not support parameter \"backup\"")
                .help("round robin and least_conn have backup servers"),
        ),
        _ if let Some(span) = slow_start.filter(|_| !balancer.allows_backup()) => Some(
            Diagnostic::error(span, "balancing method does not support parameter \"slow_start\"")
                .help("round robin and least_conn have slow_start"),
        ),
        Some(span) if !has_primary => Some(
            Diagnostic::error(span, format!("no servers in upstream \"{name}\""))
                .help("a group needs a server that is no backup"),
        ),
        _ => None,
    };
    let (ring, too_large) = match balancer {
        BalancerSpec::Hash { consistent: true } => ring(&peers, hash),
        _ => (Ring::default(), None),
    };
    (GroupSpec { name: name.clone(), peers, balancer, keepalive, ring }, fault.or(too_large))
}

/// Makes the ring of `hash … consistent`, or returns why it would be too large.
fn ring(peers: &[PeerSpec], at: Option<Span>) -> (Ring, Option<Diagnostic>) {
    let servers = || peers.iter().filter(|peer| !peer.backup);
    let points = Ring::size(servers().map(|peer| peer.weight));
    if points <= Ring::MAX_POINTS {
        return (Ring::of(servers().map(|peer| (peer.name.as_str(), peer.weight))), None);
    }
    let text = format!("the weights make {points} points in the ring of \"hash ... consistent\"");
    let fault = Diagnostic::error(at, text)
        .label(format!("{} at most", Ring::MAX_POINTS))
        .help("divide the weights: each 1 is 160 points, and their proportion is what counts");
    (Ring::default(), Some(fault))
}

fn draft<'a>(b: &'a mut Builder<'_>, d: &conf::Directive) -> Result<&'a mut GroupDraft, Diagnostic> {
    let entry = b.draft.groups.iter_mut().find_map(|entry| entry.draft.as_deref_mut());
    entry.ok_or_else(|| Diagnostic::error(d.name.span, "directive is not inside \"upstream\""))
}

fn balance(b: &mut Builder<'_>, d: &conf::Directive, balancer: BalancerSpec) -> Result<(), Diagnostic> {
    if draft(b, d)?.balancer.replace(balancer).is_some() {
        let warning = Diagnostic::warn(d.name.span, "load balancing method redefined");
        b.diagnostics.push(warning.help("a group has one method: the last one written is used"));
    }
    // As in nginx, where the script does not run then.
    if entry(b, d)?.script.take().is_some() {
        let warning = Diagnostic::warn(d.name.span, "load balancing method redefined");
        b.diagnostics.push(warning.help("the script above is not run: put the method before it"));
    }
    Ok(())
}

/// Sets the script of `balancer_by_lua*`.
pub(super) fn set_script(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    script: ScriptId,
) -> Result<(), Diagnostic> {
    let has_method = draft(b, d)?.balancer.is_some();
    if entry(b, d)?.script.replace(script).is_some() {
        return once(Err(Duplicate), d);
    }
    if has_method {
        let warning = Diagnostic::warn(d.name.span, "load balancing method redefined");
        b.diagnostics.push(warning.help("the method chooses only where the script does not"));
    }
    Ok(())
}

fn hash(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let key = b.template(&d.args[0])?;
    let consistent = match d.args.get(1) {
        None => false,
        Some(word) if word.text() == "consistent" => true,
        Some(word) => return Err(invalid_parameter(word).help("consistent, or nothing")),
    };
    balance(b, d, BalancerSpec::Hash { consistent })?;
    draft(b, d)?.hash = Some(d.words_span());
    entry(b, d)?.hash_key = Some(key);
    Ok(())
}

fn random(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let two = match d.args.first() {
        None => None,
        Some(word) if word.text() == "two" => Some(TwoBy::LeastConn),
        Some(word) => return Err(invalid_parameter(word).help("two, or nothing")),
    };
    match d.args.get(1) {
        Some(word) if word.text().starts_with(b"least_time") => {
            return Err(unsupported_parameter(word, "least_time", "random"));
        }
        Some(word) if word.text() != "least_conn" => return Err(invalid_parameter(word).help("least_conn")),
        _ => {}
    }
    balance(b, d, BalancerSpec::Random { two })
}

fn keepalive(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let count = conf::value::parse_number(word.text()).and_then(|count| u32::try_from(count).ok());
    let count = count.ok_or_else(|| {
        let fault = format!("invalid value \"{}\" in \"keepalive\" directive", word.text());
        Diagnostic::error(word.span, fault).help("a number of connections; 0 keeps none")
    })?;
    let local = match d.args.get(1) {
        None => false,
        Some(word) if word.text() == "local" => true,
        Some(word) => return Err(invalid_parameter(word).help("local, or nothing")),
    };
    once(draft(b, d)?.keepalive.write(Some((count, local))), d)
}

fn zone(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let name = word.text().to_vec();
    if name.is_empty() {
        return Err(Diagnostic::error(word.span, "invalid zone name \"\""));
    }
    let size = match d.args.get(1) {
        None => None,
        Some(word) => match conf::value::parse_buffer_size(word.text()) {
            None => {
                return Err(Diagnostic::error(word.span, format!("invalid zone size \"{}\"", word.text())));
            }
            Some(size) if size < MIN_ZONE_BYTES => {
                let fault = format!("zone \"{}\" is too small", d.args[0].text());
                return Err(Diagnostic::error(word.span, fault).help("a zone takes at least 32k"));
            }
            Some(size) => Some(size),
        },
    };
    let entry = entry(b, d)?;
    entry.shared = true;
    if entry.zone.replace(Zone { name, size, span: d.args[0].span }).is_some() {
        return once(Err(Duplicate), d);
    }
    Ok(())
}

/// Groups may share a zone's name; one of them must say how large it is, and none another size.
pub(super) fn check_zones(b: &mut Builder<'_>) {
    let zones: Vec<&Zone> = b.draft.groups.iter().filter_map(|entry| entry.zone.as_ref()).collect();
    let mut faults = Vec::new();
    for (index, zone) in zones.iter().enumerate() {
        let namesakes = || zones.iter().filter(|other| other.name == zone.name);
        let name = String::from_utf8_lossy(&zone.name);
        let first = namesakes().find_map(|other| Some((other.size?, other.span)));
        match (first, zone.size) {
            (None, _) if zones[..index].iter().all(|earlier| earlier.name != zone.name) => {
                faults.push(
                    Diagnostic::error(zone.span, format!("zero size shared memory zone \"{name}\""))
                        .help(format!("say how large it is: zone {name} 64k;")),
                );
            }
            (Some((declared, span)), Some(size)) if declared != size => {
                let fault = format!(
                    "the size {size} of shared memory zone \"{name}\" conflicts with already declared size {declared}"
                );
                faults.push(Diagnostic::error(zone.span, fault).also(span, "declared here"));
            }
            _ => {}
        }
    }
    b.diagnostics.append(&mut faults);
}

/// The parameters of a `server` line.
struct Parameters {
    weight: u32,
    max_conns: u32,
    max_fails: u32,
    fail_timeout_ms: u64,
    slow_start: Option<(u64, Span)>,
    backup: Option<Span>,
    down: bool,
    look_up: LookUp,
}

impl Parameters {
    fn parse(b: &mut Builder<'_>, words: &[Word]) -> Result<Parameters, Diagnostic> {
        let mut parameters = Parameters {
            weight: 1,
            max_conns: 0,
            max_fails: 1,
            fail_timeout_ms: 10_000,
            slow_start: None,
            backup: None,
            down: false,
            look_up: LookUp::default(),
        };
        b.each(words, |word| parameters.read(word))?;
        Ok(parameters)
    }

    fn read(&mut self, word: &Word) -> Result<(), Diagnostic> {
        let text: &[u8] = word.text();
        let (name, value) = match memchr::memchr(b'=', text) {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        let wrong = || invalid_parameter(word);
        let count = |value| conf::value::parse_number(value).and_then(|count| u32::try_from(count).ok());
        match (name, value) {
            (b"weight", Some(value)) => {
                self.weight = count(value).filter(|weight| *weight > 0).ok_or_else(wrong)?;
            }
            (b"max_conns", Some(value)) => self.max_conns = count(value).ok_or_else(wrong)?,
            (b"max_fails", Some(value)) => self.max_fails = count(value).ok_or_else(wrong)?,
            (b"fail_timeout", Some(value)) => {
                let seconds = conf::value::parse_time_s(value);
                self.fail_timeout_ms = seconds
                    .ok_or_else(|| wrong().help("a time in whole seconds: 30s, 1m"))?
                    .saturating_mul(1000);
            }
            (b"slow_start", Some(value)) => {
                let ms = conf::value::parse_time_ms(value);
                let ms = ms.ok_or_else(|| wrong().help("a time: 500ms, 30s"))?;
                self.slow_start = (ms > 0).then_some((ms, word.span));
            }
            (b"backup", None) => self.backup = Some(word.span),
            (b"down", None) => self.down = true,
            (b"resolve", None) => self.look_up.resolve = true,
            (b"service", Some(service)) => {
                let service = std::str::from_utf8(service).map_err(|_| wrong())?;
                self.look_up.service = Some((service.into(), word.span));
            }
            (b"drain", None) | (b"route", Some(_)) => {
                return Err(unsupported_parameter(word, &String::from_utf8_lossy(name), "server"));
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }
}

fn unsupported_parameter(word: &Word, name: &str, directive: &str) -> Diagnostic {
    let fault =
        format!("the \"{name}\" parameter of \"{directive}\" is known to nginx, not supported by pointsman");
    Diagnostic::error(word.span, fault).label("not supported")
}

fn server(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let parameters = Parameters::parse(b, &d.args[1..])?;
    let url = parse_url(word)?;
    let template = PeerSpec {
        weight: parameters.weight,
        max_conns: parameters.max_conns,
        max_fails: parameters.max_fails,
        fail_timeout_ms: parameters.fail_timeout_ms,
        slow_start_ms: parameters.slow_start.map_or(0, |(ms, _)| ms),
        backup: parameters.backup.is_some(),
        down: parameters.down,
        ..PeerSpec::new(word.text().to_string(), Address::Unix(PathBuf::new()))
    };
    let (source, addresses) = match parameters.look_up.source(word, &url, template.clone(), &line_of(d))? {
        Some(source) => (Some(source), Vec::new()),
        None => (None, addresses(b, word, &url)?),
    };
    let draft = draft(b, d)?;
    draft.backup = draft.backup.or(parameters.backup);
    draft.slow_start = draft.slow_start.or(parameters.slow_start.map(|(_, span)| span));
    draft.peers.extend(addresses.into_iter().map(|address| PeerSpec { address, ..template.clone() }));
    entry(b, d)?.discovery.sources.extend(source);
    Ok(())
}

fn parse_url(word: &Word) -> Result<Url<'_>, Diagnostic> {
    let text: &[u8] = word.text();
    Url::parse(text, super::DEFAULT_PORT, false).map_err(|fault| {
        let fault = Diagnostic::error(word.span, format!("{fault} in upstream \"{}\"", word.text()));
        match memchr::memmem::find(text, b"://") {
            Some(_) => {
                fault.help("an address has no scheme: write 127.0.0.1:8081, a host name or unix:/path")
            }
            None => fault,
        }
    })
}

fn addresses(b: &Builder<'_>, word: &Word, url: &Url<'_>) -> Result<Vec<Address>, Diagnostic> {
    if let Some(address) = url.address() {
        return Ok(vec![address]);
    }
    let host = std::str::from_utf8(url.host).map_err(|_| invalid_value(word))?;
    resolve(b, host, url.port).map_err(|reason| host_not_found(&word.text().to_string(), &reason, word.span))
}
