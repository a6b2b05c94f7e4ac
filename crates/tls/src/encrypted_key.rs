//! Encrypted private keys: PKCS #8 (PBES2 with AES), and the older form with header lines (`Proc-Type: 4,ENCRYPTED`).
//!
//! Must never keep a decrypted key beyond the value that it returns.

use crate::der::{Der, INTEGER, OCTETS, OID, SEQUENCE};
use crate::pem::Section;
use aws_lc_rs::cipher::{AES_128, AES_192, AES_256, Algorithm, DecryptionContext};
use aws_lc_rs::cipher::{PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use md5::{Digest, Md5};
use std::num::NonZeroU32;
use zeroize::Zeroizing;

/// Why a key cannot be decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DecryptFault {
    /// None of the passwords is the right one.
    WrongPassword,
    /// It is encrypted in a way that is not supported.
    Unsupported(&'static str),
}

/// Returns true if a section is encrypted.
pub(crate) fn is_encrypted(section: &Section) -> bool {
    section.label == "ENCRYPTED PRIVATE KEY" || section.headers.iter().any(|line| line.contains("ENCRYPTED"))
}

/// Decrypts a section with the first password that fits; a key begins with a DER sequence.
pub(crate) fn decrypt(section: &Section, passwords: &[&[u8]]) -> Result<Zeroizing<Vec<u8>>, DecryptFault> {
    let sealed = match section.label.as_str() {
        "ENCRYPTED PRIVATE KEY" => Sealed::pkcs8(&section.der)?,
        _ => Sealed::with_headers(section)?,
    };
    for password in passwords {
        if let Some(key) = sealed.open(password) {
            return Ok(key);
        }
    }
    Err(DecryptFault::WrongPassword)
}

/// The way from a password to a key.
enum Derivation<'a> {
    Pbkdf2 {
        algorithm: pbkdf2::Algorithm,
        salt: &'a [u8],
        rounds: NonZeroU32,
    },
    /// OpenSSL's own, with MD5 (EVP_BytesToKey).
    Md5 {
        salt: [u8; 8],
    },
}

/// An encrypted key.
struct Sealed<'a> {
    derivation: Derivation<'a>,
    cipher: &'static Algorithm,
    key_len: usize,
    iv: [u8; 16],
    data: &'a [u8],
}

const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
const HMAC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2];
const AES_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1];

/// The most rounds of a derivation: some seconds of work.
const MAX_ROUNDS: u32 = 10_000_000;

