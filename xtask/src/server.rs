//! The server under load: its folder, its ports, its start and its end.
//!
//! It ends what it started, whatever happens, and removes the folder.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
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
    folder: Folder,
}

/// The folder a server runs in; removed when the last server that uses it and its owner are gone.
#[derive(Clone, Debug)]
pub(crate) struct Folder(Rc<Removed>);

#[derive(Debug)]
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    /// A folder of this name with these files in it, and one for logs.
    pub(crate) fn make(name: &str, files: &[(&str, String)]) -> Result<Folder, String> {
        let folder = crate::root().join(format!("target/xtask/{name}-{}", std::process::id()));
        for (file, text) in files.iter().chain([&("logs/.here", String::new())]) {
            let path = folder.join(file);
            let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
            made.map_err(|e| format!("{}: {e}", path.display()))?;
        }
        Ok(Folder(Rc::new(Removed(folder))))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0.0
    }
}

impl Server {
    /// Starts the server with files below its prefix, and waits until it listens at `front`.
    pub(crate) fn start(
        program: &Program,
        name: &str,
        files: &[(&str, String)],
        front: SocketAddr,
    ) -> Result<Server, String> {
        Server::start_in(program, &Folder::make(name, files)?, front)
    }

    /// Starts the server in a folder that is there.
    pub(crate) fn start_in(program: &Program, folder: &Folder, front: SocketAddr) -> Result<Server, String> {
        Server::start_with(program, folder, front, &[])
    }

    /// Starts the server in a folder that is there, with more in its environment.
    pub(crate) fn start_with(
        program: &Program,
        folder: &Folder,
        front: SocketAddr,
        environment: &[(&str, &str)],
    ) -> Result<Server, String> {
        // The master needs no rights to serve this, and without them the workers may read what we wrote.
        let mut globals = "daemon off;".to_owned();
        if is_root(folder.path()) {
            globals.push_str(" user root;");
        }
        if program.is_nginx {
            globals.extend(MODULES.map(|module| format!(" load_module {module};")));
        }
        let mut command = Command::new(&program.binary);
        command.envs(environment.iter().copied());
        command.arg("-p").arg(folder.path()).args([
            "-c",
            "conf/nginx.conf",
            "-e",
            "logs/error.log",
            "-g",
            &globals,
        ]);
        let child =
            command.stdin(Stdio::null()).spawn().map_err(|e| format!("{}: {e}", program.binary.display()))?;
        let mut server = Server { child, folder: folder.clone() };
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

    /// Ends all its processes at once, with no word to any of them.
    pub(crate) fn kill(mut self) -> Result<(), String> {
        let mut pids = vec![self.child.id().to_string()];
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = fs::read_to_string(&children).map_err(|e| format!("{children}: {e}"))?;
        pids.extend(children.split_whitespace().map(str::to_owned));
        let sent =
            Command::new("kill").arg("-KILL").args(&pids).status().map_err(|e| format!("kill: {e}"))?;
        let _ = self.child.wait();
        // The worker is nobody's child now: it is gone when the system says so.
        let deadline = Instant::now() + PATIENCE;
        while pids.iter().any(|pid| runs(pid)) {
            if Instant::now() > deadline {
                return Err(format!("one of the processes {} does not die ({sent})", pids.join(", ")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
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
                    let log =
                        fs::read_to_string(self.folder.path().join("logs/error.log")).unwrap_or_default();
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
    }
}

/// Is there such a process, and not just its exit code? While one of its threads is still on its way out of the kernel
/// its sockets are open, though the process is shown as a zombie already.
pub(crate) fn runs(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |tasks| tasks.count());
    threads > 1 || status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// Do we own what we make as root?
fn is_root(folder: &Path) -> bool {
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
