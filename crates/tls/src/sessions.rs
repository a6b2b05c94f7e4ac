//! Sessions that clients resume: in caches, and in tickets that the clients keep.
//!
//! Owns what outlives a configuration: caches by their names, the keys of tickets, and answers about certificates. A session is bound to the terms of
//! client verification under which it began, so that it cannot be taken to a server with others.

use crate::stapling::Answers;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hmac, rand};
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ProducesTickets, StoresServerSessions};
use rustls_pki_types::UnixTime;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// A digest of the terms that sessions are bound to.
pub(crate) type Terms = [u8; 32];

/// The sessions, which outlive a configuration. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    caches: Arc<Mutex<HashMap<String, Arc<Cache>>>>,
    secrets: Arc<TicketSecrets>,
    answers: Answers,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    /// Returns the cache of a name; one of another size replaces what there was.
    pub(crate) fn cache(&self, name: &str, size: u64) -> Arc<Cache> {
        let mut caches = lock(&self.caches);
        match caches.get(name) {
            Some(cache) if cache.size == size => Arc::clone(cache),
            _ => {
                let cache = Arc::new(Cache::new(size));
                caches.insert(name.to_owned(), Arc::clone(&cache));
                cache
            }
        }
    }

    /// Returns the answers about certificates.
    pub(crate) fn answers(&self) -> Answers {
        self.answers.clone()
    }

    /// Returns the keys that the process makes itself.
    pub(crate) fn secrets(&self) -> Arc<TicketSecrets> {
        Arc::clone(&self.secrets)
    }
}

/// A cache of sessions.
pub(crate) struct Cache {
    /// In bytes.
    size: u64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    sessions: HashMap<Box<[u8]>, (Vec<u8>, u64)>,
    /// Their keys, the oldest first, and some that are gone.
    order: VecDeque<Box<[u8]>>,
    bytes: u64,
}

/// What a session takes beyond its bytes.
const OVERHEAD: u64 = 128;

impl Cache {
    /// Creates an empty cache.
    pub(crate) fn new(size: u64) -> Cache {
        Cache { size, kept: Mutex::default() }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Cache").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Kept {
    fn remove(&mut self, key: &[u8]) -> Option<(Vec<u8>, u64)> {
        let session = self.sessions.remove(key)?;
        self.bytes -= cost(key, &session.0);
        if self.order.len() > 2 * self.sessions.len() + 64 {
            let Kept { sessions, order, .. } = self;
            order.retain(|key| sessions.contains_key(key));
        }
        Some(session)
    }
}

fn cost(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + OVERHEAD
}

/// How the sessions of a server are resumed.
#[derive(Debug)]
pub(crate) struct Resumption {
    pub(crate) cache: Option<Arc<Cache>>,
    /// The keys of files; without any the process makes its own. `None`: there are no tickets.
    pub(crate) tickets: Option<Vec<Arc<Zeroizing<Vec<u8>>>>>,
    pub(crate) secrets: Arc<TicketSecrets>,
    pub(crate) timeout_s: u64,
}

impl Resumption {
    /// Lets handshakes resume the sessions that began under these terms.
    pub(crate) fn apply(&self, config: &mut ServerConfig, terms: Terms) {
        let timeout_s = self.timeout_s;
        config.session_storage = match &self.cache {
            Some(cache) => Arc::new(BoundCache { cache: Arc::clone(cache), terms, timeout_s }),
            None => Arc::new(NoServerSessionStorage {}),
        };
        if let Some(files) = &self.tickets {
            let (files, secrets) = (files.clone(), Arc::clone(&self.secrets));
            config.ticketer = Arc::new(Tickets { files, secrets, terms, timeout_s });
        }
    }
}

/// A cache as one server uses it.
#[derive(Debug)]
pub(crate) struct BoundCache {
    pub(crate) cache: Arc<Cache>,
    pub(crate) terms: Terms,
    pub(crate) timeout_s: u64,
}

impl BoundCache {
    fn key(&self, key: &[u8]) -> Box<[u8]> {
        [&self.terms[..16], key].concat().into()
    }
}

impl StoresServerSessions for BoundCache {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let key = self.key(&key);
        let cost = cost(&key, &value);
        if cost > self.cache.size {
            return false;
        }
        let until_s = UnixTime::now().as_secs() + self.timeout_s;
        let mut kept = lock(&self.cache.kept);
        kept.remove(&key);
        while kept.bytes + cost > self.cache.size {
            let Some(oldest) = kept.order.pop_front() else { break };
            kept.remove(&oldest);
        }
        kept.bytes += cost;
        kept.order.push_back(key.clone());
        kept.sessions.insert(key, (value, until_s));
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let kept = lock(&self.cache.kept);
        let (value, until_s) = kept.sessions.get(&self.key(key))?;
        (UnixTime::now().as_secs() < *until_s).then(|| value.clone())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let (value, until_s) = lock(&self.cache.kept).remove(&self.key(key))?;
        (UnixTime::now().as_secs() < until_s).then_some(value)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// A secret from which keys of tickets are derived.
type Secret = Arc<Zeroizing<Vec<u8>>>;

/// Secrets that the process makes itself, one set for each `ssl_session_timeout`, and how old each is; the newest first.
#[derive(Default)]
pub(crate) struct TicketSecrets {
    made: Mutex<HashMap<u64, Vec<(u64, Secret)>>>,
}

impl fmt::Debug for TicketSecrets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TicketSecrets").finish_non_exhaustive()
    }
}

