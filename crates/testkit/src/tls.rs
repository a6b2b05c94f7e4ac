//! TLS of cases: certificates that a case makes, and a client's side of a connection.
//!
//! Owns the files `conf/NAME.crt` and `conf/NAME.key`. A client takes any certificate: a case says which one must come.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
};
use rcgen::{IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

/// A certificate that a case asks for.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    /// Its files' name.
    pub(crate) name: String,
    /// Its subject, and the names that it is for.
    pub(crate) names: Vec<String>,
    /// The authority that signs it, if not it itself.
    pub(crate) issuer: Option<String>,
    pub(crate) is_ca: bool,
    pub(crate) rsa: bool,
    /// For how many days it is valid; negative is expired.
    pub(crate) days: i64,
    /// The serial number.
    pub(crate) serial: u64,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Certificate {
    /// Makes it; returns the two files in PEM.
    pub(crate) fn make(&self, conf: &Path) -> Result<(String, String), String> {
        let show = |e: rcgen::Error| e.to_string();
        let algorithm = if self.rsa { &rcgen::PKCS_RSA_SHA256 } else { &rcgen::PKCS_ECDSA_P256_SHA256 };
        let key = KeyPair::generate_for(algorithm).map_err(show)?;
        let params = self.params().map_err(show)?;
        let certificate = match &self.issuer {
            None => params.self_signed(&key).map_err(show)?,
            Some(issuer) => params.signed_by(&key, &read_issuer(conf, issuer)?).map_err(show)?,
        };
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Returns an authority of this name: what it signs depends on nothing else.
    fn authority(name: &str) -> Certificate {
        let (name, names) = (name.to_owned(), Vec::new());
        Certificate { name, names, issuer: None, is_ca: true, rsa: false, days: 100, serial: 1 }
    }

    fn params(&self) -> Result<CertificateParams, rcgen::Error> {
        let names = if self.is_ca { Vec::new() } else { self.names.clone() };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Test");
        let subject = self.names.first().filter(|_| !self.is_ca).unwrap_or(&self.name);
        params.distinguished_name.push(DnType::CommonName, subject.as_str());
        params.serial_number = Some(SerialNumber::from(self.serial));
        let now = SystemTime::now();
        let (from, until) = match u32::try_from(self.days) {
            Ok(days) => (now - DAY, now + DAY * days),
            Err(_) => (now - DAY * 1000, now - DAY),
        };
        (params.not_before, params.not_after) = (from.into(), until.into());
        if self.is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        } else {
            params.is_ca = IsCa::ExplicitNoCa;
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        }
        Ok(params)
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn read_issuer(conf: &Path, name: &str) -> Result<Issuer<'static, KeyPair>, String> {
    let key = KeyPair::from_pem(&read(&conf.join(format!("{name}.key")))?).map_err(|e| e.to_string())?;
    let params = Certificate::authority(name).params().map_err(|e| e.to_string())?;
    Ok(Issuer::new(params, key))
}

/// Makes the revocation list of an authority, in PEM.
pub(crate) fn revocations(conf: &Path, issuer: &str, serials: &[u64]) -> Result<String, String> {
    let now = SystemTime::now();
    let revoked = serials.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: (now - DAY).into(),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: (now - DAY).into(),
        next_update: (now + DAY).into(),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = params.signed_by(&read_issuer(conf, issuer)?).map_err(|e| e.to_string())?;
    list.pem().map_err(|e| e.to_string())
}

/// How a client speaks TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsClient {
    /// The server name that it asks for.
    pub(crate) name: Option<String>,
    /// The name of its certificate.
    pub(crate) certificate: Option<String>,
    /// Only TLS 1.2.
    pub(crate) only_tls12: bool,
    /// Only this cipher suite.
    pub(crate) suite: Option<String>,
    /// It resumes the session of an earlier client that says so.
    pub(crate) resumes: bool,
    /// The protocols that it offers.
    pub(crate) alpn: Option<String>,
}

/// Sessions of the clients of a case, by what their clients offer.
pub(crate) type TlsSessions = BTreeMap<String, Arc<ClientConfig>>;

impl TlsClient {
    /// Returns a connection that has not shaken hands.
    pub(crate) fn open(&self, conf: &Path, sessions: &mut TlsSessions) -> Result<ClientConnection, String> {
        let key = format!("{self:?}");
        let config = match sessions.get(&key) {
            Some(config) if self.resumes => Arc::clone(config),
            _ => Arc::new(self.config(conf)?),
        };
        sessions.insert(key, Arc::clone(&config));
        let name = match &self.name {
            Some(name) => ServerName::try_from(name.clone()).map_err(|e| e.to_string())?,
            // An address is no name to be asked for.
            None => ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into()),
        };
        ClientConnection::new(config, name).map_err(|e| e.to_string())
    }

    fn config(&self, conf: &Path) -> Result<ClientConfig, String> {
        let mut provider = aws_lc_rs::default_provider();
        if let Some(name) = &self.suite {
            provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()) == *name);
        }
        let versions: &[_] = match self.only_tls12 {
            true => &[&rustls::version::TLS12],
            false => &[&rustls::version::TLS13, &rustls::version::TLS12],
        };
        let any = Arc::new(AnyServer(provider.clone()));
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(any);
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let pem = read(&conf.join(format!("{name}.crt")))?;
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
                let key = PrivateKeyDer::from_pem_file(conf.join(format!("{name}.key")));
                builder
                    .with_client_auth_cert(chain.map_err(|e| e.to_string())?, key.map_err(|e| e.to_string())?)
                    .map_err(|e| e.to_string())?
            }
        };
        if self.resumes {
            config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(8)));
        } else {
            config.resumption = Resumption::disabled();
        }
        config.alpn_protocols = self.alpn.iter().flat_map(|list| list.split(',')).map(Into::into).collect();
        Ok(config)
    }
}

