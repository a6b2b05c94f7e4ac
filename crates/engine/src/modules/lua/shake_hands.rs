//! Running the scripts of a handshake: what follows from how they end.

use super::script::{ScriptId, ScriptPhase};
use crate::exchange::Exchange;
use crate::host::{Env, ScriptCall, ScriptOutcome};
use crate::phase::verdict::Effect;

/// The outcome of a part of such a script.
#[derive(Debug)]
pub enum HandshakeStep {
    /// It waits for this; then it is to be called again.
    Wait(Effect),
    /// It is over: the handshake goes on.
    Done,
    /// It has failed, or wants the handshake to end.
    Failed,
}

const SPECIAL_RESPONSE: i32 = 300;

/// Runs a script of a handshake, or goes on with it. What it says is in `script.handshake`, which must be there.
pub fn shake_hands(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    script: ScriptId,
    phase: ScriptPhase,
) -> HandshakeStep {
    let call = if exchange.script.waiting { ScriptCall::Resume } else { ScriptCall::Start(script) };
    exchange.script.phase = phase;
    exchange.script.waiting = false;
    match env.host.script(env.config, exchange, call) {
        ScriptOutcome::Wait(effect) => {
            exchange.script.waiting = true;
            HandshakeStep::Wait(effect)
        }
        // As in ngx_lua: any status below those of special answers lets it go on.
        ScriptOutcome::Exit(0..SPECIAL_RESPONSE) | ScriptOutcome::Finished => HandshakeStep::Done,
        _ => HandshakeStep::Failed,
    }
}
