//! The account at an issuer: found again, or registered.

use crate::client::{IssuerClient, OrderFailure, now_s};
use crate::folder::{ACCOUNT, Folder};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::modules::acme::Issuer;
use engine::ssl_file::SslFile;
use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, Key, NewAccount};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// Returns the account: that of the folder, or of the key that the configuration names, or a new one, which the folder has
/// before anything is ordered.
pub(crate) async fn open(
    issuer: &Issuer,
    folder: Option<&Folder>,
    client: &IssuerClient,
) -> Result<Account, OrderFailure> {
    let failed = |error: &Error| client.failure(error, now_s());
    let builder = Account::builder_with_http(Box::new(client.clone()));
    let directory = issuer.directory.clone();
    if let Some(file) = &issuer.account_key {
        let key = read_key(file)?;
        let found = match issuer.accepts_terms {
            true => builder.create_from_key(key, directory).await,
            false => builder.from_key(key, directory).await,
        };
        let (account, _) = found.map_err(|error| failed(&error))?;
        let contacts: Vec<&str> = issuer.contacts.iter().map(String::as_str).collect();
        if !contacts.is_empty() {
            account.update_contacts(&contacts).await.map_err(|error| failed(&error))?;
        }
        return Ok(account);
    }
    if let Some(folder) = folder
        && let Some(credentials) = kept(issuer, folder)?
    {
        return builder.from_credentials(credentials).await.map_err(|error| failed(&error));
    }
    let external = issuer.external.as_ref().map(|(kid, file)| external_key(kid, file)).transpose()?;
    let contacts: Vec<&str> = issuer.contacts.iter().map(String::as_str).collect();
    let new = NewAccount {
        contact: &contacts,
        terms_of_service_agreed: issuer.accepts_terms,
        only_return_existing: false,
    };
    let (account, credentials) =
        builder.create(&new, directory, external.as_ref()).await.map_err(|error| failed(&error))?;
    if let Some(folder) = folder {
        let text = serde_json::to_vec(&credentials).map(Zeroizing::new);
        let text =
            text.map_err(|error| OrderFailure::refused(format!("the account cannot be kept: {error}")))?;
        folder.write(ACCOUNT, &text).map_err(|error| {
            let path = folder.path(ACCOUNT);
            OrderFailure::refused(format!("\"{}\" cannot be written: {error}", path.display()))
        })?;
    }
    Ok(account)
}

/// Returns the account that the folder has, if it is one of this directory.
fn kept(issuer: &Issuer, folder: &Folder) -> Result<Option<AccountCredentials>, OrderFailure> {
    let path = folder.path(ACCOUNT);
    let unusable = |why: String| {
        OrderFailure::refused(format!(
            "the account in \"{}\" cannot be used: {why}; remove the file to register another one",
            path.display()
        ))
    };
    let Some(text) = folder.read(ACCOUNT).map_err(|error| unusable(error.to_string()))? else {
        return Ok(None);
    };
    let value: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))?;
    if value["directory"] != *issuer.directory {
        return Ok(None);
    }
    serde_json::from_value(value).map(Some).map_err(|error| unusable(error.to_string()))
}

fn read_key(file: &SslFile) -> Result<(Key, PrivateKeyDer<'static>), OrderFailure> {
    let unusable = || {
        let text = format!("the account key \"{}\" is not an ECDSA key with P-256 in PKCS #8", file.name);
        OrderFailure::refused(text)
    };
    let PrivateKeyDer::Pkcs8(der) = PrivateKeyDer::from_pem_slice(file.bytes()).map_err(|_| unusable())?
    else {
        return Err(unusable());
    };
    let key = Key::from_pkcs8_der(der.clone_key()).map_err(|_| unusable())?;
    Ok((key, PrivateKeyDer::Pkcs8(der)))
}

fn external_key(kid: &str, file: &SslFile) -> Result<ExternalAccountKey, OrderFailure> {
    let text = file.bytes().trim_ascii();
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let key = URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new).map_err(|_| {
        OrderFailure::refused(format!("the external account key \"{}\" is not base64url", file.name))
    })?;
    Ok(ExternalAccountKey::new(kid.to_owned(), &key))
}
