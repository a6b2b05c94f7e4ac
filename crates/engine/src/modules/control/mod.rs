//! The control plane's places: the socket (`control`), the locations (`control_api` for programs, `control_ui` for people)
//! and who may come in with a token (`control_tokens`).
//!
//! Owns what the configuration says of them. What the control API answers is the control plane's; here nothing of a
//! request but its body is looked at, and no secret is kept: of a token there is its hash alone.

mod notify;
mod server_orders;
#[cfg(test)]
mod tests;
mod tokens;

pub use notify::{NotifyPlace, SyslogPlace};
pub use server_orders::ServerOrders;
pub use tokens::{Credential, Role, Token, Tokens};

use super::Module;
use crate::config::{Builder, Config, Modifier, invalid_parameter, once};
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::phase::{Content, ControlFace, Effect, Verdict, Wake};
use crate::setting::Setting;
use conf::{Diagnostic, Span};
use std::path::{Path, PathBuf};
use switch::Code;

/// The control socket: a UNIX-domain socket whose file permissions say who may give commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its path, under the prefix unless it is absolute.
    pub path: PathBuf,
    /// The file's permissions.
    pub mode: u32,
    /// The file's group, by name, if it is another than the master's.
    pub group: Option<String>,
}

/// Settings of the whole configuration.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// The control socket; `None` is `control off`. Whether it was written decides how serious it is if the socket
    /// cannot be had.
    pub socket: Setting<Option<Socket>>,
    /// The tokens that are accepted over HTTP.
    pub tokens: Setting<Tokens>,
    /// The addresses that orders over HTTP may name; `None` goes by those of the group.
    pub server_orders: Setting<Option<ServerOrders>>,
    /// Who is told of the newest commit of each history: `notify`.
    pub notify: Vec<NotifyPlace>,
    /// The former switches that are gone on purpose: `switch_retired`.
    pub retired_switches: Vec<super::switch::Named>,
    /// The fleet that this node is to be in.
    pub fleet: Option<super::switch::FleetSpec>,
    /// The scopes with `control_api`, and its spans.
    locations: Vec<(usize, Span)>,
    /// The scopes with `control_ui`, and its spans.
    dashboards: Vec<(usize, Span)>,
}

impl ControlSettings {
    /// Returns the defaults: `run/pointsman.sock` under the prefix, for its owner alone.
    pub fn new(prefix: &Path) -> ControlSettings {
        ControlSettings {
            socket: Setting::new(Some(socket(prefix, "run/pointsman.sock"))),
            tokens: Setting::new(Tokens::default()),
            server_orders: Setting::new(None),
            notify: Vec::new(),
            retired_switches: Vec::new(),
            fleet: None,
            locations: Vec::new(),
            dashboards: Vec::new(),
        }
    }
}

fn socket(prefix: &Path, path: &str) -> Socket {
    Socket { path: prefix.join(path), mode: 0o600, group: None }
}

/// The answer to what must not be done twice, before it is known that the client has not sent it before (RFC 8470).
pub const TOO_EARLY: u16 = 425;

/// The module.
pub static MODULE: Module = Module { finish: Some(look_at_doors), ..Module::new("control", &[DIRECTIVES]) };

/// Warns of a location where anyone who reaches it may switch traffic, and refuses a dashboard that no one could use.
fn look_at_doors(b: &mut Builder<'_>) {
    look_at_dashboards(b);
    if b.draft.control.tokens.written() {
        return;
    }
    for &(scope, place) in &b.draft.control.locations {
        let around = std::iter::successors(Some(scope), |&scope| b.draft.scopes[scope].parent);
        let closed = around.map(|scope| &b.draft.scopes[scope].settings).any(|settings| {
            let basic = &settings.auth.basic;
            // Without a file of users it asks for nothing.
            !settings.access.rules.is_empty() || basic.realm.is_some() && basic.user_file.is_some()
        });
        if !closed {
            b.diagnostics.push(
                Diagnostic::warn(place, "anyone who reaches this location may switch traffic").help(
                    "add `control_tokens` in http: each caller then needs a token; `auth_basic`, or `allow` and `deny`, narrow the location besides",
                ),
            );
        }
    }
}

/// Refuses a dashboard whose page would not find its own parts, or that has no token to log in with.
fn look_at_dashboards(b: &mut Builder<'_>) {
    for &(scope, place) in &b.draft.control.dashboards {
        let scope = &b.draft.scopes[scope];
        let is_prefix = matches!(scope.modifier, Modifier::Prefix | Modifier::PrefixNoRegex);
        if !is_prefix || !scope.name.ends_with(b"/") {
            let name = String::from_utf8_lossy(&scope.name);
            let fault = Diagnostic::error(
                place,
                format!("control_ui needs a location whose name ends in \"/\", not \"{name}\""),
            );
            b.diagnostics.push(
                fault.help(
                    "the page finds its parts below the location: location /dashboard/ { control_ui; }",
                ),
            );
        } else if !b.draft.control.tokens.get().can_log_in() {
            b.diagnostics.push(
                Diagnostic::error(place, "control_ui has no token that someone could log in with").help(
                    "add `control_tokens FILE;` in http, with a line name:role:sha256; without tokens there is `pointsman dashboard`",
                ),
            );
        }
    }
}

