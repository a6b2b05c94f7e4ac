//! `pointsman fleet`: the nodes that switch as one.
//!
//! Owns the verb's options and the form of what it prints. Must never reach etcd: the node does.

use crate::client::{Call, encoded};
use crate::error::{Code, Error, say, say_json};
use crate::format;
use crate::order_options::{ActorOption, order_call};
use crate::session::Session;
use clap::{Args, Subcommand};
use control::api::types::{Fleet, FleetNode, FleetOrder, FleetRestored};
use hyper::Method;

/// Show or change the nodes that switch together
#[derive(Debug, Args)]
pub(crate) struct FleetCommand {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    actor: ActorOption,
}

/// An action on the fleet.
#[derive(Debug, Subcommand)]
enum What {
    /// Show the nodes, as known to this one (the default)
    Status,
    /// Create the fleet, once, with this node in it
    Init,
    /// Add this node to the fleet
    Join,
    /// Remove a node from the fleet: orders no longer wait for it
    Remove {
        /// Its name
        node: String,
    },
    /// Write to etcd what this node's copies have and etcd lacks, after it was wiped or an older snapshot was restored
    Restore,
}

impl FleetCommand {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let order =
            |method: Method, path: &str| order_call(method, path.to_owned(), &FleetOrder {}, &self.actor);
        let call = match &self.what {
            None | Some(What::Status) => Call::get("/v1/fleet"),
            Some(What::Init) => order(Method::POST, "/v1/fleet/init"),
            Some(What::Join) => order(Method::POST, "/v1/fleet/join"),
            Some(What::Remove { node }) => {
                order(Method::DELETE, &format!("/v1/fleet/nodes/{}", encoded(node)))
            }
            Some(What::Restore) => return restore(session, &order(Method::POST, "/v1/fleet/restore")),
        };
        let (fleet, body) = session.client.ask::<Fleet>(&call)?;
        if session.json {
            say_json(&body)?;
        } else {
            say(&text(&fleet))?;
        }
        Ok(Code::Done)
    }
}

fn restore(session: &Session, call: &Call) -> Result<Code, Error> {
    let (restored, body) = session.client.ask::<FleetRestored>(call)?;
    if session.json {
        say_json(&body)?;
    } else {
        let commits = format::count(restored.commits, "commit");
        say(&format!("{commits} written to etcd\n"))?;
    }
    Ok(Code::Done)
}

fn text(fleet: &Fleet) -> String {
    let id = fleet.id.as_deref().unwrap_or("none");
    let mut out = format!("node {}, fleet {id}, {} in etcd at {}\n", fleet.node, fleet.prefix, fleet.etcd);
    if let Some(trouble) = &fleet.trouble {
        out.push_str(&format!("  {}\n  {}\n", trouble.text, trouble.remedy));
    }
    let width = fleet.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0);
    for node in &fleet.nodes {
        out.push_str(&format!("  {:width$}  {}\n", node.name, line(node)));
    }
    out
}

fn line(node: &FleetNode) -> String {
    let seen = match (node.own, node.silent, node.seen_ms_ago) {
        (true, ..) => "this node".to_owned(),
        (_, false, Some(ms)) => format!("seen {}.{} s ago", ms / 1000, ms % 1000 / 100),
        (_, _, Some(ms)) => format!("SILENT for {}.{} s", ms / 1000, ms % 1000 / 100),
        (_, _, None) => "SILENT".to_owned(),
    };
    let revisions: Vec<String> =
        node.revisions.iter().map(|(switch, revision)| format!("{switch} at revision {revision}")).collect();
    format!("{seen}, configured {}, pointsman {}; {}", node.digest, node.version, revisions.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_node_stands_out() {
        let node = |name: &str, silent, seen_ms_ago| FleetNode {
            name: name.to_owned(),
            silent,
            seen_ms_ago,
            version: "1".into(),
            digest: "d".into(),
            revisions: [("live".to_owned(), 7)].into(),
            ..FleetNode::default()
        };
        assert_eq!(
            line(&node("a", false, Some(410))),
            "seen 0.4 s ago, configured d, pointsman 1; live at revision 7"
        );
        assert!(line(&node("a", true, Some(61_500))).starts_with("SILENT for 61.5 s, "));
        assert!(line(&node("a", true, None)).starts_with("SILENT, "));
    }
}
