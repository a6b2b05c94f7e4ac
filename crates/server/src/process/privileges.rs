//! Whose rights the worker process has, and its limits.
//!
//! Owns the way from root to `user`, in nginx's order: limits and priority first (they need root), then group,
//! supplementary groups, user; then the sandbox. Must never be called in a process that has started a thread.

use super::boot::{Boot, EnvRule, Limits, UserSpec};
use super::journal::{Journal, Said};
use super::log::Level;
use super::sandbox;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Group, Uid, User, geteuid, initgroups, setgid, setuid};
use std::ffi::{CString, OsString};
use std::io;
use std::path::Path;

/// A user found in the system's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    name: String,
    pub(super) uid: Uid,
    gid: Gid,
}

/// Looks up who the worker process will be. `None` when this process is not root and so cannot change that.
pub(super) fn owner(user: Option<&UserSpec>, journal: &Journal) -> Result<Option<Owner>, Said> {
    let place = user.map(|user| format!(" in {}", user.place)).unwrap_or_default();
    if !geteuid().is_root() {
        if user.is_some() {
            journal.say(
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
        let reason =
            error.map(|error| format!(" {}", super::journal::reason(&error.into()))).unwrap_or_default();
        journal.say(Level::Emerg, format_args!("{call}(\"{name}\") failed{reason}{place}"));
        Said
    };
    let name = user.map_or("nobody", |user| &user.user);
    let found = User::from_name(name);
    let Ok(Some(entry)) = found else { return Err(missing("getpwnam", name, found.err())) };
    let groups: Vec<&str> = match user {
        Some(user) => vec![user.group.as_deref().unwrap_or(name)],
        // nginx decides between the two when it is built, by what the system has.
        None => vec!["nogroup", "nobody"],
    };
    let mut last = None;
    for group in &groups {
        match Group::from_name(group) {
            Ok(Some(group)) => {
                return Ok(Some(Owner { name: name.to_owned(), uid: entry.uid, gid: group.gid }));
            }
            Ok(None) => {}
            Err(error) => last = Some(error),
        }
    }
    Err(missing("getgrnam", groups[0], last))
}

/// Makes this process what a worker process is to be. Failing to give up root is fatal; failing to get more of
/// something is only worth a line.
pub(super) fn become_worker(boot: &Boot, owner: Option<&Owner>, journal: &Journal) -> Result<(), Said> {
    limit(&boot.limits, journal);
    take_all_descriptors(boot.connections, journal);
    if let Some(owner) = owner {
        setgid(owner.gid).map_err(|error| fatal(journal, format_args!("setgid({})", owner.gid), error))?;
        let name = CString::new(owner.name.as_str()).map_err(|_| Said)?;
        if let Err(error) = initgroups(&name, owner.gid) {
            journal.failed(
                Level::Emerg,
                format_args!("initgroups({}, {})", owner.name, owner.gid),
                &error.into(),
            );
        }
        setuid(owner.uid).map_err(|error| fatal(journal, format_args!("setuid({})", owner.uid), error))?;
    }
    // After a change of user the kernel would write no core file, and tools could not look inside.
    if let Err(error) = nix::sys::prctl::set_dumpable(true) {
        journal.failed(Level::Alert, "prctl(PR_SET_DUMPABLE)", &error.into());
    }
    if let Some(folder) = &boot.limits.working_directory {
        go_to(folder, journal)?;
    }
    sandbox::enter(boot.limits.sandbox, journal);
    Ok(())
}

fn go_to(folder: &Path, journal: &Journal) -> Result<(), Said> {
    std::env::set_current_dir(folder).map_err(|error| {
        journal.failed(Level::Alert, format_args!("chdir(\"{}\")", folder.display()), &error)
    })
}

fn fatal(journal: &Journal, what: std::fmt::Arguments<'_>, error: Errno) -> Said {
    journal.failed(Level::Emerg, what, &error.into())
}

fn limit(limits: &Limits, journal: &Journal) {
    if limits.priority != 0 {
        // SAFETY: setpriority takes three numbers and touches no memory.
        #[allow(unsafe_code)]
        let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, limits.priority) };
        if let Err(error) = Errno::result(result) {
            journal.failed(Level::Alert, format_args!("setpriority({})", limits.priority), &error.into());
        }
    }
    let all = [
        (limits.open_files, Resource::RLIMIT_NOFILE, "RLIMIT_NOFILE"),
        (limits.core_bytes, Resource::RLIMIT_CORE, "RLIMIT_CORE"),
    ];
    for (wanted, resource, name) in all {
        let Some(wanted) = wanted else { continue };
        if let Err(error) = setrlimit(resource, wanted, wanted) {
            journal.failed(
                Level::Alert,
                format_args!("setrlimit({name}, {wanted})"),
                &io::Error::from(error),
            );
        }
    }
}

/// All threads share the process's descriptors, and the usual soft limit is meant for a program with one: it is raised
/// to the hard one. What may be too little even then is said in nginx's words.
fn take_all_descriptors(connections: u64, journal: &Journal) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        journal.failed(Level::Alert, format_args!("setrlimit(RLIMIT_NOFILE, {hard})"), &error.into());
    }
    if connections > hard {
        journal.say(
            Level::Warn,
            format_args!("{connections} worker_connections exceed open file resource limit: {hard}"),
        );
    }
}

/// Leaves of the environment only what the configuration names, and `TZ`, as nginx does.
pub(super) fn keep_environment(rules: &[EnvRule]) {
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
        // SAFETY: this process has a single thread (the module's rule), so nobody reads the environment meanwhile.
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