const DIRECTIVES: &[Directive] = &[
    Directive::new(
        "control",
        Contexts::MAIN,
        Args::Between(1, 3),
        "unix:path [mode=mode] [group=group] | off",
        control,
    )
    .default("unix:run/pointsman.sock")
    .doc(
        "The UNIX-domain socket where the pointsman command and other programs send orders, with mode= and group= of \
         its file; off opens none. The default is run/pointsman.sock, for its owner only.",
    )
    .example("control unix:run/pointsman.sock mode=0660 group=ops;"),
    Directive::new("control_api", Contexts::LOCATION, Args::Exactly(0), "", |b, d| {
        b.settings().core.content.replace(Some(api));
        b.settings().error_page.problem.replace(Some(problem));
        let scope = b.scope_index();
        b.draft.control.locations.push((scope, d.name.span));
        Ok(())
    })
    .doc(
        "Serves the control API in this location, subject to the location's access rules. Requests without a token \
         of control_tokens must name the server in Host: \
         localhost, an IP address of this machine, or a server_name without wildcards.",
    )
    .example("control_api;"),
    Directive::new("control_ui", Contexts::LOCATION, Args::Exactly(0), "", |b, d| {
        b.settings().core.content.replace(Some(dashboard));
        b.settings().core.auto_redirect.replace(true);
        let scope = b.scope_index();
        b.draft.control.dashboards.push((scope, d.name.span));
        Ok(())
    })
    .doc(
        "Serves the dashboard in this location, whose name ends in a slash, subject to the location's access rules: \
         one page that shows routes, traffic, servers and events, and lets operators act. People log in with a token \
         of control_tokens.",
    )
    .example("control_ui;"),
    Directive::new(
        "control_tokens",
        Contexts::MAIN.or(Contexts::HTTP),
        Args::Exactly(1),
        "file",
        control_tokens,
    )
    .doc(
        "A file of `name:role:sha256` lines, beside the configuration file unless its path \
         is absolute: who may use control_api with a bearer token, or log in at control_ui, as viewer or operator; \
         the third field is the SHA-256 of the token in hexadecimal digits. `name:role:certificate:sha256` \
         names a client certificate that `ssl_verify_client` has verified, by its own SHA-256, \
         and `name:role:subject:DN` any such certificate by its subject, as $ssl_client_s_dn \
         shows it.",
    )
    .example("control_tokens tokens;"),
    Directive::new(
        "server_orders",
        Contexts::HTTP,
        Args::AtLeast(1),
        "address | CIDR | unix:/path ...",
        server_orders::read,
    )
    .doc(
        "The addresses that orders over HTTP (control_api) may add to a group: networks, and UNIX-domain sockets \
         whose path may have `*` for any text without a slash. The default is the networks (/24, or /64 for IPv6; \
         loopback is one) of the group's servers in the configuration, and no sockets but those of the group. Orders \
         at the control socket may add any other server. No order may name the control socket, the handover socket, \
         an address \
         where this server listens, or a multicast or broadcast address.",
    )
    .example("server_orders 10.0.0.0/16 unix:/run/app-*.sock;"),
    Directive::new(
        "notify",
        Contexts::HTTP,
        Args::Between(1, 2),
        "http://address[:port][/uri] [timeout=time] | syslog:server=address[,facility=name][,tag=name]",
        notify::read,
    )
    .doc(
        "Where the hash of the newest commit of each switch, and of the groups, is sent after each commit and when a \
         process starts. A copy kept elsewhere reveals a history that was truncated or restored (docs/backups.md). A \
         URL gets a POST with JSON for each commit, in order, repeated until it answers 2xx (each try within \
         timeout=, by default 5s); syslog gets a message (RFC 5424, over UDP or a UNIX-domain socket), which may be \
         lost. May be given several times. No order waits for it.",
    )
    .example("notify http://127.0.0.1:8500/heads;"),
];

