//! The Lua blocks: their directives, and the phases that they run in. Running the code is the script host's business.
//!
//! The handlers here turn a script's outcome into the verdict that ngx_lua gives for it.

pub mod balancer;
mod directives;
pub mod handshake;
mod key_typos;
pub(crate) mod script;
mod shake_hands;
mod sockets;
mod tls;

use balancer::Balanced;
pub use script::{ScriptId, ScriptPhase};
pub use shake_hands::{HandshakeStep, shake_hands};
pub use sockets::SocketSettings;

use super::Module;
use super::proxy::ProxySslSettings;
use crate::exchange::Exchange;
use crate::host::{Env, ScriptCall, ScriptOutcome};
use crate::output::{self, FilterFailed, HeadRefused};
use crate::phase::{self, Effect, Phase, Verdict, Wake};
use crate::setting::{Setting, settings};
use crate::template::Template;

/// The location of a script's text.
#[derive(Clone, Debug)]
pub enum ScriptSource {
    /// In the configuration.
    Inline {
        /// The code.
        code: Vec<u8>,
        /// The configuration file's base name and line, for the chunk's name (`content_by_lua(nginx.conf:54)`).
        file: String,
        /// The line of the directive.
        line: u32,
    },
    /// In a file of its own; the path may hold variables.
    File(Template),
}

/// A script of the configuration.
#[derive(Clone, Debug)]
pub struct Script {
    /// The phase that it runs in.
    pub phase: ScriptPhase,
    /// Its text.
    pub source: ScriptSource,
    /// The span of its text, if it is inline.
    pub span: Option<conf::Span>,
    /// Arguments of `set_by_lua $res <script> $a $b` (`ngx.arg`).
    pub args: Vec<Template>,
}

/// `lua_shared_dict`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedDict {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// All Lua of a configuration, and what holds for all of it.
#[derive(Clone, Debug)]
pub struct Program {
    /// The scripts.
    pub scripts: Vec<Script>,
    /// The shared dicts.
    pub dicts: Vec<SharedDict>,
    /// `lua_package_path`; `;;` means the default.
    pub package_path: Setting<String>,
    /// `lua_package_cpath`.
    pub package_cpath: Setting<String>,
    /// `init_by_lua*`.
    pub init: Setting<Option<ScriptId>>,
    /// `init_worker_by_lua*`.
    pub init_worker: Setting<Option<ScriptId>>,
    /// `exit_worker_by_lua*`.
    pub exit_worker: Setting<Option<ScriptId>>,
    /// Phases in which scripts run before nginx's own modules.
    pub no_postpone: NoPostpone,
    /// `lua_regex_cache_max_entries`.
    pub regex_cache_max_entries: Setting<u64>,
    /// `lua_regex_match_limit`; 0 is PCRE's own.
    pub regex_match_limit: Setting<u64>,
    /// `lua_max_pending_timers`.
    pub max_pending_timers: Setting<u64>,
    /// `lua_max_running_timers`.
    pub max_running_timers: Setting<u64>,
    /// The longest time that a script may run without yielding, in ms (pointsman's own `lua_run_limit`); 0 is
    /// unlimited.
    pub run_limit_ms: Setting<u64>,
    /// The most memory that one VM may use, in bytes (pointsman's own `lua_memory_limit`); 0 is unlimited.
    pub memory_limit: Setting<u64>,
    /// Whether a global that a request makes is visible to that request alone (pointsman's own `lua_isolate_globals`).
    pub isolate_globals: Setting<bool>,
    /// There is something to run: without it no VM is made.
    pub used: bool,
}

/// Phases in which scripts run before nginx's own modules, and not behind them.
#[derive(Clone, Debug)]
pub struct NoPostpone {
    /// `rewrite_by_lua_no_postpone`.
    pub rewrite: Setting<bool>,
    /// `access_by_lua_no_postpone`.
    pub access: Setting<bool>,
}

impl Default for NoPostpone {
    fn default() -> Self {
        NoPostpone { rewrite: Setting::new(false), access: Setting::new(false) }
    }
}

