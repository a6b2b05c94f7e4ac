//! What shows an issuer that a name is ours, as long as it asks.
//!
//! Owns the texts and certificates of challenges, in this process and, by the folder, in others that serve the same addresses.

use crate::folder::Folder;
use crate::host::AcmeHost;
use engine::modules::acme::{ChallengeKind, Identifier};
use instant_acme::KeyAuthorization;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::IpAddr;
use std::rc::Rc;

/// A challenge that is answered until this is dropped.
pub(crate) struct Proof {
    host: Rc<dyn AcmeHost>,
    what: ChallengeAnswer,
    /// The folder, and the name there by which other processes find it.
    shared: Option<(Folder, String)>,
}

/// The answer to a challenge, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChallengeAnswer {
    /// HTTP-01, for a token.
    Token(String),
    /// TLS-ALPN-01, for a server name.
    ServerName(String),
}

impl ChallengeAnswer {
    fn stop(&self, host: &dyn AcmeHost) {
        match self {
            ChallengeAnswer::Token(token) => host.answer_request(token, None),
            // It cannot fail without a certificate.
            ChallengeAnswer::ServerName(name) => drop(host.answer_handshake(name, None)),
        }
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        self.what.stop(&*self.host);
        if let Some((folder, name)) = &self.shared {
            folder.remove(name);
        }
    }
}

impl Proof {
    /// Answers a challenge from now on.
    pub(crate) fn publish(
        kind: ChallengeKind,
        identifier: &Identifier,
        token: &str,
        authorization: &KeyAuthorization,
        folder: Option<&Folder>,
        host: &Rc<dyn AcmeHost>,
    ) -> Result<Proof, String> {
        // A token becomes the name of a file (RFC 8555, section 8.1).
        if token.is_empty()
            || !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        {
            return Err(format!(
                "the token \"{}\" of the challenge is not base64url",
                token.escape_default()
            ));
        }
        let (what, file, bytes) = match kind {
            ChallengeKind::Http01 => {
                host.answer_request(token, Some(authorization.as_str()));
                let bytes = authorization.as_str().as_bytes().to_vec();
                (ChallengeAnswer::Token(token.to_owned()), format!("http-{token}"), bytes)
            }
            ChallengeKind::Dns01 => return Err("nothing sets its record".to_owned()),
            ChallengeKind::TlsAlpn01 => {
                let name = server_name(identifier);
                let (certificate, key) = certificate(identifier, authorization.digest().as_ref())?;
                let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
                let answer = (certificate.der().to_vec(), key.serialize_der());
                host.answer_handshake(&name, Some(answer))?;
                (ChallengeAnswer::ServerName(name.clone()), format!("alpn-{name}"), pem.into_bytes())
            }
        };
        let mut proof = Proof { host: Rc::clone(host), what, shared: None };
        if let Some(folder) = folder {
            let written = folder.write_challenge(&file, &bytes);
            let name = written.map_err(|error| format!("a challenge cannot be written: {error}"))?;
            proof.shared = Some((folder.clone(), name));
        }
        Ok(proof)
    }
}

/// Answers what another process has written into the folder; `None` if it is gone already, or nothing of ours.
pub(crate) fn adopt(folder: &Folder, file: &str, host: &Rc<dyn AcmeHost>) -> Option<Proof> {
    let bytes = folder.read_challenge(file).ok()??;
    let what = if let Some(token) = file.strip_prefix("http-") {
        host.answer_request(token, Some(std::str::from_utf8(&bytes).ok()?));
        ChallengeAnswer::Token(token.to_owned())
    } else {
        let name = file.strip_prefix("alpn-")?;
        let certificate = CertificateDer::from_pem_slice(&bytes).ok()?;
        let key = PrivateKeyDer::from_pem_slice(&bytes).ok()?;
        host.answer_handshake(name, Some((certificate.to_vec(), key.secret_der().to_vec()))).ok()?;
        ChallengeAnswer::ServerName(name.to_owned())
    };
    // The file is the other one's.
    Some(Proof { host: Rc::clone(host), what, shared: None })
}

/// Returns the certificate of TLS-ALPN-01 (RFC 8737, section 3).
fn certificate(identifier: &Identifier, digest: &[u8]) -> Result<(rcgen::Certificate, KeyPair), String> {
    let failed = |error: rcgen::Error| format!("the certificate of a challenge cannot be made: {error}");
    if digest.len() != 32 {
        return Err("the digest of a challenge is none of SHA-256".to_owned());
    }
    let mut params = CertificateParams::new(vec![identifier.to_string()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(failed)?;
    Ok((params.self_signed(&key).map_err(failed)?, key))
}

/// Returns the server name by which TLS-ALPN-01 asks; for an address its name in reverse (RFC 8738, section 6).
fn server_name(identifier: &Identifier) -> String {
    match identifier {
        Identifier::Dns(name) => name.clone(),
        Identifier::Ip(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Identifier::Ip(IpAddr::V6(address)) => {
            let digits = address.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            digits.map(|digit| format!("{digit:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_asked_for_by_their_reverse_names() {
        let name = |text: &str| server_name(&Identifier::Ip(text.parse().unwrap()));
        assert_eq!(name("192.0.2.7"), "7.2.0.192.in-addr.arpa");
        let long = format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23));
        assert_eq!(name("2001:db8::1"), long);
        assert_eq!(server_name(&Identifier::Dns("a.example".into())), "a.example");
    }

    #[test]
    fn certificate_of_a_challenge_has_the_digest() {
        let (certificate, _) = certificate(&Identifier::Dns("a.example".into()), &[7; 32]).unwrap();
        // The extension's number, that it is critical, and the digest.
        let mut wanted = vec![0x06, 8, 0x2b, 6, 1, 5, 5, 7, 1, 31, 1, 1, 0xff, 4, 34, 4, 32];
        wanted.extend([7; 32]);
        assert!(certificate.der().windows(wanted.len()).any(|bytes| bytes == wanted));
    }
}
