//! `pointsman server`: the servers of a group, and orders on them.
//!
//! Owns the verb's options, the parsing of changes, and the form of the list. Must never judge an address: the server does.

use crate::client::{Call, encoded};
use crate::error::{Code, Error, say, say_json};
use crate::format::{self, Table};
use crate::order_options::{self, OrderOptions};
use crate::session::Session;
use clap::{Args, ValueEnum};
use control::api::types::{
    Groups, SaidOfServer, Server as GroupServer, ServerAct, ServerChange, ServerGroup, ServerLookup,
    ServerOrigin, ServerSettings, ServersOrder, Switch,
};
use engine::modules::switch::GROUPS_NAME;
use hyper::Method;
use std::path::{Path, PathBuf};

/// The action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Act {
    /// Show the servers (the default)
    List,
    /// Add a server
    Add,
    /// Set parameters of a server; the others are kept
    Set,
    /// Send a server no new requests; those in flight finish there
    Drain,
    /// The same, and stop its health checks
    Down,
    /// Send a server requests again
    Up,
    /// Remove a server, whatever the configuration says
    Remove,
    /// Return to the configuration, for one server or all
    Reset,
    /// Keep the servers that were looked up, whatever later lookups find
    Pin,
    /// Print the servers as lines for the configuration
    Export,
}

/// List and change the servers of groups
#[derive(Debug, Args)]
#[command(
    override_usage = "\
pointsman server [OPTIONS] [GROUP [list|export]]
       pointsman server [OPTIONS] GROUP add|set SERVER [PARAMETER...]
       pointsman server [OPTIONS] GROUP drain|down|up|remove|reset SERVER...
       pointsman server [OPTIONS] GROUP reset|pin
       pointsman server [OPTIONS] GROUP --from FILE",
    after_help = "\
Parameters are those of a server line: weight=3 max_conns=100 max_fails=1 fail_timeout=10s slow_start=30s backup.
Orders outlive reloads and restarts. Their history is that of the switch \"groups\": pointsman history --switch groups,
pointsman undo --switch groups.

Examples:
  pointsman server green
  pointsman server green add 10.0.0.7:8081 weight=2 -m 'one more'
  pointsman server green drain 10.0.0.5:8081 --wait drained --timeout 10m
  pointsman server green remove 10.0.0.5:8081
  pointsman server green --from changes.txt --dry-run"
)]
pub(crate) struct ServerArgs {
    /// Group; all if omitted
    #[arg(value_name = "GROUP")]
    group: Option<String>,
    /// Action
    #[arg(value_name = "ACTION", value_enum, conflicts_with = "from")]
    act: Option<Act>,
    /// Server, by its address or as the configuration has it written, and its parameters
    #[arg(value_name = "SERVER", conflicts_with = "from")]
    words: Vec<String>,
    /// Read changes for one commit from a file ("-" for standard input): on each line an action, a server and its
    /// parameters
    #[arg(long, value_name = "FILE", requires = "group")]
    from: Option<PathBuf>,
    /// Check servers that are added or brought up, even if no switch with a gate leads to their group
    #[arg(long)]
    gate: bool,
    #[command(flatten)]
    options: OrderOptions,
}

impl ServerArgs {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let Some(group) = &self.group else { return list_all(session) };
        let path = format!("/v1/groups/{}/servers", encoded(group));
        let changes = match (&self.from, self.act.unwrap_or(Act::List)) {
            (Some(file), _) => read(file)?,
            (None, Act::List | Act::Export) if !self.words.is_empty() => {
                return Err(Error::usage("list and export take no server", "leave it out"));
            }
            (None, Act::List) => return list(session, path),
            (None, Act::Export) => return export(session, path),
            (None, act) => changes(act, &self.words).map_err(|fault| Error::usage(fault, USAGE))?,
        };
        let order = ServersOrder { changes, gate: self.gate, ..ServersOrder::default() };
        self.options.send(session, Method::POST, path, &order.on(self.options.terms()))
    }
}

