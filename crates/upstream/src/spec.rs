//! The configuration of a group: plain data, complete before the first request.
//!
//! Owns: the typed form of an `upstream {}` block and nginx's defaults. Must never: hold anything that changes
//! while serving; that is [`crate::Group`].

use crate::address::Address;
use crate::ring::Ring;

/// Where a server comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PeerSource {
    /// The configuration has it.
    #[default]
    File,
    /// It was looked up where the configuration says.
    Discovered,
    /// An order has added it.
    Order,
}

/// One `server` line of an `upstream {}` block, for one of its addresses.
///
/// Source of behaviour: <https://nginx.org/en/docs/http/ngx_http_upstream_module.html#server>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSpec {
    /// The parameter of `server` as it was written (`backend1:8080`). `hash … consistent` hashes it, and peers of
    /// one name share one place in that ring. Together with `address` it is the peer's identity across reloads.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// Where it comes from.
    pub source: PeerSource,
    /// Share of the traffic; 0 is taken as 1 (nginx refuses it in the configuration).
    pub weight: u32,
    /// Most connections at a time, as this [`crate::Group`] counts them; 0 is no limit.
    pub max_conns: u32,
    /// Failures within `fail_timeout_ms` that make the peer unavailable; 0 switches the accounting off.
    pub max_fails: u32,
    /// Both the window in which failures count and the time the peer is then left alone, in milliseconds.
    pub fail_timeout_ms: u64,
    /// How long its weight grows after a recovery until it is the full one, in milliseconds; 0 is not at all. Only the
    /// round robin and `least_conn` know it.
    pub slow_start_ms: u64,
    /// Used only when no primary peer is available.
    pub backup: bool,
    /// Never used.
    pub down: bool,
    /// Takes no new requests; those under way and streams go on. `server … drain` of NGINX Plus.
    pub drain: bool,
}

impl PeerSpec {
    /// Creates a peer with nginx's defaults: `weight=1 max_conns=0 max_fails=1 fail_timeout=10s`. This is also what
    /// nginx makes of each address of a `proxy_pass` that names no `upstream {}` block.
    pub fn new(name: impl Into<String>, address: Address) -> PeerSpec {
        PeerSpec {
            name: name.into(),
            address,
            source: PeerSource::File,
            weight: 1,
            max_conns: 0,
            max_fails: 1,
            fail_timeout_ms: 10_000,
            slow_start_ms: 0,
            backup: false,
            down: false,
            drain: false,
        }
    }

    /// Returns true if it takes new requests, as far as its configuration goes.
    pub fn is_in_use(&self) -> bool {
        !self.down && !self.drain
    }
}

/// One `upstream {}` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    /// The block's name, or host and port of a `proxy_pass` without a block. It is what `$upstream_addr` shows
    /// when no peer could be picked.
    pub name: String,
    /// In the order of the configuration; the order decides ties.
    pub peers: Vec<PeerSpec>,
    /// How a peer is chosen.
    pub balancer: BalancerSpec,
    /// How connections are kept for the next request.
    pub keepalive: KeepaliveSpec,
    /// The ring of `hash … consistent`, if it is made: else each [`crate::Group`] makes its own.
    pub ring: Ring,
}

impl GroupSpec {
    /// Returns the same group with these peers. Makes the ring of `hash … consistent`, which may take long: not for a thread
    /// that serves requests.
    #[must_use]
    pub fn with_peers(&self, peers: Vec<PeerSpec>) -> GroupSpec {
        let primaries = peers.iter().filter(|peer| !peer.backup);
        let ring = match self.balancer {
            BalancerSpec::Hash { consistent: true } => {
                Ring::of(primaries.map(|peer| (peer.name.as_str(), peer.weight)))
            }
            _ => Ring::default(),
        };
        GroupSpec { name: self.name.clone(), peers, balancer: self.balancer, keepalive: self.keepalive, ring }
    }
}

/// The balancing method. The value that `hash` hashes is evaluated per request: [`crate::PickInput::key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BalancerSpec {
    /// nginx's smooth weighted round robin, its default.
    #[default]
    RoundRobin,
    /// `least_conn`
    LeastConn,
    /// `ip_hash`
    IpHash,
    /// `hash KEY [consistent]`
    Hash {
        /// Ketama ring instead of the modulus: few keys move when a peer comes or goes.
        consistent: bool,
    },
    /// `random [two [least_conn]]`
    Random {
        /// Draw two peers and take the better of them.
        two: Option<TwoBy>,
    },
}

impl BalancerSpec {
    /// Every balancing method, for tests and benches.
    pub const ALL: [BalancerSpec; 7] = [
        BalancerSpec::RoundRobin,
        BalancerSpec::LeastConn,
        BalancerSpec::IpHash,
        BalancerSpec::Hash { consistent: false },
        BalancerSpec::Hash { consistent: true },
        BalancerSpec::Random { two: None },
        BalancerSpec::Random { two: Some(TwoBy::LeastConn) },
    ];

    /// Returns true if `backup` and `slow_start` are allowed on a `server` line: nginx refuses them for `ip_hash`, `hash`
    /// and `random`.
    pub fn allows_backup(self) -> bool {
        matches!(self, BalancerSpec::RoundRobin | BalancerSpec::LeastConn)
    }
}

/// The measure by which `random two` compares its two peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TwoBy {
    /// Active connections in proportion to weight; nginx's default and its only method outside NGINX Plus.
    #[default]
    LeastConn,
}

/// `keepalive`, `keepalive_requests`, `keepalive_time` and `keepalive_timeout` of an `upstream {}` block.
///
/// Source of behaviour: <https://nginx.org/en/docs/http/ngx_http_upstream_module.html#keepalive>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepaliveSpec {
    /// Idle connections kept per worker; 0 keeps none.
    pub max_idle: u32,
    /// `local`: a connection serves only the location that opened it. The caller puts the location into
    /// [`crate::IdleKey::tag`] when this is set.
    pub local: bool,
    /// Requests a connection may serve in all.
    pub requests: u32,
    /// Age, in milliseconds, beyond which a connection is not kept after its request.
    pub time_ms: u64,
    /// How long a connection may be idle, in milliseconds.
    pub timeout_ms: u64,
}

impl KeepaliveSpec {
    /// No connection is kept: `keepalive 0`, and every `proxy_pass` that names no `upstream {}` block.
    pub const OFF: KeepaliveSpec =
        KeepaliveSpec { max_idle: 0, local: false, requests: 1000, time_ms: 3_600_000, timeout_ms: 60_000 };
}

/// The default of nginx ≥ 1.29.7 for an `upstream {}` block without `keepalive`: `keepalive 32 local`. A written
/// `keepalive N` is not local unless it says so.
impl Default for KeepaliveSpec {
    fn default() -> KeepaliveSpec {
        KeepaliveSpec { max_idle: 32, local: true, ..KeepaliveSpec::OFF }
    }
}
