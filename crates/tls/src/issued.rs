//! Certificates that come, and change, while configurations are in force: what ACME issues.
//!
//! Owns them, shared by all configurations of a process, and the certificates that answer TLS-ALPN-01 (RFC 8737).

use crate::certificates;
use crate::der;
use crate::pem;
use crate::slot::Slot;
use engine::modules::acme::{CertificateFacts, Identifier, Wanted};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use webpki::EndEntityCert;

/// The protocol of TLS-ALPN-01.
pub const ACME_TLS: &[u8] = b"acme-tls/1";

#[derive(Default)]
struct State {
    /// By the texts that certificates are found by ([`engine::modules::acme::Wanted::id`]).
    slots: HashMap<Arc<str>, Arc<Slot>>,
    /// By the names that handshakes ask for.
    answers: HashMap<Box<[u8]>, Arc<ServerConfig>>,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Issued(Arc<RwLock<State>>);

impl fmt::Debug for Issued {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Issued").finish_non_exhaustive()
    }
}

impl Issued {
    /// Returns the place of a certificate, which may be empty.
    pub(crate) fn slot(&self, id: &Arc<str>) -> Arc<Slot> {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(state.slots.entry(Arc::clone(id)).or_default())
    }

    /// Returns the certificate of this text, if it has been issued.
    pub(crate) fn current(&self, id: &str) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).slots.get(id)?.current()
    }

    /// Puts a certificate in force, in handshakes of all configurations that name it; it is a chain with its key, in PEM.
    ///
    /// # Errors
    /// Fails if it cannot be used, or lacks a name; what is in force stays so.
    pub fn install(&self, wanted: &Wanted, pem: &[u8]) -> Result<CertificateFacts, String> {
        let (key, facts) = load(pem)?;
        check_names(&key.cert, &wanted.identifiers)?;
        let slot = self.slot(&wanted.id);
        slot.fill(key);
        Ok(facts)
    }

    /// Answers handshakes of TLS-ALPN-01 that ask for this name with a certificate and its key, in DER; without one, no more.
    ///
    /// # Errors
    /// Fails if the certificate cannot be used.
    pub fn set_answer(&self, name: &str, certificate: Option<(Vec<u8>, Vec<u8>)>) -> Result<(), String> {
        let answer = match certificate {
            Some((certificate, key)) => Some(answering(certificate, key).map_err(|error| error.to_string())?),
            None => None,
        };
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Some(answer) => state.answers.insert(name.as_bytes().into(), Arc::new(answer)),
            None => state.answers.remove(name.as_bytes()),
        };
        Ok(())
    }

    /// Returns what a handshake of TLS-ALPN-01 follows that asks for this name.
    pub fn answer(&self, name: &[u8]) -> Option<Arc<ServerConfig>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).answers.get(name).cloned()
    }
}

fn answering(certificate: Vec<u8>, key: Vec<u8>) -> Result<ServerConfig, rustls::Error> {
    let provider = aws_lc_rs::default_provider();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let key = provider.key_provider.load_private_key(key)?;
    // Taken as it is: its extension is critical and of ACME alone, so that nothing else accepts such a certificate.
    let pair = CertifiedKey { cert: vec![CertificateDer::from(certificate)], key, ocsp: None };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    Ok(config)
}

