//! `pointsman group`: groups that are made at run time.
//!
//! Owns the verb's options and the form of the list. Must never judge a name or an address: the server does.

use crate::client::{Call, encoded};
use crate::error::{Code, Error, say, say_json};
use crate::format::{self, Table};
use crate::order_options::OrderOptions;
use crate::server_verb::{by, settings};
use crate::session::Session;
use clap::{Args, Subcommand};
use control::api::types::{
    GroupMakeOrder, Groups, NewServer, ResetOrder, ServerGroup, ServerOrigin, ServerSettings,
};
use hyper::Method;

/// Create, remove and list groups of servers
#[derive(Debug, Args)]
#[command(after_help = "\
A group created this way survives reloads and restarts. Keys can be switched to it in every switch whose targets \
allow it:
targets blue green dynamic;
Change its servers with pointsman server. The history is that of the switch \"groups\": pointsman history --switch groups,
pointsman undo --switch groups.

Examples:
  pointsman group create teal --like blue --server 10.0.0.7:8081 --server '10.0.0.8:8081 weight=2' --gate
  pointsman switch shop.example.com teal
  pointsman group remove teal")]
pub(crate) struct GroupCommand {
    #[command(subcommand)]
    act: Option<Act>,
}

/// The action.
#[derive(Debug, Subcommand)]
enum Act {
    /// Make a group
    Create(Box<Create>),
    /// Remove a group created at run time
    Remove(Box<Remove>),
    /// Show all groups (the default)
    List,
}

#[derive(Debug, Args)]
struct Create {
    /// Name of the new group, in lower case
    name: String,
    /// Group to take the settings from: balancer, keepalive, zone, health checks. By default, those of an empty upstream
    /// block
    #[arg(long, value_name = "GROUP")]
    like: Option<String>,
    /// Server by its address, with parameters as in a server line: '10.0.0.7:8081 weight=2'. May be repeated
    #[arg(long, value_name = "SERVER", required = true)]
    server: Vec<String>,
    /// Check the servers, even if no switch with a gate admits groups created at run time
    #[arg(long)]
    gate: bool,
    #[command(flatten)]
    options: OrderOptions,
}

#[derive(Debug, Args)]
struct Remove {
    /// Group
    name: String,
    #[command(flatten)]
    options: OrderOptions,
}

impl GroupCommand {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        match &self.act {
            None | Some(Act::List) => list(session),
            Some(Act::Create(create)) => create.run(session),
            Some(Act::Remove(remove)) => {
                let Remove { name, options } = &**remove;
                options.send(session, Method::DELETE, path(name), &ResetOrder::default().on(options.terms()))
            }
        }
    }
}

impl Create {
    fn run(&self, session: &Session) -> Result<Code, Error> {
        let servers = self.server.iter().map(|words| server(words)).collect::<Result<_, String>>();
        let servers =
            servers.map_err(|fault| Error::usage(fault, "write --server 'ADDRESS [PARAMETER...]'"))?;
        let order =
            GroupMakeOrder { like: self.like.clone(), servers, gate: self.gate, ..GroupMakeOrder::default() };
        self.options.send(session, Method::PUT, path(&self.name), &order.on(self.options.terms()))
    }
}

fn path(name: &str) -> String {
    format!("/v1/groups/{}", encoded(name))
}

/// Parses a server with its parameters.
fn server(words: &str) -> Result<NewServer, String> {
    let mut words = words.split_whitespace().map(str::to_owned);
    let server = words.next().ok_or("the server is empty")?;
    let params = settings(&words.collect::<Vec<_>>())?;
    Ok(NewServer { server, params: (params != ServerSettings::default()).then_some(params) })
}

/// Shows all groups.
pub(crate) fn list(session: &Session) -> Result<Code, Error> {
    let (found, body) = session.client.ask::<Groups>(&Call::get("/v1/groups"))?;
    if session.json {
        say_json(&body)?;
    } else {
        say(&(text(&found.groups) + &format::groups_fault(found.store_fault.as_ref())))?;
    }
    Ok(Code::Done)
}

/// Returns the groups for people.
fn text(groups: &[ServerGroup]) -> String {
    let mut table = Table::new(&["group", "state", "servers", "like", "said by", "used by"]);
    for group in groups {
        let said = match (&group.made, group.source) {
            _ if group.state == "gone" => {
                format!("orders on {} alone", format::count(group.dormant.len() as u64, "server"))
            }
            (Some(made), ServerOrigin::Order) => format!("made by {}", by(made)),
            (Some(made), _) => format!("file, and made by {}", by(made)),
            (None, _) => "file".to_owned(),
        };
        table.row([
            group.name.clone(),
            group.state.clone(),
            format::count(group.servers.len() as u64, "server"),
            group.like.clone().unwrap_or_else(|| "-".to_owned()),
            said,
            if group.used_by.is_empty() { "nothing".to_owned() } else { group.used_by.join(", ") },
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_comes_with_its_parameters() {
        let found = server("10.0.0.7:8081 weight=2 backup").unwrap();
        let params = found.params.unwrap();
        assert_eq!((&*found.server, params.weight, params.backup), ("10.0.0.7:8081", Some(2), Some(true)));
        assert_eq!(server(" 10.0.0.7 ").unwrap(), NewServer { server: "10.0.0.7".into(), params: None });
        for words in ["", "10.0.0.7 wieght=2"] {
            assert!(server(words).is_err(), "{words}");
        }
    }

    #[test]
    fn groups_are_shown_with_who_made_them() {
        let json = r#"[{"name":"blue","source":"file","state":"healthy","servers":[],"used_by":["switch \"live\""]},
            {"name":"teal","source":"order","like":"blue","state":"down","servers":[],"used_by":[],
             "made":{"server":"","says":"made","revision":7,"actor":"anna","time_ms":1}}]"#;
        let groups: Vec<ServerGroup> = serde_json::from_str(json).unwrap();
        let text = text(&groups);
        let rows: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(rows[1], "blue healthy 0 servers - file switch \"live\"");
        assert_eq!(rows[2], "teal down 0 servers blue made by anna at revision 7 nothing");
    }
}
