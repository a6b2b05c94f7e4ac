//! Frames of WebSockets (RFC 6455, section 5.2), as far as somebody between the two ends needs them.
//!
//! Owns where one frame ends and the next begins, and the frame that says goodbye. Must never look at a payload.

/// The Close frame of a server that restarts: status 1012 (IANA, WebSocket Close Code Number Registry), unmasked as all
/// frames of a server.
pub const SERVICE_RESTART: &[u8] = b"\x88\x11\x03\xf4service restart";

/// The place in a stream of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FramePlace {
    /// Between two frames.
    #[default]
    Between,
    /// The first byte of a frame has passed.
    Length,
    /// In the rest of its head: so many bytes are left, of which the last so many are a mask; the payload's length so far.
    Head {
        /// Bytes left.
        left: u8,
        /// How many of them are the mask.
        mask: u8,
        /// The payload's length, as far as it is read.
        payload: u64,
    },
    /// In its payload, with so many bytes left.
    Payload(u64),
}

impl FramePlace {
    /// Moves on over bytes that have passed.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            *self = match *self {
                FramePlace::Between => FramePlace::Length,
                FramePlace::Length => {
                    let mask = if byte & 0x80 == 0 { 0 } else { 4 };
                    match byte & 0x7f {
                        126 => FramePlace::Head { left: 2 + mask, mask, payload: 0 },
                        127 => FramePlace::Head { left: 8 + mask, mask, payload: 0 },
                        payload => head_end(mask, mask, u64::from(payload)),
                    }
                }
                FramePlace::Head { left, mask, payload } if left > mask => {
                    head_end(left - 1, mask, payload << 8 | u64::from(byte))
                }
                FramePlace::Head { left, mask, payload } => head_end(left - 1, mask, payload),
                FramePlace::Payload(left) => {
                    let passed = left.min(bytes.len() as u64);
                    bytes = &bytes[passed as usize..];
                    *self = payload(left - passed);
                    continue;
                }
            };
            bytes = rest;
        }
    }
}

fn head_end(left: u8, mask: u8, length: u64) -> FramePlace {
    if left == 0 { payload(length) } else { FramePlace::Head { left, mask, payload: length } }
}

fn payload(left: u64) -> FramePlace {
    if left == 0 { FramePlace::Between } else { FramePlace::Payload(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let mut frame = vec![0x82];
        let bit = if masked { 0x80 } else { 0 };
        match length {
            0..126 => frame.push(bit | length as u8),
            126..65_536 => {
                frame.push(bit | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(bit | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(std::iter::repeat_n(0x88, length));
        frame
    }

    #[test]
    fn the_ends_of_frames_are_found_whatever_the_pieces() {
        let lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000];
        let frames: Vec<Vec<u8>> =
            lengths.iter().flat_map(|length| [frame(*length, false), frame(*length, true)]).collect();
        for size in [1, 2, 3, 7, 4096, 1 << 20] {
            let mut place = FramePlace::default();
            for frame in &frames {
                let mut passed = 0;
                for piece in frame.chunks(size) {
                    place.pass(piece);
                    passed += piece.len();
                    assert_eq!(place == FramePlace::Between, passed == frame.len(), "{size} {passed}");
                }
            }
            // Several frames in one piece.
            place.pass(&frames.concat());
            assert_eq!(place, FramePlace::Between);
        }
    }

    #[test]
    fn a_connection_ends_with_one_goaway_frame() {
        let mut place = FramePlace::default();
        place.pass(&SERVICE_RESTART[..SERVICE_RESTART.len() - 1]);
        assert_eq!(place, FramePlace::Payload(1));
        place.pass(b"t");
        assert_eq!(place, FramePlace::Between);
        assert_eq!(u16::from_be_bytes([SERVICE_RESTART[2], SERVICE_RESTART[3]]), 1012);
    }
}