impl TicketSecrets {
    /// Returns the secrets for sessions of this length, the one that encrypts first. Each encrypts for as long, and decrypts
    /// for as long again, as in nginx since 1.23.2.
    fn current(&self, timeout_s: u64) -> Option<Vec<Secret>> {
        self.at(UnixTime::now().as_secs(), timeout_s)
    }

    fn at(&self, now_s: u64, timeout_s: u64) -> Option<Vec<Secret>> {
        let mut made = lock(&self.made);
        let made = made.entry(timeout_s).or_default();
        let lasts_s = timeout_s.max(1);
        if made.first().is_none_or(|(since_s, _)| now_s.saturating_sub(*since_s) >= lasts_s) {
            let mut secret = Zeroizing::new(vec![0; 32]);
            rand::fill(&mut secret).ok()?;
            made.insert(0, (now_s, Arc::new(secret)));
        }
        made.retain(|(since_s, _)| now_s.saturating_sub(*since_s) < 2 * lasts_s);
        Some(made.iter().map(|(_, secret)| Arc::clone(secret)).collect())
    }
}

/// Makes the tickets of one server.
pub(crate) struct Tickets {
    /// The files of `ssl_session_ticket_key`; without any, the process's own are used.
    pub(crate) files: Vec<Secret>,
    pub(crate) secrets: Arc<TicketSecrets>,
    pub(crate) terms: Terms,
    pub(crate) timeout_s: u64,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tickets").field("timeout_s", &self.timeout_s).finish_non_exhaustive()
    }
}

/// The bytes by which a ticket names its key.
const NAME: usize = 16;

impl Tickets {
    fn current(&self) -> Option<Vec<Secret>> {
        match self.files.is_empty() {
            true => self.secrets.current(self.timeout_s),
            false => Some(self.files.clone()),
        }
    }

