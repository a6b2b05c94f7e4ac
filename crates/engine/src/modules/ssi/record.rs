//! What SSI commands keep for a request.

use crate::regex::Captures;

/// The part that a request shares with those inside it.
#[derive(Debug, Default)]
pub struct SsiShared {
    /// Variables that `set`, `include set=` and named groups have given values, by their names in lower case.
    pub(super) variables: Vec<(Vec<u8>, Vec<u8>)>,
    /// Texts of `block`, by their names, the latest last.
    pub(super) blocks: Vec<(Vec<u8>, Vec<u8>)>,
    /// The groups of the last regular expression that matched.
    pub(super) captures: Captures,
}

/// No more bytes of variables and blocks than these are kept for a request.
pub const MOST_KEPT: usize = 1 << 20;

impl SsiShared {
    /// Returns how many bytes may still be kept.
    pub(super) fn room(&self) -> usize {
        let entries = self.variables.iter().chain(&self.blocks);
        let used: usize = entries.map(|(name, value)| name.len() + value.len() + ENTRY_BYTES).sum();
        MOST_KEPT.saturating_sub(used)
    }
}

/// What an entry takes beside its bytes.
const ENTRY_BYTES: usize = 48;

/// The state of SSI for a request.
#[derive(Debug, Default)]
pub struct SsiRecord {
    /// The part that it shares.
    pub shared: SsiShared,
    /// The format of dates (`config timefmt`), if it was set.
    pub(crate) time_format: Option<Vec<u8>>,
}

impl SsiRecord {
    /// Forgets it.
    pub(crate) fn reset(&mut self) {
        *self = SsiRecord::default();
    }
}
