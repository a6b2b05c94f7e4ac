//! The handle of a reload, for the thread that coordinates it.
//!
//! Owns: the steps as the server calls them. What they do is [`super::reload`]'s. Must never be used on the control thread:
//! each step blocks.

use super::handle::ControlHandle;
use super::reload::{self, Prepared};
use super::shared::stopping;
use engine::{Config, Routing};
use std::sync::Arc;
use switch::Refusal;

impl ControlHandle {
    /// Fails while orders are refused.
    ///
    /// # Errors
    /// The master process is gone.
    pub fn takes_orders(&self) -> Result<(), Refusal> {
        self.shared.takes_orders()
    }

    /// Prepares a reload: checks the new configuration against the tables and opens its new stores. While the
    /// [`PreparedReload`] lives nothing is committed; [`PreparedReload::store`] and [`StoredReload::commit`] activate the
    /// configuration, dropping it aborts. Blocks the calling thread, which must not be a worker's or the control thread.
    ///
    /// # Errors
    /// The configuration does not fit: the text names the keys it would orphan, or the store that cannot be used.
    pub fn prepare_reload(&self, config: &Arc<Config>) -> Result<PreparedReload, String> {
        let (answer, answered) = std::sync::mpsc::channel();
        let config = config.clone();
        self.send(Box::new(move |state| {
            let state = state.clone();
            tokio::task::spawn_local(async move {
                let _ = answer.send(reload::prepare(&state, config).await);
            });
        }));
        let prepared = answered.recv().map_err(|_| stopping().text)??;
        let routing = prepared.routing.clone();
        Ok(PreparedReload { control: self.clone(), routing, prepared })
    }
}

/// A reload that is prepared. Until it is committed or dropped no order is committed and no key is held.
pub struct PreparedReload {
    control: ControlHandle,
    routing: Arc<Routing>,
    prepared: Prepared,
}

impl PreparedReload {
    /// Returns the tables and groups of the new configuration. Its workers must have them from their first request on; they
    /// are not published again.
    pub fn routing(&self) -> &Arc<Routing> {
        &self.routing
    }

    /// Stores what the new configuration changes in the tables: the last step before it is in force. Blocks.
    ///
    /// # Errors
    /// A store does not take it. Nothing has changed.
    pub fn store(self) -> Result<StoredReload, String> {
        let PreparedReload { control, mut prepared, .. } = self;
        let (answer, answered) = std::sync::mpsc::channel();
        control.send(Box::new(move |state| {
            let state = state.clone();
            tokio::task::spawn_local(async move {
                let stored = reload::commit_defaults(&state, &mut prepared).await;
                let _ = answer.send(stored.map(|()| prepared));
            });
        }));
        let prepared = answered.recv().map_err(|_| stopping().text)??;
        Ok(StoredReload { control, prepared })
    }
}

/// A reload whose changes of tables are stored.
pub struct StoredReload {
    control: ControlHandle,
    prepared: Prepared,
}

impl StoredReload {
    /// Activates the new configuration. Blocks until the control plane uses it.
    pub fn commit(self) {
        let StoredReload { control, prepared } = self;
        let (done, awaited) = std::sync::mpsc::channel::<()>();
        control.send(Box::new(move |state| {
            reload::apply(state, prepared);
            drop(done);
        }));
        // The other end is dropped when it is done, or when the thread has stopped.
        let _ = awaited.recv();
    }
}