/// How changes are written.
const USAGE: &str = "write add|set SERVER [PARAMETER...], drain|down|up|remove|reset SERVER..., reset or pin";

/// Returns the changes that the words of a command or of a line mean.
fn changes(act: Act, words: &[String]) -> Result<Vec<ServerChange>, String> {
    let one = |act: ServerAct, server: &str, params: Option<ServerSettings>| ServerChange {
        act,
        server: server.to_owned(),
        params,
    };
    let act = match act {
        Act::Add => ServerAct::Add,
        Act::Set => ServerAct::Set,
        Act::Drain => ServerAct::Drain,
        Act::Down => ServerAct::Down,
        Act::Up => ServerAct::Up,
        Act::Remove => ServerAct::Remove,
        Act::Reset => ServerAct::Reset,
        Act::Pin => ServerAct::Pin,
        Act::List | Act::Export => return Err("list and export are no changes".to_owned()),
    };
    match (act, words) {
        (ServerAct::Add | ServerAct::Set, [server, params @ ..]) => {
            let params = settings(params)?;
            Ok(vec![one(act, server, (params != ServerSettings::default()).then_some(params))])
        }
        (ServerAct::Reset | ServerAct::Pin, []) => Ok(vec![one(act, "", None)]),
        (ServerAct::Pin, _) => Err("pin takes no server: it is of the whole group".to_owned()),
        (_, []) => Err("the server is missing".to_owned()),
        (_, servers) => Ok(servers.iter().map(|server| one(act, server, None)).collect()),
    }
}

/// Parses parameters as in a `server` line.
pub(crate) fn settings(words: &[String]) -> Result<ServerSettings, String> {
    let mut settings = ServerSettings::default();
    for word in words {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.as_str(), None),
        };
        let number = || {
            value.and_then(|value| value.parse().ok()).ok_or(format!("invalid {word:?}: expected {name}=N"))
        };
        let time = || value.map(str::to_owned).ok_or(format!("invalid {word:?}: expected {name}=30s"));
        let flag = || match value {
            None | Some("on") => Ok(true),
            Some("off") => Ok(false),
            Some(_) => Err(format!("invalid {word:?}: expected {name}, or {name}=off")),
        };
        match name {
            "weight" => settings.weight = Some(number()?),
            "max_conns" => settings.max_conns = Some(number()?),
            "max_fails" => settings.max_fails = Some(number()?),
            "fail_timeout" => settings.fail_timeout = Some(time()?),
            "slow_start" => settings.slow_start = Some(time()?),
            "backup" => settings.backup = Some(flag()?),
            "drain" => settings.drain = Some(flag()?),
            "down" => settings.down = Some(flag()?),
            _ => {
                let known = ["weight", "max_conns", "max_fails", "fail_timeout", "slow_start", "backup"];
                let meant = conf::nearest(name, known.into_iter());
                let meant = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
                return Err(format!("unknown parameter {word:?}{meant}"));
            }
        }
    }
    Ok(settings)
}

fn read(file: &Path) -> Result<Vec<ServerChange>, Error> {
    let text = order_options::text_of(file)?;
    lines(&text).map_err(|(line, fault)| Error::usage(format!("{}:{line}: {fault}", file.display()), USAGE))
}

/// Parses a list of changes; an error comes with its line.
fn lines(text: &str) -> Result<Vec<ServerChange>, (usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let [first, rest @ ..] = &words[..] else { continue };
        if first.starts_with('#') {
            continue;
        }
        let act =
            Act::from_str(first, false).map_err(|_| (index + 1, format!("unknown action \"{first}\"")))?;
        found.extend(changes(act, rest).map_err(|fault| (index + 1, fault))?);
    }
    Ok(found)
}

fn list_all(session: &Session) -> Result<Code, Error> {
    let (found, body) = session.client.ask::<Groups>(&Call::get("/v1/groups"))?;
    if session.json {
        say_json(&body)?;
    } else {
        let texts: Vec<String> = found.groups.iter().map(text).collect();
        say(&(texts.join("\n") + &format::groups_fault(found.store_fault.as_ref())))?;
    }
    Ok(Code::Done)
}

