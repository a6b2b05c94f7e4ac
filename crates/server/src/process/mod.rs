//! The processes: a master that holds the sockets, one worker process that holds the threads.
//!
//! Owns everything between the command line and the first accepted connection, and between the last answer and the
//! exit: listening sockets, log files, pid file, daemon, privileges, signals, reload, and the watch over the worker.
//! The rest of the program takes part as an [`Application`]: it loads configurations and serves them.
//!
//! It must never serve a request, know a directive, or start a thread: the master forks, and a fork of a process with
//! threads is broken.
//!
//! How it goes, as with nginx: [`run`] loads the configuration, opens logs and sockets, leaves the terminal, writes the
//! pid file and forks the worker. On HUP the master loads the configuration again and sends the bytes it read together
//! with all descriptors to the worker, which goes over to it in place; only a changed user, limit, environment or
//! number of threads takes a new worker process. A worker that dies is started again while its sockets stay open. On USR2
//! the master starts the program anew and hands it the sockets; then two masters run until one is told to end.

mod alone;
mod boot;
mod channel;
mod command;
mod control;
mod daemon;
mod disk;
mod dry_run;
mod estate;
mod journal;
mod load;
pub mod log;
mod master;
mod notify;
mod privileges;
mod running;
mod sandbox;
mod signals;
mod socket_file;
mod sockets;
mod title;
mod upgrade;
mod worker;

pub use boot::{
    Address, Application, Boot, EnvRule, Finding, Keepalive, Limits, ListenSpec, Loaded, Sandbox,
    SocketAccess, Source, UserSpec,
};
pub use command::{Tell, run, tell, test};
pub use control::{Answer, Control, Listener, Order, Ports, Reload, Reporter};
pub use disk::Disk;
pub use journal::PROGRAM;
pub use running::{Running, Step, choose_program};
pub use signals::Waker;
