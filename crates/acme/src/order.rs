//! One order: from the names to the chain of certificates (RFC 8555, section 7.4).

use crate::client::{IssuerClient, OrderFailure, now_s};
use crate::folder::Folder;
use crate::host::AcmeHost;
use crate::proof::Proof;
use crate::record::{Record, SetRecord, Setter};
use engine::modules::acme::{CertificateFacts, ChallengeKind, Identifier, Issuer, KeyKind, Wanted};
use instant_acme::{
    Account, AuthorizationStatus, AuthorizedIdentifier, CertificateIdentifier, ChallengeType, Error,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, RsaKeySize};
use rustls_pki_types::Der;
use std::rc::Rc;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the issuer may take to check a proof, or to sign.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(180));

/// How long other processes take to find what they must answer.
const FOLLOWERS_LOOK: Duration = Duration::from_millis(1500);

/// The inputs of an order.
pub(crate) struct OrderTask<'a> {
    pub(crate) issuer: &'a Issuer,
    pub(crate) wanted: &'a Wanted,
    /// The file with the key of the order, in the folder.
    pub(crate) key_file: &'a str,
    pub(crate) account: &'a Account,
    pub(crate) client: &'a IssuerClient,
    pub(crate) folder: Option<&'a Folder>,
    pub(crate) host: &'a Rc<dyn AcmeHost>,
    /// The certificate that it takes the place of, if the issuer wants to know.
    pub(crate) replaces: Option<&'a CertificateFacts>,
}

/// What proves names as long as it is held.
#[derive(Default)]
struct Proofs {
    answers: Vec<Proof>,
    records: Vec<SetRecord>,
}

/// Returns the name by which an issuer knows a certificate (RFC 9773, section 4.1).
pub(crate) fn identifier_of(facts: &CertificateFacts) -> Option<CertificateIdentifier<'_>> {
    let key = facts.authority_key.as_deref()?;
    Some(CertificateIdentifier::new(Der::from_slice(key), Der::from_slice(&facts.serial)))
}

