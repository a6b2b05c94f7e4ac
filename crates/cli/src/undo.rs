//! `pointsman undo`: back to what it was before.
//!
//! Owns the verb's words. Must never look for the commit itself: the history is the server's.

use crate::fault::{Code, Fault};
use crate::terms::Change;
use crate::verbs::Session;
use clap::Args;
use control::api::types::UndoOrder;
use hyper::Method;

/// Go back to what it was before: the last commit, a certain commit, or the last change of some keys
#[derive(Debug, Args)]
#[command(after_help = "\
An undo is a commit too, and can be undone by its number. Undo again, and it goes back one change more.

Examples:
  pointsman undo
  pointsman undo shop.example.com
  pointsman undo --commit 17")]
pub(crate) struct Undo {
    /// Only these keys, each to what it was before its last change
    #[arg(value_name = "KEY", conflicts_with = "commit")]
    keys: Vec<String>,
    /// All that this commit changed
    #[arg(long, value_name = "REVISION")]
    commit: Option<u64>,
    #[command(flatten)]
    change: Change,
}

impl Undo {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Fault> {
        let order = UndoOrder { keys: self.keys.clone(), commit: self.commit, ..UndoOrder::default() };
        let path = format!("{}/undo", session.switch_path()?);
        self.change.send(session, Method::POST, path, &order.on(self.change.terms()))
    }
}
