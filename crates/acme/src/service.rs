//! The task that orders: one for each issuer, under the lock of its folder.
//!
//! Owns what is known of each certificate, and the order of attempts. A process that has not got the lock serves what the
//! one that has it puts into the folder.

use crate::account;
use crate::certificate::{Certificate, leaf_of};
use crate::client::{IssuerClient, OrderFailure, now_s};
use crate::folder::{Folder, Lock};
use crate::host::AcmeHost;
use crate::on_demand_orders::{InForce, OnDemandOrders};
use crate::order::{self, OrderTask};
use crate::proof::{self, Proof};
use crate::schedule::{self, Cause, RenewalWindow};
use engine::Config;
use engine::host::Level;
use engine::modules::acme::{CertificateFacts, Issuer, OnDemand, Wanted};
use instant_acme::{Account, Error};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How often a process without the lock looks into the folder.
const LOOK: Duration = Duration::from_secs(1);
/// How long a task sleeps at most: the clock may be changed meanwhile.
const MOST_S: u64 = 60;
/// The longest time for an order.
const ORDER: Duration = Duration::from_secs(600);
/// How often an issuer that suggests no time is asked whether it does by now.
const NO_WINDOW_S: u64 = 86_400;
/// How often one is asked that could not answer.
const WINDOW_RETRY_S: u64 = 6 * 3600;

/// What a configuration wants of an issuer.
struct Wish {
    issuer: Issuer,
    certificates: Vec<Wanted>,
    on_demand: Vec<OnDemand>,
}

impl Wish {
    fn is(&self, other: &Wish) -> bool {
        self.issuer == other.issuer
            && self.on_demand == other.on_demand
            && ids(&self.certificates).eq(ids(&other.certificates))
    }
}

/// An issuer's task.
struct Running {
    wish: Wish,
    task: JoinHandle<()>,
}

/// Orders what the configuration in force names, and what handshakes ask for, until there is none any more. To be run inside a
/// set of local tasks.
pub async fn run(
    mut configs: watch::Receiver<Arc<Config>>,
    host: Rc<dyn AcmeHost>,
    on_demand_orders: OnDemandOrders,
) {
    let mut running: Vec<Running> = Vec::new();
    loop {
        let config = Arc::clone(&configs.borrow_and_update());
        let mut next = wishes_of(&config);
        drop(config);
        for known in std::mem::take(&mut running) {
            match next.iter().position(|wish| wish.is(&known.wish)) {
                Some(at) => {
                    next.swap_remove(at);
                    running.push(known);
                }
                None => {
                    end(known.task).await;
                    on_demand_orders.forget(&known.wish.issuer.name);
                }
            }
        }
        for wish in next {
            let task = IssuerTask::new(&wish, Rc::clone(&host), on_demand_orders.clone());
            let task = tokio::task::spawn_local(task.run());
            running.push(Running { wish, task });
        }
        if configs.changed().await.is_err() {
            break;
        }
    }
    for known in running {
        end(known.task).await;
        on_demand_orders.forget(&known.wish.issuer.name);
    }
}

/// Ends a task; when this returns, it has released its lock.
async fn end(task: JoinHandle<()>) {
    task.abort();
    let _ = task.await;
}

/// Returns the issuers of a configuration with what is ordered from each.
fn wishes_of(config: &Config) -> Vec<Wish> {
    let acme = &config.http.acme;
    let wishes = acme.issuers.iter().enumerate().map(|(number, issuer)| Wish {
        issuer: issuer.clone(),
        certificates: acme.certificates.iter().filter(|wanted| wanted.issuer == number).cloned().collect(),
        on_demand: acme.on_demand.iter().filter(|wanted| wanted.issuer == number).cloned().collect(),
    });
    wishes.filter(|wish| !wish.certificates.is_empty() || !wish.on_demand.is_empty()).collect()
}

