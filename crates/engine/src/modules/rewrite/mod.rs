//! `rewrite`, `set`, `if`, `return`, `break`: a small program per server and location, run in order.

mod condition;
mod directives;

pub use condition::Condition;
pub use directives::define;

use super::core::keep_named_captures;
use super::lua::{self, ScriptId};
use super::{Module, PhaseRun};
use crate::config::LocationId;
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::phase::{self, Content, MAX_URI_CHANGES, Phase, Verdict};
use crate::regex::Regex;
use crate::setting::settings;
use crate::template::Template;
use crate::variables::{self, VariableId};

/// The action after a `rewrite` has matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Go on with the next operation; search the location anew at the end.
    Continue,
    /// `last`: stop here and search the location anew.
    Last,
    /// `break`: stop here and stay.
    Break,
    /// `redirect`, `permanent`, or a replacement with a scheme: answer with this status.
    Redirect(u16),
}

/// One step of the program.
#[derive(Clone, Debug)]
pub enum Operation {
    /// `set $variable value`.
    Set {
        /// Which.
        variable: VariableId,
        /// To what.
        value: Template,
    },
    /// `set_by_lua* $variable …`.
    SetByScript {
        /// Which.
        variable: VariableId,
        /// The script that gives the value.
        script: ScriptId,
    },
    /// `rewrite regex replacement flag`.
    Rewrite {
        /// The pattern for the URI.
        regex: Regex,
        /// Its replacement.
        replacement: Template,
        /// The original query is not added: the replacement ended in `?`.
        drop_args: bool,
        /// The action that follows.
        after: After,
    },
    /// `if (…) { … }`.
    If {
        /// The condition.
        condition: Condition,
        /// The settings that hold from then on; `None` in a server.
        location: Option<LocationId>,
        /// The operations that run if it is true.
        operations: Vec<Operation>,
    },
    /// `return code text`.
    Return {
        /// The status.
        status: u16,
        /// The text or the URL.
        text: Option<Template>,
    },
    /// `break`.
    Break,
}

settings! {
    /// Settings of one level.
    pub struct RewriteSettings {
        /// `rewrite_log`: each rewrite is logged at notice level.
        pub log: bool = false,
        /// `uninitialized_variable_warn`: so is, at warn level, the use of a variable before it is set.
        pub warn_unset: bool = true,
    }
    not a setting {
        /// The program of this level; never inherited.
        pub operations: Vec<Operation> = Vec::new(),
    }
}

/// The module.
pub static MODULE: Module = Module {
    handlers: &[(Phase::ServerRewrite, server), (Phase::Rewrite, location)],
    checkers: &[(Phase::Rewrite, search_again)],
    finish: Some(directives::finish),
    is_needed: Some(|_, settings| !settings.rewrite.operations.is_empty()),
    ..Module::new("rewrite", &[directives::DIRECTIVES])
};

/// The result of a run of operations.
enum Ended {
    /// All were run.
    Through,
    /// `last` or `break`: nothing more in this level.
    Stopped,
    /// There is an answer.
    Answer(Verdict),
}

fn server(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let config = env.config;
    let scope = config.server(exchange.route.server).scope;
    match run(exchange, env, &config.location(scope).settings.rewrite.operations, &mut true) {
        Ended::Answer(verdict) => verdict,
        _ => {
            // The location is searched with the changed URI anyway.
            exchange.route.search_again = false;
            Verdict::Next
        }
    }
}

fn location(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let config = env.config;
    let operations = &exchange.settings(config).rewrite.operations;
    if operations.is_empty() {
        return Verdict::Next;
    }
    match run(exchange, env, operations, &mut true) {
        Ended::Answer(verdict) => verdict,
        _ => Verdict::Next,
    }
}

/// Runs the rewrite phase; at its end a changed URI sends the request back to the search for a location
/// (ngx_http_core_post_rewrite_phase).
fn search_again(exchange: &mut Exchange, env: &mut Env<'_>, phase: &PhaseRun) -> Verdict {
    phase::in_order(exchange, env, phase, phase::call, end_of_rewrite)
}

