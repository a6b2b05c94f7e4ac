//! What a handshake asks the configuration, before its client has sent any request: its scripts (`ssl_client_hello_by_lua*`,
//! `ssl_certificate_by_lua*`), and the names of certificates that have variables.
//!
//! Owns the exchange that stands for the request that there is not, and the waits of the scripts. Must never choose the server: the
//! client's first message does.

use crate::context::generation::Generation;
use crate::context::thread_context::ThreadContext;
use crate::context::timeout::{TimedOut, Timeout};
use crate::request::handshake_files::ReadFiles;
use crate::request::host::with_env;
use engine::config::LocationId;
use engine::exchange::{Connection, Exchange};
use engine::host::Level;
use engine::modules::lua::handshake::{HandshakeScript, HelloFacts};
use engine::modules::lua::{HandshakeStep, ScriptId, ScriptPhase, shake_hands};
use engine::network::Waiting;
use engine::phase::{Effect, Wake};
use engine::tls_session::TlsSession;
use engine::{Config, ServerId, log_line};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tls::{Context, Wishes};
use transport::clock;

/// Returns true if any handshake of this configuration may run a script.
pub(super) fn has_scripts(config: &Config) -> bool {
    let is_one = |phase| matches!(phase, ScriptPhase::SslClientHello | ScriptPhase::SslCertificate);
    config.lua.scripts.iter().any(|script| is_one(script.phase))
}

/// Why a handshake's script lets it not go on.
pub(super) enum ScriptEnd {
    /// It has failed, which is logged, or wants the handshake to end.
    Failed,
    /// It took too long.
    TimedOut,
}

/// See the module.
pub(super) struct Handshake<'a> {
    thread: &'a Rc<ThreadContext>,
    generation: &'a Generation,
    exchange: Box<Exchange>,
}

impl<'a> Handshake<'a> {
    /// Makes the exchange of a handshake.
    pub(super) fn new(
        thread: &'a Rc<ThreadContext>,
        generation: &'a Generation,
        connection: &Connection,
        hello: HelloFacts,
    ) -> Handshake<'a> {
        // A new one: another request's may still have its head.
        let mut exchange = Box::<Exchange>::default();
        exchange.connection = connection.clone();
        exchange.reset(&generation.config, thread.clock.now());
        exchange.script.handshake = Some(Box::new(HandshakeScript { hello, ..HandshakeScript::default() }));
        Handshake { thread, generation, exchange }
    }

    /// Notes which server the handshake is with, and what is known of it.
    pub(super) fn enter(&mut self, server: ServerId, session: TlsSession) {
        self.exchange.connection.tls = Some(Rc::new(session));
        self.exchange.route.server = server;
        self.exchange.route.location = self.scope(server);
    }

    fn scope(&self, server: ServerId) -> LocationId {
        self.generation.config.server(server).scope
    }

    /// Returns what the scripts have said.
    pub(super) fn said(&mut self) -> &mut HandshakeScript {
        self.exchange.script.handshake.get_or_insert_default()
    }

    /// Runs a script to its end.
    pub(super) async fn run(
        &mut self,
        script: ScriptId,
        phase: ScriptPhase,
        timeout: &mut Timeout,
    ) -> Result<(), ScriptEnd> {
        loop {
            let (generation, exchange) = (self.generation, &mut *self.exchange);
            let step = with_env(self.thread, generation, |env| shake_hands(exchange, env, script, phase));
            let mut waiting = match step {
                HandshakeStep::Done => return Ok(()),
                HandshakeStep::Failed => return Err(ScriptEnd::Failed),
                HandshakeStep::Wait(Effect::Sleep(ms)) => {
                    Waiting::new(tokio::time::sleep(Duration::from_millis(ms)))
                }
                HandshakeStep::Wait(Effect::Await(waiting)) => waiting,
                // Whatever else a script may wait for belongs to a request.
                HandshakeStep::Wait(_) => return Err(ScriptEnd::Failed),
            };
            // What it waits for may be there at once, each time.
            tokio::task::coop::consume_budget().await;
            let awaited = poll_fn(|cx| {
                if Pin::new(&mut waiting).poll(cx).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                clock::turn();
                timeout.poll_elapsed(cx).map(|TimedOut| Err(ScriptEnd::TimedOut))
            });
            awaited.await?;
            self.exchange.route.wake = Some(Wake::Done);
        }
    }

    /// Loads the certificates that the handshake names. `answering` is the server whose they are.
    ///
    /// # Errors
    /// Fails if one cannot be read or used, which is logged.
    pub(super) fn load_late(&mut self, context: &Context, answering: ServerId) -> Result<Wishes, ()> {
        let (generation, exchange) = (self.generation, &mut *self.exchange);
        let names = with_env(self.thread, generation, |env| {
            env.config.server(answering).ssl.in_handshake(exchange, env)
        });
        match context.load_late(&names, &mut ReadFiles { clock: &self.thread.clock }) {
            Ok(pairs) => {
                let mut wishes = Wishes::of_script(self.said());
                wishes.pairs.extend(pairs);
                Ok(wishes)
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
