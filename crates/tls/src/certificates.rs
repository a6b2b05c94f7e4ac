//! A server's certificates: chains and keys that fit, and which of them a client gets.

use crate::der;
use crate::encrypted_key::{self, DecryptFault};
use crate::pem;
use engine::modules::ssl::CertificateExpiry;
use engine::ssl_file::SslFile;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use std::sync::Arc;
use zeroize::Zeroizing;

/// A certificate with its key.
pub(crate) struct Pair {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) expiry: CertificateExpiry,
}

/// The fault of a pair: the text, and whether the key is at fault.
pub(crate) struct PairFault {
    pub(crate) text: String,
    pub(crate) help: &'static str,
    pub(crate) in_key: bool,
}

/// Loads a certificate and its key.
pub(crate) fn load(
    certificate: &SslFile,
    key: &SslFile,
    passwords: Option<&SslFile>,
    provider: &CryptoProvider,
) -> Result<Pair, PairFault> {
    let name = &certificate.name;
    let chain = load_chain(certificate)?;
    let Some(fields) = chain.first().and_then(|first| der::fields(first)) else {
        return Err(broken(name, "it is broken"));
    };
    let expiry = CertificateExpiry { file: Arc::clone(name), until_s: fields.until.epoch_s() };
    let signing_key = load_key(key, passwords, provider)?;
    if signing_key.public_key().is_some_and(|own| *own != *fields.key) {
        return Err(PairFault {
            text: format!("the key \"{}\" does not match the certificate \"{name}\"", key.name),
            help: "name the key that the certificate was made for; with several, in the same order",
            in_key: true,
        });
    }
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    Ok(Pair { key: Arc::new(CertifiedKey { cert: chain, key: signing_key, ocsp: None }), expiry })
}

/// Reads a chain in PEM, which has at least one certificate.
pub(crate) fn load_chain(certificate: &SslFile) -> Result<Vec<Vec<u8>>, PairFault> {
    let chain = pem::certificates(certificate.bytes());
    match chain.is_empty() {
        true => Err(broken(&certificate.name, "there is no certificate in it")),
        false => Ok(chain),
    }
}

fn broken(name: &str, why: &str) -> PairFault {
    PairFault {
        text: format!("cannot load certificate \"{name}\": {why}"),
        help: "give the certificate in PEM, followed by the intermediate certificates",
        in_key: false,
    }
}

/// Makes a pair of a chain and a key in PEM that no file has.
///
/// # Errors
/// Fails if they are broken, or do not belong together.
pub(crate) fn of_texts(chain: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let chain = pem::certificates(chain);
    let Some(fields) = chain.first().and_then(|first| der::fields(first)) else {
        return Err("the certificate is broken".to_owned());
    };
    let key = parse_key(key, None, provider)
        .map_err(|(why, _)| format!("the private key cannot be used: {why}"))?;
    if key.public_key().is_some_and(|own| *own != *fields.key) {
        return Err("the private key does not match the certificate".to_owned());
    }
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    Ok(CertifiedKey { cert: chain, key, ocsp: None })
}

fn load_key(
    file: &SslFile,
    passwords: Option<&SslFile>,
    provider: &CryptoProvider,
) -> Result<Arc<dyn SigningKey>, PairFault> {
    parse_key(file.bytes(), passwords, provider).map_err(|(why, help)| PairFault {
        text: format!("cannot load certificate key \"{}\": {why}", file.name),
        help,
        in_key: true,
    })
}

/// The fault of a key, and its remedy.
pub(crate) type KeyFault = (String, &'static str);

/// Reads the first private key in these bytes; the error is what is wrong, and what to do.
pub(crate) fn parse_key(
    bytes: &[u8],
    passwords: Option<&SslFile>,
    provider: &CryptoProvider,
) -> Result<Arc<dyn SigningKey>, KeyFault> {
    let fault = |why: &str, help: &'static str| (why.to_owned(), help);
    let (label, der) = key_der(bytes, passwords)?;
    let der = match label.as_str() {
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der.to_vec())),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der.to_vec())),
        _ => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.to_vec())),
    };
    provider.key_provider.load_private_key(der).map_err(|_| {
        fault(
            "it is of a kind that is not supported",
            "use an RSA key of 2048 bits or more, ECDSA, or Ed25519",
        )
    })
}

/// Returns the DER of the first private key in these bytes, decrypted, with what PEM calls it; the error is as for [`parse_key`].
pub(crate) fn key_der(
    bytes: &[u8],
    passwords: Option<&SslFile>,
) -> Result<(String, Zeroizing<Vec<u8>>), KeyFault> {
    let fault = |why: &str, help: &'static str| (why.to_owned(), help);
    let is_key = |section: &pem::Section| section.label.ends_with("PRIVATE KEY");
    let Some(section) = pem::sections(bytes).into_iter().find(is_key) else {
        return Err(fault("there is no private key in it", "give the key in PEM"));
    };
    let der = if encrypted_key::is_encrypted(&section) {
        let lines = passwords.map_or(&b""[..], |file| file.bytes()).split(|byte| *byte == b'\n');
        let lines: Vec<&[u8]> = lines
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .filter(|line| !line.is_empty())
            .collect();
        let password_help = "put its password into the file of `ssl_password_file`, on a line of its own";
        if lines.is_empty() {
            return Err(fault("it is encrypted, and there is no password", password_help));
        }
        encrypted_key::decrypt(&section, &lines).map_err(|why| match why {
            DecryptFault::WrongPassword => fault("wrong password", password_help),
            DecryptFault::Unsupported(why) => {
                fault(why, "encrypt it anew: `openssl pkcs8 -topk8 -v2 aes256 -in old.key -out new.key`")
            }
        })?
    } else {
        section.der
    };
    Ok((section.label, der))
}
