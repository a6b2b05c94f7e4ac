//! The control API: paths, queries, headers and bodies of calls to a complete control plane.
//!
//! Checks the form of every answer, and at the end the history against the table. An input is a sequence of calls: a line
//! `METHOD PATH?QUERY`, fields up to an empty line, the body up to a line `---`.

use bstr::ByteSlice;
use control::{Acknowledgement, AskedServer, DataPlane, GroupState, Reply, Watch, WatchReport};
use control::{ApiAnswer, ApiCall, ControlHandle, FileDefault, Origin, Setup, WindowTimes};
use engine::Routing;
use engine::host::Counters;
use prober::Prober;
use serde_json::Value;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};
use switch::{Code, Filter};

/// The most calls that are made of an input.
const MOST: usize = 6;
/// The timeout of an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that accepts connections, for the gate.
static SERVER: LazyLock<u16> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its number").port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    port
});

static CONFIG: LazyLock<Arc<engine::Config>> = LazyLock::new(|| {
    let port = *SERVER;
    Arc::new(crate::world::config_of(&format!(
        "events {{}} http {{
            upstream blue {{ server 127.0.0.1:{port}; }} upstream green {{ server 127.0.0.1:{port}; }}
            upstream red {{ server unix:/nowhere; }}
            switch $host $live {{ default blue; targets blue green red; state memory; keys max=5 length=40; }}
            switch $uri $other {{ default blue; state memory; }}
        }}"
    )))
});

pub(crate) fn check(data: &[u8]) {
    let calls: Vec<ApiCall> = data.split_str(b"\n---\n").take(MOST).filter_map(call).collect();
    if calls.is_empty() {
        return;
    }
    let began = Instant::now();
    let (control, _) = ControlHandle::start(Setup {
        refused_peer: None,
        upgrades: false,
        file_default: FileDefault::default(),
        window_times: WindowTimes::default(),
        config: CONFIG.clone(),
        listener: None,
        data_plane: Arc::new(Workers {
            collector: Mutex::new(collector()),
            prober: Prober::new(Instant::now()),
        }),
        clock_ms: Arc::new(move || began.elapsed().as_millis() as u64),
        log: Arc::new(|_, _| {}),
    })
    .expect("a control service");
    // Unconfirmed orders are reverted at any moment.
    let steady = !data.contains_str(b"confirm_within");
    for call in calls {
        let asks = matches!(&*call.method, b"GET" | b"HEAD");
        let before = revisions(&control);
        let answer = ask(&control, call);
        look_at(&answer);
        if steady && (asks || answer.status >= 400) {
            assert_eq!(revisions(&control), before, "who asks or is refused changes nothing");
        }
    }
    for name in ["live", "other"] {
        let verified = wait(control.verify(name)).expect("a history");
        assert!(verified.fault.is_none());
        let mut history =
            wait(control.history(name, Filter { limit: 1000, ..Filter::default() })).expect("it");
        history.reverse();
        let table = wait(control.table(name)).expect("a table");
        if steady {
            let replayed = history.iter().fold(switch::Table::default(), |table, commit| table.apply(commit));
            assert_eq!((replayed.revision(), replayed.len()), (table.revision(), table.len()));
            for (key, entry) in table.iter() {
                assert_eq!(replayed.get(key).map(|entry| &entry.route), Some(&entry.route));
            }
        }
        assert!(name != "live" || table.len() <= 5, "no more keys than are allowed");
    }
    control.stop();
}

fn revisions(control: &ControlHandle) -> [u64; 2] {
    ["live", "other"].map(|name| wait(control.table(name)).expect("a table").revision())
}

