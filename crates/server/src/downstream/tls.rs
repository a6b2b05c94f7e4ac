//! The handshake of TLS with a client: its first message names the server, and that server's context answers.
//!
//! Must never decide what a request may do with its connection: `engine::modules::ssl` does.

use crate::context::generation::Generation;
use crate::context::listen_socket::ListenSocket;
use crate::context::thread_context::ThreadContext;
use crate::context::timeout::{TimedOut, Timeout};
use crate::downstream::handshake::{self, Handshake, ScriptEnd};
use crate::downstream::{on_demand, proxy_protocol};
use crate::request::client::Client;
use crate::request::host::with_env;
use engine::ServerId;
use engine::exchange::Connection;
use engine::host::Level;
use engine::log_line;
use engine::modules::lua::handshake::HelloFacts;
use engine::modules::lua::{ScriptId, ScriptPhase};
use engine::tls_session::TlsSession;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use tls::{
    ACME_TLS, Context, HandshakePeer, Offer, TailorFault, Wishes, fault_text, hello_facts, identify_session,
};
use transport::stream::Stream;
use transport::tls_stream::{HandshakeFault, TlsOpening, TlsStream};

/// Returns true if a connection without a request is at an address with TLS, in clear, and past the header of the PROXY
/// protocol.
pub(crate) fn is_awaited(client: &Client, connection: &mut Connection, socket: &ListenSocket) -> bool {
    if !matches!(client.stream, Stream::Plain(_)) || proxy_protocol::is_awaited(connection) {
        return false;
    }
    let Some((generation, listener)) = socket.serving(client.thread.generation()) else { return false };
    connection.listener = listener;
    generation.config.listeners[listener].servers_at(connection.local).ssl
}

/// The numbers of alerts (RFC 8446, section 6.2).
const UNRECOGNIZED_NAME: u8 = 112;
const INTERNAL_ERROR: u8 = 80;
const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;

/// Why a handshake ended.
enum Failed {
    /// The client or the server is at fault.
    Fault(HandshakeFault),
    /// No context is to answer.
    Refused,
    /// ACME has not issued the server's certificate yet.
    NoCertificate,
    /// A script that sees the client's first message has ended it.
    HelloScript,
    /// A script that chooses certificates has ended it, or one that the handshake names cannot be used; why is logged.
    Certificate,
    /// Nothing is left of what the handshake needs.
    Tailor(TailorFault),
    /// It was an issuer's, and has got its proof.
    Challenge,
    /// It took too long.
    TimedOut,
}

impl From<HandshakeFault> for Failed {
    fn from(fault: HandshakeFault) -> Self {
        Failed::Fault(fault)
    }
}

/// Accepts the connection: shakes hands, or returns it as it is if the client speaks in clear, which its request knows.
/// `None` is a connection that is over.
pub(crate) async fn accept(
    mut client: Client,
    connection: &mut Connection,
    socket: &ListenSocket,
) -> Option<Client> {
    let thread = Rc::clone(&client.thread);
    let (generation, listener) = socket.serving(thread.generation())?;
    connection.listener = listener;
    let default = generation.config.listeners[listener].servers_at(connection.local).default;
    let scope = generation.config.server(default).scope;
    client.timeout.start(*generation.config.location(scope).settings.core.head.timeout_ms);
    match first_byte(&mut client).await {
        // A handshake begins with this type of record, or in the old form with a length that has the top bit.
        Some(first) if first == 22 || first & 0x80 != 0 => {}
        Some(_) => return Some(client),
        None => return None,
    }
    let limit = (*generation.config.main.worker_connections / 4).max(1);
    let guard = thread.registry.begin_handshake(connection.serial, &client.conn_state, limit);
    let Client { stream: Stream::Plain(socket), .. } = client else { return Some(client) };
    let mut name = None;
    let timeout = &mut client.timeout;
    let has_scripts = handshake::has_scripts(&generation.config);
    let shaken = match TlsOpening::new(socket, client.read_buffer.unread(), has_scripts) {
        Ok(opening) => shake_hands(opening, timeout, &thread, &generation, connection, &mut name).await,
        Err(fault) => Err(fault.into()),
    };
    drop(guard);
    client.read_buffer.consume(client.read_buffer.unread().len());
    client.read_buffer.release(&thread.buffers);
    match shaken {
        Ok((stream, session)) => {
            // It may have been asked to make room just then.
            client.conn_state.end_stream();
            connection.tls = Some(Rc::new(session));
            // A signature takes long: others are served in between.
            tokio::task::yield_now().await;
            Some(Client { stream: Stream::Tls(stream), ..client })
        }
        Err(failed) => {
            let level = match failed {
                Failed::NoCertificate => Level::Error,
                _ => Level::Info,
            };
            let mut text = match failed {
                Failed::TimedOut if client.conn_state.is_cut() => {
                    "closed in the SSL handshake: too many are half open".to_owned()
                }
                Failed::TimedOut => {
                    "client timed out (110: Connection timed out) while SSL handshaking".to_owned()
                }
                failed => words(failed),
            };
            if let Some(name) = name {
                text.push_str(", server name: \"");
                text.push_str(&String::from_utf8_lossy(&name));
                text.push('"');
            }
            with_env(&thread, &generation, |env| {
                log_line::connection_error(connection, env, level, text.as_bytes());
            });
            None
        }
    }
}

