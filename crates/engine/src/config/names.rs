//! Server names of one listening address: exact, wildcards, regular expressions, in nginx's order of preference.

use super::ServerId;
use crate::exchange::Captures;
use crate::regex::{LimitReached, Regex};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// The names of one kind. Clients choose what is looked up, never what is entered: a fast hash will do.
type Names = HashMap<Box<[u8]>, ServerId, RandomState>;

/// The names of all servers at one address.
#[derive(Debug, Default)]
pub struct ServerNames {
    exact: Names,
    /// `*.example.com`, keyed by `.example.com`.
    leading: Names,
    /// `www.example.*`, keyed by `www.example.`.
    trailing: Names,
    regexes: Vec<(Regex, ServerId)>,
}

/// One name of `server_name`.
#[derive(Debug)]
pub enum NameMatch {
    /// One host.
    Exact(Vec<u8>),
    /// `*.example.com`: any host below; `.example.com`: the host itself too.
    Leading {
        /// `example.com`.
        parent: Vec<u8>,
        /// The parent itself matches too.
        with_parent: bool,
    },
    /// `www.example.*`; holds `www.example.`.
    Trailing(Vec<u8>),
    /// `~pattern`.
    Regex(Regex),
}

impl NameMatch {
    /// Reads one argument of `server_name`.
    ///
    /// # Errors
    /// nginx's words for what is wrong with it.
    pub fn parse(name: &[u8]) -> Result<NameMatch, String> {
        let shown = String::from_utf8_lossy(name);
        let invalid = || format!("invalid server name or wildcard \"{shown}\" on this address");
        if let Some(pattern) = name.strip_prefix(b"~") {
            if pattern.is_empty() {
                return Err("empty regex in server name \"~\"".to_owned());
            }
            let pattern = std::str::from_utf8(pattern).map_err(|_| invalid())?;
            // nginx compiles a name without letters of either case as it is; host names are in lower case already.
            return Ok(NameMatch::Regex(Regex::new(pattern, true)?));
        }
        let lower = name.to_ascii_lowercase();
        if let Some(parent) = lower.strip_prefix(b"*.") {
            return Ok(NameMatch::Leading { parent: plain(parent).ok_or_else(invalid)?, with_parent: false });
        }
        if let Some(parent) = lower.strip_prefix(b".") {
            return Ok(NameMatch::Leading { parent: plain(parent).ok_or_else(invalid)?, with_parent: true });
        }
        if let Some(stem) = lower.strip_suffix(b".*") {
            let mut stem = plain(stem).ok_or_else(invalid)?;
            stem.push(b'.');
            return Ok(NameMatch::Trailing(stem));
        }
        if lower.contains(&b'*') {
            return Err(invalid());
        }
        Ok(NameMatch::Exact(lower))
    }
}

fn plain(name: &[u8]) -> Option<Vec<u8>> {
    (!name.is_empty() && !name.contains(&b'*')).then(|| name.to_vec())
}

impl ServerNames {
    /// Enters a name. `false` if another server has it already (nginx warns and keeps the first).
    #[must_use]
    pub fn insert(&mut self, name: NameMatch, server: ServerId) -> bool {
        fn add(map: &mut Names, name: Vec<u8>, server: ServerId) -> bool {
            let first = *map.entry(name.into()).or_insert(server);
            first == server
        }
        match name {
            NameMatch::Exact(name) => add(&mut self.exact, name, server),
            NameMatch::Leading { parent, with_parent } => {
                let mut key = b".".to_vec();
                key.extend_from_slice(&parent);
                let fresh = !with_parent || add(&mut self.exact, parent, server);
                add(&mut self.leading, key, server) && fresh
            }
            NameMatch::Trailing(stem) => add(&mut self.trailing, stem, server),
            NameMatch::Regex(regex) => {
                self.regexes.push((regex, server));
                true
            }
        }
    }

    /// Returns whether names must be searched at all. (With one server and no regular expression they need not.)
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty()
            && self.leading.is_empty()
            && self.trailing.is_empty()
            && self.regexes.is_empty()
    }

    /// Returns the server of a host: exact name, longest leading wildcard, longest trailing wildcard, first regular
    /// expression (nginx, "Server names"). The captures of a regular expression are kept.
    pub fn find(
        &self,
        host: &[u8],
        captures: &mut Captures,
    ) -> Result<Option<(ServerId, Option<&Regex>)>, LimitReached> {
        if let Some(server) = self.exact.get(host) {
            return Ok(Some((*server, None)));
        }
        if !self.leading.is_empty() {
            for at in memchr::memchr_iter(b'.', host).filter(|at| *at > 0) {
                if let Some(server) = self.leading.get(&host[at..]) {
                    return Ok(Some((*server, None)));
                }
            }
        }
        if !self.trailing.is_empty() {
            for at in memchr::memrchr_iter(b'.', host).filter(|at| at + 1 < host.len()) {
                if let Some(server) = self.trailing.get(&host[..=at]) {
                    return Ok(Some((*server, None)));
                }
            }
        }
        for (regex, server) in &self.regexes {
            if !host.is_empty() && regex.captures(host, captures)? {
                return Ok(Some((*server, Some(regex))));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_preference_is_nginx_s() {
        let mut names = ServerNames::default();
        for (id, name) in [
            "shop.example.com",
            "*.example.com",
            "*.b.example.com",
            "www.*",
            ".dual.org",
            "~^(?<who>.+)\\.net$",
        ]
        .iter()
        .enumerate()
        {
            assert!(names.insert(NameMatch::parse(name.as_bytes()).unwrap(), ServerId(id as u32)));
        }
        let mut captures = Captures::default();
        let mut find =
            |host: &str| names.find(host.as_bytes(), &mut captures).unwrap().map(|(server, _)| server.0);
        assert_eq!(find("shop.example.com"), Some(0));
        assert_eq!(find("x.example.com"), Some(1));
        assert_eq!(find("a.b.example.com"), Some(2));
        assert_eq!(find("example.com"), None);
        assert_eq!(find("www.anything"), Some(3));
        assert_eq!(find("dual.org"), Some(4));
        assert_eq!(find("a.dual.org"), Some(4));
        assert_eq!(find("me.net"), Some(5));
        assert_eq!(find("nobody"), None);
        assert_eq!(captures.group(1), Some(&b"me"[..]));
    }

    #[test]
    fn a_star_in_the_middle_is_refused() {
        for name in ["a.*.b", "*a.b", "a*", "*", "*."] {
            assert!(NameMatch::parse(name.as_bytes()).is_err(), "{name}");
        }
    }
}
