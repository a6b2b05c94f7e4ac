//! The control plane of one process: it takes orders, checks them, keeps them, publishes them, and tells what became of
//! them.
//!
//! Owns: stores on disk, gates, receipts, the API. Must never: stand in the way of a request.
