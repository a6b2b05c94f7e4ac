//! The top of the file: the process and its workers.

use super::Module;
use crate::config::{Builder, LogId, once};
use crate::directive::{Args, Contexts, Directive};
use crate::host::Level;
use crate::setting::Setting;
use conf::Diagnostic;
use std::path::PathBuf;

/// What the process is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Go to the background.
    pub daemon: Setting<bool>,
    /// Have a master over the worker.
    pub master_process: Setting<bool>,
    /// Threads; `None` is `auto`: as many as there are processors.
    pub worker_processes: Setting<Option<usize>>,
    /// Connections a thread may have open.
    pub worker_connections: Setting<usize>,
    /// The limit on open descriptors, if it is set.
    pub worker_rlimit_nofile: Setting<Option<u64>>,
    /// How long old connections may go on after a reload or a graceful stop, in ms; 0 is for ever.
    pub worker_shutdown_timeout_ms: Setting<u64>,
    /// Where the master's number is written.
    pub pid: Setting<Option<PathBuf>>,
    /// Who the worker runs as, and the group if it is named.
    pub user: Setting<Option<(String, Option<String>)>>,
    /// `error_log` at the top.
    pub error_log: Setting<Vec<(LogId, Level)>>,
    /// Environment variables kept or set (`env`).
    pub env: Setting<Vec<(String, Option<String>)>>,
    /// Take many connections at once.
    pub multi_accept: Setting<bool>,
    /// Take turns in accepting: kept because it is written, for one process needs no mutex.
    pub accept_mutex: Setting<bool>,
    /// There is an `events` block.
    pub has_events: bool,
    /// The system's call for readiness, as written.
    pub event_method: Setting<Option<String>>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            daemon: Setting::new(true),
            master_process: Setting::new(true),
            worker_processes: Setting::new(Some(1)),
            worker_connections: Setting::new(512),
            worker_rlimit_nofile: Setting::new(None),
            worker_shutdown_timeout_ms: Setting::new(0),
            pid: Setting::new(None),
            user: Setting::new(None),
            error_log: Setting::new(Vec::new()),
            env: Setting::new(Vec::new()),
            multi_accept: Setting::new(false),
            accept_mutex: Setting::new(false),
            has_events: false,
            event_method: Setting::new(None),
        }
    }
}

/// The module.
pub static MODULE: Module = Module::new("main", &[DIRECTIVES]);

const DIRECTIVES: &[Directive] = &[
    Directive {
        name: "daemon",
        contexts: Contexts::MAIN,
        args: Args::Flag,
        doc: "Whether to go to the background.",
        example: "daemon off;",
        apply: |b, d| {
            let on = b.flag(d)?;
            once(b.draft.main.daemon.write(on), d)
        },
    },
    Directive {
        name: "master_process",
        contexts: Contexts::MAIN,
        args: Args::Flag,
        doc: "Whether a master process watches over the worker; off is for tests.",
        example: "master_process off;",
        apply: |b, d| {
            let on = b.flag(d)?;
            once(b.draft.main.master_process.write(on), d)
        },
    },
    Directive {
        name: "worker_processes",
        contexts: Contexts::MAIN,
        args: Args::Exactly(1),
        doc: "How many threads serve; auto is one for each processor. (In nginx: processes.)",
        example: "worker_processes auto;",
        apply: worker_processes,
    },
    Directive {
        name: "worker_rlimit_nofile",
        contexts: Contexts::MAIN,
        args: Args::Exactly(1),
        doc: "The limit on open descriptors of the worker process.",
        example: "worker_rlimit_nofile 65536;",
        apply: |b, d| {
            let limit = b.number(&d.args[0])?;
            once(b.draft.main.worker_rlimit_nofile.write(Some(limit)), d)
        },
    },
    Directive {
        name: "worker_shutdown_timeout",
        contexts: Contexts::MAIN,
        args: Args::Exactly(1),
        doc: "How long old connections may go on after a reload or a graceful stop.",
        example: "worker_shutdown_timeout 30s;",
        apply: |b, d| {
            let ms = b.time_ms(&d.args[0])?;
            once(b.draft.main.worker_shutdown_timeout_ms.write(ms), d)
        },
    },
    Directive {
        name: "pid",
        contexts: Contexts::MAIN,
        args: Args::Exactly(1),
        doc: "The file that holds the master's process number.",
        example: "pid logs/pointsman.pid;",
        apply: |b, d| {
            let path = b.path(&d.args[0])?;
            once(b.draft.main.pid.write(Some(path)), d)
        },
    },
    Directive {
        name: "user",
        contexts: Contexts::MAIN,
        args: Args::Between(1, 2),
        doc: "Who the worker process runs as when the master is root.",
        example: "user www-data www-data;",
        apply: |b, d| {
            let user = d.args[0].str()?.to_owned();
            let group = d.args.get(1).map(|word| word.str().map(str::to_owned)).transpose()?;
            once(b.draft.main.user.write(Some((user, group))), d)
        },
    },
    Directive {
        name: "env",
        contexts: Contexts::MAIN,
        args: Args::Exactly(1),
        doc: "An environment variable that scripts may see: NAME keeps it, NAME=VALUE sets it.",
        example: "env TZ=UTC;",
        apply: |b, d| {
            let text = d.args[0].str()?;
            let pair = match text.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (text.to_owned(), None),
            };
            b.draft.main.env.push(pair);
            Ok(())
        },
    },
];

fn worker_processes(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let count = match word.text() {
        text if text == "auto" => None,
        text => match crate::config::number(text) {
            Some(count @ 1..=1024) => Some(count as usize),
            _ => return Err(b.invalid_setting(word).mend("a number from 1 to 1024, or auto")),
        },
    };
    once(b.draft.main.worker_processes.write(count), d)
}
