//! Certificates by themselves: orders them from issuers by ACME (RFC 8555), and renews them.
//!
//! Owns the folder of an issuer's state and its locks, the account, orders and the time of the next one. Must never serve a
//! handshake or a request: what is to be answered, and what was issued, goes to [`Traffic`]; nor show a key to anyone else.
//!
//! Reading order: [`schedule`], which is pure; `folder`; `client`, `account`, `order`; `certificate`, `demands`; [`service`],
//! `on_demand`, `revoke`.

mod account;
mod certificate;
mod client;
mod demands;
mod dns_update;
mod folder;
mod on_demand;
mod order;
mod proof;
mod record;
mod revocation;
mod revoke;
pub mod schedule;
pub mod service;
mod traffic;

pub use demands::{Demands, Held};
pub use revocation::{IssuedCertificate, RevokeFault, RevokeReason, RevokeReply};
pub use service::run;
pub use tokio_rustls::rustls::ClientConfig;
pub use traffic::Traffic;
