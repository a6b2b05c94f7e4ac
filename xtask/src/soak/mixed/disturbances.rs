//! Reloads, upgrades and kills of a running server, each waited for until it is over.
//!
//! Owns the steps of each and how long they took. Must never begin one while another is under way; switches go on all
//! the time.

use super::super::client::Connection;
use super::super::control::{Control, quantile};
use super::conf::{self, Ports};
use super::fleet::{Fleet, signal, until};
use super::ledger::Doing;
use super::traffic::{Random, World};
use nix::sys::signal::Signal;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// How many connections in a row must be answered under a configuration until it counts as in force everywhere.
const IN_FORCE: usize = 8;
/// How long two servers answer side by side in an upgrade.
const SIDE_BY_SIDE: Duration = Duration::from_millis(300);

/// How many of each, in the order of [`Doing`]; switches are not given here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amounts {
    pub(super) reloads: u64,
    pub(super) upgrades: u64,
    pub(super) kills: u64,
}

impl Amounts {
    /// Spread evenly among each other.
    pub(super) fn order(self) -> Vec<Doing> {
        let of = |doing, amount: u64, shift: f64| {
            (0..amount).map(move |n| ((n as f64 + shift) / amount as f64, doing))
        };
        let mut all: Vec<(f64, Doing)> = of(Doing::Reload, self.reloads, 0.5)
            .chain(of(Doing::Upgrade, self.upgrades, 0.4))
            .chain(of(Doing::Kill, self.kills, 0.7))
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all.into_iter().map(|(_, doing)| doing).collect()
    }
}

/// The one who disturbs.
pub(super) struct Disturber<'a> {
    pub(super) world: &'a World,
    pub(super) fleet: Fleet,
    pub(super) ports: Ports,
    pub(super) folder: PathBuf,
    /// The number of the configuration in force.
    number: u64,
    /// Configurations that were refused, as they should be.
    pub(super) refused: u64,
    took_us: [Vec<u64>; 4],
    random: Random,
}