fn ids(certificates: &[Wanted]) -> impl Iterator<Item = &Arc<str>> {
    certificates.iter().map(|wanted| &wanted.id)
}

/// Waits for so many seconds, or until a handshake asks for something.
async fn rest(seconds: u64, news: &mut watch::Receiver<()>) {
    let _ = timeout(Duration::from_secs(seconds), news.changed()).await.map(|_| news.mark_changed());
}

/// See the module.
pub(crate) struct IssuerTask {
    pub(crate) issuer: Issuer,
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) on_demand: Vec<OnDemand>,
    pub(crate) host: Rc<dyn AcmeHost>,
    pub(crate) on_demand_orders: OnDemandOrders,
    pub(crate) account: Option<(Account, IssuerClient)>,
    /// Until when the issuer is left alone, and after how many failures.
    pub(crate) pause: (u64, u32),
}

impl IssuerTask {
    fn new(wish: &Wish, host: Rc<dyn AcmeHost>, on_demand_orders: OnDemandOrders) -> IssuerTask {
        IssuerTask {
            issuer: wish.issuer.clone(),
            certificates: wish.certificates.iter().map(Certificate::new).collect(),
            on_demand: wish.on_demand.clone(),
            host,
            on_demand_orders,
            account: None,
            pause: (0, 0),
        }
    }

    pub(crate) fn log(&self, level: Level, text: std::fmt::Arguments<'_>) {
        self.host.log(level, &format!("acme issuer \"{}\": {text}", self.issuer.name));
    }

    async fn run(mut self) {
        let Some(path) = self.issuer.state.clone() else { return self.order_all(None).await };
        let folder = loop {
            match Folder::open(&path) {
                Ok(folder) => break folder,
                Err(error) => {
                    let path = path.display();
                    self.log(Level::Error, format_args!("\"{path}\" cannot be used: {error}"));
                    sleep(Duration::from_secs(MOST_S)).await;
                }
            }
        };
        if folder.is_open_to_others() {
            let path = path.display();
            self.log(Level::Warn, format_args!("others may look into \"{path}\"; make it 0700"));
        }
        self.load(&folder);
        let _lock = self.follow(&folder).await;
        // The one before may have ordered meanwhile, or ended in the middle of it.
        self.load(&folder);
        folder.clear_challenges();
        self.order_all(Some(&folder)).await;
    }

    /// Serves what another process orders, until it has released its lock.
    async fn follow(&mut self, folder: &Folder) -> Lock {
        let mut follower = None;
        let mut proofs: HashMap<String, Proof> = HashMap::new();
        loop {
            match folder.lock() {
                Ok(Some(lock)) => return lock,
                Ok(None) => {}
                Err(error) => {
                    self.log(Level::Error, format_args!("its folder cannot be locked: {error}"));
                    sleep(Duration::from_secs(MOST_S)).await;
                }
            }
            if follower.is_none() {
                self.log(Level::Notice, format_args!("another process orders its certificates"));
                follower = folder.follow().ok();
            }
            let files = folder.challenges();
            proofs.retain(|file, _| files.contains(file));
            for file in files {
                if !proofs.contains_key(&file)
                    && let Some(proof) = proof::adopt(folder, &file, &self.host)
                {
                    proofs.insert(file, proof);
                }
            }
            self.load(folder);
            while let Some(revocation) = self.on_demand_orders.take_revocation(&self.issuer.name) {
                revocation.refuse_as_follower();
            }
            // The process that orders is asked by its own handshakes.
            while let Some(demanded) = self.on_demand_orders.take(&self.issuer.name) {
                self.on_demand_orders.refuse(&demanded.wanted.id, now_s() + LOOK.as_secs());
            }
            sleep(LOOK).await;
        }
    }