fn end_of_rewrite(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    if !std::mem::take(&mut exchange.route.search_again) {
        return Verdict::NextPhase;
    }
    exchange.route.uri_changes += 1;
    if exchange.route.uri_changes > MAX_URI_CHANGES {
        let uri = exchange.request.uri.as_slice();
        let text = [b"rewrite or internal redirection cycle while processing \"", uri, b"\""].concat();
        log_line::error(exchange, env, Level::Error, &text);
        return Verdict::Refuse(500);
    }
    exchange.route.location = env.config.server(exchange.route.server).scope;
    Verdict::Restart(Phase::FindLocation)
}

/// Runs operations in order.
///
/// `quote` is the flag of ngx_http_script's engine: while it is set, `set`, `if` and the arguments of `set_by_lua`
/// escape numbered captures. A `rewrite` that matched ends it for the rest of the program.
fn run(exchange: &mut Exchange, env: &mut Env<'_>, operations: &[Operation], quote: &mut bool) -> Ended {
    for operation in operations {
        let ended = match operation {
            Operation::Set { variable, value } => {
                set(exchange, env, *variable, value, *quote);
                Ended::Through
            }
            Operation::SetByScript { variable, script } => {
                exchange.script.escapes_captures = *quote;
                set_by_script(exchange, env, *variable, *script)
            }
            Operation::Rewrite { regex, replacement, drop_args, after } => {
                rewrite(exchange, env, regex, replacement, *drop_args, *after, quote)
            }
            Operation::If { condition, location, operations } => match condition.holds(exchange, env, *quote)
            {
                Ok(true) => {
                    if let Some(location) = location {
                        phase::enter(exchange, *location);
                    }
                    run(exchange, env, operations, quote)
                }
                Ok(false) => Ended::Through,
                Err(status) => Ended::Answer(Verdict::Refuse(status)),
            },
            Operation::Return { status, text } => {
                Ended::Answer(answer(exchange, env, *status, text.as_ref()))
            }
            Operation::Break => {
                // A `rewrite` before it changed the URI: the location is kept all the same.
                exchange.route.rewritten |= std::mem::take(&mut exchange.route.search_again);
                Ended::Stopped
            }
        };
        if !matches!(ended, Ended::Through) {
            return ended;
        }
    }
    Ended::Through
}

fn set(exchange: &mut Exchange, env: &mut Env<'_>, variable: VariableId, value: &Template, quote: bool) {
    let text = value.value_in_rewrite(exchange, env, quote);
    variables::assign(exchange, &env.config.variables.entry(variable).definition, &text);
}

fn set_by_script(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    variable: VariableId,
    script: ScriptId,
) -> Ended {
    if let Err(status) = lua::set(exchange, env, script) {
        return Ended::Answer(Verdict::Refuse(status));
    }
    let value = std::mem::take(&mut exchange.script.value);
    variables::assign(exchange, &env.config.variables.entry(variable).definition, &value);
    exchange.script.value = value;
    Ended::Through
}

/// ngx_http_script_regex_start_code and …_end_code.
fn rewrite(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    regex: &Regex,
    replacement: &Template,
    drop_args: bool,
    after: After,
    quote: &mut bool,
) -> Ended {
    let config = env.config;
    let Exchange { request, captures, .. } = exchange;
    match regex.captures(&request.uri, captures) {
        Ok(true) => {}
        Ok(false) => return Ended::Through,
        Err(_) => {
            log_line::error(exchange, env, Level::Alert, b"a rewrite's regular expression gave up");
            return Ended::Answer(Verdict::Refuse(500));
        }
    }
    keep_named_captures(exchange, config, regex);
    *quote = false;
    let redirect = matches!(after, After::Redirect(_));
    let escape = if redirect { Some(http::escape::Escape::Args) } else { None };
    let mut text = Vec::new();
    let mark = append_replacement(exchange, env, replacement, escape, &mut text);
    if let After::Redirect(status) = after {
        let mut unescaped = Vec::with_capacity(text.len());
        // nginx takes escapes of the path out again where they need none (NGX_UNESCAPE_REDIRECT).
        let used = http::escape::unescape(http::escape::Unescape::Redirect, &text, &mut unescaped);
        unescaped.extend_from_slice(&text[used..]);
        let mut text = unescaped;
        if !drop_args && !exchange.request.args.is_empty() {
            text.push(if text.contains(&b'?') { b'&' } else { b'?' });
            text.extend_from_slice(&exchange.request.args);
        }
        exchange.response.location = Some(text);
        return Ended::Answer(Verdict::Refuse(status));
    }
    if !redirect {
        log_rewrite(exchange, env, &text);
    }
    // Only a `?` in the replacement itself begins the query, not one that was captured.
    let (uri, args) = match mark {
        Some(mark) => (&text[..mark], Some(&text[mark + 1..])),
        None => (&text[..], None),
    };
    let request = &mut exchange.request;
    let old_args = std::mem::take(&mut request.args);
    if let Some(args) = args {
        request.args.extend_from_slice(args);
    }
    if !drop_args && !old_args.is_empty() {
        if !request.args.is_empty() {
            request.args.push(b'&');
        }
        request.args.extend_from_slice(&old_args);
    }
    request.uri.clear();
    request.uri.extend_from_slice(uri);
    request.uri_changed = true;
    // nginx: a rewritten request may enter an internal location.
    exchange.route.internal = true;
    if exchange.request.uri.is_empty() {
        log_line::error(exchange, env, Level::Error, b"the rewritten URI has a zero length");
        return Ended::Answer(Verdict::Refuse(500));
    }
    match after {
        After::Break => {
            exchange.route.rewritten = true;
            exchange.route.search_again = false;
            Ended::Stopped
        }
        After::Last => {
            exchange.route.search_again = true;
            Ended::Stopped
        }
        _ => {
            exchange.route.search_again = true;
            Ended::Through
        }
    }
}

