//! A configuration and a data plane for the tests of this crate.
//!
//! Owns: workers that answer at once. The real workers are tested in the server.

use crate::data_plane::{
    Acknowledgement, AskedServer, DataPlane, GroupState, PeerState, Reply, Watch, WatchReport,
};
use crate::{ControlHandle, FileDefault, Setup, WindowTimes};
use engine::config::{Inputs, NoNames, build};
use engine::host::{Counters, Level};
use engine::{Config, Routing};
use prober::Prober;
use statistics::{GroupLayout, Layout, Recorder, RequestEnd, RoutedRequest};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use switch::Tables;
use upstream::GroupSets;

/// Builds a configuration with this `http` block; files are below `prefix`.
pub(crate) fn config(prefix: &Path, http: &str) -> Arc<Config> {
    let parsed =
        conf::parse_text("/etc/nginx.conf", format!("events {{}} http {{ {http} }}"), &conf::NoFiles);
    let inputs = Inputs {
        loader: &conf::NoFiles,
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

/// Returns two groups, and a switch `$live` between them with these directives.
pub(crate) fn two_groups(switch: &str) -> String {
    format!(
        "upstream blue {{ server 127.0.0.1:1; }} upstream green {{ server 127.0.0.1:2; }}
         switch $host $live {{ default blue; {switch} }}"
    )
}

/// The workers' settings, and the calls they got.
#[derive(Default)]
pub(crate) struct Workers {
    /// How many there are.
    pub(crate) threads: usize,
    /// The number of workers that never answer.
    pub(crate) silent: usize,
    /// Requests on the old side, of the first of them.
    pub(crate) in_flight: u64,
    /// Streams on the old side, of the first of them.
    pub(crate) streams: u64,
    /// Addresses they skip, with the group.
    pub(crate) failed: Vec<(&'static str, String)>,
    /// The published tables, oldest first.
    pub(crate) published: Vec<Arc<Tables>>,
    /// The published groups, oldest first.
    pub(crate) groups: Vec<GroupSets>,
    /// Requests at servers, with their groups.
    pub(crate) busy: Vec<(&'static str, &'static str, u32)>,
    /// The watches that came with it.
    pub(crate) watches: Vec<Arc<Watch>>,
    /// Watches whose streams were to be closed, over so many milliseconds.
    pub(crate) closed: Vec<(u64, u64)>,
    /// Servers whose failures were to be forgotten.
    pub(crate) forgiven: Vec<String>,
    /// Forgotten watches.
    pub(crate) forgotten: Vec<u64>,
    /// The number of calls of `affected`.
    pub(crate) affected: usize,
    /// Lines of the log.
    pub(crate) said: Vec<(Level, String)>,
}

/// Workers that answer at once.
pub(crate) struct FakeDataPlane {
    pub(crate) workers: Mutex<Workers>,
    collector: Mutex<statistics::Collector>,
    layout: Arc<Layout>,
    prober: Prober,
}

impl FakeDataPlane {
    pub(crate) fn new() -> Arc<FakeDataPlane> {
        let group = |name: &str| GroupLayout { name: name.into(), peers: Vec::new() };
        let groups = vec![group("blue"), group("green")];
        let layout = Arc::new(Layout { groups, switches: vec!["live".into()], max_keys: 100 });
        Arc::new(FakeDataPlane {
            workers: Mutex::new(Workers { threads: 2, ..Workers::default() }),
            collector: Mutex::new(statistics::Collector::new(layout.clone(), 0)),
            layout,
            prober: Prober::new(Instant::now()),
        })
    }

    /// Answers so many requests of a key that the tables published last route, of which the first fail.
    pub(crate) fn answer(&self, key: &str, requests: u64, failed: u64) {
        let (target, revision) = self.ask(|workers| {
            let Some(tables) = workers.published.last() else { return ("blue".to_owned(), 0) };
            let table = &tables.tables[0];
            let found = table.find(key.as_bytes());
            let target = found.map_or_else(|| "blue".to_owned(), |entry| entry.route.pick(0).to_string());
            (target, table.route_revision(found.map(|entry| &**entry)))
        });
        self.answer_late(key, &target, revision, (requests, failed));
    }

    /// Answers so many requests that a commit has routed to a target.
    pub(crate) fn answer_late(&self, key: &str, target: &str, revision: u64, (requests, failed): (u64, u64)) {
        let mut recorder = Recorder::new(self.layout.clone());
        for number in 0..requests {
            let failed = number < failed;
            let status = if failed { 502 } else { 200 };
            let end = RequestEnd { status, response_us: Some(1_000), ..RequestEnd::default() };
            let routed = RoutedRequest { revision, failed, ..RoutedRequest::new(key.as_bytes(), target) };
            recorder.key_ended(0, &routed, &end);
        }
        self.collector.lock().unwrap().absorb(&mut recorder, 0);
    }

    pub(crate) fn tell(&self, order: impl FnOnce(&mut Workers)) {
        order(&mut self.workers.lock().unwrap());
    }

    pub(crate) fn ask<T>(&self, question: impl FnOnce(&Workers) -> T) -> T {
        question(&self.workers.lock().unwrap())
    }

    /// Returns the route of a key in the tables published last.
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
                ..WatchReport::default()
            });
        });
    }
}

