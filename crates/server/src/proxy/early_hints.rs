//! An upstream's interim responses on their way to the client, while the response itself is awaited.
//!
//! They must never keep the request waiting: what the client does not take at once goes as it takes it, and what is left
//! when the try is over goes before anything else.

use crate::request::client::Client;
use crate::request::cx::RequestCx;
use engine::modules::proxy;
use http::ResponseHead;
use std::task::{Context, Poll};

/// The hints of one try; most have none.
#[derive(Debug, Default)]
pub(super) struct EarlyHints(Option<Box<Pending>>);

#[derive(Debug, Default)]
struct Pending {
    /// What the client is to get, and how much of it has gone.
    wire: Vec<u8>,
    done: usize,
    /// How many bytes of hints have come.
    came: u64,
}

impl EarlyHints {
    /// Takes an interim response that came in so many bytes.
    pub(super) fn take(&mut self, cx: &mut RequestCx<'_>, head: &ResponseHead, bytes: u64) {
        let pending = self.0.get_or_insert_default();
        pending.came += bytes;
        cx.engine(|exchange, env| {
            proxy::early_hints(exchange, env, head, pending.came, &mut pending.wire);
        });
    }

    /// Sends what the client takes now.
    #[inline]
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, client: &mut Client) {
        if let Some(pending) = &mut self.0 {
            pending.poll_send(cx, client);
        }
    }

    /// Sends the rest, before what the request is answered with.
    pub(super) async fn finish(self, cx: &mut RequestCx<'_>) {
        if let Some(pending) = self.0
            && pending.done < pending.wire.len()
        {
            // A client that is gone is seen when it is answered.
            let _ = Box::pin(cx.send_interim(&pending.wire[pending.done..])).await;
        }
    }
}

impl Pending {
    #[cold]
    fn poll_send(&mut self, cx: &mut Context<'_>, client: &mut Client) {
        if self.wire.is_empty() {
            return;
        }
        match client.stream.poll_write_all(cx, &[&self.wire], &mut self.done) {
            Poll::Pending => {}
            // A client that is gone gets none, and whether the request ends with it is not decided here.
            Poll::Ready(_) => (self.wire, self.done) = (Vec::new(), 0),
        }
    }
}
