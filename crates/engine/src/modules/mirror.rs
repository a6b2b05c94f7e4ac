//! `mirror`: copies of a request go to other URIs, and their answers are dropped (ngx_http_mirror_module).

use super::Module;
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::phase::{Effect, Phase, Verdict, Wake};
use crate::setting::settings;
use crate::subrequest::{Subrequest, SubrequestBody, Variables};
use conf::Diagnostic;

settings! {
    /// Settings of one level.
    pub struct MirrorSettings {
        /// `mirror`: the URIs; `off` is none.
        pub uris: Vec<Vec<u8>> = Vec::new(),
        /// `mirror_request_body`: the body is read first and goes along.
        pub request_body: bool = true,
    }
}

/// The module.
pub static MODULE: Module = Module {
    handlers: &[(Phase::PreContent, handle)],
    is_needed: Some(|_, settings| !settings.precontent.mirror.uris.is_empty()),
    ..Module::new("mirror", &[DIRECTIVES])
};

const DIRECTIVES: &[Directive] = &[
    Directive::new("mirror", Contexts::HSL, Args::Exactly(1), "uri | off", |b, d| {
        let word = &d.args[0];
        let uris = &mut b.settings().precontent.mirror.uris;
        let is_off = &**word.text() == b"off";
        if uris.written() && (is_off || uris.is_empty()) {
            return Err(Diagnostic::error(d.name.span, "\"mirror\" directive is duplicate")
                .help("\"off\" stands alone"));
        }
        match is_off {
            true => uris.replace(Vec::new()),
            false => uris.push(word.text().to_vec()),
        }
        Ok(())
    })
    .default("off")
    .doc("Sends a copy of each request to this URI as a subrequest whose response is dropped. May be given several \
         times.")
    .example("mirror /mirror;"),
    Directive::flag("mirror_request_body", Contexts::HSL, |b| {
        &mut b.settings().precontent.mirror.request_body
    })
    .default("on")
    .doc("Whether copies include the request's body, which is then read before the request continues.")
    .example("mirror_request_body off;"),
];

fn handle(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let settings = &exchange.settings(env.config).precontent.mirror;
    if settings.uris.is_empty() || exchange.subrequests.is_inner() || exchange.subrequests.mirrored {
        exchange.route.wake = None;
        return Verdict::Next;
    }
    if let Some(Wake::Failed(status)) = exchange.route.wake.take() {
        return Verdict::Refuse(status);
    }
    if *settings.request_body && !exchange.request.body_settled() {
        return Verdict::Wait(Effect::ReadBody);
    }
    exchange.subrequests.mirrored = true;
    let copy = |uri: &Vec<u8>| Subrequest {
        uri: uri.clone(),
        args: exchange.request.args.clone(),
        method: Some(exchange.method().to_vec()),
        body: if *settings.request_body { SubrequestBody::Outer } else { SubrequestBody::None },
        kept: 0,
        variables: Variables::Copied,
        ..Subrequest::default()
    };
    Verdict::Wait(Effect::Background(settings.uris.iter().map(copy).collect()))
}
