//! State shared by the handle and the control thread.
//!
//! Owns the active configuration, the data plane, the log, the events and the clock of holds. Must never wait.

use super::clock::now_ms;
use super::long_calls::LongCalls;
use super::window::WindowTimes;
use crate::data_plane::DataPlane;
use crate::event::{EventKind, Events};
use crate::journal::{self, Journal};
use crate::setup::Log;
use engine::host::Level;
use engine::{Config, Routing};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use switch::{Code, Refusal};

/// Shared between every [`ControlHandle`](super::ControlHandle) and the control thread.
pub(super) struct Shared {
    pub(super) config: Mutex<Arc<Config>>,
    /// What is published.
    routing: Mutex<Arc<Routing>>,
    pub(super) data_plane: Arc<dyn DataPlane>,
    pub(super) clock_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    pub(super) log: Log,
    pub(super) events: Events,
    pub(super) long_calls: Arc<LongCalls>,
    /// The master is gone: no order is taken until another process does.
    pub(super) without_master: AtomicBool,
    /// The next reload may leave entries behind.
    forced_reload: AtomicBool,
    pub(super) journal: Journal,
    pub(super) window_times: WindowTimes,
}

impl Shared {
    pub(super) fn new(
        config: Arc<Config>,
        data_plane: Arc<dyn DataPlane>,
        clock_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
        log: Log,
        events: Events,
        journal: Journal,
    ) -> Shared {
        Shared {
            config: Mutex::new(config),
            routing: Mutex::default(),
            data_plane,
            clock_ms,
            log,
            events,
            long_calls: Arc::default(),
            without_master: AtomicBool::new(false),
            forced_reload: AtomicBool::new(false),
            journal,
            window_times: WindowTimes::default(),
        }
    }

    /// Returns the active configuration.
    pub(super) fn config(&self) -> Arc<Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what is published.
    pub(super) fn routing(&self) -> Arc<Routing> {
        self.routing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what is published.
    pub(super) fn set_routing(&self, routing: Arc<Routing>) {
        *self.routing.lock().unwrap_or_else(PoisonError::into_inner) = routing;
    }

    /// Lets reloads leave entries behind, or not.
    pub(super) fn force_reloads(&self, force: bool) {
        self.forced_reload.store(force, Ordering::Relaxed);
    }

    pub(super) fn reload_is_forced(&self) -> bool {
        self.forced_reload.load(Ordering::Relaxed)
    }

    /// Activates another configuration.
    pub(super) fn set_config(&self, config: Arc<Config>) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Fails while orders are refused.
    pub(super) fn takes_orders(&self) -> Result<(), Refusal> {
        match self.without_master.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Refusal::new(
                Code::NoMaster,
                "the master process is gone; this process serves on with its last table, and takes no orders",
                "start pointsman again: it takes over without dropping connections",
            )),
        }
    }

    /// Writes to the error log.
    pub(super) fn log(&self, level: Level, text: &str) {
        // Keys, reasons and names come from people.
        (self.log)(level, &switch::visible(text));
    }

    /// Announces an event to all listeners.
    pub(super) fn announce(&self, switch: &Arc<str>, kind: EventKind) {
        if let Some(occurrence) = journal::kept(switch, &kind, now_ms()) {
            self.journal.append(occurrence);
        }
        self.events.announce(now_ms(), switch, kind);
    }
}

/// Returns the refusal of a request that the stopped control thread cannot serve.
pub(super) fn stopping() -> Refusal {
    Refusal::new(Code::Stopping, "the control plane is stopping", "retry when the process has restarted")
}
