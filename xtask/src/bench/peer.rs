//! The programs that are compared: which binaries there are, what they call themselves, how each is started.
//!
//! nginx and HAProxy of the distribution by default; `PEER_NGINX` and `PEER_HAPROXY` add others by path, several of them
//! with `:` between. It starts nothing but `-v`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The modules that Debian's nginx loads for Lua.
const LUA_MODULES: [&str; 2] =
    ["/usr/lib/nginx/modules/ndk_http_module.so", "/usr/lib/nginx/modules/ngx_http_lua_module.so"];

/// What a program understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pointsman,
    Nginx,
    Haproxy,
}

impl Kind {
    /// The name of its first program.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Pointsman => "pointsman",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
        }
    }
}

/// A program.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// As the report calls it: of the distribution `nginx`, of those given by path `nginx 2` and so on.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) binary: PathBuf,
    /// What it says of itself.
    pub(super) version: String,
    /// Shared objects to load.
    modules: Vec<String>,
}

/// Finds them all; the second list names what is not there and why.
pub(super) fn find_all(own: &Path) -> (Vec<Peer>, Vec<String>) {
    let mut wanted = vec![(Kind::Pointsman, own.to_owned(), false)];
    for (kind, variable, usual) in
        [(Kind::Nginx, "PEER_NGINX", "/usr/sbin/nginx"), (Kind::Haproxy, "PEER_HAPROXY", "/usr/sbin/haproxy")]
    {
        wanted.push((kind, PathBuf::from(usual), true));
        let given = env::var_os(variable).unwrap_or_default();
        wanted.extend(
            env::split_paths(&given)
                .filter(|path| !path.as_os_str().is_empty())
                .map(|path| (kind, path, false)),
        );
    }
    let (mut peers, mut absent): (Vec<Peer>, Vec<String>) = Default::default();
    for (kind, binary, of_distribution) in wanted {
        let count = peers.iter().filter(|peer| peer.kind == kind).count();
        let name = if count == 0 { kind.name().to_owned() } else { format!("{} {}", kind.name(), count + 1) };
        match version(&binary) {
            Ok(version) => {
                // Modules fit the nginx that they were built for and no other.
                let found = LUA_MODULES.iter().filter(|module| Path::new(module).is_file());
                let modules = match kind == Kind::Nginx && of_distribution {
                    true => found.map(|module| (*module).to_owned()).collect(),
                    false => Vec::new(),
                };
                peers.push(Peer { name, kind, binary, version, modules });
            }
            Err(error) => absent.push(format!("{}: {error}", binary.display())),
        }
    }
    (peers, absent)
}

impl Peer {
    /// The command that runs it in the foreground with the files below a folder. The configuration is
    /// `conf/` and this peer's [`Peer::conf_file`].
    pub(super) fn command(&self, folder: &Path, as_root: bool) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(folder);
        if self.kind == Kind::Haproxy {
            command.args(["-W", "-db", "-f", "conf/haproxy.cfg"]);
            return command;
        }
        let mut globals = "daemon off;".to_owned();
        if as_root {
            // What root has made only root may read.
            globals.push_str(" user root;");
        }
        for module in &self.modules {
            globals.push_str(&format!(" load_module {module};"));
        }
        command.arg("-p").arg(folder).args(["-c", "conf/nginx.conf", "-e", "logs/error.log", "-g", &globals]);
        command
    }

    /// Where its configuration is, below its folder.
    pub(super) fn conf_file(&self) -> &'static str {
        match self.kind {
            Kind::Haproxy => "conf/haproxy.cfg",
            _ => "conf/nginx.conf",
        }
    }
}

/// The first line that `-v` writes, whichever way.
fn version(binary: &Path) -> Result<String, String> {
    let output = Command::new(binary).arg("-v").output().map_err(|error| error.to_string())?;
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.map(str::to_owned).ok_or_else(|| "it does not say which version it is".to_owned())
}

/// A program that nobody has looked at.
#[cfg(test)]
pub(super) fn of_kind(kind: Kind, binary: PathBuf) -> Peer {
    Peer { name: kind.name().to_owned(), kind, binary, version: String::new(), modules: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named() {
        let (peers, absent) = find_all(Path::new("no/such/binary"));
        assert!(peers.iter().all(|peer| peer.kind != Kind::Pointsman));
        assert!(absent.iter().any(|line| line.starts_with("no/such/binary: ")), "{absent:?}");
    }

    #[test]
    fn each_program_is_told_where_its_files_are() {
        let peer = |kind, modules: &[&str]| Peer {
            modules: modules.iter().map(|module| (*module).to_owned()).collect(),
            ..of_kind(kind, "a".into())
        };
        let words = |peer: &Peer| format!("{:?}", peer.command(Path::new("/x"), true));
        assert!(words(&peer(Kind::Nginx, &["/m.so"])).contains("user root; load_module /m.so;"));
        assert!(words(&peer(Kind::Haproxy, &[])).contains("conf/haproxy.cfg"));
        assert_eq!(peer(Kind::Pointsman, &[]).conf_file(), "conf/nginx.conf");
    }
}
