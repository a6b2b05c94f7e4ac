//! The meaning of the directives of TLS: certificates, keys, cipher suites, sessions and clients' certificates.
//!
//! Owns the way from the engine's settings to rustls configurations ([`Contexts`]), and what requests learn of a handshake; TLS to upstreams is [`upstreams`],
//! that of scripts' sockets `scripts`, and that of the program's own calls `outbound`.
//! Must never read a file, open a socket or write to a log: bytes come with the settings, and faults are diagnostics.
//!
//! Reading order: [`contexts`], `certificates`, `late`, `tailored`, `suites`, `ciphers`, `sessions`, `clients`, `authorities`, `issued`, `stapling`, `ocsp`; [`upstreams`], `scripts`.

mod authorities;
mod certificates;
mod ciphers;
mod clients;
pub mod contexts;
mod der;
mod encrypted_key;
mod fault_text;
mod groups;
mod handshake;
mod hello;
mod issued;
mod late;
mod names;
mod ocsp;
mod outbound;
mod pem;
mod resolver;
mod script_parts;
mod scripts;
mod sessions;
mod slot;
mod stapling;
mod suites;
mod tailored;
#[cfg(test)]
mod testing;
pub mod upstreams;

pub use contexts::{Context, Contexts};
pub use fault_text::{HandshakePeer, fault_text};
pub use handshake::{Offer, identify_session};
pub use hello::hello_facts;
pub use issued::{ACME_TLS, Issued};
pub use late::{FileStamp, HandshakeFiles, name_of as name_of_pair};
pub use outbound::{ClientIdentity, SYSTEM_AUTHORITIES, client_config};
pub use script_parts::{chain_to_der, key_to_der, script_chain, script_key};
pub use scripts::{
    ScriptCertificate, ScriptContext, ScriptContexts, ScriptHandshakeFault, ScriptSession, script_fault,
};
pub use sessions::Sessions;
pub use stapling::{Staple, StapleQuestion};
pub use tailored::{TailorFault, Tailored, Wishes};
pub use upstreams::{UpstreamContext, UpstreamContexts, upstream_fault_text};