/// Returns the words of the error log for a handshake that failed, but not for want of time.
fn words(failed: Failed) -> String {
    match failed {
        Failed::Fault(HandshakeFault::Closed) => {
            "peer closed connection in SSL handshake while SSL handshaking".to_owned()
        }
        Failed::Fault(HandshakeFault::Io(error)) => {
            format!("SSL_do_handshake() failed ({error}) while SSL handshaking")
        }
        Failed::Fault(HandshakeFault::TooLong) => {
            "SSL_do_handshake() failed (SSL: client sent more than 32k) while SSL handshaking".to_owned()
        }
        Failed::Fault(HandshakeFault::Tls(error)) => {
            format!(
                "SSL_do_handshake() failed (SSL: {}) while SSL handshaking",
                fault_text(&error, HandshakePeer::Client)
            )
        }
        Failed::NoCertificate => {
            "SSL_do_handshake() failed (SSL: no certificate: ACME has not issued it yet) while SSL handshaking"
                .to_owned()
        }
        Failed::HelloScript => {
            "SSL_do_handshake() failed (SSL: callback failed) while SSL handshaking".to_owned()
        }
        Failed::Tailor(TailorFault::NoCertificate) => {
            "SSL_do_handshake() failed (SSL: no shared cipher) while SSL handshaking".to_owned()
        }
        Failed::Tailor(TailorFault::NoProtocol) => {
            "SSL_do_handshake() failed (SSL: unsupported protocol) while SSL handshaking".to_owned()
        }
        Failed::Tailor(TailorFault::Verification(text)) => format!("{text} while SSL handshaking"),
        Failed::Certificate => {
            "SSL_do_handshake() failed (SSL: cert cb error) while SSL handshaking".to_owned()
        }
        Failed::Challenge => "answered a challenge of ACME (tls-alpn-01) while SSL handshaking".to_owned(),
        Failed::Refused | Failed::TimedOut => {
            "SSL_do_handshake() failed (SSL: rejected by ssl_reject_handshake) while SSL handshaking"
                .to_owned()
        }
    }
}

/// Waits for the first byte of a connection, and leaves it there; `None` if none comes.
async fn first_byte(client: &mut Client) -> Option<u8> {
    if let Some(first) = client.read_buffer.unread().first() {
        return Some(*first);
    }
    let Client { stream, timeout, .. } = client;
    poll_fn(|cx| match stream.poll_first_byte(cx) {
        Poll::Ready(first) => Poll::Ready(first.ok().flatten()),
        Poll::Pending => timeout.poll_elapsed(cx).map(|TimedOut| None),
    })
    .await
}

