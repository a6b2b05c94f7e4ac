//! The end of a simulated world: all clients have gone, and must leave nothing behind.

use super::{LATE_MS, World, harness};
use control::PeerState;
use sim::{holds, tell};
use std::time::Duration;
use tokio::time::sleep;

fn peers(world: &World) -> Vec<PeerState> {
    let thread = &world.harness.thread;
    let now_ms = thread.clock.fresh().monotonic_ms();
    let generation = thread.generation();
    (0..world.settings.groups()).flat_map(|group| generation.groups.get(group).peers(now_ms)).collect()
}

/// Checks that origins without faults are not marked as failed, whatever clients, the disk or a cut have done.
pub(super) fn check_blame(world: &World) {
    if world.fate.is_innocent() {
        let fails: Vec<u32> = peers(world).iter().map(|peer| peer.fails).collect();
        holds!(
            "blames-no-peer",
            fails.iter().all(|fails| *fails == 0),
            "origins without fault have failed: {fails:?}"
        );
    }
}

/// Checks when only what is kept on purpose is left, and again when that is too old.
pub(super) async fn wait_and_see(world: &World) {
    tell!("everybody has gone");
    // Longer than all timeouts of all tries together.
    sleep(Duration::from_secs(6)).await;
    let (links, keeps) = (world.links.get(), world.settings.keepalive * world.settings.groups());
    holds!("idle-bound", links <= keeps, "{links} connections are kept, {keeps} may be");
    sleep(Duration::from_secs(60)).await;
    let thread = &world.harness.thread;
    let (open, links) = (thread.registry.len(), world.links.get());
    holds!(
        "nothing-left",
        open == 0 && links == 0,
        "{open} connections are open, {links} of them to origins"
    );
    let counters = world.harness.counters.read();
    let busy = counters.active + counters.reading + counters.writing;
    holds!("nothing-left", busy == 0, "{counters:?}");
    let files = harness::temporary_files();
    holds!("nothing-left", files == 0, "{files} temporary files are left");
    let leases: u32 = peers(world).iter().map(|peer| peer.connections).sum();
    holds!("nothing-left", leases == 0, "{leases} leases have not ended");
    let connect_ms = world.settings.connect_ms;
    if world.fate.is_undisturbed() {
        for &waited_ms in &*world.waited_ms.borrow() {
            holds!(
                "timer-never-early",
                waited_ms >= connect_ms,
                "given up after {waited_ms} of {connect_ms} ms"
            );
            let in_time = waited_ms <= connect_ms + LATE_MS;
            holds!("timer-in-time", in_time, "given up after {waited_ms}, not {connect_ms} ms");
        }
    }
}
