//! Orders that scripts give to a switch.

use crate::context::generation::Generation;
use crate::context::thread_context::ThreadContext;
use engine::phase::SwitchOrder;
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
    async {
        match answered.await {
            Ok(Ok(revision)) => Ok(revision),
            Ok(Err(refusal)) => Err(refusal.text),
            Err(_) => Err("the control plane is stopping".to_owned()),
        }
    }
}
