//! How much of a request head is accepted.
//!
//! Owns the limits of nginx's `client_header_buffer_size`, `large_client_header_buffers`, `max_headers`,
//! `ignore_invalid_headers` and `underscores_in_headers`, and the account kept against the first two.

/// Limits on a request head; see ngx_http_core_module in nginx's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// `client_header_buffer_size`, bytes: the buffer of a small head.
    pub client_header_buffer_size: usize,
    /// `large_client_header_buffers`: how many larger buffers a head may use, and their size in bytes. No line
    /// may be longer than one of them.
    pub large_client_header_buffers: (usize, usize),
    /// `max_headers`: how many fields a request may have.
    pub max_fields: usize,
    /// `underscores_in_headers`: whether a name with `_` is valid.
    pub underscores_in_headers: bool,
    /// `ignore_invalid_headers`: whether fields with invalid names are dropped, or passed on.
    pub ignore_invalid_headers: bool,
    /// `merge_slashes`, of the default server: a target that is no good path is refused with its line.
    pub merge_slashes: bool,
    /// Whether a lone LF ends a line, in a head whose first line ends with one. RFC 9112 §2.2 allows it; nginx accepts
    /// it in any head.
    pub allow_bare_lf: bool,
}

impl HeadLimits {
    /// Returns the size of a read buffer that holds any head within these limits, in bytes.
    pub(crate) const fn max_head_bytes(&self) -> usize {
        let (number, size) = self.large_client_header_buffers;
        self.client_header_buffer_size + number * size
    }
}

impl Default for HeadLimits {
    /// Returns nginx's defaults.
    fn default() -> HeadLimits {
        HeadLimits {
            client_header_buffer_size: 1024,
            large_client_header_buffers: (4, 8192),
            max_fields: 1000,
            underscores_in_headers: false,
            ignore_invalid_headers: true,
            merge_slashes: true,
            allow_bare_lf: true,
        }
    }
}

/// The account of buffers that nginx would have filled by now.
///
/// nginx reads into a small buffer; a line that does not fit in what is left of it moves, whole, to the next
/// large one. The sizes at which a request is refused follow from that, so the account is kept although our own
/// buffer grows in one piece.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    used: usize,
    capacity: usize,
    taken: usize,
}

/// The limit that a line exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// The line alone is longer than a large buffer.
    Line,
    /// All large buffers are in use.
    Buffers,
}

impl Budget {
    /// Books the empty lines before the request line; they are not kept once they have filled the small buffer.
    pub(crate) fn book_blank(&mut self, len: usize, limits: &HeadLimits) {
        if self.taken == 0 && len > 0 {
            self.used = len % limits.client_header_buffer_size.max(1);
        }
    }

    /// Books a line, or the part of it that has come so far.
    #[inline]
    pub(crate) fn book(&mut self, len: usize, whole: bool, limits: &HeadLimits) -> Result<(), Exceeded> {
        if self.capacity == 0 {
            self.capacity = limits.client_header_buffer_size;
        }
        // An incomplete line needs room for one more byte at least.
        let needed = self.used + len + usize::from(!whole);
        if needed <= self.capacity {
            if whole {
                self.used += len;
            }
            return Ok(());
        }
        self.next_buffer(len, whole, limits)
    }

    /// Returns true if the whole lines fill the buffer in use to the last byte.
    pub(crate) fn is_full(&self) -> bool {
        self.used == self.capacity
    }

    #[cold]
    fn next_buffer(&mut self, len: usize, whole: bool, limits: &HeadLimits) -> Result<(), Exceeded> {
        let (number, size) = limits.large_client_header_buffers;
        if len + usize::from(!whole) > size {
            return Err(Exceeded::Line);
        }
        if self.taken == number {
            return Err(Exceeded::Buffers);
        }
        self.taken += 1;
        self.capacity = size;
        self.used = if whole { len } else { 0 };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        client_header_buffer_size: 100,
        large_client_header_buffers: (2, 200),
        max_fields: 10,
        underscores_in_headers: false,
        ignore_invalid_headers: true,
        merge_slashes: true,
        allow_bare_lf: true,
    };

    #[test]
    fn lines_fill_buffers_as_in_nginx() {
        let mut budget = Budget::default();
        assert_eq!(budget.book(100, true, &LIMITS), Ok(()), "fills the small buffer to the brim");
        assert_eq!(budget.book(150, true, &LIMITS), Ok(()), "first large one");
        assert_eq!(budget.book(51, true, &LIMITS), Ok(()), "does not fit behind the other: second large one");
        assert_eq!(budget.book(149, true, &LIMITS), Ok(()));
        assert_eq!(budget.book(1, true, &LIMITS), Err(Exceeded::Buffers));
    }

    #[test]
    fn a_line_may_fill_a_large_buffer() {
        assert_eq!(Budget::default().book(200, true, &LIMITS), Ok(()));
        assert_eq!(Budget::default().book(201, true, &LIMITS), Err(Exceeded::Line));
        assert_eq!(Budget::default().book(199, false, &LIMITS), Ok(()));
        assert_eq!(Budget::default().book(200, false, &LIMITS), Err(Exceeded::Line));
    }

    #[test]
    fn pieces_cost_the_same_as_the_whole() {
        for len in 1..220 {
            let whole = Budget::default().book(len, true, &LIMITS).is_ok();
            let mut budget = Budget::default();
            let pieces = (0..len).all(|part| budget.book(part, false, &LIMITS).is_ok())
                && budget.book(len, true, &LIMITS).is_ok();
            assert_eq!(whole, pieces, "{len} bytes");
        }
    }
}
