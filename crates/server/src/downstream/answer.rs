//! One request of either protocol, from its decoded head to its log line.
//!
//! Must never know how its bytes come and go: [`crate::downstream::http1`] and [`crate::downstream::http2`] do.

use crate::context::generation::{Generation, Pinned};
use crate::context::metrics;
use crate::context::thread_context::ThreadContext;
use crate::proxy;
use crate::request::client::Client;
use crate::request::cx::RequestCx;
use crate::request::host::ThreadHost;
use crate::request::report;
use crate::request::respond::Unfinished;
use crate::request::subrequests;
use crate::switching::in_flight::Ended;
use crate::switching::{api, publish};
use crate::trace;
use engine::exchange::{AbortNotice, Body};
use engine::host::{Env, RunningRequests};
use engine::output::{self, Framing};
use engine::phase::{self, Content, Step, Wake};
use engine::subrequest::Subrequest;
use engine::{Exchange, start_request};
use http::{BodyFraming, ChunkError, Version};
use statistics::RoutedRequest;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use transport::body_reader::BodyReader;

/// The step after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The next request on the same connection.
    Next,
    /// An orderly close, which reads what the client still sends.
    Close,
    /// The same, after a response that is not whole, as its framing tells the client.
    BreakOff,
    /// A close at once.
    Cut,
}

pub(super) enum Head {
    /// It was decoded.
    Whole,
    /// It cannot be served: this status is the response.
    Refused(u16),
}

/// Serves a request whose head has come, and logs it. Returns what follows, and whether its stream was cut.
pub(super) async fn serve(cx: &mut RequestCx<'_>, head: Head) -> (After, bool) {
    cx.client.thread.counters.request();
    let step = match head {
        Head::Whole => {
            cx.span = trace::request(cx.exchange);
            begin_request(cx)
        }
        Head::Refused(status) => cx.engine(|exchange, env| phase::refuse(exchange, env, status)),
    };
    let after = answer(cx, step).await;
    finish(cx);
    let was_cut = end_switching(cx, after);
    trace::responded(&cx.span, cx.exchange);
    (after, was_cut)
}

fn begin_request(cx: &mut RequestCx<'_>) -> Step {
    publish::check_mailbox(&cx.client.thread);
    let RequestCx { client, exchange, generation, span, begin_inner, .. } = cx;
    let span = trace::phase(span, exchange);
    client.partial_body = None;
    let (thread, body, owes_continue) = (&client.thread, &mut client.body, &mut client.owes_continue);
    let mut host = ThreadHost { thread, generation, inner: Some((generation, *begin_inner)) };
    let env = &mut Env { config: &generation.config, host: &mut host };
    let step = match start_request::start(exchange, env) {
        Ok(()) => {
            *body = match exchange.request.framing {
                // The end of the stream is the body's.
                BodyFraming::Chunked if exchange.request.head.version == Version::Http2 => {
                    BodyReader::UntilEnd(false)
                }
                framing => BodyReader::new(framing),
            };
            let head = &exchange.request.head;
            *owes_continue = !body.is_done() && http::framing::expects_continue(head.version, &head.headers);
            #[cfg(debug_assertions)]
            crate::worker::panics::provoked::panic_at(&exchange.request.uri);
            phase::advance(exchange, env)
        }
        Err(status) => {
            exchange.response.close = true;
            phase::refuse(exchange, env, status)
        }
    };
    trace::stepped(&span, &step);
    step
}

/// Walks on through the phases.
fn advance(cx: &mut RequestCx<'_>) -> Step {
    let span = trace::phase(&cx.span, cx.exchange);
    let step = cx.engine(phase::advance);
    trace::stepped(&span, &step);
    step
}

