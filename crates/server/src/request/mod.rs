//! One request while it is served, whatever serves it: the client's body, the answer, what the engine asks for.

pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod cx;
pub(crate) mod effects;
pub(crate) mod handshake_files;
pub(crate) mod host;
pub(crate) mod report;
pub(crate) mod respond;
pub(crate) mod send;
pub(crate) mod subrequests;
