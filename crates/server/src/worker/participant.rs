//! A thread's side of a reload: see `reload.rs`.

use crate::context::generation::Generation;
use crate::context::thread_context::ThreadContext;
use crate::downstream::accept::Listeners;
use crate::switching::publish;
use crate::worker::generation_builder::GenerationBuilder;
use crate::worker::lua_timers;
use crate::worker::message::NewGeneration;
use process::Address;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::spawn_local;

/// A generation that a thread has built, with the addresses it listens on and the sockets that are new.
struct Ready {
    generation: Rc<Generation>,
    addresses: Vec<Address>,
    sockets: Vec<(Address, OwnedFd)>,
}

/// A thread's part in reloads.
#[derive(Default)]
pub(super) struct Participant {
    ready: Option<Ready>,
}

impl Participant {
    /// Builds a generation beside the one in force (prepare). Commands of the control plane wait meanwhile: they may be
    /// meant for it.
    pub(super) fn prepare(
        &mut self,
        thread: &ThreadContext,
        builder: &GenerationBuilder,
        mut new: NewGeneration,
    ) -> Result<(), String> {
        let (addresses, sockets) = (std::mem::take(&mut new.addresses), std::mem::take(&mut new.sockets));
        let built = builder.build(new, Some(&thread.generation()));
        let result = built.map(|generation| self.ready = Some(Ready { generation, addresses, sockets }));
        thread.mailbox.hold_back(result.is_ok());
        result
    }

    /// Serves the prepared generation from now on (commit).
    pub(super) fn commit(&mut self, thread: &Rc<ThreadContext>, listeners: &Listeners) {
        let Some(Ready { generation, addresses, sockets }) = self.ready.take() else { return };
        let old = thread.adopt(generation);
        limit_old(thread, &old);
        thread.mailbox.hold_back(false);
        publish::check_mailbox(thread);
        lua_timers::end(thread, &old);
        lua_timers::start(thread, &thread.generation());
        if let Err(error) = listeners.adopt(thread, &old, &addresses, sockets) {
            thread.generation().alert(format_args!("a listening socket cannot be watched: {error}"));
        }
    }

    /// Drops the prepared generation (abort).
    pub(super) fn abort(&mut self, thread: &Rc<ThreadContext>) {
        self.ready = None;
        thread.mailbox.hold_back(false);
        publish::check_mailbox(thread);
    }
}

/// Cuts requests of a generation that is left after `worker_shutdown_timeout`, as nginx does in a worker process that
/// is to finish (<https://nginx.org/en/docs/ngx_core_module.html#worker_shutdown_timeout>).
fn limit_old(thread: &Rc<ThreadContext>, old: &Generation) {
    let limit_ms = *old.config.main.worker_shutdown_timeout_ms;
    if limit_ms > 0 {
        let (thread, number) = (Rc::clone(thread), old.number);
        spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(limit_ms)).await;
            thread.registry.cut_up_to(number);
        });
    }
}