/// Waits for a step of the handshake until its time is up.
async fn in_time<T>(
    timeout: &mut Timeout,
    mut step: impl FnMut(&mut TaskContext<'_>) -> Poll<Result<T, HandshakeFault>>,
) -> Result<T, Failed> {
    poll_fn(|cx| match step(cx) {
        Poll::Ready(result) => Poll::Ready(result.map_err(Failed::from)),
        Poll::Pending => timeout.poll_elapsed(cx).map(|TimedOut| Err(Failed::TimedOut)),
    })
    .await
}

/// Shakes hands under the context of the server that the client asks for, whose name is put into `name`.
async fn shake_hands(
    mut opening: TlsOpening,
    timeout: &mut Timeout,
    thread: &Rc<ThreadContext>,
    generation: &Generation,
    connection: &Connection,
    name: &mut Option<Box<[u8]>>,
) -> Result<(Box<TlsStream>, TlsSession), Failed> {
    let accepted = in_time(timeout, |cx| opening.poll_hello(cx)).await?;
    let offer = Offer::new(&accepted);
    name.clone_from(&offer.server_name);
    if let Some(name) = &offer.server_name
        && accepted.client_hello().alpn().is_some_and(|mut offered| offered.any(|it| it == ACME_TLS))
        && let Some(config) = generation.contexts.challenge(name)
    {
        let mut stream = opening.accept(accepted, config)?;
        in_time(timeout, |cx| stream.poll_handshake(cx)).await?;
        return Err(Failed::Challenge);
    }
    let config = &generation.config;
    let servers = config.listeners[connection.listener].servers_at(connection.local);
    let mut begun = Begun { thread, generation, connection, handshake: None };
    if handshake::has_scripts(config) {
        let hello = hello_facts(&opening.take_hello()).unwrap_or_default();
        if let Err(failed) = begun.see_hello(hello, &offer, servers.default, timeout).await {
            opening.refuse(INTERNAL_ERROR);
            return Err(failed);
        }
    }
    let server = match &offer.server_name {
        Some(name) => servers.by_name(name),
        None => servers.default,
    };
    let Some(context) = generation.contexts.choose(server, servers.default) else {
        opening.refuse(UNRECOGNIZED_NAME);
        return Err(Failed::Refused);
    };
    if let Some(name) = &offer.server_name {
        on_demand::await_certificate(thread, generation, context, name, timeout).await;
    }
    let answering = generation.contexts.answering(server, servers.default);
    let wishes = match begun.wishes(context, &offer, server, answering, timeout).await {
        Ok(wishes) => wishes,
        Err(failed) => {
            opening.refuse(INTERNAL_ERROR);
            return Err(failed);
        }
    };
    drop(begun);
    if wishes.is_empty() && context.is_without_certificate(offer.server_name.as_deref()) {
        opening.refuse(INTERNAL_ERROR);
        return Err(Failed::NoCertificate);
    }
    let speaks_http2 = config.speaks_http2(servers, server);
    let tailored = match wishes.is_empty() {
        true => None,
        false => match context.tailored(speaks_http2, wishes, &config.server(answering).ssl) {
            Ok(tailored) => Some(tailored),
            Err(fault) => {
                opening.refuse(match fault {
                    TailorFault::NoCertificate => HANDSHAKE_FAILURE,
                    TailorFault::NoProtocol => PROTOCOL_VERSION,
                    TailorFault::Verification(_) => INTERNAL_ERROR,
                });
                return Err(Failed::Tailor(fault));
            }
        },
    };
    let follows = tailored.as_ref().map_or_else(|| context.config(speaks_http2), |tailored| &tailored.config);
    let mut stream = opening.accept(accepted, Arc::clone(follows))?;
    let id = stream.connection_mut().map(identify_session).unwrap_or_default();
    in_time(timeout, |cx| stream.poll_handshake(cx)).await?;
    let session = stream.connection().map(|shaken| context.session(offer, id, shaken, tailored.as_ref()));
    Ok((stream, session.ok_or(Failed::Refused)?))
}

/// What a handshake asks the configuration beside its server.
struct Begun<'a> {
    thread: &'a Rc<ThreadContext>,
    generation: &'a Generation,
    connection: &'a Connection,
    /// Made once something is asked: most handshakes do not.
    handshake: Option<Handshake<'a>>,
}

impl<'a> Begun<'a> {
    fn handshake(&mut self, hello: HelloFacts) -> &mut Handshake<'a> {
        let (thread, generation, connection) = (self.thread, self.generation, self.connection);
        self.handshake.get_or_insert_with(|| Handshake::new(thread, generation, connection, hello))
    }

    /// Returns the scripts of a server: for the client's first message, and for its certificate.
    fn scripts(&self, server: ServerId) -> (Option<ScriptId>, Option<ScriptId>) {
        let scope = self.generation.config.server(server).scope;
        let lua = &self.generation.config.location(scope).settings.lua;
        (*lua.ssl_client_hello, *lua.ssl_certificate)
    }

    /// Runs the script for the client's first message, if the default server has one: no other is known yet.
    async fn see_hello(
        &mut self,
        hello: HelloFacts,
        offer: &Offer,
        default: ServerId,
        timeout: &mut Timeout,
    ) -> Result<(), Failed> {
        let (script, _) = self.scripts(default);
        let handshake = self.handshake(hello);
        let Some(script) = script else { return Ok(()) };
        handshake.enter(default, offer.begun_session(true));
        let ended = handshake.run(script, ScriptPhase::SslClientHello, timeout).await;
        ended.map_err(|end| failed_of(end, Failed::HelloScript))
    }

    /// Returns what the handshake has beside its server's context: what its scripts say, or certificates that it names.
    async fn wishes(
        &mut self,
        context: &Context,
        offer: &Offer,
        server: ServerId,
        answering: ServerId,
        timeout: &mut Timeout,
    ) -> Result<Wishes, Failed> {
        let (_, script) = self.scripts(server);
        if script.is_none() && !context.has_late() {
            let said = self.handshake.as_mut().map(|handshake| Wishes::of_script(handshake.said()));
            return Ok(said.unwrap_or_default());
        }
        let handshake = self.handshake(HelloFacts::default());
        handshake.enter(server, context.begun_session(offer));
        let Some(script) = script else {
            return handshake.load_late(context, answering).map_err(|()| Failed::Certificate);
        };
        let said = handshake.said();
        said.version = context.version(&said.hello, said.protocols);
        let ended = handshake.run(script, ScriptPhase::SslCertificate, timeout).await;
        ended.map_err(|end| failed_of(end, Failed::Certificate))?;
        Ok(Wishes::of_script(handshake.said()))
    }
}

fn failed_of(end: ScriptEnd, failed: Failed) -> Failed {
    match end {
        ScriptEnd::Failed => failed,
        ScriptEnd::TimedOut => Failed::TimedOut,
    }
}
