//! From where a request is to go to the group whose peers are tried.

use super::connect::unless_gone;
use super::lone_group;
use super::pool::ThreadGroup;
use crate::client::Client;
use crate::generation::Pinned;
use crate::request_body::say;
use crate::respond::Unfinished;
use engine::Exchange;
use engine::host::Level;
use engine::modules::proxy::{Plan, Target};
use std::rc::Rc;
use upstream::{Address, PeerSpec};

/// The group of a plan; a host name that came at run time is resolved now.
pub(crate) async fn group(
    client: &mut Client,
    exchange: &mut Exchange,
    generation: &Pinned,
    plan: &Plan,
) -> Result<Rc<ThreadGroup>, Unfinished> {
    match &plan.target {
        Target::Group(number) => Ok(Rc::clone(generation.groups.get(*number))),
        Target::Address { address, name } => {
            Ok(lone_group(name, vec![PeerSpec::new(name.clone(), address.clone())]))
        }
        Target::Host { host, port } => {
            let core = &generation.config.location(exchange.route.location).settings.core;
            let Some(resolver) = &*core.resolver else { return Err(Unfinished::Status(502)) };
            let proxy = &generation.config.location(exchange.route.location).settings.proxy;
            let watched = (!*proxy.connection.ignore_client_abort).then_some(&client.stream);
            let found = client.worker.resolvers.lookup(resolver, host, *core.resolver_timeout_ms);
            let Some(found) = unless_gone(watched, found).await else {
                let text = "epoll_wait() reported that client prematurely closed connection";
                say(client, exchange, generation, Level::Info, text);
                return Err(Unfinished::Status(499));
            };
            match found {
                Ok(addresses) => {
                    let peers = addresses.into_iter().map(|ip| {
                        let address = Address::Inet((ip, *port).into());
                        PeerSpec::new(address.to_string(), address)
                    });
                    Ok(lone_group(host, peers.collect()))
                }
                Err(fault) => {
                    let text = format!("{host} could not be resolved ({fault})");
                    say(client, exchange, generation, Level::Error, &text);
                    Err(Unfinished::Status(502))
                }
            }
        }
    }
}
