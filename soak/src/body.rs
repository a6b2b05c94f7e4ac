//! Generated bodies: the same bytes on both sides, so that each of them can be compared.

use std::sync::Arc;

use crate::connection::Fault;

/// The bytes repeat after this many: a prime, so that no buffer has a size that would hide a shift.
const PERIOD: usize = 1_048_583;

/// The bytes of a body of any length.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Arc<Vec<u8>>);

impl Pattern {
    pub(crate) fn new() -> Pattern {
        let mut bytes = vec![0; PERIOD];
        fastrand::Rng::with_seed(1).fill(&mut bytes);
        // Twice, so that every piece of a body is one slice.
        bytes.extend_from_within(..);
        Pattern(Arc::new(bytes))
    }

    /// Returns `length` bytes at offset `at` of the body that begins at `start`; at most a period.
    pub(crate) fn piece(&self, start: u64, at: u64, length: usize) -> &[u8] {
        let from = ((start + at) % PERIOD as u64) as usize;
        &self.0[from..from + length]
    }

    /// Returns a function that compares the bytes that arrive with the body that begins at `start`.
    pub(crate) fn compare(&self, start: u64) -> impl FnMut(&[u8]) -> Result<(), Fault> + '_ {
        let mut at = 0;
        move |bytes| {
            let same = bytes == self.piece(start, at, bytes.len());
            at += bytes.len() as u64;
            match same {
                true => Ok(()),
                false => {
                    Err(Fault::wrong(format!("the {} bytes before offset {at} were changed", bytes.len())))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_and_missing_bytes_are_noticed() {
        let pattern = Pattern::new();
        let mut body = pattern.piece(7, 0, PERIOD).to_vec();
        body.extend_from_slice(pattern.piece(7, PERIOD as u64, 1000));
        let compare = |body: &[u8]| {
            let mut compare = pattern.compare(7);
            body.chunks(65_536).all(|chunk| compare(chunk).is_ok())
        };
        assert!(compare(&body));
        body[PERIOD + 5] ^= 1;
        assert!(!compare(&body));
        body[PERIOD + 5] ^= 1;
        body.remove(PERIOD);
        assert!(!compare(&body));
    }
}
