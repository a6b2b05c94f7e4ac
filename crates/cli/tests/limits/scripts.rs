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
