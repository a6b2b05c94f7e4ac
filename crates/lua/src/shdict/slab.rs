//! The page and chunk accounting of one shared dict: which bytes of its zone are in use.
//!
//! It follows nginx's slab allocator (`src/core/ngx_slab.c`) in size classes, in the order pages are taken and given
//! back, and in what the zone's own bookkeeping costs, because all of that is visible: `free_space()` counts whole
//! pages, and which entry is evicted depends on which page has room. It hands out offsets and never touches the bytes
//! behind them, and it must never be asked for less than 17 bytes: a dict's smallest block has 21.

/// Bytes per page. nginx uses the machine's page size; 4096 on every machine we measure against.
pub(super) const PAGE_BYTES: usize = 4096;
const PAGE_SHIFT: u32 = 12;
/// The smallest class in use: list nodes of up to 32 bytes.
const MIN_SHIFT: u32 = 5;
/// Blocks above half a page get whole pages.
const MAX_CHUNK_BYTES: usize = PAGE_BYTES / 2;
const CLASSES: usize = (PAGE_SHIFT - MIN_SHIFT) as usize;

/// The size of nginx's pool header, its nine slot heads and their statistics at the start of a zone (64-bit Linux).
const POOL_HEADER_BYTES: usize = 200 + 9 * (24 + 32);
/// One page descriptor (`ngx_slab_page_t`).
const PAGE_DESCRIPTOR_BYTES: usize = 24;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PageKind {
    /// First page of a free run of `run` pages.
    Free,
    /// Inside a free run; the last of a run has `head` set to the first.
    FreeInside,
    /// First page of a run of `run` pages given out whole.
    Run,
    /// Inside such a run.
    RunInside,
    /// Cut into chunks of `1 << shift`.
    Chunks,
}

#[derive(Clone, Copy)]
struct Page {
    next: u32,
    prev: u32,
    head: u32,
    run: u32,
    /// One bit per chunk; 32-byte chunks are the most there are, 128 in a page.
    taken: u128,
    shift: u8,
    kind: PageKind,
}

const BLANK: Page =
    Page { next: NONE, prev: NONE, head: NONE, run: 0, taken: 0, shift: 0, kind: PageKind::FreeInside };

/// The allocator of one zone.
pub(super) struct Slab {
    /// The zone's pages, then one list head per class, then the head of the list of free runs.
    pages: Vec<Page>,
    count: u32,
    free_pages: u32,
}

impl Slab {
    /// Makes the allocator of a zone declared with `zone_bytes`.
    pub(super) fn new(zone_bytes: usize) -> Slab {
        let count = pages_in(zone_bytes);
        let mut pages = vec![BLANK; count + CLASSES + 1];
        for (at, page) in pages.iter_mut().enumerate().skip(count) {
            page.next = at as u32;
            page.prev = at as u32;
        }
        let mut slab = Slab { pages, count: count as u32, free_pages: count as u32 };
        if count > 0 {
            slab.pages[0].kind = PageKind::Free;
            slab.pages[0].run = count as u32;
            slab.pages[count - 1].head = 0;
            slab.push_front(slab.free_list(), 0);
        }
        slab
    }

    /// Returns the number of bytes that the offsets can point into.
    pub(super) fn arena_bytes(&self) -> usize {
        self.count as usize * PAGE_BYTES
    }

    /// Returns the number of bytes in wholly free pages, as `free_space()` reports them.
    pub(super) fn free_bytes(&self) -> usize {
        self.free_pages as usize * PAGE_BYTES
    }

    /// Allocates at least `bytes` and returns their offset; `None` if no page has room.
    pub(super) fn alloc(&mut self, bytes: usize) -> Option<usize> {
        if bytes > MAX_CHUNK_BYTES {
            let page = self.take_pages(bytes.div_ceil(PAGE_BYTES) as u32)?;
            return Some(page as usize * PAGE_BYTES);
        }
        let shift = shift_for(bytes);
        let list = self.chunk_list(shift);
        let mut page = self.pages[list as usize].next;
        if page == list {
            page = self.take_pages(1)?;
            let descriptor = &mut self.pages[page as usize];
            descriptor.kind = PageKind::Chunks;
            descriptor.shift = shift as u8;
            descriptor.taken = reserved(shift);
            self.push_front(list, page);
        }
        let descriptor = &mut self.pages[page as usize];
        let chunk = descriptor.taken.trailing_ones();
        descriptor.taken |= 1 << chunk;
        if descriptor.taken == all(shift) {
            self.unlink(page);
        }
        Some(page as usize * PAGE_BYTES + ((chunk as usize) << shift))
    }

