//! Passwords and what a password file says of them (ngx_crypt, crypt(3)).
//!
//! Owns the schemes. It knows no users and no files, and must never compare in a time that tells how much was right.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use md5::{Digest, Md5};
use sha_crypt::password_hash::PasswordVerifier;
use sha_crypt::{PasswordHashRef, ShaCrypt};
use sha1::Sha1;
use subtle::ConstantTimeEq;

/// The result of checking a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// It is the right one.
    Right,
    /// It is not.
    Wrong,
    /// The entry is of a scheme that is not supported: plain crypt(3) (DES), yescrypt, …
    UnknownScheme,
}

/// Checks a password against an entry.
pub(super) fn check(entry: &[u8], password: &[u8]) -> Check {
    let right = if let Some(plain) = entry.strip_prefix(b"{PLAIN}") {
        plain.ct_eq(password).into()
    } else if let Some(encoded) = entry.strip_prefix(b"{SHA}") {
        sha1(encoded, password, b"")
    } else if let Some(encoded) = entry.strip_prefix(b"{SSHA}") {
        salted_sha1(encoded, password)
    } else if entry.starts_with(APR1) {
        md5_crypt(APR1, entry, password)
    } else if entry.starts_with(MD5) {
        md5_crypt(MD5, entry, password)
    } else if entry.starts_with(b"$5$") || entry.starts_with(b"$6$") {
        sha_crypt(entry, password)
    } else if entry.starts_with(b"$2") {
        std::str::from_utf8(entry).is_ok_and(|entry| bcrypt::verify(password, entry).unwrap_or(false))
    } else {
        return Check::UnknownScheme;
    };
    if right { Check::Right } else { Check::Wrong }
}

/// Base64 as ngx_decode_base64 takes it: padded or not, whatever the last bits are.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// `base64(sha1(password salt) salt)` against an entry. Both are compared as text, as nginx does.
fn sha1(encoded: &[u8], password: &[u8], salt: &[u8]) -> bool {
    let mut digest = Sha1::new_with_prefix(password).chain_update(salt).finalize().to_vec();
    digest.extend_from_slice(salt);
    BASE64.encode(digest).as_bytes().ct_eq(encoded).into()
}

fn salted_sha1(encoded: &[u8], password: &[u8]) -> bool {
    let decoded = BASE64.decode(encoded).unwrap_or_default();
    sha1(encoded, password, decoded.get(SHA1_BYTES..).unwrap_or_default())
}

const SHA1_BYTES: usize = 20;
const APR1: &[u8] = b"$apr1$";
const MD5: &[u8] = b"$1$";

/// Checks a password by the MD5 scheme of FreeBSD's crypt(3), which Apache has under a name of its own.
fn md5_crypt(magic: &[u8], entry: &[u8], password: &[u8]) -> bool {
    let rest = &entry[magic.len()..];
    let salt = rest.split(|byte| *byte == b'$').next().unwrap_or_default();
    let salt = &salt[..salt.len().min(8)];
    let mut computed = Vec::with_capacity(magic.len() + salt.len() + 23);
    computed.extend_from_slice(magic);
    computed.extend_from_slice(salt);
    computed.push(b'$');
    append_md5_letters(&md5_rounds(magic, salt, password), &mut computed);
    computed.as_slice().ct_eq(entry).into()
}

fn md5_rounds(magic: &[u8], salt: &[u8], password: &[u8]) -> [u8; 16] {
    let inner: [u8; 16] =
        Md5::new_with_prefix(password).chain_update(salt).chain_update(password).finalize().into();
    let mut outer = Md5::new_with_prefix(password).chain_update(magic).chain_update(salt);
    let mut left = password.len();
    while left > 0 {
        outer.update(&inner[..left.min(16)]);
        left = left.saturating_sub(16);
    }
    let mut bits = password.len();
    while bits > 0 {
        // A byte of zero, or the password's first: the scheme's own old slip, part of it now.
        outer.update(if bits & 1 == 1 { &[0][..] } else { &password[..1] });
        bits >>= 1;
    }
    let mut digest: [u8; 16] = outer.finalize().into();
    for round in 0..1000 {
        let (first, last) = if round % 2 == 1 { (password, &digest[..]) } else { (&digest[..], password) };
        let mut md5 = Md5::new_with_prefix(first);
        if round % 3 != 0 {
            md5.update(salt);
        }
        if round % 7 != 0 {
            md5.update(password);
        }
        digest = md5.chain_update(last).finalize().into();
    }
    digest
}

