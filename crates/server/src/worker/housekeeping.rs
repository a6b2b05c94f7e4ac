//! A thread's work once a second: writes log buffers that are due, closes upstream connections that are too old or
//! closed by the peer and clients that have been silent for too long, frees buffers, hands its metrics to the collector.

use crate::context::thread_context::ThreadContext;
use crate::worker::memory;
use crate::worker::panics::Vital;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Runs until the event loop ends.
pub(super) async fn housekeeping(thread: Rc<ThreadContext>) {
    let _vital = Vital;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut has_freed = false;
    loop {
        ticks.tick().await;
        let generation = thread.generation();
        let now_ms = thread.clock.now().monotonic_ms();
        generation.logs.flush_due(now_ms);
        generation.groups.sweep(now_ms);
        thread.parking.close_overdue(now_ms).await;
        let frees = thread.buffers.settle() | thread.parking.has_grown();
        // Once more a second later: the allocator holds back pages that have only just become free.
        if frees || has_freed {
            memory::give_back();
        }
        has_freed = frees;
        thread.collect_metrics();
    }
}
