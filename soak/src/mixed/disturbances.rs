//! Reloads, upgrades and kills of a running server, one at a time. Switches go on meanwhile.

use std::rc::Rc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::sys::signal::Signal;
use testkit::proc;

use super::conf;
use super::ledger::Disturbance;
use super::servers::{Servers, until};
use super::traffic::Run;
use crate::client::Client;
use crate::control::Control;
use crate::durations::Durations;
use crate::server::{SharedDir, signal};

/// How many connections in a row must be answered by a configuration until it counts as active in every thread.
const ACTIVE_AFTER: usize = 8;
/// How long two servers answer side by side in an upgrade.
const SIDE_BY_SIDE: Duration = Duration::from_millis(300);

/// How many of each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amounts {
    pub(super) reloads: u64,
    pub(super) upgrades: u64,
    pub(super) kills: u64,
}

impl Amounts {
    /// Spreads them evenly among each other.
    pub(super) fn order(self) -> Vec<Disturbance> {
        let of = |disturbance, amount: u64, shift: f64| {
            (0..amount).map(move |n| ((n as f64 + shift) / amount as f64, disturbance))
        };
        let mut all: Vec<(f64, Disturbance)> = of(Disturbance::Reload, self.reloads, 0.5)
            .chain(of(Disturbance::Upgrade, self.upgrades, 0.4))
            .chain(of(Disturbance::Kill, self.kills, 0.7))
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all.into_iter().map(|(_, disturbance)| disturbance).collect()
    }
}

/// Disturbs a server.
pub(super) struct Disturber<'a> {
    run: &'a Run,
    pub(super) servers: Servers,
    origins: [u16; 5],
    dir: SharedDir,
    /// The number of the active configuration.
    number: u64,
    /// Invalid configurations that were rejected, as they should be.
    pub(super) rejected: u64,
    took: [Durations; 4],
    random: Rng,
}

