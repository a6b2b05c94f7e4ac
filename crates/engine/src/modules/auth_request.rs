//! `auth_request`: a request inside this one decides whether its client is let in (ngx_http_auth_request_module).

use super::Module;
use crate::config::variable_name;
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::phase::{Effect, Phase, Verdict, Wake};
use crate::setting::settings;
use crate::subrequest::Subrequest;
use crate::template::Template;
use crate::variables::{self, VariableId};
use conf::Diagnostic;
use http::Known;

settings! {
    /// Settings of one level.
    pub struct AuthRequestSettings {
        /// `auth_request`: the URI that is asked; the value `off` is none.
        pub uri: Option<Vec<u8>> = None,
        /// `auth_request_set`: variables and what they get from the answer.
        pub(crate) set: Vec<(VariableId, Template)> = Vec::new(),
    }
}

/// The module.
pub static MODULE: Module = Module {
    handlers: &[(Phase::Access, handle)],
    is_needed: Some(|_, settings| settings.auth.request.uri.is_some()),
    ..Module::new("auth_request", &[DIRECTIVES])
};

const DIRECTIVES: &[Directive] = &[
    Directive::new("auth_request", Contexts::HSL, Args::Exactly(1), "uri | off", |b, d| {
        let uri = d.args[0].text().to_vec();
        b.write(d, |s| &mut s.auth.request.uri, (uri != b"off").then_some(uri))
    })
    .default("off")
    .doc(
        "Authorizes the request by a subrequest to this URI: a status of 2xx allows it, 401 (with its \
         `WWW-Authenticate`) and 403 are passed to the client, and any other is an error (500).",
    )
    .example("auth_request /auth;"),
    Directive::new("auth_request_set", Contexts::HSL, Args::Exactly(2), "$variable value", |b, d| {
        let value = b.template(&d.args[1])?;
        let word = &d.args[0];
        // As in nginx, using it before it has a value is worth no warning.
        let variable = b.draft.variables.define_capture(variable_name(word)?, word.span);
        let variable = variable.map_err(|fault| Diagnostic::error(word.span, fault))?;
        b.settings().auth.request.set.push((variable, value));
        Ok(())
    })
    .doc("Sets a variable once `auth_request` has its response, whose `$upstream_http_…` the value may use.")
    .example("auth_request_set $user $upstream_http_x_user;"),
];

fn handle(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let config = env.config;
    let settings = &exchange.settings(config).auth.request;
    let Some(uri) = settings.uri.get() else { return Verdict::Next };
    match exchange.route.wake.take() {
        None => {
            let asked = Subrequest { uri: uri.clone(), ..Subrequest::default() };
            return Verdict::Wait(Effect::Subrequests(vec![asked]));
        }
        Some(Wake::Failed(status)) => return Verdict::Refuse(status),
        Some(Wake::Done) => {}
    }
    let Some(mut answer) = exchange.subrequests.ended.pop() else { return Verdict::Refuse(500) };
    // The values are those of the inner request; the variables belong to both.
    std::mem::swap(&mut answer.exchange.slots, &mut exchange.slots);
    let values: Vec<_> = settings
        .set
        .iter()
        .map(|(variable, value)| (*variable, value.value(&mut answer.exchange, env)))
        .collect();
    std::mem::swap(&mut answer.exchange.slots, &mut exchange.slots);
    for (variable, value) in values {
        variables::assign(exchange, &config.variables.entry(variable).definition, &value);
    }
    match answer.exchange.response.status {
        200..300 => Verdict::Allow,
        403 => Verdict::Refuse(403),
        401 => {
            let fields = &mut exchange.response.headers;
            let inner = &answer.exchange;
            let own = inner.response.headers.get_all(Known::WwwAuthenticate);
            let upstreams = inner.upstream.headers.get_all(Known::WwwAuthenticate);
            let has_own = inner.response.headers.has(Known::WwwAuthenticate);
            for value in own.chain(upstreams.take(if has_own { 0 } else { usize::MAX })) {
                fields.push_known(Known::WwwAuthenticate, value);
            }
            Verdict::Refuse(401)
        }
        status => {
            let text = format!("auth request unexpected status: {status}");
            log_line::error(exchange, env, Level::Error, text.as_bytes());
            Verdict::Refuse(500)
        }
    }
}
