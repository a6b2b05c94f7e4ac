//! Text in other dress: URI escaping, query arguments, base64, SQL quoting, digests and the forms of a date.
//!
//! Plain functions over bytes, each appending to a buffer of the caller's. They know neither Lua nor a clock.

pub mod args;
pub mod base64;
pub mod date;
pub mod digest;
pub mod sql;
pub mod uri;
