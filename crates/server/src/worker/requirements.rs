//! The requirements of a configuration on the operating system: sockets, files, folders, rights.
//!
//! Owns the way from the engine's settings to a [`Requirements`]. Must never open anything: the master does.

use crate::context::logs::process_target;
use engine::Config;
use engine::config::ListenAddress;
use engine::modules::process as configured;
use engine::modules::proxy::default_temp_path;
use engine::modules::ssl::SslSource;
use engine::modules::switch::{StatePath, fleet_folder, groups_file};
use engine::modules::upstream::Origin;
use process::log::LogTarget;
use process::{
    Address, Directories, EnvRule, Keepalive, LateFiles, Limits, ListenSpec, Requirements, Sandbox,
};
use process::{SocketAccess, Source, UserSpec};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The pid file where the configuration names none.
const PID_FILE: &str = "logs/pointsman.pid";

/// Returns what the configuration requires of the operating system.
pub(crate) fn boot(config: &Config, source: &Source) -> Requirements {
    let main = &config.main;
    let listeners = config.listeners.iter().map(|listener| {
        let options = &listener.options;
        ListenSpec {
            backlog: options.backlog,
            reuseport: options.reuseport,
            ipv6only: options.ipv6only,
            deferred: options.deferred,
            rcvbuf: options.rcvbuf,
            sndbuf: options.sndbuf,
            keepalive: options.so_keepalive.map(|on| Keepalive {
                on,
                idle_s: None,
                interval_s: None,
                count: None,
            }),
            ..ListenSpec::new(address(&listener.address))
        }
    });
    Requirements {
        pid_path: main.pid.as_ref().cloned().unwrap_or_else(|| source.prefix.join(PID_FILE)),
        daemon: *main.daemon,
        master_process: *main.master_process,
        threads: main.worker_processes.unwrap_or_else(processors),
        user: main.user.as_ref().map(|(user, group)| UserSpec {
            user: user.clone(),
            group: group.clone(),
            place: source.conf_file.display().to_string(),
        }),
        connections: (main.worker_processes.unwrap_or_else(processors) * *main.worker_connections) as u64,
        limits: limits(config),
        environment: main
            .env
            .iter()
            .map(|(name, value)| EnvRule { name: name.into(), value: value.as_ref().map(Into::into) })
            .collect(),
        listeners: listeners.collect(),
        error_logs: main
            .error_log
            .iter()
            .map(|(log, level)| {
                (process_target(&config.logs[log.0 as usize].target, &source.error_log), *level)
            })
            .collect(),
        log_files: config
            .logs
            .iter()
            .filter_map(|log| match process_target(&log.target, &source.error_log) {
                LogTarget::File(path) => Some(path),
                LogTarget::Stderr => None,
            })
            .collect(),
        dirs: Directories {
            temp: temporary_folders(config),
            state: state_folders(config),
            optional: group_folder(config).into_iter().collect(),
        },
        control: control_socket(config),
        late_files: late_files(config),
        orphan_timeout: Duration::from_millis(*main.process.orphan_timeout_ms),
    }
}

/// Returns the limits of the worker process. `sandbox strict` promises that no program is started; without any script
/// or hook that is certain.
fn limits(config: &Config) -> Limits {
    let process = &config.main.process;
    Limits {
        open_files: *process.rlimit_nofile,
        core_bytes: *process.rlimit_core,
        priority: *process.priority,
        working_directory: process.working_directory.as_ref().cloned(),
        sandbox: match *process.sandbox {
            configured::Sandbox::Off => Sandbox::Off,
            configured::Sandbox::On if config.lua.used || config.http.acme.runs_programs() => Sandbox::On,
            configured::Sandbox::On | configured::Sandbox::Strict => Sandbox::NoPrograms,
        },
    }
}

