//! The machine: loading, running, isolation, limits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::interrupt::{RunId, STOPPED};
use super::*;
use crate::shdict::DictZone;

/// A world whose time does not move, and which keeps what was logged.
pub(crate) struct Still {
    pub(crate) now_ms: Cell<u64>,
    pub(crate) logged: RefCell<Vec<(u8, String)>>,
}

impl World for Still {
    fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }
    fn refresh_time(&self) {
        self.now_ms.set(self.now_ms.get() + 5);
    }
    fn utc_offset_s(&self) -> i32 {
        3600
    }
    fn logs(&self, level: u8) -> bool {
        level <= 7
    }
    fn log_apart(&self, level: u8, text: &[u8]) {
        self.log(level, text);
    }
    fn log(&self, level: u8, text: &[u8]) {
        self.logged.borrow_mut().push((level, String::from_utf8_lossy(text).into_owned()));
    }
}

/// Returns a machine for a test, and its world.
pub(crate) fn machine(change: impl FnOnce(&mut MachineOptions)) -> (Machine, Rc<Still>) {
    let world = Rc::new(Still { now_ms: Cell::new(1_290_079_655_001), logged: RefCell::new(Vec::new()) });
    let mut options = MachineOptions {
        package_path: None,
        package_cpath: None,
        prefix: b"/p/".to_vec(),
        memory_limit_bytes: None,
        zones: vec![
            Arc::new(DictZone::new(b"cats", 102_400, 1)),
            Arc::new(DictZone::new(b"dogs", 102_400, 1)),
        ],
        faces: Vec::new(),
        regex_cache_entries: 1024,
        regex_match_limit: 0,
        private_globals: true,
        areas: &crate::api::AREAS,
        worker: WorkerIdentity { id: 1, count: 4, pid: 77 },
        world: world.clone(),
    };
    change(&mut options);
    (Machine::open(options).unwrap_or_else(|error| panic!("{}", String::from_utf8_lossy(&error.text))), world)
}

const NAME: &[u8] = b"content_by_lua(nginx.conf:9)";

/// Runs code to its end and gives its first result, or its error.
pub(crate) fn run(vm: &Machine, code: &str) -> Result<String, String> {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let chunk = vm.load_inline(code.as_bytes(), NAME).map_err(|error| shown(&error.text))?;
    let result = vm.call(chunk, Phase::Content, 1, |value| shown(value.text().unwrap_or(b"nil")));
    result.map_err(|error| shown(&error.text))
}

