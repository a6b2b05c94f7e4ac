//! WebSocket frames (RFC 6455 §5.2), as far as an echo needs them: whole messages, binary or close.

use crate::connection::{Connection, Fault};

const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
/// Any mask will do: RFC 6455 wants a fresh one because of caches, and there are none here.
const MASK: [u8; 4] = [0x5a, 0x17, 0xc3, 0x88];

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Binary(Vec<u8>),
    Close,
}

impl Frame {
    /// Encodes the frame; clients mask theirs.
    pub(crate) fn bytes(&self, masked: bool) -> Vec<u8> {
        let (first, payload): (u8, &[u8]) = match self {
            Frame::Binary(payload) => (BINARY, payload),
            Frame::Close => (CLOSE, &[]),
        };
        let mask_bit = if masked { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match u16::try_from(payload.len()) {
            Ok(short) if short < 126 => bytes.push(mask_bit | short as u8),
            Ok(middle) => {
                bytes.push(mask_bit | 126);
                bytes.extend_from_slice(&middle.to_be_bytes());
            }
            Err(_) => {
                bytes.push(mask_bit | 127);
                bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend_from_slice(&MASK);
            bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        } else {
            bytes.extend_from_slice(payload);
        }
        bytes
    }

    /// Reads the next frame of a connection.
    pub(crate) fn read(connection: &mut Connection) -> Result<Frame, Fault> {
        let head = connection.exactly(2)?;
        let mut number = |bytes: usize| -> Result<usize, Fault> {
            let bytes = connection.exactly(bytes)?;
            Ok(bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
        };
        let length = match head[1] & 0x7f {
            126 => number(2)?,
            127 => number(8)?,
            short => usize::from(short),
        };
        if length > 1 << 20 {
            return Err(Fault::wrong(format!("a frame of {length} bytes")));
        }
        let mask = if head[1] & 0x80 != 0 { connection.exactly(4)? } else { vec![0; 4] };
        let mut payload = connection.exactly(length)?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        match head[0] {
            BINARY => Ok(Frame::Binary(payload)),
            CLOSE => Ok(Frame::Close),
            other => Err(Fault::wrong(format!("a frame that begins with {other:#x}"))),
        }
    }
}
