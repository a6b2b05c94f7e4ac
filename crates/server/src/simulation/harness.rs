//! One worker thread of the product, assembled as the real one, without its sockets and without its thread.
//!
//! Must never differ from what `worker` makes of a configuration; what a world draws comes in as text.

use crate::context::counters::ProcessCounters;
use crate::context::generation::{Generation, GenerationDropGuard};
use crate::context::listen_socket::ListenSocket;
use crate::context::logs::{Gathering, Logs};
use crate::context::metrics::{self, Metrics};
use crate::context::shared_state::SharedState;
use crate::context::thread_context::ThreadContext;
use crate::downstream::idle;
use crate::downstream::idle::Accepted;
use crate::downstream::parking::Parking;
use crate::proxy::groups::{Groups, SharedGroups};
use crate::switching::switch_ids::SwitchIds;
use crate::switching::worker_bus::WorkerBus;
use crate::worker::message::Message;
use crate::worker::reload_requests::ReloadRequests;
use control::{ControlHandle, Setup};
use engine::Config;
use engine::config::{Inputs, NoNames};
use prober::Prober;
use process::log::{ErrorLog, LogFiles, LogTarget, utc_offset_s};
use process::{Address, Reporter};
use statistics::Collector;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_local;
use transport::clock::Clock;
use transport::stream::Stream;
use upstream::health::HealthTable;

/// The worker of a world.
pub(super) struct Harness {
    pub(super) thread: Rc<ThreadContext>,
    pub(super) counters: Arc<ProcessCounters>,
    socket: Rc<ListenSocket>,
    /// As long as they exist, the bus takes the thread for alive.
    _wakes: Wakes,
}

fn compile(text: &str, prefix: &Path) -> Arc<Config> {
    let parsed = conf::parse_text("/nginx.conf", text.to_owned(), &conf::NoFiles);
    let inputs = Inputs {
        loader: &conf::NoFiles,
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

/// A control plane without switches, which every simulated worker has and none uses.
struct Plant {
    control: ControlHandle,
    collector: Arc<Mutex<Collector>>,
    drop_guard: Arc<GenerationDropGuard>,
    files: LogFiles,
    folder: tempfile::TempDir,
}

thread_local! {
    static PLANT: Plant = plant();
}

/// Wakes of a thread.
type Wakes = UnboundedReceiver<Message>;

fn bus(counters: &Arc<ProcessCounters>, collector: &Arc<Mutex<Collector>>) -> (Arc<WorkerBus>, Wakes) {
    let (sender, wakes) = tokio::sync::mpsc::unbounded_channel();
    let reloads = ReloadRequests::new(None);
    let prober = Prober::new(std::time::Instant::now());
    let (counters, collector) = (Arc::clone(counters), Arc::clone(collector));
    let bus = WorkerBus::new(vec![sender], counters, collector, reloads, prober, Default::default());
    (Arc::new(bus), wakes)
}

fn plant() -> Plant {
    let config = compile("events {} http { server { listen 80; } }", Path::new("/"));
    let collector =
        Arc::new(Mutex::new(Collector::new(Arc::new(metrics::layout(&config, &Default::default())), 0)));
    let (bus, _) = bus(&Arc::new(ProcessCounters::new(1)), &collector);
    let setup = Setup {
        config,
        listener: None,
        refused_peer: None,
        data_plane: bus,
        clock_ms: Arc::new(|| 0),
        log: Arc::new(|_, _| {}),
        upgrades: false,
        file_default: control::FileDefault::default(),
        window_times: control::WindowTimes::default(),
    };
    let (control, _) = ControlHandle::start(setup).unwrap();
    let drop_guard = Arc::new(GenerationDropGuard { number: 0, reporter: Reporter::disconnected().unwrap() });
    // A disk in memory, if the system has one.
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
    for name in ["client_body_temp", "proxy_temp"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    Plant { control, collector, drop_guard, files: LogFiles::new().unwrap(), folder }
}

/// Returns how many temporary files there are.
pub(super) fn temporary_files() -> usize {
    PLANT.with(|plant| {
        let folders = ["client_body_temp", "proxy_temp"].map(|name| plant.folder.path().join(name));
        folders.iter().map(|folder| std::fs::read_dir(folder).unwrap().count()).sum()
    })
}

/// Returns the address that clients connect to.
fn door() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 80))
}

impl Harness {
    /// Creates a worker that serves this configuration.
    pub(super) fn open(text: &str) -> Harness {
        PLANT.with(|plant| {
            let config = compile(text, plant.folder.path());
            let clock = Rc::new(Clock::new(tokio::time::Instant::now().into_std(), utc_offset_s));
            let counters = Arc::new(ProcessCounters::new(1));
            let layout = Arc::new(metrics::layout(&config, &Default::default()));
            let errors = ErrorLog::new(Vec::new());
            let gathering = Rc::new(Gathering::default());
            let health = Arc::<HealthTable>::default();
            let routing = Default::default();
            let shared = Arc::new(SharedGroups::new(&config, &routing, None, &health));
            let generation = Rc::new(Generation {
                at_end: None,
                number: 1,
                logs: Logs::new(&config, &plant.files, &LogTarget::Stderr, &errors, &gathering),
                groups: Groups::new(&config, &shared, &routing, None, &health, |_| 0),
                open_files: RefCell::default(),
                contexts: Arc::default(),
                scripts: None,
                routing: RefCell::default(),
                switches: SwitchIds::default().numbers(&config),
                metrics: Metrics::new(Some(&layout), &plant.collector, &clock),
                layout,
                config,
                _watched: Arc::new(()),
                error_log: errors,
                _drop_guard: Arc::clone(&plant.drop_guard),
            });
            let (bus, wakes) = bus(&counters, &plant.collector);
            let shared = SharedState {
                threads: 1,
                counters: Arc::clone(&counters),
                watchdogs: Arc::default(),
                began: tokio::time::Instant::now().into_std(),
                records: true,
                collector: Arc::clone(&plant.collector),
                control: plant.control.clone(),
                bus,
                health,
                on_demand_orders: acme::OnDemandOrders::default(),
            };
            let thread = Rc::new(ThreadContext::new(0, clock, Parking::new().unwrap(), &shared, generation));
            let waking = Rc::clone(&thread);
            spawn_local(async move { waking.deadlines.keep_waking(&waking.clock).await });
            spawn_local(sweep(Rc::clone(&thread)));
            Harness {
                thread,
                counters,
                _wakes: wakes,
                socket: Rc::new(ListenSocket::new(Address::Inet(door()))),
            }
        })
    }

    /// Accepts a client.
    pub(super) fn accept(&self, stream: Stream, port: u16) {
        let accepted = Accepted {
            socket: Rc::clone(&self.socket),
            remote: Some(SocketAddr::from(([127, 0, 0, 9], port))),
            local: Some(door()),
            local_path: None,
        };
        spawn_local(idle::serve(Rc::clone(&self.thread), stream, accepted));
    }
}

/// Sweeps once a second, as the thread's housekeeping does.
async fn sweep(thread: Rc<ThreadContext>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        thread.generation().groups.sweep(&thread.buffers, thread.clock.now().monotonic_ms());
        thread.collect_metrics();
    }
}
