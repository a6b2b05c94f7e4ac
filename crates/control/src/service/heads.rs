//! Which places are told of the newest commit of each history, and of which ones they were told.
//!
//! Owns both lists. Must never send anything.

use crate::notify::Delivery;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use switch::Hash;

/// The places that are told, and what they were told last.
#[derive(Default)]
pub(super) struct Heads {
    pub(super) deliveries: RefCell<Vec<Delivery>>,
    /// By the names of the switches.
    pub(super) sent: RefCell<HashMap<Arc<str>, Hash>>,
    pub(super) is_watched: Cell<bool>,
}
