//! The privileges and limits of the worker process.
//!
//! Owns the way from root to `user`, in nginx's order: limits and priority first (they need root), then group,
//! supplementary groups and user, then the sandbox. Must never be called in a process that has started a thread.

use crate::log::Level;
use crate::process_log::{ProcessLog, Reported};
use crate::requirements::{EnvRule, Limits, Requirements, UserSpec};
use crate::sandbox;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Group, Uid, User, geteuid, initgroups, setgid, setuid};
use std::ffi::{CString, OsString};
use std::io;
use std::path::Path;

/// The user of the worker process, as the system's tables have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkerUser {
    pub(crate) name: String,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
}

/// The user of the worker process where the configuration names none.
pub const DEFAULT_USER: &str = "nobody";

/// Looks up the user of the worker process. `None` if this process is not root and cannot change it.
pub(crate) fn worker_user(user: Option<&UserSpec>, log: &ProcessLog) -> Result<Option<WorkerUser>, Reported> {
    let place = user.map(|user| format!(" in {}", user.place)).unwrap_or_default();
    if !geteuid().is_root() {
        if user.is_some() {
            log.write(
                Level::Warn,
                format_args!(
                    "the \"user\" directive makes sense only if the master process runs with super-user \
                     privileges, ignored{place}"
                ),
            );
        }
        return Ok(None);
    }
    let missing = |call: &str, name: &str, error: Option<Errno>| {
        let reason = error.map(|error| format!(" {}", crate::log::reason(&error.into()))).unwrap_or_default();
        log.write(Level::Emerg, format_args!("{call}(\"{name}\") failed{reason}{place}"));
        Reported
    };
    let name = user.map_or(DEFAULT_USER, |user| &user.user);
    let found = User::from_name(name);
    let Ok(Some(entry)) = found else { return Err(missing("getpwnam", name, found.err())) };
    let groups: Vec<&str> = match user {
        Some(user) => vec![user.group.as_deref().unwrap_or(name)],
        // nginx chooses one of the two when it is built.
        None => vec!["nogroup", "nobody"],
    };
    let mut last = None;
    for group in &groups {
        match Group::from_name(group) {
            Ok(Some(group)) => {
                return Ok(Some(WorkerUser { name: name.to_owned(), uid: entry.uid, gid: group.gid }));
            }
            Ok(None) => {}
            Err(error) => last = Some(error),
        }
    }
    Err(missing("getgrnam", groups[0], last))
}

/// Gives this process the limits, user and sandbox of a worker process. Failing to give up root is fatal; failing to raise
/// a limit is only logged.
pub(crate) fn become_worker(
    requirements: &Requirements,
    owner: Option<&WorkerUser>,
    log: &ProcessLog,
) -> Result<(), Reported> {
    limit(&requirements.limits, log);
    raise_open_files(requirements.connections, log);
    if let Some(owner) = owner {
        setgid(owner.gid).map_err(|error| fatal(log, format_args!("setgid({})", owner.gid), error))?;
        let name = CString::new(owner.name.as_str()).map_err(|_| Reported)?;
        if !owner.uid.is_root() {
            sandbox::drop_bounding_set(requirements.limits.sandbox, log);
        }
        if let Err(error) = initgroups(&name, owner.gid) {
            log.failed(
                Level::Emerg,
                format_args!("initgroups({}, {})", owner.name, owner.gid),
                &error.into(),
            );
        }
        setuid(owner.uid).map_err(|error| fatal(log, format_args!("setuid({})", owner.uid), error))?;
    }
    // After a change of user the kernel would write no core file, and tools could not look inside.
    if let Err(error) = nix::sys::prctl::set_dumpable(true) {
        log.failed(Level::Alert, "prctl(PR_SET_DUMPABLE)", &error.into());
    }
    if let Some(dir) = &requirements.limits.working_directory {
        change_dir(dir, log)?;
    }
    sandbox::enter(requirements.limits.sandbox, log);
    Ok(())
}

fn change_dir(dir: &Path, log: &ProcessLog) -> Result<(), Reported> {
    std::env::set_current_dir(dir)
        .map_err(|error| log.failed(Level::Alert, format_args!("chdir(\"{}\")", dir.display()), &error))
}

fn fatal(log: &ProcessLog, what: std::fmt::Arguments<'_>, error: Errno) -> Reported {
    log.failed(Level::Emerg, what, &error.into())
}

fn limit(limits: &Limits, log: &ProcessLog) {
    if limits.priority != 0 {
        // SAFETY: setpriority takes three numbers and touches no memory.
        #[allow(unsafe_code)]
        let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, limits.priority) };
        if let Err(error) = Errno::result(result) {
            log.failed(Level::Alert, format_args!("setpriority({})", limits.priority), &error.into());
        }
    }
    let all = [
        (limits.open_files, Resource::RLIMIT_NOFILE, "RLIMIT_NOFILE"),
        (limits.core_bytes, Resource::RLIMIT_CORE, "RLIMIT_CORE"),
    ];
    for (wanted, resource, name) in all {
        let Some(wanted) = wanted else { continue };
        if let Err(error) = setrlimit(resource, wanted, wanted) {
            log.failed(Level::Alert, format_args!("setrlimit({name}, {wanted})"), &io::Error::from(error));
        }
    }
}

/// Raises the limit of open files to the hard limit, since all threads share it. Logs nginx's warning if that is too low
/// for the connections.
fn raise_open_files(connections: u64, log: &ProcessLog) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        log.failed(Level::Alert, format_args!("setrlimit(RLIMIT_NOFILE, {hard})"), &error.into());
    }
    if connections > hard {
        log.write(
            Level::Warn,
            format_args!("{connections} worker_connections exceed open file resource limit: {hard}"),
        );
    }
}

/// Removes all from the environment but `TZ` and the variables that the configuration names, as nginx does.
pub(crate) fn keep_environment(rules: &[EnvRule]) {
    let mut kept: Vec<(OsString, OsString)> = Vec::new();
    let zone = EnvRule { name: "TZ".into(), value: None };
    // A value given later wins over one given earlier.
    for rule in std::iter::once(&zone).chain(rules) {
        let value = rule.value.clone().or_else(|| std::env::var_os(&rule.name));
        if let Some(value) = value {
            kept.retain(|(name, _)| *name != rule.name);
            kept.push((rule.name.clone(), value));
        }
    }
    for (name, _) in std::env::vars_os().collect::<Vec<_>>() {
        // SAFETY: this process has a single thread (the module's rule), so that nothing reads the environment meanwhile.
        #[allow(unsafe_code)]
        unsafe {
            std::env::remove_var(name);
        }
    }
    for (name, value) in kept {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(name, value);
        }
    }
}
