//! What only the server can do for a request: waiting for its body, for time, for a hold, for the control plane.
//!
//! Owns the wait for each [`Effect`]. Must never decide what follows it: that is the engine's, which gets a [`Wake`].

use crate::client::Client;
use crate::generation::{Generation, Pinned};
use crate::host::with_env;
use crate::patience::TimedOut;
use crate::respond::Unfinished;
use crate::switching;
use engine::Exchange;
use engine::phase::{Effect, Wake};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

/// Does what the engine asks.
pub(crate) async fn perform(
    client: &mut Client,
    exchange: &mut Exchange,
    generation: &Pinned,
    effect: Effect,
) -> Result<Wake, Unfinished> {
    client.places.wait_undecided(exchange);
    let wake = undergo(client, exchange, generation, effect).await;
    client.places.waited();
    wake
}

async fn undergo(
    client: &mut Client,
    exchange: &mut Exchange,
    generation: &Pinned,
    effect: Effect,
) -> Result<Wake, Unfinished> {
    Ok(match effect {
        Effect::ReadBody => client.read_body(exchange, generation).await,
        Effect::DiscardBody => client.discard_body(exchange, generation).await,
        Effect::Sleep(ms) => {
            send_what_is_due(client, exchange, generation).await?;
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Wake::Done
        }
        Effect::Hold(ms) => hold(client, exchange, generation, ms).await,
        Effect::Flush => match client.send_wire(exchange, generation).await {
            Ok(()) => Wake::Done,
            Err(_) => Wake::Failed(499),
        },
        Effect::AwaitRelease { hold } => {
            // It goes wherever the tables lead that it will pin: it is on no side.
            client.places.waited();
            switching::await_release(client, exchange, generation, hold).await
        }
        Effect::Switch(order) => switching::api::order(client, exchange, generation, order).await,
    })
}

/// Waits, and watches the client meanwhile (ngx_http_test_reading): who has given up must not be served.
async fn hold(client: &mut Client, exchange: &mut Exchange, generation: &Generation, ms: u64) -> Wake {
    client.patience.start(ms);
    let mut watch = true;
    let gone = poll_fn(|cx| {
        if watch {
            match client.stream.poll_closed(cx) {
                Poll::Ready(true) => return Poll::Ready(true),
                Poll::Ready(false) => watch = false,
                Poll::Pending => {}
            }
        }
        client.patience.poll_up(cx).map(|TimedOut| false)
    })
    .await;
    if !gone {
        return Wake::Done;
    }
    with_env(&client.worker, generation, |env| {
        let text = b"client prematurely closed connection";
        engine::log_line::error(exchange, env, engine::host::Level::Info, text);
    });
    Wake::Failed(499)
}

/// Before a wait, what has gathered is sent if it is as much as `postpone_output` says.
async fn send_what_is_due(
    client: &mut Client,
    exchange: &mut Exchange,
    generation: &Generation,
) -> Result<(), Unfinished> {
    let postpone = *generation.config.location(exchange.route.location).settings.core.send.postpone_output;
    if exchange.output.wire.len() as u64 >= postpone.max(1) {
        client.send_wire(exchange, generation).await?;
    }
    Ok(())
}
