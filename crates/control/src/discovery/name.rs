//! The addresses of a name, or the servers of a service.
//!
//! Owns the last good answer of each part (the families of addresses, the targets of SRV records): what fails alone takes
//! nothing else with it.

use super::looked_up::{FoundServers, LookedUp};
use crate::barred;
use engine::modules::upstream::{FoundServer, NamePlace};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use switch::ServerParams;
use tokio::task::JoinSet;
use transport::resolver::{AddressFamily, DnsAnswer, ResolveFault, ServiceRecord, UncachedResolver};
use upstream::Address;

/// How many targets of a service are resolved at once.
const AT_ONCE: usize = 16;

/// The answer to a question.
type Answer<T> = Result<DnsAnswer<T>, ResolveFault>;

/// Looks up one name again and again.
pub(crate) struct NameLookup {
    place: NamePlace,
    resolver: Rc<UncachedResolver>,
    /// The last good answer for each name and family.
    good: HashMap<(String, AddressFamily), Vec<IpAddr>>,
}

/// The addresses of one name.
#[derive(Default)]
struct Host {
    addresses: Vec<IpAddr>,
    holds: Option<Duration>,
    /// A family of it, or all, could not be looked up.
    fault: Option<ResolveFault>,
    /// Any family could.
    is_answered: bool,
}

impl NameLookup {
    pub(super) fn new(place: &NamePlace) -> NameLookup {
        let resolver = Rc::new(UncachedResolver::new((*place.resolver).clone()));
        NameLookup { place: place.clone(), resolver, good: HashMap::new() }
    }

    pub(super) async fn look(&mut self, believed: &[FoundServer]) -> LookedUp {
        match self.place.service.clone() {
            None => self.look_up_host(believed).await,
            Some(service) => self.look_up_service(&service, believed).await,
        }
    }

    async fn look_up_host(&mut self, believed: &[FoundServer]) -> LookedUp {
        let name = self.place.host.to_string();
        let answers = ask_host(&self.resolver, &name, self.place.timeout_ms).await;
        let is_unknown = is_unknown(&answers);
        let host = self.combine(&name, answers, None, believed);
        if let Some(fault) = host.fault.filter(|_| !host.is_answered) {
            return LookedUp::Failed(not_resolved(&name, fault));
        }
        let server = |address: &IpAddr| FoundServer {
            address: Address::Inet(SocketAddr::new(*address, 0)),
            params: ServerParams::default(),
            is_secondary: false,
        };
        let servers = in_order(host.addresses.iter().map(server).collect());
        let fault = host.fault.or(is_unknown.then_some(ResolveFault::HostNotFound));
        let lacks = fault.map(|fault| not_resolved(&name, fault));
        LookedUp::Found(FoundServers { servers, holds: host.holds, lacks })
    }

    async fn look_up_service(&mut self, service: &str, believed: &[FoundServer]) -> LookedUp {
        let told = match limited(self.place.timeout_ms, self.resolver.services(service)).await {
            Ok(told) => told,
            Err(fault @ ResolveFault::HostNotFound) => {
                return LookedUp::Found(FoundServers {
                    lacks: Some(not_resolved(service, fault)),
                    ..FoundServers::default()
                });
            }
            Err(fault) => return LookedUp::Failed(not_resolved(service, fault)),
        };
        let mut found = FoundServers { holds: told.holds, ..FoundServers::default() };
        let records: Vec<ServiceRecord> =
            told.value.into_iter().filter(|record| !record.target.is_empty() && record.port > 0).collect();
        let lowest = records.iter().map(|record| record.priority).min().unwrap_or_default();
        let mut hosts = self.ask_targets(&records).await;
        for record in &records {
            let Some(answers) = hosts.remove(&record.target).or_else(|| self.known(&record.target)) else {
                continue;
            };
            let host = self.combine(&record.target, answers, Some(record.port), believed);
            found.holds = [found.holds, host.holds].into_iter().flatten().min();
            if let Some(fault) = host.fault {
                found.lacks = Some(not_resolved(&record.target, fault));
            } else if host.addresses.is_empty() {
                found.lacks = Some(not_resolved(&record.target, ResolveFault::HostNotFound));
            }
            found.servers.extend(host.addresses.iter().map(|address| FoundServer {
                address: Address::Inet(SocketAddr::new(*address, record.port)),
                params: ServerParams {
                    weight: (record.weight > 0).then(|| u32::from(record.weight)),
                    ..ServerParams::default()
                },
                is_secondary: record.priority != lowest,
            }));
        }
        if let (true, Some(fault)) = (found.servers.is_empty(), &found.lacks) {
            return LookedUp::Failed(fault.clone());
        }
        found.servers = in_order(found.servers);
        LookedUp::Found(found)
    }