    /// Derives a key and its name from a secret.
    fn derive(&self, secret: &[u8]) -> Option<([u8; NAME], LessSafeKey)> {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = |what: &[u8]| hmac::sign(&secret, &[what, &self.terms].concat());
        let mut name = [0; NAME];
        name.copy_from_slice(&derived(b"ticket name").as_ref()[..NAME]);
        let key = UnboundKey::new(&AES_256_GCM, derived(b"ticket key").as_ref()).ok()?;
        Some((name, LessSafeKey::new(key)))
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.timeout_s).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let (name, key) = self.derive(self.current()?.first()?)?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = [&UnixTime::now().as_secs().to_be_bytes(), plain].concat();
        let bound = Aad::from(name);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound, &mut sealed).ok()?;
        Some([&name[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (wanted, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut secrets = self.current()?.into_iter();
        let key = secrets.find_map(|secret| {
            let (name, key) = self.derive(&secret)?;
            (name == *wanted).then_some(key)
        })?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.open_in_place(nonce, Aad::from(*wanted), &mut sealed).ok()?;
        let (made_s, session) = plain.split_first_chunk::<8>()?;
        let age_s = UnixTime::now().as_secs().saturating_sub(u64::from_be_bytes(*made_s));
        (age_s < self.timeout_s).then(|| session.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(files: &[&[u8]], sessions: &Sessions, terms: u8, timeout_s: u64) -> Tickets {
        let files = files.iter().map(|file| Arc::new(Zeroizing::new(file.to_vec()))).collect();
        Tickets { files, secrets: sessions.secrets(), terms: [terms; 32], timeout_s }
    }

    #[test]
    fn tickets_are_bound_to_key_terms_and_time() {
        let sessions = Sessions::default();
        let first = tickets(&[&[1; 80]], &sessions, 0, 300);
        let ticket = first.encrypt(b"session").unwrap();
        assert_eq!(first.decrypt(&ticket).unwrap(), b"session");
        let rotated = tickets(&[&[2; 48], &[1; 80]], &sessions, 0, 300);
        assert_eq!(rotated.decrypt(&ticket).unwrap(), b"session");
        for other in [
            tickets(&[&[2; 80]], &sessions, 0, 300),
            tickets(&[&[1; 80]], &sessions, 1, 300),
            tickets(&[&[1; 80]], &sessions, 0, 0),
            tickets(&[], &sessions, 0, 300),
        ] {
            assert_eq!(other.decrypt(&ticket), None);
        }
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(first.decrypt(&changed), None, "{at}");
            assert_eq!(first.decrypt(&ticket[..at]), None);
        }
    }

    #[test]
    fn own_keys_of_tickets_outlive_a_configuration() {
        let sessions = Sessions::default();
        let ticket = tickets(&[], &sessions, 0, 300).encrypt(b"x").unwrap();
        assert_eq!(tickets(&[], &sessions.clone(), 0, 300).decrypt(&ticket).unwrap(), b"x");
        assert_eq!(tickets(&[], &Sessions::default(), 0, 300).decrypt(&ticket), None);
    }

    #[test]
    fn a_secret_of_tickets_encrypts_for_the_time_of_a_session() {
        let secrets = TicketSecrets::default();
        let at = |now_s, timeout_s| secrets.at(now_s, timeout_s).unwrap();
        let first = at(1000, 300);
        assert!(Arc::ptr_eq(&first[0], &at(1299, 300)[0]));
        let (next, other) = (at(1300, 300), at(1300, 86_400));
        assert!(!Arc::ptr_eq(&first[0], &next[0]) && Arc::ptr_eq(&first[0], &next[1]), "it still decrypts");
        assert_eq!(at(1600, 300).len(), 2);
        assert!(at(1600, 300).iter().all(|secret| !Arc::ptr_eq(secret, &first[0])), "its tickets are over");
        assert!(Arc::ptr_eq(&other[0], &at(80_000, 86_400)[0]), "sessions of another length have their own");
    }

    #[test]
    fn a_full_cache_forgets_the_oldest_session() {
        let cache = Sessions::default().cache("a", 1000);
        let bound = BoundCache { cache: Arc::clone(&cache), terms: [0; 32], timeout_s: 300 };
        for at in 0..100u8 {
            assert!(bound.put(vec![at], vec![at; 100]));
        }
        assert!(lock(&cache.kept).bytes <= 1000);
        assert_eq!(bound.get(&[0]), None);
        assert_eq!(bound.get(&[99]).unwrap(), [99; 100]);
        assert_eq!(bound.take(&[99]).unwrap(), [99; 100]);
        assert_eq!(bound.take(&[99]), None, "it is taken once");
        let other = BoundCache { cache, terms: [1; 32], timeout_s: 300 };
        assert_eq!(other.get(&[98]), None, "other terms");
        assert!(!bound.put(vec![1], vec![0; 2000]), "larger than the cache");
    }

    #[test]
    fn a_cache_outlives_a_reload_unless_its_size_changes() {
        let sessions = Sessions::default();
        let first = sessions.cache("a", 1000);
        assert!(Arc::ptr_eq(&first, &sessions.cache("a", 1000)));
        assert!(!Arc::ptr_eq(&first, &sessions.cache("a", 2000)));
    }
}
