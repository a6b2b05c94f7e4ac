//! `add_before_body` and `add_after_body`: the answers to other requests before and behind a body
//! (ngx_http_addition_filter_module).

use super::{Module, media_types, validators};
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::output::wire::HeadRefused;
use crate::setting::settings;
use crate::subrequest::Subrequest;

settings! {
    /// Settings of one level.
    pub struct AdditionSettings {
        /// `add_before_body`; empty is none.
        pub before: Vec<u8> = Vec::new(),
        /// `add_after_body`; empty is none.
        pub after: Vec<u8> = Vec::new(),
        /// `addition_types`, in lower case; text/html is always among them, and `*` is all.
        pub types: Vec<Box<[u8]>> = vec![b"text/html"[..].into()],
    }
}

/// The module.
pub static MODULE: Module = Module {
    header_filter: Some(filter),
    is_needed: Some(|_, settings| {
        let addition = &settings.filters.addition;
        !addition.before.is_empty() || !addition.after.is_empty()
    }),
    ..Module::new("addition", &[DIRECTIVES])
};

const DIRECTIVES: &[Directive] = &[
    Directive::new("add_before_body", Contexts::HSL, Args::Exactly(1), "uri", |b, d| {
        let uri = d.args[0].text().to_vec();
        b.write(d, |s| &mut s.filters.addition.before, uri)
    })
    .doc(
        "Prepends the response of a subrequest for this URI to the body of responses with status 200; \"\" adds \
         nothing.",
    )
    .example("add_before_body /header.html;"),
    Directive::new("add_after_body", Contexts::HSL, Args::Exactly(1), "uri", |b, d| {
        let uri = d.args[0].text().to_vec();
        b.write(d, |s| &mut s.filters.addition.after, uri)
    })
    .doc(
        "Appends the response of a subrequest for this URI to the body of responses with status 200; \"\" adds \
         nothing.",
    )
    .example("add_after_body /footer.html;"),
    Directive::new("addition_types", Contexts::HSL, Args::AtLeast(1), "mime-type ...", |b, d| {
        let types = media_types::read(b, d);
        b.write(d, |s| &mut s.filters.addition.types, types)
    })
    .default("text/html")
    .doc("The media types of responses that text is added to, besides text/html; * is all.")
    .example("addition_types text/plain;"),
];

fn filter(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    let settings = &exchange.settings(env.config).filters.addition;
    let response = &mut exchange.response;
    if response.status != 200
        || settings.before.is_empty() && settings.after.is_empty()
        || !media_types::contains(settings.types.get(), response.content_type.as_deref().unwrap_or_default())
    {
        return Ok(());
    }
    let request =
        |uri: &Vec<u8>| (!uri.is_empty()).then(|| Subrequest { uri: uri.clone(), ..Subrequest::default() });
    exchange.output.chain.surround(request(settings.before.get()), request(settings.after.get()));
    validators::forget_length(response);
    validators::forget_ranges(response);
    validators::weaken_etag(response);
    Ok(())
}