/// The digest in crypt(3)'s letters, in the scheme's order of bytes.
fn append_md5_letters(digest: &[u8; 16], out: &mut Vec<u8>) {
    const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut letters = |bytes: [u8; 3], count: usize| {
        let mut bits = bytes.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        for _ in 0..count {
            out.push(LETTERS[(bits & 63) as usize]);
            bits >>= 6;
        }
    };
    for [a, b, c] in [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] {
        letters([digest[a], digest[b], digest[c]], 4);
    }
    letters([0, 0, digest[11]], 2);
}

/// SHA-256 and SHA-512 crypt.
fn sha_crypt(entry: &[u8], password: &[u8]) -> bool {
    let hash = std::str::from_utf8(entry).ok().and_then(|entry| PasswordHashRef::new(entry).ok());
    hash.is_some_and(|hash| ShaCrypt::default().verify_password(password, hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries made by crypt(3), OpenSSL and Apache's htpasswd for the password `password`.
    const ENTRIES: &[&str] = &[
        "{PLAIN}password",
        "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "{SSHA}yI6cZwQadOA1e+/f+T+H3eCQQhRzYWx0",
        "$apr1$salt$Xxd1irWT9ycqoYxGFn4cb.",
        "$apr1$saltsalt$yAAkm4libquA.ZWLHbSBq/",
        "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/",
        "$1$$I2o9Z7NcvQAKp7wyCTlia0",
        "$5$saltsalt$gOjOtoMpVhru2uyjeJSEc/JaLQWOXMNmlOnj6T4AtC.",
        "$6$saltstring$adDbXsJjcDlq2662QPgd.tkSOVmnG9Tt3oXl4HR60SusC3AGjirnDenVZp3DGwLwqy6iYKCzannhaX9DR72nN1",
        "$6$rounds=2000$abc$5mHBfr8W2PnxRneiVZAt5a8FBXeRZi49oZDKgGHDKDPKcrkxjVG0YGb4HlUe8mr64MznIA8tI7hJzAQNkrGGo.",
        "$2y$05$abcdefghijklmnopqrstuuWG29KuyeAicPCJODk1zjyGvyQUU2awu",
    ];

    #[test]
    fn every_scheme_accepts_the_right_password_only() {
        for entry in ENTRIES {
            assert_eq!(check(entry.as_bytes(), b"password"), Check::Right, "{entry}");
            for wrong in [&b""[..], b"passwore", b"passwor", b"password1", b"\0", &[0xff; 80]] {
                assert_eq!(check(entry.as_bytes(), wrong), Check::Wrong, "{entry} {wrong:?}");
            }
        }
    }

    #[test]
    fn a_broken_entry_matches_no_password() {
        for entry in [
            "$apr1$",
            "$1$",
            "$1",
            "$5$",
            "$6$a",
            "$6$rounds=1$a$b",
            "$2y$",
            "{SHA}",
            "{SHA}Zm9vCg==",
            "{SHA}_____Mm5Pz8GgiULbPgzG37mj9g=",
            "{SSHA}",
            "{SSHA}Zm9vCg==",
            "{SSHA}_____wQadOA1e+/f+T+H3eCQQhRzYWx0",
        ] {
            for password in [&b""[..], b"1", b"password"] {
                assert_ne!(check(entry.as_bytes(), password), Check::Right, "{entry}");
            }
        }
        for entry in ENTRIES.iter().filter(|entry| !entry.starts_with("{PLAIN}")) {
            let cut = &entry.as_bytes()[..entry.len() - 1];
            assert_eq!(check(cut, b"password"), Check::Wrong, "{entry}");
        }
    }

    #[test]
    fn unknown_schemes_are_recognised() {
        for entry in ["sa3tHJ3/KuYvI", "$y$j9T$abc$def", "", "{MD5}x"] {
            assert_eq!(check(entry.as_bytes(), b"password"), Check::UnknownScheme, "{entry}");
        }
    }
}