impl Default for Program {
    fn default() -> Self {
        Program {
            scripts: Vec::new(),
            dicts: Vec::new(),
            package_path: Setting::new(String::new()),
            package_cpath: Setting::new(String::new()),
            init: Setting::new(None),
            init_worker: Setting::new(None),
            exit_worker: Setting::new(None),
            no_postpone: NoPostpone::default(),
            regex_cache_max_entries: Setting::new(1024),
            regex_match_limit: Setting::new(0),
            max_pending_timers: Setting::new(1024),
            max_running_timers: Setting::new(256),
            run_limit_ms: Setting::new(10_000),
            memory_limit: Setting::new(1 << 30),
            isolate_globals: Setting::new(false),
            used: false,
        }
    }
}

settings! {
    /// Settings of one level.
    pub struct LuaSettings {
        /// `ssl_client_hello_by_lua*`.
        pub ssl_client_hello: Option<ScriptId> = None,
        /// `ssl_certificate_by_lua*`.
        pub ssl_certificate: Option<ScriptId> = None,
        /// `server_rewrite_by_lua*`.
        pub server_rewrite: Option<ScriptId> = None,
        /// `rewrite_by_lua*`.
        pub rewrite: Option<ScriptId> = None,
        /// `access_by_lua*`.
        pub access: Option<ScriptId> = None,
        /// `header_filter_by_lua*`.
        pub header_filter: Option<ScriptId> = None,
        /// `body_filter_by_lua*`.
        pub body_filter: Option<ScriptId> = None,
        /// `log_by_lua*`.
        pub log: Option<ScriptId> = None,
        /// `lua_code_cache`.
        pub code_cache: bool = true,
        /// `lua_need_request_body`.
        pub need_request_body: bool = false,
        /// `lua_transform_underscores_in_response_headers`.
        pub transform_underscores: bool = true,
        /// `lua_use_default_type`.
        pub use_default_type: bool = true,
        /// `lua_http10_buffering`.
        pub http10_buffering: bool = true,
        /// `lua_check_client_abort`.
        pub check_client_abort: bool = false,
    }
    nested {
        /// `lua_socket_…`.
        pub sockets: SocketSettings,
        /// `lua_ssl_…`.
        pub ssl: ProxySslSettings,
    }
    not inherited {
        /// `content_by_lua*`; not inherited.
        pub content: Option<ScriptId> = None,
    }
}

impl LuaSettings {
    /// Inherits the content handler in an `if` block: what serves the location serves the block in it.
    pub fn inherit_content(&mut self, outer: &LuaSettings) {
        self.content.inherit(&outer.content);
    }
}

/// The module.
pub static MODULE: Module = Module {
    handlers: &[(Phase::Rewrite, rewrite), (Phase::Access, access), (Phase::Log, log)],
    header_filter: Some(filter_header),
    filters_subrequests: true,
    filters_captures: true,
    finish: Some(key_typos::finish),
    is_needed: Some(|_, settings| {
        let lua = &settings.lua;
        [&lua.rewrite, &lua.access, &lua.header_filter, &lua.log].iter().any(|script| script.is_some())
    }),
    ..Module::new(
        "lua",
        &[
            &directives::SCRIPTS,
            directives::LATER_SCRIPTS,
            directives::DIRECTIVES,
            sockets::DIRECTIVES,
            tls::DIRECTIVES,
        ],
    )
};

/// The scripts that run before nginx's own modules in their phases, as those of ngx_lua do whose handlers come first.
pub static EARLY: Module = Module {
    handlers: &[
        (Phase::ServerRewrite, server_rewrite),
        (Phase::Rewrite, early_rewrite),
        (Phase::Access, early_access),
    ],
    is_needed: Some(|_, settings| {
        let lua = &settings.lua;
        [&lua.server_rewrite, &lua.rewrite, &lua.access].iter().any(|script| script.is_some())
    }),
    ..Module::new("lua", &[])
};

const HTTP_OK: i32 = 200;
const HTTP_SPECIAL_RESPONSE: i32 = 300;
const NGX_BUSY: i32 = -3;
const NGX_DECLINED: i32 = -5;
const NGX_ERROR: i32 = -1;

fn server_rewrite(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let scope = env.config.server(exchange.route.server).scope;
    match *env.config.location(scope).settings.lua.server_rewrite {
        Some(script) => run(exchange, env, script, ScriptPhase::ServerRewrite),
        None => Verdict::Next,
    }
}

fn early_rewrite(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    match *env.config.lua.no_postpone.rewrite {
        true => run_rewrite(exchange, env),
        false => Verdict::Next,
    }
}