fn call(text: &[u8]) -> Option<ApiCall> {
    let (line, rest) = text.split_once_str(b"\n").unwrap_or((text, b""));
    let (fields, body) = if let Some(body) = rest.strip_prefix(b"\n") {
        (&b""[..], body)
    } else {
        rest.split_once_str(b"\n\n").unwrap_or((b"", rest))
    };
    let (method, target) = line.split_once_str(b" ")?;
    let (path, query) = target.split_once_str(b"?").unwrap_or((target, b""));
    // Events never end, in any spelling.
    let is_coded = path.contains(&b'%') && !path.starts_with(b"/v1/switches/");
    if path.contains_str(b"events") || is_coded {
        return None;
    }
    let mut headers: Vec<(Vec<u8>, Vec<u8>)> = fields
        .lines()
        .filter_map(|field| field.split_once_str(b": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()))
        .collect();
    if !headers.iter().any(|(name, _)| name == b"content-type") {
        headers.push((b"content-type".to_vec(), b"application/json".to_vec()));
    }
    Some(ApiCall {
        method: method.to_vec(),
        path: path.to_vec(),
        query: query.to_vec(),
        headers,
        body: body.to_vec(),
        actor: Origin::at_socket("somebody".into()),
    })
}

#[derive(Debug, Default)]
struct Answer {
    heads: usize,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// The receiver of an answer, which is sent when this is dropped.
struct Taker {
    answer: Answer,
    to: Sender<Answer>,
}

impl ApiAnswer for Taker {
    fn head(&mut self, status: u16, headers: Vec<(String, String)>) {
        self.answer.heads += 1;
        (self.answer.status, self.answer.headers) = (status, headers);
    }
    fn chunk(&mut self, bytes: Vec<u8>) -> bool {
        self.answer.body.extend_from_slice(&bytes);
        true
    }
    fn gone(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        let _ = self.to.send(std::mem::take(&mut self.answer));
    }
}

fn ask(control: &ControlHandle, call: ApiCall) -> Answer {
    let (to, from) = channel();
    control.call(call, Box::new(Taker { answer: Answer::default(), to }));
    from.recv_timeout(PATIENCE).expect("an answer in time")
}

fn look_at(answer: &Answer) {
    assert_eq!(answer.heads, 1);
    assert!((200..600).contains(&answer.status) && answer.status != 500, "{answer:?}");
    let header =
        |name: &str| answer.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value);
    for (name, value) in &answer.headers {
        assert!(!name.contains(['\r', '\n']) && !value.contains(['\r', '\n']));
    }
    if let Some(length) = header("content-length")
        && !answer.body.is_empty()
    {
        assert_eq!(length, answer.body.len().to_string());
    }
    if answer.status < 400 || answer.body.is_empty() {
        if header("content-type").is_some_and(|kind| kind.starts_with("application/json"))
            && !answer.body.is_empty()
        {
            serde_json::from_slice::<Value>(&answer.body).expect("JSON");
        }
        return;
    }
    let problem: Value = serde_json::from_slice(&answer.body).expect("a refusal is JSON");
    let code = problem["code"].as_str().and_then(Code::from_name).expect("a code that is known");
    assert_eq!(code.status(), answer.status);
    assert!(problem["text"].as_str().is_some_and(|text| !text.is_empty()));
    assert!(problem["remedy"].is_string());
}

/// Waits for the thread of the control plane.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    let since = Instant::now();
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        assert!(since.elapsed() < PATIENCE, "no answer");
        std::thread::park_timeout(PATIENCE);
    }
}

fn collector() -> statistics::Collector {
    let layout = statistics::Layout {
        groups: Vec::new(),
        switches: vec!["live".into(), "other".into()],
        max_keys: 10,
    };
    statistics::Collector::new(Arc::new(layout), 0)
}

/// A worker thread that carries out commands at once, and has no requests.
struct Workers {
    collector: Mutex<statistics::Collector>,
    /// Never asked.
    prober: Prober,
}

fn idle() -> WatchReport {
    WatchReport { first_new: Some(Instant::now()), last_old: Some(Instant::now()), ..WatchReport::default() }
}

impl DataPlane for Workers {
    fn publish(&self, _: Arc<Routing>, _: Option<Arc<Watch>>, acknowledged: Reply<Acknowledgement>) {
        acknowledged(Acknowledgement { worker: 0, at: Instant::now(), in_flight_old: 0 });
    }
    fn watched(&self, _: u64, reply: Reply<WatchReport>) {
        reply(idle());
    }
    fn affected(&self, _: Arc<Watch>, reply: Reply<WatchReport>) {
        reply(idle());
    }
    fn close_streams(&self, _: u64, _: u64) {}
    fn close_affected(&self, _: Arc<Watch>, _: u64) {}
    fn forgive(&self, _: Vec<AskedServer>) {}
    fn forget_watch(&self, _: u64) {}
    fn peers(&self, reply: Reply<Vec<GroupState>>) {
        reply(Vec::new());
    }
    fn peers_of(&self, _: Arc<[Arc<str>]>, reply: Reply<Vec<GroupState>>) {
        reply(Vec::new());
    }
    fn collect(&self, reply: Reply<()>) {
        reply(());
    }
    fn collector(&self) -> &Mutex<statistics::Collector> {
        &self.collector
    }
    fn prober(&self) -> &Prober {
        &self.prober
    }
    fn threads(&self) -> usize {
        1
    }
    fn counters(&self) -> Counters {
        Counters::default()
    }
}
