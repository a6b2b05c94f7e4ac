//! What the handles of the prober and its thread share.
//!
//! Owns: the entries of servers, the TLS of configurations, and who is told of changes.

use engine::Config;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;
use tls::Contexts;
use upstream::health::{Health, HealthTable};

/// A server whose health a check has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// Its group.
    pub group: Arc<str>,
    /// Its address.
    pub address: String,
    /// The check, as it is shown.
    pub check: Arc<str>,
    /// Its state before.
    pub from: Health,
    /// Its state now.
    pub to: Health,
    /// The check's result.
    pub reason: Arc<str>,
}

/// Is called, on the prober's thread, for each server whose health has changed.
pub type Observer = Box<dyn Fn(&HealthReport) + Send + Sync>;

/// The state that the handles and the thread share.
pub(crate) struct Shared {
    pub(crate) began: Instant,
    pub(crate) health: Arc<HealthTable>,
    pub(crate) observer: OnceLock<Observer>,
    /// The TLS of the configurations in use.
    pub(crate) contexts: Mutex<Vec<(Weak<Config>, Arc<Contexts>)>>,
}

impl Shared {
    /// Returns the time of the entries, in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    pub(crate) fn report(&self, report: &HealthReport) {
        if let Some(observer) = self.observer.get() {
            observer(report);
        }
    }
}

/// Locks a mutex, whose value no panic leaves half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a random number.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0)
}
