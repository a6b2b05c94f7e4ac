//! Texts in bodies, replaced by others (ngx_http_sub_filter_module).
//!
//! Owns which answers are searched, and what is put in a text's place. The search itself is [`search`]'s.

mod directives;
pub mod search;

use super::{Module, media_types, validators};
use crate::config::Builder;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::output::ENOUGH;
use crate::output::chain::{BodyFilter, Flow};
use crate::output::wire::HeadRefused;
use crate::setting::settings;
use crate::template::Template;
use search::{Found, Patterns, Substitution};
use std::sync::Arc;

/// The module.
pub static MODULE: Module = Module {
    header_filter: Some(filter),
    filters_subrequests: true,
    is_needed: Some(|_, settings| !settings.filters.sub.pairs.is_empty()),
    finish: Some(finish),
    ..Module::new("sub_filter", &[directives::DIRECTIVES])
};

/// One `sub_filter`.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The text to look for.
    pub text: Template,
    /// The text that replaces it.
    pub value: Template,
}

settings! {
    /// Settings of one level.
    pub struct SubFilterSettings {
        /// `sub_filter`.
        pub pairs: Vec<Pair> = Vec::new(),
        /// Their texts, prepared, if there are no variables in them.
        pub patterns: Option<Arc<Patterns>> = None,
        /// `sub_filter_once`.
        pub once: bool = true,
        /// `sub_filter_last_modified`.
        pub last_modified: bool = false,
        /// `sub_filter_types`, in lower case; text/html is always among them, and `*` is all.
        pub types: Vec<Box<[u8]>> = vec![b"text/html"[..].into()],
    }
}

/// Prepares the texts of each level.
fn finish(b: &mut Builder<'_>) {
    for scope in &mut b.draft.scopes {
        let settings = &mut scope.settings.filters.sub;
        if !settings.pairs.written() {
            continue;
        }
        let texts: Option<Vec<_>> =
            settings.pairs.iter().map(|pair| pair.text.constant().map(<[u8]>::to_vec)).collect();
        let patterns = texts.and_then(|texts| Patterns::new(texts.into_iter().zip(0..)));
        settings.patterns.replace(patterns.map(Arc::new));
    }
}

/// Decides if the answer is searched, and changes its head for that.
fn filter(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    let settings = &exchange.settings(env.config).filters.sub;
    let response = &exchange.response;
    if settings.pairs.is_empty()
        || response.content_length == Some(0)
        || !media_types::contains(settings.types.get(), response.content_type.as_deref().unwrap_or_default())
    {
        return Ok(());
    }
    let patterns = match settings.patterns.get() {
        Some(patterns) => Arc::clone(patterns),
        None => {
            let texts: Vec<_> =
                settings.pairs.iter().map(|pair| pair.text.value(exchange, env)).zip(0..).collect();
            let Some(patterns) = Patterns::new(texts) else { return Ok(()) };
            Arc::new(patterns)
        }
    };
    let search = Substitution::new(patterns, settings.pairs.len(), *settings.once);
    exchange.output.chain.push(BodyFilter::Substitute(Box::new(search)));
    if !exchange.subrequests.is_inner() {
        validators::forget_length(&mut exchange.response);
        match *settings.last_modified {
            true => validators::weaken_etag(&mut exchange.response),
            false => validators::forget_version(&mut exchange.response),
        }
    }
    Ok(())
}

/// Searches what has come of the body.
pub(super) fn run(
    search: &mut Substitution,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    input: &mut &[u8],
    is_last: bool,
    out: &mut Vec<u8>,
) -> Flow {
    search.give(std::mem::take(input));
    let pairs = &exchange.settings(env.config).filters.sub.pairs;
    while let Found::Pair(number) = search.next(is_last, out) {
        let value = search.value(number).get_or_insert_with(|| match pairs.get().get(number) {
            Some(pair) => pair.value.value(exchange, env),
            None => Vec::new(),
        });
        out.extend_from_slice(value);
        if out.len() >= ENOUGH {
            return Flow::Full;
        }
    }
    Flow::Dry
}
