//! `pointsman split`: divides a key's traffic between several targets.
//!
//! Owns the verb's options. Must never work out a share: which client goes where is up to the switch.

use crate::client::encoded;
use crate::error::{Code, Error};
use crate::order_options::{KeyOptions, OrderOptions};
use crate::session::GlobalOptions;
use crate::switch::weights_of;
use clap::Args;
use control::api::types::KeyOrder;
use hyper::Method;

/// Divide a key's traffic between several targets by weight
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pointsman split shop.example.com green=10 blue=90
  pointsman split shop.example.com green=50 blue=50 --expect 17")]
pub(crate) struct Split {
    /// The key
    key: String,
    /// Targets with their weights; a target's share is its weight divided by the sum of all
    #[arg(value_name = "TARGET=WEIGHT", required = true)]
    weights: Vec<String>,
    #[command(flatten)]
    keyed: KeyOptions,
    #[command(flatten)]
    options: OrderOptions,
}

impl Split {
    pub(crate) fn run(&self, global: &GlobalOptions) -> Result<Code, Error> {
        let split =
            weights_of(self.weights.iter().map(String::as_str)).map_err(|fault| Error::usage(fault, ""))?;
        let session = &global.session()?;
        session.refuse_groups()?;
        let order =
            KeyOrder { split: Some(split), ..KeyOrder::default() }.on(self.keyed.terms(&self.options));
        let path = format!("{}/keys/{}", session.switch_path()?, encoded(&self.key));
        self.options.send(session, Method::PUT, path, &order)
    }
}
