//! The record of a run: how often each invariant was checked, the trace, and the first violation.
//!
//! It is kept for each thread, since a simulation runs on one.

use std::cell::{Cell, RefCell};

thread_local! {
    static CHECKS: RefCell<Vec<(&'static str, u64)>> = const { RefCell::new(Vec::new()) };
    static TRACE: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static TRACING: Cell<bool> = const { Cell::new(false) };
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    static FIRST: RefCell<Option<Violation>> = const { RefCell::new(None) };
}

/// An invariant that did not hold.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) invariant: String,
    pub(crate) text: String,
}

/// Starts to count checks of these invariants.
pub fn begin_checks(names: &[&'static str]) {
    CHECKS.set(names.iter().map(|name| (*name, 0)).collect());
}

/// Counts a check of an invariant.
pub fn note(name: &'static str) {
    CHECKS.with_borrow_mut(|checks| match checks.iter_mut().find(|(known, _)| *known == name) {
        Some((_, count)) => *count += 1,
        None => checks.push((name, 1)),
    });
}

/// Returns how often each invariant was checked.
pub(crate) fn checks() -> Vec<(&'static str, u64)> {
    CHECKS.with_borrow(Clone::clone)
}

/// Records that an invariant does not hold. Only the first violation of a run is kept: others may follow from it.
///
/// # Panics
/// Always: the run is over. The violation is found even if the panic is caught.
pub fn violated(name: &str, text: String) -> ! {
    keep(name, &text);
    panic!("{name}: {text}");
}

/// Keeps a violation, unless there is one already.
pub(crate) fn keep(invariant: &str, text: &str) {
    FIRST.with_borrow_mut(|first| {
        first.get_or_insert_with(|| Violation { invariant: invariant.to_owned(), text: text.to_owned() });
    });
}

/// Takes the first violation.
pub(crate) fn take_violation() -> Option<Violation> {
    FIRST.take()
}

/// Sets whether a run is under way: panics in it are violations.
pub(crate) fn running(on: bool) {
    RUNNING.set(on);
}

/// Returns true if a run is under way on this thread.
pub(crate) fn is_running() -> bool {
    RUNNING.get()
}

/// Returns true if events are traced.
pub fn is_telling() -> bool {
    TRACING.get()
}

/// Starts or stops tracing, with an empty trace.
pub(crate) fn set_tracing(on: bool) {
    TRACING.set(on);
    TRACE.take();
}

/// Adds an event to the trace.
pub fn tell(text: String) {
    TRACE.with_borrow_mut(|story| story.push(text));
}

/// Takes the trace.
pub(crate) fn take_trace() -> Vec<String> {
    TRACE.take()
}
