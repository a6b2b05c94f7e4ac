//! The meaning of a request: the typed configuration, routing, phases, variables and modules.
//!
//! The engine decides and never does: it opens no socket and no file, starts no thread and reads no clock. All that
//! comes through [`Host`], an argument. A module's handler is a plain function over the [`Exchange`] that answers
//! with a [`Verdict`]; the server carries the verdict out.
//!
//! Reading order: [`exchange`] (the state of one request), [`phase`] (the walk), [`directive`] and [`config`] (from
//! text to typed settings), then any file under [`modules`].

mod clock;
pub mod config;
mod connection;
mod current_location;
pub mod directive;
pub mod exchange;
pub mod host;
pub mod log_line;
pub mod modules;
pub mod network;
pub mod output;
pub mod phase;
pub mod probe;
pub mod regex;
mod routing;
pub mod setting;
mod slots;
pub mod ssl_file;
pub mod start_request;
pub mod subrequest;
pub mod template;
#[cfg(test)]
mod testing;
pub mod tls_session;
pub mod variables;

pub use config::{Config, LocationId, ServerId};
pub use directive::{Args, Contexts, Directive};
pub use exchange::Exchange;
pub use host::{Env, Host};
pub use phase::{Effect, Phase, Step, Verdict};
pub use routing::Routing;
pub use setting::Setting;
pub use template::Template;
