//! Queries whose answers are the caller's to keep: with the time for which they hold, and an empty answer told from a fault.
//!
//! Owns nothing between two queries but whose turn among the name servers it is. Must never hold an answer.

use super::ask::ask;
use super::fault::ResolveFault;
use super::message::{Answer, Query, RecordType, ServiceRecord};
use super::name::{LONGEST_HOLD_MS, MAX_ALIASES, canonical};
use super::random::Random;
use engine::modules::core::Resolver;
use std::borrow::Cow;
use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsAnswer<T> {
    /// The answer of the name servers.
    pub value: T,
    /// For how long it holds; `None` if it is empty.
    pub holds: Option<Duration>,
}

/// The name servers of one `resolver` line, asked anew each time.
#[derive(Debug)]
pub struct UncachedResolver {
    spec: Resolver,
    /// The server that is asked next.
    next_server: Cell<usize>,
    random: Random,
}

impl UncachedResolver {
    /// Returns the queries to these name servers.
    pub fn new(spec: Resolver) -> UncachedResolver {
        UncachedResolver { spec, next_server: Cell::new(0), random: Random::default() }
    }

    /// Returns the families that are asked for.
    pub fn families(&self) -> impl Iterator<Item = AddressFamily> {
        let v4 = self.spec.ipv4.then_some(AddressFamily::V4);
        let v6 = self.spec.ipv6.then_some(AddressFamily::V6);
        v4.into_iter().chain(v6)
    }

    /// Returns the addresses of a host in one family; none if it has none there.
    ///
    /// Waits for as long as no name server answers: the caller decides for how long.
    ///
    /// # Errors
    /// The name servers say that there is no such name, or that they cannot say.
    pub async fn addresses(
        &self,
        host: &str,
        family: AddressFamily,
    ) -> Result<DnsAnswer<Vec<IpAddr>>, ResolveFault> {
        let kind = match family {
            AddressFamily::V4 => RecordType::A,
            AddressFamily::V6 => RecordType::Aaaa,
        };
        let answer = self.answer(host, kind).await?;
        let holds = self.holds(&answer, answer.addresses.is_empty());
        Ok(DnsAnswer { value: answer.addresses, holds })
    }

    /// Returns the servers of a service; none if it has none.
    ///
    /// # Errors
    /// As for [`UncachedResolver::addresses`].
    pub async fn services(&self, name: &str) -> Result<DnsAnswer<Vec<ServiceRecord>>, ResolveFault> {
        let answer = self.answer(name, RecordType::Srv).await?;
        let holds = self.holds(&answer, answer.services.is_empty());
        Ok(DnsAnswer { value: answer.services, holds })
    }

    /// Asks for a name, and for what it is an alias of.
    async fn answer(&self, name: &str, kind: RecordType) -> Result<Answer, ResolveFault> {
        let mut name = canonical(name);
        let mut ttl_s = u32::MAX;
        for _ in 0..=MAX_ALIASES {
            // As in nginx, a name that cannot be asked for does not exist.
            let query = Query::new(self.random.next() as u16, &name, kind);
            let query = query.ok_or(ResolveFault::HostNotFound)?;
            let servers = &*self.spec.servers;
            let first = self.next_server.get();
            self.next_server.set((first + 1) % servers.len().max(1));
            let asked = ask(servers, first, &query, || true).await;
            let mut answer = asked.map_err(|_| ResolveFault::ServerFailure)??;
            ttl_s = ttl_s.min(answer.ttl_s);
            match answer.alias.take() {
                Some(of) if answer.addresses.is_empty() && answer.services.is_empty() => {
                    name = Cow::Owned(of)
                }
                _ => return Ok(Answer { ttl_s, ..answer }),
            }
        }
        Err(ResolveFault::HostNotFound)
    }

    /// Returns how long an answer holds: as `valid=` says, else as it says itself.
    fn holds(&self, answer: &Answer, is_empty: bool) -> Option<Duration> {
        let own_ms = u64::from(answer.ttl_s) * 1_000;
        let ms = self.spec.valid_ms.filter(|ms| *ms > 0).unwrap_or(own_ms);
        (!is_empty).then(|| Duration::from_millis(ms.min(LONGEST_HOLD_MS)))
    }
}
