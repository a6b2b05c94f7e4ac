//! HPACK, the compression of header lists (RFC 7541).
//!
//! The decoder is a whole one, with its dynamic table. The encoder keeps no state: it names entries of the static table and
//! writes everything else out, with Huffman's code where that is shorter, so that a head can be encoded far from its
//! connection.

mod decoder;
mod dynamic_table;
mod encoder;
mod error;
pub mod huffman;
mod integer;
mod static_table;

pub use decoder::HpackDecoder;
pub use encoder::{
    FORGET_TABLE, Pseudo, encode_field, encode_known, encode_pseudo, encode_status, encode_valid_field,
};
pub use error::HpackError;
