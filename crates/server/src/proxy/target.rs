//! The group whose peers are tried for a request.

use super::connect::unless_gone;
use super::groups::Made;
use super::pool::ThreadGroup;
use crate::request::cx::RequestCx;
use crate::request::respond::Unfinished;
use engine::host::Level;
use engine::modules::proxy::{Plan, Target};
use std::rc::Rc;
use upstream::{Address, PeerSpec};

/// Returns the group of a plan, which is `made` if it was made at run time; resolves a host name that came at run time.
pub(super) async fn group(
    cx: &mut RequestCx<'_>,
    plan: &Plan,
    made: Option<Made>,
) -> Result<Rc<ThreadGroup>, Unfinished> {
    match &plan.target {
        Target::Group(number) => Ok(Rc::clone(cx.generation.groups.get(*number))),
        Target::Made(name) => match made {
            Some(made) => Ok(made.group),
            // It was removed after a switch has sent this request there.
            None => {
                let pinned =
                    cx.engine(|exchange, env| engine::modules::upstream::made(exchange, env.host, name));
                let set = pinned.as_ref().and_then(|routing| routing.groups.get(name));
                let spec = set.map(|set| upstream::GroupSpec::clone(&set.spec));
                spec.map(|spec| Rc::new(ThreadGroup::single_use(spec))).ok_or(Unfinished::Status(502))
            }
        },
        Target::Address { address, name } => {
            Ok(single_use_group(name, vec![PeerSpec::new(name.clone(), address.clone())]))
        }
        Target::Host { host, port } => {
            let settings = cx.settings();
            let Some(resolver) = &*settings.core.resolver else { return Err(Unfinished::Status(502)) };
            let client = &*cx.client;
            let watched = (!*settings.proxy.connection.ignore_client_abort).then_some(&client.stream);
            let found = client.thread.resolvers.lookup(resolver, host, *settings.core.resolver_timeout_ms);
            let Some(found) = unless_gone(watched, found).await else {
                let text = "epoll_wait() reported that client prematurely closed connection";
                cx.log(Level::Info, text);
                return Err(Unfinished::Status(499));
            };
            match found {
                Ok(addresses) => {
                    let peers = addresses.into_iter().map(|ip| {
                        let address = Address::Inet((ip, *port).into());
                        PeerSpec::new(address.to_string(), address)
                    });
                    Ok(single_use_group(host, peers.collect()))
                }
                Err(fault) => {
                    cx.log(Level::Error, format!("{host} could not be resolved ({fault})"));
                    Err(Unfinished::Status(502))
                }
            }
        }
    }
}

/// Creates the group of one request: its address came at run time.
fn single_use_group(name: &str, peers: Vec<upstream::PeerSpec>) -> Rc<ThreadGroup> {
    Rc::new(ThreadGroup::single_use(upstream::GroupSpec {
        name: name.to_owned(),
        peers,
        balancer: upstream::BalancerSpec::RoundRobin,
        keepalive: upstream::KeepaliveSpec::OFF,
        ring: upstream::Ring::default(),
    }))
}
