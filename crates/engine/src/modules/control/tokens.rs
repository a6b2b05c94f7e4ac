//! The file of `control_tokens`: names, roles, and what callers prove them with: a token or a certificate.
//!
//! Owns the file's grammar and the search for a caller. It must never see a token itself: callers pass its
//! hash.

use subtle::ConstantTimeEq;

/// The rights that a token gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Viewer,
    /// Look and give commands.
    Operator,
}

impl Role {
    /// Every role, by the word in the file.
    pub const ALL: [(&'static str, Role); 2] = [("viewer", Role::Viewer), ("operator", Role::Operator)];
}

/// The proof of a caller's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A bearer token with this SHA-256.
    Token([u8; 32]),
    /// A verified client certificate with this SHA-256.
    Certificate([u8; 32]),
    /// Any verified client certificate with this subject, as `$ssl_client_s_dn` shows it.
    Subject(Box<str>),
}

/// An accepted caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The name, which becomes the actor of the commands.
    pub name: Box<str>,
    /// The rights that it gives.
    pub role: Role,
    /// Its proof.
    pub credential: Credential,
}

/// All tokens of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens(Box<[Token]>);

/// A fault in a file of tokens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TokenFault {
    /// The line, counted from 1.
    pub(super) line: usize,
    /// The fault.
    pub(super) text: String,
}

impl Tokens {
    /// Reads a file: a caller a line; empty lines and those that begin with `#` are comments.
    pub(super) fn parse(bytes: &[u8]) -> Result<Tokens, TokenFault> {
        let mut tokens: Vec<(usize, Token)> = Vec::new();
        for (index, bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = index + 1;
            let fault = |text: String| TokenFault { line, text };
            let text = std::str::from_utf8(bytes)
                .map_err(|_| fault("a line of tokens is not UTF-8".to_owned()))?
                .trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let token = token(text).map_err(fault)?;
            if let Some((first, _)) = tokens.iter().find(|(_, known)| known.name == token.name) {
                return Err(fault(format!("the name \"{}\" is already used in line {first}", token.name)));
            }
            if let Some((first, _)) = tokens.iter().find(|(_, known)| known.credential == token.credential) {
                let what = match token.credential {
                    Credential::Token(_) => "token",
                    Credential::Certificate(_) => "certificate",
                    Credential::Subject(_) => "subject",
                };
                return Err(fault(format!("the {what} of \"{}\" is that of line {first}", token.name)));
            }
            tokens.push((line, token));
        }
        Ok(Tokens(tokens.into_iter().map(|(_, token)| token).collect()))
    }

    /// Returns whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if someone can log in: with a token, as no page can ask for a certificate.
    pub fn can_log_in(&self) -> bool {
        self.0.iter().any(|token| matches!(token.credential, Credential::Token(_)))
    }

    /// Returns the holder of the token with this SHA-256, in a time that does not depend on the tokens.
    pub fn find(&self, sha256: &[u8; 32]) -> Option<&Token> {
        let mut found = None;
        for token in &self.0 {
            if let Credential::Token(own) = &token.credential
                && bool::from(own.ct_eq(sha256))
            {
                found = Some(token);
            }
        }
        found
    }

    /// Returns the holder of a verified client certificate: by the certificate itself, or else by its subject.
    pub fn find_certificate(&self, sha256: &[u8; 32], subject: &str) -> Option<&Token> {
        let by = |fits: &dyn Fn(&Credential) -> bool| self.0.iter().find(|token| fits(&token.credential));
        by(&|credential| matches!(credential, Credential::Certificate(own) if own == sha256))
            .or_else(|| by(&|credential| matches!(credential, Credential::Subject(own) if **own == *subject)))
    }
}

fn token(text: &str) -> Result<Token, String> {
    let mut parts = text.splitn(3, ':');
    let (Some(name), Some(role), Some(proof)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("a line of tokens is not name:role:sha256".to_owned());
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'@');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_name) {
        return Err(format!("invalid name \"{name}\" of a token"));
    }
    let Some((_, role)) = Role::ALL.iter().find(|(word, _)| *word == role) else {
        return Err(format!("unknown role \"{role}\" of a token, which is viewer or operator"));
    };
    let hash = |digits: &str| {
        sha256(digits.as_bytes())
            .ok_or_else(|| format!("the hash of \"{name}\" is not 64 hexadecimal digits of a SHA-256"))
    };
    let credential = match proof.split_once(':') {
        None => Credential::Token(hash(proof)?),
        // As `openssl x509 -fingerprint -sha256` prints it, too.
        Some(("certificate", digits)) => Credential::Certificate(hash(&digits.replace(':', ""))?),
        Some(("subject", "")) => return Err(format!("the subject of \"{name}\" is empty")),
        Some(("subject", subject)) => Credential::Subject(subject.into()),
        Some(_) => return Err("a line of tokens is not name:role:sha256".to_owned()),
    };
    Ok(Token { name: name.into(), role: *role, credential })
}

fn sha256(digits: &[u8]) -> Option<[u8; 32]> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8)).collect();
    bytes?.try_into().ok()
}
