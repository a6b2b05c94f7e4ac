//! The surroundings of the engine for fuzzing: a fixed clock, one file, known names, and the path of a request through it.
//! They are the same for the same input.

use crate::files::{Files, MAIN};
use conf::{Diagnostic, Parsed};
use engine::config::{Config, Inputs, LogId, NameLookup, build};
use engine::exchange::{Body, Exchange};
use engine::host::{Counters, FileError, Level, Now, OpenRequest, Opened, ScriptCall, ScriptOutcome};
use engine::output::{self, HeadRefused};
use engine::phase::{self, Content, Effect, Step, Wake};
use engine::{Env, Host, Routing, start_request};
use std::any::Any;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

/// The contents of the one file.
const TEXT: &[u8] = b"<html>a page of sixty-four bytes, so that ranges have room</html>";
/// The most effects of a request: more are an endless loop.
const MOST_STEPS: usize = 500;

struct Names;

impl NameLookup for Names {
    fn lookup(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        match host {
            "localhost" => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
            "two.example" => {
                Ok(vec![SocketAddr::from(([10, 0, 0, 1], port)), SocketAddr::from(([10, 0, 0, 2], port))])
            }
            _ => Err("Name or service not known".to_owned()),
        }
    }
}

/// Builds a parsed configuration.
pub(crate) fn built(parsed: &Parsed, files: &Files) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let inputs = Inputs {
        loader: files,
        names: &Names,
        prefix: "/prefix".into(),
        file: MAIN.into(),
        identity: Default::default(),
    };
    build(parsed, &inputs)
}

/// Builds the configuration of a text without faults.
pub(crate) fn config_of(text: &str) -> Config {
    let (main, files) = crate::files::split(text.as_bytes());
    let parsed = conf::parse_text(MAIN, main, &files);
    match built(&parsed, &files) {
        Ok((config, _)) => config,
        Err(faults) => panic!("{}", faults[0].render(&parsed.sources, false)),
    }
}

/// The host of the engine.
pub(crate) struct World {
    file: Rc<File>,
    random: u64,
    routing: Option<Rc<Routing>>,
}

impl World {
    pub(crate) fn new() -> World {
        let mut file = tempfile::tempfile().expect("a file without a name");
        file.write_all(TEXT).expect("room for a few bytes");
        World { file: Rc::new(file), random: 0, routing: None }
    }

    pub(crate) fn at(&self) -> Now {
        Now { epoch_us: 1_700_000_000_000_000, monotonic_us: 5_000_000, utc_offset_s: 3600 }
    }
}

impl Host for World {
    fn now(&self) -> Now {
        self.at()
    }
    fn random(&mut self) -> u64 {
        self.random += 1;
        self.random
    }
    fn open(&mut self, request: OpenRequest<'_>) -> Result<Opened, FileError> {
        let call = if request.stat_only { "stat()" } else { "open()" };
        let is_dir = request.path.ends_with(b"/") || request.path.ends_with(b"html");
        if !is_dir && !request.path.ends_with(b".html") {
            return Err(FileError { errno: libc::ENOENT, call });
        }
        Ok(Opened {
            file: (!is_dir && !request.stat_only).then(|| self.file.clone()),
            len: TEXT.len() as u64,
            modified_s: 1_600_000_000,
            is_dir,
            is_file: !is_dir,
            is_executable: false,
        })
    }
    fn read_file(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        if path.ends_with(b"users") {
            return Ok(b"u:{PLAIN}p\nv:$apr1$a$b\n# no\n".to_vec());
        }
        Err(FileError { errno: libc::ENOENT, call: "open()" })
    }
    fn removal(&mut self, _: &Path) -> Rc<dyn Any> {
        Rc::new(())
    }
    fn script(&mut self, _: &Config, _: &mut Exchange, _: ScriptCall) -> ScriptOutcome {
        ScriptOutcome::Finished
    }
    fn real_path(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        Ok(path.to_vec())
    }
    fn routing(&self) -> Option<Rc<Routing>> {
        self.routing.clone()
    }
    fn hostname(&self) -> &[u8] {
        b"machine.example"
    }
    fn pid(&self) -> u32 {
        4711
    }
    fn access_log(&mut self, _: &Config, _: LogId, line: &[u8]) {
        assert!(line.ends_with(b"\n"));
    }
    fn access_log_at(&mut self, _: &[u8], _: &[u8]) -> Result<(), FileError> {
        Ok(())
    }
    fn error_log(&mut self, _: &Config, _: LogId, _: Level, _: u64, _: &[u8]) {}
    fn counters(&self) -> Counters {
        Counters::default()
    }
}

/// Starts a request; `None` if its head is refused. The tables of the switches are empty.
pub(crate) fn exchange(config: &Config, world: &mut World, request: &[u8]) -> Option<Exchange> {
    let mut exchange = Exchange::default();
    exchange.connection.serial = 1;
    exchange.connection.remote = Some(SocketAddr::from(([203, 0, 113, 7], 40000)));
    exchange.connection.local = Some(SocketAddr::from(([127, 0, 0, 1], 80)));
    exchange.reset(config, world.at());
    let tables = vec![Default::default(); config.switches.len()].into();
    world.routing = Some(Rc::new(switch::Tables { tables, holds: Box::default(), number: 1 }.into()));
    let decoded = exchange.request.head.decode(request, &start_request::head_limits(config, 0));
    let mut env = Env { config, host: world };
    match decoded {
        Ok(http::Progress::Complete { .. }) => {}
        Ok(http::Progress::Partial) => return None,
        Err(fault) => {
            start_request::reject(&mut exchange, &mut env, fault, request);
            return None;
        }
    }
    start_request::start(&mut exchange, &mut env).ok()?;
    Some(exchange)
}

/// Runs all phases, and writes the head of the answer and the available part of the body.
pub(crate) fn answer(config: &Config, world: &mut World, exchange: &mut Exchange) {
    let mut env = Env { config, host: world };
    let mut step = phase::advance(exchange, &mut env);
    for _ in 0..MOST_STEPS {
        let content = match step {
            Step::Wait(effect) => {
                if matches!(effect, Effect::ReadBody | Effect::DiscardBody) {
                    exchange.request.body = Body::Memory(b"a=b".to_vec());
                }
                exchange.route.wake = Some(Wake::Done);
                step = phase::advance(exchange, &mut env);
                continue;
            }
            Step::Written
            | Step::Drop
            | Step::Serve(Content::Proxy | Content::Control(_) | Content::Report(_)) => return,
            Step::Serve(content) => content,
        };
        match output::write_head(exchange, &mut env) {
            Ok(()) => {
                if let Content::Bytes(bytes) = content {
                    let _ = output::write_body(exchange, &mut env, &bytes, false);
                }
                let _ = output::write_body(exchange, &mut env, b"", true);
                return;
            }
            Err(HeadRefused::Refuse(status)) => step = phase::refuse(exchange, &mut env, status),
            Err(HeadRefused::Replace(status)) => step = phase::replace(exchange, &mut env, status),
            Err(HeadRefused::Close) => return,
        }
    }
    panic!("the request loops");
}
