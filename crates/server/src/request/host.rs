//! The engine's [`Host`] on one thread: time, files, logs and scripts for one generation.

use crate::context::counters::ProcessCounters;
use crate::context::generation::{Generation, Pinned};
use crate::context::logs::Logs;
use crate::context::thread_context::ThreadContext;
use crate::script_sockets;
use crate::switching::script_order;
use engine::config::{Config, LogId};
use engine::host::{
    Counters, Env, FileError, Host, Level, Now, OpenRequest, Opened, RunningRequests, ScriptCall,
    ScriptOutcome, ServerChange, SwitchAnswer, TlsPart,
};
use engine::modules::upstream::Origin;
use engine::network::{BodyTap, DialRequest, DialedConnection, Dialing, Waiting};
use engine::phase::SwitchOrder;
use engine::subrequest::Subrequest;
use engine::{Exchange, Routing};
use std::any::Any;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use transport::clock::Clock;
use transport::files;
use upstream::Peer;
use zeroize::Zeroizing;

/// The host of one call into the engine; creating it costs nothing.
pub(crate) struct ThreadHost<'a> {
    pub(crate) thread: &'a Rc<ThreadContext>,
    pub(crate) generation: &'a Generation,
    /// The function that begins requests inside the request that the call is for, if it is for one.
    pub(crate) inner: Option<(&'a Pinned, BeginInner)>,
}

/// Begins requests inside another one, and returns what serves them; `None` if they are too deep.
pub(crate) type BeginInner =
    fn(&Rc<ThreadContext>, &Pinned, &mut Exchange, Vec<Subrequest>) -> Option<Box<dyn RunningRequests>>;