    /// Puts the certificates in force that the folder has and that are new.
    fn load(&mut self, folder: &Folder) {
        self.find_demanded(folder);
        for at in 0..self.certificates.len() {
            let known = &self.certificates[at];
            let changed = folder.changed(&known.file);
            if changed.is_none() || changed == known.changed {
                continue;
            }
            let place = folder.path(&known.file).display().to_string();
            let mut leaf = None;
            let installed = match folder.read(&known.file) {
                Ok(Some(pem)) => {
                    leaf = leaf_of(&pem);
                    self.host.install(&known.wanted, &place, &pem)
                }
                Ok(None) => continue,
                Err(error) => Err(error.to_string()),
            };
            let known = &mut self.certificates[at];
            known.changed = changed;
            if installed.is_ok() {
                known.leaf = leaf;
            }
            match installed {
                Ok(facts) => self.set(at, facts),
                Err(why) => self.log(Level::Error, format_args!("\"{place}\" cannot be used: {why}")),
            }
        }
    }

    /// Notes what is in force.
    fn set(&mut self, at: usize, facts: CertificateFacts) {
        let known = &mut self.certificates[at];
        known.set(facts);
        if known.is_on_demand {
            let until_s = known.facts.as_ref().map_or(0, |facts| facts.until_s);
            self.on_demand_orders.issued(&known.wanted.id, InForce { due_s: known.due_s, until_s });
            known.due_s = u64::MAX;
        }
        self.list();
    }

    /// Orders each certificate when it is due, and what handshakes ask for. Does not end.
    async fn order_all(&mut self, folder: Option<&Folder>) {
        let mut news = self.on_demand_orders.news();
        news.mark_changed();
        loop {
            let now = now_s();
            if news.has_changed().unwrap_or(false) {
                news.mark_unchanged();
                while let Some(revocation) = self.on_demand_orders.take_revocation(&self.issuer.name) {
                    self.revoke(revocation, folder).await;
                }
                while let Some(demanded) = self.on_demand_orders.take(&self.issuer.name) {
                    self.order_demanded(demanded, folder).await;
                }
                continue;
            }
            let next = (0..self.certificates.len()).min_by_key(|at| self.certificates[*at].due_s);
            let Some(at) = next else {
                let _ = news.changed().await;
                news.mark_changed();
                continue;
            };
            let due_s = self.certificates[at].due_s;
            let asks = (0..self.certificates.len()).find(|at| {
                let known = &self.certificates[*at];
                known.facts.is_some() && !known.is_on_demand && known.window_at_s <= now
            });
            if now < self.pause.0 {
                rest((self.pause.0 - now).min(MOST_S), &mut news).await;
            } else if due_s <= now {
                self.attempt(at, folder).await;
            } else if let Some(at) = asks {
                self.ask_window(at, folder).await;
            } else {
                let windows =
                    self.certificates.iter().filter(|known| known.facts.is_some() && !known.is_on_demand);
                let window_s = windows.map(|known| known.window_at_s).min().unwrap_or(u64::MAX);
                rest((due_s.min(window_s) - now).clamp(1, MOST_S), &mut news).await;
            }
        }
    }

    /// Orders a certificate and puts it in force, or notes and returns when to try again.
    pub(crate) async fn attempt(&mut self, at: usize, folder: Option<&Folder>) -> Option<u64> {
        let names = self.certificates[at].names();
        self.log(Level::Notice, format_args!("ordering a certificate for {names}"));
        let ordered = match timeout(ORDER, self.order(at, folder)).await {
            Ok(ordered) => ordered,
            Err(_) => Err(OrderFailure::unreachable("the order took too long")),
        };
        match ordered {
            Ok(until_s) => {
                self.pause = (0, 0);
                let until = http::date::http_date(until_s);
                let until = String::from_utf8_lossy(&until);
                self.log(
                    Level::Notice,
                    format_args!("the certificate for {names} is in use, valid until {until}"),
                );
                None
            }
            Err(failure) => {
                // It may have gone with what it belongs to.
                self.account = None;
                let now = now_s();
                let wait_s = match failure.cause {
                    Cause::Refused => self.certificates[at].failed(&failure, now),
                    cause => {
                        let (until_s, failures) = &mut self.pause;
                        *failures = failures.saturating_add(1);
                        let seed = self.certificates[at].seed;
                        *until_s = schedule::retry_s(now, *failures, cause, failure.retry_after_s, seed);
                        *until_s - now
                    }
                };
                let text = &failure.text;
                self.log(
                    Level::Error,
                    format_args!("no certificate for {names}: {text}; next attempt in {wait_s}s"),
                );
                Some(now + wait_s)
            }
        }
    }

