//! Requests that wait for a hold to let them go.
//!
//! Owns the waiting: who is woken when tables are published, and that a client that goes away gives its place back. How
//! many may wait, and in which order they go, is the hold's.

use crate::client::Client;
use crate::generation::Generation;
use crate::request_body::say;
use crate::worker::Worker;
use engine::Exchange;
use engine::exchange::Body;
use engine::host::Level;
use engine::phase::Wake;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use switch::{HoldState, Ticket};

/// Whoever waits on this thread, to be woken when something is published.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    wakers: RefCell<Vec<Waker>>,
    /// How often they were woken.
    turn: Cell<u64>,
}

impl Waiting {
    /// Whoever polls here wants to be woken at the next publication. `noted` is the turn for which it is known already.
    fn note(&self, noted: &mut Option<u64>, cx: &Context<'_>) {
        if noted.replace(self.turn.get()) != Some(self.turn.get()) {
            self.wakers.borrow_mut().push(cx.waker().clone());
        }
    }

    /// Wakes everyone: each looks for itself whether it may go.
    pub(crate) fn wake_all(&self) {
        self.turn.set(self.turn.get() + 1);
        self.wakers.take().into_iter().for_each(Waker::wake);
    }
}

/// What a wait came to.
enum End {
    Go,
    TimedOut,
    ClientGone,
}

/// The time of holds: the clock that all threads and the control plane have in common.
fn now_ms(worker: &Worker) -> u64 {
    worker.clock.now().monotonic_ms()
}

/// Waits for a hold of the pinned tables, and pins the newest ones when it lets the request go.
pub(crate) async fn await_release(
    client: &mut Client,
    exchange: &mut Exchange,
    generation: &Generation,
    hold: usize,
) -> Wake {
    let held = exchange.switches.tables().and_then(|tables| tables.holds.get(hold)).cloned();
    let Some(held) = held else { return Wake::Done };
    let worker = std::rc::Rc::clone(&client.worker);
    let Some(mut ticket) = held.admit(buffered(client, exchange), now_ms(&worker)) else {
        say(client, exchange, generation, Level::Warn, "too many requests wait for a held key");
        return Wake::Failed(503);
    };
    match wait(client, &mut ticket, &worker).await {
        End::Go => {
            exchange.switches.pin(generation.tables());
            Wake::Done
        }
        End::TimedOut => {
            say(client, exchange, generation, Level::Warn, "the key was held for too long");
            Wake::Failed(503)
        }
        End::ClientGone => {
            say(client, exchange, generation, Level::Info, "client prematurely closed connection");
            Wake::Failed(499)
        }
    }
}

async fn wait(client: &mut Client, ticket: &mut Ticket, worker: &Worker) -> End {
    let mut watch_client = true;
    let mut armed = None;
    let mut noted = None;
    poll_fn(|cx| {
        loop {
            let now_ms = now_ms(worker);
            let until_ms = match ticket.poll(now_ms) {
                HoldState::Go => return Poll::Ready(End::Go),
                HoldState::TimedOut => return Poll::Ready(End::TimedOut),
                HoldState::WaitUntil(ms) => ms,
                HoldState::Wait => ticket.deadline_ms(),
            };
            if watch_client {
                match client.stream.poll_closed(cx) {
                    Poll::Ready(true) => return Poll::Ready(End::ClientGone),
                    Poll::Ready(false) => watch_client = false,
                    Poll::Pending => {}
                }
            }
            if armed.replace(until_ms) != Some(until_ms) {
                client.patience.start(until_ms.saturating_sub(now_ms));
            }
            worker.waiting.note(&mut noted, cx);
            match client.patience.poll_up(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) => armed = None,
            }
        }
    })
    .await
}

/// How much of a request is kept in memory while it waits, in bytes.
fn buffered(client: &Client, exchange: &Exchange) -> usize {
    let body = match &exchange.request.body {
        Body::Memory(bytes) => bytes.len(),
        _ => 0,
    };
    exchange.request.head.len() + body + client.input.unread().len()
}
