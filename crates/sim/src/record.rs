//! What one run of a world leaves behind: what was checked how often, what happened, and what was found wrong first.
//!
//! Must never: decide whether a run goes on. It is kept for each thread, since a world lives on one.

use std::cell::{Cell, RefCell};

thread_local! {
    static CHECKS: RefCell<Vec<(&'static str, u64)>> = const { RefCell::new(Vec::new()) };
    static STORY: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static TELLING: Cell<bool> = const { Cell::new(false) };
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    static FIRST: RefCell<Option<Violation>> = const { RefCell::new(None) };
}

/// An invariant that did not hold.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) invariant: String,
    pub(crate) text: String,
}

/// Prepares for invariants of these names.
pub fn begin_checks(names: &[&'static str]) {
    CHECKS.set(names.iter().map(|name| (*name, 0)).collect());
}

/// An invariant is looked at.
pub fn note(name: &'static str) {
    CHECKS.with_borrow_mut(|checks| match checks.iter_mut().find(|(known, _)| *known == name) {
        Some((_, count)) => *count += 1,
        None => checks.push((name, 1)),
    });
}

/// How often each invariant was looked at.
pub(crate) fn checks() -> Vec<(&'static str, u64)> {
    CHECKS.with_borrow(Clone::clone)
}

/// An invariant does not hold. Only the first of a run is kept: what follows may follow from it.
///
/// # Panics
/// Always: the run is over. A panic that somebody catches on the way is found all the same.
pub fn violated(name: &str, text: String) -> ! {
    keep(name, &text);
    panic!("{name}: {text}");
}

/// Keeps a violation, unless there is one.
pub(crate) fn keep(invariant: &str, text: &str) {
    FIRST.with_borrow_mut(|first| {
        first.get_or_insert_with(|| Violation { invariant: invariant.to_owned(), text: text.to_owned() });
    });
}

/// What was found wrong first; forgets it.
pub(crate) fn take_violation() -> Option<Violation> {
    FIRST.take()
}

/// A run begins, or is over: panics in it are violations.
pub(crate) fn running(on: bool) {
    RUNNING.set(on);
}

/// Is a run under way on this thread?
pub(crate) fn is_running() -> bool {
    RUNNING.get()
}

/// Does somebody listen?
pub fn is_telling() -> bool {
    TELLING.get()
}

/// Says whether somebody listens from now on.
pub(crate) fn listen(on: bool) {
    TELLING.set(on);
    STORY.take();
}

/// Something happened.
pub fn tell(text: String) {
    STORY.with_borrow_mut(|story| story.push(text));
}

/// What was told; forgets it.
pub(crate) fn take_story() -> Vec<String> {
    STORY.take()
}
