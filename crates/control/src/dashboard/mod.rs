//! The dashboard: one page for people, with the API behind it.
//!
//! Owns the page's files, who is logged in, and what a browser must prove before an act is taken. It is served in locations
//! with `control_ui`, where a token of `control_tokens` opens it, and by `pointsman dashboard`, where a one-time secret does.
//! Must never decide about an order: what the page asks goes to the API as everyone's calls do.
//!
//! A request passes [`front`] (Host, session, Origin, CSRF token) and is answered from [`assets`], by a login
//! ([`sessions`], [`attempts`], [`door`]), or by the API.

mod assets;
mod attempts;
mod door;
mod front;
mod proof;
mod sessions;
#[cfg(test)]
mod tests;
mod token_door;

pub use door::{Door, Visitor};
pub use front::answer;
pub use sessions::Logins;
pub(crate) use token_door::TokenDoor;
