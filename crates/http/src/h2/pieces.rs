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
    /// The most bytes of the body that are to go in one frame; it is empty.
    FrameSize(u16),
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
        let (kind, number) = match self.kind {
            PieceKind::Head => (0, self.len),
            PieceKind::Data => (1, self.len),
            PieceKind::Trailers => (2, self.len),
            PieceKind::End => (3, 0),
            PieceKind::FrameSize(size) => (4, u64::from(size)),
        };
        bytes[0] = kind;
        bytes[1..].copy_from_slice(&number.to_be_bytes());
        bytes
    }

    /// Reads the header at the beginning of `bytes`; `None` if more is needed.
    pub fn parse(bytes: &[u8]) -> Option<PieceHeader> {
        let [kind, number @ ..] = *bytes.first_chunk::<PIECE_HEADER_BYTES>()?;
        let number = u64::from_be_bytes(number);
        let (kind, len) = match kind {
            0 => (PieceKind::Head, number),
            1 => (PieceKind::Data, number),
            2 => (PieceKind::Trailers, number),
            3 => (PieceKind::End, 0),
            _ => (PieceKind::FrameSize(number as u16), 0),
        };
        Some(PieceHeader { kind, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_read_as_it_is_written() {
        for (kind, len) in [
            (PieceKind::Head, 1 << 40 | 7),
            (PieceKind::Data, 1 << 40 | 7),
            (PieceKind::Trailers, 7),
            (PieceKind::End, 0),
            (PieceKind::FrameSize(8192), 0),
        ] {
            let header = PieceHeader { kind, len };
            assert_eq!(PieceHeader::parse(&header.bytes()), Some(header));
            assert_eq!(PieceHeader::parse(&header.bytes()[..8]), None);
        }
    }
}
