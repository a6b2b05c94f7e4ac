//! Why a header block is refused.

/// A header block that cannot be decoded. The connection is over, because both sides' tables may differ from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HpackError {
    /// The block ends within a field.
    Truncated,
    /// An integer that is larger than any length or index can be.
    HugeInteger,
    /// An index that no table has.
    InvalidIndex,
    /// A string that is not in Huffman's code, though it says so.
    InvalidString,
    /// The table would be larger than we allow.
    TableTooLarge,
    /// A change of the table's size behind a field (RFC 7541 §4.2).
    LateSizeUpdate,
    /// A block that decodes to far more than any list of fields may be.
    TooLong,
}
