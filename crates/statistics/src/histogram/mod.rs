//! A log-linear histogram of durations in microseconds.
//!
//! Owns: which bucket a duration falls into, and what a quantile is. Must never: be off by more than
//! [`Histogram::ERROR`], or take memory for empty octaves.
//!
//! Durations below 64 µs have a bucket each; above, every octave is cut into 32 buckets of one width, so a bucket is
//! at most 1/32 of its lower edge wide and its middle at most 1/64 from anything in it. What takes 2³⁶ µs (19 h) or
//! longer falls into the last bucket, and the greatest duration is kept exactly.

/// Buckets of one octave, and of one page.
const BUCKETS: usize = 32;
/// log2 of [`BUCKETS`].
const BITS: u32 = BUCKETS.trailing_zeros();
/// The first page holds 0 to 31, each later one an octave; the last ends at 2³⁶.
const PAGES: usize = 32;

/// Counts of durations, with their sum and the greatest of them.
#[derive(Clone, Default)]
pub struct Histogram {
    count: u64,
    sum_us: u64,
    max_us: u64,
    /// For each octave, one more than the place of its counts, or 0 while the octave is empty.
    places: [u8; PAGES],
    counts: Vec<[u64; BUCKETS]>,
}

impl Histogram {
    /// How far a quantile may be from a recorded duration, relative to it.
    pub const ERROR: f64 = 1.0 / 64.0;
    /// The largest number of buckets.
    pub(crate) const LEN: usize = PAGES * BUCKETS;

    /// Creates an empty histogram; it takes no memory on the heap.
    pub fn new() -> Histogram {
        Histogram::default()
    }

    /// Records a duration. Allocates when it is the first of its octave.
    pub fn record(&mut self, duration_us: u64) {
        let bucket = bucket_of(duration_us);
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(duration_us);
        self.max_us = self.max_us.max(duration_us);
        self.page(bucket / BUCKETS)[bucket % BUCKETS] += 1;
    }

    /// Adds everything in `other`.
    pub fn merge(&mut self, other: &Histogram) {
        if other.count == 0 {
            return;
        }
        self.count += other.count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
        for (page, &place) in other.places.iter().enumerate() {
            if place != 0 {
                let from = &other.counts[usize::from(place) - 1];
                for (to, from) in self.page(page).iter_mut().zip(from) {
                    *to += from;
                }
            }
        }
    }

    /// Empties it; keeps its memory.
    pub fn clear(&mut self) {
        if self.count == 0 {
            return;
        }
        (self.count, self.sum_us, self.max_us) = (0, 0, 0);
        self.counts.fill([0; BUCKETS]);
    }

