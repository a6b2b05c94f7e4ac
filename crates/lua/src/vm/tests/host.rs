//! A world for tests: a clock that stands still, files in a list, logs in memory, and scripts that really run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use engine::config::{Inputs, LogId, NameLookup, build};
use engine::exchange::{Body, Exchange};
use engine::host::{
    Counters, FileError, Host, Level, Now, OpenRequest, Opened, ScriptCall, ScriptOutcome, SwitchAnswer,
};
use engine::modules::switch::Choice;
use engine::output::HeadRefused;
use engine::phase::{self, Content, FilePart, SwitchOrder, Wake};
use engine::{Config, Effect, Env, Routing, Step, output, start_request};

use switch::{Key, KeyKind, Route, Table, Tables};

use crate::{Dicts, Vm, VmOptions};

/// A server of tests: a configuration, its Lua, and what happened.
pub(super) struct Server {
    pub(super) config: Arc<Config>,
    pub(super) vm: Rc<Vm>,
    pub(super) dicts: Dicts,
    pub(super) host: TestHost,
}

pub(super) struct TestHost {
    vm: Option<Rc<Vm>>,
    pub(super) now: Now,
    pub(super) files: BTreeMap<String, String>,
    pub(super) error_lines: Vec<String>,
    pub(super) access_lines: Vec<String>,
    /// The waits of scripts.
    pub(super) waits: Vec<Effect>,
    /// The entries of the first switch, if there is one.
    pub(super) entries: BTreeMap<String, String>,
    pub(super) revision: u64,
    /// Orders of timers without an answer yet.
    pub(super) orders: Vec<(SwitchOrder, SwitchAnswer)>,
    /// The choice for the last request.
    pub(super) choices: Vec<Choice>,
    random: u64,
}

impl TestHost {
    pub(super) fn new(files: &[(&str, &str)]) -> TestHost {
        TestHost {
            vm: None,
            now: Now { epoch_us: 1_000_000_000_000_000, monotonic_us: 5_000_000, utc_offset_s: 0 },
            files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect(),
            error_lines: Vec::new(),
            access_lines: Vec::new(),
            waits: Vec::new(),
            entries: BTreeMap::new(),
            revision: 0,
            orders: Vec::new(),
            choices: Vec::new(),
            random: 0,
        }
    }
}

impl TestHost {
    /// Returns the switch as the control plane has it: blue and green are its targets.
    pub(super) fn carry_out(&mut self, order: &SwitchOrder) -> Result<u64, String> {
        let key = Key::parse(KeyKind::Host, &order.key, 255).map_err(|fault| fault.to_string())?;
        match order.target.as_deref().map(String::from_utf8_lossy) {
            None => {
                self.entries.remove(key.as_str());
            }
            Some(target) => {
                let route = Route::parse(&target).map_err(|fault| fault.to_string())?;
                if let Some(odd) = route.targets().find(|target| !["blue", "green"].contains(&&***target)) {
                    return Err(format!("\"{odd}\" is no target of the switch"));
                }
                self.entries.insert(key.as_str().to_owned(), target.into_owned());
            }
        }
        self.revision += 1;
        Ok(self.revision)
    }
}

impl Host for TestHost {
    fn routing(&self) -> Option<Rc<Routing>> {
        let entries = self.entries.iter().map(|(key, route)| {
            let key = Key::parse(KeyKind::Host, key.as_bytes(), 255).unwrap();
            (key, Route::parse(route).unwrap(), self.revision)
        });
        let table = Arc::new(Table::from_entries(self.revision, entries));
        Some(Rc::new(Tables { tables: [table].into(), holds: Box::default(), number: self.revision }.into()))
    }
    fn order(&mut self, order: SwitchOrder, answer: SwitchAnswer) {
        self.orders.push((order, answer));
    }
    fn now(&self) -> Now {
        self.now
    }
    fn refresh_time(&mut self) {
        self.now.epoch_us += 7_000;
    }
    fn random(&mut self) -> u64 {
        self.random += 1;
        self.random
    }
    fn open(&mut self, request: OpenRequest<'_>) -> Result<Opened, FileError> {
        let path = String::from_utf8_lossy(request.path).into_owned();
        let Some(text) = self.files.get(&path) else { return Err(FileError { errno: 2, call: "open()" }) };
        Ok(Opened {
            file: (!request.stat_only).then(|| Rc::new(nameless(text))),
            len: text.len() as u64,
            modified_s: 1_000_000_000,
            is_dir: false,
            is_file: true,
            is_executable: false,
        })
    }
    fn removal(&mut self, _: &std::path::Path) -> std::rc::Rc<dyn std::any::Any> {
        std::rc::Rc::new(())
    }

