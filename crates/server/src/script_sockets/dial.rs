//! Connecting for a script: its name is looked up, and the connection made, each in its own time.

use super::connection::ScriptConnection;
use super::datagram::DatagramSocket;
use crate::context::generation::Generation;
use crate::context::thread_context::ThreadContext;
use engine::config::Settings;
use engine::network::{Destination, DialFault, DialRequest, DialedConnection, Dialing};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tls::Contexts;
use transport::stream::{BindFailed, Stream};
use upstream::Address;

/// Prepares a connection; nothing happens before the result is polled.
pub(crate) fn dial(thread: &Rc<ThreadContext>, generation: &Generation, request: DialRequest) -> Dialing {
    let (thread, config) = (Rc::clone(thread), Arc::clone(&generation.config));
    let contexts = Arc::clone(&generation.contexts);
    Box::pin(async move {
        let settings = &config.location(request.location).settings;
        let address = match request.destination.clone() {
            Destination::Known(address) => address,
            Destination::Name(name, port) => resolve(&thread, settings, &name, port).await?,
        };
        connect(&thread, settings, contexts, &address, &request).await
    })
}

/// Returns one of the addresses of a name.
async fn resolve(
    thread: &ThreadContext,
    settings: &Settings,
    name: &str,
    port: u16,
) -> Result<Address, DialFault> {
    let Some(resolver) = settings.core.resolver.get() else {
        return Err(fault(format!("no resolver defined to resolve \"{name}\"")));
    };
    match thread.resolvers.lookup(resolver, name, *settings.core.resolver_timeout_ms).await {
        Ok(found) => {
            let chosen = thread.random() as usize % found.len().max(1);
            match found.get(chosen) {
                Some(ip) => Ok(SocketAddr::new(*ip, port).into()),
                None => Err(fault(format!("{name} could not be resolved"))),
            }
        }
        Err(error) => Err(fault(format!("{name} could not be resolved ({error})"))),
    }
}

fn fault(text: String) -> DialFault {
    DialFault { text, log: None, is_critical: false }
}

async fn connect(
    thread: &ThreadContext,
    settings: &Settings,
    contexts: Arc<Contexts>,
    address: &Address,
    request: &DialRequest,
) -> Result<Box<dyn DialedConnection>, DialFault> {
    if !thread.has_room() {
        thread.log_full();
        return Err(fault("worker_connections are not enough".to_owned()));
    }
    let count = thread.registry.add_upstream();
    if request.is_datagram {
        return match DatagramSocket::new(address, request.local, count) {
            Ok(socket) => Ok(Box::new(socket)),
            Err(error) => Err(connect_fault(address, request.local, &error)),
        };
    }
    let opened =
        tokio::time::timeout(Duration::from_millis(request.timeout_ms), open(address, request)).await;
    match opened {
        Ok(Ok(stream)) => {
            if *settings.core.send.tcp_nodelay {
                stream.send_at_once();
            }
            Ok(Box::new(ScriptConnection::new(stream, contexts, count)))
        }
        Ok(Err(error)) => Err(connect_fault(address, request.local, &error)),
        Err(_) => {
            let line = format!("lua tcp socket connect timed out, when connecting to {}", shown(address));
            Err(DialFault { text: "timeout".to_owned(), log: Some(line), is_critical: false })
        }
    }
}

async fn open(address: &Address, request: &DialRequest) -> io::Result<Stream> {
    #[cfg(test)]
    if let Some(connecting) = crate::simulation::connect(address) {
        return connecting.await;
    }
    match (request.local, address) {
        (Some(local), Address::Inet(_)) => {
            let connecting = Stream::connect_from(SocketAddr::new(local, 0), address, false);
            // Which of the two calls has failed is known by its errno.
            connecting.await.map_err(|error| match error.downcast::<BindFailed>() {
                Ok(BindFailed(errno)) => errno.into(),
                Err(error) => error,
            })
        }
        _ => Stream::connect(address, false).await,
    }
}

/// Returns an address as ngx_lua's messages show it: a unix socket with a port, too.
fn shown(address: &Address) -> String {
    match address {
        Address::Inet(_) => address.to_string(),
        Address::Unix(_) => format!("{address}:0"),
    }
}

fn connect_fault(address: &Address, local: Option<IpAddr>, error: &io::Error) -> DialFault {
    let Some(errno) = error.raw_os_error() else { return fault(error.to_string()) };
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    // These come with the call itself, the others while it waits.
    let at_once = matches!(address, Address::Unix(_))
        || matches!(errno, libc::ENETUNREACH | libc::EADDRNOTAVAIL | libc::EACCES | libc::EINVAL);
    let is_critical = !matches!(
        errno,
        libc::ECONNREFUSED
            | libc::ECONNRESET
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ETIMEDOUT
    );
    let line = match local {
        Some(local) if errno == libc::EADDRNOTAVAIL => format!("bind({local}) failed ({errno}: {words})"),
        _ if at_once => format!("connect() to {address} failed ({errno}: {words})"),
        _ => format!("connect() failed ({errno}: {words})"),
    };
    DialFault { text: words.to_ascii_lowercase(), log: Some(line), is_critical }
}
