//! State shared by all threads of a worker process.

use crate::context::counters::ProcessCounters;
use crate::switching::worker_bus::WorkerBus;
use control::ControlHandle;
use statistics::Collector;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;
use upstream::health::HealthTable;

/// Stops scripts that run for too long: one watchdog for each Lua machine, as long as its generation exists.
pub(crate) type Watchdogs = Arc<Mutex<Vec<(Weak<()>, lua::Watchdog)>>>;

/// See the module.
#[derive(Clone)]
pub(crate) struct SharedState {
    /// How many threads there are.
    pub(crate) threads: usize,
    pub(crate) counters: Arc<ProcessCounters>,
    pub(crate) watchdogs: Watchdogs,
    /// When the process began: the zero of all threads' clocks.
    pub(crate) began: Instant,
    /// Whether anything is measured.
    pub(crate) records: bool,
    pub(crate) collector: Arc<Mutex<Collector>>,
    pub(crate) control: ControlHandle,
    pub(crate) bus: Arc<WorkerBus>,
    /// The results of health checks.
    pub(crate) health: Arc<HealthTable>,
    /// Certificates that handshakes ask for.
    pub(crate) on_demand_orders: acme::OnDemandOrders,
}