    /// Asks for the addresses of each target once.
    async fn ask_targets(
        &self,
        records: &[ServiceRecord],
    ) -> HashMap<String, Vec<(AddressFamily, Answer<Vec<IpAddr>>)>> {
        let mut targets: Vec<String> = records.iter().map(|record| record.target.clone()).collect();
        targets.sort();
        targets.dedup();
        let mut hosts = HashMap::new();
        for some in targets.chunks(AT_ONCE) {
            let mut asked = JoinSet::new();
            for target in some {
                let (resolver, target, limit_ms) =
                    (Rc::clone(&self.resolver), target.clone(), self.place.timeout_ms);
                asked.spawn_local(async move {
                    let answers = ask_host(&resolver, &target, limit_ms).await;
                    (target, answers)
                });
            }
            while let Some(answered) = asked.join_next().await {
                hosts.extend(answered.ok());
            }
        }
        hosts
    }

    /// Returns what was just found for a name that is the target of several records.
    fn known(&self, name: &str) -> Option<Vec<(AddressFamily, Answer<Vec<IpAddr>>)>> {
        let of = |family: AddressFamily| {
            let addresses = self.good.get(&(name.to_owned(), family))?;
            Some((family, Ok(DnsAnswer { value: addresses.clone(), holds: None })))
        };
        Some(self.resolver.families().filter_map(of).collect())
    }

    /// Combines the families of a name: one that fails has its last good answer, or what is believed of it.
    fn combine(
        &mut self,
        name: &str,
        answers: Vec<(AddressFamily, Answer<Vec<IpAddr>>)>,
        port: Option<u16>,
        believed: &[FoundServer],
    ) -> Host {
        let mut host = Host::default();
        for (family, answer) in answers {
            let part = (name.to_owned(), family);
            let addresses = match answer {
                Ok(told) => {
                    host.holds = [host.holds, told.holds].into_iter().flatten().min();
                    host.is_answered = true;
                    told.value.into_iter().filter(|address| !barred::is_of_no_server(*address)).collect()
                }
                // It is said of the name, whatever is asked of it.
                Err(ResolveFault::HostNotFound) => {
                    host.is_answered = true;
                    Vec::new()
                }
                Err(fault) => {
                    host.fault = Some(fault);
                    self.good.get(&part).cloned().unwrap_or_else(|| of_family(believed, family, port))
                }
            };
            host.addresses.extend(&addresses);
            self.good.insert(part, addresses);
        }
        host
    }
}

/// Returns true if there is no such name.
fn is_unknown(answers: &[(AddressFamily, Answer<Vec<IpAddr>>)]) -> bool {
    !answers.is_empty() && answers.iter().all(|(_, answer)| matches!(answer, Err(ResolveFault::HostNotFound)))
}

/// Returns the addresses of a family among servers; with a port, those that have it.
fn of_family(servers: &[FoundServer], family: AddressFamily, port: Option<u16>) -> Vec<IpAddr> {
    let address = |server: &FoundServer| match &server.address {
        Address::Inet(address)
            if address.is_ipv4() == (family == AddressFamily::V4)
                && port.is_none_or(|port| address.port() == port) =>
        {
            Some(address.ip())
        }
        _ => None,
    };
    servers.iter().filter_map(address).collect()
}

/// Asks for the addresses of a name, of all families at once.
async fn ask_host(
    resolver: &UncachedResolver,
    name: &str,
    limit_ms: u64,
) -> Vec<(AddressFamily, Answer<Vec<IpAddr>>)> {
    let one = async |family: AddressFamily| match resolver.families().any(|asked| asked == family) {
        true => Some((family, limited(limit_ms, resolver.addresses(name, family)).await)),
        false => None,
    };
    let (v4, v6) = tokio::join!(one(AddressFamily::V4), one(AddressFamily::V6));
    v4.into_iter().chain(v6).collect()
}

