//! `pointsman split`: a key leads to several targets, by shares.
//!
//! Owns the verb's words. Must never work out a share: who goes where is the switch's.

use crate::client::encoded;
use crate::fault::{Code, Fault};
use crate::switch::shares;
use crate::terms::Change;
use crate::verbs::Reach;
use clap::Args;
use control::api::types::KeyOrder;
use hyper::Method;

/// Lead a key to several targets, by shares
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pointsman split shop.example.com green=10 blue=90
  pointsman split shop.example.com green=50 blue=50 --expect 17")]
pub(crate) struct Split {
    /// The key
    key: String,
    /// Each target with its weight; a share is the weight over the sum of all
    #[arg(value_name = "TARGET=WEIGHT", required = true)]
    shares: Vec<String>,
    #[command(flatten)]
    change: Change,
}

impl Split {
    pub(crate) fn run(&self, reach: &Reach) -> Result<Code, Fault> {
        let split =
            shares(self.shares.iter().map(String::as_str)).map_err(|fault| Fault::usage(fault, ""))?;
        let session = &reach.session()?;
        let order = KeyOrder { split: Some(split), ..KeyOrder::default() }.on(self.change.terms());
        let path = format!("{}/keys/{}", session.switch_path()?, encoded(&self.key));
        self.change.send(session, Method::PUT, path, &order)
    }
}