fn rewrite(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    match *env.config.lua.no_postpone.rewrite {
        true => Verdict::Next,
        false => run_rewrite(exchange, env),
    }
}

fn run_rewrite(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let settings = &exchange.settings(env.config).lua;
    let Some(script) = *settings.rewrite else { return Verdict::Next };
    // nginx runs rewrite_by_lua after the rewrite module, and not at all when that changed the URI.
    if exchange.route.search_again {
        return Verdict::Next;
    }
    run(exchange, env, script, ScriptPhase::Rewrite)
}

fn early_access(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    match *env.config.lua.no_postpone.access {
        true => run_access(exchange, env),
        false => Verdict::Next,
    }
}

fn access(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    match *env.config.lua.no_postpone.access {
        true => Verdict::Next,
        false => run_access(exchange, env),
    }
}

fn run_access(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let settings = &exchange.settings(env.config).lua;
    let Some(script) = *settings.access else { return Verdict::Next };
    run(exchange, env, script, ScriptPhase::Access)
}

/// Runs `content_by_lua*`, the location's content handler.
pub fn content(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let settings = &exchange.settings(env.config).lua;
    let Some(script) = *settings.content else { return Verdict::Next };
    run(exchange, env, script, ScriptPhase::Content)
}

/// Starts a script, or goes on with the one that waits, and says what follows for the request.
fn run(exchange: &mut Exchange, env: &mut Env<'_>, script: ScriptId, phase: ScriptPhase) -> Verdict {
    let config = env.config;
    if !exchange.script.waiting {
        let wants_body = *exchange.settings(config).lua.need_request_body;
        if wants_body && !exchange.request.body_settled() {
            return match exchange.route.wake.take() {
                None => Verdict::Wait(Effect::ReadBody),
                Some(Wake::Failed(status)) => Verdict::Refuse(status),
                Some(Wake::Done) => Verdict::Refuse(500),
            };
        }
        exchange.route.wake = None;
    }
    let call = if exchange.script.waiting { ScriptCall::Resume } else { ScriptCall::Start(script) };
    exchange.script.phase = phase;
    exchange.script.waiting = false;
    let outcome = env.host.script(config, exchange, call);
    match outcome {
        ScriptOutcome::Wait(effect) => {
            exchange.script.waiting = true;
            Verdict::Wait(effect)
        }
        ScriptOutcome::Exec { uri, args } => match phase::redirect_internally(exchange, env, &uri, &args) {
            Ok(()) => Verdict::Restart(exchange.route.cursor.phase),
            Err(status) => Verdict::Refuse(status),
        },
        ScriptOutcome::Failed if exchange.output.head_written() => Verdict::Drop,
        ScriptOutcome::Failed => Verdict::Refuse(500),
        ScriptOutcome::HeadRefused(refused) => verdict_on(refused),
        ScriptOutcome::Exit(code) => exit(exchange, env, code, phase),
        ScriptOutcome::Finished if phase == ScriptPhase::Content => end_content(exchange, env),
        // Output from an earlier phase is the answer: nothing later may add to it.
        ScriptOutcome::Finished if exchange.output.head_written() => finish_written(exchange, env),
        ScriptOutcome::Finished if phase == ScriptPhase::Access => Verdict::Allow,
        ScriptOutcome::Finished => Verdict::Next,
    }
}

/// Returns the verdict for `ngx.exit(code)`, by phase (ngx_http_lua_run_thread and its callers).
fn exit(exchange: &mut Exchange, env: &mut Env<'_>, code: i32, phase: ScriptPhase) -> Verdict {
    if exchange.output.head_written() {
        return if code == NGX_ERROR { Verdict::Drop } else { finish_written(exchange, env) };
    }
    match code {
        NGX_ERROR | NGX_DECLINED if phase == ScriptPhase::Content => Verdict::Drop,
        NGX_ERROR => Verdict::Refuse(500),
        0 if phase == ScriptPhase::Content => end_content(exchange, env),
        0 if phase == ScriptPhase::Access => Verdict::Allow,
        0 | NGX_DECLINED => Verdict::Next,
        HTTP_OK..HTTP_SPECIAL_RESPONSE => {
            exchange.response.status = code as u16;
            end_content(exchange, env)
        }
        HTTP_SPECIAL_RESPONSE..1000 => Verdict::Refuse(code as u16),
        // Among them what is no final status: nginx sends it, and clients wait for another answer.
        _ => Verdict::Refuse(500),
    }
}

