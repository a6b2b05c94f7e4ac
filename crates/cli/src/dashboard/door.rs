//! The door of `pointsman dashboard`: a secret opens it once.
//!
//! Owns the names under which the page may be asked for. Must never open for a second use of the secret.

use control::dashboard::{Door, Visitor};
use engine::modules::control::Role;
use sha2::{Digest, Sha256};
use std::sync::{Mutex, PoisonError};
use subtle::ConstantTimeEq;
use switch::Code;

/// The door.
pub(super) struct SecretDoor {
    /// The SHA-256 of the secret, until it was used.
    secret: Mutex<Option<[u8; 32]>>,
    visitor: Visitor,
    port: u16,
}

impl SecretDoor {
    /// Returns the door of a listener at this port.
    pub(super) fn new(secret: &str, visitor_name: String, role: Role, port: u16) -> SecretDoor {
        let credential: [u8; 32] = Sha256::digest(secret).into();
        let visitor = Visitor { name: visitor_name, role, credential };
        SecretDoor { secret: Mutex::new(Some(credential)), visitor, port }
    }
}

impl Door for SecretDoor {
    fn open(&self, secret: &str) -> Option<Visitor> {
        let sent: [u8; 32] = Sha256::digest(secret).into();
        let mut kept = self.secret.lock().unwrap_or_else(PoisonError::into_inner);
        kept.take_if(|kept| bool::from(kept.ct_eq(&sent))).map(|_| self.visitor.clone())
    }

    fn role(&self, visitor: &Visitor) -> Option<Role> {
        Some(visitor.role)
    }

    fn admits(&self, host: &[u8]) -> bool {
        ["127.0.0.1", "localhost"].iter().any(|name| host == format!("{name}:{}", self.port).as_bytes())
    }

    fn is_own_page(&self, origin: &[u8], host: &[u8]) -> bool {
        origin.strip_prefix(b"http://") == Some(host)
    }

    fn is_encrypted(&self) -> bool {
        false
    }

    fn cookie(&self) -> String {
        // Cookies go to all ports of a host: two dashboards do not take each other's.
        format!("pointsman-{}", self.port)
    }

    fn way_to_operate(&self) -> &'static str {
        "start it with pointsman dashboard --operate"
    }

    fn note_refusal(&self, _: &str, _: Code, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_opens_once_and_names_are_exact() {
        let door = SecretDoor::new("s", "unix:7(ann)".into(), Role::Viewer, 4711);
        assert!(door.open("t").is_none() && door.open("").is_none());
        assert_eq!(door.open("s").unwrap().name, "unix:7(ann)");
        assert!(door.open("s").is_none());
        for (host, is_own) in [
            ("127.0.0.1:4711", true),
            ("localhost:4711", true),
            ("127.0.0.1", false),
            ("127.0.0.1:80", false),
            ("127.1:4711", false),
            ("localhost.:4711", false),
            ("LOCALHOST:4711", false),
            ("[::1]:4711", false),
            ("evil.example:4711", false),
            ("localhost.evil.example:4711", false),
            ("", false),
        ] {
            assert_eq!(door.admits(host.as_bytes()), is_own, "{host}");
        }
        let host = b"localhost:4711";
        assert!(door.is_own_page(b"http://localhost:4711", host));
        for origin in [
            "http://127.0.0.1:4711",
            "https://localhost:4711",
            "http://localhost:80",
            "http://localhost",
            "null",
            "",
        ] {
            assert!(!door.is_own_page(origin.as_bytes(), host), "{origin}");
        }
    }
}
