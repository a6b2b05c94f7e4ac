//! The bridge between the two sides of one machine: the results of calls made through LuaJIT's FFI, and the host.
//!
//! The first fields are read from Lua by offset (`lua/base.lua` declares the same struct); a change here is a change
//! there. A function called from Lua gets the bridge's address, fills in its answer and returns; the answer is good
//! until the next call. It never calls back into Lua.

use std::ffi::c_void;
use std::rc::Rc;
use std::sync::Arc;

use crate::phase::Phase;
use crate::shdict::DictZone;

/// The host of a machine: time and the log.
pub(crate) trait World {
    /// Returns the milliseconds since the epoch, as of this turn of the event loop.
    fn now_ms(&self) -> u64;
    /// Reads the clock anew: `ngx.update_time()`.
    fn refresh_time(&self);
    /// Returns the seconds east of UTC, now.
    fn utc_offset_s(&self) -> i32;
    /// Returns whether messages of a level are logged, by nginx's numbers (0 stderr to 8 debug).
    fn logs(&self, level: u8) -> bool;
    /// Logs one message; `text` begins with `[lua]`.
    fn log(&self, level: u8, text: &[u8]);
    /// Logs one message without the request that it is about.
    fn log_apart(&self, level: u8, text: &[u8]);
}

/// The answers of FFI calls; Lua sees the first fields.
#[repr(C)]
pub(crate) struct Bridge {
    /// The bit of the phase that runs.
    pub(crate) phase: u32,
    /// The number of the request that runs, 0 outside requests.
    pub(crate) request: u32,
    /// Bytes of the answer; they lie in `buffer` or are `'static`.
    pub(crate) text: *const u8,
    pub(crate) text_len: usize,
    /// A number of the answer.
    pub(crate) number: f64,
    /// Other numbers of the answer.
    pub(crate) flags: u32,
    pub(crate) extra: u32,
    /// Set by Lua when the request that runs keeps something in Lua: `ngx.ctx`, globals of its own.
    pub(crate) touched: u32,
    _unused: u32,
    // Lua does not see the fields from here on.
    pub(crate) buffer: Vec<u8>,
    pub(crate) zones: Vec<Arc<DictZone>>,
    pub(crate) world: Rc<dyn World>,
    /// Matching steps that one regular expression may take; 0 for PCRE2's own limit.
    pub(crate) regex_match_limit: u32,
    /// The call that runs, which is the VM's and opaque here; null outside of calls.
    pub(crate) frame: *mut c_void,
}

impl Bridge {
    pub(super) fn new(world: Rc<dyn World>, zones: Vec<Arc<DictZone>>, regex_match_limit: u32) -> Bridge {
        Bridge {
            phase: Phase::Init as u32,
            request: 0,
            text: std::ptr::null(),
            text_len: 0,
            number: 0.0,
            flags: 0,
            extra: 0,
            touched: 0,
            _unused: 0,
            buffer: Vec::new(),
            zones,
            world,
            regex_match_limit,
            frame: std::ptr::null_mut(),
        }
    }

    /// Returns memory that a rare large answer has taken.
    pub(super) fn shrink(&mut self) {
        const KEPT: usize = 64 << 10;
        if self.buffer.capacity() > KEPT {
            self.buffer = Vec::new();
        }
    }

    /// Answers with text that lives as long as the program.
    pub(crate) fn answer(&mut self, text: &'static [u8]) {
        self.text = text.as_ptr();
        self.text_len = text.len();
    }

    /// Answers with the buffer's bytes.
    pub(crate) fn answer_buffer(&mut self) {
        self.text = self.buffer.as_ptr();
        self.text_len = self.buffer.len();
    }
}

/// Returns the bytes that Lua passed as pointer and length.
///
/// # Safety
/// `start` must point to `len` readable bytes, or `len` be 0, and they must outlive the use of the result: Lua keeps
/// the string alive during the call.
pub(crate) unsafe fn arg<'a>(start: *const u8, len: usize) -> &'a [u8] {
    if len == 0 {
        return b"";
    }
    // SAFETY: the caller vouches for it.
    unsafe { std::slice::from_raw_parts(start, len) }
}
