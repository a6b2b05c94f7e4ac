//! Totals and windows of one group, server or key.
//!
//! Owns: one thing's numbers since the beginning and in each window. Must never: know its name.
//!
//! What comes in is added to `open`, the second that is under way. When the second is over, [`Series::seal`] adds it
//! to the totals and to the newest slot of each window; nothing else is ever touched, and a thing without traffic
//! costs neither time nor, after [`Series::forget`], memory.

use std::collections::VecDeque;

use crate::figures::Figures;
use crate::slot::{pack, unpack};
use crate::window::Window;

#[derive(Debug, Default)]
pub(crate) struct Series {
    totals: Figures,
    /// Not in the totals yet, nor in the windows. None unless something came in this second.
    open: Option<Box<Figures>>,
    /// For each of [`Window::ALL`], the slots that hold something, from the oldest on.
    slots: [VecDeque<Slot>; Window::ALL.len()],
    /// Begun and not ended. Below zero for moments: a request's end may be absorbed before another's beginning.
    in_flight: i64,
    /// When something last came in.
    used_ms: u64,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    packed: Box<[u8]>,
}

/// Memory that sealing works in, and that it hands back, so that busy seconds do not allocate anew.
#[derive(Debug, Default)]
pub(crate) struct Bench {
    figures: Figures,
    packed: Vec<u8>,
    /// Emptied, for the next open second of any series.
    #[expect(clippy::vec_box, reason = "the boxes are what is used again")]
    spare: Vec<Box<Figures>>,
}

/// How many emptied [`Figures`] are kept for the next second.
const SPARE: usize = 256;

impl Series {
    /// Adds to the second under way; says whether it is the first to do so.
    pub(crate) fn add(&mut self, figures: &Figures, in_flight: i64, now_ms: u64, bench: &mut Bench) -> bool {
        self.in_flight += in_flight;
        self.used_ms = self.used_ms.max(now_ms);
        if figures.ended == 0 {
            return false;
        }
        let first = self.open.is_none();
        self.open.get_or_insert_with(|| bench.spare.pop().unwrap_or_default()).merge(figures);
        first
    }

    /// The second that `at_ms` belongs to is over.
    pub(crate) fn seal(&mut self, at_ms: u64, bench: &mut Bench) {
        let Some(mut open) = self.open.take() else { return };
        self.totals.merge(&open);
        for (window, slots) in Window::ALL.into_iter().zip(&mut self.slots) {
            bench.add(slots, at_ms / window.slot_ms(), &open);
        }
        self.forget(at_ms);
        if bench.spare.len() < SPARE {
            open.clear();
            bench.spare.push(open);
        }
    }

    /// Drops the slots that no window reaches any more.
    pub(crate) fn forget(&mut self, now_ms: u64) {
        for (window, slots) in Window::ALL.into_iter().zip(&mut self.slots) {
            let oldest = window.oldest_slot(now_ms);
            while slots.front().is_some_and(|slot| slot.number < oldest) {
                slots.pop_front();
            }
            if slots.is_empty() {
                slots.shrink_to_fit();
            }
        }
    }

    /// Adds what is known since the beginning to `sum`.
    pub(crate) fn add_totals(&self, sum: &mut Figures) {
        sum.merge(&self.totals);
        if let Some(open) = &self.open {
            sum.merge(open);
        }
    }

    /// Adds what is known of a window to `sum`.
    pub(crate) fn add_window(&self, window: Window, now_ms: u64, sum: &mut Figures) {
        let oldest = window.oldest_slot(now_ms);
        for slot in &self.slots[window as usize] {
            if slot.number >= oldest {
                unpack(&slot.packed, sum);
            }
        }
        if let Some(open) = &self.open {
            sum.merge(open);
        }
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.max(0) as u64
    }

    /// Whether nothing is under way, and the longest window has nothing of it.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        let longest = Window::Hour;
        self.in_flight == 0
            && self.open.is_none()
            && now_ms.saturating_sub(self.used_ms) > longest.length_ms() + longest.slot_ms()
    }

    /// Bytes it holds, near enough.
    pub(crate) fn bytes(&self) -> usize {
        let slots = self.slots.iter().map(|slots| {
            slots.capacity() * size_of::<Slot>() + slots.iter().map(|slot| slot.packed.len()).sum::<usize>()
        });
        let open = self.open.as_ref().map_or(0, |open| size_of::<Figures>() + open.heap_bytes());
        size_of::<Series>() + self.totals.heap_bytes() + open + slots.sum::<usize>()
    }
}

impl Bench {
    fn add(&mut self, slots: &mut VecDeque<Slot>, number: u64, figures: &Figures) {
        self.packed.clear();
        match slots.back_mut() {
            // Time does not run backwards here, so a slot is either the newest or not there.
            Some(newest) if newest.number >= number => {
                self.figures.clear();
                unpack(&newest.packed, &mut self.figures);
                self.figures.merge(figures);
                pack(&self.figures, &mut self.packed);
                newest.packed = Box::from(&self.packed[..]);
            }
            _ => {
                pack(figures, &mut self.packed);
                slots.push_back(Slot { number, packed: Box::from(&self.packed[..]) });
            }
        }
    }
}
