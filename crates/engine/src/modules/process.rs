//! The top of the file: the process and its workers.

use super::Module;
use crate::config::{Builder, LogId, invalid_choice, number, once};
use crate::directive::{Args, Contexts, Directive};
use crate::host::Level;
use crate::setting::settings;
use conf::known_directives::{self, DirectiveOrigin};
use conf::{Diagnostic, Span};
use std::path::PathBuf;

/// Restrictions on a worker process beyond those of its user (`sandbox`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// Nothing more.
    Off,
    /// System calls that no worker needs are refused; so is starting programs, if the configuration has no Lua.
    On,
    /// That, and start programs.
    Strict,
}

settings! {
    /// The worker process as the system sees it.
    pub struct ProcessSettings {
        /// The limit on open descriptors, if it is set.
        pub rlimit_nofile: Option<u64> = None,
        /// The limit on the size of a core file in bytes, if it is set.
        pub rlimit_core: Option<u64> = None,
        /// Its priority: from -20, the highest, to 20.
        pub priority: i32 = 0,
        /// The directory that it works in: core files are written there.
        pub working_directory: Option<PathBuf> = None,
        /// Its restrictions.
        pub sandbox: Sandbox = Sandbox::On,
        /// The longest time that it serves on after the death of its master, in ms; 0: it does not.
        pub orphan_timeout_ms: u64 = 600_000,
    }
}

settings! {
    /// Settings of the process.
    pub struct MainSettings {
        /// Go to the background.
        pub daemon: bool = true,
        /// Have a master over the worker.
        pub master_process: bool = true,
        /// Threads; `None` is `auto`: as many as there are processors.
        pub worker_processes: Option<usize> = Some(1),
        /// Connections a thread may have open.
        pub worker_connections: usize = 512,
        /// The longest time that old connections may continue after a reload or a graceful stop, in ms; 0 is unlimited.
        pub worker_shutdown_timeout_ms: u64 = 0,
        /// The file that gets the master's process id.
        pub pid: Option<PathBuf> = None,
        /// The user that the worker runs as, and the group if it is named.
        pub user: Option<(String, Option<String>)> = None,
        /// `error_log` at the top.
        pub error_log: Vec<(LogId, Level)> = Vec::new(),
        /// Environment variables kept or set (`env`).
        pub env: Vec<(String, Option<String>)> = Vec::new(),
        /// Take many connections at once.
        pub multi_accept: bool = false,
        /// Take turns in accepting: kept because it is written, for one process needs no mutex.
        pub accept_mutex: bool = false,
        /// The system's call for readiness, as written.
        pub event_method: Option<String> = None,
    }
    nested {
        /// Limits and rights of the worker process.
        pub process: ProcessSettings,
    }
    not a setting {
        /// There is an `events` block.
        pub has_events: bool = false,
        /// Where `user` names root.
        pub user_root: Option<Span> = None,
    }
}

/// The module.
pub static MODULE: Module = Module { finish: Some(look_at_user), ..Module::new("process", &[DIRECTIVES]) };

/// Warns of scripts with root's rights.
fn look_at_user(b: &mut Builder<'_>) {
    if let Some(place) = b.draft.main.user_root
        && b.draft.lua.used
    {
        b.diagnostics.push(
            Diagnostic::warn(place, "scripts run with the rights of root").help(
                "give the worker process a user of its own: what a script may do, a fault in it may do",
            ),
        );
    }
}

/// Modules of nginx's whose directives are here.
const BUILT_IN: [&str; 7] = [
    "ndk_http_module",
    "ngx_http_lua_module",
    "ngx_http_headers_more_filter_module",
    "ngx_http_brotli_filter_module",
    "ngx_http_brotli_static_module",
    "ngx_http_zstd_filter_module",
    "ngx_http_zstd_static_module",
];

