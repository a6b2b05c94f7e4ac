//! The memory of one Lua machine, and its limit.
//!
//! LuaJIT asks for every byte here (64-bit builds take any allocator since GC64), so a limit holds exactly: above it
//! the script gets "not enough memory". Machine code is not counted; LuaJIT bounds that itself (`maxmcode`).

use std::alloc::{Layout, alloc, dealloc, realloc};
use std::ffi::c_void;
use std::ptr;

use super::c_stack::StackLimits;
use super::watch::Watch;

/// The alignment of LuaJIT's objects, that of its own allocator (MALLOC_ALIGNMENT in lj_alloc.c). With a larger one,
/// our allocator would have to look for room for sizes that are no multiple of it.
const ALIGN: usize = 8;

/// The error of a script that wants the server to hold more than the limit allows.
pub(crate) const NO_ROOM: &str = "no memory: what the server holds for scripts has reached lua_memory_limit";

/// Counts and limits what one machine has allocated. It is LuaJIT's allocator argument, so code that runs
/// inside the machine can reach it.
#[repr(C)]
pub(crate) struct Budget {
    /// First: LuaJIT looks at it before calls from C (`luajit_guards.h`).
    pub(super) stack: StackLimits,
    used_bytes: usize,
    /// What the server holds for scripts outside of the machine.
    outside_bytes: usize,
    limit_bytes: usize,
    /// Whether the limit holds now. It does while a script runs, whose calls are protected; elsewhere LuaJIT would end
    /// the process when it runs out of memory.
    limited: bool,
    /// For the hook that stops a runaway script.
    pub(super) watch: std::sync::Arc<Watch>,
}

impl Budget {
    pub(super) fn new(limit_bytes: Option<usize>, watch: std::sync::Arc<Watch>) -> Budget {
        let stack = StackLimits::of_this_thread();
        Budget {
            stack,
            used_bytes: 0,
            outside_bytes: 0,
            limit_bytes: limit_bytes.unwrap_or(usize::MAX),
            limited: false,
            watch,
        }
    }

    pub(super) fn set_limited(&mut self, limited: bool) {
        self.limited = limited;
    }

    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Counts what the server holds for scripts: `now` bytes in place of `before`.
    pub(super) fn count_outside(&mut self, before: usize, now: usize) {
        self.outside_bytes = self.outside_bytes.saturating_sub(before).saturating_add(now);
    }

    /// Returns how many bytes more the server may hold for scripts.
    pub(super) fn room_outside(&self) -> usize {
        self.limit_bytes.saturating_sub(self.used_bytes).saturating_sub(self.outside_bytes)
    }

    /// Returns whether so much is used that garbage should be collected.
    pub(super) fn is_tight(&self) -> bool {
        self.used_bytes > self.limit_bytes / 4 * 3
    }
}

/// Allocates for LuaJIT (`lua_Alloc`): `new_bytes` of 0 frees, a null `block` allocates.
///
/// # Safety
/// Only LuaJIT calls it, with the `Budget` given to `lua_newstate` and blocks that came from here.
pub(super) unsafe extern "C" fn allocate(
    budget: *mut c_void,
    block: *mut c_void,
    old_bytes: usize,
    new_bytes: usize,
) -> *mut c_void {
    // SAFETY: LuaJIT passes back the pointer given to lua_newstate, which outlives the machine; the machine is used
    // by one thread, so no other reference to the budget is alive during the call.
    let budget = unsafe { &mut *budget.cast::<Budget>() };
    let old_bytes = if block.is_null() { 0 } else { old_bytes };
    let after = budget.used_bytes - old_bytes + new_bytes;
    if budget.limited
        && new_bytes > old_bytes
        && after.saturating_add(budget.outside_bytes) > budget.limit_bytes
    {
        return ptr::null_mut();
    }
    let layout = |bytes| {
        // SAFETY: the alignment is a power of two and LuaJIT never asks for anything near isize::MAX.
        unsafe { Layout::from_size_align_unchecked(bytes, ALIGN) }
    };
    // SAFETY: sizes are not zero where the allocator forbids it, and `block` was made here with `old_bytes`.
    let moved = unsafe {
        match (old_bytes, new_bytes) {
            (0, 0) => return ptr::null_mut(),
            (0, _) => alloc(layout(new_bytes)),
            (_, 0) => {
                dealloc(block.cast(), layout(old_bytes));
                ptr::null_mut()
            }
            _ => realloc(block.cast(), layout(old_bytes), new_bytes),
        }
    };
    if new_bytes == 0 || !moved.is_null() {
        budget.used_bytes = after;
    }
    moved.cast()
}
