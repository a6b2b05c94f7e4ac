//! A client's connection while requests come: one after another, each from its head to its log line.

use crate::body::BodyReader;
use crate::client::Client;
use crate::effects::perform;
use crate::generation::{Generation, Pinned};
use crate::host::with_env;
use crate::idle::{Idle, Presence};
use crate::input::Input;
use crate::listeners::Socket;
use crate::patience::{Patience, TimedOut};
use crate::recording;
use crate::respond::Unfinished;
use crate::switching::{self, Places, roster::Ended};
use engine::exchange::{Body, Connection};
use engine::modules::{core::LingeringClose, log, lua};
use engine::output::Framing;
use engine::phase::{self, Content, Step, Wake};
use engine::{Exchange, LocationId, begin};
use http::{BodyFraming, ChunkError, Known, Progress};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::task::coop;

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The next request on the same connection.
    Next,
    /// An orderly close, reading what the client still sends.
    Close,
    /// The same, of an answer that is not whole, which its framing tells the client.
    BreakOff,
    /// A close at once.
    Cut,
}

/// Serves one request after another, until the connection is idle again or closed.
pub(crate) async fn requests(idle: &mut Idle) {
    let Some(stream) = idle.stream.take() else { return };
    let Presence { worker, seat, .. } = &idle.presence;
    let mut client = Client {
        stream,
        patience: Patience::new(worker, seat),
        input: Input::default(),
        body: BodyReader::Done,
        owes_continue: false,
        places: Places::new(worker, seat),
        seat: Rc::clone(seat),
        worker: Rc::clone(worker),
    };
    let mut pipelined = false;
    let after = loop {
        if client.input.is_empty() {
            match poll_fn(|cx| Poll::Ready(client.poll_fill(cx))).await {
                Poll::Ready(Ok(1..)) => pipelined = false,
                Poll::Ready(_) => break After::Cut,
                Poll::Pending => break After::Next,
            }
        }
        let after = next_request(&mut client, &mut idle.connection, &idle.socket, pipelined).await;
        if after != After::Next {
            break after;
        }
        // Whoever sends many at once must not keep the thread for himself.
        pipelined = true;
        coop::consume_budget().await;
    };
    if after == After::Close {
        let generation = client.worker.generation();
        linger(&mut client, &generation, LocationId(0)).await;
    }
    client.input.consume(client.input.unread().len());
    client.input.release(&client.worker.buffers);
    idle.stream = (after == After::Next).then_some(client.stream);
}

/// One request under the configuration that holds now.
async fn next_request(
    client: &mut Client,
    connection: &mut Connection,
    socket: &Socket,
    pipelined: bool,
) -> After {
    let worker = Rc::clone(&client.worker);
    let Some((generation, listener)) = socket.place(&worker) else { return After::Close };
    connection.listener = listener;
    let mut exchange = worker.buffers.lease_exchange();
    std::mem::swap(&mut exchange.connection, connection);
    let is_last = worker.quitting.get() || socket.is_given_up();
    client.seat.serve(generation.number);
    let after = request(client, &mut exchange, &generation, (pipelined, is_last)).await;
    client.seat.serve(0);
    std::mem::swap(&mut exchange.connection, connection);
    worker.buffers.give_back_exchange(exchange);
    after
}

