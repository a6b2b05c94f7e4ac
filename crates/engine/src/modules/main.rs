//! The top of the file: the process and its workers.

use super::Module;
use crate::config::{Builder, LogId, invalid_choice, number, once};
use crate::directive::{Args, Contexts, Directive};
use crate::host::Level;
use crate::setting::Setting;
use conf::Diagnostic;
use std::path::PathBuf;

/// What a worker process may not do, beyond what its user may not (`sandbox`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// Nothing more.
    Off,
    /// What no worker needs; start programs neither, where there is no script that might.
    On,
    /// That, and start programs.
    Strict,
}

/// The worker process as the system sees it.
#[derive(Clone, Debug)]
pub struct Process {
    /// The limit on open descriptors, if it is set.
    pub rlimit_nofile: Setting<Option<u64>>,
    /// The limit on the size of a core file in bytes, if it is set.
    pub rlimit_core: Setting<Option<u64>>,
    /// Its priority: from -20, the highest, to 20.
    pub priority: Setting<i32>,
    /// The folder that it works in: where core files go.
    pub working_directory: Setting<Option<PathBuf>>,
    /// What it may not do.
    pub sandbox: Setting<Sandbox>,
}

impl Default for Process {
    fn default() -> Self {
        Process {
            rlimit_nofile: Setting::new(None),
            rlimit_core: Setting::new(None),
            priority: Setting::new(0),
            working_directory: Setting::new(None),
            sandbox: Setting::new(Sandbox::On),
        }
    }
}

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
    /// What the worker process may and may not.
    pub process: Process,
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
            process: Process::default(),
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
            once(b.draft.main.process.rlimit_nofile.write(Some(limit)), d)
        },
    },
    Directive {
        name: "worker_rlimit_core",
        contexts: Contexts::MAIN,
        args: Args::Exactly(1),
        doc: "The largest core file of the worker process.",
        example: "worker_rlimit_core 500m;",
        apply: |b, d| {
            let limit = b.size(&d.args[0])?;
            once(b.draft.main.process.rlimit_core.write(Some(limit)), d)
        },
    },
    Directive {
        name: "worker_priority",
        contexts: Contexts::MAIN,
        args: Args::Exactly(1),
        doc: "The priority of the worker process, from -20 (before others) to 20.",
        example: "worker_priority -5;",
        apply: worker_priority,
    },
    Directive {
        name: "working_directory",
        contexts: Contexts::MAIN,
        args: Args::Exactly(1),
        doc: "The directory that the worker process works in: core files are written there.",
        example: "working_directory /var/crash;",
        apply: |b, d| {
            let path = PathBuf::from(d.args[0].str()?);
            once(b.draft.main.process.working_directory.write(Some(path)), d)
        },
    },
    Directive {
        name: "sandbox",
        contexts: Contexts::MAIN,
        args: Args::Exactly(1),
        doc: "pointsman's own: whether the kernel refuses the worker process what none needs (off, on; strict: starting programs too, which on refuses where there is no Lua).",
        example: "sandbox strict;",
        apply: |b, d| {
            let how = match &**d.args[0].text() {
                b"off" => Sandbox::Off,
                b"on" => Sandbox::On,
                b"strict" => Sandbox::Strict,
                _ => return Err(invalid_choice(&d.args[0]).mend("off, on or strict")),
            };
            once(b.draft.main.process.sandbox.write(how), d)
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

fn worker_priority(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let (sign, digits) = match &**word.text() {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] | digits => (1, digits),
    };
    match number(digits) {
        Some(number @ 0..=20) => once(b.draft.main.process.priority.write(sign * number as i32), d),
        _ => Err(b.invalid_setting(word).mend("a number from -20 to 20")),
    }
}
