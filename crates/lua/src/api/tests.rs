//! The functions as Lua code sees them. What is expected was read off nginx 1.22.1 with ngx_lua 0.10.23, or is in
//! ngx_lua's documentation.

use mlua_sys as ffi;
use mlua_sys::lua_State;

use super::{AREAS, console};
use crate::machine::stack;
use crate::machine::tests::{machine, run};

/// Runs each piece of code and compares what it returns, or how it fails, up to the traceback.
fn check(cases: &[(&str, &str)]) {
    let (vm, _) = machine(|_| ());
    for (code, expected) in cases {
        let wrapped = format!(
            "local function show(...) local t = {{}} for i = 1, select('#', ...) do t[i] = tostring((select(i, ...))) end \
             return table.concat(t, ' ') end {code}"
        );
        let outcome = match run(&vm, &wrapped) {
            Ok(text) => text,
            Err(text) => format!("error: {}", text.split("\nstack traceback").next().unwrap_or_default()),
        };
        assert_eq!(outcome, *expected, "{code}");
    }
}

#[test]
fn every_function_in_the_tables_is_there_and_no_other() {
    let (vm, _) = machine(|_| ());
    for function in AREAS.iter().flat_map(|area| area.functions) {
        let path = function.name.replace("DICT:", "ngx.shared.cats.");
        assert_eq!(run(&vm, &format!("return type({path})")).unwrap(), "function", "{}", function.name);
    }
    let known: Vec<String> = AREAS
        .iter()
        .flat_map(|area| area.functions)
        .map(|function| format!("['{}']=1", function.name.replace("DICT:", "ngx.shared.cats.")))
        .collect();
    let unlisted = run(
        &vm,
        &format!(
            "local known = {{{}}} local out = {{}}
             local function walk(path, t)
                 for k, v in pairs(t) do
                     local name = path .. '.' .. tostring(k)
                     if type(v) == 'function' and not known[name] then out[#out + 1] = name end
                     if type(v) == 'table' then walk(name, v) end
                 end
             end
             walk('ngx', ngx) walk('ngx.shared.cats', {{}})
             table.sort(out) return table.concat(out, ' ')",
            known.join(",")
        ),
    )
    .unwrap();
    assert_eq!(unlisted, "");
}

#[test]
fn the_numbers_are_those_of_the_reference() {
    check(&[
        ("return show(ngx.OK, ngx.ERROR, ngx.AGAIN, ngx.DONE, ngx.DECLINED)", "0 -1 -2 -4 -5"),
        ("return show(ngx.ERR, ngx.WARN, ngx.DEBUG, ngx.HTTP_GET, ngx.HTTP_TRACE)", "4 5 8 2 32768"),
        ("return show(ngx.HTTP_ILLEGAL, ngx.HTTP_CLOSE, ngx.HTTP_METHOD_NOT_IMPLEMENTED)", "451 444 501"),
        ("return show(ngx.null, type(ngx.null))", "userdata: NULL userdata"),
        ("return show(ngx.get_phase(), ngx.config.subsystem, ngx.config.prefix())", "content http /p/"),
        ("return show(ngx.config.ngx_lua_version, ngx.config.nginx_version)", "10023 1022001"),
    ]);
}

#[test]
fn text_is_escaped_and_digested() {
    check(&[
        ("return ngx.escape_uri('a b/c?d=你')", "a%20b%2Fc%3Fd%3D%E4%BD%A0"),
        ("return ngx.escape_uri('a b/c', 0)", "a%20b/c"),
        ("return ngx.escape_uri('plain') .. ngx.escape_uri(nil) .. ngx.escape_uri(12)", "plain12"),
        ("return ngx.unescape_uri('a%20b+c%')", "a b c%"),
        ("return ngx.encode_base64('hello') .. ngx.encode_base64('hello', true)", "aGVsbG8=aGVsbG8"),
        ("return show(ngx.decode_base64('aGVsbG8='), ngx.decode_base64('!'))", "hello nil"),
        ("ngx.decode_base64(1)", "error: content_by_lua(nginx.conf:9):1: string argument only"),
        ("return ngx.md5('hello')", "5d41402abc4b2a76b9719d911017c592"),
        ("return show(#ngx.md5_bin('hello'), #ngx.sha1_bin('hello'))", "16 20"),
        (
            "return ngx.encode_base64(ngx.hmac_sha1('thisisverysecretstuff', 'some string we want to sign'))",
            "R/pvxzHC4NLtj7S+kXFg/NePTmk=",
        ),
        (
            "return show(ngx.crc32_short('hello, world'), ngx.crc32_long('hello, world'))",
            "4289425978 4289425978",
        ),
        ("return ngx.quote_sql_str([['a\"\\]])", "'\\'a\\\"\\\\'"),
        ("ngx.hmac_sha1('a')", "error: content_by_lua(nginx.conf:9):1: expecting 2 arguments, but got 1"),
    ]);
}

#[test]
fn arguments_are_encoded_and_decoded() {
    check(&[
        ("return ngx.encode_args({a = 'b c'})", "a=b%20c"),
        ("return ngx.encode_args({a = {1, 'x', true, false}})", "a=1&a=x&a"),
        ("return show(ngx.encode_args({a = true}), ngx.encode_args({a = false}))", "a "),
        ("return ngx.encode_args({['a b'] = 1.5})", "a%20b=1.5"),
        (
            "ngx.encode_args({1})",
            "error: content_by_lua(nginx.conf:9):1: attempt to use a non-string key in the \"args\" option table",
        ),
        (
            "ngx.encode_args({a = print})",
            "error: content_by_lua(nginx.conf:9):1: attempt to use function as query arg value",
        ),
        (
            "local t = ngx.decode_args('a=1&b&c=%20&a=2&a=3') return show(table.concat(t.a, ','), t.b, t.c)",
            "1,2,3 true  ",
        ),
        (
            "local t, err = ngx.decode_args('a=1&b=2&c=3', 2) return show(t.a, t.b, t.c, err)",
            "1 2 nil truncated",
        ),
        ("local n = 0 for _ in pairs((ngx.decode_args(('x=1&'):rep(5), 0))) do n = n + 1 end return n", "1"),
    ]);
}

#[test]
fn time_is_that_of_the_event_loop() {
    check(&[
        ("return show(ngx.time(), ngx.now())", "1290079655 1290079655.001"),
        (
            "return show(ngx.today(), ngx.localtime(), ngx.utctime())",
            "2010-11-18 2010-11-18 12:27:35 2010-11-18 11:27:35",
        ),
        ("return ngx.http_time(1290079655)", "Thu, 18 Nov 2010 11:27:35 GMT"),
        ("return ngx.cookie_time(1290079655)", "Thu, 18-Nov-10 11:27:35 GMT"),
        (
            "return show(ngx.parse_http_time('Thu, 18 Nov 2010 11:27:35 GMT'), ngx.parse_http_time('x'))",
            "1290079655 nil",
        ),
        ("ngx.http_time('x')", "error: content_by_lua(nginx.conf:9):1: number argument only"),
        ("ngx.update_time() return ngx.now()", "1290079655.006"),
    ]);
}

#[test]
fn dicts_answer_as_documented() {
    check(&[
        (
            "local d = ngx.shared.cats return show(d:set('k', 'v', 0, 7)) .. ' ' .. show(d:get('k'))",
            "true nil false v 7",
        ),
        ("return show(ngx.shared.cats:get('nosuch'))", "nil"),
        ("return show(ngx.shared.dogs:get('k'))", "nil"),
        ("return show(ngx.shared.cats:add('k', 1))", "false exists false"),
        ("return show(ngx.shared.cats:replace('nosuch', 1))", "false not found false"),
        (
            "return show(ngx.shared.cats:set(nil, 1)) .. show(ngx.shared.cats:get(''))",
            "nil nil keynil empty key",
        ),
        ("return show(ngx.shared.cats:get(('x'):rep(65536)))", "nil key too long"),
        ("return show(ngx.shared.cats:set('k', {}))", "nil bad value type"),
        ("return show(ngx.shared.cats:add('k', nil))", "false attempt to add or replace nil values false"),
        (
            "ngx.shared.cats:set('k', 1, -1)",
            "error: content_by_lua(nginx.conf:9):1: bad \"exptime\" argument",
        ),
        ("ngx.shared.cats.get('k')", "error: content_by_lua(nginx.conf:9):1: bad \"zone\" argument"),
        ("local d = ngx.shared.cats d:set('n', 1.5) return show(d:incr('n', 2), d:get('n'))", "3.5 3.5"),
        ("return show(ngx.shared.cats:incr('k', 1))", "nil not a number"),
        ("return show(ngx.shared.cats:incr('nosuch', 1))", "nil not found"),
        (
            "return show(ngx.shared.cats:incr('new', 1, 10, 5)) .. ' ' .. ngx.shared.cats:ttl('new')",
            "11 nil false 5",
        ),
        (
            "ngx.shared.cats:incr('new', 1, nil, 5)",
            "error: content_by_lua(nginx.conf:9):1: must provide \"init\" when providing \"init_ttl\"",
        ),
        ("local d = ngx.shared.cats d:set('b', false) return show(d:get('b'))", "false"),
        ("local d = ngx.shared.cats d:set('e', '') return #d:get('e')", "0"),
        ("local d = ngx.shared.cats d:delete('e') return show(d:get('e'))", "nil"),
        (
            "local d = ngx.shared.cats return show(d:lpush('l', 1), d:rpush('l', 'x'), d:llen('l'), d:rpop('l'), d:lpop('l'), d:lpop('l'))",
            "1 2 2 x 1 nil",
        ),
        ("return show(ngx.shared.cats:lpush('k', 1))", "nil value not a list"),
        ("return show(ngx.shared.cats:lpush('l', true))", "nil bad value type"),
        (
            "ngx.shared.cats:lpush('l')",
            "error: content_by_lua(nginx.conf:9):1: expecting 3 arguments, but only seen 2",
        ),
        ("local d = ngx.shared.dogs d:rpush('l', 1) return show(d:get('l'))", "nil value is a list"),
        (
            "return show(ngx.shared.cats:ttl('nosuch')) .. show(ngx.shared.cats:expire('k', 2.5), ngx.shared.cats:ttl('k'))",
            "nil not foundtrue 2.5",
        ),
        ("return show(ngx.shared.cats:capacity(), ngx.shared.cats:free_space() > 0)", "102400 true"),
        ("local d = ngx.shared.dogs d:flush_all() return show(d:flush_expired(), #d:get_keys())", "0 0"),
        (
            "local d = ngx.shared.dogs for i = 1, 5 do d:set(i, i) end return table.concat(d:get_keys(3), ',')",
            "1,2,3",
        ),
        ("local d = ngx.shared.dogs d:flush_all() return show(d:get_stale('4'))", "4 nil true"),
        (
            "ngx.shared.cats:get_keys(1, 2)",
            "error: content_by_lua(nginx.conf:9):1: expecting 1 or 2 argument(s), but saw 3",
        ),
    ]);
}

#[test]
fn patterns_match_as_documented() {
    check(&[
        (
            "local m = ngx.re.match('hello, 1234', '([0-9])[0-9]+') return show(m[0], m[1], m[2])",
            "1234 1 nil",
        ),
        (
            "local m = ngx.re.match('hello, 1234', '(x)?([0-9]+)', 'jo') return show(m[0], m[1], m[2])",
            "1234 false 1234",
        ),
        (
            "local m = ngx.re.match('hello, 1234', '(?<rest>[0-9]+)|(?<no>x)') return show(m.rest, m[1], m.no)",
            "1234 1234 false",
        ),
        ("local m = ngx.re.match('hello, world', '(?<n>h)(?<n>e)', 'D') return show(m.n[1], m.n[2])", "h e"),
        ("return show(ngx.re.match('abc', 'x'))", "nil"),
        ("return show(ngx.re.match('abc', '(abc'))", "nil pcre_compile() failed: missing ) in \"(abc\""),
        (
            "ngx.re.match('abc', 'a', 'z')",
            "error: content_by_lua(nginx.conf:9):1: unknown flag \"z\" (flags \"z\")",
        ),
        (
            "local ctx = {pos = 3} local m = ngx.re.match('aa12 34', '[0-9]+', 'jo', ctx) return show(m[0], ctx.pos)",
            "12 5",
        ),
        ("return show(ngx.re.find('hello, 1234', '([0-9])([0-9]+)', 'jo'))", "8 11"),
        ("return show(ngx.re.find('hello, 1234', '([0-9])([0-9]+)', 'jo', nil, 2))", "9 11"),
        ("return show(ngx.re.find('hello, 1234', '[0-9]+', 'jo', nil, 3))", "nil nil nth out of bound"),
        ("return show(ngx.re.find('abc', 'x', 'jo'))", "nil"),
        (
            "local t = {} for m in ngx.re.gmatch('hello, world', '[a-z]+', 'jo') do t[#t + 1] = m[0] end return table.concat(t, '|')",
            "hello|world",
        ),
        ("local n = 0 for m in ngx.re.gmatch('abc', '') do n = n + 1 end return n", "4"),
        ("return show(ngx.re.sub('hello, 1234', '([0-9])[0-9]', '[$0][$1]'))", "hello, [12][1]34 1"),
        (
            "return show(ngx.re.gsub('hello, world', '([a-z])[a-z]+', '[$0,${1}$$]', 'i'))",
            "[hello,h$], [world,w$] 2",
        ),
        (
            "return show(ngx.re.gsub('hello, world', '[a-z]+', function(m) return m[0]:upper() end, 'jo'))",
            "HELLO, WORLD 2",
        ),
        ("return show(ngx.re.gsub('abc', 'x', 'y'))", "abc 0"),
        ("return show(ngx.re.gsub('abc', '(', 'y'))", "nil nil pcre_compile() failed: missing ) in \"(\""),
        ("return show(ngx.re.sub('abc', 'b', '$x'))", "nil nil failed to compile the replacement template"),
        ("return show(ngx.re.match('ab', '.', 'd')[0])", "a"),
    ]);
}

#[test]
fn a_cache_of_patterns_stays_small() {
    let (vm, _) = machine(|options| options.regex_cache_entries = 10);
    let code =
        "for i = 1, 1000 do ngx.re.match('a' .. i, '(a)' .. i, 'jo') end collectgarbage() collectgarbage()
                return ngx.re.match('a7', '(a)7', 'jo')[1]";
    assert_eq!(run(&vm, code).unwrap(), "a");
}

#[test]
fn a_function_that_replaces_may_use_the_same_pattern() {
    check(&[(
        "local function deep(m) return '<' .. (ngx.re.gsub('zz', '[a-z]', 'y', 'jo')) .. m[0] .. '>' end
         return (ngx.re.gsub('a1b2', '[a-z]', deep, 'jo'))",
        "<yya>1<yyb>2",
    )]);
}

#[test]
fn the_log_takes_what_ngx_lua_takes() {
    let (vm, world) = machine(|_| ());
    run(
        &vm,
        "ngx.log(ngx.ERR, 'a', 1, 1.5, nil, true, ngx.null, 1e15, -0, -1/0)
         print('x', 'y')
         ngx.log(ngx.DEBUG, 'not shown')
         local function f() ngx.log(ngx.WARN, setmetatable({}, {__tostring = function() return 'T' end})) end
         f()",
    )
    .unwrap();
    let logged: Vec<(u8, String)> = world.logged.borrow().clone();
    let expected = [
        (4, "[lua] content_by_lua(nginx.conf:9):1: a11.5niltruenull1e+150-inf"),
        (6, "[lua] content_by_lua(nginx.conf:9):2: xy"),
        (5, "[lua] content_by_lua(nginx.conf:9):4: f(): T"),
    ];
    assert_eq!(logged.len(), expected.len(), "{logged:?}");
    for ((level, text), (wanted_level, wanted)) in logged.iter().zip(expected) {
        assert_eq!((*level, text.as_str()), (wanted_level, wanted));
    }
    check(&[
        (
            "ngx.log(9, 'x')",
            "error: content_by_lua(nginx.conf:9):1: bad argument #1 to 'log' (bad log level: 9)",
        ),
        (
            "ngx.log(ngx.ERR, {})",
            "error: content_by_lua(nginx.conf:9):1: bad argument #1 to 'log' (expected table to have __tostring metamethod)",
        ),
        (
            "ngx.log(ngx.ERR, print)",
            "error: content_by_lua(nginx.conf:9):1: bad argument #1 to 'log' (string, number, boolean, or nil expected, got function)",
        ),
    ]);
}

#[test]
fn lists_become_text_for_the_body() {
    unsafe extern "C-unwind" fn body(state: *mut lua_State) -> i32 {
        let mut out = std::mem::ManuallyDrop::new(Vec::new());
        // SAFETY: a C function of Lua's; the buffer is leaked when an error is raised, which a test may do.
        unsafe {
            for index in 1..=ffi::lua_gettop(state) {
                console::write_for_body(state, index, usize::MAX, &mut out);
            }
            stack::push(state, &out);
            drop(std::mem::ManuallyDrop::into_inner(out));
        }
        1
    }
    let (vm, _) = machine(|_| ());
    // SAFETY: the machine is idle.
    vm.with_state(|state| unsafe { ffi::lua_register(state, c"say".as_ptr(), body) });
    for (code, expected) in [
        ("return say(1, 'a', {1, {2, {3}}, true, ngx.null}, nil)", "1a123truenullnil"),
        ("return say({[1] = 1, [3] = 2})", "1nil2"),
        ("return say(-0, 1e14, 0/0, 2^53, 123456789012)", "01e+14-nan9.007199254741e+15123456789012"),
    ] {
        let outcome = run(&vm, code).unwrap();
        assert!(outcome == expected || outcome == expected.replace("-nan", "nan"), "{code}: {outcome}");
    }
    for (code, expected) in [
        ("say({a = 1})", "bad argument #1 to 'say' (non-array table found)"),
        ("say(1, {print})", "bad argument #2 to 'say' (bad data type function found)"),
        (
            "say(print)",
            "bad argument #1 to 'say' (string, number, boolean, nil, ngx.null, or array table expected, but got function)",
        ),
    ] {
        let text = run(&vm, code).unwrap_err();
        assert!(text.contains(expected), "{code}: {text}");
    }
}
