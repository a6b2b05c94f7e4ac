//! nginx.conf as text: lexer, Lua blocks, parser, includes, spans, diagnostics and values.
//!
//! Owns how bytes become a tree of directives, and how a fault is shown to people (file, line, column, the line
//! itself and the help) and to tools (nginx's one line). It knows *names*, from the [`known_directives`], never what a
//! directive does: whether a name is supported, allowed where it is or used correctly is for the engine to say.
//!
//! It must never open a file (a [`Loader`] is an argument), never stop at the first fault, and never read a text that
//! nginx accepts in any other way than nginx does. Where it guesses at the cause of a fault, nginx would have refused
//! the text as well.

pub mod known_directives;
pub mod value;

mod bundle;
mod diagnostic;
mod lexer;
mod lua_block;
mod nearest;
mod parser;
mod recovery;
mod render;
mod source;
mod syntax;
mod tree;
mod unknown;
mod written;

pub use bundle::{Bundle, Loader, NoFiles, RecordingLoader};
pub use diagnostic::{Diagnostic, Severity};
pub use nearest::nearest;
pub use parser::{Parsed, parse, parse_option, parse_text, parse_with_option, system_words};
pub use source::{SourceId, SourceMap, Span};
pub use tree::{Body, Directive, LuaCode, Tree, Word};
pub use unknown::explain_unknown;
pub use written::written;
