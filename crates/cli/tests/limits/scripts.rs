//! Scripts and patterns that never end or eat memory.

use super::*;

/// A pattern that backtracks without end is given up: the request fails, the thread goes on.
#[test]
fn patterns_are_given_up() {
    let http = r#"map $uri $mapped { default no; "~^/map/(a+)+$" yes; }
        server { listen unix:{folder}/front;
            location / { return 200 here; }
            location /map { return 200 "<$mapped>"; }
            location /if { if ($uri ~ "^/if/(a+)+$") { return 200 yes; } return 200 no; }
            location /rewrite { rewrite "^/rewrite/(a+)+$" /x; return 200 no; }
            location ~ ^/location/(a+)+$ { return 200 yes; } }"#;
    let server = Server::start(Setup { http, ..Setup::default() });
    for place in ["map", "if", "rewrite", "location"] {
        let began = Instant::now();
        let answer = server.get(&format!("/{place}/{}!", "a".repeat(64)));
        assert!(began.elapsed() < Duration::from_secs(10), "{place}: {:?}", began.elapsed());
        assert!(!answer.ends_with("yes"), "{place}: {answer}");
        assert!(answer.starts_with("HTTP/1.1 500 ") || answer.ends_with("<no>"), "{place}: {answer}");
        assert!(server.get("/").ends_with("here"));
    }
    assert!(server.said("[alert]") > 0, "{}", server.log());
}

