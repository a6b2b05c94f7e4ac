//! A million requests while a Lua script's choice of the group is switched, as the Lua tutorial does it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use crate::Plan;
use crate::client::Client;
use crate::load::Load;
use crate::server::{SEVERE, Server, test_dir};

const SWITCHES: u64 = 50;
const GROUPS: [&str; 2] = ["default_upstream", "lua_upstream"];

/// A gateway that reads the group from a shared dict, and the servers behind it.
const CONF: &str = include_str!("switches.conf");

/// Runs the test; returns a summary.
pub(crate) fn run(plan: &Plan) -> Result<String, String> {
    let text = match &plan.conf {
        Some(path) => fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?,
        None => CONF.to_owned(),
    };
    let dir = Rc::new(test_dir(&text)?);
    let ports = match &plan.conf {
        Some(_) => [80, 8081, 8082, 8083, 8084],
        None => [dir.port("front")?, dir.port("a")?, dir.port("b")?, dir.port("c")?, dir.port("d")?],
    };
    dir.write("conf/nginx.conf", dir.fill_in(&text).as_bytes(), 0o644)?;
    dir.write("conf/mime.types", b"types { text/html html; }\n", 0o644)?;
    for (folder, port) in ["html81", "html82", "html83", "html84"].iter().zip(&ports[1..]) {
        dir.write(&format!("{folder}/index.html"), format!("server name {port}\n").as_bytes(), 0o644)?;
    }
    let front = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0]));
    let server = Server::start(&plan.program(), &dir, front)?;
    let load = Load {
        front,
        groups: [[ports[1], ports[2]], [ports[3], ports[4]]],
        requests: plan.requests,
        switches: SWITCHES,
        allowed_growth_kib: 1024,
        pid: server.pid(),
    };
    let results = load.run(&mut |group| {
        let to = GROUPS[group];
        let answer = Client::connect(front)?.get(&format!("/_switch_upstream?upstream={to}"))?;
        match answer.status == 200 && answer.body.contains(to) {
            true => Ok(()),
            false => Err(format!("{} {}", answer.status, answer.body)),
        }
    })?;
    server.finish(&SEVERE)?;
    Ok(results.to_string())
}