/// One request: its head, its answer, its log line.
async fn request(
    client: &mut Client,
    exchange: &mut Exchange,
    generation: &Pinned,
    (pipelined, is_last): (bool, bool),
) -> After {
    let worker = Rc::clone(&client.worker);
    exchange.reset(&generation.config, worker.clock.now());
    exchange.response.close = is_last;
    exchange.request.pipelined = pipelined;
    let mut busy = worker.counters.busy();
    let head = read_head(client, exchange, generation).await;
    busy.answers();
    let step = match head {
        Head::Whole => {
            worker.counters.request();
            Some(begin_request(client, exchange, generation))
        }
        Head::Refused(status) => {
            worker.counters.request();
            Some(with_env(&worker, generation, |env| phase::refuse(exchange, env, status)))
        }
        Head::None => None,
    };
    let after = match step {
        Some(step) => {
            let after = answer(client, exchange, generation, step).await;
            finish(client, exchange, generation);
            end_switching(client, exchange, generation, after);
            after
        }
        None => After::Cut,
    };
    drop(busy);
    let after = match after {
        After::Next => settle_body(client, exchange, generation).await,
        after => after,
    };
    if matches!(after, After::Close | After::BreakOff) {
        // A body whose length was not believed is on its way all the same.
        let fields = &exchange.request.head.headers;
        if exchange.request.framing == BodyFraming::None && fields.has(Known::TransferEncoding) {
            client.body = BodyReader::UntilClose;
        }
        linger(client, generation, exchange.route.location).await;
        return After::Cut;
    }
    after
}

enum Head {
    /// It was decoded.
    Whole,
    /// It cannot be served: this status is the answer.
    Refused(u16),
    /// The client went away before there was a request.
    None,
}

/// `reset_timedout_connection`: the client's buffers in the kernel are freed at once.
fn reset_if_wanted(client: &Client, exchange: &Exchange, generation: &Generation) {
    if *generation.config.location(exchange.route.location).settings.core.send.reset_timedout {
        client.stream.reset_on_close();
    }
}

async fn read_head(client: &mut Client, exchange: &mut Exchange, generation: &Generation) -> Head {
    let limits = begin::head_limits(&generation.config, exchange.connection.listener);
    exchange.request.head.clear();
    let scope = generation.default_scope(exchange.connection.listener);
    let timeout_ms = *generation.config.location(scope).settings.core.head.timeout_ms;
    // The time is for the whole head, not for each read: a trickle must not hold a connection for ever.
    client.patience.start(timeout_ms);
    loop {
        match exchange.request.head.decode(client.input.unread(), &limits) {
            Ok(Progress::Complete { consumed }) => {
                client.input.consume(consumed);
                return Head::Whole;
            }
            Ok(Progress::Partial) => {}
            Err(fault) => {
                let status = with_env(&client.worker, generation, |env| {
                    begin::reject(exchange, env, fault, client.input.unread())
                });
                // What is left unread says that more may come: see `linger`.
                return Head::Refused(status);
            }
        }
        let filled = poll_fn(|cx| {
            if let Poll::Ready(filled) = client.poll_fill(cx) {
                return Poll::Ready(Ok(filled));
            }
            client.patience.poll_up(cx).map(Err)
        })
        .await;
        match filled {
            Ok(Ok(1..)) => {}
            Err(TimedOut) => {
                if exchange.request.head.has_begun() {
                    with_env(&client.worker, generation, |env| {
                        engine::modules::core::choose_server(exchange, env);
                        let text = b"client timed out (110: Connection timed out)";
                        engine::log_line::error(exchange, env, engine::host::Level::Info, text);
                    });
                    reset_if_wanted(client, exchange, generation);
                    // nginx logs 408 and closes without a word.
                    exchange.response.status = 408;
                    finish(client, exchange, generation);
                }
                return Head::None;
            }
            _ => {
                if exchange.request.head.has_begun() {
                    with_env(&client.worker, generation, |env| {
                        engine::modules::core::choose_server(exchange, env);
                        let text = b"client prematurely closed connection";
                        engine::log_line::error(exchange, env, engine::host::Level::Info, text);
                    });
                    exchange.response.status = 400;
                    finish(client, exchange, generation);
                }
                return Head::None;
            }
        }
    }
}

