//! The door of a location with `control_ui`: tokens of `control_tokens` open it.
//!
//! Owns the names under which its cookie goes. Must never keep a token: the configuration in force says what opens.

use super::door::{Door, Visitor};
use crate::service::ControlHandle;
use engine::modules::control::Role;
use sha2::{Digest, Sha256};
use switch::Code;

/// The door of a request.
pub(crate) struct TokenDoor {
    control: ControlHandle,
    over_tls: bool,
}

impl TokenDoor {
    pub(crate) fn new(control: ControlHandle, over_tls: bool) -> TokenDoor {
        TokenDoor { control, over_tls }
    }
}

impl Door for TokenDoor {
    fn open(&self, secret: &str) -> Option<Visitor> {
        let credential: [u8; 32] = Sha256::digest(secret).into();
        let config = self.control.config();
        let token = config.control.tokens.get().find(&credential)?;
        Some(Visitor { name: token.name.to_string(), role: token.role, credential })
    }

    fn role(&self, visitor: &Visitor) -> Option<Role> {
        let config = self.control.config();
        let token = config.control.tokens.get().find(&visitor.credential)?;
        (*token.name == *visitor.name).then_some(token.role)
    }

    fn admits(&self, _: &[u8]) -> bool {
        // A session belongs to the name that the browser used: a page of another name has none, whatever it resolves to.
        true
    }

    fn is_own_page(&self, origin: &[u8], host: &[u8]) -> bool {
        let authority = match origin.strip_prefix(b"https://") {
            Some(authority) => Some(authority),
            // In front of a plain connection something else may speak TLS; behind an encrypted one nothing is plain.
            None => origin.strip_prefix(b"http://").filter(|_| !self.over_tls),
        };
        authority.is_some_and(|authority| !authority.is_empty() && authority.eq_ignore_ascii_case(host))
    }

    fn is_encrypted(&self) -> bool {
        self.over_tls
    }

    fn cookie(&self) -> String {
        // A name with this prefix is taken from this host over TLS alone (RFC 6265bis, section 4.1.3.2).
        if self.over_tls { "__Host-pointsman" } else { "pointsman" }.to_owned()
    }

    fn way_to_operate(&self) -> &'static str {
        "log in with an operator's token"
    }

    fn note_refusal(&self, actor: &str, code: Code, text: &str) {
        self.control.note_refusal(actor, code, text);
    }
}
