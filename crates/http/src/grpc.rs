//! gRPC's messages in a body: each behind a flag and its length.

/// How long the flag and the length are.
const PREFIX_BYTES: u8 = 5;

/// The place in a body of gRPC messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessagePlace {
    /// Bytes of the prefix under way.
    prefix: u8,
    /// The length so far, and once that is known what is left of the message.
    left: u32,
}

impl MessagePlace {
    /// Passes bytes of the body.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.prefix == PREFIX_BYTES {
                let skipped = bytes.len().min(self.left as usize);
                self.left -= skipped as u32;
                bytes = &bytes[skipped..];
            } else {
                if self.prefix > 0 {
                    self.left = self.left << 8 | u32::from(*first);
                }
                self.prefix += 1;
                bytes = rest;
            }
            if self.prefix == PREFIX_BYTES && self.left == 0 {
                *self = MessagePlace::default();
            }
        }
    }

    /// Returns true if no message is under way.
    pub fn is_between(self) -> bool {
        self == MessagePlace::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_between_messages_is_found_however_they_are_cut() {
        let mut body = Vec::new();
        let mut ends = vec![0];
        for len in [0, 1, 5, 300, 70_000, 0] {
            body.push(0);
            body.extend_from_slice(&(len as u32).to_be_bytes());
            body.extend(std::iter::repeat_n(0xff, len));
            ends.push(body.len());
        }
        for size in [1, 2, 5, 7, 1000, 100_000] {
            let (mut place, mut at) = (MessagePlace::default(), 0);
            for piece in body.chunks(size) {
                place.pass(piece);
                at += piece.len();
                assert_eq!(place.is_between(), ends.contains(&at), "{size} {at}");
            }
        }
    }
}
