//! `dns_update`: the name server that takes the records of dns-01, and the key that both sides know.

use crate::config::{Builder, invalid_parameter};
use crate::modules::ssl::read_file;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use conf::{Diagnostic, Word};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The digest with which updates are signed (RFC 8945, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// `hmac-sha256`
    Sha256,
    /// `hmac-sha384`
    Sha384,
    /// `hmac-sha512`
    Sha512,
}

/// The secret of a key. It is cleared when the last configuration that has it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct TsigSecret(Arc<Zeroizing<Vec<u8>>>);

impl TsigSecret {
    /// Takes over the bytes of a secret.
    pub fn new(bytes: Vec<u8>) -> TsigSecret {
        TsigSecret(Arc::new(Zeroizing::new(bytes)))
    }

    /// Returns its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for TsigSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TsigSecret").finish_non_exhaustive()
    }
}

/// A name server that takes updates of a zone (RFC 2136).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsUpdate {
    /// Its address.
    pub server: SocketAddr,
    /// `zone=`: without it, the server is asked which zone a name is in.
    pub zone: Option<String>,
    /// The name of the key.
    pub key_name: String,
    /// How it signs.
    pub algorithm: TsigAlgorithm,
    /// Its secret.
    pub secret: TsigSecret,
    /// `wait=`: how long it takes other name servers of the zone to have a record, in ms.
    pub wait_ms: u64,
}

/// Reads `dns_update`.
pub(super) fn read(b: &Builder<'_>, d: &conf::Directive) -> Result<DnsUpdate, Diagnostic> {
    let address = &d.args[0];
    let text = address.str()?;
    let server = text.parse::<SocketAddr>().or_else(|_| {
        text.trim_matches(['[', ']']).parse::<IpAddr>().map(|address| SocketAddr::new(address, 53))
    });
    let server = server.map_err(|_| {
        Diagnostic::error(address.span, format!("invalid address \"{text}\" of a name server"))
            .help("an IP address, with a port if that is not 53: 192.0.2.53 or [2001:db8::53]:5353")
    })?;
    let (mut zone, mut key, mut wait_ms) = (None, None, 0);
    for word in &d.args[1..] {
        let invalid = || invalid_parameter(word).help("key=FILE, zone=NAME or wait=TIME");
        match word.str()?.split_once('=') {
            Some(("zone", name)) if !name.is_empty() && zone.is_none() => zone = Some(name.to_owned()),
            Some(("wait", time)) => {
                wait_ms = conf::value::parse_time_ms(time.as_bytes()).ok_or_else(invalid)?;
            }
            Some(("key", path)) if !path.is_empty() && key.is_none() => key = Some(read_key(b, word, path)?),
            _ => return Err(invalid()),
        }
    }
    let Some((key_name, algorithm, secret)) = key else {
        return Err(Diagnostic::error(
            d.name.span,
            "\"dns_update\" has no key: anyone could update such a zone",
        )
        .help("make one with `tsig-keygen acme > acme.key`, and name the file: key=acme.key"));
    };
    Ok(DnsUpdate { server, zone, key_name, algorithm, secret, wait_ms })
}

type Key = (String, TsigAlgorithm, TsigSecret);

fn read_key(b: &Builder<'_>, word: &Word, path: &str) -> Result<Key, Diagnostic> {
    let file = read_file(b, &Word { value: path.into(), ..word.clone() }, "TSIG key")?;
    parse_key(file.bytes()).map_err(|why| {
        Diagnostic::error(word.span, format!("the TSIG key \"{}\" cannot be used: {why}", file.name)).help(
            "use the format that `tsig-keygen` prints: key \"acme\" { algorithm hmac-sha256; secret \"…\"; };",
        )
    })
}

/// Reads a key as BIND's configuration has it.
fn parse_key(bytes: &[u8]) -> Result<Key, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    let lines = text.lines().map(|line| line.split(['#']).next().unwrap_or_default());
    let lines = lines.map(|line| line.split("//").next().unwrap_or_default());
    let mut words = Vec::new();
    for line in lines {
        let parts = line.split(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | ';' | '"'));
        words.extend(parts.filter(|part| !part.is_empty()));
    }
    let after = |what: &str| {
        let at = words.iter().position(|word| *word == what);
        at.and_then(|at| words.get(at + 1)).copied().ok_or_else(|| format!("there is no {what} in it"))
    };
    let name = after("key")?.to_owned();
    let algorithm = match after("algorithm")?.to_ascii_lowercase().trim_end_matches('.') {
        "hmac-sha256" => TsigAlgorithm::Sha256,
        "hmac-sha384" => TsigAlgorithm::Sha384,
        "hmac-sha512" => TsigAlgorithm::Sha512,
        other => {
            return Err(format!("its algorithm {other} is none of hmac-sha256, hmac-sha384 and hmac-sha512"));
        }
    };
    // What stands behind "//" may be a part of it.
    let secret = text
        .split_once("secret")
        .and_then(|(_, rest)| rest.split(['"', ';']).find(|part| !part.trim().is_empty()));
    let secret = secret.map(str::trim).ok_or("there is no secret in it")?;
    let secret = STANDARD.decode(secret).map_err(|_| "its secret is not base64".to_owned())?;
    if secret.is_empty() {
        return Err("its secret is empty".to_owned());
    }
    Ok((name, algorithm, TsigSecret::new(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_read_as_tsig_keygen_writes_it() {
        let text =
            "# made\nkey \"acme.example\" {\n\talgorithm hmac-sha512;\n\tsecret \"c2VjcmV0//==\";\n};\n";
        assert!(parse_key(text.as_bytes()).unwrap_err().contains("not base64"));
        let text = text.replace("c2VjcmV0//==", "Ly//c2VjcmV0");
        let (name, algorithm, secret) = parse_key(text.as_bytes()).unwrap();
        assert_eq!((&*name, algorithm), ("acme.example", TsigAlgorithm::Sha512));
        assert_eq!(secret.bytes(), b"//\xffsecret");
        let one_line = "key acme { algorithm HMAC-SHA256; secret c2VjcmV0; };";
        assert_eq!(parse_key(one_line.as_bytes()).unwrap().2.bytes(), b"secret");
        for (text, why) in [
            ("", "no key"),
            ("key a { secret \"c2VjcmV0\"; };", "no algorithm"),
            ("key a { algorithm hmac-sha256; };", "no secret"),
            ("key a { algorithm hmac-md5; secret \"c2VjcmV0\"; };", "algorithm hmac-md5 is none"),
        ] {
            assert!(parse_key(text.as_bytes()).unwrap_err().contains(why), "{text}");
        }
        assert!(!format!("{secret:?}").contains("secret\""));
    }
}