fn control(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    if word.text() == "off" {
        if let Some(more) = d.args.get(1) {
            return Err(invalid_parameter(more).help("control off; takes nothing else"));
        }
        return once(b.draft.control.socket.write(None), d);
    }
    let text = word.str()?;
    let path = text.strip_prefix("unix:").unwrap_or(text);
    if path.is_empty() || path.ends_with('/') {
        return Err(Diagnostic::error(word.span, format!("no path in the control socket \"{text}\""))
            .help("for example: control unix:run/pointsman.sock;"));
    }
    if text.parse::<std::net::SocketAddr>().is_ok() {
        return Err(Diagnostic::error(word.span, "the control socket is a UNIX-domain socket")
            .label("this is a network address")
            .help("over the network there is control_api in a location, behind its access rules"));
    }
    let mut socket = socket(&b.inputs.prefix, path);
    for word in &d.args[1..] {
        let parameter = word.str()?;
        if let Some(mode) = parameter.strip_prefix("mode=") {
            let octal = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o777);
            socket.mode = octal.filter(|_| mode.len() >= 3).ok_or_else(|| {
                Diagnostic::error(word.span, format!("invalid mode \"{mode}\""))
                    .help("three or four octal digits, as chmod takes them: mode=0660")
            })?;
        } else if let Some(group) = parameter.strip_prefix("group=").filter(|group| !group.is_empty()) {
            socket.group = Some(group.to_owned());
        } else {
            return Err(invalid_parameter(word).help("one of mode= and group="));
        }
    }
    once(b.draft.control.socket.write(Some(socket)), d)
}

fn control_tokens(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let path = b.conf_path(word)?;
    let bytes = b.inputs.loader.read(&path).map_err(|fault| {
        Diagnostic::error(word.span, format!("open() \"{}\" failed", path.display())).label(fault.to_string())
    })?;
    let tokens = Tokens::parse(&bytes).map_err(|fault| {
        let place = format!("{}:{}", path.display(), fault.line);
        Diagnostic::error(word.span, format!("{} in {place}", fault.text))
            .help("a line is name:role:sha256, for example ops:operator: and 64 hexadecimal digits; for certificates name:role:certificate:sha256, or name:role:subject:CN=…")
    })?;
    once(b.draft.control.tokens.write(tokens), d)
}

/// Makes the answer to a request that the location's own rules refuse: its form is that of the control plane's refusals,
/// so that programs need to read only one.
fn problem(status: u16) -> Vec<u8> {
    let (code, text, remedy) = match status {
        401 => {
            (Code::Unauthorized, "this location requires authentication", "send what its auth_basic asks for")
        }
        403 => (
            Code::Forbidden,
            "the access rules of this location deny the request",
            "call from an address that its allow names, or use the control socket",
        ),
        404 => (Code::NotFound, "there is nothing at this path", "see v1/openapi.json for the paths"),
        405 => (
            Code::MethodNotAllowed,
            "the method is not supported here",
            "see v1/openapi.json for the methods",
        ),
        413 => (
            Code::TooLarge,
            "the body is larger than this location or the API accepts",
            "split it into several commits; client_max_body_size sets the limit of the location, up to 1m",
        ),
        429 | 503 => (
            Code::Busy,
            "the limits of this location, or a control plane that is stopping, refuse the request",
            "retry in a moment",
        ),
        400..500 => (Code::BadRequest, "the request is malformed", "send a valid HTTP request (RFC 9110)"),
        _ => (Code::Internal, "the server could not process the request", "see its error log"),
    };
    // Nothing in them needs to be escaped.
    format!(r#"{{"code":"{code}","text":"{text}","remedy":"{remedy}"}}"#).into_bytes()
}

/// Returns the content handler of `control_api`.
fn api(exchange: &mut Exchange, _: &mut Env<'_>) -> Verdict {
    serve(exchange, ControlFace::Api)
}

/// Returns the content handler of `control_ui`.
fn dashboard(exchange: &mut Exchange, _: &mut Env<'_>) -> Verdict {
    serve(exchange, ControlFace::Dashboard)
}

/// Serves the control plane: an order's body is read whole before it sees the order.
fn serve(exchange: &mut Exchange, face: ControlFace) -> Verdict {
    if exchange.request.is_early {
        return Verdict::Refuse(TOO_EARLY);
    }
    if exchange.request.body_settled() {
        return Verdict::Serve(Content::Control(face));
    }
    match exchange.route.wake.take() {
        Some(Wake::Failed(status)) => Verdict::Refuse(status),
        Some(Wake::Done) | None => Verdict::Wait(Effect::ReadBody),
    }
}

/// Returns the path that the control API is asked for: what is left of `$uri` behind the location's name, beginning
/// with `/`.
/// In a location that is no prefix it is the whole.
pub fn path_below<'e>(exchange: &'e Exchange, config: &Config) -> &'e [u8] {
    let uri = exchange.request.uri.as_slice();
    let location = exchange.location(config);
    if !matches!(location.modifier, Modifier::Prefix | Modifier::PrefixNoRegex | Modifier::Exact) {
        return uri;
    }
    match uri.strip_prefix(location.name.strip_suffix(b"/").unwrap_or(&location.name)) {
        Some(b"") => b"/",
        Some(rest) if rest.starts_with(b"/") => rest,
        _ => uri,
    }
}