    fn script(&mut self, config: &Config, exchange: &mut Exchange, call: ScriptCall) -> ScriptOutcome {
        let vm = self.vm.clone().expect("the machine is there before requests are");
        vm.run(self, config, exchange, call)
    }
    fn read_file(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        let text = self.files.get(&*String::from_utf8_lossy(path));
        text.map(|text| text.clone().into()).ok_or(FileError { errno: 2, call: "open()" })
    }
    fn real_path(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        Ok(path.to_vec())
    }
    fn hostname(&self) -> &[u8] {
        b"test.local"
    }
    fn pid(&self) -> u32 {
        4711
    }
    fn access_log(&mut self, _: &Config, _: LogId, line: &[u8]) {
        self.access_lines.push(String::from_utf8_lossy(line).into_owned());
    }
    fn access_log_at(&mut self, _: &[u8], _: &[u8]) -> Result<(), FileError> {
        Ok(())
    }
    fn error_log(&mut self, _: &Config, _: LogId, level: Level, _: u64, text: &[u8]) {
        self.error_lines.push(format!("[{}] {}", level.name(), String::from_utf8_lossy(text)));
    }
    fn counters(&self) -> Counters {
        Counters::default()
    }
}

fn nameless(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

/// Every name is this machine.
struct LoopbackNames;

impl NameLookup for LoopbackNames {
    fn lookup(&self, _: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
    }
}

pub(super) fn config_of(text: &str) -> Arc<Config> {
    let parsed = conf::parse_text("/p/conf/nginx.conf", text, &conf::NoFiles);
    let inputs = Inputs {
        loader: &conf::NoFiles,
        names: &LoopbackNames,
        prefix: PathBuf::from("/p/"),
        file: PathBuf::from("/p/conf/nginx.conf"),
        identity: Default::default(),
    };
    match build(&parsed, &inputs) {
        Ok((config, _)) => Arc::new(config),
        Err(faults) => {
            let lines: Vec<_> = faults.iter().map(|fault| fault.nginx_line(&parsed.sources)).collect();
            panic!("{}\n{text}", lines.join("\n"))
        }
    }
}

/// A request's answer, and how the exchange stood at the end.
pub(super) struct TestResponse {
    pub(super) wire: String,
    pub(super) status: u16,
}

impl TestResponse {
    /// Returns the body, without chunks.
    pub(super) fn body(&self) -> String {
        let (head, mut rest) = self.wire.split_once("\r\n\r\n").unwrap_or((&self.wire, ""));
        if !head.contains("Transfer-Encoding: chunked") {
            return rest.to_owned();
        }
        let mut body = String::new();
        while let Some((size, after)) = rest.split_once("\r\n") {
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                break;
            }
            body.push_str(&after[..size]);
            rest = &after[size + 2..];
        }
        body
    }

    /// Returns a header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let head = self.wire.split("\r\n\r\n").next()?;
        head.lines().find_map(|line| {
            let (known, value) = line.split_once(": ")?;
            known.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Server {
    /// Returns a server of one `http` block's inside.
    pub(super) fn of_http(text: &str, files: &[(&str, &str)]) -> Server {
        Server::with(text, files, |_| ())
    }

    /// Returns the same, of a configuration that `change` has changed where no directive can.
    pub(super) fn with(text: &str, files: &[(&str, &str)], change: impl FnOnce(&mut Config)) -> Server {
        let mut config = config_of(&format!("error_log logs/error.log info; events {{}} http {{ {text} }}"));
        change(Arc::get_mut(&mut config).unwrap());
        let mut host = TestHost::new(files);
        let dicts = Dicts::new(&config.lua.dicts, None);
        let vm =
            Rc::new(crate::open(&config, &dicts, VmOptions { worker: 1, workers: 4 }, &mut host).unwrap());
        host.vm = Some(vm.clone());
        let mut server = Server { config, vm, dicts, host };
        server.vm.init(&server.config, &mut server.host).unwrap();
        server.vm.init_worker(&server.config, &mut server.host);
        server
    }

    /// Returns a server of one `server` block's inside.
    pub(super) fn of(text: &str) -> Server {
        Server::of_http(
            &format!("lua_shared_dict cats 1m; server {{ listen 80; server_name localhost;\n{text} }}"),
            &[],
        )
    }

    /// Returns the answer to `GET path`.
    pub(super) fn get(&mut self, path: &str) -> TestResponse {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"), "")
    }

    /// Returns the answer to a request with a body.
    pub(super) fn ask(&mut self, head: &str, body: &str) -> TestResponse {
        let mut exchange = Exchange::default();
        exchange.connection.serial = 1;
        exchange.connection.remote = Some(SocketAddr::from(([127, 0, 0, 1], 40000)));
        exchange.connection.local = Some(SocketAddr::from(([127, 0, 0, 1], 80)));
        exchange.reset(&self.config, self.host.now);
        let progress =
            exchange.request.head.decode(head.as_bytes(), &start_request::head_limits(&self.config, 0));
        assert!(matches!(progress, Ok(http::Progress::Complete { .. })), "{progress:?} for {head:?}");
        let config = self.config.clone();
        let host = &mut self.host;
        let mut waits = Vec::new();
        start_request::start(&mut exchange, &mut Env { config: &config, host }).unwrap();
        let mut step = phase::advance(&mut exchange, &mut Env { config: &config, host });
        for turn in 0.. {
            assert!(turn < 100, "the request goes round in circles");
            match step {
                Step::Wait(effect) => {
                    if effect == Effect::ReadBody {
                        exchange.request.body = Body::Memory(body.as_bytes().to_vec());
                    }
                    if let Effect::Switch(order) = &effect {
                        exchange.script.switched = Some(host.carry_out(order));
                        exchange.switches.read_anew(order.switch);
                    }
                    waits.push(effect);
                    exchange.route.wake = Some(Wake::Done);
                    step = phase::advance(&mut exchange, &mut Env { config: &config, host });
                }
                Step::Written | Step::Drop | Step::Serve(Content::Proxy) => break,
                Step::Serve(content) => {
                    let mut env = Env { config: &config, host };
                    match send(&mut exchange, &mut env, content) {
                        Ok(()) => break,
                        Err(HeadRefused::Refuse(status)) => {
                            step = phase::refuse(&mut exchange, &mut env, status);
                        }
                        Err(HeadRefused::Replace(status)) => {
                            step = phase::replace(&mut exchange, &mut env, status);
                        }
                        Err(HeadRefused::Close) => break,
                    }
                }
            }
        }
        phase::log(&mut exchange, &mut Env { config: &config, host });
        self.host.choices = exchange.switches.choices().to_vec();
        self.host.waits = waits;
        exchange.script.handle = None;
        TestResponse {
            wire: String::from_utf8_lossy(&exchange.output.wire).into_owned(),
            status: exchange.response.status,
        }
    }

    /// Lets time go by, and polls the timers.
    pub(super) fn poll_after(&mut self, ms: u64) -> Option<u64> {
        self.host.now.monotonic_us += ms * 1000;
        let (vm, config) = (self.vm.clone(), self.config.clone());
        vm.poll_timers(&mut self.host, &config)
    }

    /// Returns the error log's lines without what stands behind `, client:`, since the last time.
    pub(super) fn errors(&mut self) -> Vec<String> {
        let cut = |line: String| line.split(", client: ").next().unwrap_or_default().to_owned();
        self.host.error_lines.drain(..).map(cut).collect()
    }
}

fn send(exchange: &mut Exchange, env: &mut Env<'_>, content: Content) -> Result<(), HeadRefused> {
    output::write_head(exchange, env)?;
    match content {
        Content::Bytes(bytes) => {
            let _ = output::write_body(exchange, env, &bytes, false);
        }
        Content::File { file, parts } => {
            for part in parts {
                if let FilePart::Range { .. } = part {
                    let mut text = Vec::new();
                    (&*file).read_to_end(&mut text).unwrap();
                    let _ = output::write_body(exchange, env, &text, false);
                }
            }
        }
        _ => {}
    }
    let _ = output::write_body(exchange, env, b"", true);
    Ok(())
}
