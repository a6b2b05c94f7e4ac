//! Revocations (RFC 8555, section 7.6): which certificates there are, by the names that people know, and orders to revoke one.
//!
//! Plain data: [`crate::OnDemandOrders`] has the list and the queue, and `revoke` carries an order out.

use std::sync::Arc;

/// A certificate that an issuer of this process has issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// Its name: its file, without the ending.
    pub name: String,
    /// The name of its issuer.
    pub issuer: Arc<str>,
    /// The names that it is for.
    pub names: Vec<String>,
    /// Until when it is valid, in seconds since the epoch.
    pub until_s: u64,
}

impl IssuedCertificate {
    /// Returns true if people may call it so: by its own name, or by one that it is for.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// Why a certificate is revoked (RFC 5280, section 5.3.1): those reasons that issuers take from who has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RevokeReason {
    /// No reason.
    #[default]
    Unspecified,
    /// Its key is no longer secret.
    KeyCompromise,
    /// The subject's affiliation has changed.
    AffiliationChanged,
    /// Another certificate replaces it.
    Superseded,
    /// It is no longer needed.
    CessationOfOperation,
}

/// Why a certificate was not revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevokeFault {
    /// There is none that is called so; these there are.
    Unknown(Vec<String>),
    /// Several are called so.
    Ambiguous(Vec<String>),
    /// It failed: the text says why.
    Failed(String),
}

/// Takes what became of a revocation. Dropped without an answer, it is not known.
pub type RevokeReply = Box<dyn Fn(Result<IssuedCertificate, RevokeFault>) + Send + Sync>;

/// A revocation that an issuer's task has to carry out.
pub(crate) struct Revocation {
    pub(crate) certificate: IssuedCertificate,
    pub(crate) reason: RevokeReason,
    pub(crate) reply: RevokeReply,
}

impl Revocation {
    /// Answers that another process has the lock of the issuer's folder.
    pub(crate) fn refuse_as_follower(self) {
        let text = "another process orders this issuer's certificates: try again when that has ended";
        (self.reply)(Err(RevokeFault::Failed(text.to_owned())));
    }
}
