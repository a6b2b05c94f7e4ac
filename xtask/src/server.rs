//! The server under load: its folder, its ports, its start and its end.
//!
//! It ends what it started, whatever happens, and removes the folder.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const MODULES: [&str; 2] =
    ["/usr/lib/nginx/modules/ndk_http_module.so", "/usr/lib/nginx/modules/ngx_http_lua_module.so"];

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) binary: PathBuf,
    /// It is nginx: ndk and ngx_lua are loaded.
    pub(crate) is_nginx: bool,
}

impl Program {
    /// Our own release build.
    pub(crate) fn own() -> Program {
        Program { binary: crate::root().join("target/release/pointsman"), is_nginx: false }
    }
}

/// A running server in a folder of its own.
pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    /// Starts the server with files below its prefix, and waits until it listens at `front`.
    pub(crate) fn start(
        program: &Program,
        name: &str,
        files: &[(&str, String)],
        front: SocketAddr,
    ) -> Result<Server, String> {
        let folder = crate::root().join(format!("target/xtask/{name}-{}", std::process::id()));
        for (file, text) in files.iter().chain([&("logs/.here", String::new())]) {
            let path = folder.join(file);
            let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
            made.map_err(|e| format!("{}: {e}", path.display()))?;
        }
        // The master needs no rights to serve this, and without them the workers may read what we wrote.
        let mut globals = "daemon off;".to_owned();
        if is_root(&folder) {
            globals.push_str(" user root;");
        }
        if program.is_nginx {
            globals.extend(MODULES.map(|module| format!(" load_module {module};")));
        }
        let mut command = Command::new(&program.binary);
        command.arg("-p").arg(&folder).args([
            "-c",
            "conf/nginx.conf",
            "-e",
            "logs/error.log",
            "-g",
            &globals,
        ]);
        let child =
            command.stdin(Stdio::null()).spawn().map_err(|e| format!("{}: {e}", program.binary.display()))?;
        let mut server = Server { child, folder };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if TcpStream::connect(front).is_ok() {
                return Ok(server);
            }
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(format!("the server did not start: {status}"));
            }
            if Instant::now() > deadline {
                return Err(format!("nobody listens at {front}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The master's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the server to finish, and says how it ended and what its error log holds of these levels.
    pub(crate) fn finish(mut self, levels: &[&str]) -> Result<Vec<String>, String> {
        // SIGTERM by the system's own tool: signals are not in the standard library.
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().map_err(|e| format!("kill: {e}"))?;
        let deadline = Instant::now() + PATIENCE;
        while sent.success() {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => {
                    let log = fs::read_to_string(self.folder.join("logs/error.log")).unwrap_or_default();
                    let bad = |line: &&str| levels.iter().any(|level| line.contains(&format!("[{level}]")));
                    return Ok(log.lines().filter(bad).map(str::to_owned).collect());
                }
                Ok(Some(status)) => return Err(format!("the server ended with {status}")),
                _ if Instant::now() > deadline => break,
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        Err("the server does not end".to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Do we own what we make as root?
fn is_root(folder: &PathBuf) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(folder).is_ok_and(|folder| folder.uid() == 0)
}

/// Free ports of 127.0.0.1, below those that outgoing connections are given.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    let start = 20_000 + (std::process::id() % 5_000) as u16;
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let ports: Vec<u16> = (start..start + 2_000).filter(free).take(N).collect();
    ports.try_into().map_err(|_| "no free ports".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ() {
        let [a, b] = free_ports::<2>().expect("there are some");
        assert_ne!(a, b);
    }
}
