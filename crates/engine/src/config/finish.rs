//! The steps that need the whole text: inheritance, search tables, addresses, names defined further down.

use super::builder::{Builder, Inputs};
use super::draft::{Draft, ListenDraft, Scope};
use super::{
    AddressServers, Config, ListenAddress, ListenOptions, Listener, Location, LocationId, LocationTable,
    Modifier, NameMatch, Server, ServerId, ServerNames,
};
use crate::modules::ModuleSet;
use crate::modules::proxy::{inherit_pass, settle_kind};
use crate::variables::{self, Definition};
use conf::Diagnostic;
use foldhash::fast::RandomState;
use std::collections::HashSet;
use std::net::SocketAddr;

/// Runs the checks that need the whole text.
pub(super) fn check(builder: &mut Builder<'_>) {
    for entry in builder.draft.variables.entries() {
        if matches!(entry.definition, Definition::Undefined) {
            let mut fault =
                Diagnostic::error(entry.first_named, format!("unknown \"{}\" variable", entry.name));
            let known =
                variables::VARIABLES.iter().flat_map(|table| table.iter()).map(|variable| variable.name);
            if let Some(near) = conf::nearest(&entry.name, known) {
                fault = fault.help(format!("did you mean ${near}?"));
            }
            builder.diagnostics.push(fault);
        }
    }
    let mut seen: Vec<&ListenDraft> = Vec::new();
    for listen in &builder.draft.listens {
        let same = |other: &&&ListenDraft| other.address == listen.address;
        if let Some(other) = seen.iter().find(|other| same(other) && other.server == listen.server) {
            builder.diagnostics.push(
                Diagnostic::error(listen.span, format!("a duplicate listen {}", listen.address))
                    .also(other.span, "the first one"),
            );
        }
        if listen.default_server
            && let Some(other) = seen.iter().find(|other| same(other) && other.default_server)
        {
            builder.diagnostics.push(
                Diagnostic::error(listen.span, format!("a duplicate default server for {}", listen.address))
                    .also(other.span, "the first one"),
            );
        }
        if listen.options.is_some()
            && let Some(other) = seen.iter().find(|other| same(other) && other.options.is_some())
        {
            builder.diagnostics.push(
                Diagnostic::error(listen.span, format!("duplicate listen options for {}", listen.address))
                    .also(other.span, "options are set here already"),
            );
        }
        seen.push(listen);
    }
}

/// Makes the configuration of a draft without faults.
pub(super) fn config(mut draft: Draft, inputs: &Inputs<'_>) -> Result<Config, Diagnostic> {
    draft.http.identity = inputs.identity.clone();
    inherit(&mut draft.scopes);
    for server in &mut draft.servers {
        server.ssl.settle(&draft.ssl);
    }
    let listeners = listeners(&draft)?;
    let mut tables: Vec<LocationTable> = draft.scopes.iter().map(|_| LocationTable::default()).collect();
    let mut named: Vec<Vec<(Vec<u8>, LocationId)>> = draft.servers.iter().map(|_| Vec::new()).collect();
    let mut redirects: Vec<HashSet<Box<[u8]>, RandomState>> =
        draft.servers.iter().map(|_| HashSet::default()).collect();
    for (index, scope) in draft.scopes.iter().enumerate() {
        let id = LocationId(index as u32);
        let parent = scope.parent.unwrap_or_default();
        match scope.modifier {
            Modifier::Regex => {
                if let Some(regex) = scope.regex.clone() {
                    tables[parent].insert_regex(regex, id);
                }
            }
            Modifier::Named => {
                if let Some(server) = scope.server {
                    named[server].push((scope.name[1..].to_vec(), id));
                }
            }
            Modifier::Unnamed => {}
            modifier => {
                if !tables[parent].insert(&scope.name, modifier, id) {
                    let name = String::from_utf8_lossy(&scope.name);
                    return Err(Diagnostic::error(scope.span, format!("duplicate location \"{name}\"")));
                }
                if let (true, Some(server), [name @ .., b'/']) =
                    (*scope.settings.core.auto_redirect, scope.server, &*scope.name)
                {
                    redirects[server].insert(name.into());
                }
            }
        }
    }
    tables.iter_mut().for_each(LocationTable::seal);
    let locations = draft.scopes.into_iter().zip(tables).map(|(scope, inner)| Location {
        name: scope.name,
        modifier: scope.modifier,
        regex: scope.regex,
        settings: scope.settings,
        modules: ModuleSet::default(),
        inner,
    });
    let servers =
        draft.servers.into_iter().zip(named).zip(redirects).map(|((server, named), auto_redirects)| Server {
            scope: LocationId(server.scope as u32),
            names: server.names.into_iter().map(|(name, _)| shown_name(name)).collect(),
            named,
            auto_redirects,
            ssl: server.ssl,
        });
    let mut config = Config {
        prefix: inputs.prefix.clone(),
        file: inputs.file.clone(),
        main: draft.main,
        control: draft.control,
        http: draft.http,
        listeners,
        servers: servers.collect(),
        locations: locations.collect(),
        group_numbers: draft.groups.iter().enumerate().map(|(n, g)| (g.key().into(), n)).collect(),
        groups: draft.groups,
        variables: draft.variables,
        computed: draft.computed,
        switches: draft.switches,
        lua: draft.lua,
        limits: draft.limits,
        logs: draft.logs,
    };
    for index in 0..config.locations.len() {
        config.locations[index].modules = ModuleSet::needed(&config, &config.locations[index].settings);
    }
    Ok(config)
}

