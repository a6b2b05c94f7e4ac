//! The capacity of a zone: that of nginx, to within a page.

/// The state of a zone.
pub trait State: Sized {
    /// The directive that declares such a zone.
    const DIRECTIVE: &'static str;
    /// nginx's word for such a zone when a reload is refused.
    const WORD: &'static str;
    /// Creates an empty state of this size in bytes.
    fn new(size: u64) -> Self;
}

/// The room in a zone, in bytes: as much as nginx's slab allocator finds in it, to within a page.
#[derive(Debug)]
pub(crate) struct ZoneCapacity(u64);

impl ZoneCapacity {
    /// Returns the room of a new zone.
    pub(crate) fn new(size: u64) -> ZoneCapacity {
        // The allocator's own head, and 24 bytes for each page.
        ZoneCapacity(size.saturating_sub(1024) / (PAGE_BYTES + 24) * PAGE_BYTES)
    }

    /// Takes the room of one entry; `false` if there is not enough.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(slab(bytes));
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }

    /// Gives the room of an entry back.
    pub(crate) fn give(&mut self, bytes: usize) {
        self.0 += slab(bytes);
    }
}

/// A page of nginx's slab allocator.
pub(super) const PAGE_BYTES: u64 = 4096;

/// Returns the space that the allocator uses for so many bytes: a power of two up to half a page, then whole pages.
fn slab(bytes: usize) -> u64 {
    let bytes = bytes as u64;
    if bytes <= PAGE_BYTES / 2 { bytes.next_power_of_two() } else { bytes.next_multiple_of(PAGE_BYTES) }
}
