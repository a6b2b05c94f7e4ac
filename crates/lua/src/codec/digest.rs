//! The digests of `ngx.*`: MD5, SHA-1, HMAC-SHA-1. CRC-32 is `crc32fast` itself.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;

/// Returns the MD5 digest (RFC 1321).
pub(crate) fn md5(source: &[u8]) -> [u8; 16] {
    Md5::digest(source).into()
}

/// Returns the SHA-1 digest (FIPS 180-4).
pub(crate) fn sha1(source: &[u8]) -> [u8; 20] {
    Sha1::digest(source).into()
}

/// Returns the HMAC-SHA-1 (RFC 2104).
pub(crate) fn hmac_sha1(key: &[u8], source: &[u8]) -> [u8; 20] {
    match Hmac::<Sha1>::new_from_slice(key) {
        Ok(mut mac) => {
            mac.update(source);
            mac.finalize().into_bytes().into()
        }
        // HMAC takes keys of every length; the type allows for ciphers that do not.
        Err(_) => unreachable!("HMAC takes keys of every length"),
    }
}

/// Appends bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for &byte in bytes {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        hex(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn digests_match_their_test_vectors() {
        assert_eq!(shown(&md5(b"hello")), "5d41402abc4b2a76b9719d911017c592");
        assert_eq!(shown(&sha1(b"hello")), "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d");
        // RFC 2202, test case 2.
        assert_eq!(
            shown(&hmac_sha1(b"Jefe", b"what do ya want for nothing?")),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
        );
    }
}
