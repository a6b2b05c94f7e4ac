//! An address that a thread listens on, across reloads.

use crate::context::generation::{Generation, Pinned};
use process::Address;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// An address, and its number in the configuration in force.
#[derive(Debug)]
pub(crate) struct ListenSocket {
    address: Address,
    /// The generation that `index` was looked up in.
    looked_up: Cell<u64>,
    index: Cell<Option<usize>>,
    /// The last generation that listened here, once none does any more. It is kept as long as a connection that was
    /// accepted here: what was accepted is answered.
    last: RefCell<Option<Pinned>>,
}

impl ListenSocket {
    /// Creates one that has not been looked up yet.
    pub(crate) fn new(address: Address) -> ListenSocket {
        ListenSocket {
            address,
            looked_up: Cell::new(u64::MAX),
            index: Cell::new(None),
            last: RefCell::default(),
        }
    }

    /// Returns the number of the address in a generation; `None` if that does not listen on it.
    pub(crate) fn listener(&self, generation: &Generation) -> Option<usize> {
        if self.looked_up.replace(generation.number) != generation.number {
            self.index.set(generation.listener(&self.address));
        }
        self.index.get()
    }

    /// Returns the generation and the listener of a request that begins now, when `current` is in force.
    pub(crate) fn serving(&self, current: Pinned) -> Option<(Pinned, usize)> {
        match self.listener(&current) {
            Some(listener) => Some((current, listener)),
            None => {
                let last = self.last.borrow().clone()?;
                let listener = last.listener(&self.address)?;
                Some((last, listener))
            }
        }
    }

    /// Notes that `last` was the last generation to listen here.
    pub(crate) fn give_up(&self, last: &Pinned) {
        self.last.replace(Some(Rc::clone(last)));
    }

    /// Returns true if the configuration in force no longer listens here.
    pub(crate) fn is_given_up(&self) -> bool {
        self.last.borrow().is_some()
    }
}
