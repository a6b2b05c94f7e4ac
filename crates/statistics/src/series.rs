//! Totals and windows of one group, server or key.
//!
//! Owns: the counters since the beginning and in each window. Must never: know its name.
//!
//! New counts are added to `open`, the second that is under way. When the second is over, [`Series::seal`] adds it
//! to the totals and packs it into a slot of the finest tier. When a slot of a coarser tier is over, it is made of the
//! finer ones in it ([`Series::fold`]); until then a window takes those. So each second is packed once and unpacked
//! about once, and a series without traffic costs neither time nor, after [`Series::tidy`], memory.

use std::collections::{BTreeMap, VecDeque};

use crate::counters::Counters;
use crate::slot::{pack, unpack};
use crate::window::Window;

/// One for each window: the slots of each are a whole number of slots of the one before.
const TIERS: usize = Window::ALL.len();

#[derive(Debug, Default)]
pub(crate) struct Series {
    totals: Counters,
    /// Not yet in the totals or the windows. `None` unless something was counted in this second.
    open: Option<Box<Counters>>,
    /// For each of [`Window::ALL`], the slots that hold something, from the oldest on.
    tiers: [VecDeque<Slot>; TIERS],
    /// For each tier, its first slot that is not made of finer ones yet.
    folded: [u64; TIERS],
    /// Begun and not ended. Below zero for moments: a request's end may be absorbed before another's beginning.
    in_flight: i64,
    /// When something was last counted.
    used_ms: u64,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    packed: Box<[u8]>,
}

/// Scratch memory of sealing, and spare counters, so that busy seconds do not allocate.
#[derive(Debug, Default)]
pub(crate) struct Bench {
    counters: Counters,
    packed: Vec<u8>,
    /// Emptied, for the next open second of any series.
    #[expect(clippy::vec_box, reason = "the boxes are what is used again")]
    spare: Vec<Box<Counters>>,
}

/// The number of emptied [`Counters`] that are kept for the next second.
const SPARE: usize = 256;

impl Series {
    /// Adds to the second under way. Returns true if it is the first to do so.
    pub(crate) fn add(
        &mut self,
        counters: &Counters,
        in_flight: i64,
        now_ms: u64,
        bench: &mut Bench,
    ) -> bool {
        self.in_flight += in_flight;
        self.used_ms = self.used_ms.max(now_ms);
        if counters.ended == 0 {
            return false;
        }
        let first = self.open.is_none();
        self.open.get_or_insert_with(|| bench.spare.pop().unwrap_or_default()).merge(counters);
        first
    }

    /// Ends the second that `at_ms` belongs to.
    pub(crate) fn seal(&mut self, at_ms: u64, bench: &mut Bench) {
        let Some(mut open) = self.open.take() else { return };
        self.totals.merge(&open);
        bench.packed.clear();
        pack(&open, &mut bench.packed);
        let number = at_ms / Window::TenSeconds.slot_ms();
        self.tiers[0].push_back(Slot { number, packed: Box::from(&bench.packed[..]) });
        self.tidy(at_ms, bench);
        if bench.spare.len() < SPARE {
            open.clear();
            bench.spare.push(open);
        }
    }

    /// Folds slots that are over into coarser ones, and drops those that no window reaches any more.
    pub(crate) fn tidy(&mut self, now_ms: u64, bench: &mut Bench) {
        for tier in 1..TIERS {
            self.fold(tier, now_ms, bench);
        }
        for (window, slots) in Window::ALL.into_iter().zip(&mut self.tiers) {
            let oldest = window.oldest_slot(now_ms);
            while slots.front().is_some_and(|slot| slot.number < oldest) {
                slots.pop_front();
            }
            if slots.is_empty() {
                slots.shrink_to_fit();
            }
        }
    }

    /// Makes the slots of a tier that are over from those of the finer tier.
    fn fold(&mut self, tier: usize, now_ms: u64, bench: &mut Bench) {
        let slot_ms = Window::ALL[tier].slot_ms();
        let finer_in_one = slot_ms / Window::ALL[tier - 1].slot_ms();
        let (from, under_way) = (self.folded[tier], now_ms / slot_ms);
        if from == under_way {
            return;
        }
        self.folded[tier] = under_way;
        let (finer, coarser) = self.tiers.split_at_mut(tier);
        let (finer, coarser) = (&finer[tier - 1], &mut coarser[0]);
        let first = finer.partition_point(|slot| slot.number < from * finer_in_one);
        let mut slots = finer.range(first..).peekable();
        while let Some(number) =
            slots.peek().map(|slot| slot.number / finer_in_one).filter(|&n| n < under_way)
        {
            bench.counters.clear();
            bench.packed.clear();
            while let Some(slot) = slots.next_if(|slot| slot.number / finer_in_one == number) {
                unpack(&slot.packed, &mut bench.counters);
            }
            pack(&bench.counters, &mut bench.packed);
            coarser.push_back(Slot { number, packed: Box::from(&bench.packed[..]) });
        }
    }

    /// Adds the totals since the beginning to `sum`.
    pub(crate) fn add_totals(&self, sum: &mut Counters) {
        sum.merge(&self.totals);
        if let Some(open) = &self.open {
            sum.merge(open);
        }
    }

    /// Adds the counters of a window to `sum`.
    pub(crate) fn add_window(&self, window: Window, now_ms: u64, sum: &mut Counters) {
        let mut from_ms = window.oldest_slot(now_ms) * window.slot_ms();
        for tier in (0..=window as usize).rev() {
            let slot_ms = Window::ALL[tier].slot_ms();
            for slot in self.tiers[tier].iter().filter(|slot| slot.number * slot_ms >= from_ms) {
                unpack(&slot.packed, sum);
            }
            // From the finer tiers, only what this one is not made of yet.
            from_ms = from_ms.max(self.folded[tier] * slot_ms);
        }
        if let Some(open) = &self.open {
            sum.merge(open);
        }
    }

    /// Returns the slots of a window that hold something, by number. The newest one is under way.
    pub(crate) fn slots(&self, window: Window, now_ms: u64) -> BTreeMap<u64, Counters> {
        let slot_ms = window.slot_ms();
        let mut from_ms = window.oldest_slot(now_ms) * slot_ms;
        let mut found: BTreeMap<u64, Counters> = BTreeMap::new();
        for tier in (0..=window as usize).rev() {
            let own_ms = Window::ALL[tier].slot_ms();
            for slot in self.tiers[tier].iter().filter(|slot| slot.number * own_ms >= from_ms) {
                unpack(&slot.packed, found.entry(slot.number * own_ms / slot_ms).or_default());
            }
            from_ms = from_ms.max(self.folded[tier] * own_ms);
        }
        if let Some(open) = &self.open {
            found.entry(now_ms / slot_ms).or_default().merge(open);
        }
        found
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.max(0) as u64
    }

    /// Returns true if nothing is under way, and the longest window has none of it.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        let longest = Window::Hour;
        self.in_flight == 0
            && self.open.is_none()
            && now_ms.saturating_sub(self.used_ms) > longest.length_ms() + longest.slot_ms()
    }

    /// Returns roughly the bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        let slots = self.tiers.iter().map(|slots| {
            slots.capacity() * size_of::<Slot>() + slots.iter().map(|slot| slot.packed.len()).sum::<usize>()
        });
        let open = self.open.as_ref().map_or(0, |open| size_of::<Counters>() + open.heap_bytes());
        size_of::<Series>() + self.totals.heap_bytes() + open + slots.sum::<usize>()
    }
}