fn begin_request(client: &mut Client, exchange: &mut Exchange, generation: &Generation) -> Step {
    client.worker.look_for_questions();
    with_env(&client.worker, generation, |env| match begin::begin(exchange, env) {
        Ok(()) => {
            client.body = BodyReader::new(exchange.request.framing);
            let head = &exchange.request.head;
            client.owes_continue =
                !client.body.is_done() && http::framing::expects_continue(head.version, &head.headers);
            exchange.switches.pin(generation.tables());
            #[cfg(debug_assertions)]
            crate::panics::provoked::panic_at(&exchange.request.uri);
            phase::advance(exchange, env)
        }
        Err(status) => {
            exchange.response.close = true;
            phase::refuse(exchange, env, status)
        }
    })
}

/// How many answers of one request may fail before its connection is cut.
const MAX_REFUSALS: u32 = 3;

/// Does what the engine asks until there is an answer, and sends that.
async fn answer(client: &mut Client, exchange: &mut Exchange, generation: &Pinned, mut step: Step) -> After {
    let mut refusals = 0;
    loop {
        client.places.keep_up(exchange, generation);
        let result = match step {
            Step::Wait(effect) => match perform(client, exchange, generation, effect).await {
                Ok(wake) => {
                    if let Wake::Failed(status @ (408 | 499)) = wake {
                        exchange.response.status = status;
                        return After::Cut;
                    }
                    exchange.route.wake = Some(wake);
                    step = with_env(&client.worker, generation, |env| phase::advance(exchange, env));
                    continue;
                }
                Err(unfinished) => Err(unfinished),
            },
            Step::Drop => {
                if exchange.response.status == 0 {
                    exchange.response.status = 444;
                }
                return After::Cut;
            }
            Step::Written => client.send_wire(exchange, generation).await.map_err(Unfinished::from),
            Step::Serve(content) => serve_content(client, exchange, generation, content).await,
        };
        match result {
            Ok(()) if exchange.output.keep_alive && is_whole(exchange) => return After::Next,
            Ok(()) => return After::Close,
            // A close at once could destroy what is on its way, be it of an answer before: as in nginx.
            Err(Unfinished::Short) if exchange.output.framing != Framing::Close => return After::BreakOff,
            Err(Unfinished::Broken | Unfinished::Short) => {
                // Where only the end of the connection tells the end of the answer, an orderly one would be a lie.
                if exchange.output.framing == Framing::Close {
                    client.stream.reset_on_close();
                }
                return After::Cut;
            }
            Err(Unfinished::Walk) => {
                step = with_env(&client.worker, generation, |env| phase::advance(exchange, env));
            }
            // nginx ends these without a word: nobody is listening.
            Err(Unfinished::Status(status @ (408 | 499))) => {
                exchange.response.status = status;
                return After::Cut;
            }
            Err(refused @ (Unfinished::Status(status) | Unfinished::Replaced(status))) => {
                // A filter that fails on the error page too would go round for ever.
                refusals += 1;
                if refusals > MAX_REFUSALS {
                    return After::Cut;
                }
                exchange.output.wire.clear();
                step = with_env(&client.worker, generation, |env| match refused {
                    Unfinished::Replaced(_) => phase::replace(exchange, env, status),
                    _ => phase::refuse(exchange, env, status),
                });
            }
        }
    }
}

/// Was as much sent as the head promised? If not, the client would take the next answer for the rest of this one.
fn is_whole(exchange: &Exchange) -> bool {
    exchange.output.framing != Framing::Length
        || exchange.response.content_length.is_none_or(|len| len == exchange.output.body_len)
}

async fn serve_content(
    client: &mut Client,
    exchange: &mut Exchange,
    generation: &Pinned,
    content: Content,
) -> Result<(), Unfinished> {
    if std::mem::take(&mut exchange.request.discard_wanted) && !client.owes_continue {
        discard_what_is_here(client, exchange)
            .map_err(|_| Unfinished::Status(client.bad_chunks(exchange, generation)))?;
    }
    match content {
        Content::Bytes(body) => client.serve_bytes(exchange, generation, &body).await,
        Content::Empty => client.serve_bytes(exchange, generation, b"").await,
        Content::File { file, parts } => client.serve_file(exchange, generation, &file, &parts).await,
        Content::Proxy => crate::proxy::serve(client, exchange, generation).await,
        Content::Control => switching::api::serve(client, exchange, generation).await,
        Content::Report(report) => recording::report::serve(client, exchange, generation, report).await,
    }
}

