//! The blocks: http, server and location, and the rules of nesting.

use crate::config::{Builder, ListenAddress, ListenDraft, Modifier, Scope, ServerDraft, invalid_value, once};
use crate::directive::{Args, Contexts, Directive};
use crate::regex::Regex;
use conf::Diagnostic;
use std::net::SocketAddr;

pub(super) const BLOCKS: &[Directive] = &[
    Directive::new("http", Contexts::MAIN, Args::Block(0, 0), "{ … }", |b, d| {
        if std::mem::replace(&mut b.draft.http.present, true) {
            return once(Err(crate::setting::Duplicate), d);
        }
        b.block_in(d, Contexts::HTTP, 0);
        Ok(())
    })
    .doc("Contains the configuration of the HTTP server.")
    .example("http { server { listen 8080; } }"),
    Directive::new("server", Contexts::HTTP, Args::Block(0, 0), "{ … }", server)
        .doc("A virtual server.")
        .example("server { listen 8080; server_name shop.example.com; }"),
    Directive::new(
        "location",
        Contexts::SERVER.or(Contexts::LOCATION),
        Args::Block(1, 2),
        "[= | ~ | ~* | ^~] uri { … } | @name { … }",
        location,
    )
    .doc(
        "Settings for URIs: a prefix, `=` exact, `^~` prefix before regular expressions, `~` \
         and `~*` regular expressions, `@name`.",
    )
    .example("location ^~ /static/ { root /srv; }"),
];

fn server(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let server = b.draft.servers.len();
    let scope = add_scope(b, d, Vec::new(), Modifier::Unnamed, None, Contexts::SERVER, Some(server));
    b.draft.servers.push(ServerDraft { scope, ..ServerDraft::default() });
    b.block_in(d, Contexts::SERVER, scope);
    if !b.draft.listens.iter().any(|listen| listen.server == server) {
        // nginx: without `listen`, *:80; *:8000 when not run as root is left out, since it surprises.
        let address = ListenAddress::Inet(SocketAddr::from(([0, 0, 0, 0], 80)));
        let draft = ListenDraft {
            server,
            address,
            options: None,
            default_server: false,
            proxy_protocol: false,
            ssl: false,
            http2: false,
            own_socket: false,
            span: d.name.span,
        };
        b.listen(draft);
    }
    if b.draft.servers[server].names.is_empty() {
        b.draft.servers[server].names.push((Vec::new(), d.name.span));
    }
    Ok(())
}

/// Adds a level of settings inside the present one.
pub(crate) fn add_scope(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    name: Vec<u8>,
    modifier: Modifier,
    regex: Option<Regex>,
    context: Contexts,
    server: Option<usize>,
) -> usize {
    let parent = Some(b.scope_index());
    b.draft.scopes.push(Scope {
        name,
        modifier,
        regex,
        settings: Default::default(),
        parent,
        server,
        context,
        span: Some(d.span),
    });
    b.draft.scopes.len() - 1
}

fn location(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let (modifier, word) = match d.args.as_slice() {
        [kind, name] => match &**kind.text() {
            b"=" => (Kind::Plain(Modifier::Exact), name),
            b"^~" => (Kind::Plain(Modifier::PrefixNoRegex), name),
            b"~" => (Kind::Regex(false), name),
            b"~*" => (Kind::Regex(true), name),
            _ => {
                let shown = kind.text();
                return Err(Diagnostic::error(kind.span, format!("invalid location modifier \"{shown}\""))
                    .help("one of =, ^~, ~ and ~*"));
            }
        },
        [name] => split_modifier(name),
        _ => return Err(invalid_value(&d.name)),
    };
    let text = match d.args.len() {
        1 => &word.text()[modifier.glued_len()..],
        _ => word.text(),
    };
    let (modifier, regex) = match modifier {
        Kind::Regex(ignore_case) => {
            let regex = b.regex(word, text, ignore_case)?;
            (Modifier::Regex, Some(regex))
        }
        Kind::Plain(modifier) => (modifier, None),
    };
    check_nesting(b, d, text, modifier)?;
    let server = b.server_index();
    let scope = add_scope(b, d, text.to_vec(), modifier, regex, Contexts::LOCATION, server);
    b.block_in(d, Contexts::LOCATION, scope);
    Ok(())
}

enum Kind {
    Plain(Modifier),
    Regex(bool),
}

impl Kind {
    /// Returns the length of a modifier that is written without a space before the name (`location ~\.php$`).
    fn glued_len(&self) -> usize {
        match self {
            Kind::Plain(Modifier::Exact) => 1,
            Kind::Plain(Modifier::PrefixNoRegex) => 2,
            Kind::Regex(false) => 1,
            Kind::Regex(true) => 2,
            Kind::Plain(_) => 0,
        }
    }
}

fn split_modifier(word: &conf::Word) -> (Kind, &conf::Word) {
    let kind = match &**word.text() {
        [b'=', ..] => Kind::Plain(Modifier::Exact),
        [b'^', b'~', ..] => Kind::Plain(Modifier::PrefixNoRegex),
        [b'~', b'*', ..] => Kind::Regex(true),
        [b'~', ..] => Kind::Regex(false),
        [b'@', ..] => Kind::Plain(Modifier::Named),
        _ => Kind::Plain(Modifier::Prefix),
    };
    (kind, word)
}

/// Checks nesting by the rules of ngx_http_core_location.
fn check_nesting(
    b: &Builder<'_>,
    d: &conf::Directive,
    name: &[u8],
    modifier: Modifier,
) -> Result<(), Diagnostic> {
    let outer = &b.draft.scopes[b.scope_index()];
    let shown = String::from_utf8_lossy(name);
    let outer_name = String::from_utf8_lossy(&outer.name);
    let fault = |text: String| Err(Diagnostic::error(d.span, text));
    if outer.context != Contexts::LOCATION {
        return Ok(());
    }
    match outer.modifier {
        Modifier::Exact => {
            return fault(format!(
                "location \"{shown}\" cannot be inside the exact location \"{outer_name}\""
            ));
        }
        Modifier::Named => {
            return fault(format!(
                "location \"{shown}\" cannot be inside the named location \"{outer_name}\""
            ));
        }
        _ => {}
    }
    if modifier == Modifier::Named {
        return fault(format!("named location \"{shown}\" can be on the server level only"));
    }
    let plain_inside_plain = modifier != Modifier::Regex && outer.modifier != Modifier::Regex;
    if plain_inside_plain && !name.starts_with(&outer.name) {
        return fault(format!("location \"{shown}\" is outside location \"{outer_name}\""));
    }
    Ok(())
}

/// Checks that there is `events`, without which nginx does not start; `http` may be missing, and then nothing is served.
pub(super) fn finish(b: &mut Builder<'_>) {
    if !b.draft.main.has_events {
        let fault = Diagnostic::error(None, "no \"events\" section in configuration");
        b.diagnostics.push(fault.help("add `events {}` at the top level"));
    }
}