/// Serves a request inside another one from its position in the phases on. Returns true if its answer came to its end.
pub(super) fn run_inner<'a>(cx: &'a mut RequestCx<'_>) -> Pin<Box<dyn Future<Output = bool> + 'a>> {
    Box::pin(async move {
        let step = advance(cx);
        let mut after = answer(cx, step).await;
        if matches!(after, After::Next | After::Close) {
            let put = cx.engine(output::put_stub);
            if put.is_err() || cx.send_filtered().await.is_err() {
                after = After::Cut;
            }
        }
        if *cx.settings().core.log_subrequest {
            cx.engine(phase::log);
        }
        end_switching(cx, after);
        let output = &cx.exchange.output;
        // Filters make it longer or shorter, and leave its head as it is.
        let is_long_enough = output.has_chain()
            || cx.exchange.response.content_length.is_none_or(|len| len == output.body_len);
        matches!(after, After::Next | After::Close) && (is_long_enough || output.framing == Framing::None)
    })
}

/// Begins requests inside another one whose script goes on meanwhile.
pub(super) fn begin_inner(
    thread: &Rc<ThreadContext>,
    generation: &Pinned,
    outer: &mut Exchange,
    wanted: Vec<Subrequest>,
) -> Option<Box<dyn RunningRequests>> {
    subrequests::begin(thread, generation, (run_inner, begin_inner), outer, wanted)
}

/// Sends what is left of what a script has sent past the answer.
async fn send_outgoing(cx: &mut RequestCx<'_>) {
    let tap = cx.exchange.script.tap.as_ref();
    let left = tap.and_then(|tap| tap.with_outgoing(|outgoing| std::mem::take(&mut outgoing.bytes)));
    if let Some(left) = left.filter(|left| !left.is_empty()) {
        cx.exchange.output.wire = left;
        // That the client is gone changes nothing any more.
        let _ = cx.send_wire().await;
    }
}

/// How many responses to one request may fail before its connection is cut.
const MAX_REFUSALS: u32 = 3;

/// Does what the engine asks until there is a response, and sends that.
async fn answer(cx: &mut RequestCx<'_>, mut step: Step) -> After {
    let mut refusals = 0;
    loop {
        cx.track_choices();
        if !matches!(step, Step::Wait(_)) {
            send_outgoing(cx).await;
        }
        let result = match step {
            Step::Wait(effect) => match cx.perform(effect).await {
                Ok(wake) => {
                    let is_told = cx.exchange.script.abort == AbortNotice::Wanted;
                    if let Wake::Failed(status @ (408 | 499)) = wake
                        && !(status == 499 && is_told)
                    {
                        cx.exchange.response.status = status;
                        return After::Cut;
                    }
                    cx.exchange.route.wake = Some(wake);
                    step = advance(cx);
                    continue;
                }
                Err(unfinished) => Err(unfinished),
            },
            Step::Drop => {
                if cx.exchange.response.status == 0 {
                    cx.exchange.response.status = 444;
                }
                // What a script had sent before it failed is still on its way through the connection of HTTP/2.
                let has_begun =
                    cx.exchange.output.head_written() && cx.exchange.output.framing == Framing::Pieces;
                return if has_begun { After::BreakOff } else { After::Cut };
            }
            Step::Written => cx.send_filtered().await,
            Step::Serve(content) => serve_content(cx, content).await,
        };
        let output = &cx.exchange.output;
        match result {
            Ok(()) if output.keep_alive && is_whole(cx.exchange) => return After::Next,
            Ok(()) => return After::Close,
            // As in nginx: a close at once could destroy what is still on its way, even an earlier response.
            Err(Unfinished::Short) if output.framing != Framing::Close => return After::BreakOff,
            Err(Unfinished::Broken | Unfinished::Short) => {
                // Where only the close tells the end of the response, an orderly one would claim that it is whole.
                if output.framing == Framing::Close {
                    cx.client.stream.reset_on_close();
                }
                return After::Cut;
            }
            Err(Unfinished::Walk) => step = advance(cx),
            // nginx ends these without a response: the client no longer listens.
            Err(Unfinished::Status(status @ (408 | 499))) => {
                cx.exchange.response.status = status;
                return After::Cut;
            }
            Err(refused @ (Unfinished::Status(status) | Unfinished::Replaced(status))) => {
                // A filter that fails on the error page too would loop.
                refusals += 1;
                if refusals > MAX_REFUSALS {
                    return After::Cut;
                }
                cx.exchange.output.wire.clear();
                step = cx.engine(|exchange, env| match refused {
                    Unfinished::Replaced(_) => phase::replace(exchange, env, status),
                    _ => phase::refuse(exchange, env, status),
                });
            }
        }
    }
}