    /// Returns the number of durations recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the sum of all durations, exactly, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// Returns the longest duration, exactly, in microseconds; 0 when there is none.
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// Returns the exact mean in microseconds; `None` without durations.
    pub fn mean_us(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_us as f64 / self.count as f64)
    }

    /// Returns an upper bound of the variance of the durations in µs², near to it unless they all lie within a few
    /// buckets: each is taken to be as far from the mean as its bucket allows. `None` for fewer than two.
    pub(crate) fn variance(&self) -> Option<f64> {
        let mean = self.mean_us()?;
        let furthest = |bucket| {
            let (from, to) = (lower_edge(bucket) as f64, self.upper_edge(bucket) as f64);
            (mean - from).abs().max((to - mean).abs())
        };
        let squares: f64 = self.buckets().map(|(bucket, n)| n as f64 * furthest(bucket).powi(2)).sum();
        (self.count > 1).then(|| squares / (self.count - 1) as f64)
    }

    /// Returns the `q`-quantile in microseconds: the ⌈q·n⌉-th shortest duration, at most [`Histogram::ERROR`] off.
    /// `None` without durations.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let rank = (q * self.count as f64).ceil().max(1.0) as u64;
        self.ranked(rank).map(|bucket| self.middle_of(bucket) as u64)
    }

    /// Returns the edges in microseconds (both belong to it) of the bucket that holds the `rank`-th shortest duration;
    /// ranks start at 1 and end at the number of durations.
    pub(crate) fn edges_of_rank(&self, rank: u64) -> Option<(u64, u64)> {
        self.ranked(rank).map(|bucket| (lower_edge(bucket), self.upper_edge(bucket)))
    }

    /// Returns for each bound in microseconds, from the least on, the number of durations up to it: those whose
    /// bucket's middle is.
    pub(crate) fn cumulative<const N: usize>(&self, bounds_us: &[u64; N]) -> [u64; N] {
        let mut counts = [0; N];
        let mut buckets = self.buckets().peekable();
        let mut sum = 0;
        for (to, &bound) in counts.iter_mut().zip(bounds_us) {
            while let Some((_, count)) =
                buckets.next_if(|&(bucket, _)| self.middle_of(bucket) <= bound as f64)
            {
                sum += count;
            }
            *to = sum;
        }
        counts
    }

    /// Returns every bucket that is not empty, from the shortest on, with its count.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let pages = self.places.iter().enumerate().filter(|&(_, &place)| place != 0);
        pages.flat_map(|(page, &place)| {
            let counts = self.counts[usize::from(place) - 1].iter().enumerate();
            counts.filter(|&(_, &n)| n != 0).map(move |(at, &n)| (page * BUCKETS + at, n))
        })
    }

    /// Adds a bucket that [`Histogram::buckets`] of another has returned.
    pub(crate) fn add_bucket(&mut self, bucket: usize, count: u64) {
        let bucket = bucket.min(Histogram::LEN - 1);
        self.count += count;
        self.page(bucket / BUCKETS)[bucket % BUCKETS] += count;
    }

    /// Adds the sums of another: see [`Histogram::add_bucket`].
    pub(crate) fn add_sums(&mut self, sum_us: u64, max_us: u64) {
        self.sum_us = self.sum_us.saturating_add(sum_us);
        self.max_us = self.max_us.max(max_us);
    }

    /// Returns the bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.counts.capacity() * size_of::<[u64; BUCKETS]>()
    }

    fn page(&mut self, page: usize) -> &mut [u64; BUCKETS] {
        if self.places[page] == 0 {
            self.add_page(page);
        }
        &mut self.counts[usize::from(self.places[page]) - 1]
    }

    #[cold]
    fn add_page(&mut self, page: usize) {
        // One at a time: most histograms stay within a few octaves, and there are thousands of histograms.
        self.counts.reserve_exact(1);
        self.counts.push([0; BUCKETS]);
        self.places[page] = self.counts.len() as u8;
    }

    fn ranked(&self, rank: u64) -> Option<usize> {
        let mut left = rank;
        let mut last = None;
        for (bucket, count) in self.buckets() {
            last = Some(bucket);
            if left <= count {
                break;
            }
            left -= count;
        }
        last
    }

    fn upper_edge(&self, bucket: usize) -> u64 {
        if bucket == Histogram::LEN - 1 { self.max_us } else { (lower_edge(bucket + 1) - 1).min(self.max_us) }
    }

    fn middle_of(&self, bucket: usize) -> f64 {
        let (from, to) = (lower_edge(bucket), self.upper_edge(bucket));
        // Nothing is known of what lies beyond the scale but the greatest.
        if bucket == Histogram::LEN - 1 { to as f64 } else { (from + to) as f64 / 2.0 }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} durations, {} µs in all, at most {} µs: ", self.count, self.sum_us, self.max_us)?;
        f.debug_map().entries(self.buckets().map(|(bucket, count)| (lower_edge(bucket), count))).finish()
    }
}

/// Two are equal when the same was recorded, whatever memory they hold.
impl PartialEq for Histogram {
    fn eq(&self, other: &Histogram) -> bool {
        (self.count, self.sum_us, self.max_us) == (other.count, other.sum_us, other.max_us)
            && self.buckets().eq(other.buckets())
    }
}

impl Eq for Histogram {}

fn bucket_of(duration_us: u64) -> usize {
    if duration_us < BUCKETS as u64 {
        return duration_us as usize;
    }
    let octave = duration_us.ilog2();
    let bucket = (octave - BITS + 1) as usize * BUCKETS + (duration_us >> (octave - BITS)) as usize % BUCKETS;
    bucket.min(Histogram::LEN - 1)
}

fn lower_edge(bucket: usize) -> u64 {
    match (bucket / BUCKETS, bucket % BUCKETS) {
        (0, at) => at as u64,
        (page, at) => ((BUCKETS + at) as u64) << (page - 1),
    }
}

#[cfg(test)]
mod tests;