/// Takes any certificate.
#[derive(Debug)]
struct AnyServer(CryptoProvider);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A client's TLS between its bytes and the socket's.
pub(crate) struct TlsLayer {
    connection: ClientConnection,
    /// Why it failed.
    pub(crate) fault: Option<rustls::Error>,
    /// The server has said that it ends.
    pub(crate) has_ended: bool,
}

impl TlsLayer {
    pub(crate) fn new(connection: ClientConnection) -> TlsLayer {
        TlsLayer { connection, fault: None, has_ended: false }
    }

    pub(crate) fn is_shaking_hands(&self) -> bool {
        self.fault.is_none() && self.connection.is_handshaking()
    }

    /// Encrypts bytes; returns what is to be sent.
    pub(crate) fn encrypt(&mut self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        self.connection.set_buffer_limit(None);
        self.connection.writer().write_all(bytes)?;
        self.take_output()
    }

    /// Says that nothing more comes; returns what is to be sent.
    pub(crate) fn end(&mut self) -> std::io::Result<Vec<u8>> {
        self.connection.send_close_notify();
        self.take_output()
    }

    /// Returns what is to be sent.
    pub(crate) fn take_output(&mut self) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut out)?;
        }
        Ok(out)
    }

    /// Decrypts bytes that came, and puts what they say behind `plain`.
    pub(crate) fn decrypt(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) {
        while !bytes.is_empty() && self.fault.is_none() {
            if self.connection.read_tls(&mut bytes).is_err() {
                return;
            }
            if let Err(fault) = self.connection.process_new_packets() {
                self.fault = Some(fault);
                return;
            }
            let mut chunk = [0; 16 << 10];
            loop {
                match self.connection.reader().read(&mut chunk) {
                    Ok(0) => {
                        self.has_ended = true;
                        return;
                    }
                    Ok(count) => plain.extend_from_slice(&chunk[..count]),
                    Err(_) => break,
                }
            }
        }
    }

    /// Returns the DER of the server's certificate.
    pub(crate) fn certificate(&self) -> Option<&[u8]> {
        self.connection.peer_certificates()?.first().map(|first| &first[..])
    }
}

/// Returns the DER of a certificate file.
pub(crate) fn der_of(conf: &Path, name: &str) -> Result<Vec<u8>, String> {
    let pem = read(&conf.join(format!("{name}.crt")))?;
    CertificateDer::from_pem_slice(pem.as_bytes()).map(|der| der.to_vec()).map_err(|e| e.to_string())
}
