//! Other libraries: lua-resty-memcached, -dns, -lrucache, -cookie, -websocket.

use super::{Beside, LIBRARIES, Server, are_there, until, user};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;

#[test]
fn memcached_is_spoken_to() {
    if !are_there(&["/usr/bin/memcached", &format!("{LIBRARIES}/memcached.lua")]) {
        return;
    }
    let server = Server::start(
        r#"server { listen unix:{folder}/front;
            location / { content_by_lua_block {
                local memcached = require "resty.memcached"
                local memc = memcached:new({ key_transform = { ngx.escape_uri, ngx.unescape_uri } })
                memc:set_timeout(1000)
                assert(memc:connect("unix:{folder}/memcached"))
                ngx.say(memc:flush_all(), memc:set("a key", "32"), memc:add("a key", "x"))
                local value, flags, err = memc:get("a key")
                ngx.say(value, flags, err, memc:incr("a key", 10))
                local values = memc:get({ "a key", "none" })
                ngx.say(values["a key"][1], values["none"])
                local long = string.rep("y", 100000)
                ngx.say(memc:set("long", long), memc:get("long") == long, memc:delete("long"))
                ngx.say(memc:get_reused_times(), memc:set_keepalive(10000, 5))
                assert(memc:connect("unix:{folder}/memcached"))
                ngx.say(memc:get_reused_times(), memc:version():match("^%d") ~= nil)
            } }
        }"#,
    );
    let socket = server.path("memcached");
    let user = user();
    let words = ["-s", socket.to_str().unwrap(), "-a", "777", "-u", &user, "-m", "16"];
    let _memcached = Beside::start("/usr/bin/memcached", &words);
    until("memcached listens", || UnixStream::connect(&socket).is_ok());
    let expected = "1".to_owned() + "1nilNOT_STORED\n320nil42\n42nil\n1true1\n01\n1true\n";
    assert_eq!(server.get("/"), (200, expected), "{}", server.log());
}

/// Answers questions for A records with 192.0.2.7, and says that other names do not exist.
fn name_server() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((count, client)) = socket.recv_from(&mut question) {
            let mut answer = question[..count].to_vec();
            let is_known = question[..count].windows(5).any(|part| part == b"known");
            // A response, recursion available; name error unless it is known.
            (answer[2], answer[3]) = (0x81, if is_known { 0x80 } else { 0x83 });
            if is_known {
                answer[7] = 1;
                answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
            }
            let _ = socket.send_to(&answer, client);
        }
    });
    port
}

#[test]
fn names_are_asked_for() {
    if !are_there(&[&format!("{LIBRARIES}/dns/resolver.lua")]) {
        return;
    }
    let conf = r#"server { listen unix:{folder}/front;
        location / { content_by_lua_block {
            local resolver = require "resty.dns.resolver"
            local r = assert(resolver:new { nameservers = { { "127.0.0.1", PORT } }, retrans = 2, timeout = 1000 })
            local answers, err = r:query("known.test", { qtype = r.TYPE_A })
            ngx.say(answers and answers[1] and answers[1].address, " ", answers and answers[1] and answers[1].ttl, err)
            answers, err = r:query("other.test", { qtype = r.TYPE_A })
            ngx.say(answers and answers.errcode, " ", answers and answers.errstr, err)
        } }
    }"#;
    let server = Server::start(&conf.replace("PORT", &name_server().to_string()));
    let expected = "192.0.2.7 60nil\n3 name errornil\n";
    assert_eq!(server.get("/"), (200, expected.to_owned()), "{}", server.log());
}

#[test]
fn modules_that_libraries_require_are_there() {
    if !are_there(&[&format!("{LIBRARIES}/cookie.lua"), "/usr/share/lua/5.1/resty/lrucache.lua"]) {
        return;
    }
    let server = Server::start(
        r#"server { listen unix:{folder}/front;
            location / { content_by_lua_block {
                package.path = package.path .. ";/usr/share/lua/5.1/?.lua"
                for _, name in ipairs { "resty.core", "table.new", "table.clear", "ngx.re", "ngx.semaphore", "bit", "ffi",
                    "resty.redis", "resty.memcached", "resty.cookie", "resty.websocket.client",
                    "resty.websocket.protocol", "resty.dns.resolver", "resty.redis.connector" } do
                    local ok, err = pcall(require, name)
                    ngx.say(name, " ", ok, " ", ok and "" or err)
                end
                local cache = dofile("/usr/share/lua/5.1/resty/lrucache.lua").new(2)
                cache:set("a", 1) cache:set("b", 2) cache:set("c", 3)
                ngx.say((cache:get("a")), (cache:get("b")), (cache:get("c")))
            } }
        }"#,
    );
    let (status, body) = server.get("/");
    assert_eq!(status, 200, "{}", server.log());
    let failed: Vec<&str> = body.lines().filter(|line| line.contains(" false ")).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(body.ends_with("nil23\n"), "{body}");
}

#[test]
fn a_websocket_server_and_its_client_talk() {
    if !are_there(&["/usr/share/lua/5.1/nginx/websocket/server.lua"]) {
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // Debian has the library under another name, and it requires itself by that.
    let text = r#"
        server {
            listen unix:{folder}/front;
            listen 127.0.0.1:{port};
            location /server { content_by_lua_block {
                local ws = assert(require "nginx.websocket.server":new { timeout = 5000 })
                -- One light thread sends while the other one reads.
                local ticks = ngx.thread.spawn(function()
                    for i = 1, 3 do ngx.sleep(0.001) assert(ws:send_text("tick " .. i)) end
                end)
                while true do
                    local data, kind, err = ws:recv_frame()
                    if not data or kind == "close" then break end
                    if kind == "ping" then assert(ws:send_pong(data))
                    else ngx.thread.wait(ticks) assert(ws:send_text(("%s %d"):format(kind, #data))) end
                end
                ws:send_close(1000, "bye")
            } }
            location / { content_by_lua_block {
                local ws = require "nginx.websocket.client":new()
                assert(ws:connect("ws://127.0.0.1:{port}/server"))
                assert(ws:send_ping("p"))
                assert(ws:send_text("hello"))
                assert(ws:send_binary(("x"):rep(60000)))
                for i = 1, 6 do
                    local data, kind = assert(ws:recv_frame())
                    ngx.say(kind, " ", data)
                end
                assert(ws:send_close())
                ngx.say(ws:recv_frame())
            } }
        }
        "#;
    let server = Server::start(&text.replace("{port}", &port.to_string()));
    let (status, body) = server.get("/");
    let mut lines: Vec<&str> = body.lines().collect();
    let last = lines.split_off(lines.len().saturating_sub(3));
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["pong p", "text tick 1", "text tick 2", "text tick 3"],
        "{status} {body} {}",
        server.log()
    );
    assert_eq!(last, ["text text 5", "text binary 60000", "byeclose1000"], "{}", server.log());
}
