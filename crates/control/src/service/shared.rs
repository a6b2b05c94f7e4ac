//! State shared by the handle and the control thread.
//!
//! Owns the active configuration, the data plane, the log, the events and the clock of holds. Must never wait.

use super::clock::now_ms;
use super::long_calls::LongCalls;
use super::window::WindowTimes;
use crate::dashboard::Logins;
use crate::data_plane::DataPlane;
use crate::event::{EventKind, Events};
use crate::journal::{self, Journal};
use crate::setup::Log;
use crate::store::ProcessEntry;
use engine::host::Level;
use engine::{Config, Routing};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
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
    /// Who is logged in at dashboards.
    pub(super) logins: Arc<Logins>,
    /// The master is gone, and the process ends then: no order is taken until another process does. 0 while it is there.
    pub(super) ends_without_master_ms: AtomicU64,
    /// The next reload may leave entries behind.
    forced_reload: AtomicBool,
    /// What the last reload that was forced has overridden.
    forced_over: Mutex<Vec<String>>,
    pub(super) journal: Journal,
    /// This process among those with the same state folder, once there is such a folder.
    pub(super) process_entry: OnceLock<Arc<ProcessEntry>>,
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
            logins: Arc::default(),
            ends_without_master_ms: AtomicU64::new(0),
            forced_reload: AtomicBool::new(false),
            forced_over: Mutex::default(),
            journal,
            process_entry: OnceLock::new(),
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

    /// Notes what a reload that is in force now has overridden.
    pub(super) fn set_forced_over(&self, faults: Vec<String>) {
        *self.forced_over.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// Returns what the last reload has overridden.
    pub(super) fn forced_over(&self) -> Vec<String> {
        self.forced_over.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Activates another configuration.
    pub(super) fn set_config(&self, config: Arc<Config>) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Returns when the process ends because its master is gone, if it is.
    pub(super) fn ends_without_master_ms(&self) -> Option<u64> {
        Some(self.ends_without_master_ms.load(Ordering::Relaxed)).filter(|ends_ms| *ends_ms > 0)
    }

    /// Fails while orders are refused.
    pub(super) fn takes_orders(&self) -> Result<(), Refusal> {
        match self.ends_without_master_ms() {
            None => Ok(()),
            Some(_) => Err(Refusal::new(
                Code::NoMaster,
                "the master process is gone; this process continues to serve with its last table, and takes no \
                 orders",
                "start pointsman again: it takes over without dropping connections",
            )),
        }
    }

    /// Returns true if another process of this server has this number: it serves with the same state folder.
    pub(super) fn is_of_another_process(&self, pid: u32) -> bool {
        self.process_entry.get().is_some_and(|process_entry| process_entry.is_at(pid))
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