/// Throws away what has come of the body already.
fn discard_what_is_here(client: &mut Client, exchange: &mut Exchange) -> Result<(), ChunkError> {
    while let Some(piece) = client.body.next(&mut client.input)? {
        if piece.done {
            client.body.finish();
            exchange.request.body = Body::Discarded;
            break;
        }
    }
    Ok(())
}

/// What switches led it to is over.
fn end_switching(client: &mut Client, exchange: &Exchange, generation: &Generation, after: After) {
    let was_cut = client.seat.end_stream();
    if exchange.switches.choices().is_empty() {
        return;
    }
    recording::keys_ended(exchange, generation);
    let failed = match exchange.response.status {
        // The client's own doing, or what the switch was told to do with its streams.
        499 => false,
        _ if was_cut => false,
        status => status >= 500 || status == 0 || matches!(after, After::Cut | After::BreakOff),
    };
    client.places.leave(if failed { Ended::Failed } else { Ended::Well });
}

/// The log phase.
fn finish(client: &Client, exchange: &mut Exchange, generation: &Generation) {
    with_env(&client.worker, generation, |env| {
        lua::log(exchange, env);
        log::access(exchange, env);
    });
    exchange.connection.sent_before += exchange.output.sent;
}

/// Before the next request, what is left of this one's body is read away; a client that still waits for
/// `100 Continue` cannot be told from one that sends, so that its connection is closed.
async fn settle_body(client: &mut Client, exchange: &mut Exchange, generation: &Generation) -> After {
    let core = &generation.config.location(exchange.route.location).settings.core;
    // Weeks are for ever.
    let short = |ms| u32::try_from(ms).unwrap_or(u32::MAX);
    exchange.connection.idle_timeout_ms = short(core.keepalive.idle.timeout_ms);
    exchange.connection.idle_min_ms = short(*core.keepalive.min_ms);
    if client.body.is_done() {
        return After::Next;
    }
    if client.owes_continue {
        return After::Close;
    }
    let limit = Duration::from_millis(*core.send.lingering_time_ms);
    match tokio::time::timeout(limit, client.discard_body(exchange, generation)).await {
        Ok(Wake::Done) => After::Next,
        _ => After::Close,
    }
}

/// Closes so that the client gets the whole answer: our end first, then reading what it still sends for a while
/// (`lingering_close`). A close with unread bytes would be a reset, which can destroy the answer on its way.
async fn linger(client: &mut Client, generation: &Generation, scope: LocationId) {
    let settings = &generation.config.location(scope).settings.core.send;
    if *settings.lingering_close == LingeringClose::Off {
        return;
    }
    let unread = !client.body.is_done() || !client.input.is_empty() || !client.stream.is_silent();
    if !unread && *settings.lingering_close != LingeringClose::Always {
        return;
    }
    client.stream.shut_down_write();
    let until = tokio::time::Instant::now() + Duration::from_millis(*settings.lingering_time_ms);
    // Its request is over: where there is no room, it may go.
    client.worker.registry.rest(&client.seat);
    loop {
        client.input.consume(client.input.unread().len());
        let Client { stream, input, patience, worker, seat, .. } = client;
        let timeout_ms = *settings.lingering_timeout_ms;
        let more = poll_fn(|cx| {
            seat.note(cx);
            match seat.is_unwanted() {
                true => Poll::Ready(Ok(0)),
                false => input.poll_fill(cx, stream, &worker.buffers),
            }
        });
        let filled = patience.wait(timeout_ms, more).await;
        if !matches!(filled, Ok(Ok(1..))) || tokio::time::Instant::now() >= until {
            return;
        }
    }
}
