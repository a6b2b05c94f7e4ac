//! The switch as a value: the table of keys, orders and their plans, refusals, history, and the contract of a store.
//!
//! Owns: what a switch means and when it is refused.
//! Must never: open a file, read a clock, or know who serves the traffic.
//!
//! An order takes these steps:
//!
//! 1. [`plan()`] checks an [`Order`] against the [`Table`] and the [`Rules`]: a [`Plan`], or a [`Refusal`].
//! 2. The control plane asks the gate about [`Plan::targets`].
//! 3. [`Plan::commit`] makes the [`Commit`], chained to the one before by its hash, and [`Store::commit`] makes it
//!    durable.
//! 4. [`Table::apply`] makes the next table from the commits in the store, and [`Tables`] is published to the workers.
//!
//! A request: [`normalise`] its key, [`Table::find`] the entry, [`Route::pick`] the target.

mod boot_time;
mod commit;
mod default;
mod group;
mod group_checks;
mod group_plan;
mod hold;
mod key;
mod kind;
mod memory_store;
mod order;
mod overlay;
mod plan;
mod refusal;
mod remade;
mod route;
mod rules;
mod server;
mod server_plan;
mod store;
mod subject;
mod subject_undo;
mod table;
mod tables;
mod undo;
mod visible;

pub use boot_time::{BootTime, ClockReading, Deadline};
pub use commit::{Chain, ChainBreak, ChainFault, Change, Commit, Hash, verify_chain};
pub use default::UndoneDefault;
pub use group::{
    DYNAMIC, GroupOrder, GroupUse, GroupVerb, MadeGroup, RunTimeRules, all_groups, check_made, find_group,
    gone_group, gone_groups, made_groups,
};
pub use hold::{Hold, HoldLimits, HoldPhase, HoldState, Ticket};
pub use key::{Key, KeyFault, KeyKind, Shape, normalise};
pub use kind::CommitKind;
pub use memory_store::MemoryStore;
pub use order::{Action, Expected, Meta, Order};
pub use overlay::{
    BaseGroup, BaseServer, EffectiveGroup, EffectiveServer, OverlayServer, ServerSource,
    apply as apply_overlay, overlay_of,
};
pub use plan::{Plan, plan};
pub use refusal::{Code, Details, Refusal};
pub use route::{MAX_SHARES, Route, RouteFault, Share, Split, point_of, salted_point_of};
pub use rules::{Orphan, Rules};
pub use server::{
    GROUP_SUBJECT, SERVER_SUBJECT, ServerEntry, ServerOrder, ServerParams, ServerVerb, named_server,
    server_address, time_text,
};
pub use store::{Filter, GroupFilter, Loaded, Pending, Store, StoreFault, StoreFaultKind, commit_at};
pub use subject::{DEFAULT_IN_FILE, DEFAULT_SUBJECT, KEY_SUBJECT, SubjectChange, SubjectValue, Subjects};
pub use table::{Table, TableEntry};
pub use tables::Tables;
pub use undo::{Undoing, UndoneKey, UndoneSubject};
pub use visible::{is_hidden, shown_key, visible, visible_json};