fn failure(step: Resumed) -> String {
    match step {
        Resumed::Failed(error) => String::from_utf8(error.text).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn code_runs_and_gives_its_first_result() {
    let (vm, _) = machine(|_| ());
    assert_eq!(run(&vm, "return 1 + 1").unwrap(), "2");
    assert_eq!(run(&vm, "return 'a' .. 'b', 2").unwrap(), "ab");
    assert_eq!(run(&vm, "return true").unwrap(), "nil");
    assert_eq!(run(&vm, "local x = ... return x").unwrap(), "nil");
    assert_eq!(run(&vm, "return 1 -- a comment at the end").unwrap(), "1");
}

#[test]
fn errors_read_as_in_ngx_lua() {
    let (vm, _) = machine(|_| ());
    assert_eq!(
        run(&vm, "\n local x = \n").unwrap_err(),
        "content_by_lua(nginx.conf:9):3: unexpected symbol near '<eof>'"
    );
    assert_eq!(
        run(&vm, "\n\n error('boom')").unwrap_err(),
        "content_by_lua(nginx.conf:9):3: boom\nstack traceback:\n\t[C]: in function 'error'\n\t\
         content_by_lua(nginx.conf:9):3: in main chunk"
    );
    let chunk = vm.load_inline(b"\n local function f() error('boom') end\n f()", NAME).unwrap();
    let mut coroutine = vm.start(chunk);
    let text = failure(vm.resume(&mut coroutine, Phase::Content, 1));
    vm.finish(coroutine);
    assert_eq!(
        text,
        "lua entry thread aborted: runtime error: content_by_lua(nginx.conf:9):2: boom\nstack traceback:\n\
         coroutine 0:\n\t[C]: in function 'error'\n\tcontent_by_lua(nginx.conf:9):2: in function 'f'\n\t\
         content_by_lua(nginx.conf:9):3: in main chunk"
    );
    let chunk = vm.load_file(b"/p/c.lua", b"#!/usr/bin/lua\nerror({})").unwrap();
    let mut coroutine = vm.start(chunk);
    let text = failure(vm.resume(&mut coroutine, Phase::Content, 1));
    vm.finish(coroutine);
    assert_eq!(
        text,
        "lua entry thread aborted: runtime error: unknown reason\nstack traceback:\ncoroutine 0:\n\t\
         [C]: in function 'error'\n\t/p/c.lua:2: in main chunk"
    );
}

#[test]
fn an_ended_coroutine_is_used_again() {
    let (vm, _) = machine(|_| ());
    let chunk = vm.load_inline(b"local x = 1 return x", NAME).unwrap();
    let mut first = vm.start(chunk);
    assert_eq!(vm.resume(&mut first, Phase::Content, 1), Resumed::Done);
    let state = first.state;
    vm.finish(first);
    for _ in 0..3 {
        let mut next = vm.start(chunk);
        assert_eq!(next.state, state);
        assert_eq!(vm.resume(&mut next, Phase::Content, 1), Resumed::Done);
        vm.finish(next);
    }
}

#[test]
fn a_wait_passes_through_coroutines_of_the_script() {
    let (vm, world) = machine(|_| ());
    run(
        &vm,
        "local support
         for i = 1, 10 do
             local name, value = debug.getupvalue(coroutine.resume, i)
             if not name then break end
             if name == 'pass' then support = value end
         end
         for i = 1, 10 do
             local name, value = debug.getupvalue(support, i)
             if name == 'TOKEN' then package.loaded.token = value end
         end",
    )
    .unwrap();
    let code = b"local token = require 'token'
        local native = coroutine.yield
        local inner = coroutine.create(function(a)
            local got = native(token)
            local b = coroutine.yield(a + 1)
            return a + b + got
        end)
        local deep = coroutine.wrap(function() return coroutine.resume(inner, 1) end)
        local ok, first = deep()
        local ok2, last = coroutine.resume(inner, 10)
        ngx.log(ngx.ERR, first, ' ', last, ' ', coroutine.status(inner))";
    let chunk = vm.load_inline(code, NAME).unwrap();
    let mut coroutine = vm.start(chunk);
    assert_eq!(vm.resume(&mut coroutine, Phase::Content, 1), Resumed::Waiting);
    // SAFETY: a coroutine that waits has room for a value.
    unsafe { ffi::lua_pushinteger(coroutine.state, 100) };
    let step = vm.resume_with(&mut coroutine, Phase::Content, 1, 1, Around::default);
    assert_eq!(step, Resumed::Done);
    vm.finish(coroutine);
    let logged = world.logged.borrow();
    assert_eq!(logged[0].1, "[lua] content_by_lua(nginx.conf:9):11: 2 111 dead");
}

#[test]
fn one_request_never_sees_anothers_globals() {
    let (vm, world) = machine(|_| ());
    let shared = vm.load_inline(b"for_all = 7", b"init_by_lua(nginx.conf:3)").unwrap();
    vm.call(shared, Phase::Init, 0, |_| ()).unwrap();
    let count = vm.load_inline(b"count = (count or 0) + 1 return count .. ' ' .. for_all", NAME).unwrap();
    let show =
        |request| vm.call(count, Phase::Content, request, |value| value.text().map(<[u8]>::to_vec)).unwrap();
    assert_eq!(show(1).as_deref(), Some(&b"1 7"[..]));
    assert_eq!(show(1).as_deref(), Some(&b"2 7"[..]));
    assert_eq!(show(2).as_deref(), Some(&b"1 7"[..]));
    vm.forget_request(1);
    let forgotten = vm.call(count, Phase::Content, 1, |value| value.text().map(<[u8]>::to_vec)).unwrap();
    assert_eq!(forgotten.as_deref(), Some(&b"1 7"[..]));
    let logged = world.logged.borrow();
    assert_eq!(logged[0].0, 5);
    assert_eq!(
        logged[0].1,
        "[lua] _G write guard:12: __newindex(): writing a global Lua variable ('count') which may lead to race \
         conditions between concurrent requests, so prefer the use of 'local' variables\nstack traceback:\n\t\
         content_by_lua(nginx.conf:9):1: in main chunk"
    );
}

#[test]
fn globals_made_in_init_and_by_g_are_shared() {
    let (vm, world) = machine(|_| ());
    for expected in ["1", "2"] {
        let code = "_G.count = (_G.count or 0) + 1 return count";
        assert_eq!(run(&vm, code).unwrap(), expected);
    }
    assert_eq!(run(&vm, "count = 10 return _G.count").unwrap(), "10");
    assert_eq!(run(&vm, "loadstring('leak = 1')() return rawget(_G, 'leak')").unwrap(), "nil");
    assert_eq!(world.logged.borrow().len(), 1, "{:?}", world.logged.borrow());
}

#[test]
fn globals_are_shared_without_private_globals() {
    let (vm, _) = machine(|options| options.private_globals = false);
    for expected in ["1", "2", "3"] {
        let chunk = vm.load_inline(b"count = (count or 0) + 1 return count", NAME).unwrap();
        let counted = vm.call(chunk, Phase::Content, 9, |value| value.text().map(<[u8]>::to_vec)).unwrap();
        assert_eq!(counted.as_deref(), Some(expected.as_bytes()));
    }
}

#[test]
fn modules_are_found_and_their_globals_are_for_all() {
    let folder = std::env::temp_dir().join(format!("pointsman-lua-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("shop.lua"), "shop_loaded = 5 return { price = 3 }").unwrap();
    let (vm, _) = machine(|options| {
        options.prefix = format!("{}/", folder.display()).into_bytes();
        options.package_path = Some(b"$prefix?.lua;;".to_vec());
    });
    let chunk = vm.load_inline(b"return require('shop').price + shop_loaded", NAME).unwrap();
    for request in [1, 2] {
        let sum = vm.call(chunk, Phase::Content, request, |value| value.text().map(<[u8]>::to_vec)).unwrap();
        assert_eq!(sum.as_deref(), Some(&b"8"[..]));
    }
    let path = run(&vm, "return package.path").unwrap();
    assert!(path.contains("/usr/share/lua/5.1/?/init.lua") && path.contains("./?.lua"), "{path}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn c_modules_find_luas_symbols_in_the_program() {
    let (vm, _) = machine(|_| ());
    match run(&vm, "return require('cjson').encode({1, 2, {a = ngx.null}})") {
        Ok(text) => assert_eq!(text, "[1,2,{\"a\":null}]"),
        // Without the module on this machine there is nothing to find out.
        Err(text) => assert!(text.contains("module 'cjson' not found"), "{text}"),
    }
}

#[test]
fn a_script_over_the_memory_limit_fails_and_the_machine_serves_on() {
    let (vm, _) = machine(|options| options.memory_limit_bytes = Some(16 << 20));
    let hungry = "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end";
    assert_eq!(run(&vm, hungry).unwrap_err(), "not enough memory");
    assert_eq!(run(&vm, "return 1").unwrap(), "1");
    assert!(vm.used_bytes() < 16 << 20);
    assert_eq!(run(&vm, "return #('x'):rep(1e6)").unwrap(), "1000000");
}

/// Lets a watchdog stop `code`, and gives its error.
fn stopped(vm: &Machine, code: &str) -> String {
    let interrupter = vm.interrupter();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // As soon as a run has been seen often enough, or for long enough, to be compiled, it is stopped; and again,
            // as a watchdog does it.
            let (mut seen, mut since) = (0u64, None);
            while !ended.load(Ordering::Acquire) {
                if let Some(run) = interrupter.running() {
                    seen += 1;
                    if seen > 20_000 || since.get_or_insert_with(Instant::now).elapsed().as_millis() > 50 {
                        interrupter.stop(run);
                        std::thread::park_timeout(Duration::from_millis(20));
                    }
                }
                std::thread::yield_now();
            }
        });
        let result = run(vm, code);
        ended.store(true, Ordering::Release);
        result.unwrap_err()
    })
}

#[test]
fn a_runaway_loop_is_stopped_also_when_it_is_compiled() {
    let (vm, _) = machine(|_| ());
    for code in [
        "while true do end",
        "local x = 0 while true do x = x + 1 end",
        "local function f() return f() end f()",
        "while true do pcall(function() while true do end end) end",
        "jit.off() while true do end",
    ] {
        let text = stopped(&vm, code);
        assert!(text.contains(STOPPED), "{code}: {text}");
        assert_eq!(run(&vm, "local x = 0 for i = 1, 1e6 do x = x + i end return x").unwrap(), "500000500000");
    }
}

#[test]
fn a_stop_that_comes_too_late_stops_nothing() {
    let (vm, _) = machine(|_| ());
    let interrupter = vm.interrupter();
    run(&vm, "return 1").unwrap();
    assert_eq!(interrupter.running(), None);
    interrupter.stop(RunId(1));
    assert_eq!(run(&vm, "local x = 0 for i = 1, 1000 do x = x + 1 end return x").unwrap(), "1000");
    drop(vm);
    interrupter.stop(RunId(3));
}

#[test]
fn a_watchdog_stops_only_what_runs_too_long() {
    let (vm, _) = machine(|_| ());
    let watched = Watched::default();
    watched.add(&vm.interrupter());
    let mut watchdog = Watchdog::new(watched, 100);
    assert!(!watchdog.look(0));
    let text = std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut now_ms = 1;
            while !watchdog.look(now_ms) {
                now_ms += 1;
                std::thread::yield_now();
            }
            assert!(now_ms > 100);
        });
        run(&vm, "while true do end").unwrap_err()
    });
    assert!(text.contains(STOPPED), "{text}");
}

#[test]
fn scripts_are_compiled_to_machine_code() {
    let (vm, _) = machine(|_| ());
    let traces = run(
        &vm,
        "local n = 0
         require('jit.util')
         local birds = ngx.shared.cats
         birds:set('k', 'v')
         for i = 1, 2000 do n = n + #birds:get('k') + #ngx.escape_uri('a b') end
         local info = require('jit.util').traceinfo
         local count = 0
         while info(count + 1) do count = count + 1 end
         return count",
    )
    .unwrap();
    assert_ne!(traces, "0");
}
