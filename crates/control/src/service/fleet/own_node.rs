//! This node's side of the fleet.
//!
//! Owns: what is wrong with it, and which process of the node speaks for it. Must never: know of a switch.

use engine::Config;
use engine::modules::switch::{FleetSpec, fleet_folder};
use fleet::record::Acknowledgement;
use fleet::{Etcd, EtcdSettings, FaultKind, Fleet, FleetFault, FleetSettings, FleetTimes, Membership};
use nix::fcntl::{Flock, FlockArg};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a member of etcd may take to answer.
const CALL: Duration = Duration::from_secs(2);

/// The node's side of the fleet.
pub(in crate::service) struct FleetService {
    pub(in crate::service) fleet: Fleet,
    pub(super) folder: PathBuf,
    /// What is wrong, for people; `None` while this node follows the fleet.
    pub(super) trouble: RefCell<Option<FleetFault>>,
    /// Held by the one process of this node that speaks for it.
    pub(super) voice: RefCell<Option<Flock<File>>>,
    /// Another process has taken over.
    pub(super) left: Cell<bool>,
    /// Another process runs under this node's name, and when that was seen.
    pub(super) twin: RefCell<Option<(FleetFault, Instant)>>,
    /// Something has changed for which the connection is made anew.
    pub(super) renew: Notify,
    /// Switches with a newer head than this node has.
    pub(super) behind: RefCell<BTreeSet<String>>,
    pub(super) is_behind: Notify,
    /// What all workers follow, by switch.
    pub(super) applied: RefCell<BTreeMap<String, Acknowledgement>>,
}

/// Reads the fleet that a configuration's node is in.
pub(in crate::service) fn membership(config: &Config) -> Result<Option<Membership>, String> {
    let Some(spec) = &config.control.fleet else { return Ok(None) };
    let file = file(config);
    let member = Membership::read(&file)?;
    let Some(found) = &member else { return Ok(None) };
    if found.node != spec.node || found.prefix != spec.prefix {
        return Err(format!(
            "the directive fleet says node={} prefix={}, and {} is of node={} prefix={}: put them back, or move the folder \
             away and join again (pointsman fleet join)",
            spec.node,
            spec.prefix,
            file.display(),
            found.node,
            found.prefix
        ));
    }
    Ok(member)
}

fn file(config: &Config) -> PathBuf {
    fleet_folder(&config.prefix).join("fleet.json")
}

impl FleetService {
    /// Returns the side of a node, not connected yet.
    pub(in crate::service) fn new(
        config: &Config,
        spec: &FleetSpec,
        member: Option<Membership>,
    ) -> FleetService {
        let etcd =
            Etcd::new(EtcdSettings { urls: spec.urls.clone(), user: spec.user.clone(), timeout: CALL });
        let settings = FleetSettings {
            prefix: spec.prefix.clone(),
            node: spec.node.clone(),
            times: FleetTimes::default(),
        };
        FleetService {
            fleet: Fleet::new(Box::new(etcd), settings, member),
            folder: fleet_folder(&config.prefix),
            trouble: RefCell::new(None),
            voice: RefCell::new(None),
            left: Cell::new(false),
            twin: RefCell::new(None),
            renew: Notify::new(),
            behind: RefCell::default(),
            is_behind: Notify::new(),
            applied: RefCell::default(),
        }
    }

    /// Has the node stated anew: its configuration has changed, or it has joined.
    pub(in crate::service) fn renew(&self) {
        self.renew.notify_one();
    }

    /// Lets another process of the node speak for it.
    pub(super) fn leave(&self) {
        self.left.set(true);
        *self.voice.borrow_mut() = None;
        self.fleet.disconnect();
        self.renew.notify_one();
    }

    /// Fails unless this process speaks for the node.
    pub(super) fn take_voice(&self) -> Result<(), FleetFault> {
        if self.voice.borrow().is_some() {
            return Ok(());
        }
        let path = self.folder.join("node.lock");
        let cannot = |what: String| {
            FleetFault::new(
                FaultKind::Refused,
                format!("{} cannot be locked: {what}", path.display()),
                "allow the worker's user to write to that folder",
            )
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(|error| cannot(error.to_string()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                *self.voice.borrow_mut() = Some(lock);
                Ok(())
            }
            Err((_, nix::errno::Errno::EWOULDBLOCK | nix::errno::Errno::EINTR)) => Err(FleetFault::new(
                FaultKind::Refused,
                "another process of this node speaks for it in the fleet",
                "finish the upgrade (pointsman upgrade, or QUIT to the old master); give orders to the other process until then",
            )),
            Err((_, errno)) => Err(cannot(errno.to_string())),
        }
    }

    /// Returns what is wrong.
    pub(super) fn trouble(&self) -> Option<FleetFault> {
        self.trouble.borrow().clone()
    }
}