impl<'a> Disturber<'a> {
    /// Takes over a server that runs configuration 0.
    pub(super) fn new(
        run: &'a Run,
        servers: Servers,
        origins: [u16; 5],
        dir: &SharedDir,
    ) -> Result<Disturber<'a>, String> {
        let took = [Durations::new()?, Durations::new()?, Durations::new()?, Durations::new()?];
        let (dir, random) = (Rc::clone(dir), Rng::with_seed(11));
        Ok(Disturber { run, servers, origins, dir, number: 0, rejected: 0, took, random })
    }

    /// Causes one disturbance, and waits until it is over.
    pub(super) fn disturb(&mut self, disturbance: Disturbance) -> Result<(), String> {
        if disturbance == Disturbance::Reload && self.number % 10 == 9 {
            self.reload_invalid()?;
        }
        // As with nginx, a master upgrades only when the one before it is gone, and with it the last tunnel.
        if disturbance == Disturbance::Upgrade {
            self.run.epoch.fetch_add(1, SeqCst);
            self.servers.settle()?;
        }
        // Ports that will close get no new connections from here on.
        if disturbance == Disturbance::Reload {
            let mut sides = self.run.sides.write().unwrap_or_else(|e| e.into_inner());
            for (side, port) in sides.iter_mut().enumerate() {
                if !conf::has_side(self.number + 1, side) {
                    *port = None;
                }
            }
        }
        let started = Instant::now();
        self.run.ledger.disturb(disturbance);
        let done = match disturbance {
            Disturbance::Reload => self.reload(),
            Disturbance::Upgrade => self.upgrade(),
            Disturbance::Kill => self.kill(),
            Disturbance::Switch => Ok(()),
        };
        self.took[disturbance as usize].record(started.elapsed());
        done.map_err(|error| format!("{}: {error}", disturbance.name()))
    }

    /// Returns how long the disturbances of a kind took, as text.
    pub(super) fn times(&self, disturbance: Disturbance) -> String {
        self.took[disturbance as usize].in_ms(&[0.5, 1.0])
    }

    /// Pauses, so that there is traffic between disturbances.
    pub(super) fn pause(&mut self, mean_ms: u64) {
        std::thread::sleep(Duration::from_millis(mean_ms / 2 + self.random.u64(..mean_ms.max(1))));
    }

    fn write(&self, text: &str) -> Result<(), String> {
        self.dir.write("conf/nginx.conf", self.dir.fill_in(text).as_bytes(), 0o644)
    }

    fn reload(&mut self) -> Result<(), String> {
        let number = self.number + 1;
        self.write(&conf::text(number, &self.origins))?;
        signal(self.servers.master()?, Signal::SIGHUP)?;
        let active = self.wait_for(number);
        self.run.ledger.done(Disturbance::Reload);
        active?;
        self.number = number;
        let mut sides = self.run.sides.write().unwrap_or_else(|e| e.into_inner());
        for (side, name) in ["side0", "side1"].iter().enumerate() {
            sides[side] = if conf::has_side(number, side) { Some(self.dir.port(name)?) } else { None };
        }
        Ok(())
    }

    /// Reloads with an invalid configuration: the log says why it is rejected, and the active one stays.
    fn reload_invalid(&mut self) -> Result<(), String> {
        let before = self.servers.log(&["emerg"]).len();
        self.write(&conf::invalid_text(self.number, &self.origins))?;
        self.run.ledger.disturb(Disturbance::Reload);
        let logged = signal(self.servers.master()?, Signal::SIGHUP).and_then(|()| {
            until("the rejection of a configuration", || self.servers.log(&["emerg"]).len() > before)
        });
        self.run.ledger.done(Disturbance::Reload);
        logged?;
        self.rejected += 1;
        self.wait_for(self.number)
    }

    /// Waits until every thread answers with this configuration.
    fn wait_for(&self, number: u64) -> Result<(), String> {
        let expected = format!("{number}\n");
        let answers = || Ok::<_, String>(Client::connect(self.run.front)?.get("/config")?.body == expected);
        let mut row = 0;
        let mut last = Ok(true);
        until(&format!("configuration {number}"), || {
            last = answers();
            row = if last == Ok(true) { row + 1 } else { 0 };
            row >= ACTIVE_AFTER
        })
        .map_err(|error| format!("{error}: {last:?}"))
    }

    /// Upgrades the binary with the signals of nginx's manual.
    fn upgrade(&mut self) -> Result<(), String> {
        let done = self.upgrade_now();
        self.run.ledger.done(Disturbance::Upgrade);
        done
    }

    fn upgrade_now(&mut self) -> Result<(), String> {
        let old = self.servers.master()?;
        signal(old, Signal::SIGUSR2)?;
        let mut new = old;
        until("a second master", || {
            new = self.servers.master().unwrap_or(old);
            new != old
        })?;
        self.servers.add_master(new);
        until("the new master's worker", || self.servers.worker(new).is_some())?;
        until("the new control socket", || {
            Control::open_now(self.dir.prefix())
                .and_then(|mut control| control.get("/v1/switches/live"))
                .is_ok()
        })?;
        self.wait_for(self.number)?;
        std::thread::sleep(SIDE_BY_SIDE);
        signal(old, Signal::SIGWINCH)?;
        std::thread::sleep(SIDE_BY_SIDE);
        signal(old, Signal::SIGQUIT)?;
        std::thread::sleep(SIDE_BY_SIDE);
        match self.servers.master()? {
            master if master == new => self.wait_for(self.number),
            other => Err(format!("the pid file names {other}, and the new master is {new}")),
        }
    }

    /// Kills the worker process; another one must take over before any connection is refused.
    fn kill(&mut self) -> Result<(), String> {
        let master = self.servers.master()?;
        let worker = self.servers.worker(master).ok_or("there is no worker to kill")?;
        let killed = signal(worker, Signal::SIGKILL)
            .and_then(|()| until("the worker's death", || !proc::is_running(worker)));
        self.run.ledger.done(Disturbance::Kill);
        killed?;
        until("another worker", || self.servers.worker(master).is_some_and(|other| other != worker))?;
        self.wait_for(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disturbances_are_spread_evenly() {
        let order = Amounts { reloads: 10, upgrades: 2, kills: 3 }.order();
        let of = |disturbance| order.iter().filter(|one| **one == disturbance).count();
        assert_eq!(
            (order.len(), of(Disturbance::Reload), of(Disturbance::Upgrade), of(Disturbance::Kill)),
            (15, 10, 2, 3)
        );
        assert!(order[..8].contains(&Disturbance::Upgrade) && order[8..].contains(&Disturbance::Upgrade));
    }
}
