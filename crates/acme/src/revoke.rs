//! Carrying revocations out: the issuer is told, and what is revoked is replaced at once, as the configuration, or the next handshake,
//! still wants it.

use crate::client::{OrderFailure, now_s};
use crate::folder::Folder;
use crate::revocation::{IssuedCertificate, Revocation, RevokeFault, RevokeReason};
use crate::service::IssuerTask;
use engine::host::Level;
use instant_acme::{Error, RevocationReason, RevocationRequest};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long an issuer may take to revoke.
const REVOKE: Duration = Duration::from_secs(90);

impl IssuerTask {
    /// Says which certificates there are.
    pub(crate) fn list(&self) {
        let listed = self.certificates.iter().filter_map(|known| {
            Some(IssuedCertificate {
                name: known.name().to_owned(),
                issuer: Arc::clone(&self.issuer.name),
                names: known.wanted.identifiers.iter().map(ToString::to_string).collect(),
                until_s: known.facts.as_ref()?.until_s,
            })
        });
        self.on_demand_orders.revocations().listed.insert(Arc::clone(&self.issuer.name), listed.collect());
    }

    /// Carries a revocation out.
    pub(crate) async fn revoke(&mut self, revocation: Revocation, folder: Option<&Folder>) {
        let Revocation { certificate, reason, reply } = revocation;
        let revoked = match timeout(REVOKE, self.revoke_one(&certificate.name, reason, folder)).await {
            Ok(revoked) => revoked,
            Err(_) => Err("the issuer took too long".to_owned()),
        };
        if let Err(why) = &revoked {
            let names = certificate.names.join(", ");
            self.log(Level::Error, format_args!("the certificate for {names} is not revoked: {why}"));
        }
        reply(revoked.map(|()| certificate).map_err(RevokeFault::Failed));
    }

    async fn revoke_one(
        &mut self,
        name: &str,
        reason: RevokeReason,
        folder: Option<&Folder>,
    ) -> Result<(), String> {
        let gone = || "it was replaced meanwhile".to_owned();
        let at = self.certificates.iter().position(|known| known.name() == name).ok_or_else(gone)?;
        let leaf = CertificateDer::from(self.certificates[at].leaf.clone().ok_or_else(gone)?);
        let (account, client) = self.open_account(folder).await.map_err(|OrderFailure { text, .. }| text)?;
        let request = RevocationRequest { certificate: &leaf, reason: Some(of_acme(reason)) };
        match account.revoke(&request).await {
            Ok(()) => {}
            Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(ALREADY_REVOKED) => {}
            Err(error) => {
                self.account = None;
                return Err(client.failure(&error, now_s()).text);
            }
        }
        // After a restart it must not be found again.
        let known = &mut self.certificates[at];
        if let Some(folder) = folder {
            folder.remove(&known.file);
        }
        known.revoked();
        let (names, id, is_on_demand) = (known.names(), Arc::clone(&known.wanted.id), known.is_on_demand);
        if is_on_demand {
            self.on_demand_orders.revoked(&id);
        }
        self.list();
        self.log(Level::Notice, format_args!("the certificate for {names} is revoked"));
        Ok(())
    }
}

const ALREADY_REVOKED: &str = "urn:ietf:params:acme:error:alreadyRevoked";

fn of_acme(reason: RevokeReason) -> RevocationReason {
    match reason {
        RevokeReason::Unspecified => RevocationReason::Unspecified,
        RevokeReason::KeyCompromise => RevocationReason::KeyCompromise,
        RevokeReason::AffiliationChanged => RevocationReason::AffiliationChanged,
        RevokeReason::Superseded => RevocationReason::Superseded,
        RevokeReason::CessationOfOperation => RevocationReason::CessationOfOperation,
    }
}
