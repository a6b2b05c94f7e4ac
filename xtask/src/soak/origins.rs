//! A gateway that counts and servers behind it that count too, in processes of their own.

use crate::server::{Folder, Program, Server, free_ports};
use std::net::{Ipv4Addr, SocketAddr};

const GATEWAY: &str = include_str!("figures.conf");
const ORIGINS: &str = include_str!("origins.conf");

/// How the servers answer.
const ANSWERS: &str = "location = /missing { return 404; }\n\
    location = /fail { return 500; }\n\
    location = /late { content_by_lua_block { ngx.sleep(0.003) ngx.say('at last') } }\n";

/// What a server does at once.
const QUICK: &str = "location / { return 200 'what was asked for\\n'; }";

/// A server that takes its time.
fn sleeping(seconds: &str) -> String {
    format!("location / {{ content_by_lua_block {{ ngx.sleep({seconds}) ngx.say('at last') }} }}")
}

/// The processes, and where they are.
pub(super) struct Origins {
    pub(super) gateway: Server,
    origins: Server,
    /// The gateway's folder.
    pub(super) gateway_folder: Folder,
    /// The servers' folder.
    pub(super) folder: Folder,
    pub(super) front: SocketAddr,
    /// The ports of blue's two servers and of green's.
    pub(super) ports: [u16; 4],
}

impl Origins {
    /// Starts them. `slow` makes the second server of blue, and both of green, take so many seconds.
    pub(super) fn start(program: &Program, name: &str, slow: Option<[&str; 2]>) -> Result<Origins, String> {
        let [front, ports @ ..]: [u16; 5] = free_ports()?;
        let sleep = |number: usize| slow.map_or(QUICK.to_owned(), |seconds| sleeping(seconds[number]));
        let fill = |text: &str| {
            let names = ["{a}", "{b}", "{c}", "{d}"];
            let text = names
                .iter()
                .zip(ports)
                .fold(text.to_owned(), |text, (name, port)| text.replace(name, &port.to_string()));
            text.replace("{quick}", QUICK)
                .replace("{front}", &front.to_string())
                .replace("{slower}", &sleep(1))
                .replace("{slow}", &sleep(0))
        };
        let files = [("conf/nginx.conf", fill(ORIGINS)), ("conf/answers", ANSWERS.to_owned())];
        let folder = Folder::make(&format!("{name}-origins"), &files)?;
        let gateway_folder = Folder::make(name, &[("conf/nginx.conf", fill(GATEWAY))])?;
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let origins = Server::start_in(program, &folder, at(ports[3]))?;
        let gateway = Server::start_in(program, &gateway_folder, at(front))?;
        Ok(Origins { gateway, origins, gateway_folder, folder, front: at(front), ports })
    }

    /// Ends them, so that their logs are whole.
    pub(super) fn finish(self) -> Result<(Folder, Folder), String> {
        let bad = self.gateway.finish(&["alert", "emerg", "crit"])?;
        self.origins.finish(&["alert", "emerg", "crit"])?;
        match bad.first() {
            Some(line) => Err(format!("the gateway's error log says: {line}")),
            None => Ok((self.gateway_folder, self.folder)),
        }
    }
}