/// Fails if a certificate is not for all of these: an issuer may send another one than was ordered, and a file may be another's.
fn check_names(chain: &[CertificateDer<'_>], identifiers: &[Identifier]) -> Result<(), String> {
    let first = chain.first().ok_or("there is no certificate in it")?;
    let first = EndEntityCert::try_from(first).map_err(|error| error.to_string())?;
    let is_for = |identifier: &Identifier| match identifier {
        // As it is written: a wildcard is another certificate than one for a name that it covers.
        Identifier::Dns(name) => first.valid_dns_names().any(|known| known.eq_ignore_ascii_case(name)),
        Identifier::Ip(address) => {
            first.verify_is_valid_for_subject_name(&ServerName::IpAddress((*address).into())).is_ok()
        }
    };
    match identifiers.iter().find(|identifier| !is_for(identifier)) {
        Some(lacking) => Err(format!("it is not for {lacking}")),
        None => Ok(()),
    }
}

fn load(bytes: &[u8]) -> Result<(Arc<CertifiedKey>, CertificateFacts), String> {
    let chain = pem::certificates(bytes);
    let first = chain.first().ok_or("there is no certificate in it")?;
    let fields = der::fields(first).ok_or("its certificate is broken")?;
    let facts = CertificateFacts {
        from_s: fields.from.epoch_s(),
        until_s: fields.until.epoch_s(),
        authority_key: der::authority_key(&fields).map(<[u8]>::to_vec),
        serial: fields.serial.to_vec(),
    };
    let key = certificates::parse_key(bytes, None, &aws_lc_rs::default_provider()).map_err(|(why, _)| why)?;
    if key.public_key().is_some_and(|own| *own != *fields.key) {
        return Err("its key does not match its certificate".to_owned());
    }
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    Ok((Arc::new(CertifiedKey { cert: chain, key, ocsp: None }), facts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::modules::acme::KeyKind;
    use rcgen::{CertificateParams, CustomExtension, Issuer, KeyPair};

    fn wanted(identifiers: Vec<Identifier>) -> Wanted {
        Wanted { issuer: 0, identifiers, key: KeyKind::Ecdsa256, id: "x".into() }
    }

    #[test]
    fn certificate_for_other_names_is_not_in_force() {
        let key = KeyPair::generate().unwrap();
        let names = ["A.example", "*.b.example", "192.0.2.1", "more.example"];
        let params = CertificateParams::new(names.map(str::to_owned)).unwrap();
        let pem = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
        let issued = Issued::default();
        let dns = |name: &str| Identifier::Dns(name.to_owned());
        let address = |text: &str| Identifier::Ip(text.parse().unwrap());
        let lacking = [dns("c.example"), dns("any.b.example"), dns("b.example"), address("192.0.2.2")];
        for identifier in lacking {
            let words = format!("it is not for {identifier}");
            let wanted = wanted(vec![dns("a.example"), identifier]);
            assert_eq!(issued.install(&wanted, pem.as_bytes()).map(|_| ()), Err(words));
        }
        assert!(issued.current("x").is_none());
        let wanted = wanted(vec![dns("a.example"), dns("*.b.example"), address("192.0.2.1")]);
        assert!(issued.install(&wanted, pem.as_bytes()).is_ok() && issued.current("x").is_some());
    }

    #[test]
    fn certificate_is_in_force_once_it_fits_its_key() {
        let authority = KeyPair::generate().unwrap();
        let of_authority = CertificateParams::new(Vec::new()).unwrap();
        let key_identifier = of_authority.key_identifier(&authority);
        let issuer = Issuer::new(of_authority, authority);
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(rcgen::SerialNumber::from(0x0087_6543_u64));
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &issuer).unwrap();
        let issued = Issued::default();
        let wanted = wanted(vec![Identifier::Dns("a.example".to_owned())]);
        let slot = issued.slot(&wanted.id);
        let other = KeyPair::generate().unwrap().serialize_pem();
        assert!(
            issued.install(&wanted, (made.pem() + &other).as_bytes()).unwrap_err().contains("does not match")
        );
        assert!(issued.install(&wanted, made.pem().as_bytes()).unwrap_err().contains("no private key"));
        assert!(
            issued.install(&wanted, key.serialize_pem().as_bytes()).unwrap_err().contains("no certificate")
        );
        assert!(slot.current().is_none());
        let facts = issued.install(&wanted, (key.serialize_pem() + &made.pem()).as_bytes()).unwrap();
        assert!(slot.current().is_some());
        assert_eq!(facts.authority_key, Some(key_identifier));
        // A leading zero, as DER writes what would be negative.
        assert_eq!(facts.serial, [0x00, 0x87, 0x65, 0x43]);
        assert!(facts.from_s < facts.until_s);
    }

    #[test]
    fn handshakes_of_a_challenge_are_answered_until_it_is_over() {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(&[7; 32])];
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let issued = Issued::default();
        assert!(issued.answer(b"a.example").is_none());
        let certificate = (made.der().to_vec(), key.serialize_der());
        issued.set_answer("a.example", Some(certificate)).unwrap();
        assert_eq!(issued.answer(b"a.example").unwrap().alpn_protocols, [ACME_TLS]);
        assert!(issued.set_answer("b.example", Some((vec![1], vec![2]))).is_err());
        issued.set_answer("a.example", None).unwrap();
        assert!(issued.answer(b"a.example").is_none());
    }
}
