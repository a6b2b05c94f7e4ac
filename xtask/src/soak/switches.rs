//! Requests by the million while a script's choice of the group is switched under them, as the Lua tutorial does it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use super::Plan;
use super::client::Connection;
use super::load::Load;
use crate::server::{Server, free_ports};

const SWITCHES: u64 = 50;
const GROUPS: [&str; 2] = ["default_upstream", "lua_upstream"];

/// A gateway that reads the group from a shared dict, notes response times, and the servers behind it.
const CONF: &str = include_str!("switches.conf");

/// Runs it, and gives the figures.
pub(super) fn run(plan: &Plan) -> Result<String, String> {
    let (ports, text) = match &plan.conf {
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
            ([80, 8081, 8082, 8083, 8084], text)
        }
        None => {
            let ports: [u16; 5] = free_ports()?;
            let names = ["{front}", "{a}", "{b}", "{c}", "{d}"];
            let text = names
                .iter()
                .zip(ports)
                .fold(CONF.to_owned(), |text, (name, port)| text.replace(name, &port.to_string()));
            (ports, text)
        }
    };
    let mut files =
        vec![("conf/nginx.conf", text), ("conf/mime.types", "types { text/html html; }\n".to_owned())];
    for (file, port) in ["html81/index.html", "html82/index.html", "html83/index.html", "html84/index.html"]
        .iter()
        .zip(&ports[1..])
    {
        files.push((file, format!("server name {port}\n")));
    }
    let front = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0]));
    let server = Server::start(&plan.program, "switches", &files, front)?;
    let load = Load {
        front,
        groups: [[ports[1], ports[2]], [ports[3], ports[4]]],
        requests: plan.requests,
        switches: SWITCHES,
        waves_kib: 1024,
        pid: server.pid(),
    };
    let figures = load.run(&mut |group| {
        let to = GROUPS[group];
        let answer = Connection::open(front)?.ask(&format!("/_switch_upstream?upstream={to}"))?;
        match answer.status == 200 && answer.body.contains(to) {
            true => Ok(()),
            false => Err(format!("{} {}", answer.status, answer.body)),
        }
    })?;
    if let Some(line) = server.finish(&["alert", "emerg", "crit"])?.first() {
        return Err(format!("its error log says: {line}"));
    }
    Ok(figures.to_string())
}
