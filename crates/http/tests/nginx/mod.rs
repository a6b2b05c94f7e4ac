//! A real nginx in a directory of its own, listening on Unix sockets there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const MAIN: &str = "
daemon off; master_process off; pid nginx.pid; error_log error.log info;
events { worker_connections 64; }
http {
    access_log off; keepalive_timeout 0;
    client_body_temp_path body; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
";

/// The process; it ends and its directory goes with this value.
pub(crate) struct Nginx {
    pub(crate) dir: PathBuf,
    child: Child,
    log: File,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

impl Nginx {
    /// Starts one with these `server` blocks, if nginx is installed. `DIR` in them is its directory, and one of
    /// them listens on `unix:DIR/ready`.
    pub(crate) fn start(test: &str, servers: &str) -> Option<Nginx> {
        if Command::new("nginx").arg("-v").output().is_err() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "nginx is not installed, and CI compares with it"
            );
            eprintln!("skipped: no nginx here to compare with");
            return None;
        }
        // A short path: those of Unix sockets are limited.
        let dir = std::env::temp_dir().join(format!("http-{test}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let config = format!("{MAIN}{servers}}}").replace("DIR", dir.to_str().unwrap());
        fs::write(dir.join("nginx.conf"), config).unwrap();
        fs::write(dir.join("error.log"), "").unwrap();
        let mut nginx = Command::new("nginx");
        let child = nginx.args(["-e", "error.log", "-c", "nginx.conf", "-p"]).arg(&dir).spawn().unwrap();
        let log = File::open(dir.join("error.log")).unwrap();
        let nginx = Nginx { dir, child, log };
        let patience = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(nginx.dir.join("ready")).is_err() {
            assert!(Instant::now() < patience, "nginx did not start");
            std::thread::yield_now();
        }
        Some(nginx)
    }

    /// Sends these bytes and no more: the answer, and what was logged meanwhile.
    pub(crate) fn ask(&mut self, socket: &str, request: &[u8]) -> (Vec<u8>, String) {
        let mut stream = UnixStream::connect(self.dir.join(socket)).unwrap();
        // nginx may have answered and closed before it has read everything.
        let _ = stream.write_all(request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let mut logged = Vec::new();
        self.log.read_to_end(&mut logged).unwrap();
        (answer, String::from_utf8_lossy(&logged).into_owned())
    }
}