/// `rewrite_log`.
fn log_rewrite(exchange: &mut Exchange, env: &mut Env<'_>, text: &[u8]) {
    if *exchange.settings(env.config).rewrite.log {
        let line = [b"rewritten data: \"", text, b"\""].concat();
        log_line::error(exchange, env, Level::Notice, &line);
    }
}

/// Appends the replacement's text; in a redirect, captured parts that were decoded are escaped again. Returns where the
/// replacement's own `?` is.
fn append_replacement(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    replacement: &Template,
    escape: Option<http::escape::Escape>,
    out: &mut Vec<u8>,
) -> Option<usize> {
    use crate::template::Part;
    let mut mark = None;
    for part in replacement.parts() {
        match part {
            Part::Text(text) => {
                mark = mark.or_else(|| Some(out.len() + memchr::memchr(b'?', text)?));
                out.extend_from_slice(text);
            }
            Part::Variable(id) => {
                variables::append(exchange, env, *id, out);
            }
            Part::Capture(n) => {
                let group = exchange.captures.group(*n).unwrap_or_default();
                // nginx escapes captures that go into the query, or into a redirect, when the URI had to be decoded.
                let decoded = exchange.request.escapes_captures();
                match escape {
                    Some(kind) if decoded => http::escape::escape(kind, group, out),
                    None if decoded && mark.is_some() => {
                        http::escape::escape(http::escape::Escape::Args, group, out)
                    }
                    _ => out.extend_from_slice(group),
                }
            }
        }
    }
    mark
}

/// `return` (ngx_http_send_response).
fn answer(exchange: &mut Exchange, env: &mut Env<'_>, status: u16, text: Option<&Template>) -> Verdict {
    let empty = Template::default();
    let text = match text {
        // nginx answers 200 and the like with an empty body of the location's type, an error with its page.
        None if status >= 400 => return Verdict::Refuse(status),
        None => &empty,
        Some(text) => text,
    };
    if let 301 | 302 | 303 | 307 | 308 = status
        && text.constant() != Some(b"")
    {
        exchange.response.location = Some(text.value(exchange, env));
        return Verdict::Refuse(status);
    }
    if status >= 400 && has_error_page(exchange, env, status) && text.constant() == Some(b"") {
        return Verdict::Refuse(status);
    }
    let body = text.value(exchange, env);
    super::static_files::set_content_type(exchange, env);
    exchange.response.status = status;
    exchange.response.content_length = Some(body.len() as u64);
    if !exchange.request.body_settled() {
        // nginx discards the request's body before it sends.
        exchange.request.discard_wanted = true;
    }
    Verdict::Serve(Content::Bytes(body))
}

fn has_error_page(exchange: &Exchange, env: &Env<'_>, status: u16) -> bool {
    exchange.settings(env.config).error_page.page_for(status).is_some()
}