    /// Frees the block at `offset`, which `alloc` returned and which was not freed since.
    pub(super) fn free(&mut self, offset: usize) {
        let page = (offset / PAGE_BYTES) as u32;
        let descriptor = self.pages[page as usize];
        if descriptor.kind == PageKind::Run {
            self.give_pages(page, descriptor.run);
            return;
        }
        debug_assert_eq!(descriptor.kind, PageKind::Chunks);
        let shift = u32::from(descriptor.shift);
        let chunk = (offset % PAGE_BYTES) >> shift;
        debug_assert!(descriptor.taken & (1 << chunk) != 0);
        if descriptor.taken == all(shift) {
            self.push_front(self.chunk_list(shift), page);
        }
        self.pages[page as usize].taken &= !(1 << chunk);
        if self.pages[page as usize].taken == reserved(shift) {
            self.unlink(page);
            self.give_pages(page, 1);
        }
    }

    fn chunk_list(&self, shift: u32) -> u32 {
        self.count + shift - MIN_SHIFT
    }

    fn free_list(&self) -> u32 {
        self.count + CLASSES as u32
    }

    /// Takes pages from the front of the first free run that is long enough.
    fn take_pages(&mut self, wanted: u32) -> Option<u32> {
        let list = self.free_list();
        let mut page = self.pages[list as usize].next;
        while page != list && self.pages[page as usize].run < wanted {
            page = self.pages[page as usize].next;
        }
        if page == list {
            return None;
        }
        let Page { run, next, prev, .. } = self.pages[page as usize];
        self.unlink(page);
        if run > wanted {
            // The rest keeps the run's place in the list.
            let rest = page + wanted;
            self.pages[rest as usize] = Page { run: run - wanted, kind: PageKind::Free, ..BLANK };
            self.pages[(page + run - 1) as usize].head = rest;
            self.insert_between(prev, rest, next);
        }
        self.pages[page as usize] = Page { run: wanted, kind: PageKind::Run, ..BLANK };
        for inside in page + 1..page + wanted {
            self.pages[inside as usize] = Page { kind: PageKind::RunInside, ..BLANK };
        }
        self.free_pages -= wanted;
        Some(page)
    }

    /// Frees `run` pages, joined with free neighbours, as the first candidate of the next search.
    fn give_pages(&mut self, page: u32, run: u32) {
        self.free_pages += run;
        let mut first = page;
        let mut length = run;
        for inside in page..page + run {
            self.pages[inside as usize] = BLANK;
        }
        let after = page + run;
        if after < self.count && self.pages[after as usize].kind == PageKind::Free {
            length += self.pages[after as usize].run;
            self.unlink(after);
            self.pages[after as usize] = BLANK;
        }
        if let Some(before) = self.free_run_ending_at(page) {
            length += self.pages[before as usize].run;
            self.unlink(before);
            first = before;
        }
        self.pages[first as usize] = Page { run: length, kind: PageKind::Free, ..BLANK };
        self.pages[(first + length - 1) as usize].head = first;
        self.push_front(self.free_list(), first);
    }

    fn free_run_ending_at(&self, page: u32) -> Option<u32> {
        let last = page.checked_sub(1)?;
        match self.pages[last as usize].kind {
            PageKind::Free => Some(last),
            PageKind::FreeInside => Some(self.pages[last as usize].head),
            PageKind::Run | PageKind::RunInside | PageKind::Chunks => None,
        }
    }

    fn push_front(&mut self, list: u32, page: u32) {
        self.insert_between(list, page, self.pages[list as usize].next);
    }

    fn insert_between(&mut self, prev: u32, page: u32, next: u32) {
        self.pages[page as usize].prev = prev;
        self.pages[page as usize].next = next;
        self.pages[prev as usize].next = page;
        self.pages[next as usize].prev = page;
    }

