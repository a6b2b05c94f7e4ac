//! `map`, `geo` and `split_clients`: variables that are worked out from others.
//!
//! Each kind is one file that owns its block's grammar, its table and its look-up. The look-up must be quick however
//! large the table is, and allocate nothing in steady state.

mod geo;
pub(crate) mod hostnames;
mod lookup;
pub(crate) mod networks;
mod split_clients;

pub use geo::Geo;
pub use lookup::Map;
pub use split_clients::SplitClients;

use super::{Module, switch};
use crate::config::{Builder, variable_name};
use crate::directive::{Apply, Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::Env;
use conf::{Diagnostic, Word};

/// A variable that one of these directives defines.
#[derive(Clone, Debug)]
pub enum Computed {
    /// By comparing a text with texts and patterns.
    Map(Map),
    /// By the network an address is in.
    Geo(Geo),
    /// By lot, the same for the same text.
    SplitClients(SplitClients),
    /// By a table that people change: an index into [`crate::Config::switches`].
    Switch(usize),
}

impl Computed {
    /// Returns whether the value is computed anew each time (`map { volatile; }`).
    pub fn is_volatile(&self) -> bool {
        match self {
            Computed::Map(map) => map.volatile,
            Computed::Geo(geo) => geo.volatile,
            Computed::SplitClients(_) | Computed::Switch(_) => false,
        }
    }

    /// Appends the value for this request; `false` if there is none. (These always have one: without a default it is
    /// empty.)
    pub fn append(&self, exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
        match self {
            Computed::Map(map) => map.append(exchange, env, out),
            Computed::Geo(geo) => geo.append(exchange, env, out),
            Computed::SplitClients(split) => split.append(exchange, env, out),
            Computed::Switch(number) => switch::append(*number, exchange, env, out),
        }
        true
    }
}

/// The module.
pub static MODULE: Module = Module::new("map", &[DIRECTIVES]);

const DIRECTIVES: &[Directive] = &[
    Directive::new("map", Contexts::HTTP, Args::Block(2, 2), "string $variable { … }", lookup::apply)
        .doc(
            "Defines a variable whose value depends on a text: on equal strings, regular expressions, or host names \
             with wildcards.",
        )
        .example("map $http_upgrade $connection_upgrade { default upgrade; '' close; }"),
    Directive::ignored("map_hash_max_size", Contexts::HTTP, Apply::IgnoredNumber)
        .default("2048")
        .doc("Has no effect: the tables of map grow as needed.")
        .example("map_hash_max_size 4096;"),
    Directive::ignored("map_hash_bucket_size", Contexts::HTTP, Apply::IgnoredNumber)
        .default("64")
        .doc("Has no effect: keys of map may be of any length.")
        .example("map_hash_bucket_size 128;"),
    Directive::new("geo", Contexts::HTTP, Args::Block(1, 2), "[$address] $variable { … }", geo::apply)
        .doc(
            "Defines a variable whose value depends on the network of the client's address, or of another one.",
        )
        .example("geo $internal { default 0; 10.0.0.0/8 1; 192.168.0.0/16 1; }"),
    Directive::new(
        "split_clients",
        Contexts::HTTP,
        Args::Block(2, 2),
        "string $variable { … }",
        split_clients::apply,
    )
    .doc(
        "Defines a variable whose value is chosen by the hash of a text, each value for its share of all texts.",
    )
    .example("split_clients $remote_addr $variant { 0.5% new; * old; }"),
];

/// Defines the variable that the word names, before its block is read: a fault in the block must not lead to a
/// second one, that the variable is unknown.
fn define(b: &mut Builder<'_>, word: &Word) -> Result<(), Diagnostic> {
    let name = variable_name(word)?;
    let index = b.draft.computed.len();
    let defined = b.draft.variables.define_computed(name, index, word.span);
    defined.map(|_| ()).map_err(|fault| Diagnostic::error(word.span, fault))
}

/// Returns the words of one entry of a block, its first word included.
fn entry(d: &conf::Directive) -> Vec<&Word> {
    std::iter::once(&d.name).chain(&d.args).collect()
}

#[cfg(test)]
mod tests;
