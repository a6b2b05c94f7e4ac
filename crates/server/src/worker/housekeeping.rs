//! A thread's work once a second: writes log buffers that are due, closes upstream connections that are too old or
//! closed by the peer and clients that have been silent for too long, frees buffers, hands its metrics to the collector.

use crate::context::thread_context::ThreadContext;
use crate::worker::memory;
use crate::worker::panics::Vital;
use process::log::Level;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

const DAY_MS: u64 = 86_400_000;

/// Runs until the event loop ends.
pub(super) async fn housekeeping(thread: Rc<ThreadContext>) {
    let _vital = Vital;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut has_freed = false;
    // When it was last said that a certificate expires; loading the configuration said it, too.
    let mut warned_ms = thread.clock.now().monotonic_ms();
    loop {
        ticks.tick().await;
        let generation = thread.generation();
        let now_ms = thread.clock.now().monotonic_ms();
        generation.logs.flush_due(now_ms);
        generation.groups.sweep(&thread.buffers, now_ms);
        thread.parking.close_overdue(now_ms).await;
        let frees = thread.buffers.settle() | thread.parking.has_grown();
        // Once more a second later: the allocator holds back pages that have only just become free.
        if frees || has_freed {
            memory::give_back();
        }
        has_freed = frees;
        thread.collect_metrics();
        if thread.number() == 0 && now_ms.saturating_sub(warned_ms) >= DAY_MS {
            warned_ms = now_ms;
            let now_s = thread.clock.now().epoch_s();
            for text in generation.config.http.certificates.iter().filter_map(|known| known.warning(now_s)) {
                generation.error_log.write(Level::Warn, 0, text.as_bytes());
            }
        }
    }
}
