//! Compiled patterns and their matches.

use std::ffi::{c_int, c_void};
use std::ptr;

use pcre2_sys as pcre;

use super::errors;

/// How a pattern is compiled and matched; `lua/regex.lua` makes the bits from the letters of `ngx.re`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Flags(pub u32);

impl Flags {
    /// `a`: only at the start of the search.
    pub(crate) const ANCHORED: Flags = Flags(1);
    /// `d`: the longest match, without groups.
    pub(crate) const DFA: Flags = Flags(1 << 1);
    /// `D`: names may be used twice.
    pub(crate) const DUPLICATE_NAMES: Flags = Flags(1 << 2);
    /// `i`
    pub(crate) const CASELESS: Flags = Flags(1 << 3);
    /// `j`: compile to machine code.
    pub(crate) const JIT: Flags = Flags(1 << 4);
    /// `J`: as JavaScript reads escapes and unset groups.
    pub(crate) const JAVASCRIPT: Flags = Flags(1 << 5);
    /// `m`
    pub(crate) const MULTILINE: Flags = Flags(1 << 6);
    /// `s`
    pub(crate) const DOTALL: Flags = Flags(1 << 7);
    /// `u`: UTF-8, checked.
    pub(crate) const UTF8: Flags = Flags(1 << 8);
    /// `U`: UTF-8, not checked.
    pub(crate) const UTF8_UNCHECKED: Flags = Flags(1 << 9);
    /// `x`
    pub(crate) const EXTENDED: Flags = Flags(1 << 10);

    /// Returns whether `flag` is set.
    pub(crate) fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    fn compile_options(self) -> u32 {
        let table = [
            (Flags::ANCHORED, pcre::PCRE2_ANCHORED),
            (Flags::DUPLICATE_NAMES, pcre::PCRE2_DUPNAMES),
            (Flags::CASELESS, pcre::PCRE2_CASELESS),
            (Flags::JAVASCRIPT, pcre::PCRE2_ALT_BSUX | pcre::PCRE2_MATCH_UNSET_BACKREF),
            (Flags::MULTILINE, pcre::PCRE2_MULTILINE),
            (Flags::DOTALL, pcre::PCRE2_DOTALL),
            (Flags::UTF8, pcre::PCRE2_UTF),
            // The pattern itself is still checked: it comes once, and a broken one would be undefined.
            (Flags::UTF8_UNCHECKED, pcre::PCRE2_UTF),
            (Flags::EXTENDED, pcre::PCRE2_EXTENDED),
        ];
        table.iter().filter(|(flag, _)| self.has(*flag)).fold(0, |options, (_, option)| options | option)
    }
}

/// The working space of a DFA match, in `int`s; ngx_lua's `NGX_LUA_RE_DFA_MODE_WORKSPACE_COUNT`.
const DFA_WORKSPACE: usize = 100;

/// A compiled pattern. The first fields are read from Lua, which declares the same struct.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Regex {
    /// Start and end of each group of the last match, `usize::MAX` for an unset group.
    offsets: *const usize,
    /// Groups beside the whole match; 0 in DFA mode.
    groups: u32,
    name_count: u32,
    /// `name_count` entries of `name_entry_len` bytes: a big-endian group number and a NUL-terminated name.
    name_entry_len: u32,
    names: *const u8,
    // Lua does not see the fields from here on.
    code: *mut pcre::pcre2_code_8,
    data: *mut pcre::pcre2_match_data_8,
    context: *mut pcre::pcre2_match_context_8,
    flags: Flags,
    /// Whether it was compiled to machine code.
    jitted: bool,
    workspace: Box<[c_int]>,
}

