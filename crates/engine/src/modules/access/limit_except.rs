//! `limit_except`: other settings for requests with other methods (ngx_http_core_limit_except).
//!
//! Owns the block and the choice of its settings. The directives in the block are their modules' business.

use crate::config::{Builder, LocationId, Modifier, once};
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::modules::core::add_scope;
use crate::phase;
use conf::Diagnostic;

/// A set of methods: one bit for each of [`NAMES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Methods(u16);

/// The methods that may be named, in upper case.
const NAMES: [&str; 14] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "MKCOL",
    "COPY",
    "MOVE",
    "OPTIONS",
    "PROPFIND",
    "PROPPATCH",
    "LOCK",
    "UNLOCK",
    "PATCH",
];

impl Methods {
    /// Enters a method, whatever its case, and HEAD with GET. `false` if there is none of that name.
    fn insert(&mut self, name: &[u8]) -> bool {
        let known = NAMES.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(name));
        match known {
            Some(0) => self.0 |= 0b11,
            Some(bit) => self.0 |= 1 << bit,
            None => {}
        }
        known.is_some()
    }

    /// Returns whether the set has the method.
    fn has(self, method: &[u8]) -> bool {
        NAMES.iter().position(|known| known.as_bytes() == method).is_some_and(|bit| self.0 & 1 << bit != 0)
    }
}

pub(super) const DIRECTIVES: &[Directive] = &[Directive::new(
    "limit_except",
    Contexts::LOCATION,
    Args::Block(1, usize::MAX),
    "method ... { … }",
    limit_except,
)
.doc("Settings for requests with other methods than these; GET includes HEAD.")
.example("limit_except GET { deny all; }")];

fn limit_except(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let mut methods = Methods::default();
    for word in &d.args {
        if !methods.insert(word.text()) {
            return Err(Diagnostic::error(word.span, format!("invalid method \"{}\"", word.text()))
                .help(format!("one of {}", NAMES.join(", "))));
        }
    }
    let outer = b.scope_index();
    let name = b.draft.scopes[outer].name.clone();
    let server = b.server_index();
    let scope = add_scope(b, d, name, Modifier::Unnamed, None, Contexts::LIMIT_EXCEPT, server);
    let block = Some((methods, LocationId(scope as u32)));
    once(b.settings().access.limit_except.write(block), d)?;
    b.block_in(d, Contexts::LIMIT_EXCEPT, scope);
    Ok(())
}

/// Puts a request that has just come into a location into its `limit_except` block, if that is for its method.
pub(super) fn apply(exchange: &mut Exchange, env: &Env<'_>) {
    let settings = &exchange.settings(env.config).access;
    if let Some((methods, block)) = *settings.limit_except
        && !methods.has(exchange.method())
    {
        phase::enter(exchange, block);
    }
}
