//! What a client of TLS sends: records handed to the acceptor as `transport::tls_stream` hands them, and the handshake that
//! follows.
//!
//! Compares a client's bytes with the same in other pieces: what it offers, or that there is a fault, must be the same. A fault has
//! words for the log, what is answered is bounded, and no handshake is finished by bytes that know no key of ours.

use crate::dice::cuts;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use std::sync::{Arc, LazyLock};
use tls::{HandshakePeer, Offer, fault_text};

/// The most bytes of an input: all that a handshake may hold.
const MOST: usize = 32 << 10;
/// The most that a server says to a client that has not shown that it holds a key.
const MOST_SAID: usize = 8 << 10;

static CONFIG: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let chain = vec![made.cert.der().clone()];
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let builder = ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into());
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
});

/// What became of the first message: the name that it asks for, a fault, or that more must come.
#[derive(Debug, PartialEq)]
enum Hello {
    Offered(Option<Vec<u8>>),
    Fault(String),
    Partial,
}

/// Hands pieces with these ends to an acceptor, and what is behind the first message to the connection.
fn read(input: &[u8], ends: &[usize]) -> Hello {
    let mut acceptor = Acceptor::default();
    let mut at = 0;
    for (number, &end) in ends.iter().enumerate() {
        let mut piece = &input[at..end];
        while !piece.is_empty() {
            acceptor.read_tls(&mut piece).unwrap();
        }
        at = end;
        match acceptor.accept() {
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut said = Vec::new();
                alert.write_all(&mut said).unwrap();
                assert!(said.len() <= 64, "{} bytes for a fault", said.len());
                let words = fault_text(&error, HandshakePeer::Client);
                assert!(!words.is_empty() && !words.contains(char::is_control), "{words:?}");
                return Hello::Fault(words);
            }
            Ok(Some(accepted)) => {
                let offer = Offer::new(&accepted);
                let name = offer.server_name.map(|name| name.into_vec());
                assert!(
                    name.as_ref().is_none_or(|name| !name.is_empty() && *name == name.to_ascii_lowercase())
                );
                if let Ok(connection) = accepted.into_connection(Arc::clone(&CONFIG)) {
                    go_on(connection, input, &ends[number + 1..], at);
                }
                return Hello::Offered(name);
            }
        }
    }
    Hello::Partial
}

/// Goes on with a handshake. It cannot be finished by an input, which knows nothing that the server has said.
fn go_on(mut connection: rustls::ServerConnection, input: &[u8], ends: &[usize], mut at: usize) {
    let mut said = Vec::new();
    for &end in ends {
        let mut piece = &input[at..end];
        at = end;
        while !piece.is_empty() {
            if !matches!(connection.read_tls(&mut piece), Ok(1..)) {
                return;
            }
            let state = connection.process_new_packets();
            while connection.wants_write() {
                connection.write_tls(&mut said).unwrap();
            }
            assert!(said.len() <= MOST_SAID, "{} bytes for a client without a key", said.len());
            if state.is_err() {
                return;
            }
        }
    }
    assert!(connection.is_handshaking(), "a handshake was finished");
}

pub(crate) fn check(data: &[u8]) {
    let data = &data[..data.len().min(MOST)];
    let whole = read(data, &[data.len()]);
    for ends in cuts(data) {
        let pieces = read(data, &ends);
        match (&whole, &pieces) {
            // Which fault is seen first depends on how much is there.
            (Hello::Fault(_), Hello::Fault(_)) => {}
            _ => assert_eq!(whole, pieces, "in pieces"),
        }
    }
}
