//! The control service: the thread that carries out orders, and the handle through which everyone reaches it.
//!
//! Owns what happens to an order, a hold, a confirmation and a reload. Must never hold up a request.

mod answer_owner;
mod background;
mod clock;
mod commit;
mod commit_notes;
mod config_check;
mod confirm;
mod damage;
mod default;
mod direct;
mod discovered;
mod drain;
mod dry_run;
mod elsewhere;
mod fleet;
mod follow_store;
mod group_list;
mod groups;
mod handle;
mod heads;
mod health;
mod hold;
mod hold_and_commit;
mod hold_take_up;
mod hold_watch;
mod holds;
mod horizon;
mod links;
mod long_calls;
mod lookups;
mod lost_groups;
mod made;
mod name_list;
mod order;
mod owner;
mod past;
mod progress;
mod registry;
mod reload;
mod reload_handle;
mod revert;
mod server_gate;
mod shared;
#[cfg(test)]
mod simulation;
mod spelling;
mod startup;
mod state;
mod switch_state;
mod target_state;
mod tell_heads;
#[cfg(test)]
mod tests;
mod trace;
mod unchanged;
mod undo;
mod wait;
mod window;

pub(crate) use clock::now_ms;
pub use config_check::{Declarations, Declared, StoreCheck, check_groups, check_stores};
pub use default::FileDefault;
pub use fleet::FleetInfo;
pub use handle::ControlHandle;
pub(crate) use long_calls::LongCall;
pub use reload_handle::{PreparedReload, StoredReload};
#[cfg(test)]
pub(crate) use simulation::probe as simulated_probe;
pub use undo::UndoWhat;
pub use window::WindowTimes;
