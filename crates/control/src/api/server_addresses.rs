//! Which addresses an order may bring into a group.
//!
//! Owns what no order may name, by any caller: the way back into this server. And what an order over HTTP may name: its caller
//! moves traffic among what the configuration allows, and must not reach the rest of the network through it.
//! Must never decide about a server that the configuration has.

use super::auth::Caller;
use crate::barred;
use crate::call::Via;
use engine::Config;
use engine::modules::switch::SwitchSpec;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use switch::{BaseGroup, Code, Refusal, ServerOrder, ServerVerb, server_address};

/// Refuses orders that would bring in an address that their caller may not name.
pub(super) fn check(config: &Config, caller: &Caller, orders: &[ServerOrder]) -> Result<(), Refusal> {
    let added = orders.iter().filter(|order| matches!(order.verb, ServerVerb::Add(_)));
    let mut rules = None;
    for order in added {
        // The plan refuses what is no address.
        let Ok(text) = server_address(&order.server) else { continue };
        let rules = rules.get_or_insert_with(|| SwitchSpec::of_groups(config).rules);
        let own = rules.groups.iter().find(|group| group.name.eq_ignore_ascii_case(&order.group));
        // One that was made at run time may have what any of the configuration's has.
        let groups = own.map_or(&rules.groups[..], std::slice::from_ref);
        if groups.iter().flat_map(addresses).any(|known| known == text) {
            continue;
        }
        let refused = match text.strip_prefix("unix:") {
            Some(path) => check_socket(config, caller, Path::new(path)),
            None => match text.parse::<SocketAddr>() {
                Ok(address) => check_address(config, caller, groups, address),
                Err(_) => continue,
            },
        };
        refused.map_err(|(why, remedy)| {
            Refusal::new(
                Code::ServerNotAllowed,
                format!("no order may add server {text} into group \"{}\": {why}", order.group),
                remedy,
            )
        })?;
    }
    Ok(())
}

/// Why an address is refused, and what to do.
type Why = (&'static str, &'static str);

const OWN: &str = "name the server that is meant; a loop through this one is written in the configuration";
const OVER_HTTP: &str =
    "allow it in the configuration (server_orders), or give the order at the control socket";

fn check_socket(config: &Config, caller: &Caller, path: &Path) -> Result<(), Why> {
    if barred::is_own_socket(config, path) {
        return Err(("it is a socket of this server", OWN));
    }
    let listed = config.control.server_orders.get();
    let is_allowed = listed.as_ref().is_some_and(|orders| orders.allows_socket(path));
    if caller.via == Via::Socket || is_allowed {
        Ok(())
    } else {
        Err(("over HTTP, only sockets that the configuration allows may be named", OVER_HTTP))
    }
}

fn check_address(
    config: &Config,
    caller: &Caller,
    groups: &[BaseGroup],
    address: SocketAddr,
) -> Result<(), Why> {
    let ip = address.ip().to_canonical();
    if barred::is_of_no_server(ip) {
        return Err(("it is the address of no server", "write the address of one"));
    }
    if barred::listens_at(config, ip, address.port()) {
        return Err(("this server listens there", OWN));
    }
    let is_allowed = match config.control.server_orders.get() {
        Some(orders) => orders.allows(ip),
        None => {
            let known = groups.iter().flat_map(addresses).filter_map(|text| text.parse::<SocketAddr>().ok());
            known.map(|known| known.ip().to_canonical()).any(|known| is_near(known, ip))
        }
    };
    if caller.via == Via::Socket || is_allowed {
        Ok(())
    } else {
        Err(("over HTTP, only addresses that the configuration allows may be named", OVER_HTTP))
    }
}

fn addresses(group: &BaseGroup) -> impl Iterator<Item = &str> {
    group.servers.iter().flat_map(|server| &server.addresses).map(String::as_str)
}

/// Returns true if two addresses are in one network of 24 or 64 bits, or both on loopback.
fn is_near(known: IpAddr, asked: IpAddr) -> bool {
    match (known, asked) {
        (known, asked) if known.is_loopback() || asked.is_loopback() => {
            known.is_loopback() && asked.is_loopback()
        }
        (IpAddr::V4(known), IpAddr::V4(asked)) => known.octets()[..3] == asked.octets()[..3],
        (IpAddr::V6(known), IpAddr::V6(asked)) => known.segments()[..4] == asked.segments()[..4],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_near_a_server_are_in_its_network() {
        for (known, asked, near) in [
            ("10.0.0.5", "10.0.0.250", true),
            ("10.0.0.5", "10.0.1.5", false),
            ("127.0.0.1", "127.9.9.9", true),
            ("127.0.0.1", "::1", true),
            ("127.0.0.1", "10.0.0.1", false),
            ("10.0.0.1", "127.0.0.1", false),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::1", "::2", false),
            ("10.0.0.1", "2001:db8::1", false),
        ] {
            assert_eq!(is_near(known.parse().unwrap(), asked.parse().unwrap()), near, "{known} {asked}");
        }
    }
}
