//! Certificates that ACME has issued.
//!
//! Owns the fields of the list and of revocations.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// All certificates that ACME has issued and that are in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuedCertificates {
    /// The certificates, by issuer and name.
    pub certificates: Vec<IssuedCertificate>,
}

/// A certificate that ACME has issued.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuedCertificate {
    /// Its name: its file, without the ending.
    pub name: String,
    /// Its issuer, as `acme_issuer` names it.
    pub issuer: String,
    /// The names that it is for.
    pub names: Vec<String>,
    /// Until when it is valid.
    pub until_ms: u64,
}

/// Why a certificate is revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationReason {
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

/// Revokes a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeOrder {
    /// Why.
    #[serde(default)]
    pub reason: RevocationReason,
}
