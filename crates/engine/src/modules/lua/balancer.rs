//! `balancer_by_lua*`: the questions between a proxied request and the script that chooses its peers.
//!
//! Plain data. The server asks before each try ([`super::balance`]) and carries out what the script has said; the functions
//! of `ngx.balancer` write it down. Must never know how a peer is connected to.

use std::net::SocketAddr;
use upstream::Address;

/// The most tries that a request may have whose script asks for more and more: nginx has no such bound.
pub const MAX_TRIES: u32 = 128;

/// The data that a script and the server exchange about one proxied request.
#[derive(Debug, Default)]
pub struct Balancing {
    /// The tries begun, the one in question included.
    pub begun: u32,
    /// The tries left, the one in question included.
    pub left: u32,
    /// `proxy_next_upstream_tries`; 0 is without limit.
    pub limit: u32,
    /// How the last try of a peer that the script had chosen has failed.
    pub last_failure: Option<LastFailure>,
    /// The location has settings for TLS, so that a script may switch it on.
    pub has_tls: bool,
    /// The script's choice for the present try.
    pub choice: Choice,
    /// The times that the script has set, for this try and the later ones.
    pub times: Times,
    /// The address to connect from.
    pub local: Option<SocketAddr>,
    /// Whether the upstream is spoken to over TLS, if the script has said it.
    pub over_tls: Option<bool>,
    /// The request is to be written anew before it is sent.
    pub recreate: bool,
}

/// A script's choice for one try.
#[derive(Debug, Default)]
pub struct Choice {
    /// The peer; none leaves it to the group.
    pub peer: Option<ChosenPeer>,
    /// How many tries more there are to be.
    pub more_tries: i32,
    /// The connection is kept for other requests (`enable_keepalive`).
    pub keepalive: Option<ScriptKeepalive>,
}

/// A peer that a script has chosen.
#[derive(Debug, PartialEq, Eq)]
pub struct ChosenPeer {
    /// Its address.
    pub address: Address,
    /// The name that it is to prove over TLS; empty for the location's.
    pub host: Vec<u8>,
}

/// The way in which a script wants a connection kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptKeepalive {
    /// The longest time that it may lie idle, in ms; 0 is without limit.
    pub idle_ms: u64,
    /// How many requests it may carry; 0 is without limit.
    pub max_requests: u32,
}

/// The times of a connection, in ms; none is the location's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// For connecting.
    pub connect_ms: Option<u64>,
    /// Between two writes.
    pub send_ms: Option<u64>,
    /// Between two reads.
    pub read_ms: Option<u64>,
}

/// The way in which a try failed, with ngx_lua's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum LastFailure {
    /// The peer answered 403 or 404, and another one is asked.
    Next = 2,
    /// Anything else.
    Failed = 4,
}

impl Balancing {
    /// Prepares for the next try: `left` are the tries left with it.
    pub fn begin(&mut self, left: u32) {
        self.begun = self.begun.saturating_add(1);
        self.left = left;
        self.choice = Choice::default();
        self.recreate = false;
    }

    /// Notes how many tries more there are to be. Returns false if that is more than the limit allows, and notes what it does
    /// allow.
    pub fn ask_for_tries(&mut self, count: i32) -> bool {
        let total = i64::from(self.begun) + i64::from(self.left) - 1;
        let most = if self.limit == 0 { MAX_TRIES } else { self.limit.min(MAX_TRIES) };
        let allowed = i64::from(most) - total;
        let fits = i64::from(count) <= allowed;
        self.choice.more_tries = if fits { count } else { allowed.max(0) as i32 };
        fits
    }
}

/// The outcome of asking a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balanced {
    /// It ran to its end; what it has said is in [`Balancing`].
    Done,
    /// It says that no peer can be had: `ngx.exit` with nginx's NGX_BUSY.
    Busy,
    /// It says that this try has failed: `ngx.exit(ngx.DECLINED)`.
    Declined,
    /// The request ends with this status.
    End(u16),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_added_up_to_the_limit() {
        let mut balancing = Balancing { limit: 5, ..Balancing::default() };
        balancing.begin(1);
        assert!(balancing.ask_for_tries(2));
        assert_eq!(balancing.choice.more_tries, 2);
        balancing.begin(2);
        assert!(balancing.ask_for_tries(2));
        balancing.begin(3);
        assert!(!balancing.ask_for_tries(2));
        assert_eq!(balancing.choice.more_tries, 0);
    }

    #[test]
    fn a_script_that_wants_ever_more_tries_comes_to_an_end() {
        let (mut balancing, mut left) = (Balancing::default(), 1);
        for _ in 0..10_000 {
            balancing.begin(left);
            balancing.ask_for_tries(3);
            left = (i64::from(left) + i64::from(balancing.choice.more_tries) - 1) as u32;
            if left == 0 {
                break;
            }
        }
        assert_eq!(balancing.begun, MAX_TRIES);
    }
}