impl Regex {
    /// Compiles `pattern`; a `match_limit` of 0 leaves PCRE2's own. The error is ngx_lua's text.
    pub(crate) fn compile(pattern: &[u8], flags: Flags, match_limit: u32) -> Result<Regex, Vec<u8>> {
        let mut error = 0;
        let mut error_at = 0;
        // SAFETY: the pattern is `len` readable bytes; PCRE2 copies what it needs.
        let code = unsafe {
            pcre::pcre2_compile_8(
                pattern.as_ptr(),
                pattern.len(),
                flags.compile_options(),
                &mut error,
                &mut error_at,
                ptr::null_mut(),
            )
        };
        if code.is_null() {
            return Err(compile_error(pattern, error, error_at));
        }
        // SAFETY: the code is valid; the contexts and the data are freed in `drop`.
        unsafe {
            let data = match flags.has(Flags::DFA) {
                true => pcre::pcre2_match_data_create_8(1, ptr::null_mut()),
                false => pcre::pcre2_match_data_create_from_pattern_8(code, ptr::null_mut()),
            };
            let context = pcre::pcre2_match_context_create_8(ptr::null_mut());
            let workspace = if flags.has(Flags::DFA) { DFA_WORKSPACE } else { 0 };
            let mut regex = Regex {
                offsets: ptr::null(),
                groups: 0,
                name_count: 0,
                name_entry_len: 0,
                names: ptr::null(),
                code,
                data,
                context,
                flags,
                jitted: false,
                workspace: vec![0; workspace].into_boxed_slice(),
            };
            if data.is_null() || context.is_null() {
                return Err(b"no memory".to_vec());
            }
            if match_limit > 0 && !flags.has(Flags::DFA) {
                pcre::pcre2_set_match_limit_8(context, match_limit);
            }
            if flags.has(Flags::JIT) && !flags.has(Flags::DFA) {
                // A pattern that cannot be compiled to machine code is interpreted.
                regex.jitted = pcre::pcre2_jit_compile_8(code, pcre::PCRE2_JIT_COMPLETE) == 0;
            }
            regex.offsets = pcre::pcre2_get_ovector_pointer_8(data);
            if !flags.has(Flags::DFA) {
                regex.groups = regex.info(pcre::PCRE2_INFO_CAPTURECOUNT);
            }
            regex.name_count = regex.info(pcre::PCRE2_INFO_NAMECOUNT);
            regex.name_entry_len = regex.info(pcre::PCRE2_INFO_NAMEENTRYSIZE);
            let names: *mut *const u8 = &mut regex.names;
            pcre::pcre2_pattern_info_8(code, pcre::PCRE2_INFO_NAMETABLE, names.cast::<c_void>());
            Ok(regex)
        }
    }

    /// Returns whether it was compiled to machine code.
    pub(crate) fn is_jitted(&self) -> bool {
        self.jitted
    }

    /// Looks for a match from byte `at` on, and returns the number of its groups, the whole match included, or PCRE 1's
    /// error number. The offsets are valid until the next call.
    pub(crate) fn exec(&mut self, subject: &[u8], at: usize) -> Result<Option<usize>, i32> {
        if at > subject.len() {
            return Ok(None);
        }
        let options = if self.flags.has(Flags::UTF8_UNCHECKED) { pcre::PCRE2_NO_UTF_CHECK } else { 0 };
        // SAFETY: code, data, context and workspace are this regex's own; the subject is `len` readable bytes and `at`
        // lies within. With UTF8_UNCHECKED the script vouches for its own bytes, as ngx_lua's `U` documents.
        let found = unsafe {
            if self.flags.has(Flags::DFA) {
                pcre::pcre2_dfa_match_8(
                    self.code,
                    subject.as_ptr(),
                    subject.len(),
                    at,
                    options,
                    self.data,
                    self.context,
                    self.workspace.as_mut_ptr(),
                    self.workspace.len(),
                )
            } else {
                pcre::pcre2_match_8(
                    self.code,
                    subject.as_ptr(),
                    subject.len(),
                    at,
                    options,
                    self.data,
                    self.context,
                )
            }
        };
        match found {
            pcre::PCRE2_ERROR_NOMATCH => Ok(None),
            // In DFA mode, 0 means that there was no room for shorter matches, which are of no interest.
            0 => Ok(Some(1)),
            1.. => Ok(Some(found as usize)),
            error => Err(errors::exec_number(error)),
        }
    }

    /// Returns the range of group `number` in the last match.
    pub(crate) fn group(&self, number: usize) -> Option<(usize, usize)> {
        if number > self.groups as usize {
            return None;
        }
        // SAFETY: the match data has a pair for the whole match and for every group.
        let (from, to) = unsafe { (*self.offsets.add(number * 2), *self.offsets.add(number * 2 + 1)) };
        (from != usize::MAX).then_some((from, to))
    }

    fn info(&self, what: u32) -> u32 {
        let mut number = 0u32;
        let place: *mut u32 = &mut number;
        // SAFETY: every `what` asked for here is answered with a uint32_t.
        unsafe { pcre::pcre2_pattern_info_8(self.code, what, place.cast::<c_void>()) };
        number
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: made in `compile`, freed once; PCRE2 ignores null pointers.
        unsafe {
            pcre::pcre2_match_data_free_8(self.data);
            pcre::pcre2_match_context_free_8(self.context);
            pcre::pcre2_code_free_8(self.code);
        }
    }
}

fn compile_error(pattern: &[u8], error: c_int, at: usize) -> Vec<u8> {
    let mut buffer = [0u8; 256];
    let words: &[u8] = match errors::compile_text(error) {
        Some(words) => words,
        None => {
            // SAFETY: the buffer is as long as said; PCRE2 writes at most that and returns the length.
            let len = unsafe { pcre::pcre2_get_error_message_8(error, buffer.as_mut_ptr(), buffer.len()) };
            &buffer[..usize::try_from(len).unwrap_or(0)]
        }
    };
    let mut text = [b"pcre_compile() failed: ", words, b" in \"", pattern, b"\""].concat();
    if at < pattern.len() {
        text.extend_from_slice(b" at \"");
        text.extend_from_slice(&pattern[at..]);
        text.push(b'"');
    }
    // ngx_lua writes into a buffer of 128 bytes.
    text.truncate(127);
    text
}
