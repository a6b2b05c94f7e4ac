//! A gateway that keeps statistics, and servers behind it that log what they were sent, in processes of their own.

use std::net::SocketAddr;

use crate::server::{Program, SEVERE, Server, SharedDir, address, prepare};

const GATEWAY: &str = include_str!("statistics.conf");
const ORIGINS: &str = include_str!("origins.conf");

/// How the servers answer.
const ANSWERS: &str = "location = /missing { return 404; }\n\
    location = /fail { return 500; }\n\
    location = /late { content_by_lua_block { ngx.sleep(0.003) ngx.say('at last') } }\n";

const FAST: &str = "location / { return 200 'fast\\n'; }";

fn sleeping(seconds: &str) -> String {
    format!("location / {{ content_by_lua_block {{ ngx.sleep({seconds}) ngx.say('at last') }} }}")
}

/// The processes, and where they are.
pub(crate) struct Origins {
    gateway: Server,
    origins: Server,
    /// The directory of the gateway.
    pub(crate) gateway_dir: SharedDir,
    /// The directory of the servers.
    pub(crate) origins_dir: SharedDir,
    pub(crate) front: SocketAddr,
    /// The ports of the two servers of blue and the two of green.
    pub(crate) ports: [u16; 4],
}

impl Origins {
    /// Starts them. `slow` makes the second server of blue, and both of green, sleep for so many seconds.
    pub(crate) fn start(program: &Program, slow: Option<[&str; 2]>) -> Result<Origins, String> {
        let [blue, green] = match slow {
            Some(seconds) => seconds.map(sleeping),
            None => [FAST, FAST].map(str::to_owned),
        };
        let servers = ORIGINS.replace("{fast}", FAST).replace("{blue}", &blue).replace("{green}", &green);
        let origins_dir = prepare(&servers)?;
        origins_dir.write("conf/answers", ANSWERS.as_bytes(), 0o644)?;
        let mut ports = [0; 4];
        let mut text = GATEWAY.to_owned();
        for (port, name) in ports.iter_mut().zip(["a", "b", "c", "d"]) {
            *port = origins_dir.port(name)?;
            text = text.replace(&format!("{{port:{name}}}"), &port.to_string());
        }
        let gateway_dir = prepare(&text)?;
        let front = address(&gateway_dir, "front")?;
        let origins = Server::start(program, &origins_dir, address(&origins_dir, "d")?)?;
        let gateway = Server::start(program, &gateway_dir, front)?;
        Ok(Origins { gateway, origins, gateway_dir, origins_dir, front, ports })
    }

    /// Ends them, so that their logs are complete; returns the directories of the gateway and the servers.
    pub(crate) fn finish(self) -> Result<(SharedDir, SharedDir), String> {
        self.gateway.finish(&SEVERE)?;
        self.origins.finish(&SEVERE)?;
        Ok((self.gateway_dir, self.origins_dir))
    }
}