async fn limited<T>(limit_ms: u64, asked: impl Future<Output = Answer<T>>) -> Answer<T> {
    match limit_ms {
        0 => asked.await,
        ms => tokio::time::timeout(Duration::from_millis(ms), asked)
            .await
            .unwrap_or(Err(ResolveFault::TimedOut)),
    }
}

/// Returns nginx's words.
fn not_resolved(name: &str, fault: ResolveFault) -> String {
    format!("{name} could not be resolved ({fault})")
}

/// Sorts servers, each address once: the order of an answer means nothing.
fn in_order(mut servers: Vec<FoundServer>) -> Vec<FoundServer> {
    let key = |server: &FoundServer| match &server.address {
        Address::Inet(address) => (Some(*address), server.is_secondary),
        Address::Unix(_) => (None, server.is_secondary),
    };
    servers.sort_by_key(key);
    servers.dedup_by(|one, other| one.address == other.address);
    servers
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::modules::core::Resolver;
    use std::sync::Arc;

    fn lookup() -> NameLookup {
        let resolver = Resolver { ipv4: true, ipv6: true, ..Resolver::default() };
        NameLookup::new(&NamePlace {
            host: "app.test".into(),
            service: None,
            resolver: Arc::new(resolver),
            timeout_ms: 0,
        })
    }

    fn told(addresses: &[&str], holds_s: u64) -> Answer<Vec<IpAddr>> {
        let value: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let holds = (!value.is_empty()).then(|| Duration::from_secs(holds_s));
        Ok(DnsAnswer { value, holds })
    }

    fn shown(host: &Host) -> (String, Option<ResolveFault>) {
        let all: Vec<String> = host.addresses.iter().map(IpAddr::to_string).collect();
        (all.join(" "), host.fault)
    }

    #[test]
    fn a_family_that_fails_keeps_its_last_good_answer_and_the_other_is_followed() {
        let mut lookup = lookup();
        let mut combine = |v4: Answer<Vec<IpAddr>>, v6: Answer<Vec<IpAddr>>, believed: &[FoundServer]| {
            let host = lookup.combine(
                "app.test",
                vec![(AddressFamily::V4, v4), (AddressFamily::V6, v6)],
                None,
                believed,
            );
            (shown(&host), host.holds.map(|holds| holds.as_secs()), host.is_answered)
        };
        let fails = || Err(ResolveFault::ServerFailure);
        let failed = Some(ResolveFault::ServerFailure);
        // After a restart, what was kept counts for it.
        let server = |text: &str| FoundServer {
            address: Address::Inet(text.parse().unwrap()),
            params: ServerParams::default(),
            is_secondary: false,
        };
        let kept = [server("10.0.0.9:0"), server("[fd00::9]:0")];
        let expected = (("10.0.0.1 fd00::9".to_owned(), failed), Some(5), true);
        assert_eq!(combine(told(&["10.0.0.1"], 5), fails(), &kept), expected);
        let expected = (("10.0.0.2 fd00::9".to_owned(), failed), Some(5), true);
        assert_eq!(combine(told(&["10.0.0.2"], 5), fails(), &[]), expected);
        let expected = (("10.0.0.2 fd00::1".to_owned(), failed), Some(9), true);
        assert_eq!(combine(fails(), told(&["fd00::1"], 9), &[]), expected);
        // That there is no address is no failure.
        let expected = (("10.0.0.3".to_owned(), None), Some(5), true);
        assert_eq!(combine(told(&["10.0.0.3"], 5), told(&[], 0), &kept), expected);
        let expected = (("10.0.0.3".to_owned(), failed), None, false);
        assert_eq!(combine(fails(), fails(), &kept), expected);
        let expected = ((String::new(), None), None, true);
        assert_eq!(
            combine(Err(ResolveFault::HostNotFound), Err(ResolveFault::HostNotFound), &kept),
            expected
        );
    }

    #[test]
    fn the_order_of_an_answer_means_nothing() {
        let server = |text: &str, is_secondary| FoundServer {
            address: Address::Inet(text.parse().unwrap()),
            params: ServerParams::default(),
            is_secondary,
        };
        let one = vec![server("[::1]:1", false), server("10.0.0.2:1", true), server("10.0.0.2:1", false)];
        let other = vec![server("10.0.0.2:1", false), server("10.0.0.2:1", true), server("[::1]:1", false)];
        assert_eq!(in_order(one), in_order(other.clone()));
        assert_eq!(in_order(other), [server("10.0.0.2:1", false), server("[::1]:1", false)]);
    }
}