/// Calls the engine on this thread and under this generation.
pub(crate) fn with_env<T>(
    thread: &Rc<ThreadContext>,
    generation: &Generation,
    call: impl FnOnce(&mut Env<'_>) -> T,
) -> T {
    let mut host = ThreadHost { thread, generation, inner: None };
    call(&mut Env { config: &generation.config, host: &mut host })
}

/// The functions of a host that are the same for all of this process: files, and the names of machine and process.
macro_rules! files_and_names {
    () => {
        fn removal(&mut self, path: &Path) -> Rc<dyn Any> {
            files::removal(path)
        }

        fn read_file(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError> {
            files::read(path)
        }

        fn read_folder(&mut self, path: &[u8]) -> Result<Vec<engine::host::FolderEntry>, FileError> {
            files::read_folder(path)
        }

        fn real_path(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError> {
            files::real_path(path)
        }

        fn hostname(&self) -> &[u8] {
            files::hostname()
        }

        fn pid(&self) -> u32 {
            std::process::id()
        }

        fn tls_part(&self, part: TlsPart, der: &[u8]) -> Option<Rc<dyn Any>> {
            match part {
                TlsPart::Chain => tls::script_chain(der),
                TlsPart::Key => tls::script_key(der),
            }
        }

        fn pem_to_der(&self, part: TlsPart, pem: &[u8], password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
            match part {
                TlsPart::Chain => tls::chain_to_der(pem),
                TlsPart::Key => tls::key_to_der(pem, password),
            }
        }

        fn access_log_at(&mut self, path: &[u8], line: &[u8]) -> Result<(), FileError> {
            files::append(path, line)
        }
    };
}

impl Host for ThreadHost<'_> {
    files_and_names!();

    fn open(&mut self, request: OpenRequest<'_>) -> Result<Opened, FileError> {
        match request.kept {
            None => files::open(request),
            Some(kept) => {
                let now_ms = self.thread.clock.now().monotonic_ms();
                self.generation.open_files.borrow_mut().open(request, kept, now_ms)
            }
        }
    }

    fn now(&self) -> Now {
        self.thread.clock.now()
    }

    fn refresh_time(&mut self) {
        self.thread.clock.fresh();
    }

    fn random(&mut self) -> u64 {
        self.thread.random()
    }

    fn script(&mut self, config: &Config, exchange: &mut Exchange, call: ScriptCall) -> ScriptOutcome {
        let generation = self.generation;
        match &generation.scripts {
            Some(scripts) => scripts.run(self, config, exchange, call),
            None => ScriptOutcome::Failed,
        }
    }

    fn access_log(&mut self, _config: &Config, log: LogId, line: &[u8]) {
        self.generation.logs.write(log, line, self.thread.clock.now().monotonic_ms());
    }

    fn error_log(&mut self, _config: &Config, log: LogId, level: Level, connection: u64, text: &[u8]) {
        #[cfg(test)]
        crate::simulation::heard(level, connection, text);
        self.generation.logs.error(log, level, connection, text);
    }

    fn counters(&self) -> Counters {
        self.thread.counters.read()
    }

    fn routing(&self) -> Option<Rc<Routing>> {
        Some(self.generation.routing())
    }

    fn has_holds(&self) -> bool {
        self.generation.has_holds()
    }

    fn order(&mut self, order: SwitchOrder, answer: SwitchAnswer) {
        let outcome = script_order::outcome(self.thread, self.generation, order);
        tokio::task::spawn_local(async move { answer(outcome.await) });
    }

    fn peers(&self, config: &Config, group: &[u8]) -> Option<Vec<Peer>> {
        let groups = &self.generation.groups;
        let known = config.group(group).or_else(|| implied_group(config, group));
        let group = match known {
            Some(number) => Rc::clone(groups.get(number)),
            None => groups.made(group)?.group,
        };
        Some(group.all_peers())
    }

    fn order_server(&mut self, change: ServerChange, answer: SwitchAnswer) {
        let outcome = script_order::server_outcome(self.thread, change);
        tokio::task::spawn_local(async move { answer(outcome.await) });
    }

    fn dial(&mut self, _: &Config, request: DialRequest) -> Option<Dialing> {
        Some(script_sockets::dial(self.thread, self.generation, request))
    }

    fn begin_subrequests(
        &mut self,
        exchange: &mut Exchange,
        wanted: Vec<Subrequest>,
    ) -> Option<Box<dyn RunningRequests>> {
        let (generation, begin) = self.inner?;
        begin(self.thread, generation, exchange, wanted)
    }

    fn tap(&mut self, tap: Rc<BodyTap>) -> Option<Box<dyn DialedConnection>> {
        Some(script_sockets::tap(tap))
    }

    fn tls_session(&self) -> Option<Rc<dyn Any>> {
        Some(Rc::new(tls::ScriptSession::default()))
    }

    fn tls_certificate(&self, chain: &[u8], key: &[u8]) -> Result<Rc<dyn Any>, String> {
        Ok(Rc::new(tls::ScriptCertificate::new(chain, key)?))
    }

    fn alarm(&mut self, ms: u64) -> Waiting {
        Waiting::new(tokio::time::sleep(Duration::from_millis(ms)))
    }

    fn spawn(&mut self, waiting: Waiting) {
        tokio::task::spawn_local(waiting);
    }
}

/// Returns the number of the group that a `proxy_pass` to this host, or host and port, has made.
fn implied_group(config: &Config, name: &[u8]) -> Option<usize> {
    config.groups.iter().position(|entry| match entry.origin {
        Origin::Implied { port, .. } => {
            let host = entry.spec.name.as_bytes();
            host == name || [host, b":", port.to_string().as_bytes()].concat() == name
        }
        Origin::Block => false,
    })
}

/// The host while a generation is built: there is no request yet.
pub(crate) struct BootHost<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) logs: &'a Logs,
    pub(crate) counters: &'a ProcessCounters,
    /// The tables of the generation's switches, and the servers of its groups.
    pub(crate) routing: &'a Rc<Routing>,
}

impl Host for BootHost<'_> {
    files_and_names!();

    fn open(&mut self, request: OpenRequest<'_>) -> Result<Opened, FileError> {
        files::open(request)
    }

    fn now(&self) -> Now {
        self.clock.fresh()
    }

    fn random(&mut self) -> u64 {
        self.clock.fresh().epoch_us.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn script(&mut self, _: &Config, _: &mut Exchange, _: ScriptCall) -> ScriptOutcome {
        ScriptOutcome::Failed
    }

    fn access_log(&mut self, _config: &Config, log: LogId, line: &[u8]) {
        self.logs.write(log, line, self.clock.now().monotonic_ms());
    }

    fn error_log(&mut self, _config: &Config, log: LogId, level: Level, connection: u64, text: &[u8]) {
        self.logs.error(log, level, connection, text);
    }

    fn counters(&self) -> Counters {
        self.counters.read()
    }

    fn routing(&self) -> Option<Rc<Routing>> {
        Some(Rc::clone(self.routing))
    }
}
