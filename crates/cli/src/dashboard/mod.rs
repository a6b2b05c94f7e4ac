//! `pointsman dashboard`: the dashboard on this machine, for the user who runs the command.
//!
//! Owns the verb's options and what it prints. The page is the one of `control_ui`; its calls go where the other verbs' go,
//! and so its actor is the user at the control socket. Must never start a browser: the secret would stand in its arguments,
//! which every user of the machine can read.

mod door;
mod peer;
mod serve;

use crate::error::{Code, Error, say};
use crate::session::Session;
use crate::time_option;
use clap::Args;
use std::time::Duration;

/// Show the dashboard in a browser on this machine
#[derive(Debug, Args)]
#[command(after_help = "\
Prints an address that can be opened once, in a browser of the same user. It listens on 127.0.0.1 only, and ends \
with the command, or when no page has sent a request for some time. From another machine: ssh -L PORT:127.0.0.1:PORT \
HOST,
with --port PORT.")]
pub(crate) struct Dashboard {
    /// Let the page give orders: switch, split, undo, confirm, hold, release, change servers; read-only by default
    #[arg(long)]
    operate: bool,
    /// Port to listen on; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Exit when no page has sent a request for this long
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = time_option::time)]
    idle: String,
}

impl Dashboard {
    pub(crate) fn run(&self, session: Session) -> Result<Code, Error> {
        let idle_ms = time_option::ms(&self.idle);
        // What is wrong with the server is told here, and not on an empty page.
        session.switches()?;
        serve::serve(session.client, self.operate, self.port, Duration::from_millis(idle_ms), |address| {
            let rights = match self.operate {
                true => "It may act, as you",
                false => "It is read-only (--operate lets it act)",
            };
            say(&format!(
                "{address}\n\nOpen it in a browser on this machine; it opens once. {rights}. It ends with this command, or after {} \
                 without a request.\n",
                self.idle
            ))
        })?;
        Ok(Code::Done)
    }
}
