//! One worker thread of the product, as the real one is put together, without its sockets and without its thread.
//!
//! Must never: be anything but what `threads` makes of a configuration; what a world draws comes in as text.

use crate::clock::Clock;
use crate::counters::Counters;
use crate::generation::{Departure, Generation};
use crate::idle;
use crate::listeners::{Accepted, Socket};
use crate::logs::{Gathering, Logs};
use crate::parking::Parking;
use crate::process::log::{ErrorLog, LogFiles, LogTarget};
use crate::process::{Address, Reporter};
use crate::proxy::pool::{Groups, SharedGroups};
use crate::recording::{self, Recording};
use crate::reloads::Reloads;
use crate::stream::Stream;
use crate::switching::{Crossing, Names};
use crate::threads::Crew;
use crate::worker::Worker;
use control::{Office, Setup};
use engine::Config;
use engine::config::{Inputs, NameLookup};
use statistics::Collector;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::spawn_local;

/// The worker of a world.
pub(super) struct House {
    pub(super) worker: Rc<Worker>,
    pub(super) counters: Arc<Counters>,
    socket: Rc<Socket>,
}

struct NoFiles;

impl conf::Loader for NoFiles {
    fn read(&self, _: &Path) -> std::io::Result<Vec<u8>> {
        Err(std::io::ErrorKind::NotFound.into())
    }
    fn glob(&self, _: &Path) -> std::io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

struct NoNames;

impl NameLookup for NoNames {
    fn lookup(&self, _: &str, _: u16) -> Result<Vec<SocketAddr>, String> {
        Err("no names here".to_owned())
    }
}

fn compile(text: &str, prefix: &Path) -> Arc<Config> {
    let parsed = conf::parse_text("/nginx.conf", text.to_owned(), &NoFiles);
    let inputs = Inputs {
        loader: &NoFiles,
        names: &NoNames,
        prefix: prefix.to_owned(),
        file: "/nginx.conf".into(),
        identity: Default::default(),
    };
    match engine::config::build(&parsed, &inputs) {
        Ok((config, _)) => Arc::new(config),
        Err(faults) => {
            let lines: Vec<String> = faults.iter().map(|fault| fault.nginx_line(&parsed.sources)).collect();
            panic!("{}\n{text}", lines.join("\n"))
        }
    }
}

/// What every world's worker has and none of them needs: a control plane without switches.
struct Plant {
    office: Office,
    collector: Arc<Mutex<Collector>>,
    departure: Arc<Departure>,
    files: LogFiles,
    folder: tempfile::TempDir,
}

thread_local! {
    static PLANT: Plant = plant();
}

fn crossing(counters: &Arc<Counters>, collector: &Arc<Mutex<Collector>>) -> Arc<Crossing> {
    let (sender, _) = tokio::sync::mpsc::unbounded_channel();
    let reloads = Reloads::new(None);
    Arc::new(Crossing::new(vec![sender], Arc::clone(counters), Arc::clone(collector), reloads))
}

fn plant() -> Plant {
    let config = compile("events {} http { server { listen 80; } }", Path::new("/"));
    let collector = Arc::new(Mutex::new(Collector::new(Arc::new(recording::layout(&config)), 0)));
    let crossing = crossing(&Arc::new(Counters::new(1)), &collector);
    let setup = Setup {
        config,
        listener: None,
        traffic: crossing,
        clock_ms: Arc::new(|| 0),
        log: Arc::new(|_, _| {}),
    };
    let (office, _) = Office::start(setup).unwrap();
    let departure = Arc::new(Departure { number: 0, reporter: Reporter::unheard().unwrap() });
    // Memory that looks like a disk, if the system has some.
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
    for name in ["client_body_temp", "proxy_temp"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    Plant { office, collector, departure, files: LogFiles::new().unwrap(), folder }
}

/// The temporary files that are there.
pub(super) fn temporary_files() -> usize {
    PLANT.with(|plant| {
        let folders = ["client_body_temp", "proxy_temp"].map(|name| plant.folder.path().join(name));
        folders.iter().map(|folder| std::fs::read_dir(folder).unwrap().count()).sum()
    })
}

/// Where clients come in.
fn door() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 80))
}

impl House {
    /// A worker that serves this configuration from now on.
    pub(super) fn open(text: &str) -> House {
        PLANT.with(|plant| {
            let config = compile(text, plant.folder.path());
            let clock = Rc::new(Clock::new(tokio::time::Instant::now().into_std()));
            let counters = Arc::new(Counters::new(1));
            let layout = Arc::new(recording::layout(&config));
            let errors = ErrorLog::new(Vec::new());
            let gathering = Rc::new(Gathering::default());
            let shared = SharedGroups::new(&config, None);
            let generation = Rc::new(Generation {
                number: 1,
                logs: Logs::new(&config, &plant.files, &LogTarget::Stderr, &errors, &gathering),
                groups: Groups::new(&config, &shared, None),
                scripts: None,
                tables: RefCell::new(None),
                switches: Names::default().numbers(&config),
                recording: Recording::new(Some(&layout), &plant.collector, &clock),
                layout,
                config,
                _watched: Arc::new(()),
                error_log: errors,
                _departure: Arc::clone(&plant.departure),
            });
            let crew = Crew {
                threads: 1,
                counters: Arc::clone(&counters),
                watchdogs: Arc::default(),
                began: tokio::time::Instant::now().into_std(),
                records: true,
                collector: Arc::clone(&plant.collector),
                office: plant.office.clone(),
                crossing: crossing(&counters, &plant.collector),
            };
            let worker = Rc::new(Worker::new(0, (clock, Parking::new().unwrap()), &crew, generation));
            let waking = Rc::clone(&worker);
            spawn_local(async move { waking.deadlines.keep_waking(&waking.clock).await });
            spawn_local(sweep(Rc::clone(&worker)));
            House { worker, counters, socket: Rc::new(Socket::new(Address::Inet(door()))) }
        })
    }

    /// A client comes in.
    pub(super) fn accept(&self, stream: Stream, port: u16) {
        let accepted = Accepted {
            socket: Rc::clone(&self.socket),
            remote: Some(SocketAddr::from(([127, 0, 0, 9], port))),
            local: Some(door()),
            local_path: None,
        };
        spawn_local(idle::serve(Rc::clone(&self.worker), stream, accepted));
    }
}

/// Once a second, as the thread's own housekeeping does.
async fn sweep(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        worker.generation().groups.sweep(worker.clock.now().monotonic_ms());
        recording::collect(&worker);
    }
}