impl OrderTask<'_> {
    /// Carries the order out; returns the key and the chain, in PEM.
    pub(crate) async fn run(&self) -> Result<Zeroizing<Vec<u8>>, OrderFailure> {
        let key = self.key().await?;
        let identifiers: Vec<instant_acme::Identifier> =
            self.wanted.identifiers.iter().map(to_acme).collect();
        let mut new = NewOrder::new(&identifiers);
        if let Some(profile) = self.profile()? {
            new = new.profile(profile);
        }
        if let Some(replaced) = self.replaces.and_then(identifier_of) {
            new = new.replaces(replaced);
        }
        let mut order = self.account.new_order(&new).await.map_err(|error| self.failed(&error))?;
        let proofs = self.prove(&mut order).await?;
        let status = order.poll_ready(&POLL).await;
        match status {
            Ok(OrderStatus::Ready) => {}
            Ok(_) | Err(Error::Api(_)) => return Err(self.unproven(&mut order, status).await),
            Err(error) => return Err(self.failed(&error)),
        }
        drop(proofs);
        let request = self.signing_request(&key)?;
        order.finalize_csr(&request).await.map_err(|error| self.failed(&error))?;
        let chain = order.poll_certificate(&POLL).await.map_err(|error| self.failed(&error))?;
        let mut pem = Zeroizing::new(key.serialize_pem().into_bytes());
        pem.extend_from_slice(chain.as_bytes());
        Ok(pem)
    }

    fn failed(&self, error: &Error) -> OrderFailure {
        self.client.failure(error, now_s())
    }

    /// Returns the key of the order: that of one that was interrupted, or a new one, which is kept before it is used.
    async fn key(&self) -> Result<KeyPair, OrderFailure> {
        if let Some(folder) = self.folder
            && let Ok(Some(bytes)) = folder.read(self.key_file)
            && let Ok(text) = std::str::from_utf8(&bytes)
            && let Ok(key) = KeyPair::from_pem(text)
        {
            return Ok(key);
        }
        let kind = self.wanted.key;
        // An RSA key takes seconds.
        let made = tokio::task::spawn_blocking(move || generate(kind)).await;
        let key = made
            .map_err(|error| error.to_string())
            .and_then(|made| made.map_err(|error| error.to_string()))
            .map_err(|error| OrderFailure::refused(format!("no key can be made: {error}")))?;
        if let Some(folder) = self.folder {
            let pem = Zeroizing::new(key.serialize_pem());
            folder.write(self.key_file, pem.as_bytes()).map_err(|error| {
                let path = folder.path(self.key_file);
                OrderFailure::refused(format!("\"{}\" cannot be written: {error}", path.display()))
            })?;
        }
        Ok(key)
    }

    fn profile(&self) -> Result<Option<&str>, OrderFailure> {
        let Some((name, required)) = &self.issuer.profile else { return Ok(None) };
        match (self.account.profiles().any(|known| known.name == name), required) {
            (true, _) => Ok(Some(name)),
            (false, false) => Ok(None),
            (false, true) => Err(OrderFailure::refused(format!("it has no profile \"{name}\""))),
        }
    }

    /// Answers the challenges of the order, and says so to the issuer.
    async fn prove(&self, order: &mut Order) -> Result<Proofs, OrderFailure> {
        let kind = self.issuer.challenge;
        let challenge_type = match kind {
            ChallengeKind::Http01 => ChallengeType::Http01,
            ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
            ChallengeKind::Dns01 => ChallengeType::Dns01,
        };
        let mut proofs = Proofs::default();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| self.failed(&error))?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                other => return Err(OrderFailure::refused(format!("an authorization of it is {other:?}"))),
            }
            let identifier = self.proven(&authorization.identifier())?;
            let Some(challenge) = authorization.challenge(challenge_type.clone()) else {
                return Err(OrderFailure::refused(format!("it offers no challenge {kind} for {identifier}")));
            };
            let text = challenge.key_authorization();
            if let (ChallengeKind::Dns01, Some(setter)) = (kind, Setter::of(self.issuer)) {
                let record = Record { setter, host: identifier.to_string(), value: text.dns_value() };
                let set = tokio::task::spawn_blocking(move || record.set()).await;
                let set = set.unwrap_or_else(|error| Err(error.to_string()));
                proofs.records.push(set.map_err(OrderFailure::refused)?);
                continue;
            }
            let proof = Proof::publish(kind, &identifier, &challenge.token, &text, self.folder, self.host);
            proofs.answers.push(proof.map_err(OrderFailure::refused)?);
        }
        if !proofs.answers.is_empty() && self.folder.is_some_and(Folder::has_followers) {
            tokio::time::sleep(FOLLOWERS_LOOK).await;
        }
        // They are known by now: nothing is asked for a second time.
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| self.failed(&error))?;
            if authorization.status == AuthorizationStatus::Pending
                && let Some(mut challenge) = authorization.challenge(challenge_type.clone())
            {
                challenge.set_ready().await.map_err(|error| self.failed(&error))?;
            }
        }
        Ok(proofs)
    }

    /// Returns the name that an authorization wants proven. Fails if it was not ordered: nothing else is proven to anyone.
    fn proven(&self, wanted: &AuthorizedIdentifier<'_>) -> Result<Identifier, OrderFailure> {
        let is_ordered = |name: String| self.wanted.identifiers.iter().any(|it| it.to_string() == name);
        let identifier = match &wanted.identifier {
            instant_acme::Identifier::Dns(name) => Some(Identifier::Dns(name.to_ascii_lowercase())),
            instant_acme::Identifier::Ip(address) => Some(Identifier::Ip(*address)),
            _ => None,
        };
        // A wildcard is proven by the name below which it is, and not every issuer marks it.
        let found =
            identifier.filter(|found| is_ordered(found.to_string()) || is_ordered(format!("*.{found}")));
        found.ok_or_else(|| {
            OrderFailure::refused(format!("it asks for a proof of {wanted}, which was not ordered"))
        })
    }

    /// Returns why the issuer did not accept a proof.
    async fn unproven(&self, order: &mut Order, status: Result<OrderStatus, Error>) -> OrderFailure {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let Ok(state) = authorization.refresh().await else { break };
            let fault = state.challenges.iter().find_map(|challenge| challenge.error.clone());
            if let Some(fault) = fault {
                let name = authorization.identifier().to_string();
                return OrderFailure::refused(format!(
                    "the challenge for {name} failed: it says \"{fault}\""
                ));
            }
        }
        match status {
            Err(error) => self.failed(&error),
            Ok(status) => OrderFailure::refused(format!("the order is {status:?}")),
        }
    }

    fn signing_request(&self, key: &KeyPair) -> Result<Vec<u8>, OrderFailure> {
        let failed = |error: rcgen::Error| OrderFailure::refused(format!("no request can be made: {error}"));
        let names: Vec<String> = self.wanted.identifiers.iter().map(Identifier::to_string).collect();
        let first = self.wanted.identifiers.iter().find(|it| matches!(it, Identifier::Dns(_)));
        let first = first.or(self.wanted.identifiers.first()).map(Identifier::to_string);
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        if let (true, Some(first)) = (self.issuer.common_name, first) {
            params.distinguished_name.push(DnType::CommonName, first);
        }
        Ok(params.serialize_request(key).map_err(failed)?.der().to_vec())
    }
}

fn to_acme(identifier: &Identifier) -> instant_acme::Identifier {
    match identifier {
        Identifier::Dns(name) => instant_acme::Identifier::Dns(name.clone()),
        Identifier::Ip(address) => instant_acme::Identifier::Ip(*address),
    }
}

fn generate(kind: KeyKind) -> Result<KeyPair, rcgen::Error> {
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
    match kind {
        KeyKind::Ecdsa256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyKind::Ecdsa384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyKind::Ecdsa521 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
        KeyKind::Rsa2048 => rsa(RsaKeySize::_2048),
        KeyKind::Rsa3072 => rsa(RsaKeySize::_3072),
        KeyKind::Rsa4096 => rsa(RsaKeySize::_4096),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_key_can_be_made_and_read_again() {
        for (name, kind) in KeyKind::ALL {
            // Larger ones take too long.
            if matches!(kind, KeyKind::Rsa3072 | KeyKind::Rsa4096) {
                continue;
            }
            let key = generate(kind).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(
                KeyPair::from_pem(&key.serialize_pem()).unwrap().serialize_der(),
                key.serialize_der(),
                "{name}"
            );
        }
    }
}
