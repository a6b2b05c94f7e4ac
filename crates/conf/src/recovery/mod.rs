//! Reports about a text that nginx refuses, and how to read on behind the error.
//!
//! The parser knows nginx's grammar alone. Where a text breaks it, the parser hands over a [`SyntaxError`] with its
//! [`ParseState`], and carries out the [`Action`] it gets back. Owns the guesses at what the author meant, one file for
//! each kind of mistake. It must never change how a text is read that nginx accepts.

pub(crate) mod braces;
mod lua;
pub(crate) mod missing_semicolon;
mod quotes;
mod state;
mod typos;

use crate::Diagnostic;
use crate::lexer::LexFault;
pub(crate) use state::{Action, ParseState, Recovery};

/// Where a text breaks nginx's grammar.
pub(crate) enum SyntaxError {
    /// The lexer found no token.
    NoToken(LexFault),
    /// A `;` without a directive before it.
    EmptyStatement { at: u32 },
    /// A `{` without a directive before it.
    NamelessBlock { at: u32 },
    /// A `}` where no block is open.
    StrayClose { at: u32 },
    /// The end of the text with blocks still open.
    UnclosedBlocks,
}

/// Decides what an error means.
pub(crate) fn recover(state: &ParseState<'_>, error: SyntaxError) -> Recovery {
    match error {
        SyntaxError::NoToken(fault) => state.no_token(fault),
        SyntaxError::EmptyStatement { at } => Diagnostic::error(state.span(at, at + 1), "unexpected \";\"")
            .label("no directive precedes it")
            .help("remove it")
            .then(Action::Continue),
        SyntaxError::NamelessBlock { at } => Diagnostic::error(state.span(at, at + 1), "unexpected \"{\"")
            .label("no directive precedes it")
            .then(Action::OpenNameless { at }),
        SyntaxError::StrayClose { at } => Diagnostic::error(state.span(at, at + 1), "unexpected \"}\"")
            .label("no block is open here")
            .help("remove it")
            .then(Action::Continue),
        SyntaxError::UnclosedBlocks => state.unclosed_blocks().then(Action::Continue),
    }
}

/// Describes a block in the text of the `-g` option.
pub(crate) fn block_in_option(state: &ParseState<'_>, at: u32) -> Diagnostic {
    let message = "block directives are not supported in -g option";
    Diagnostic::error(state.span(at, at + 1), message).label("a block begins here")
}

/// Describes an `include` with a block.
pub(crate) fn block_of_include(state: &ParseState<'_>, at: u32) -> Diagnostic {
    let message = "directive \"include\" is not terminated by \";\"";
    Diagnostic::error(state.span(at, at + 1), message).label("`include` has no block")
}
