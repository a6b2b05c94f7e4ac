//! Host names at run time: what nginx does with its `resolver` directive.
//!
//! Owns the questions that a worker thread has put to name servers, and the answers it holds. It must never ask the
//! system's resolver (configurations do, in [`crate::names`]), try a name below a search domain, or hold a refusal:
//! nginx forgets one as soon as those who waited for it know.

mod ask;
mod cache;
mod message;
#[cfg(test)]
mod tests;

use ask::ask;
use cache::{Found, Names};
use engine::modules::core::Resolver;
use message::{Answer, Kind, Query};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

/// How many names the answers of which are held, for each `resolver`.
const HELD_NAMES: usize = 10_000;

/// How many names in a row may stand for another one, before nginx calls the first unknown.
const MAX_ALIASES: usize = 50;

/// The longest time for which an answer is held, in ms: a year is for ever.
const LONGEST_HOLD_MS: u64 = 365 * 86_400_000;

/// Why a name has no address; printed as it stands in nginx's error log, in the parentheses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResolveFault {
    /// The name server could not find out: RCODE 2 (RFC 1035, section 4.1.1).
    ServerFailure,
    /// There is no such name (RCODE 3), or there are no addresses under it, or it is no host name at all.
    HostNotFound,
    /// RCODE 4.
    Unimplemented,
    /// RCODE 5.
    OperationRefused,
    /// No server said anything in time that is of use.
    TimedOut,
}

impl fmt::Display for ResolveFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResolveFault::ServerFailure => "2: Server failure",
            ResolveFault::HostNotFound => "3: Host not found",
            ResolveFault::Unimplemented => "4: Unimplemented",
            ResolveFault::OperationRefused => "5: Operation refused",
            ResolveFault::TimedOut => "110: Operation timed out",
        })
    }
}

/// What a question comes to.
type Outcome = Result<Rc<Found>, ResolveFault>;

/// A thread's name servers, with what they have answered. One `resolver` line is one directory, and two that say the
/// same share one, before and after a reload.
#[derive(Debug, Default)]
pub(crate) struct Resolvers {
    directories: RefCell<Vec<Rc<Directory>>>,
}

impl Resolvers {
    /// The addresses of a host, at least one: all IPv4 addresses, then all IPv6 addresses, each in the order of the
    /// answer; if the answer was held already, from a random place on.
    ///
    /// `timeout_ms` is nginx's `resolver_timeout`; with 0 there is none. Runs inside a `LocalRuntime`. A question
    /// outlives a caller who no longer waits, until it is time to repeat it.
    pub(crate) async fn lookup(
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
        // A new line came with a new configuration. Directories of older ones go when nothing in them is of use.
        let now = Instant::now();
        directories.retain(|d| Rc::strong_count(d) > 1 || d.names.borrow().holds_any(now));
        let directory = Rc::new(Directory::new(spec.clone()));
        directories.push(Rc::clone(&directory));
        directory
    }
}

/// Where the outcome of a question is going to be told.
type Answering = watch::Receiver<Option<Outcome>>;

/// The name servers of one `resolver` line, what they are being asked, and what they have answered.
#[derive(Debug)]
struct Directory {
    spec: Resolver,
    names: RefCell<Names>,
    /// Names being asked for, each with where the outcome is going to be told.
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

    /// Waits for the name servers to answer. Whoever wants the same name meanwhile waits for the same answer.
    async fn asked_outcome(self: &Rc<Self>, name: &[u8]) -> Outcome {
        let already = self.asked.borrow().get(name).cloned();
        let mut outcome = match already {
            Some(outcome) => outcome,
            None => self.begin(name)?,
        };
        match outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            // The question is dropped before its outcome only with the whole thread.
            Ok(None) | Err(_) => Err(ResolveFault::ServerFailure),
        }
    }

    fn begin(self: &Rc<Self>, name: &[u8]) -> Result<watch::Receiver<Option<Outcome>>, ResolveFault> {
        // As in nginx, what cannot be asked for is not there.
        let query =
            |kind| Query::new(self.random.next() as u16, name, kind).ok_or(ResolveFault::HostNotFound);
        let v4 = self.spec.ipv4.then(|| query(Kind::A)).transpose()?;
        let v6 = self.spec.ipv6.then(|| query(Kind::Aaaa)).transpose()?;
        let (tell, outcome) = watch::channel(None);
        let name: Rc<[u8]> = name.into();
        self.asked.borrow_mut().insert(Rc::clone(&name), outcome.clone());
        spawn_local(Rc::clone(self).see_through(name, v4, v6, tell));
        Ok(outcome)
    }

    /// Asks for both kinds of address and tells the outcome. One refusal outweighs the other answer: nginx's way, for
    /// which `ipv6=off` is the remedy.
    async fn see_through(
        self: Rc<Self>,
        name: Rc<[u8]>,
        v4: Option<Query>,
        v6: Option<Query>,
        tell: watch::Sender<Option<Outcome>>,
    ) {
        let servers = &*self.spec.servers;
        let first = self.next_server.get();
        self.next_server.set((first + 1) % servers.len().max(1));
        // One receiver is the directory's own.
        let wanted = || tell.receiver_count() > 1;
        let one = async |query: Option<Query>| match query {
            Some(query) => ask(servers, first, &query, wanted).await,
            None => Ok(Ok(Answer::default())),
        };
        let said = tokio::try_join!(one(v4), one(v6));
        // No await from here on: a name is either being asked for, and told, or neither.
        self.asked.borrow_mut().remove(&name);
        // An abandoned question has nobody left to be told.
        if let Ok((v4, v6)) = said {
            let outcome = v4.and_then(|v4| self.conclude(name, v4, v6?));
            tell.send_replace(Some(outcome));
        }
    }

    /// What both answers say together; it is held for as long as they allow.
    fn conclude(&self, name: Rc<[u8]>, v4: Answer, v6: Answer) -> Outcome {
        let ttl_s = v4.ttl_s.min(v6.ttl_s);
        let found = Rc::new(Found::new(v4, v6).ok_or(ResolveFault::HostNotFound)?);
        // `valid=0` is nginx's word for none.
        let hold_ms = self.spec.valid_ms.filter(|ms| *ms > 0).unwrap_or(u64::from(ttl_s) * 1_000);
        if hold_ms > 0 {
            let now = Instant::now();
            let until = now + Duration::from_millis(hold_ms.min(LONGEST_HOLD_MS));
            self.names.borrow_mut().insert(name, Rc::clone(&found), until, now);
        }
        Ok(found)
    }
}

/// The name as it is held and asked for: in lower case, without the dot of the root. Most come so.
fn canonical(host: &str) -> Cow<'_, [u8]> {
    let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
    if host.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// Numbers that an outsider cannot foretell: a keyed hash of a counter. Whoever guesses a question's number and port
/// can answer it (RFC 5452, section 4).
#[derive(Debug, Default)]
struct Random {
    key: RandomState,
    count: Cell<u64>,
}

impl Random {
    fn next(&self) -> u64 {
        self.count.set(self.count.get().wrapping_add(1));
        self.key.hash_one(self.count.get())
    }

    /// A number below `end`, which is not 0.
    fn below(&self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}
