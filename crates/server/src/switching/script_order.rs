//! Orders that scripts give: to a switch, on a server.

use crate::context::generation::Generation;
use crate::context::thread_context::ThreadContext;
use engine::host::ServerChange;
use engine::phase::SwitchOrder;
use switch::{Refusal, ServerOrder, ServerVerb};
use tokio::sync::oneshot;

/// Gives an order to the control plane; resolves to the new revision, or to the reason why it was refused.
pub(crate) fn outcome(
    thread: &ThreadContext,
    generation: &Generation,
    order: SwitchOrder,
) -> impl Future<Output = Result<u64, String>> + 'static {
    let (answer, answered) = oneshot::channel();
    if let Some(spec) = generation.config.switches.get(order.switch) {
        let reply = Box::new(move |result| drop(answer.send(result)));
        let SwitchOrder { key, target, actor, .. } = order;
        thread.control.set_from_lua(&spec.rules.name, &key, target.as_deref(), actor, reply);
    }
    received(answered)
}

/// Gives an order on a server to the control plane; resolves as [`outcome`] does.
pub(crate) fn server_outcome(
    thread: &ThreadContext,
    change: ServerChange,
) -> impl Future<Output = Result<u64, String>> + 'static {
    let (answer, answered) = oneshot::channel();
    let ServerChange { group, server, is_down, actor } = change;
    let verb = if is_down { ServerVerb::Down } else { ServerVerb::Up };
    let reply = Box::new(move |result| drop(answer.send(result)));
    thread.control.set_server_from_lua(ServerOrder { group, server, verb }, actor, reply);
    received(answered)
}

async fn received(answered: oneshot::Receiver<Result<u64, Refusal>>) -> Result<u64, String> {
    match answered.await {
        Ok(Ok(revision)) => Ok(revision),
        Ok(Err(refusal)) => Err(refusal.text),
        Err(_) => Err("the control plane is stopping".to_owned()),
    }
}
