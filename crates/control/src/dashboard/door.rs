//! What opens the dashboard.
//!
//! Owns the visitor's name and rights. How a secret is checked is the implementation's: [`super::token_door`] for locations,
//! the command line's for `pointsman dashboard`.

use engine::modules::control::Role;
use switch::Code;

/// Who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The name that the history gets.
    pub name: String,
    /// The rights.
    pub role: Role,
    /// The SHA-256 of the secret that opened the door.
    pub credential: [u8; 32],
}

/// Who may come in, and with what.
pub trait Door: Send + Sync {
    /// Returns whom a secret names; `None` for one that opens nothing.
    fn open(&self, secret: &str) -> Option<Visitor>;

    /// Returns the rights that a visitor has now; `None` if its secret opens nothing any more.
    fn role(&self, visitor: &Visitor) -> Option<Role>;

    /// Returns true if requests may name this `Host`.
    fn admits(&self, host: &[u8]) -> bool;

    /// Returns true if a page of this `Origin` is the dashboard's own, where the request named `host`.
    fn is_own_page(&self, origin: &[u8], host: &[u8]) -> bool;

    /// Returns true if the way to the browser is encrypted: then its cookie goes no other way.
    fn is_encrypted(&self) -> bool;

    /// Returns the name of the cookie.
    fn cookie(&self) -> String;

    /// Returns what a visitor does to be allowed to act.
    fn way_to_operate(&self) -> &'static str;

    /// Keeps a refusal for the record.
    fn note_refusal(&self, actor: &str, code: Code, text: &str);
}
