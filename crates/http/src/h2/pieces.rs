//! What a request's answer looks like on its way to the connection that frames it, and its body on the way from there:
//! pieces, each behind a header of its kind and length.
//!
//! The sender of an answer knows no stream and no window, so that it cannot write frames; a connection that gets pieces need
//! not search for anything in them.

/// The size of a piece's header.
pub const PIECE_HEADER_BYTES: usize = 9;

/// The kind of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceKind {
    /// The header block of the answer, encoded.
    Head,
    /// Bytes of the body.
    Data,
    /// The header block of the trailers, which ends the message.
    Trailers,
    /// The end of the message; it is empty.
    End,
}

/// A piece's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceHeader {
    /// The kind.
    pub kind: PieceKind,
    /// How many bytes follow.
    pub len: u64,
}

impl PieceHeader {
    /// Returns the bytes of the header.
    pub fn bytes(self) -> [u8; PIECE_HEADER_BYTES] {
        let mut bytes = [0; PIECE_HEADER_BYTES];
        bytes[0] = match self.kind {
            PieceKind::Head => 0,
            PieceKind::Data => 1,
            PieceKind::Trailers => 2,
            PieceKind::End => 3,
        };
        bytes[1..].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }

    /// Reads the header at the beginning of `bytes`; `None` if more is needed.
    pub fn parse(bytes: &[u8]) -> Option<PieceHeader> {
        let [kind, len @ ..] = *bytes.first_chunk::<PIECE_HEADER_BYTES>()?;
        let kind = match kind {
            0 => PieceKind::Head,
            1 => PieceKind::Data,
            2 => PieceKind::Trailers,
            _ => PieceKind::End,
        };
        Some(PieceHeader { kind, len: u64::from_be_bytes(len) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_read_as_it_is_written() {
        for kind in [PieceKind::Head, PieceKind::Data, PieceKind::Trailers, PieceKind::End] {
            let header = PieceHeader { kind, len: 1 << 40 | 7 };
            assert_eq!(PieceHeader::parse(&header.bytes()), Some(header));
            assert_eq!(PieceHeader::parse(&header.bytes()[..8]), None);
        }
    }
}
