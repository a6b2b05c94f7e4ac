//! A configuration and a traffic for the tests of this crate.
//!
//! Owns: workers that answer at once and do as they are told. Must never: be where the real workers can be; what those do
//! is tested in the server.

use crate::traffic::{Acknowledgement, GroupState, PeerState, Reply, Traffic, Watch, WatchReport};
use crate::{Office, Setup};
use engine::Config;
use engine::config::{Inputs, NameLookup, build};
use engine::host::Counters;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use switch::Tables;

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
        Err("Name or service not known".to_owned())
    }
}

/// The configuration of what stands in `http`; files lie below `prefix`.
pub(crate) fn config(prefix: &Path, http: &str) -> Arc<Config> {
    let parsed = conf::parse_text("/etc/nginx.conf", format!("events {{}} http {{ {http} }}"), &NoFiles);
    let inputs = Inputs {
        loader: &NoFiles,
        names: &NoNames,
        prefix: prefix.to_owned(),
        file: "/etc/nginx.conf".into(),
        identity: Default::default(),
    };
    match build(&parsed, &inputs) {
        Ok((config, _)) => Arc::new(config),
        Err(faults) => {
            panic!("{:?}", faults.iter().map(|fault| fault.nginx_line(&parsed.sources)).collect::<Vec<_>>())
        }
    }
}

/// Two groups, and a switch `$live` between them with these directives.
pub(crate) fn two_groups(switch: &str) -> String {
    format!(
        "upstream blue {{ server 127.0.0.1:1; }} upstream green {{ server 127.0.0.1:2; }}
         switch $host $live {{ default blue; {switch} }}"
    )
}

/// What the workers are told to do, and what they were asked.
#[derive(Default)]
pub(crate) struct Workers {
    /// How many there are.
    pub(crate) threads: usize,
    /// How many of them never answer.
    pub(crate) silent: usize,
    /// Requests on the old side, of the first of them.
    pub(crate) in_flight: u64,
    /// Streams on the old side, of the first of them.
    pub(crate) streams: u64,
    /// Addresses they leave alone, with the group.
    pub(crate) failed: Vec<(&'static str, String)>,
    /// What was published, oldest first.
    pub(crate) published: Vec<Arc<Tables>>,
    /// The watches that came with it.
    pub(crate) watches: Vec<Arc<Watch>>,
    /// Watches whose streams were to be closed, over so many milliseconds.
    pub(crate) closed: Vec<(u64, u64)>,
    /// Watches nobody asks about any more.
    pub(crate) forgotten: Vec<u64>,
    /// How often it was asked what a switch would move.
    pub(crate) affected: usize,
}

/// Workers that answer at once.
pub(crate) struct FakeTraffic {
    pub(crate) workers: Mutex<Workers>,
    collector: Mutex<statistics::Collector>,
}

impl FakeTraffic {
    pub(crate) fn new() -> Arc<FakeTraffic> {
        let layout = statistics::Layout { groups: Vec::new(), switches: vec!["live".into()], max_keys: 100 };
        Arc::new(FakeTraffic {
            workers: Mutex::new(Workers { threads: 2, ..Workers::default() }),
            collector: Mutex::new(statistics::Collector::new(Arc::new(layout), 0)),
        })
    }

    pub(crate) fn tell(&self, order: impl FnOnce(&mut Workers)) {
        order(&mut self.workers.lock().unwrap());
    }

    pub(crate) fn ask<T>(&self, question: impl FnOnce(&Workers) -> T) -> T {
        question(&self.workers.lock().unwrap())
    }

    /// Where a key leads in what was published last.
    pub(crate) fn leads(&self, key: &str) -> Option<String> {
        self.ask(|workers| {
            let table = &workers.published.last()?.tables[0];
            table.find(key.as_bytes()).map(|entry| entry.route.to_string())
        })
    }

    fn each(&self, mut answer: impl FnMut(usize, &Workers)) {
        let workers = self.workers.lock().unwrap();
        for worker in 0..workers.threads - workers.silent {
            answer(worker, &workers);
        }
    }

    fn report(&self, reply: &Reply<WatchReport>) {
        self.each(|worker, workers| {
            let first = u64::from(worker == 0);
            reply(WatchReport {
                worker,
                in_flight: workers.in_flight * first,
                streams: workers.streams * first,
                first_new: Some(Instant::now()),
                last_old: (workers.in_flight == 0).then(Instant::now),
                served_new: 3,
                failed_new: 1,
                failed_old: 0,
            });
        });
    }
}

impl Traffic for FakeTraffic {
    fn publish(&self, tables: Arc<Tables>, watch: Option<Arc<Watch>>, acknowledged: Reply<Acknowledgement>) {
        self.tell(|workers| {
            workers.published.push(tables);
            workers.watches.extend(watch);
        });
        self.each(|worker, workers| {
            let in_flight_old = if worker == 0 { workers.in_flight as usize } else { 0 };
            acknowledged(Acknowledgement { worker, at: Instant::now(), in_flight_old });
        });
    }
    fn watched(&self, _: u64, reply: Reply<WatchReport>) {
        self.report(&reply);
    }
    fn affected(&self, _: Arc<Watch>, reply: Reply<WatchReport>) {
        self.tell(|workers| workers.affected += 1);
        self.report(&reply);
    }
    fn close_streams(&self, watch: u64, spread_ms: u64) {
        self.tell(|workers| {
            workers.closed.push((watch, spread_ms));
            workers.streams = 0;
        });
    }
    fn forget_watch(&self, watch: u64) {
        self.tell(|workers| workers.forgotten.push(watch));
    }
    fn peers(&self, reply: Reply<Vec<GroupState>>) {
        self.each(|worker, workers| {
            let state = |(group, address): &(&'static str, String)| GroupState {
                worker,
                name: Arc::from(*group),
                peers: vec![PeerState {
                    address: Arc::from(&**address),
                    failed: true,
                    fails: 1,
                    connections: 0,
                }],
            };
            reply(workers.failed.iter().map(state).collect());
        });
    }
    fn collect(&self, reply: Reply<()>) {
        reply(());
    }
    fn collector(&self) -> &Mutex<statistics::Collector> {
        &self.collector
    }
    fn threads(&self) -> usize {
        self.workers.lock().unwrap().threads
    }
    fn counters(&self) -> Counters {
        Counters::default()
    }
}

/// An office over these workers, without a socket. What it logs goes to standard output.
pub(crate) fn open(
    config: &Arc<Config>,
    traffic: &Arc<FakeTraffic>,
) -> Result<(Office, Arc<Tables>), String> {
    let began = Instant::now();
    Office::start(Setup {
        config: config.clone(),
        listener: None,
        traffic: traffic.clone(),
        clock_ms: Arc::new(move || began.elapsed().as_millis() as u64),
        log: Arc::new(|level, text| println!("[{}] {text}", level.name())),
    })
}
