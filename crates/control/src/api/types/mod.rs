//! The API's JSON: one set of types for the server and the command line.
//!
//! Owns the names of the fields, which are a promise to programs, and the schemas of the OpenAPI description. Must never
//! decide anything: the terms are `switch`'s and `statistics`' own. Times are milliseconds since 1970 (`_ms`) or microseconds (`_us`); durations in requests are strings as in
//! nginx.conf ("10m", "1h30m").

mod cache;
mod certificate;
mod check;
mod commit;
mod event;
mod fleet;
mod journal;
mod object;
mod order;
mod problem;
mod series;
mod server;
mod shares;
mod status;
mod table;

pub use crate::horizon::{AnswerCounts, Horizon, HorizonState, TargetAnswers};
pub use crate::receipt::{
    ChangedServer, Drain, DrainState, FleetReceipt, GateResult, Held, KeyChange, MovedTraffic, NodeReceipt,
    OldestRequest, Outcome, Receipt, ServerResult, WorkerAck,
};
pub use cache::{Cache, Caches, PurgeOrder, PurgedCache};
pub use certificate::{IssuedCertificate, IssuedCertificates, RevocationReason, RevokeOrder};
pub use check::{CheckOrder, Checked, DeclaredSwitch};
pub use commit::{Change, Commit, Diff, DiffKey, History, Subject, Verified};
pub use event::{Event, Happening};
pub use fleet::{Fleet, FleetNode, FleetOrder, FleetRestored};
pub use journal::{Journal, JournalItem, VerifiedJournal};
pub(super) use object::Object;
pub use order::{
    Confirm, HoldOrder, HoldStreams, HoldTerms, HoldThen, KeyOrder, ManyOrder, OneChange, ReleaseOrder,
    ReloadOrder, Reloaded, ResetOrder, Terms, UndoOrder, Wait,
};
pub use problem::Problem;
pub use series::{GroupSeries, SeriesPoint, TrafficSeries};
pub use server::{
    GroupMakeOrder, Groups, NewServer, SaidOfServer, Server, ServerAct, ServerChange, ServerGroup,
    ServerLookup, ServerOrigin, ServerParamsOrder, ServerSettings, ServersOrder,
};
pub use status::{
    Certificate, Comparison, Connections, FailingLookup, Group, HealthCheck, Judged, KeyTraffic,
    LastHealthCheck, Latency, Peer, Side, Status, Traffic, Verdict,
};
pub use table::{
    CommitNote, Draining, Hold, HoldState, Key, KeyEntry, KeyPage, Overdue, Pending, StoreFault, Switch,
    Switches,
};
