//! The context of a request: the client, the state of the request, and the generation it began under.

use crate::context::generation::Pinned;
use crate::request::client::Client;
use crate::request::host::{BeginInner, ThreadHost};
use engine::Exchange;
use engine::config::Settings;
use engine::host::{Env, Level};
use engine::log_line;
use std::future::Future;
use std::pin::Pin;
use tracing::Span;

/// Serves a request inside another one from its position in the phases on; true if the answer came to its end.
pub(crate) type Run = for<'a> fn(&'a mut RequestCx<'_>) -> Pin<Box<dyn Future<Output = bool> + 'a>>;

/// See the module.
pub(crate) struct RequestCx<'a> {
    pub(crate) client: &'a mut Client,
    pub(crate) exchange: &'a mut Exchange,
    pub(crate) generation: &'a Pinned,
    /// The function that serves requests inside it.
    pub(crate) run_inner: Run,
    /// The function that begins those that its script does not wait for.
    pub(crate) begin_inner: BeginInner,
    /// The request's span, disabled unless requests are traced.
    pub(crate) span: Span,
}

impl<'a> RequestCx<'a> {
    /// Returns the settings of the location that the request is in now.
    #[inline]
    pub(crate) fn settings(&self) -> &'a Settings {
        self.exchange.settings(&self.generation.config)
    }

    /// Calls the engine for this request.
    #[inline]
    pub(crate) fn engine<T>(&mut self, call: impl FnOnce(&mut Exchange, &mut Env<'_>) -> T) -> T {
        let (thread, generation) = (&self.client.thread, self.generation);
        let mut host = ThreadHost { thread, generation, inner: Some((generation, self.begin_inner)) };
        call(self.exchange, &mut Env { config: &generation.config, host: &mut host })
    }

    /// Writes a line about this request to the error log.
    pub(crate) fn log(&mut self, level: Level, text: impl AsRef<[u8]>) {
        self.engine(|exchange, env| log_line::error(exchange, env, level, text.as_ref()));
    }

    /// Sets up tracking of what switches have chosen for the request. Without a new choice it costs a comparison.
    #[inline]
    pub(crate) fn track_choices(&mut self) {
        self.client.in_flight.track(self.exchange, self.generation);
    }
}
