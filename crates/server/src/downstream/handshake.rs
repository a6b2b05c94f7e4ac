//! What a handshake asks the configuration, before its client has sent any request: the names of certificates that have variables.
//!
//! Owns the exchange that stands for the request that there is not. Must never choose the server: the client's first message does.

use crate::context::generation::Generation;
use crate::context::thread_context::ThreadContext;
use crate::request::handshake_files::ReadFiles;
use crate::request::host::with_env;
use engine::ServerId;
use engine::exchange::{Connection, Exchange};
use engine::host::Level;
use engine::log_line;
use std::rc::Rc;
use tls::{Context, Offer, Wishes};

/// See the module.
pub(super) struct Handshake<'a> {
    thread: &'a Rc<ThreadContext>,
    generation: &'a Generation,
    exchange: Box<Exchange>,
}

impl<'a> Handshake<'a> {
    /// Makes the exchange of a handshake that asks for this server.
    pub(super) fn new(
        thread: &'a Rc<ThreadContext>,
        generation: &'a Generation,
        connection: &Connection,
        server: ServerId,
    ) -> Handshake<'a> {
        // A new one: another request's may still have its head.
        let mut exchange = Box::<Exchange>::default();
        exchange.connection = connection.clone();
        exchange.reset(&generation.config, thread.clock.now());
        exchange.route.server = server;
        exchange.route.location = generation.config.server(server).scope;
        Handshake { thread, generation, exchange }
    }

    /// Loads the certificates that the handshake names.
    ///
    /// # Errors
    /// Fails if one cannot be read or used, which is logged.
    pub(super) fn load_late(
        &mut self,
        context: &Context,
        offer: &Offer,
        answering: ServerId,
        wishes: &mut Wishes,
    ) -> Result<(), ()> {
        self.exchange.connection.tls = Some(Rc::new(context.begun_session(offer)));
        let (generation, exchange) = (self.generation, &mut *self.exchange);
        let names = with_env(self.thread, generation, |env| {
            env.config.server(answering).ssl.in_handshake(exchange, env)
        });
        match context.load_late(&names, &mut ReadFiles { clock: &self.thread.clock }) {
            Ok(pairs) => {
                wishes.pairs.extend(pairs);
                Ok(())
            }
            Err(text) => {
                let line = format!("{text} while SSL handshaking");
                with_env(self.thread, generation, |env| {
                    log_line::connection_error(&self.exchange.connection, env, Level::Error, line.as_bytes());
                });
                Err(())
            }
        }
    }
}
