//! The programs that are compared: their paths, versions and command lines.
//!
//! nginx and HAProxy of the distribution by default; `PEER_NGINX` and `PEER_HAPROXY` add others by path, separated by `:`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The modules that Debian's nginx loads for Lua.
const LUA_MODULES: [&str; 2] =
    ["/usr/lib/nginx/modules/ndk_http_module.so", "/usr/lib/nginx/modules/ngx_http_lua_module.so"];

/// The kind of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Pointsman,
    Nginx,
    Haproxy,
}

impl Kind {
    /// Returns the name of its first program.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Pointsman => "pointsman",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
        }
    }
}

/// A program.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The name in the report: `nginx` for that of the distribution, `nginx 2` and so on for those given by path.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) binary: PathBuf,
    /// As the program reports it.
    pub(crate) version: String,
    /// Shared objects to load.
    modules: Vec<String>,
}

/// Finds all programs; the second list names those that are missing, with the reason.
pub(crate) fn find_all(own: &Path) -> (Vec<Peer>, Vec<String>) {
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
                // Modules only fit the nginx that they were built for.
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
    /// Returns the command that runs it in the foreground with the files of a directory.
    pub(crate) fn command(&self, folder: &Path, as_root: bool) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(folder);
        if self.kind == Kind::Haproxy {
            command.args(["-W", "-db", "-f", "conf/haproxy.cfg"]);
            return command;
        }
        let mut globals = "daemon off;".to_owned();
        if as_root {
            // Files that root made can only be read by root.
            globals.push_str(" user root;");
        }
        for module in &self.modules {
            globals.push_str(&format!(" load_module {module};"));
        }
        command.arg("-p").arg(folder).args(["-c", "conf/nginx.conf", "-e", "logs/error.log", "-g", &globals]);
        command
    }

    /// Returns the path of its configuration in that directory.
    pub(crate) fn conf_file(&self) -> &'static str {
        match self.kind {
            Kind::Haproxy => "conf/haproxy.cfg",
            _ => "conf/nginx.conf",
        }
    }
}

/// Returns the first line that `-v` prints.
fn version(binary: &Path) -> Result<String, String> {
    let output = Command::new(binary).arg("-v").output().map_err(|error| error.to_string())?;
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.map(str::to_owned).ok_or_else(|| "it does not print its version".to_owned())
}

/// Returns a program without a version, for tests.
#[cfg(test)]
pub(crate) fn of_kind(kind: Kind, binary: PathBuf) -> Peer {
    Peer { name: kind.name().to_owned(), kind, binary, version: String::new(), modules: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_programs_are_listed() {
        let (peers, absent) = find_all(Path::new("no/such/binary"));
        assert!(peers.iter().all(|peer| peer.kind != Kind::Pointsman));
        assert!(absent.iter().any(|line| line.starts_with("no/such/binary: ")), "{absent:?}");
    }

    #[test]
    fn each_program_gets_the_paths_of_its_files() {
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