/// Takes the name of a module that is built in, and says so of one of nginx's that is not.
fn load_module(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let text = word.str()?;
    let file = text.rsplit('/').next().unwrap_or(text);
    let name = file.strip_suffix(".so").unwrap_or(file);
    let is_nginx_own = || {
        matches!(name, "ngx_stream_module" | "ngx_mail_module")
            || known_directives::all().iter().any(|entry| {
                let DirectiveOrigin::Nginx(module) = entry.origin else { return false };
                module == name || module.replace("_filter_module", "_module") == name
            })
    };
    if BUILT_IN.contains(&name) {
        return Ok(());
    }
    if !is_nginx_own() {
        let text = format!("the module \"{name}\" cannot be loaded: it is not built into pointsman");
        return Err(
            Diagnostic::error(word.span, text).help("remove the line if none of its directives is used")
        );
    }
    let text = format!("the module \"{name}\" is not loaded: pointsman loads no modules of nginx");
    let help = "remove the line; a directive of it that pointsman does not know is an error of its own";
    b.diagnostics.push(Diagnostic::warn(word.span, text).help(help));
    Ok(())
}

const DIRECTIVES: &[Directive] = &[
    Directive::new("load_module", Contexts::MAIN, Args::Exactly(1), "file", load_module)
        .doc(
            "Has no effect for modules that are built in (ngx_http_lua_module), is a warning for modules of nginx \
             itself, whose directives are refused if they are not supported, and an error for others.",
        )
        .example("load_module modules/ngx_http_lua_module.so;"),
    Directive::flag("daemon", Contexts::MAIN, |b| &mut b.draft.main.daemon)
        .default("on")
        .doc("Whether to run in the background.")
        .example("daemon off;"),
    Directive::flag("master_process", Contexts::MAIN, |b| &mut b.draft.main.master_process)
        .default("on")
        .doc("Whether a master process supervises the worker process; off is for tests.")
        .example("master_process off;"),
    Directive::new("worker_processes", Contexts::MAIN, Args::Exactly(1), "number | auto", worker_processes)
        .default("1")
        .doc("The number of threads that serve; auto is one for each processor. (In nginx: processes.)")
        .example("worker_processes auto;"),
    Directive::new("worker_rlimit_nofile", Contexts::MAIN, Args::Exactly(1), "number", |b, d| {
        let limit = b.number(&d.args[0])?;
        once(b.draft.main.process.rlimit_nofile.write(Some(limit)), d)
    })
    .doc("The maximum number of open file descriptors of the worker process.")
    .example("worker_rlimit_nofile 65536;"),
    Directive::new("worker_rlimit_core", Contexts::MAIN, Args::Exactly(1), "size", |b, d| {
        let limit = b.size(&d.args[0])?;
        once(b.draft.main.process.rlimit_core.write(Some(limit)), d)
    })
    .doc("The largest core file of the worker process.")
    .example("worker_rlimit_core 500m;"),
    Directive::new("worker_priority", Contexts::MAIN, Args::Exactly(1), "number", worker_priority)
        .default("0")
        .doc("The scheduling priority of the worker process, from -20 (highest) to 20.")
        .example("worker_priority -5;"),
    Directive::new("working_directory", Contexts::MAIN, Args::Exactly(1), "directory", |b, d| {
        let path = PathBuf::from(d.args[0].str()?);
        once(b.draft.main.process.working_directory.write(Some(path)), d)
    })
    .doc("The working directory of the worker process, where core files are written.")
    .example("working_directory /var/crash;"),
    Directive::new("sandbox", Contexts::MAIN, Args::Exactly(1), "off | on | strict", |b, d| {
        let how = match &**d.args[0].text() {
            b"off" => Sandbox::Off,
            b"on" => Sandbox::On,
            b"strict" => Sandbox::Strict,
            _ => return Err(invalid_choice(&d.args[0]).help("off, on or strict")),
        };
        once(b.draft.main.process.sandbox.write(how), d)
    })
    .default("on")
    .doc(
        "pointsman's own: whether the kernel refuses the worker process the system calls that it does not need. on \
         also refuses starting programs if there is no Lua and no dns_hook; strict always does.",
    )
    .example("sandbox strict;"),
    Directive::time("worker_shutdown_timeout", Contexts::MAIN, |b| {
        &mut b.draft.main.worker_shutdown_timeout_ms
    })
    .default("0")
    .doc("How long old connections may continue after a reload or a graceful stop.")
    .example("worker_shutdown_timeout 30s;"),
    Directive::time("orphan_timeout", Contexts::MAIN, |b| &mut b.draft.main.process.orphan_timeout_ms)
        .default("10m")
        .doc(
            "pointsman's own: how long the worker process continues to serve, without accepting orders, after its \
             master was killed. A start with the same `pid` takes over its sockets; 0 ends it with its master.",
        )
        .example("orphan_timeout 1h;"),
    Directive::new("pid", Contexts::MAIN, Args::Exactly(1), "file", |b, d| {
        let path = b.path(&d.args[0])?;
        once(b.draft.main.pid.write(Some(path)), d)
    })
    .default("logs/pointsman.pid")
    .doc("The file that holds the master's process ID.")
    .example("pid logs/pointsman.pid;"),
    Directive::new("user", Contexts::MAIN, Args::Between(1, 2), "user [group]", |b, d| {
        let user = d.args[0].str()?.to_owned();
        b.draft.main.user_root = (user == "root").then_some(d.args[0].span);
        let group = d.args.get(1).map(|word| word.str().map(str::to_owned)).transpose()?;
        once(b.draft.main.user.write(Some((user, group))), d)
    })
    .default("nobody")
    .doc(
        "The user and group of the worker process if the master runs as root. Without a group, it is the one named \
         like the user; without the directive, `nogroup` or `nobody`, whichever exists.",
    )
    .example("user www-data www-data;"),
    Directive::new("env", Contexts::MAIN, Args::Exactly(1), "variable[=value]", |b, d| {
        let text = d.args[0].str()?;
        let pair = match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text.to_owned(), None),
        };
        b.draft.main.env.push(pair);
        Ok(())
    })
    .default("TZ")
    .doc("An environment variable that scripts can read: NAME keeps it, NAME=VALUE sets it.")
    .example("env TZ=UTC;"),
];

