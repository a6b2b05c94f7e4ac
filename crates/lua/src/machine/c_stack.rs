//! The C stack of the thread that runs a machine: how far calls from C into Lua may go down.
//!
//! A Lua function that calls another takes no C stack. A C function that calls Lua back does (`string.gsub` some 9 KB
//! for each level), and so does a coroutine that resumes another. `luajit_guards.h` has each such call look at the
//! limits that are found here.

use std::mem::MaybeUninit;

/// Kept free for C functions that call no Lua: a regular expression's 32 KiB, the engine's filters, the parser.
const RESERVE: usize = 384 << 10;
/// Kept free of that for what an error handler may call.
const HANDLER_RESERVE: usize = 256 << 10;
/// The most that is used, however large the stack is.
const MOST: usize = 16 << 20;
/// The share that is used if the system does not say how large the stack is.
const UNKNOWN: usize = 512 << 10;

/// Addresses below which no call into Lua begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(super) struct StackLimits {
    /// Calls from below it fail. `luajit_guards.h` reads this.
    pub(super) limit: usize,
    /// The same for calls that an error handler makes; read there too.
    handler_limit: usize,
}

impl StackLimits {
    /// Returns those of the thread that runs.
    pub(super) fn of_this_thread() -> StackLimits {
        let here = address_here();
        let low =
            lowest_address().unwrap_or(here.saturating_sub(UNKNOWN + RESERVE)).max(here.saturating_sub(MOST));
        StackLimits { limit: low + RESERVE, handler_limit: low + HANDLER_RESERVE }
    }

    /// Returns whether a call may begin here.
    pub(super) fn have_room(self) -> bool {
        address_here() >= self.limit
    }
}

#[inline(never)]
fn address_here() -> usize {
    let local = 0u8;
    (&raw const local).addr()
}

/// Returns the lowest address of the thread's stack.
fn lowest_address() -> Option<usize> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut low, mut len) = (std::ptr::null_mut(), 0);
    // SAFETY: the attributes are initialised if the first call succeeds, and destroyed then.
    let known = unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return None;
        }
        let known = libc::pthread_attr_getstack(attributes.as_ptr(), &mut low, &mut len) == 0;
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        known
    };
    known.then(|| low.addr())
}

#[cfg(test)]
mod tests {
    use crate::machine::tests::{machine, run};

    /// Each recurses without end through C; the first result is the error's text.
    const RECURSIONS: [(&str, &str); 14] = [
        ("gsub", "local function f() return (string.gsub('x', 'x', f)) end"),
        ("sort", "local function f() table.sort({1, 2, 3}, function() f() return false end) end"),
        (
            "resume",
            "local function f() local ok, err = coroutine.resume(coroutine.create(f)) if not ok then error(err, 0) end end",
        ),
        ("wrap", "local function f() return coroutine.wrap(f)() end"),
        (
            "resume and gsub",
            "local function f() string.gsub('x', 'x', function() coroutine.wrap(f)() end) end",
        ),
        ("load", "local function f() assert(load(function() f() end)) end"),
        (
            "require",
            "local function f() local name = 'm' .. math.random() package.preload[name] = f require(name) end",
        ),
        (
            "tostring in a log",
            "local function f() ngx.log(ngx.ERR, setmetatable({}, { __tostring = function() f() return '' end })) end",
        ),
        ("ngx.re.gsub", "local function f() ngx.re.gsub('x', 'x', function() f() return 'y' end) end"),
        ("ngx.re.sub", "local function f() ngx.re.sub('x', 'x', function() f() return 'y' end) end"),
        (
            "a C function that calls back",
            "local ffi = require 'ffi' pcall(ffi.cdef, [[void qsort(void *, size_t, size_t, int (*)(const void *, const void *));]]) \
             local list = ffi.new('int[4]', 4, 3, 2, 1) local back \
             local function f() ffi.C.qsort(list, 4, 4, back) end \
             back = ffi.cast('int (*)(const void *, const void *)', function() f() return 0 end)",
        ),
        (
            "__index",
            "local t = setmetatable({}, { __index = function(t, k) return t[k .. 'x'] end }) local function f() return t.x end",
        ),
        (
            "__lt in a sort",
            "local mt = {} local function new() return setmetatable({}, mt) end \
             local function f() table.sort({ new(), new() }) end mt.__lt = function() f() return false end",
        ),
        ("pcall", "local function f() local ok, err = pcall(f) if not ok then error(err, 0) end end"),
    ];

    #[test]
    fn recursion_through_c_is_an_error_of_the_script() {
        let (vm, _) = machine(|_| ());
        for (what, code) in RECURSIONS {
            let code = format!("{code} local ok, err = pcall(f) return tostring(ok) .. ' ' .. tostring(err)");
            let result = run(&vm, &code).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(
                result.starts_with("false ") && result.contains("stack overflow"),
                "{what}: {:.400}",
                result
            );
            assert_eq!(run(&vm, "return 1 + 1").unwrap(), "2", "{what}");
        }
    }

    #[test]
    fn a_handler_that_recurses_comes_to_an_end() {
        let (vm, _) = machine(|_| ());
        for handler in [
            "xpcall(function() local x = nil; return x.y end, h)",
            "string.gsub('x', 'x', h)",
            "error('again')",
        ] {
            let code = format!("local function h() {handler} end return tostring(xpcall(error, h))");
            assert_eq!(run(&vm, &code).unwrap(), "false", "{handler}");
            assert_eq!(run(&vm, "return 1 + 1").unwrap(), "2");
        }
    }

    #[test]
    fn an_error_of_depth_reaches_the_log_with_its_place() {
        let (vm, _) = machine(|_| ());
        let error = run(&vm, "local function f() return (string.gsub('x', 'x', f)) end f()").unwrap_err();
        assert!(error.starts_with("content_by_lua(nginx.conf:9):1: C stack overflow"), "{error:.400}");
        assert!(error.contains("in function 'gsub'"), "{error:.400}");
    }

    #[test]
    fn deep_sources_and_patterns_are_refused() {
        let (vm, _) = machine(|_| ());
        for source in [
            "('('):rep(1e5)",
            "('{'):rep(1e5)",
            "('function() '):rep(1e5)",
            "('not '):rep(1e5)",
            "'x=' .. ('a..'):rep(1e5) .. 'a'",
        ] {
            assert_eq!(
                run(&vm, &format!("return type((load('return ' .. {source})))")).unwrap(),
                "nil",
                "{source}"
            );
        }
        for pattern in ["('('):rep(1e5)", "('(a'):rep(1e5)", "('a?'):rep(1e5) .. ('a'):rep(1e5)"] {
            let code = format!("return tostring(pcall(string.find, ('a'):rep(1e5), {pattern}))");
            assert_eq!(run(&vm, &code).unwrap(), "false", "{pattern}");
        }
    }
}
