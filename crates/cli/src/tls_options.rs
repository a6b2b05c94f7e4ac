//! How an https address of the control API is spoken to, and what may be sent in clear.
//!
//! Owns the options and the files they name.

use crate::endpoint::Endpoint;
use crate::error::{Code, Error};
use clap::Args;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tls::{ClientIdentity, SYSTEM_AUTHORITIES, client_config};
use tokio_rustls::rustls::ClientConfig;

/// The options of `--control https://…`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TlsOptions {
    /// CA certificates (PEM) to verify the certificate of an https:// address with, instead of the system's; by default the
    /// environment variable POINTSMAN_CACERT
    #[arg(long, value_name = "FILE", global = true)]
    cacert: Option<PathBuf>,
    /// Client certificate (PEM) for an https:// address; by default the environment variable POINTSMAN_CERT
    #[arg(long, value_name = "FILE", global = true)]
    cert: Option<PathBuf>,
    /// Private key of the client certificate, if it is in a separate file; by default the environment variable POINTSMAN_KEY
    // Verbs have an argument `key` of another kind.
    #[arg(id = "client_key", long = "key", value_name = "FILE", global = true)]
    key: Option<PathBuf>,
    /// Send the token in clear to an http:// address of another machine
    #[arg(long, global = true)]
    insecure_token: bool,
}

impl TlsOptions {
    /// Fails if the token would leave this machine in clear.
    pub(crate) fn check_token(&self, endpoint: &Endpoint) -> Result<(), Error> {
        if self.insecure_token || !endpoint.is_exposed() {
            return Ok(());
        }
        Err(Error::usage(
            format!("the token would be sent in clear to {endpoint}: anyone on the way could read it"),
            "use an https:// address, or pass --insecure-token",
        ))
    }

    /// Returns what connections to an https address follow.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let given = |option: &Option<PathBuf>, name: &str| {
            let variable = || std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
            option.clone().or_else(|| variable().map(PathBuf::from))
        };
        let authorities = match given(&self.cacert, "POINTSMAN_CACERT") {
            Some(file) => file,
            None => system_authorities()?,
        };
        let cert = given(&self.cert, "POINTSMAN_CERT");
        let key = given(&self.key, "POINTSMAN_KEY");
        if let (None, Some(key)) = (&cert, &key) {
            return Err(Error::usage(
                format!("--key {} belongs to no certificate", key.display()),
                "give the client certificate with --cert",
            ));
        }
        let pem = read(&authorities)?;
        let certificate = cert.as_deref().map(read).transpose()?;
        let key = key.as_deref().or(cert.as_deref()).map(read).transpose()?;
        let identity = certificate.as_deref().zip(key.as_deref());
        let identity = identity.map(|(certificate, key)| ClientIdentity { certificate, key });
        client_config(Some(&pem), identity).map(Arc::new).map_err(|fault| {
            let remedy = match fault.contains("UnsupportedCertVersion") {
                // What openssl x509 -req makes without extensions.
                true => "it is a certificate of X.509 version 1: sign it with extensions (openssl x509 -req -extfile FILE …)".to_owned(),
                false => format!("--cacert is {}; --cert and --key take PEM files", authorities.display()),
            };
            Error::usage(fault, remedy)
        })
    }
}

fn system_authorities() -> Result<PathBuf, Error> {
    let named = std::env::var_os("SSL_CERT_FILE").filter(|value| !value.is_empty()).map(PathBuf::from);
    let usual = || SYSTEM_AUTHORITIES.iter().map(PathBuf::from).find(|path| path.exists());
    named.or_else(usual).ok_or_else(|| {
        Error::usage("this system has no list of trusted authorities", "give the authority with --cacert")
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| {
        let text = format!("cannot read {}: {error}", path.display());
        Error::new(Code::Usage, "usage", text, "name a file in PEM that you may read")
    })
}
