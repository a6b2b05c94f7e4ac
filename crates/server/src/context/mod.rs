//! State shared by the requests of a thread: its generation, its clock and counters, its logs, its open connections.

pub(crate) mod conn_guard;
pub(crate) mod conn_state;
pub(crate) mod counters;
pub(crate) mod deadlines;
pub(crate) mod generation;
pub(crate) mod listen_socket;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod shared_state;
pub(crate) mod thread_context;
pub(crate) mod timeout;