    fn unlink(&mut self, page: u32) {
        let Page { next, prev, .. } = self.pages[page as usize];
        self.pages[prev as usize].next = next;
        self.pages[next as usize].prev = prev;
    }
}

/// Returns the number of a zone's pages without those of nginx's bookkeeping.
fn pages_in(zone_bytes: usize) -> usize {
    let room = zone_bytes.saturating_sub(POOL_HEADER_BYTES);
    let pages = room / (PAGE_BYTES + PAGE_DESCRIPTOR_BYTES);
    let start = (POOL_HEADER_BYTES + pages * PAGE_DESCRIPTOR_BYTES).next_multiple_of(PAGE_BYTES);
    pages.min(zone_bytes.saturating_sub(start) / PAGE_BYTES)
}

fn shift_for(bytes: usize) -> u32 {
    bytes.max(1).next_power_of_two().trailing_zeros().max(MIN_SHIFT)
}

/// Returns the number of chunks in use in a fresh page: nginx keeps the bitmap of classes under 64 bytes in the page
/// itself.
fn reserved(shift: u32) -> u128 {
    u128::from(shift == MIN_SHIFT)
}

fn all(shift: u32) -> u128 {
    let chunks = PAGE_BYTES >> shift;
    if chunks == 128 { u128::MAX } else { (1 << chunks) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_the_pages_nginx_gives_it() {
        for (bytes, pages) in ZONES_MEASURED {
            assert_eq!(pages_in(bytes), pages, "{bytes} bytes");
        }
    }

    /// Zone sizes and page counts of nginx 1.22.1: `free_space() / 4096` of an empty dict, plus the two pages that a
    /// dict's own two records take.
    const ZONES_MEASURED: [(usize, usize); 7] = [
        (12288, 2),
        (16384, 3),
        (100001, 23),
        (102400, 24),
        (921600, 223),
        (5242880, 1272),
        (1073741824, 260616),
    ];

    #[test]
    fn chunks_of_a_page_are_given_lowest_first_and_reused() {
        let mut slab = Slab::new(64 * 1024);
        let first = slab.alloc(100).unwrap();
        let second = slab.alloc(128).unwrap();
        assert_eq!(second, first + 128);
        slab.free(first);
        assert_eq!(slab.alloc(65), Some(first));
    }

    #[test]
    fn the_first_chunk_of_a_32_byte_page_holds_its_bitmap() {
        let mut slab = Slab::new(64 * 1024);
        assert_eq!(slab.alloc(21), Some(32));
        let mut given = 1;
        let pages = slab.free_bytes();
        while slab.free_bytes() == pages {
            slab.alloc(32).unwrap();
            given += 1;
        }
        assert_eq!(given - 1, 127);
    }

    #[test]
    fn freed_runs_join_their_neighbours() {
        let mut slab = Slab::new(64 * 1024);
        let total = slab.free_bytes();
        let blocks: Vec<usize> = (0..3).map(|_| slab.alloc(3 * PAGE_BYTES).unwrap()).collect();
        slab.free(blocks[0]);
        slab.free(blocks[2]);
        slab.free(blocks[1]);
        assert_eq!(slab.free_bytes(), total);
        assert_eq!(slab.alloc(total), Some(0));
        assert_eq!(slab.alloc(1), None);
    }

    #[test]
    fn blocks_never_overlap_and_everything_comes_back() {
        let mut slab = Slab::new(256 * 1024);
        let total = slab.free_bytes();
        let mut live: Vec<(usize, usize)> = Vec::new();
        let mut seed = 1u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let draw = (seed >> 33) as usize;
            if draw.is_multiple_of(3) && !live.is_empty() {
                let (at, _) = live.swap_remove(draw % live.len());
                slab.free(at);
                continue;
            }
            let bytes = 21 + draw % 6000;
            let Some(at) = slab.alloc(bytes) else { continue };
            assert!(at + bytes <= slab.arena_bytes());
            assert!(live.iter().all(|&(other, size)| at + bytes <= other || other + size <= at));
            live.push((at, bytes));
        }
        for (at, _) in live {
            slab.free(at);
        }
        assert_eq!(slab.free_bytes(), total);
        assert_eq!(slab.alloc(total), Some(0));
    }
}
