//! Runs case files: one text file is one end-to-end statement about a server that reads nginx.conf, true on our own
//! binary and on real nginx alike.
//!
//! Owns the format (`cases/README.md`), scripted origins and clients, and the running of many cases side by side.
//! It is for tests and load generators; nothing that is shipped may depend on it, and it must not depend on what it tests.

mod answers;
mod case;
mod case_state;
mod client;
mod connection;
mod etcd;
mod failure;
pub mod faults;
pub mod hostile;
mod logs;
mod message;
mod names;
mod namespace;
mod origin;
mod parse;
mod pattern;
pub mod ports;
pub mod proc;
mod process;
mod process_group;
mod run;
mod seed;
mod suite;
mod test_dir;
mod tls;

pub use case::{Case, Kind, Step};
pub use etcd::EtcdProcess;
pub use failure::Failure;
pub use process::{Binary, until};
pub use process_group::{ProcessGroup, StopAtEnd, output_of};
pub use run::{CaseOutcome, bless, run};
pub use seed::seed_cases;
pub use suite::{Tally, load_all, run_all, usual_threads};
pub use test_dir::TestDir;
