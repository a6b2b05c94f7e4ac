//! `pointsman undo`: restores what was before.
//!
//! Owns the verb's options. Must never look for the commit itself: the history is the server's.

use crate::error::{Code, Error};
use crate::order_options::OrderOptions;
use crate::session::Session;
use clap::Args;
use control::api::types::UndoOrder;
use hyper::Method;

/// Undo the last commit, a given commit, or the last change of some keys
#[derive(Debug, Args)]
#[command(after_help = "\
An undo is a commit too, and can itself be undone by its number. A second undo goes back one change further.

Examples:
  pointsman undo
  pointsman undo shop.example.com
  pointsman undo --commit 17")]
pub(crate) struct Undo {
    /// Restore only these keys, each to its route before its last change
    #[arg(value_name = "KEY", conflicts_with = "commit")]
    keys: Vec<String>,
    /// Undo all changes of this commit
    #[arg(long, value_name = "REVISION")]
    commit: Option<u64>,
    #[command(flatten)]
    options: OrderOptions,
}

impl Undo {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let order = UndoOrder { keys: self.keys.clone(), commit: self.commit, ..UndoOrder::default() };
        let path = format!("{}/undo", session.switch_path()?);
        self.options.send(session, Method::POST, path, &order.on(self.options.terms()))
    }
}
