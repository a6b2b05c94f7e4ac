//! The processes: a master that holds the sockets, and one worker process that holds the threads.
//!
//! Owns everything between the command line and the first accepted connection, and between the last response and the
//! exit: listening sockets, log files, pid file, daemon, privileges, signals, reload, binary upgrade, and the supervision
//! of the worker. The rest of the program takes part as an [`Application`]: it loads configurations and serves them.
//!
//! It must never serve a request, know a directive, or start a thread: the master forks, and a fork of a process with
//! threads is broken.
//!
//! The sequence is nginx's: [`run`] loads the configuration, opens logs and sockets, daemonizes, writes the pid file and
//! forks the worker. On HUP the master loads the configuration again and sends the bytes that it read, with all
//! descriptors, to the worker, which switches to it in place; only a changed user, limit, environment or number of
//! threads takes a new worker process. A worker that dies is started again while its sockets stay open. On USR2 the
//! master starts the program anew and hands the sockets to it; then two masters run until one is stopped.

mod application;
mod channel;
mod command;
mod daemon;
mod dry_run;
mod given_folder;
mod handover;
mod late_files;
mod load;
pub mod log;
mod master;
mod master_link;
mod notify;
mod privileges;
mod proc_title;
mod process_log;
mod process_tree;
mod requirements;
mod resources;
mod running;
mod sandbox;
mod signals;
mod single_process;
mod socket_file;
mod sockets;
mod source;
mod start;
mod upgrade;
mod worker;
mod worker_command;

pub use application::{Application, Finding, Loaded};
pub use command::{MasterCommand, run, signal_master, test};
pub use master_link::{MasterLink, Reporter, WorkerInit};
pub use privileges::DEFAULT_USER;
pub use process_log::PROGRAM;
pub use process_tree::ProcessTree;
pub use requirements::{
    Address, Directories, EnvRule, Keepalive, LateFiles, Limits, ListenSpec, Requirements, Sandbox,
    SocketAccess, UserSpec,
};
pub use running::{RunningMaster, UpgradeStep, choose_program};
pub use signals::Waker;
pub use source::{Disk, Source};
pub use worker_command::{Listener, Reload, ReloadOutcome, WorkerCommand};