/// Scripts have so much memory; the request that wants more fails, and those after it have it again.
#[test]
fn memory_of_scripts_is_bounded() {
    let http = r#"lua_memory_limit 32m;
        server { listen unix:{folder}/front;
            location / { content_by_lua_block { ngx.print("here") } }
            location /table { content_by_lua_block { local t = {} while true do t[#t + 1] = {} end } }
            location /string { content_by_lua_block { local s = "x" while true do s = s .. s end } }
            location /caught { content_by_lua_block {
                local t = {}
                while true do pcall(function() t[#t + 1] = ("x"):rep(1000) .. #t end) end } } }
        lua_run_limit 4s;"#;
    let server = Server::start(Setup { http, ..Setup::default() });
    assert!(server.get("/").ends_with("here"));
    let worker = server.worker();
    for path in ["/table", "/string", "/caught"] {
        assert_eq!(server.status(path), 500, "{path}\n{}", server.log());
        assert!(server.get("/").ends_with("here"));
    }
    assert_eq!(server.worker(), worker, "{}", server.log());
    assert!(server.said("not enough memory") >= 2, "{}", server.log());
}

/// Patterns without the option `o` are not kept by anything: not by the collector either, which does not see their size.
#[test]
fn patterns_that_are_not_kept_are_freed() {
    let http = r#"server { listen unix:{folder}/front;
        location / { return 200 here; }
        location /match { content_by_lua_block { for i = 1, 20000 do ngx.re.match("x", "a") end } }
        location /find { content_by_lua_block { for i = 1, 20000 do ngx.re.find("x", "(a)|x") end } }
        location /gsub { content_by_lua_block { for i = 1, 20000 do ngx.re.gsub("ab", "a", "$0" .. i % 100) end } }
        location /gmatch { content_by_lua_block { for i = 1, 20000 do ngx.re.gmatch("ab", "a")() end } }
        location /split { content_by_lua_block { require("ngx.re").split(("a,"):rep(20000), ",") } } }"#;
    let server = Server::start(Setup { http, ..Setup::default() });
    assert!(server.get("/").ends_with("here"));
    let before_kib = server.memory_kib();
    for path in ["/match", "/find", "/gsub", "/gmatch", "/split"] {
        assert_eq!(server.status(path), 200, "{path}\n{}", server.log());
        // 20,000 patterns take 54 MB; what else is garbage is the collector's.
        let grown_kib = server.memory_kib().saturating_sub(before_kib);
        assert!(grown_kib < 44 << 10, "{path}: {grown_kib} KiB");
    }
}

/// A script that only ever prints is stopped like any other, and what it printed is not all held in memory.
#[test]
fn output_without_end_is_bounded() {
    let http = r#"lua_run_limit 500ms;
        server { listen unix:{folder}/front;
            location / { return 200 here; }
            location /print { content_by_lua_block { local s = ("x"):rep(65536) while true do ngx.print(s) end } }
            location /say { content_by_lua_block { local s = ("x"):rep(65536) while true do ngx.say(s) ngx.flush(true) end } } }"#;
    let server = Server::start(Setup { http, ..Setup::default() });
    let before_kib = server.memory_kib();
    let deaf = [server.ask("/print"), server.ask("/say")];
    server.until("it is stopped", || {
        let grown_kib = server.memory_kib().saturating_sub(before_kib);
        assert!(grown_kib < 1 << 20, "{grown_kib} KiB");
        server.said("ran for too long") > 0
    });
    assert!(server.get("/").ends_with("here"));
    drop(deaf);
}

/// Recursion through C, in whatever way, ends its own request with an error, not the worker process.
#[test]
fn endless_recursion_ends_only_its_request() {
    let http = r#"server { listen unix:{folder}/front;
        location / { content_by_lua_block { ngx.print("here") } }
        location /gsub { content_by_lua_block {
            local function f() return (string.gsub("x", "x", f)) end f() } }
        location /resume { content_by_lua_block {
            local function f()
                local ok, err = coroutine.resume(coroutine.create(f))
                if not ok then error(err, 0) end
            end
            f() } }
        location /wrap { content_by_lua_block { local function f() return coroutine.wrap(f)() end f() } }
        location /sort { content_by_lua_block {
            local function f() table.sort({ 1, 2, 3 }, function() f() return false end) end f() } }
        location /mixed { content_by_lua_block {
            local function f() string.gsub("x", "x", function() coroutine.wrap(function()
                table.sort({ 1, 2 }, function() ngx.re.gsub("y", "y", function() f() return "z" end) end) end)() end) end f() } }
        location /load { content_by_lua_block { local function f() assert(load(function() f() end)) end f() } }
        location /index { content_by_lua_block {
            local t = setmetatable({}, { __index = function(t, k) return t[k .. "x"] end }) local x = t.x } }
        location /tostring { content_by_lua_block {
            local function f() ngx.log(ngx.ERR, setmetatable({}, { __tostring = function() f() return "" end })) end f() } }
        location /say { content_by_lua_block { local t = {} t[1] = t ngx.say(t) } }
        location /filter { header_filter_by_lua_block { local function f() return (string.gsub("x", "x", f)) end f() } return 200 no; }
        location /log { log_by_lua_block { local function f() return coroutine.wrap(f)() end f() } return 200 yes; } }"#;
    let server = Server::start(Setup { http, ..Setup::default() });
    assert!(server.get("/").ends_with("here"));
    let worker = server.worker();
    for path in ["/gsub", "/resume", "/wrap", "/sort", "/mixed", "/load", "/index", "/tostring", "/say"] {
        assert_eq!(server.status(path), 500, "{path}\n{:.4000}", server.log());
        assert!(server.get("/").ends_with("here"), "{path}");
    }
    assert!(!server.get("/filter").ends_with("no"));
    assert!(server.get("/log").ends_with("yes"));
    assert!(server.get("/").ends_with("here"));
    assert_eq!(server.worker(), worker, "{:.4000}", server.log());
    assert!(server.said("stack overflow") >= 10, "{:.4000}", server.log());
}

/// What a JSON library in C writes is bounded too.
#[test]
fn deeply_nested_json_ends_only_its_request() {
    let http = r#"server { listen unix:{folder}/front;
        location / { content_by_lua_block { ngx.print("here") } }
        location /encode { content_by_lua_block {
            local json = require "cjson" json.encode_max_depth(2^30)
            local t = {} for i = 1, 1e6 do t = { t } end ngx.say(#json.encode(t)) } }
        location /decode { content_by_lua_block {
            local json = require "cjson" json.decode_max_depth(2^30) json.decode(("["):rep(1e6)) } }
        location /circle { content_by_lua_block { local t = {} t[1] = t require("cjson").encode(t) } } }"#;
    let server = Server::start(Setup { http, ..Setup::default() });
    assert!(server.get("/").ends_with("here"));
    let worker = server.worker();
    for path in ["/encode", "/decode", "/circle"] {
        assert_eq!(server.status(path), 500, "{path}\n{:.4000}", server.log());
        assert!(server.get("/").ends_with("here"), "{path}");
    }
    assert_eq!(server.worker(), worker, "{:.4000}", server.log());
}

/// A finalizer that never returns is stopped as a script is: in a request, in a machine that a reload closes, and in that
/// of a single request.
#[test]
fn finalizers_are_stopped() {
    let http = r#"lua_run_limit 300ms;
        server { listen unix:{folder}/front;
            location / { content_by_lua_block { ngx.print("old") } }
            location /now { content_by_lua_block {
                do local p = newproxy(true) getmetatable(p).__gc = function() while true do end end end
                collectgarbage() ngx.print("not stopped") } }
            location /own { lua_code_cache off; content_by_lua_block {
                local p = newproxy(true) getmetatable(p).__gc = function() while true do end end
                _G.kept = p ngx.print("own") } }
            location /kept { content_by_lua_block {
                local p = newproxy(true) getmetatable(p).__gc = function() while true do end end
                _G.kept = p ngx.print("kept") } } }"#;
    let server = Server::start(Setup { http, ..Setup::default() });
    assert_eq!(server.status("/now"), 500, "{}", server.log());
    assert!(server.get("/own").ends_with("own"));
    assert!(server.get("/").ends_with("old"));
    assert!(server.get("/kept").ends_with("kept"));
    let worker = server.worker();
    let conf = std::fs::read_to_string(server.path("conf/nginx.conf")).unwrap();
    std::fs::write(server.path("conf/nginx.conf"), conf.replace("\"old\"", "\"new\"")).unwrap();
    assert!(server.say(&["-s", "reload"]).status.success());
    server.until("the new configuration serves", || server.get("/").ends_with("new"));
    assert!(server.get("/").ends_with("new"));
    assert_eq!(server.worker(), worker, "{}", server.log());
}

/// What the server holds for scripts counts towards their memory: output that no client takes, bodies, headers, values.
#[test]
fn memory_held_for_scripts_is_bounded() {
    let http = r#"lua_memory_limit 32m; lua_run_limit 20s;
        server { listen unix:{folder}/front; set $kept ""; set $more "";
            location / { content_by_lua_block { ngx.print("here") } }
            location /print { content_by_lua_block { local s = ("x"):rep(65536) while true do ngx.print(s) end } }
            location /list { content_by_lua_block {
                local s, t = ("x"):rep(1e6), {} for i = 1, 10000 do t[i] = s end ngx.print(t) } }
            location /arguments { content_by_lua_block {
                local s = ("x"):rep(8e6) ngx.say(s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s) } }
            location /buffered { content_by_lua_block {
                ngx.req.read_body() ngx.req.init_body() local s = ("x"):rep(65536) while true do ngx.req.append_body(s) end } }
            location /body { content_by_lua_block {
                ngx.req.read_body() ngx.req.set_body_data(("x"):rep(12e6)) ngx.req.set_body_data(("y"):rep(12e6)) } }
            location /header { content_by_lua_block {
                local s = ("x"):rep(65536) for i = 1, 1e6 do ngx.header["X" .. i] = s end } }
            location /request-header { content_by_lua_block {
                local s = ("x"):rep(65536) for i = 1, 1e6 do ngx.req.set_header("X" .. i, s) end } }
            location /variables { content_by_lua_block {
                ngx.var.kept = ("x"):rep(10e6) collectgarbage() ngx.var.more = ("y"):rep(10e6) } }
            location /filter { return 200 small; body_filter_by_lua_block {
                ngx.arg[1] = ("x"):rep(14e6) local kept = ("y"):rep(14e6) ngx.arg[1] = kept } }
            location /log { content_by_lua_block {
                local s = ("x"):rep(8e6) ngx.log(ngx.ERR, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s) ngx.print("logged") } } }"#;
    let server = Server::start(Setup { http, ..Setup::default() });
    assert!(server.get("/").ends_with("here"));
    let before_kib = server.memory_kib();
    let deaf = ["/print", "/print", "/list", "/arguments"].map(|path| server.ask(path));
    server.until("they are refused", || server.said("no memory: what the server holds") >= deaf.len());
    for path in ["/buffered", "/body", "/header", "/request-header", "/variables"] {
        assert_eq!(server.status(path), 500, "{path}\n{:.4000}", server.log());
    }
    assert!(!server.get("/filter").ends_with("y"));
    assert!(server.get("/log").ends_with("logged"));
    let grown_kib = server.memory_kib().saturating_sub(before_kib);
    // The limit is for each thread, and the allocator keeps pages of what was freed; without a limit it is a gigabyte.
    assert!(grown_kib < 256 << 10, "{grown_kib} KiB");
    drop(deaf);
    // What a client has taken, or what it will never take, counts no more.
    server.until("it has memory again", || server.get("/").ends_with("here"));
    assert!(server.get("/list").len() < 1 << 20);
}

/// What a script prints and the client does not take holds no more than the limit, with the room that buffers have to spare and what
/// copying them takes.
#[test]
fn output_holds_no_more_than_the_limit() {
    const LIMIT_KIB: u64 = 64 << 10;
    let http = r#"lua_memory_limit 64m; lua_run_limit 20s;
        server { listen unix:{folder}/front;
            location / { content_by_lua_block { ngx.print("here") } }
            location /print { content_by_lua_block { local s = ("x"):rep(1e5) while true do ngx.print(s) end } }
            location /hold { lua_http10_buffering on; content_by_lua_block { local s = ("x"):rep(1e5) while true do ngx.print(s) end } }
            location /append { content_by_lua_block {
                ngx.req.read_body() ngx.req.init_body() local s = ("x"):rep(1e5) while true do ngx.req.append_body(s) end } } }"#;
    let asked = ["/print HTTP/1.1", "/hold HTTP/1.0", "/append HTTP/1.1"];
    for request in asked.map(|asked| format!("GET {asked}\r\nHost: h\r\n\r\n")) {
        let server = Server::start(Setup { http, ..Setup::default() });
        assert!(server.get("/").ends_with("here"));
        let before_kib = server.most_memory_kib();
        let mut deaf = server.connect();
        deaf.write_all(request.as_bytes()).unwrap();
        server.until("it is refused", || server.said("no memory: what the server holds") > 0);
        let grown_kib = server.most_memory_kib() - before_kib;
        println!("{grown_kib} KiB for {request:?}");
        // The script's own memory and the buffers of the allocator beside it.
        assert!(grown_kib < LIMIT_KIB + (12 << 10), "{grown_kib} KiB for {request:?}");
    }
}
