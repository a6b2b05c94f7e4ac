//! Encodings: URI escaping, query arguments, base64, SQL quoting, digests and the formats of dates.
//!
//! Plain functions over bytes, each appending to a buffer of the caller's. They know neither Lua nor a clock.

pub(crate) mod args;
pub(crate) mod base64;
pub(crate) mod date;
pub(crate) mod digest;
pub(crate) mod sql;
pub(crate) mod uri;