fn list(session: &Session, path: String) -> Result<Code, Error> {
    let (group, body) = session.client.ask::<ServerGroup>(&Call::get(path))?;
    if session.json {
        say_json(&body)?
    } else {
        let path = format!("/v1/switches/{GROUPS_NAME}");
        let fault = session.client.ask::<Switch>(&Call::get(path))?.0.store_fault;
        say(&(text(&group) + &format::groups_fault(fault.as_ref())))?
    }
    Ok(Code::Done)
}

fn export(session: &Session, path: String) -> Result<Code, Error> {
    let (group, body) = session.client.ask::<ServerGroup>(&Call::get(path))?;
    if session.json {
        say_json(&body)?
    } else {
        say(&exported(&group))?
    }
    Ok(Code::Done)
}

/// Returns a group and its servers for people.
fn text(group: &ServerGroup) -> String {
    let used = match &group.used_by[..] {
        [] => "used by nothing".to_owned(),
        used => format!("used by {}", used.join(", ")),
    };
    let made = match (&group.made, &group.like) {
        (Some(made), Some(like)) => format!(", made like {like} by {}", by(made)),
        (Some(made), None) => format!(", made by {}", by(made)),
        (None, _) => String::new(),
    };
    let servers = format::count(group.servers.len() as u64, "server");
    let mut out = match &*group.state {
        "gone" => format!(
            "{0}: the configuration does not have it any more; pointsman server {0} reset forgets what orders say of it\n",
            group.name
        ),
        _ => format!("{}: {servers}, {used}{made}\n", group.name),
    };
    if !group.servers.is_empty() {
        let is_dated = group.servers.iter().any(|server| server.since_ms.is_some());
        let is_checked = group.servers.iter().any(|server| !server.checks.is_empty());
        let heads = ["  server", "state", "since", "parameters", ">in flight", "last check", "said by"];
        let is_shown = |head: &&str| match *head {
            "since" => is_dated,
            "last check" => is_checked,
            _ => true,
        };
        let mut table = Table::new(&heads.iter().copied().filter(is_shown).collect::<Vec<_>>());
        for server in &group.servers {
            let said = match (&server.said, server.source) {
                (Some(said), ServerOrigin::Order) => format!("added, last order by {}", by(said)),
                (Some(said), ServerOrigin::File) => format!("file, last order by {}", by(said)),
                (Some(said), ServerOrigin::Discovered) => format!("discovered, last order by {}", by(said)),
                (None, ServerOrigin::Discovered) => "discovered".to_owned(),
                (None, _) => "file".to_owned(),
            };
            let cells = [
                format!("  {}", server.server),
                server.state.clone(),
                server.since_ms.map(format::moment).unwrap_or_default(),
                words(&server.params),
                server.in_flight.to_string(),
                last_checks(server),
                said,
            ];
            let shown = heads.iter().zip(cells).filter(|(head, _)| is_shown(head));
            table.row(shown.map(|(_, cell)| cell));
        }
        out.push_str(&table.text());
    }
    group.sources.iter().for_each(|source| out.push_str(&looked_up(source)));
    if let Some(pinned) = &group.pinned {
        out.push_str(&format!("  pinned by {}: what is looked up does not count\n", by(pinned)));
    }
    for said in &group.removed {
        let still = match said.source {
            Some(ServerOrigin::Discovered) => "it is still found there",
            _ => "the file still has it",
        };
        out.push_str(&format!("  {} was removed by {}; {still}\n", said.server, by(said)));
    }
    for said in &group.dormant {
        let by = by(said);
        let why = if group.state == "gone" { "" } else { " is not in the file any more" };
        out.push_str(&format!("  {}{why}: \"{}\" by {by} has no effect\n", said.server, said.says));
    }
    out
}

/// Returns what the health checks of a server have found last.
fn last_checks(server: &GroupServer) -> String {
    let found = server.checks.iter().map(|check| {
        let reason = check.last.as_ref().map_or("not asked yet", |last| &*last.reason);
        format!("{}: {reason}", check.check)
    });
    found.collect::<Vec<_>>().join("; ")
}