impl DataPlane for FakeDataPlane {
    fn publish(
        &self,
        routing: Arc<Routing>,
        watch: Option<Arc<Watch>>,
        acknowledged: Reply<Acknowledgement>,
    ) {
        self.tell(|workers| {
            workers.published.push(Arc::new(routing.tables.clone()));
            workers.groups.push(routing.groups.clone());
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
    fn close_affected(&self, watch: Arc<Watch>, spread_ms: u64) {
        self.tell(|workers| {
            workers.closed.push((watch.id, spread_ms));
            workers.streams = 0;
        });
    }
    fn forget_watch(&self, watch: u64) {
        self.tell(|workers| workers.forgotten.push(watch));
    }
    fn forgive(&self, servers: Vec<AskedServer>) {
        self.tell(|workers| workers.forgiven.extend(servers.into_iter().map(|one| one.server)));
    }
    fn prober(&self) -> &Prober {
        &self.prober
    }

    fn peers(&self, reply: Reply<Vec<GroupState>>) {
        self.each(|worker, workers| {
            let state = |(group, address): &(&'static str, String)| GroupState {
                worker,
                name: Arc::from(*group),
                peers: vec![PeerState {
                    name: Arc::from(&**address),
                    failed: true,
                    fails: 1,
                    connections: 0,
                    down: false,
                    draining: false,
                    departed: false,
                    health: Default::default(),
                    since_ms: 0,
                    source: Default::default(),
                }],
            };
            let busy = |(group, address, connections): &(&'static str, &'static str, u32)| GroupState {
                worker,
                name: Arc::from(*group),
                peers: vec![PeerState {
                    name: Arc::from(*address),
                    failed: false,
                    fails: 0,
                    connections: *connections,
                    down: false,
                    draining: false,
                    departed: false,
                    health: Default::default(),
                    since_ms: 0,
                    source: Default::default(),
                }],
            };
            reply(workers.failed.iter().map(state).chain(workers.busy.iter().map(busy)).collect());
        });
    }
    fn peers_of(&self, groups: Arc<[Arc<str>]>, reply: Reply<Vec<GroupState>>) {
        self.peers(Box::new(move |mut states| {
            states.retain(|state| groups.contains(&state.name));
            reply(states);
        }));
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

/// Starts a control service with these workers and no socket. It logs to standard output, and waits for no server that is
/// not there yet.
pub(crate) fn open(
    config: &Arc<Config>,
    data_plane: &Arc<FakeDataPlane>,
) -> Result<(ControlHandle, Arc<Tables>), String> {
    let retry = std::time::Duration::from_millis(50);
    open_with(
        config,
        data_plane,
        WindowTimes { retry, grace: std::time::Duration::ZERO },
        FileDefault::Counts,
    )
}

/// Returns the same with these times, and this policy for defaults.
pub(crate) fn open_with(
    config: &Arc<Config>,
    data_plane: &Arc<FakeDataPlane>,
    window_times: WindowTimes,
    file_default: FileDefault,
) -> Result<(ControlHandle, Arc<Tables>), String> {
    let (began, log) = (Instant::now(), data_plane.clone());
    let (control, routing) = ControlHandle::start(Setup {
        config: config.clone(),
        listener: None,
        refused_peer: None,
        data_plane: data_plane.clone(),
        clock_ms: Arc::new(move || began.elapsed().as_millis() as u64),
        log: Arc::new(move |level, text| {
            println!("[{}] {text}", level.name());
            log.tell(|workers| workers.said.push((level, text.to_owned())));
        }),
        upgrades: false,
        file_default,
        window_times,
    })?;
    // As if they were published: the workers begin with them.
    data_plane.tell(|workers| workers.groups.push(routing.groups.clone()));
    Ok((control, Arc::new(routing.tables.clone())))
}