/// `$server_name` shows `.example.com` without its dot.
fn shown_name(name: Vec<u8>) -> Vec<u8> {
    match name.strip_prefix(b".") {
        Some(parent) => parent.to_vec(),
        None => name,
    }
}

fn inherit(scopes: &mut [Scope]) {
    for index in 1..scopes.len() {
        let (outer, inner) = scopes.split_at_mut(index);
        let scope = &mut inner[0];
        let Some(parent) = scope.parent else { continue };
        scope.settings.inherit(&outer[parent].settings);
        // An `if` or `limit_except` block is served by what serves the location around it.
        if scope.modifier == Modifier::Unnamed {
            scope.settings.core.content.inherit(&outer[parent].settings.core.content);
            inherit_pass(&mut scope.settings, &outer[parent].settings);
            scope.settings.lua.inherit_content(&outer[parent].settings.lua);
        }
    }
    scopes.iter_mut().for_each(|scope| settle_kind(&mut scope.settings));
}

fn listeners(draft: &Draft) -> Result<Vec<Listener>, Diagnostic> {
    let mut listeners: Vec<Listener> = Vec::new();
    for listen in &draft.listens {
        if wildcard_for(draft, listen).is_some() {
            continue;
        }
        if !listeners.iter().any(|known| known.address == listen.address) {
            listeners.push(Listener {
                address: listen.address.clone(),
                options: options_of(draft, &listen.address),
                servers: servers_at(draft, &listen.address)?,
                exact: Vec::new(),
            });
        }
    }
    for listen in &draft.listens {
        let (Some(wildcard), ListenAddress::Inet(address)) = (wildcard_for(draft, listen), &listen.address)
        else {
            continue;
        };
        let servers = servers_at(draft, &listen.address)?;
        let Some(listener) = listeners.iter_mut().find(|known| known.address == wildcard) else { continue };
        if !listener.exact.iter().any(|(known, ..)| known == address) {
            listener.exact.push((*address, servers));
        }
    }
    Ok(listeners)
}

/// Returns the wildcard address whose socket serves this `listen` too, as nginx binds `*:80` alone when it can.
fn wildcard_for(draft: &Draft, listen: &ListenDraft) -> Option<ListenAddress> {
    let ListenAddress::Inet(address) = listen.address else { return None };
    if address.ip().is_unspecified() {
        return None;
    }
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], address.port())),
        SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], address.port())),
    };
    let any = ListenAddress::Inet(any);
    let own = draft.listens.iter().any(|other| other.address == listen.address && other.own_socket);
    (!own && draft.listens.iter().any(|other| other.address == any)).then_some(any)
}

fn options_of(draft: &Draft, address: &ListenAddress) -> ListenOptions {
    let written = draft.listens.iter().find(|listen| listen.address == *address && listen.options.is_some());
    written.and_then(|listen| listen.options.clone()).unwrap_or_default()
}

fn servers_at(draft: &Draft, address: &ListenAddress) -> Result<AddressServers, Diagnostic> {
    let here = || draft.listens.iter().filter(|listen| listen.address == *address);
    let mut names = ServerNames::default();
    for listen in here() {
        for (name, span) in &draft.servers[listen.server].names {
            let matcher = NameMatch::parse(name).map_err(|fault| Diagnostic::error(*span, fault))?;
            // nginx warns of a conflicting name and keeps the first; so does the first insert here.
            let _kept = names.insert(matcher, ServerId(listen.server as u32));
        }
    }
    let default = here().find(|listen| listen.default_server).or_else(|| here().next());
    Ok(AddressServers {
        default: ServerId(default.map_or(0, |listen| listen.server) as u32),
        names,
        proxy_protocol: here().any(|listen| listen.proxy_protocol),
        ssl: here().any(|listen| listen.ssl),
        http2: here().any(|listen| listen.http2),
    })
}
