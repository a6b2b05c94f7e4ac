//! Handshakes for hosts whose certificate is ordered on demand: who may have one, and for how long a handshake waits for it.

use crate::context::generation::Generation;
use crate::context::thread_context::ThreadContext;
use crate::context::timeout::Timeout;
use acme::Held;
use engine::modules::acme::{Permission, is_public_host};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use switch::{Key, KeyKind};
use tls::Context;

/// How long a handshake waits for its certificate; then it gets the one that the server has for others.
const WAIT: Duration = Duration::from_secs(20);

/// Orders the certificate for a host (in lower case) if it may have one and has none, and waits for it; one that is in force
/// and due is renewed beside the handshake.
pub(super) async fn await_certificate(
    thread: &ThreadContext,
    generation: &Generation,
    context: &Context,
    name: &[u8],
    timeout: &mut Timeout,
) {
    let Some(on_demand) = context.on_demand() else { return };
    let Ok(name) = std::str::from_utf8(name) else { return };
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let held = thread.on_demand_orders.held(&on_demand.wanted(name).id, now_s);
    if held == Held::Good || !is_public_host(name) || !may_have_one(generation, &on_demand.permission, name) {
        return;
    }
    let Some(issuer) = generation.config.http.acme.issuers.get(on_demand.issuer) else { return };
    let Some(mut issued) = thread.on_demand_orders.ask(&issuer.name, on_demand, name, now_s) else { return };
    if held == Held::Due {
        return;
    }
    let mut late = Box::pin(tokio::time::sleep(WAIT));
    poll_fn(|cx| {
        let is_over = Pin::new(&mut issued).poll(cx).is_ready()
            || late.as_mut().poll(cx).is_ready()
            || timeout.poll_elapsed(cx).is_ready();
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Returns whether a host may have a certificate, as far as this process knows: the issuer's task asks a server.
fn may_have_one(generation: &Generation, permission: &Permission, name: &str) -> bool {
    match permission {
        Permission::Ask(_) => true,
        Permission::Keys(number) => {
            let routing = generation.routing();
            let table = routing.tables.tables.get(*number).filter(|table| table.is_trusted());
            let Ok(key) = Key::parse(KeyKind::Host, name.as_bytes(), name.len()) else { return false };
            // The key itself: a wildcard names no host, and anybody could have certificates ordered below it.
            table.is_some_and(|table| table.get(&key).is_some())
        }
    }
}
