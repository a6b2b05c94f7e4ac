//! `pointsman certificate`: certificates that ACME has issued, and revocations.
//!
//! Owns the verb's options and the form of the list.

use crate::client::{Call, encoded};
use crate::error::{Code, Error, say, say_json};
use crate::format::{self, Table};
use crate::order_options::{self, ActorOption};
use crate::session::Session;
use clap::{Args, Subcommand, ValueEnum};
use control::api::types::{IssuedCertificate, IssuedCertificates, RevocationReason, RevokeOrder};
use hyper::Method;
use std::time::Duration;

/// Time limit for the answer: longer than the server's own.
const ANSWER: Duration = Duration::from_secs(130);

/// List certificates that ACME has issued (acme_certificate), and revoke one
#[derive(Debug, Args)]
#[command(after_help = "\
The issuer of a revoked certificate is told, and another one with a new key is ordered at once. It is in the journal.

Examples:
  pointsman certificate
  pointsman certificate revoke shop.example.com --reason key-compromise")]
pub(crate) struct CertificateCommand {
    #[command(subcommand)]
    act: Option<Act>,
}

/// The action.
#[derive(Debug, Subcommand)]
enum Act {
    /// Revoke a certificate, and order a new one
    Revoke(Revoke),
    /// Show all certificates (the default)
    List,
}

#[derive(Debug, Args)]
struct Revoke {
    /// Certificate, by its name in the list or a host name that it is valid for
    name: String,
    /// Reason for the revocation
    #[arg(long, value_enum, default_value_t = Reason::Unspecified)]
    reason: Reason,
    #[command(flatten)]
    actor: ActorOption,
}

/// Why a certificate is revoked.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Reason {
    /// No reason
    Unspecified,
    /// Its key is no longer secret
    KeyCompromise,
    /// The subject's affiliation has changed
    AffiliationChanged,
    /// Another certificate replaces it
    Superseded,
    /// It is no longer needed
    CessationOfOperation,
}

impl Reason {
    fn in_order(self) -> RevocationReason {
        match self {
            Reason::Unspecified => RevocationReason::Unspecified,
            Reason::KeyCompromise => RevocationReason::KeyCompromise,
            Reason::AffiliationChanged => RevocationReason::AffiliationChanged,
            Reason::Superseded => RevocationReason::Superseded,
            Reason::CessationOfOperation => RevocationReason::CessationOfOperation,
        }
    }
}

impl CertificateCommand {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        match &self.act {
            None | Some(Act::List) => list(session),
            Some(Act::Revoke(revoke)) => revoke.run(session),
        }
    }
}

impl Revoke {
    fn run(&self, session: &Session) -> Result<Code, Error> {
        let order = RevokeOrder { reason: self.reason.in_order() };
        let path = format!("/v1/certificates/{}/revoke", encoded(&self.name));
        let mut call: Call = order_options::order_call(Method::POST, path, &order, &self.actor);
        call.limit = ANSWER;
        let (revoked, body) = session.client.ask::<IssuedCertificate>(&call)?;
        match session.json {
            true => say_json(&body)?,
            false => {
                let IssuedCertificate { name, issuer, names, .. } = revoked;
                say(&format!("{name}: revoked by {issuer}, for {}\n", names.join(", ")))?;
            }
        }
        Ok(Code::Done)
    }
}

fn list(session: &Session) -> Result<Code, Error> {
    let (found, body) = session.client.ask::<IssuedCertificates>(&Call::get("/v1/certificates"))?;
    match session.json {
        true => say_json(&body)?,
        false => say(&text(&found.certificates))?,
    }
    Ok(Code::Done)
}

/// Returns the certificates for people.
fn text(certificates: &[IssuedCertificate]) -> String {
    if certificates.is_empty() {
        return "no certificates: acme_certificate orders them\n".to_owned();
    }
    let mut table = Table::new(&["certificate", "issuer", "for", "until"]);
    for known in certificates {
        table.row([
            known.name.clone(),
            known.issuer.clone(),
            known.names.join(", "),
            format::moment(known.until_ms),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_shown_with_their_names() {
        let known = IssuedCertificate {
            name: "a.example-01".into(),
            issuer: "one".into(),
            names: vec!["a.example".into(), "b.example".into()],
            until_ms: 784_111_777_000,
        };
        let text = text(&[known]);
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[..4], ["a.example-01", "one", "a.example,", "b.example"]);
        assert!(row[4].starts_with("1994-11-0"), "{}", row[4]);
        assert!(super::text(&[]).contains("acme_certificate"));
    }
}