/// Returns true if as much was sent as the head promised. If not, the client would take the next response for the rest
/// of this one.
fn is_whole(exchange: &Exchange) -> bool {
    !matches!(exchange.output.framing, Framing::Length | Framing::Pieces)
        || exchange.response.content_length.is_none_or(|len| len == exchange.output.body_len)
}

async fn serve_content(cx: &mut RequestCx<'_>, content: Content) -> Result<(), Unfinished> {
    if std::mem::take(&mut cx.exchange.request.discard_wanted)
        && !cx.client.owes_continue
        && discard_arrived(cx.client, cx.exchange).is_err()
    {
        return Err(Unfinished::Status(cx.bad_chunks()));
    }
    match content {
        Content::Bytes(body) => cx.serve_bytes(&body).await,
        Content::Empty => cx.serve_bytes(b"").await,
        Content::File { file, parts } => cx.serve_file(file, &parts).await,
        Content::Proxy => proxy::serve(cx).await,
        Content::Control(face) => api::serve(cx, face).await,
        Content::Report(report) => report::serve(cx, report).await,
    }
}

/// Discards what has already arrived of the body.
fn discard_arrived(client: &mut Client, exchange: &mut Exchange) -> Result<(), ChunkError> {
    while let Some(piece) = client.body.next(&mut client.read_buffer)? {
        if piece.done {
            client.body.finish();
            exchange.request.body = Body::Discarded;
            break;
        }
    }
    Ok(())
}

/// Counts the request for each key by which a switch has led it to an upstream. Returns how long its upstreams took.
fn count_keys(exchange: &Exchange, generation: &Generation, is_stream: bool, failed: bool) -> Option<u64> {
    let end = metrics::request_end(&exchange.upstream.tries, exchange.response.status);
    let is_kept = exchange.upstream.cache.as_ref().is_some_and(|cache| cache.status.is_kept());
    if is_kept && exchange.upstream.tries.is_empty() {
        // It was served from a zone, and has reached no target.
        return end.response_us;
    }
    generation.metrics.record(|recorder| {
        for choice in exchange.switches.led_choices() {
            let routed = RoutedRequest {
                key: &choice.key,
                target: &choice.target,
                revision: choice.route_revision,
                is_stream,
                failed,
            };
            recorder.key_ended(usize::from(choice.switch), &routed, &end);
        }
    });
    end.response_us
}

/// Ends what switches have chosen for the request. Returns true if its stream was cut.
fn end_switching(cx: &mut RequestCx<'_>, after: After) -> bool {
    let (is_stream, was_cut) = cx.client.conn_state.end_stream();
    if cx.exchange.switches.choices().is_empty() {
        return was_cut;
    }
    let failed = match cx.exchange.response.status {
        // The client's own doing, or the switch's policy for streams.
        499 => false,
        _ if was_cut => false,
        status => status >= 500 || status == 0 || matches!(after, After::Cut | After::BreakOff),
    };
    let response_us = count_keys(cx.exchange, cx.generation, is_stream, failed);
    let led = cx.exchange.switches.led();
    cx.client.in_flight.leave(Ended { failed, is_stream, response_us, led });
    was_cut
}

/// Runs the log phase.
pub(super) fn finish(cx: &mut RequestCx<'_>) {
    cx.engine(phase::log);
    cx.exchange.connection.sent_before += cx.exchange.output.sent;
}