impl<'a> Sealed<'a> {
    fn pkcs8(der: &'a [u8]) -> Result<Sealed<'a>, DecryptFault> {
        Sealed::read_pkcs8(der).unwrap_or(Err(DecryptFault::Unsupported(
            "it is broken, or encrypted in a way that is not supported",
        )))
    }

    /// `None` is a structure that is not the expected one.
    fn read_pkcs8(der: &'a [u8]) -> Option<Result<Sealed<'a>, DecryptFault>> {
        let mut outer = Der(der).tagged(SEQUENCE)?;
        let mut scheme = outer.tagged(SEQUENCE)?;
        let data = outer.tagged(OCTETS)?.0;
        if scheme.tagged(OID)?.0 != PBES2 {
            return Some(Err(DecryptFault::Unsupported("its scheme is not PBES2")));
        }
        let mut parameters = scheme.tagged(SEQUENCE)?;
        let (mut derivation, mut cipher) = (parameters.tagged(SEQUENCE)?, parameters.tagged(SEQUENCE)?);
        if derivation.tagged(OID)?.0 != PBKDF2 {
            return Some(Err(DecryptFault::Unsupported("its key derivation is not PBKDF2")));
        }
        let mut inner = derivation.tagged(SEQUENCE)?;
        let salt = inner.tagged(OCTETS)?.0;
        let digits = inner.tagged(INTEGER)?.0;
        let rounds = digits
            .iter()
            .try_fold(0u32, |sum, digit| sum.checked_mul(256)?.checked_add(u32::from(*digit)))?;
        let rounds = NonZeroU32::new(rounds).filter(|rounds| rounds.get() <= MAX_ROUNDS)?;
        let _key_len = inner.tagged(INTEGER);
        let algorithm = match inner.tagged(SEQUENCE) {
            None => pbkdf2::PBKDF2_HMAC_SHA1,
            Some(mut prf) => match prf.tagged(OID)?.0.strip_prefix(HMAC)? {
                [7] => pbkdf2::PBKDF2_HMAC_SHA1,
                [9] => pbkdf2::PBKDF2_HMAC_SHA256,
                [10] => pbkdf2::PBKDF2_HMAC_SHA384,
                [11] => pbkdf2::PBKDF2_HMAC_SHA512,
                _ => {
                    return Some(Err(DecryptFault::Unsupported(
                        "its hash is not SHA-1, SHA-256, -384 or -512",
                    )));
                }
            },
        };
        let (cipher, key_len) = match (cipher.tagged(OID)?.0.strip_prefix(AES_CBC), &mut cipher) {
            (Some([2]), _) => (&AES_128, 16),
            (Some([22]), _) => (&AES_192, 24),
            (Some([42]), _) => (&AES_256, 32),
            _ => return Some(Err(DecryptFault::Unsupported("its cipher is not AES-CBC"))),
        };
        let mut parameters = Der(der).tagged(SEQUENCE)?.tagged(SEQUENCE)?;
        let _ = parameters.tagged(OID)?;
        let mut parameters = parameters.tagged(SEQUENCE)?;
        let _ = parameters.tagged(SEQUENCE)?;
        let mut encryption = parameters.tagged(SEQUENCE)?;
        let _ = encryption.tagged(OID)?;
        let iv = encryption.tagged(OCTETS)?.0.try_into().ok()?;
        let derivation = Derivation::Pbkdf2 { algorithm, salt, rounds };
        Some(Ok(Sealed { derivation, cipher, key_len, iv, data }))
    }

    fn with_headers(section: &'a Section) -> Result<Sealed<'a>, DecryptFault> {
        let info = section.headers.iter().find_map(|line| line.strip_prefix("DEK-Info:"));
        let (name, iv) = info.and_then(|info| info.trim().split_once(',')).unwrap_or_default();
        let (cipher, key_len) = match name {
            "AES-128-CBC" => (&AES_128, 16),
            "AES-192-CBC" => (&AES_192, 24),
            "AES-256-CBC" => (&AES_256, 32),
            _ => return Err(DecryptFault::Unsupported("its cipher is not AES-CBC")),
        };
        let iv = from_hex(iv).ok_or(DecryptFault::Unsupported("its header lines are broken"))?;
        let mut salt = [0; 8];
        salt.copy_from_slice(&iv[..8]);
        Ok(Sealed { derivation: Derivation::Md5 { salt }, cipher, key_len, iv, data: &section.der })
    }

    fn open(&self, password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut key = Zeroizing::new(vec![0; self.key_len]);
        match &self.derivation {
            Derivation::Pbkdf2 { algorithm, salt, rounds } => {
                pbkdf2::derive(*algorithm, *rounds, salt, password, &mut key);
            }
            Derivation::Md5 { salt } => {
                let mut block = Vec::new();
                let mut made = Zeroizing::new(Vec::new());
                while made.len() < self.key_len {
                    let digest = Md5::new().chain_update(&block).chain_update(password).chain_update(salt);
                    block = digest.finalize().to_vec();
                    made.extend_from_slice(&block);
                }
                key.copy_from_slice(&made[..self.key_len]);
            }
        }
        let key = UnboundCipherKey::new(self.cipher, &key).ok()?;
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?;
        let mut data = Zeroizing::new(self.data.to_vec());
        let context = DecryptionContext::Iv128(FixedLength::from(self.iv));
        let plain = key.decrypt(&mut data, context).ok()?;
        // Padding fits by chance once in 256 times.
        let mut whole = Der(plain);
        let is_key = whole.tagged(SEQUENCE).is_some() && whole.0.is_empty();
        is_key.then(|| Zeroizing::new(plain.to_vec()))
    }
}

fn from_hex(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    (digits.len() == 32).then(|| bytes.try_into().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pem;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = Command::new("openssl");
        let mut child = command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap().stdout
    }

    #[test]
    fn keys_that_openssl_has_encrypted_are_decrypted() {
        let key = openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout"], b"");
        let plain = openssl(&["pkcs8", "-topk8", "-nocrypt"], &key);
        let plain = pem::sections(&plain).remove(0).der;
        let variants: [&[&str]; 5] = [
            &["-v2", "aes-256-cbc"],
            &["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"],
            &["-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA512"],
            &["-v2", "aes256", "-iter", "1"],
            &["-v2", "aes256", "-v2prf", "hmacWithSHA384"],
        ];
        for variant in variants {
            let sealed = openssl(&[&["pkcs8", "-topk8", "-passout", "pass:right"], variant].concat(), &key);
            let section = pem::sections(&sealed).remove(0);
            assert!(is_encrypted(&section));
            assert_eq!(decrypt(&section, &[b"wrong", b"right"]).unwrap(), plain, "{variant:?}");
            assert_eq!(decrypt(&section, &[b"wrong"]).unwrap_err(), DecryptFault::WrongPassword);
        }
        let plain = pem::sections(&key).remove(0).der;
        for cipher in ["-aes128", "-aes192", "-aes256"] {
            let sealed = openssl(&["ec", cipher, "-passout", "pass:right"], &key);
            let section = pem::sections(&sealed).remove(0);
            assert!(is_encrypted(&section));
            assert_eq!(decrypt(&section, &[b"wrong", b"right"]).unwrap(), plain, "{cipher}");
        }
        let sealed = openssl(&["ec", "-des3", "-passout", "pass:right"], &key);
        let fault = decrypt(&pem::sections(&sealed).remove(0), &[b"right"]);
        assert!(matches!(fault, Err(DecryptFault::Unsupported(_))));
    }
}
