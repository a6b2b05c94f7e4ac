//! Certificates by themselves: orders them from issuers by ACME (RFC 8555), and renews them.
//!
//! Owns the folder of an issuer's state and its locks, the account, orders and the time of the next one. Must never serve a
//! handshake or a request: what is to be answered, and what was issued, goes to [`AcmeHost`]; nor show a key to anyone else.
//!
//! Reading order: [`schedule`], which is pure; `folder`; `client`, `account`, `order`; `certificate`, `on_demand_orders`; [`service`],
//! `on_demand`, `revoke`.

mod account;
mod certificate;
mod client;
mod dns_update;
mod folder;
mod host;
mod on_demand;
mod on_demand_orders;
mod order;
mod proof;
mod record;
mod revocation;
mod revoke;
pub mod schedule;
pub mod service;

pub use host::AcmeHost;
pub use on_demand_orders::{Held, OnDemandOrders};
pub use revocation::{IssuedCertificate, RevokeFault, RevokeReason, RevokeReply};
pub use service::run;
pub use tokio_rustls::rustls::ClientConfig;