    pub(crate) async fn open_account(
        &mut self,
        folder: Option<&Folder>,
    ) -> Result<(Account, IssuerClient), OrderFailure> {
        if let Some((account, client)) = &self.account {
            return Ok((account.clone(), client.clone()));
        }
        let config = self.host.client_config(&self.issuer).map_err(OrderFailure::refused)?;
        let client = IssuerClient::new(config);
        let account = account::open(&self.issuer, folder, &client).await?;
        self.account = Some((account.clone(), client.clone()));
        Ok((account, client))
    }

    /// Orders a certificate; returns until when it is valid.
    async fn order(&mut self, at: usize, folder: Option<&Folder>) -> Result<u64, OrderFailure> {
        let (account, client) = self.open_account(folder).await?;
        let known = &self.certificates[at];
        // Where a suggestion came from, the issuer knows what is replaced. If it disagrees, the next attempt does without.
        let has_failed = known.failures > 0 || self.pause.1 > 0;
        let replaces = known.facts.as_ref().filter(|_| known.window.is_some() && !has_failed);
        let task = OrderTask {
            issuer: &self.issuer,
            wanted: &known.wanted,
            key_file: &known.key_file,
            account: &account,
            client: &client,
            folder,
            host: &self.host,
            replaces,
        };
        let pem = task.run().await?;
        let wanted = known.wanted.clone();
        let place = match folder {
            Some(folder) => {
                let path = folder.path(&known.file).display().to_string();
                folder.write(&known.file, &pem).map_err(|error| {
                    OrderFailure::refused(format!("\"{path}\" cannot be written: {error}"))
                })?;
                folder.remove(&known.key_file);
                path
            }
            None => format!("acme:{}", known.names()),
        };
        let facts = self.host.install(&wanted, &place, &pem);
        let facts = facts
            .map_err(|why| OrderFailure::refused(format!("what it has issued cannot be used: {why}")))?;
        let known = &mut self.certificates[at];
        known.changed = folder.and_then(|folder| folder.changed(&known.file));
        known.leaf = leaf_of(&pem);
        let until_s = facts.until_s;
        self.set(at, facts);
        Ok(until_s)
    }

    /// Asks the issuer when to renew.
    async fn ask_window(&mut self, at: usize, folder: Option<&Folder>) {
        let opened = self.open_account(folder).await;
        let known = &mut self.certificates[at];
        let now = now_s();
        known.window_at_s = now + WINDOW_RETRY_S;
        let Some(facts) = known.facts.clone() else { return };
        let (Ok((account, _)), Some(identifier)) = (opened, order::identifier_of(&facts)) else { return };
        match account.renewal_info(&identifier).await {
            Ok((info, again)) => {
                let seconds = |time_s: i64| u64::try_from(time_s).unwrap_or(0);
                let window = RenewalWindow {
                    start_s: seconds(info.suggested_window.start.unix_timestamp()),
                    end_s: seconds(info.suggested_window.end.unix_timestamp()),
                };
                known.window = Some(window);
                known.window_at_s = schedule::window_again_s(now, again.as_secs());
                // After a failure the next attempt has its time.
                if known.failures == 0 {
                    known.due_s = schedule::renewal_s(&facts, Some(window), known.seed);
                }
            }
            Err(Error::Unsupported(_)) => known.window_at_s = now + NO_WINDOW_S,
            Err(_) => {}
        }
    }
}
