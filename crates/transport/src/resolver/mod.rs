//! Host names at run time: what nginx does with its `resolver` directive.
//!
//! Owns the queries that a worker thread has put to name servers, and the answers it holds. It must never ask the
//! system's resolver (only configurations do, when they are loaded), try a name below a search domain, or hold a refusal:
//! nginx forgets one as soon as it is delivered.

mod ask;
mod cache;
mod fault;
mod message;
mod name;
mod random;
#[cfg(test)]
mod tests;
mod uncached;

use ask::ask;
use cache::{Found, Names};
use engine::modules::core::Resolver;
pub use fault::ResolveFault;
pub use message::ServiceRecord;
use message::{Answer, Query, RecordType};
use name::{LONGEST_HOLD_MS, MAX_ALIASES, canonical};
use random::Random;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};
pub use uncached::{AddressFamily, DnsAnswer, UncachedResolver};

/// For how many names answers are held, for each `resolver`.
const HELD_NAMES: usize = 10_000;

/// The outcome of a query.
type LookupResult = Result<Rc<Found>, ResolveFault>;

/// A thread's name servers, with their answers. One `resolver` line is one directory, and equal lines share one, before and
/// after a reload.
#[derive(Debug, Default)]
pub struct Resolvers {
    directories: RefCell<Vec<Rc<Directory>>>,
}

impl Resolvers {
    /// Returns the addresses of a host, at least one: all IPv4 addresses, then all IPv6 addresses, each in the order of the
    /// answer; of an answer that was held, rotated at random.
    ///
    /// `timeout_ms` is nginx's `resolver_timeout`; 0 is none. Runs inside a `LocalRuntime`. A query outlives a caller
    /// that no longer waits, until it is time to repeat it.
    ///
    /// # Errors
    /// Fails if no name server knows an address in time.
    pub async fn lookup(
        &self,
        spec: &Resolver,
        host: &str,
        timeout_ms: u64,
    ) -> Result<Vec<IpAddr>, ResolveFault> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let directory = self.directory(spec);
        let resolved = directory.resolve(host);
        if timeout_ms == 0 {
            return resolved.await;
        }
        timeout(Duration::from_millis(timeout_ms), resolved).await.unwrap_or(Err(ResolveFault::TimedOut))
    }

    fn directory(&self, spec: &Resolver) -> Rc<Directory> {
        let mut directories = self.directories.borrow_mut();
        if let Some(directory) = directories.iter().find(|d| d.spec == *spec) {
            return Rc::clone(directory);
        }
        // A new line came with a new configuration. Directories of older ones are dropped when nothing in them is useful.
        let now = Instant::now();
        directories.retain(|d| Rc::strong_count(d) > 1 || d.names.borrow().holds_any(now));
        let directory = Rc::new(Directory::new(spec.clone()));
        directories.push(Rc::clone(&directory));
        directory
    }
}

/// Receives the outcome of a query.
type Answering = watch::Receiver<Option<LookupResult>>;

/// The name servers of one `resolver` line, their open queries, and their answers.
#[derive(Debug)]
struct Directory {
    spec: Resolver,
    names: RefCell<Names>,
    /// Names being asked for, each with the receiver of the outcome.
    asked: RefCell<HashMap<Rc<[u8]>, Answering>>,
    /// The server that is asked next.
    next_server: Cell<usize>,
    random: Random,
}

impl Directory {
    fn new(spec: Resolver) -> Directory {
        Directory {
            spec,
            names: RefCell::new(Names::new(HELD_NAMES)),
            asked: RefCell::default(),
            next_server: Cell::new(0),
            random: Random::default(),
        }
    }

    async fn resolve(self: &Rc<Self>, host: &str) -> Result<Vec<IpAddr>, ResolveFault> {
        let mut name = canonical(host);
        for _ in 0..=MAX_ALIASES {
            let held = self.names.borrow_mut().get(&name, Instant::now());
            let was_held = held.is_some();
            let found = match held {
                Some(found) => found,
                None => self.asked_outcome(&name).await?,
            };
            match &*found {
                Found::Addresses(addresses) if was_held => return Ok(addresses.rotated(&self.random)),
                Found::Addresses(addresses) => return Ok(addresses.in_order()),
                Found::Alias(of) => name = Cow::Owned(of.to_vec()),
            }
        }
        Err(ResolveFault::HostNotFound)
    }

    /// Waits for the name servers to answer. All who want the same name meanwhile wait for the same answer.
    async fn asked_outcome(self: &Rc<Self>, name: &[u8]) -> LookupResult {
        let already = self.asked.borrow().get(name).cloned();
        let mut outcome = match already {
            Some(outcome) => outcome,
            None => self.begin(name)?,
        };
        match outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            // The query is dropped before its outcome only with the whole thread.
            Ok(None) | Err(_) => Err(ResolveFault::ServerFailure),
        }
    }

    fn begin(self: &Rc<Self>, name: &[u8]) -> Result<watch::Receiver<Option<LookupResult>>, ResolveFault> {
        // As in nginx, a name that cannot be asked for does not exist.
        let query =
            |kind| Query::new(self.random.next() as u16, name, kind).ok_or(ResolveFault::HostNotFound);
        let v4 = self.spec.ipv4.then(|| query(RecordType::A)).transpose()?;
        let v6 = self.spec.ipv6.then(|| query(RecordType::Aaaa)).transpose()?;
        let (sender, outcome) = watch::channel(None);
        let name: Rc<[u8]> = name.into();
        self.asked.borrow_mut().insert(Rc::clone(&name), outcome.clone());
        spawn_local(Rc::clone(self).see_through(name, v4, v6, sender));
        Ok(outcome)
    }

    /// Asks for both kinds of address and sends the outcome. One refusal outweighs the other answer, as in nginx; `ipv6=off`
    /// is the remedy.
    async fn see_through(
        self: Rc<Self>,
        name: Rc<[u8]>,
        v4: Option<Query>,
        v6: Option<Query>,
        sender: watch::Sender<Option<LookupResult>>,
    ) {
        let servers = &*self.spec.servers;
        let first = self.next_server.get();
        self.next_server.set((first + 1) % servers.len().max(1));
        // One receiver is the directory's own.
        let wanted = || sender.receiver_count() > 1;
        let one = async |query: Option<Query>| match query {
            Some(query) => ask(servers, first, &query, wanted).await,
            None => Ok(Ok(Answer::default())),
        };
        let answers = tokio::try_join!(one(v4), one(v6));
        // No await from here on: a query is removed and answered at once.
        self.asked.borrow_mut().remove(&name);
        // An abandoned query has no one left to answer.
        if let Ok((v4, v6)) = answers {
            let outcome = v4.and_then(|v4| self.conclude(name, v4, v6?));
            sender.send_replace(Some(outcome));
        }
    }

    /// Combines both answers; the result is held for as long as they allow.
    fn conclude(&self, name: Rc<[u8]>, v4: Answer, v6: Answer) -> LookupResult {
        let ttl_s = v4.ttl_s.min(v6.ttl_s);
        let found = Rc::new(Found::new(v4, v6).ok_or(ResolveFault::HostNotFound)?);
        // `valid=0` means none in nginx.
        let hold_ms = self.spec.valid_ms.filter(|ms| *ms > 0).unwrap_or(u64::from(ttl_s) * 1_000);
        if hold_ms > 0 {
            let now = Instant::now();
            let until = now + Duration::from_millis(hold_ms.min(LONGEST_HOLD_MS));
            self.names.borrow_mut().insert(name, Rc::clone(&found), until, now);
        }
        Ok(found)
    }
}
