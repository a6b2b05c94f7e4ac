//! The client's first message as it came (RFC 8446, section 4.1.2): what rustls does not tell of it.

use engine::modules::lua::handshake::HelloFacts;

/// A reader of what the message is made of.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Takes what has its length in so many bytes before it.
    fn counted(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let count = self.number(bytes)?;
        self.take(count)
    }
}

const HANDSHAKE: usize = 22;
const CLIENT_HELLO: usize = 1;

/// Reads the records that a client has begun with; `None` if their first message is no whole one.
pub fn hello_facts(records: &[u8]) -> Option<HelloFacts> {
    let mut rest = Parts(records);
    let mut message = Vec::with_capacity(records.len());
    // It may be in several records.
    while let (Some(HANDSHAKE), Some(_), Some(part)) = (rest.number(1), rest.number(2), rest.counted(2)) {
        message.extend_from_slice(part);
    }
    let mut message = Parts(&message);
    if message.number(1)? != CLIENT_HELLO {
        return None;
    }
    let mut hello = Parts(message.counted(3)?);
    let _version = hello.number(2)?;
    let random = hello.take(32)?.into();
    let (_session, _suites, _compression) = (hello.counted(1)?, hello.counted(2)?, hello.counted(1)?);
    let mut extensions = Vec::new();
    // Before TLS 1.3 there need not be any.
    let mut list = Parts(hello.counted(2).unwrap_or_default());
    while !list.0.is_empty() {
        let kind = u16::try_from(list.number(2)?).ok()?;
        extensions.push((kind, list.counted(2)?.into()));
    }
    Some(HelloFacts { random, extensions })
}

const SUPPORTED_VERSIONS: u16 = 43;
const TLS13: [u8; 2] = [3, 4];

/// Returns true if the client offers TLS 1.3.
pub(crate) fn offers_tls13(hello: &HelloFacts) -> bool {
    let list =
        hello.extension(SUPPORTED_VERSIONS).and_then(|list| Parts(list).counted(1)).unwrap_or_default();
    list.chunks_exact(2).any(|version| version == TLS13)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::sync::Arc;

    fn records() -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), "a.test".try_into().unwrap()).unwrap();
        let mut out = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut out).unwrap();
        }
        out
    }

    #[test]
    fn message_is_read_from_any_number_of_records() {
        let whole = records();
        let facts = hello_facts(&whole).unwrap();
        assert_eq!(&*facts.random, &whole[11..43]);
        let name = facts.extension(0).unwrap();
        assert!(name.ends_with(b"a.test") && facts.extension(9999).is_none());
        assert!(offers_tls13(&facts));
        let mut split = Vec::new();
        for part in whole[5..].chunks(100) {
            split.extend_from_slice(&[22, 3, 1]);
            split.extend_from_slice(&(part.len() as u16).to_be_bytes());
            split.extend_from_slice(part);
        }
        let again = hello_facts(&split).unwrap();
        assert_eq!((again.random, again.extensions), (facts.random, facts.extensions));
    }

    #[test]
    fn broken_messages_are_none() {
        let whole = records();
        for len in 0..whole.len() {
            assert!(hello_facts(&whole[..len]).is_none(), "{len}");
        }
        for at in 5..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            // Whatever comes of it, nothing is read that is not there.
            let _ = hello_facts(&changed);
        }
    }
}