/// Returns the folders for temporary files that any location uses.
pub(crate) fn temporary_folders(config: &Config) -> Vec<PathBuf> {
    let set = |path: &Option<PathBuf>, name: &str| path.clone().unwrap_or_else(|| config.prefix.join(name));
    let mut folders = vec![set(&config.http.client_body_temp_path, "client_body_temp")];
    for location in &config.locations {
        let proxy = &location.settings.proxy;
        let folder = set(&proxy.buffers.temp_path, &default_temp_path(proxy.kind));
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    // Responses on their way into a zone have temporary files there, too.
    folders.extend(config.http.caches.iter().map(|zone| zone.path.clone()));
    folders
}

/// Returns the certificates and keys that handshakes read, as far as their names are known.
fn late_files(config: &Config) -> Vec<LateFiles> {
    let mut found = Vec::new();
    let mut note = |named_by: String, source: &SslSource| {
        let SslSource::Late(late) = source else { return };
        found.extend(late.patterns(config).into_iter().map(|pattern| {
            let pattern = PathBuf::from(OsString::from_vec(pattern));
            LateFiles { named_by: named_by.clone(), pattern }
        }));
    };
    for (certificate, key) in config.servers.iter().flat_map(|server| server.ssl.late_pairs()) {
        note("ssl_certificate".to_owned(), certificate);
        note("ssl_certificate_key".to_owned(), key);
    }
    for proxy in config.locations.iter().map(|location| &location.settings.proxy) {
        let is_tls = proxy.pass.as_ref().is_some_and(|pass| pass.over_tls);
        if let (true, Some((certificate, key))) = (is_tls, proxy.ssl.late_pair()) {
            let prefix = proxy.kind.prefix();
            note(format!("{prefix}_ssl_certificate"), certificate);
            note(format!("{prefix}_ssl_certificate_key"), key);
        }
    }
    found.sort_by(|one, other| one.named_by.cmp(&other.named_by));
    found
}

/// Returns the folders in which switches keep their entries, and issuers of certificates their state.
fn state_folders(config: &Config) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        config.http.acme.issuers.iter().filter_map(|issuer| issuer.state.clone()).collect();
    if config.control.fleet.is_some() {
        let folder = fleet_folder(&config.prefix);
        // One level at a time.
        folders.extend(folder.parent().map(Path::to_owned));
        folders.push(folder);
    }
    for spec in &config.switches {
        if let StatePath::File(path) = &spec.state
            && let Some(folder) = path.parent()
            && !folders.iter().any(|known| known == folder)
        {
            folders.push(folder.to_owned());
        }
    }
    folders
}

/// Returns the folder in which orders on servers are kept. The worker process could not make it, if only root may write to
/// the prefix.
fn group_folder(config: &Config) -> Option<PathBuf> {
    let may_have_orders = config.groups.iter().any(|entry| entry.origin == Origin::Block);
    may_have_orders.then(|| groups_file(&config.prefix).parent().map(Path::to_owned)).flatten()
}

/// Returns the control socket. One that is not configured is optional: the server runs without it if it cannot be opened.
fn control_socket(config: &Config) -> Option<ListenSpec> {
    let socket = config.control.socket.as_ref()?;
    Some(ListenSpec {
        access: Some(SocketAccess { mode: socket.mode, group: socket.group.clone() }),
        optional: (!config.control.socket.written()).then_some("control"),
        ..ListenSpec::new(Address::Unix(socket.path.clone()))
    })
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn address(listen: &ListenAddress) -> Address {
    match listen {
        ListenAddress::Inet(address) => Address::Inet(*address),
        ListenAddress::Unix(path) => Address::Unix(path.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_that_are_filled_in_here_are_those_of_the_tables() {
        let default = |name: &str| {
            engine::config::directives()
                .find(|(_, entry)| entry.name == name)
                .and_then(|(_, entry)| entry.default)
        };
        assert_eq!(default("user"), Some(process::DEFAULT_USER));
        assert_eq!(default("pid"), Some(PID_FILE));
    }
}