impl<'a> Disturber<'a> {
    /// For a server that runs the configuration 0.
    pub(super) fn new(world: &'a World, fleet: Fleet, ports: Ports, folder: PathBuf) -> Disturber<'a> {
        Disturber {
            world,
            fleet,
            ports,
            folder,
            number: 0,
            refused: 0,
            took_us: Default::default(),
            random: Random::new(11),
        }
    }

    /// Does one thing, from its first step until everybody has it behind him.
    pub(super) fn disturb(&mut self, doing: Doing) -> Result<(), String> {
        if doing == Doing::Reload && self.number % 10 == 9 {
            self.reload_in_vain()?;
        }
        // As with nginx, a master changes its binary only when the one before it is gone, and with it the last tunnel.
        if doing == Doing::Upgrade {
            self.world.epoch.fetch_add(1, SeqCst);
            self.fleet.settle()?;
        }
        // Doors that will be shut get no new visitors from here on.
        if doing == Doing::Reload {
            let mut sides = self.world.sides.write().unwrap_or_else(|e| e.into_inner());
            for (side, door) in sides.iter_mut().enumerate() {
                if !conf::has_side(self.number + 1, side) {
                    *door = None;
                }
            }
        }
        let started = Instant::now();
        self.world.ledger.doing(doing);
        let done = match doing {
            Doing::Reload => self.reload(),
            Doing::Upgrade => self.upgrade(),
            Doing::Kill => self.kill(),
            Doing::Switch => Ok(()),
        };
        self.took_us[doing as usize].push(started.elapsed().as_micros() as u64);
        done.map_err(|error| format!("{}: {error}", doing.name()))
    }

    /// How long these took, in words.
    pub(super) fn times(&mut self, doing: Doing) -> String {
        let took = &mut self.took_us[doing as usize];
        took.sort_unstable();
        let at = |share| quantile(took, share) as f64 / 1000.0;
        format!("p50 {:.0} ms, max {:.0} ms", at(0.5), at(1.0))
    }

    /// A pause, so that something is there to be disturbed.
    pub(super) fn pause(&mut self, mean_ms: u64) {
        std::thread::sleep(Duration::from_millis(mean_ms / 2 + self.random.below(mean_ms.max(1))));
    }

    fn write(&self, text: &str) -> Result<(), String> {
        let path = self.folder.join("conf/nginx.conf");
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn reload(&mut self) -> Result<(), String> {
        let number = self.number + 1;
        self.write(&conf::text(number, &self.ports))?;
        signal(self.fleet.master()?, Signal::SIGHUP)?;
        let in_force = self.wait_for(number);
        self.world.ledger.done(Doing::Reload);
        in_force?;
        self.number = number;
        let mut sides = self.world.sides.write().unwrap_or_else(|e| e.into_inner());
        for (side, port) in self.ports.sides.iter().enumerate() {
            sides[side] = conf::has_side(number, side).then_some(*port);
        }
        Ok(())
    }

    /// A configuration that cannot be is refused with a word in the log, and the one in force stays.
    fn reload_in_vain(&mut self) -> Result<(), String> {
        let before = self.fleet.log(&["emerg"]).len();
        self.write(&conf::bad_text(self.number, &self.ports))?;
        self.world.ledger.doing(Doing::Reload);
        let told = signal(self.fleet.master()?, Signal::SIGHUP).and_then(|()| {
            until("a word about a bad configuration", || self.fleet.log(&["emerg"]).len() > before)
        });
        self.world.ledger.done(Doing::Reload);
        told?;
        self.refused += 1;
        self.wait_for(self.number)
    }

    /// Waits until every thread answers under this configuration.
    fn wait_for(&self, number: u64) -> Result<(), String> {
        let expected = format!("{number}\n");
        let answers =
            || Ok::<_, String>(Connection::open(self.world.front)?.ask("/config")?.body == expected);
        let mut row = 0;
        let mut last = Ok(true);
        until(&format!("configuration {number}"), || {
            last = answers();
            row = if last == Ok(true) { row + 1 } else { 0 };
            row >= IN_FORCE
        })
        .map_err(|error| format!("{error}: {last:?}"))
    }

    /// A binary in place of the running one, as nginx's manual does it.
    fn upgrade(&mut self) -> Result<(), String> {
        let done = self.upgrade_now();
        self.world.ledger.done(Doing::Upgrade);
        done
    }

    fn upgrade_now(&mut self) -> Result<(), String> {
        let old = self.fleet.master()?;
        signal(old, Signal::SIGUSR2)?;
        let mut new = old;
        until("a second master", || {
            new = self.fleet.master().unwrap_or(old);
            new != old
        })?;
        self.fleet.follow(new);
        until("the new master's worker", || self.fleet.worker(new).is_some())?;
        until("the new control socket", || {
            Control::open_now(&self.folder).and_then(|mut control| control.get("/v1/switches/live")).is_ok()
        })?;
        self.wait_for(self.number)?;
        std::thread::sleep(SIDE_BY_SIDE);
        signal(old, Signal::SIGWINCH)?;
        std::thread::sleep(SIDE_BY_SIDE);
        signal(old, Signal::SIGQUIT)?;
        std::thread::sleep(SIDE_BY_SIDE);
        match self.fleet.master()? {
            master if master == new => self.wait_for(self.number),
            other => Err(format!("the pid file names {other}, and the new master is {new}")),
        }
    }

    /// The worker process dies without a word; another one must be there before anybody is turned away.
    fn kill(&mut self) -> Result<(), String> {
        let master = self.fleet.master()?;
        let worker = self.fleet.worker(master).ok_or("there is no worker to kill")?;
        let killed = signal(worker, Signal::SIGKILL)
            .and_then(|()| until("the worker's death", || !crate::server::runs(&worker.to_string())));
        self.world.ledger.done(Doing::Kill);
        killed?;
        until("another worker", || self.fleet.worker(master).is_some_and(|other| other != worker))?;
        self.wait_for(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disturbances_are_mixed() {
        let order = Amounts { reloads: 10, upgrades: 2, kills: 3 }.order();
        let of = |doing| order.iter().filter(|one| **one == doing).count();
        assert_eq!((order.len(), of(Doing::Reload), of(Doing::Upgrade), of(Doing::Kill)), (15, 10, 2, 3));
        assert!(order[..8].contains(&Doing::Upgrade) && order[8..].contains(&Doing::Upgrade));
    }
}