/// Returns a place where servers are looked up.
pub(crate) fn looked_up(source: &ServerLookup) -> String {
    let servers = format::count(source.servers, "server");
    let seen = match source.age_ms {
        Some(ms) => format!("seen {} s ago", ms / 1000),
        None => "not seen since the start".to_owned(),
    };
    let mut out = format!("  {}: {servers}, {seen}\n", source.lookup);
    if let Some(failure) = &source.failure {
        out.push_str(&format!("    fails: {failure}\n"));
    }
    if let Some(why) = &source.not_believed {
        out.push_str(&format!("    the last answer is not believed: {why}\n"));
    }
    out
}

/// Returns who said something of a server, and when.
pub(crate) fn by(said: &SaidOfServer) -> String {
    let actor = if said.actor.is_empty() { "an unknown actor" } else { &said.actor };
    format!("{actor} at revision {}", said.revision)
}

/// Returns parameters as in a `server` line, without the state.
fn words(params: &ServerSettings) -> String {
    let number = |name: &str, value: Option<u32>| value.map(|value| format!("{name}={value}"));
    let time = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name}={value}"));
    let words = [
        number("weight", params.weight),
        number("max_conns", params.max_conns),
        number("max_fails", params.max_fails),
        time("fail_timeout", &params.fail_timeout),
        time("slow_start", &params.slow_start),
        params.backup.filter(|backup| *backup).map(|_| "backup".to_owned()),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Returns the servers as lines for the configuration. What was looked up is there by the line that says where: the servers found
/// are comments, and so is what orders say of them, which no line can.
fn exported(group: &ServerGroup) -> String {
    let line = |server: &GroupServer| {
        let mut line = format!("server {}", conf::written(&server.server));
        let params = words(&server.params);
        for word in [params.as_str(), if server.params.down == Some(true) { "down" } else { "" }] {
            if !word.is_empty() {
                line.push_str(&format!(" {word}"));
            }
        }
        let drained = if server.params.drain == Some(true) { "  # drained by order" } else { "" };
        format!("{line};{drained}\n")
    };
    let (found, own): (Vec<_>, Vec<_>) =
        group.servers.iter().partition(|server| server.source == ServerOrigin::Discovered);
    let mut out: String = own.into_iter().map(line).collect();
    for source in &group.sources {
        match &group.pinned {
            None => out.push_str(&format!("{}\n", source.line)),
            Some(_) => out.push_str(&format!("# pinned by order, and without effect: {}\n", source.line)),
        }
    }
    for server in found {
        let ordered = server.said.as_ref().map(|said| format!(", with an order over it: {}", said.says));
        out.push_str(&format!("# found there: {}{}\n", server.server, ordered.unwrap_or_default()));
    }
    let is_found = |said: &&SaidOfServer| said.source == Some(ServerOrigin::Discovered);
    for said in group.removed.iter().filter(is_found) {
        out.push_str(&format!("# found there, and removed by order: {}\n", said.server));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words_of(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn changes_are_read_from_lines() {
        let found = lines(
            "# a comment\nadd 10.0.0.7:8081 weight=2 fail_timeout=30s backup\n\nremove 10.0.0.5:8081 10.0.0.6:8081\nreset\n",
        )
        .unwrap();
        assert_eq!(found.len(), 4);
        assert_eq!((found[0].act, &*found[0].server), (ServerAct::Add, "10.0.0.7:8081"));
        let params = found[0].params.clone().unwrap();
        assert_eq!(
            (params.weight, params.fail_timeout.as_deref(), params.backup),
            (Some(2), Some("30s"), Some(true))
        );
        assert_eq!((found[2].act, &*found[2].server), (ServerAct::Remove, "10.0.0.6:8081"));
        assert_eq!((found[3].act, &*found[3].server), (ServerAct::Reset, ""));
        for (text, line, part) in [
            ("add 10.0.0.7 wieght=2", 1, "did you mean weight?"),
            ("\nkill 10.0.0.7", 2, "unknown action \"kill\""),
            ("drain", 1, "the server is missing"),
            ("add 10.0.0.7 weight=two", 1, "expected weight=N"),
            ("list", 1, "no changes"),
            ("pin 10.0.0.7", 1, "pin takes no server"),
        ] {
            let (at, fault) = lines(text).unwrap_err();
            assert_eq!(at, line, "{text}");
            assert!(fault.contains(part), "{fault}");
        }
        assert!(changes(Act::Set, &words_of("10.0.0.7 backup=off")).unwrap()[0].params.is_some());
    }

    #[test]
    fn a_group_is_shown_with_its_orders_and_exported_as_lines() {
        let json = r#"{"name":"green","source":"file","state":"degraded","used_by":["switch \"live\""],
            "servers":[
                {"server":"10.0.0.1:80","source":"file","state":"draining","params":{"weight":3,"drain":true},"in_flight":2,"failed":0,
                 "said":{"server":"10.0.0.1:80","says":"drain","revision":7,"actor":"anna","time_ms":1}},
                {"server":"10.0.0.2:80","source":"order","state":"down","params":{"down":true},"in_flight":0,"failed":0,
                 "said":{"server":"10.0.0.2:80","says":"added down","revision":8,"actor":"ben","time_ms":1}},
                {"server":"10.0.0.3:80","source":"file","state":"failed","params":{},"in_flight":0,"failed":1},
                {"server":"10.0.0.6:80","source":"discovered","state":"up","params":{},"in_flight":0,"failed":0}],
            "sources":[{"lookup":"app.test resolve","servers":1,"age_ms":12345,"failure":"2: Server failure",
                "failing_since_ms":5,"not_believed":"it would leave 0 of 1 servers"},
                {"lookup":"servers file=/a","line":"servers file=/a interval=2s;","servers":0}],
            "pinned":{"server":"","says":"pinned","revision":11,"actor":"anna","time_ms":1},
            "removed":[{"server":"10.0.0.4:80","says":"removed","revision":9,"actor":"anna","time_ms":1}],
            "dormant":[{"server":"10.0.0.5:80","says":"weight=3","revision":2,"actor":"","time_ms":1}]}"#;
        let group: ServerGroup = serde_json::from_str(json).unwrap();
        let text = text(&group);
        for part in [
            "green: 4 servers, used by switch \"live\"\n",
            "draining",
            "file, last order by anna at revision 7",
            "added, last order by ben at revision 8",
            "discovered\n",
            "  app.test resolve: 1 server, seen 12 s ago\n    fails: 2: Server failure\n    the last answer is not believed: it would leave 0 of 1 servers\n",
            "  servers file=/a: 0 servers, not seen since the start\n",
            "  pinned by anna at revision 11: what is looked up does not count\n",
            "  10.0.0.4:80 was removed by anna at revision 9; the file still has it\n",
            "  10.0.0.5:80 is not in the file any more: \"weight=3\" by an unknown actor at revision 2 has no effect\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(
            exported(&group),
            "server 10.0.0.1:80 weight=3;  # drained by order\nserver 10.0.0.2:80 down;\nserver 10.0.0.3:80;\n\
             # pinned by order, and without effect: \n\
             # pinned by order, and without effect: servers file=/a interval=2s;\n\
             # found there: 10.0.0.6:80\n"
        );
    }

    /// A server by its name, with parameters.
    fn server(name: &str, source: &str, params: &serde_json::Value) -> GroupServer {
        let json = serde_json::json!({
            "server": name, "source": source, "params": params, "state": "up", "in_flight": 0, "failed": 0,
        });
        serde_json::from_value(json).unwrap()
    }

    fn group(servers: Vec<GroupServer>) -> ServerGroup {
        let json = r#"{"name":"green","source":"file","state":"healthy","servers":[],"used_by":[]}"#;
        ServerGroup { servers, ..serde_json::from_str(json).unwrap() }
    }

    #[test]
    fn what_is_looked_up_is_exported_by_its_line() {
        let none = serde_json::json!({});
        let said = |server: &str, says: &str| -> SaidOfServer {
            let json = serde_json::json!({
                "server": server, "says": says, "revision": 7, "actor": "anna", "time_ms": 1, "source": "discovered",
            });
            serde_json::from_value(json).unwrap()
        };
        let mut found = server("10.0.0.2:80", "discovered", &serde_json::json!({"drain": true}));
        found.said = Some(said("10.0.0.2:80", "drain"));
        let lookup =
            r#"{"lookup":"app.test resolve","line":"server app.test resolve weight=2;","servers":2}"#;
        let group = ServerGroup {
            sources: vec![serde_json::from_str(lookup).unwrap()],
            removed: vec![said("10.0.0.4:80", "removed")],
            ..group(vec![
                server("10.0.0.9:80", "file", &serde_json::json!({"backup": true})),
                server("10.0.0.1:80", "discovered", &none),
                found,
                server("10.0.0.3:80", "order", &none),
            ])
        };
        assert_eq!(
            exported(&group),
            "server 10.0.0.9:80 backup;\nserver 10.0.0.3:80;\nserver app.test resolve weight=2;\n\
             # found there: 10.0.0.1:80\n# found there: 10.0.0.2:80, with an order over it: drain\n\
             # found there, and removed by order: 10.0.0.4:80\n"
        );
    }

    proptest! {
        /// What the server takes as an address ([`switch::server_address`]), with any parameters.
        #[test]
        fn exported_lines_are_read_as_the_same_servers(
            names in proptest::collection::vec(
                prop_oneof!["10\\.0\\.0\\.[1-9]:[1-9][0-9]{0,3}", "\\[2001:db8::[1-9a-f]\\]:80", "unix:/[!-~äß€]{1,30}"], 1..6),
            (weight, max_conns, max_fails) in (1..100_u32, 0..9_u32, 0..9_u32),
            (fail_timeout, slow_start) in (0..100_u32, 1..5_000_u32),
            flags in any::<[bool; 3]>(),
        ) {
            prop_assume!(names.iter().all(|name| switch::server_address(name).is_ok()));
            let [backup, down, drain] = flags;
            let params = serde_json::json!({
                "weight": weight, "max_conns": max_conns, "max_fails": max_fails, "fail_timeout": format!("{fail_timeout}s"),
                "slow_start": format!("{slow_start}ms"), "backup": backup, "down": down, "drain": drain,
            });
            let first = server("127.0.0.1:9", "file", &serde_json::json!({}));
            let others = names.iter().map(|name| server(name, "order", &params));
            let lines = exported(&group(std::iter::once(first).chain(others).collect()));
            let text = format!("events {{}} http {{ upstream green {{ {lines} }} }}");
            let parsed = conf::parse_text("/nginx.conf", text, &conf::NoFiles);
            let inputs = engine::config::Inputs {
                loader: &conf::NoFiles,
                names: &engine::config::NoNames,
                prefix: "/".into(),
                file: "/nginx.conf".into(),
                identity: Default::default(),
            };
            let (config, _) = engine::config::build(&parsed, &inputs).map_err(|faults| {
                TestCaseError::fail(format!("{lines}: {faults:?}"))
            })?;
            let peers = &config.groups[0].spec.peers[1..];
            prop_assert_eq!(peers.iter().map(|peer| peer.name.clone()).collect::<Vec<_>>(), names.clone());
            for (peer, name) in peers.iter().zip(&names) {
                prop_assert_eq!(&peer.address.to_string(), name);
                prop_assert_eq!((peer.weight, peer.max_conns, peer.max_fails), (weight, max_conns, max_fails));
                prop_assert_eq!(peer.fail_timeout_ms, u64::from(fail_timeout) * 1000);
                prop_assert_eq!((peer.slow_start_ms, peer.backup, peer.down), (u64::from(slow_start), backup, down));
            }
        }
    }
}
