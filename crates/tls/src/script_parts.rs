//! Certificates and keys that scripts of handshakes set (`ngx.ssl`).

use crate::certificates;
use crate::der::{self, Der, SEQUENCE};
use crate::pem;
use engine::ssl_file::SslFile;
use rustls::crypto::aws_lc_rs;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A chain of certificates, the server's first.
struct ScriptChain(Vec<CertificateDer<'static>>);

/// A private key.
struct ScriptKey(Arc<dyn SigningKey>);

/// Makes a chain of its certificates in DER, one behind another.
pub fn script_chain(der: &[u8]) -> Option<Rc<dyn Any>> {
    let mut rest = Der(der);
    let mut chain = Vec::new();
    while !rest.0.is_empty() {
        let whole = rest.whole(SEQUENCE)?;
        der::fields(whole)?;
        chain.push(CertificateDer::from(whole.to_vec()));
    }
    (!chain.is_empty()).then(|| Rc::new(ScriptChain(chain)) as _)
}

/// Makes a key of its DER: PKCS #8, PKCS #1 or SEC 1.
pub fn script_key(der: &[u8]) -> Option<Rc<dyn Any>> {
    let der = PrivateKeyDer::try_from(der).ok()?.clone_key();
    let key = aws_lc_rs::default_provider().key_provider.load_private_key(der).ok()?;
    Some(Rc::new(ScriptKey(key)))
}

/// Returns the DER of the certificates in a PEM, one behind another.
pub fn chain_to_der(pem: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let chain = pem::certificates(pem);
    (!chain.is_empty()).then(|| Zeroizing::new(chain.concat()))
}

/// Returns the DER of the first private key in a PEM.
pub fn key_to_der(pem: &[u8], password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let passwords = (!password.is_empty()).then(|| SslFile::of_handshake("password", password.to_vec()));
    certificates::key_der(pem, passwords.as_ref()).ok().map(|(_, der)| der)
}

/// Returns the pairs among what a script has set: for each kind of key the last one, with the last chain that it belongs to.
pub(crate) fn pairs(chains: &[Rc<dyn Any>], keys: &[Rc<dyn Any>]) -> Vec<Arc<CertifiedKey>> {
    let chains: Vec<&ScriptChain> = chains.iter().filter_map(|chain| chain.downcast_ref()).collect();
    let mut pairs: Vec<Arc<CertifiedKey>> = Vec::new();
    for ScriptKey(key) in keys.iter().rev().filter_map(|key| key.downcast_ref()) {
        if pairs.iter().any(|known| known.key.algorithm() == key.algorithm()) {
            continue;
        }
        let own = key.public_key();
        let fits = |chain: &&&ScriptChain| {
            let fields = chain.0.first().and_then(|first| der::fields(first));
            fields.is_some_and(|fields| own.as_ref().is_some_and(|own| **own == *fields.key))
        };
        if let Some(chain) = chains.iter().rev().find(fits) {
            let pair = CertifiedKey { cert: chain.0.clone(), key: Arc::clone(key), ocsp: None };
            pairs.push(Arc::new(pair));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn made(name: &str) -> (String, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key)
    }

    #[test]
    fn last_key_of_a_kind_counts_with_the_chain_that_it_fits() {
        let [(a, a_key), (b, b_key)] = ["a.test", "b.test"].map(made);
        let chain = |pem: &str| script_chain(&chain_to_der(pem.as_bytes()).unwrap()).unwrap();
        let key =
            |key: &KeyPair| script_key(&key_to_der(key.serialize_pem().as_bytes(), b"").unwrap()).unwrap();
        let leaf =
            |pairs: &[Arc<CertifiedKey>]| pairs.iter().map(|pair| pair.cert[0].to_vec()).collect::<Vec<_>>();
        let [a_der, b_der] = [&a, &b].map(|pem| pem::certificates(pem.as_bytes()).remove(0));
        let both = [chain(&a), chain(&b)];
        assert_eq!(leaf(&pairs(&both, &[key(&b_key), key(&a_key)]))[..], *std::slice::from_ref(&a_der));
        assert_eq!(leaf(&pairs(&both, &[key(&a_key), key(&b_key)])), [b_der]);
        assert!(pairs(&[chain(&b)], &[key(&a_key)]).is_empty());
        assert!(pairs(&[chain(&a)], &[]).is_empty());
        let long = chain(&(a.clone() + &b));
        let found = pairs(&[long], &[key(&a_key)]);
        assert_eq!((found[0].cert.len(), found[0].cert[0].to_vec()), (2, a_der));
    }

    #[test]
    fn an_invalid_certificate_or_key_is_refused() {
        let (pem, key) = made("a.test");
        let der = chain_to_der(pem.as_bytes()).unwrap();
        for len in 0..der.len() {
            assert!(script_chain(&der[..len]).is_none(), "{len}");
        }
        assert!(script_chain(&[&der[..], b"x"].concat()).is_none());
        assert!(script_key(&der).is_none() && script_key(b"").is_none());
        assert!(chain_to_der(key.serialize_pem().as_bytes()).is_none());
        assert!(key_to_der(pem.as_bytes(), b"").is_none());
    }
}
