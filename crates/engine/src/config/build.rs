//! The whole way from parsed text to a [`Config`]: every directive, then what modules do at the end, then the rest.

use super::Config;
use super::builder::{Builder, Inputs};
use super::finish;
use crate::directive::Directive;
use crate::modules::{self, MODULES};
use conf::{Diagnostic, Parsed};

/// Builds the configuration, or names everything that is wrong with it. Warnings come with the configuration.
///
/// # Errors
/// All faults, in the order of the text.
pub fn build(parsed: &Parsed, inputs: &Inputs<'_>) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut builder = Builder::new(parsed, inputs);
    builder.apply_all(&parsed.tree.directives);
    for module in MODULES {
        if let Some(finish) = module.finish {
            finish(&mut builder);
        }
    }
    finish::check(&mut builder);
    let Builder { draft, mut diagnostics, .. } = builder;
    if diagnostics.iter().any(Diagnostic::is_error) {
        diagnostics.sort_by_key(|d| d.span.map_or((u32::MAX, 0), |span| (span.source.0, span.start)));
        return Err(diagnostics);
    }
    finish::config(draft, inputs).map(|config| (config, diagnostics)).map_err(|fault| vec![fault])
}

/// Returns all directives, for the documentation.
pub fn directives() -> impl Iterator<Item = (&'static modules::Module, &'static Directive)> {
    MODULES.iter().flat_map(|module| {
        module.directives.iter().copied().flatten().map(move |directive| (*module, directive))
    })
}