fn worker_processes(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let count = match word.text() {
        text if text == "auto" => None,
        text => match crate::config::number(text) {
            Some(count @ 1..=1024) => Some(count as usize),
            _ => return Err(b.invalid_setting(word).help("a number from 1 to 1024, or auto")),
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
        _ => Err(b.invalid_setting(word).help("a number from -20 to 20")),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::faults_of;

    #[test]
    fn scripts_with_the_rights_of_root_are_warned_of() {
        let script = "http { server { location / { content_by_lua_block { ngx.say('x') } } } }";
        let warned = faults_of(&format!("user root;\nevents {{}} {script}"));
        assert_eq!(warned, ["scripts run with the rights of root in /etc/pointsman/nginx.conf:1"]);
        for fine in
            [format!("user www-data; events {{}} {script}"), "user root; events {} http {}".to_owned()]
        {
            assert_eq!(faults_of(&fine), [] as [String; 0]);
        }
    }

    #[test]
    fn modules_that_are_built_in_need_no_loading() {
        let file = "in /etc/pointsman/nginx.conf:1";
        for (module, fault) in [
            ("modules/ngx_http_lua_module.so", None),
            ("ndk_http_module.so", None),
            (
                "modules/ngx_http_image_filter_module.so",
                Some(
                    "the module \"ngx_http_image_filter_module\" is not loaded: pointsman loads no modules of nginx",
                ),
            ),
            (
                "/usr/lib/nginx/modules/ngx_stream_module.so",
                Some("the module \"ngx_stream_module\" is not loaded: pointsman loads no modules of nginx"),
            ),
            (
                "modules/ngx_http_echo_module.so",
                Some("the module \"ngx_http_echo_module\" cannot be loaded: it is not built into pointsman"),
            ),
        ] {
            let expected: Vec<_> = fault.iter().map(|fault| format!("{fault} {file}")).collect();
            assert_eq!(
                faults_of(&format!("load_module {module}; events {{}} http {{}}")),
                expected,
                "{module}"
            );
        }
    }
}