/// Ends the answer when the script is done: an empty one if it said nothing.
fn end_content(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    finish_written(exchange, env)
}

fn finish_written(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    if exchange.output.ended() {
        return Verdict::Written;
    }
    if let Err(refused) = output::write_head(exchange, env) {
        return verdict_on(refused);
    }
    match output::write_body(exchange, env, b"", true) {
        Ok(()) => Verdict::Written,
        Err(FilterFailed) => Verdict::Drop,
    }
}

fn verdict_on(refused: HeadRefused) -> Verdict {
    match refused {
        HeadRefused::Refuse(status) => Verdict::Refuse(status),
        HeadRefused::Replace(status) => Verdict::Replace(status),
        HeadRefused::Close => Verdict::Drop,
    }
}

/// Runs the script of `set_by_lua*`; its value is in `script.value`.
///
/// # Errors
/// 500 if the script failed.
pub fn set(exchange: &mut Exchange, env: &mut Env<'_>, script: ScriptId) -> Result<(), u16> {
    let (config, before) = (env.config, exchange.script.phase);
    exchange.script.phase = ScriptPhase::Set;
    exchange.script.value.clear();
    let outcome = env.host.script(config, exchange, ScriptCall::Start(script));
    exchange.script.phase = before;
    match outcome {
        ScriptOutcome::Finished => Ok(()),
        _ => Err(500),
    }
}

fn filter_header(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    let config = env.config;
    let Some(script) = *exchange.settings(config).lua.header_filter else {
        return Ok(());
    };
    let before = exchange.script.phase;
    exchange.script.phase = ScriptPhase::HeaderFilter;
    let outcome = env.host.script(config, exchange, ScriptCall::Start(script));
    exchange.script.phase = before;
    match outcome {
        ScriptOutcome::Finished | ScriptOutcome::Exit(0) => Ok(()),
        ScriptOutcome::Exit(code @ HTTP_OK..1000) => Err(HeadRefused::Replace(code as u16)),
        // An error of the script's, `ngx.ERROR`, and what is no final status (nginx sends that as it is).
        _ => Err(HeadRefused::Close),
    }
}

/// Runs the body filter over `script.chunk`, if the location has one.
///
/// # Errors
/// The script failed: the answer cannot go on.
pub fn filter_body(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), FilterFailed> {
    let config = env.config;
    let Some(script) = *exchange.settings(config).lua.body_filter else {
        return Ok(());
    };
    let before = exchange.script.phase;
    exchange.script.phase = ScriptPhase::BodyFilter;
    let outcome = env.host.script(config, exchange, ScriptCall::BodyFilter(script));
    exchange.script.phase = before;
    match outcome {
        ScriptOutcome::Finished => Ok(()),
        _ => Err(FilterFailed),
    }
}

/// Asks a group's script (`balancer_by_lua*`) which peer is next. What it says is in `script.balancing`, which must be there.
pub fn balance(exchange: &mut Exchange, env: &mut Env<'_>, script: ScriptId) -> Balanced {
    let (config, before) = (env.config, exchange.script.phase);
    exchange.script.phase = ScriptPhase::Balancer;
    let outcome = env.host.script(config, exchange, ScriptCall::Start(script));
    exchange.script.phase = before;
    match outcome {
        ScriptOutcome::Finished | ScriptOutcome::Exit(0) => Balanced::Done,
        ScriptOutcome::Exit(NGX_BUSY) => Balanced::Busy,
        ScriptOutcome::Exit(NGX_DECLINED) => Balanced::Declined,
        ScriptOutcome::Exit(status @ HTTP_SPECIAL_RESPONSE..1000) => Balanced::End(status as u16),
        // An error of the script's, `ngx.ERROR`, and what is no final status.
        _ => Balanced::End(500),
    }
}

/// `log_by_lua*`: after the answer, before the access log.
fn log(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let config = env.config;
    if let Some(script) = *exchange.settings(config).lua.log {
        exchange.script.phase = ScriptPhase::Log;
        env.host.script(config, exchange, ScriptCall::Start(script));
    }
    Verdict::Next
}
