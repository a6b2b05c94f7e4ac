//! Whose process is at the other end of a connection of this machine.
//!
//! Owns the reading of `/proc/net/tcp` (proc_pid_net(5)). A cookie goes to every port of a host, so another user's page could
//! learn it; that user's processes are still not let in.

use nix::unistd::{geteuid, getuid};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Returns the user whose process has the connection from `client` to `server`, as the system lists it.
pub(super) fn user_of(client: SocketAddr, server: SocketAddr) -> Option<u32> {
    let (SocketAddr::V4(client), SocketAddr::V4(server)) = (client, server) else { return None };
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .map(|path| std::fs::read_to_string(path).unwrap_or_default());
    tables.iter().find_map(|table| find(table, client, server))
}

/// Returns true if a user may use what this command serves: who runs it, who has become root for it, and root.
pub(super) fn is_admitted(user: u32) -> bool {
    let sudo = std::env::var("SUDO_UID").ok().and_then(|text| text.parse().ok());
    let sudo = sudo.filter(|_| geteuid().is_root());
    user == 0 || user == geteuid().as_raw() || user == getuid().as_raw() || sudo == Some(user)
}

fn find(table: &str, client: SocketAddrV4, server: SocketAddrV4) -> Option<u32> {
    let is_one = |text: &str, address: SocketAddrV4| {
        let (ip, port) = text.split_once(':')?;
        let is_ip = match ip.len() {
            8 => word(ip)? == *address.ip(),
            // ::ffff:127.0.0.1, in four words.
            32 => {
                ip[..24].eq_ignore_ascii_case("0000000000000000FFFF0000") && word(&ip[24..])? == *address.ip()
            }
            _ => false,
        };
        (is_ip && u16::from_str_radix(port, 16).ok()? == address.port()).then_some(())
    };
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (words.next()?, words.next()?);
        is_one(local, client)?;
        is_one(remote, server)?;
        // State, queues, timer and retransmissions are between.
        words.nth(4)?.parse().ok()
    })
}

/// Returns an address as the kernel prints it: the bytes of a word, in the machine's order.
fn word(digits: &str) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_loopback_peer_s_user_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, address) = listener.accept().unwrap();
        assert_eq!(user_of(address, server.local_addr().unwrap()), Some(geteuid().as_raw()));
        assert!(is_admitted(geteuid().as_raw()));
        let other = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(user_of(other, server.local_addr().unwrap()), None);
        drop(client);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_both_families_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 0100007F:0050 01 00000000:00000000 00:00000000 00000000  1000        0 1 1 x 20 0 0 10 -1\n\
            1: 0000000000000000FFFF00000100007F:1F91 0000000000000000FFFF00000100007F:0050 01 0:0 00:0 0  33 0 1\n";
        let at = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        assert_eq!(find(table, at(8080), at(80)), Some(1000));
        assert_eq!(find(table, at(8081), at(80)), Some(33));
        assert_eq!(find(table, at(80), at(8080)), None, "the other end");
    }
}
