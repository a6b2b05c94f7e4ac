//! Addresses at which no server is: nothing may lead a group there but the configuration itself.
//!
//! Owns which they are: the sockets of this server, those of its traffic and those by which it is commanded, and what is the
//! address of many or none.

use engine::Config;
use engine::config::ListenAddress;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use upstream::Address;

/// The pid file, if the configuration does not say otherwise.
const PID_FILE: &str = "logs/pointsman.pid";

/// Returns true if an address is that of many, or of none. A resolver that blocks names answers with the latter, and the system
/// connects it to this machine.
pub(crate) fn is_of_no_server(address: IpAddr) -> bool {
    let ip = address.to_canonical();
    ip.is_unspecified() || ip.is_multicast() || matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
}

/// Returns true if this is an address at which no server is: it leads back into this one, or to none.
pub(crate) fn leads_back(config: &Config, address: &Address) -> bool {
    match address {
        Address::Unix(path) => is_own_socket(config, path),
        Address::Inet(address) => {
            let ip = address.ip().to_canonical();
            is_of_no_server(ip) || listens_at(config, ip, address.port())
        }
    }
}

/// Returns true if this server listens at an address.
pub(crate) fn listens_at(config: &Config, ip: IpAddr, port: u16) -> bool {
    config.listeners.iter().any(|listener| match &listener.address {
        ListenAddress::Inet(own) if own.port() == port => {
            let own = own.ip().to_canonical();
            own == ip || own.is_unspecified() && (ip.is_loopback() || is_of_an_interface(ip))
        }
        _ => false,
    })
}

/// Returns true if an interface of this machine has the address. If the system does not say, none has.
pub(crate) fn is_of_an_interface(address: IpAddr) -> bool {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return false };
    interfaces.filter_map(|interface| interface.address).any(|found| {
        let v4 = found.as_sockaddr_in().map(|found| IpAddr::from(found.ip()));
        let v6 = found.as_sockaddr_in6().map(|found| IpAddr::from(found.ip()).to_canonical());
        v4.or(v6) == Some(address)
    })
}

/// Returns true if this path leads to a socket of this server, by whatever link or name.
pub(crate) fn is_own_socket(config: &Config, path: &Path) -> bool {
    own_sockets(config).iter().any(|own| is_same(own, path))
}

fn own_sockets(config: &Config) -> Vec<PathBuf> {
    let mut own: Vec<PathBuf> = config
        .listeners
        .iter()
        .filter_map(|listener| match &listener.address {
            ListenAddress::Unix(path) => Some(path.clone()),
            ListenAddress::Inet(_) => None,
        })
        .collect();
    own.extend(config.control.socket.as_ref().map(|socket| socket.path.clone()));
    let pid_file = config.main.pid.as_ref().cloned().unwrap_or_else(|| config.prefix.join(PID_FILE));
    let mut handover = pid_file.into_os_string();
    handover.push(".handover");
    own.push(handover.into());
    own
}

/// Returns true if two paths lead to one file, or would.
fn is_same(own: &Path, asked: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let place = |path: &Path| {
        let folder = path.parent().and_then(|folder| folder.canonicalize().ok())?;
        Some(folder.join(path.file_name()?))
    };
    own == asked
        || identity(own).is_some_and(|own| Some(own) == identity(asked))
        || place(own).is_some_and(|own| Some(own) == place(asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_many_or_none_are_of_no_server() {
        for (address, is_barred) in [
            ("0.0.0.0", true),
            ("::", true),
            ("::ffff:0.0.0.0", true),
            ("255.255.255.255", true),
            ("224.0.0.1", true),
            ("ff02::1", true),
            ("127.0.0.1", false),
            ("10.0.0.255", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_of_no_server(address.parse().unwrap()), is_barred, "{address}");
        }
    }

    #[test]
    fn a_socket_is_known_by_its_file_whatever_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let _listener = std::os::unix::net::UnixListener::bind(at("own")).unwrap();
        std::os::unix::fs::symlink("own", at("link")).unwrap();
        fs::hard_link(at("own"), at("hard")).unwrap();
        std::os::unix::fs::symlink(folder.path(), at("in")).unwrap();
        fs::write(at("other"), "").unwrap();
        for (asked, is_own) in
            [("own", true), ("link", true), ("hard", true), ("in/own", true), ("other", false)]
        {
            assert_eq!(is_same(&at("own"), &at(asked)), is_own, "{asked}");
        }
        // Before it is there.
        assert!(is_same(&at("later"), &at("in/later")) && !is_same(&at("later"), &at("in/sooner")));
    }
}
