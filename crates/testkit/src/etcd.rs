//! A real etcd: one member, on ports of its own, in a folder of its own.
//!
//! Owns its end, and what becomes of its data: wiped, copied, put back. It must never run with another command line than at first.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::process_group::ProcessGroup;
use crate::test_dir::TestDir;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(60);

/// The pause between two looks at a port.
const GLANCE: Duration = Duration::from_millis(20);

/// A running etcd.
#[derive(Debug)]
pub struct EtcdProcess {
    /// Dropped first: its files are in the folder.
    process: RefCell<Option<ProcessGroup>>,
    dir: TestDir,
}

impl EtcdProcess {
    /// Returns true if etcd is installed; says that the test is skipped if it is not. In CI it must be.
    ///
    /// # Panics
    /// In CI, if it is missing.
    #[must_use]
    pub fn is_installed() -> bool {
        let version =
            Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        let is_here = version.is_ok_and(|status| status.success());
        assert!(is_here || std::env::var_os("CI").is_none(), "etcd is missing, and CI tests with it");
        if !is_here {
            eprintln!("skipped: etcd is not installed (.ci/install-test-packages)");
        }
        is_here
    }

    /// Starts an empty etcd.
    ///
    /// # Errors
    /// It does not start.
    pub fn start() -> Result<EtcdProcess, String> {
        let dir = TestDir::new("{port:client} {port:peer}")?;
        let etcd = EtcdProcess { process: RefCell::new(None), dir };
        etcd.run()?;
        Ok(etcd)
    }

    /// Returns the URL of its clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port("client"))
    }

    fn port(&self, name: &str) -> u16 {
        self.dir.port(name).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.dir.prefix().join("data")
    }

    fn run(&self) -> Result<(), String> {
        let (url, peer) = (self.url(), format!("http://127.0.0.1:{}", self.port("peer")));
        let mut command = Command::new("etcd");
        command
            .args(["--name", "test", "--data-dir"])
            .arg(self.data())
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}"), "--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = ProcessGroup::start(&mut command).map_err(|error| format!("etcd: {error}"))?;
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port("client"))).is_err() {
            if let Some(code) = process.code() {
                return Err(format!("etcd has ended with {code}"));
            }
            if began.elapsed() > START {
                return Err("etcd does not listen".to_owned());
            }
            std::thread::sleep(GLANCE);
        }
        *self.process.borrow_mut() = Some(process);
        Ok(())
    }

    /// Kills it.
    pub fn stop(&self) {
        if let Some(process) = self.process.borrow_mut().take() {
            // What has ended needs no signal.
            let _ = process.signal(Signal::SIGKILL);
        }
    }

    /// Starts it again with the data that it has.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_again(&self) -> Result<(), String> {
        self.run()
    }

    /// Sends it a signal, to be stopped (`SIGSTOP`) and to go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match &*self.process.borrow() {
            Some(process) => process.signal(signal),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    /// Takes its data away, and starts it again.
    ///
    /// # Errors
    /// The data cannot be removed, or it does not start.
    pub fn wipe(&self) -> Result<(), String> {
        self.stop();
        fs::remove_dir_all(self.data()).map_err(|error| error.to_string())?;
        self.run()
    }

    /// Returns a copy of its data.
    ///
    /// # Errors
    /// It cannot be copied, or does not start again.
    pub fn copy(&self) -> Result<PathBuf, String> {
        self.stop();
        let copy = self.dir.prefix().join("copy");
        copy_folder(&self.data(), &copy).map_err(|error| error.to_string())?;
        self.run()?;
        Ok(copy)
    }

    /// Puts a copy of its data back.
    ///
    /// # Errors
    /// It cannot be put back, or etcd does not start.
    pub fn put_back(&self, copy: &Path) -> Result<(), String> {
        self.stop();
        fs::remove_dir_all(self.data()).map_err(|error| error.to_string())?;
        copy_folder(copy, &self.data()).map_err(|error| error.to_string())?;
        self.run()
    }
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, target) = {
            let entry = entry?;
            let target = to.join(entry.file_name());
            (entry, target)
        };
        match entry.file_type()?.is_dir() {
            true => {
                use std::os::unix::fs::PermissionsExt;
                copy_folder(&entry.path(), &target)?;
                fs::set_permissions(&target, fs::Permissions::from_mode(0o700))?;
            }
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
