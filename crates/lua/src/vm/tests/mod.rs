//! Scripts under real configurations, from the request's bytes to the answer's.

mod host;
mod switch;

use engine::Effect;
use engine::setting::Setting;
use host::Server;

/// Returns the output of a location's content script.
fn said(code: &str) -> String {
    let mut server = Server::of(&format!("location / {{ content_by_lua_block {{ {code} }} }}"));
    let answer = server.get("/x?a=1&b");
    let errors = server.errors();
    assert!(errors.is_empty(), "{errors:?}");
    answer.body()
}

/// Returns the error that a content script ends with, without its traceback.
fn failed(code: &str) -> String {
    let mut server = Server::of(&format!("location / {{ content_by_lua_block {{ {code} }} }}"));
    let answer = server.get("/x?a=1&b");
    let errors = server.errors();
    assert_eq!(answer.status, 500, "{errors:?}");
    let line = errors[0].split("\nstack traceback").next().unwrap().to_owned();
    line.replace("[error] lua entry thread aborted: runtime error: content_by_lua(nginx.conf:2):", "")
}

#[test]
fn a_script_makes_the_answer() {
    let mut server = Server::of(
        "location / { default_type text/plain; content_by_lua_block { ngx.say('a', 1, {2, {3}}, nil) } }",
    );
    let answer = server.get("/");
    assert_eq!(answer.body(), "a123nil\n");
    assert!(answer.wire.starts_with("HTTP/1.1 200 OK\r\n"), "{}", answer.wire);
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    let head = server.ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "");
    assert!(head.wire.ends_with("\r\n\r\n"), "{}", head.wire);
    let empty = Server::of("location / { content_by_lua_block { local x = 1 } }").get("/");
    assert_eq!((empty.body().as_str(), empty.status), ("", 200));
}

#[test]
fn http_1_0_gets_a_length() {
    let mut server = Server::of(
        "location / { content_by_lua_block { ngx.say('ab') local ok, err = ngx.flush() ngx.say(ok, err) } }
         location /chunky { lua_http10_buffering off; content_by_lua_block { ngx.print('ab') } }",
    );
    let answer = server.ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "");
    assert_eq!(answer.header("content-length"), Some("16"));
    assert!(answer.wire.ends_with("ab\nnilbuffering\n"), "{}", answer.wire);
    let answer = server.ask("GET /chunky HTTP/1.0\r\nHost: a\r\n\r\n", "");
    assert_eq!((answer.header("content-length"), answer.header("connection")), (None, Some("close")));
}

#[test]
fn variables_are_read_and_written() {
    let mut server = Server::of(
        "set $mine 'before'; set $other '';
         location ~ ^/u/([a-z]+)/(x)? {
             content_by_lua_block {
                 ngx.say(ngx.var.mine, ' ', ngx.var.uri, ' ', ngx.var.arg_a, ' ', ngx.var.http_host, ' ', ngx.var.nosuch)
                 ngx.say(ngx.var[0], ' ', ngx.var[1], ' ', ngx.var[2], ' ', ngx.var[9])
                 ngx.var.mine = 7 ngx.var.other = 'o' ngx.var.args = 'a=changed'
                 ngx.say(ngx.var.MINE, ngx.var.other, ' ', ngx.var.arg_a)
                 ngx.var.mine = nil
                 ngx.say(ngx.var.mine)
                 ngx.say(pcall(function() ngx.var.host = 'x' end))
                 ngx.say((select(2, pcall(function() ngx.var.nosuch = 'x' end))))
                 ngx.say((select(2, pcall(function() ngx.var.arg_q = 'x' end))))
                 ngx.say((select(2, pcall(function() return ngx.var[{}] end))))
             }
         }",
    );
    let body = server.get("/u/abc/?a=1").body();
    let lines: Vec<&str> = body.lines().collect();
    assert_eq!(lines[0], "before /u/abc/ 1 localhost nil");
    assert_eq!(lines[1], "nil abc nil nil");
    assert_eq!(lines[2], "7o changed");
    assert_eq!(lines[3], "nil");
    assert!(lines[4].ends_with("variable \"host\" not changeable"), "{}", lines[4]);
    assert!(
        lines[5].contains("variable \"nosuch\" not found for writing; maybe it is a built-in"),
        "{}",
        lines[5]
    );
    assert!(lines[6].contains("variable \"arg_q\" not found for writing"), "{}", lines[6]);
    assert!(lines[7].ends_with("bad variable name"), "{}", lines[7]);
}

#[test]
fn many_names_of_variables_do_not_grow_the_machine() {
    assert_eq!(
        said(
            "local n = 0 for i = 1, 5000 do if ngx.var['arg_x' .. i] == nil then n = n + 1 end end ngx.print(n, ngx.var.arg_a)"
        ),
        "50001"
    );
}

#[test]
fn headers_of_the_answer_are_set_read_and_removed() {
    let mut server = Server::of(
        "location / { content_by_lua_block {
             ngx.header.x_one = 1
             ngx.header['X-Two'] = {'a', 'b'}
             ngx.header.content_type = 'text/x'
             ngx.header.gone = 'x' ngx.header.gone = nil
             ngx.header.bad = 'a\\r\\nb: c'
             local two = ngx.header.x_two
             ngx.status = 202
             ngx.print(ngx.header['x-one'], two[1], two[2], ngx.header.content_type, ngx.header.gone, ngx.status, ngx.headers_sent)
             ngx.print(ngx.headers_sent)
             ngx.header.late = 1
             ngx.status = 500
         } }",
    );
    let answer = server.get("/");
    assert_eq!(answer.body(), "1abtext/xnil202falsetrue");
    assert!(answer.wire.starts_with("HTTP/1.1 202 "), "{}", answer.wire);
    assert_eq!(answer.header("content-type"), Some("text/x"));
    assert_eq!(answer.header("x-one"), Some("1"));
    assert!(answer.wire.contains("X-Two: a\r\nX-Two: b\r\n"), "{}", answer.wire);
    assert_eq!(answer.header("bad"), Some("a%0D%0Ab: c"));
    assert_eq!(answer.header("gone"), None);
    assert_eq!(
        server.errors(),
        [
            "[error] attempt to set ngx.header.HEADER after sending out response headers",
            "[error] attempt to set ngx.status after sending out response headers",
        ]
    );
}

#[test]
fn headers_come_as_a_table() {
    let mut server = Server::of(
        "location / { content_by_lua_block {
             local h, err = ngx.req.get_headers()
             ngx.say(h.x_multi[1], h.x_multi[2], ' ', h['X-ONE'], ' ', err, ' ', rawget(h, 'X-One'))
             local raw = ngx.req.get_headers(0, true)
             ngx.say(raw['X-One'])
             local few, err = ngx.req.get_headers(1)
             ngx.say(few.host, ' ', few.x_one, ' ', err)
             ngx.req.set_header('X-One', {'a', 'b'}) ngx.req.set_header('New', 5) ngx.req.clear_header('X-Multi')
             ngx.say(ngx.var.http_x_one, ' ', ngx.var.http_new, ' ', ngx.var.http_x_multi)
             ngx.header.foo = {'1', '2'}
             local out = ngx.resp.get_headers()
             ngx.say(out.content_type, ' ', out.transfer_encoding, ' ', out.connection)
             ngx.say(ngx.req.raw_header(true):gsub('\\r\\n', '|'))
         } }",
    );
    let head = "GET / HTTP/1.1\r\nHost: localhost\r\nX-One: 1\r\nX-Multi: a\r\nX-Multi: b\r\n\r\n";
    let body = server.ask(head, "").body();
    let lines: Vec<&str> = body.lines().collect();
    assert_eq!(lines[0], "ab 1 nil nil");
    assert_eq!(lines[1], "1");
    assert_eq!(lines[2], "localhost nil truncated");
    assert!(lines[3].starts_with("a") && lines[3].ends_with(" 5 nil"), "{}", lines[3]);
    assert!(lines[5].starts_with("Host: localhost|X-One: a|"), "{}", lines[5]);
}

#[test]
fn the_request_is_read_and_changed() {
    assert_eq!(
        said("ngx.print(ngx.req.get_method(), ngx.req.http_version(), ngx.req.is_internal())"),
        "GET1.1false"
    );
    assert_eq!(said("local a, err = ngx.req.get_uri_args() ngx.print(a.a, a.b, err)"), "1truenil");
    assert_eq!(said("local a, err = ngx.req.get_uri_args(1) ngx.print(a.a, a.b, err)"), "1niltruncated");
    assert_eq!(said("ngx.req.set_uri_args({x = 'a b'}) ngx.print(ngx.var.args)"), "x=a%20b");
    assert_eq!(
        said("ngx.req.set_method(ngx.HTTP_PUT) ngx.print(ngx.req.get_method(), ngx.var.request_method)"),
        "PUTPUT"
    );
    assert_eq!(said("ngx.req.set_uri('/other') ngx.print(ngx.var.uri)"), "/other");
    assert_eq!(said("ngx.print(ngx.req.start_time())"), "1000000000");
    assert_eq!(said("ngx.update_time() ngx.print(ngx.now())"), "1000000000.007");
    assert_eq!(
        said("ngx.print(ngx.worker.id(), ngx.worker.count(), ngx.worker.pid(), ngx.worker.exiting())"),
        "144711false"
    );
    assert_eq!(failed("ngx.req.set_method(99)"), "1: unsupported HTTP method: 99");
    assert_eq!(failed("ngx.req.set_uri('/x', true)"), "1: API disabled in the context of content_by_lua*");
    assert_eq!(
        failed("ngx.req.set_uri('/a\\nb')"),
        "1: unsafe byte \"0x0a\" in uri \"/a\\x0Ab\" (maybe you want to set the 'binary' argument?)"
    );
}

#[test]
fn bodies_are_read_and_replaced() {
    let mut server = Server::of(
        "location / { content_by_lua_block {
             ngx.say(pcall(ngx.req.get_post_args))
             ngx.req.read_body()
             ngx.say(ngx.req.get_body_data(), ' ', ngx.req.get_body_file(), ' ', ngx.req.get_post_args().b)
             ngx.req.set_body_data('new') ngx.say(ngx.req.get_body_data(), ngx.var.http_content_length)
             ngx.req.init_body() ngx.req.append_body('built ') ngx.req.append_body('up') ngx.req.finish_body()
             ngx.say(ngx.req.get_body_data(), ngx.var.content_length)
         } }",
    );
    let answer = server.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", "a=1&b=two");
    assert_eq!(server.host.waits, [Effect::ReadBody]);
    assert_eq!(
        answer.body(),
        "falseno request body found; maybe you should turn on lua_need_request_body?\n\
         a=1&b=two nil two\nnew3\nbuilt up8\n"
            .replace("falseno", "falsecontent_by_lua(nginx.conf:2):2: no")
            .replace("content_by_lua(nginx.conf:2):2: no", "no")
    );
}

#[test]
fn exits_end_the_request_as_in_ngx_lua() {
    let mut server = Server::of(
        "error_page 403 /forbidden; location = /forbidden { return 403 \"no\"; }
         location /403 { content_by_lua_block { ngx.exit(403) ngx.log(ngx.ERR, 'not reached') } }
         location /204 { content_by_lua_block { ngx.exit(204) } }
         location /410 { content_by_lua_block { ngx.status = 410 ngx.say('gone') ngx.exit(200) } }
         location /quiet { content_by_lua_block { ngx.status = 418 ngx.exit(200) } }
         location /ok { content_by_lua_block { ngx.exit(ngx.OK) } }
         location /late { content_by_lua_block { ngx.say('x') ngx.exit(500) } }
         location /pcall { content_by_lua_block { pcall(ngx.exit, 404) ngx.log(ngx.ERR, 'not reached') } }
         location /again { content_by_lua_block { ngx.exit(ngx.AGAIN) } }
         location /access { access_by_lua_block { if ngx.var.arg_no then ngx.exit(401) end } content_by_lua_block { ngx.print('in') } }
         location /access200 { access_by_lua_block { ngx.say('early') ngx.exit(200) } content_by_lua_block { ngx.say('late') } }",
    );
    assert_eq!((server.get("/403").status, server.get("/403").body().as_str()), (403, "no"));
    assert_eq!(server.get("/204").status, 204);
    let gone = server.get("/410");
    assert_eq!((gone.status, gone.body().as_str()), (410, "gone\n"));
    assert_eq!(server.get("/quiet").status, 418);
    assert_eq!((server.get("/ok").status, server.get("/ok").body().as_str()), (200, ""));
    assert!(server.errors().is_empty());
    assert_eq!(server.get("/late").body(), "x\n");
    assert_eq!(
        server.errors(),
        ["[error] attempt to set status 500 via ngx.exit after sending out the response status 200"]
    );
    assert_eq!(server.get("/pcall").status, 404);
    assert_eq!(server.get("/access?no=1").status, 401);
    assert_eq!(server.get("/access200").body(), "early\n");
    assert!(server.errors().is_empty());
    assert_eq!(server.get("/again").status, 500);
    assert!(server.errors()[0].contains("bad argument to 'ngx.exit': does not accept NGX_AGAIN or NGX_DONE"));
}

#[test]
fn redirect_answers_and_exec_changes_the_location() {
    let mut server = Server::of(
        "location /away { content_by_lua_block { ngx.redirect('http://other/x', 301) } }
         location /path { content_by_lua_block { ngx.redirect('/y?z') } }
         location /bad { content_by_lua_block { ngx.redirect('/a\\r\\nb') } }
         location /exec { content_by_lua_block { ngx.ctx.lost = true ngx.exec('/target?q=1', {r = 2}) } }
         location /named { content_by_lua_block { ngx.exec('@there') } }
         location /jump { rewrite_by_lua_block { ngx.req.set_uri('/target', true) } content_by_lua_block { ngx.print('not here') } }
         location /target { content_by_lua_block { ngx.print(ngx.var.uri, '?', ngx.var.args, ' ', ngx.ctx.lost, ngx.req.is_internal()) } }
         location @there { return 200 'there'; }",
    );
    let away = server.get("/away");
    assert_eq!((away.status, away.header("location")), (301, Some("http://other/x")));
    let path = server.get("/path");
    assert_eq!((path.status, path.header("location")), (302, Some("/y?z")));
    assert_eq!(server.get("/named").body(), "there");
    assert_eq!(server.get("/exec").body(), "/target?q=1&r=2 niltrue");
    assert_eq!(server.get("/jump?k=1").body(), "/target?k=1 niltrue");
    assert!(server.errors().is_empty());
    server.get("/bad");
    assert!(server.errors()[0].contains("unsafe byte \"0x0d\" in redirect uri \"/a\\x0D\\x0Ab\""));
}

#[test]
fn the_context_lasts_through_the_phases_and_no_longer() {
    let mut server = Server::of(
        "location / {
             rewrite_by_lua_block { ngx.ctx.seen = (ngx.ctx.seen or '') .. 'r' }
             access_by_lua_block { ngx.ctx.seen = ngx.ctx.seen .. 'a' ngx.sleep(0.005) ngx.ctx.seen = ngx.ctx.seen .. 's' }
             content_by_lua_block { ngx.say(ngx.ctx.seen) ngx.ctx = {seen = 'new'} }
             header_filter_by_lua_block { ngx.ctx.seen = ngx.ctx.seen .. 'h' ngx.header.x_seen = ngx.ctx.seen }
             log_by_lua_block { ngx.log(ngx.ERR, ngx.ctx.seen) }
         }",
    );
    for _ in 0..2 {
        let answer = server.get("/");
        assert_eq!(answer.body(), "ras\n");
        assert_eq!(answer.header("x-seen"), Some("rash"));
        assert_eq!(server.errors(), ["[error] [lua] log_by_lua(nginx.conf:7):1: new while logging request"]);
        assert_eq!(server.host.waits, [Effect::Sleep(5)]);
    }
}

#[test]
fn filters_change_head_and_body() {
    let mut server = Server::of(
        "location / {
             return 200 'hello world';
             header_filter_by_lua_block { ngx.header.content_length = nil ngx.header.x = ngx.get_phase() }
             body_filter_by_lua_block { ngx.arg[1] = ngx.arg[1]:upper() if ngx.arg[2] then ngx.arg[1] = {ngx.arg[1], {'!', 1}} end }
         }
         location /say { content_by_lua_block { ngx.say('a') ngx.say('b') } body_filter_by_lua_block { if ngx.arg[1] ~= '' then ngx.arg[1] = '<' .. ngx.arg[1] .. '>' end } }
         location /cut { content_by_lua_block { ngx.say('a') ngx.say('b') } body_filter_by_lua_block { ngx.arg[2] = true } }
         location /bad { return 200 'x'; header_filter_by_lua_block { error('broken') } }
         location /no { return 200 'x'; header_filter_by_lua_block { ngx.say('x') } }",
    );
    let answer = server.get("/");
    assert_eq!(answer.body(), "HELLO WORLD!1");
    assert_eq!(answer.header("x"), Some("header_filter"));
    assert_eq!(server.get("/say").body(), "<a\n><b\n>");
    assert!(server.errors().is_empty());
    assert_eq!(server.get("/bad").wire, "");
    let errors = server.errors();
    assert!(
        errors[0].starts_with(
            "[error] failed to run header_filter_by_lua*: header_filter_by_lua(nginx.conf:9):1: broken\nstack traceback:\n\t[C]: in function 'error'"
        ),
        "{errors:?}"
    );
    server.get("/no");
    let errors = server.errors();
    assert!(errors[0].contains("API disabled in the context of header_filter_by_lua*"), "{errors:?}");
}

#[test]
fn set_by_lua_sets_variables() {
    let mut server = Server::of(
        "location / {
             set_by_lua $sum 'return tonumber(ngx.arg[1]) + ngx.arg[2]' $arg_a 10;
             set_by_lua_block $none { return nil }
             set_by_lua_block $up { return ngx.var.sum * 2 }
             return 200 \"$sum|$none|$up\";
         }
         location /bad { set_by_lua_block $x { error('no') } return 200 'x'; }
         location /say { set_by_lua_block $x { ngx.say('x') } return 200 'x'; }",
    );
    assert_eq!(server.get("/?a=5").body(), "15||30");
    assert!(server.errors().is_empty());
    assert_eq!(server.get("/bad").status, 500);
    assert!(
        server.errors()[0].starts_with("[error] failed to run set_by_lua*: set_by_lua(nginx.conf:8):1: no\n")
    );
    server.get("/say");
    assert!(server.errors()[0].contains("API disabled in the context of set_by_lua*"));
}

#[test]
fn a_waiting_script_does_not_block_others() {
    let mut server = Server::of(
        "location / { content_by_lua_block {
             local co = coroutine.wrap(function() ngx.sleep(0.25) coroutine.yield('inner') ngx.sleep(1) return 'end' end)
             ngx.say(co()) ngx.say(ngx.flush(true)) ngx.say(co()) coroutine.yield() ngx.say('after')
         } }",
    );
    assert_eq!(server.get("/").body(), "inner\n1\nend\nafter\n");
    assert_eq!(server.host.waits, [Effect::Sleep(250), Effect::Flush, Effect::Sleep(1000), Effect::Sleep(0)]);
    assert_eq!(failed("ngx.sleep(-1)"), "1: invalid sleep duration \"-1000\"");
    assert_eq!(failed("ngx.sleep()"), "1: attempt to pass 0 arguments, but accepted 1");
}

#[test]
fn files_of_scripts_are_loaded_when_needed() {
    let mut server = Server::of_http(
        "server { listen 80;
             location /a { content_by_lua_file lua/a.lua; }
             location /v { content_by_lua_file /abs/$arg_f.lua; }
             location /live { lua_code_cache off; content_by_lua_file lua/a.lua; } }",
        &[
            ("/p/lua/a.lua", "ngx.say('a ', count) count = (count or 0) + 1"),
            ("/abs/b.lua", "local x = nil + 1"),
        ],
    );
    assert_eq!(server.get("/a").body(), "a nil\n");
    server.host.files.insert("/p/lua/a.lua".into(), "ngx.say('changed')".into());
    assert_eq!(server.get("/a").body(), "a 1\n");
    assert_eq!(server.get("/live").body(), "changed\n");
    server.errors();
    assert_eq!(server.get("/v?f=b").status, 500);
    assert!(server.errors()[0].starts_with(
        "[error] lua entry thread aborted: runtime error: /abs/b.lua:1: attempt to perform arithmetic on a nil value\n"
    ));
    assert_eq!(server.get("/v?f=none").status, 404);
    assert_eq!(
        server.errors(),
        [
            "[error] failed to load external Lua file \"/abs/none.lua\": cannot open /abs/none.lua: No such file or directory"
        ]
    );
}

#[test]
fn faults_of_inline_code_are_reported_at_once_and_when_needed() {
    let mut server = Server::of(
        "location / { content_by_lua_block {\n local x = \n } } location /ok { return 200 'ok'; }",
    );
    let line = "[error] failed to load inlined Lua code: content_by_lua(nginx.conf:2):3: unexpected symbol near '<eof>'";
    assert_eq!(server.vm.faults(), [line.replace("[error] ", "")]);
    assert_eq!(server.get("/").status, 500);
    assert_eq!(server.errors(), [line]);
    assert_eq!(server.get("/ok").body(), "ok");
}

#[test]
fn an_error_is_logged_with_its_traceback_and_answered_500() {
    let mut server =
        Server::of("location / { content_by_lua_block {\n local function f() error('boom') end\n f()\n } }");
    assert_eq!(server.get("/").status, 500);
    assert_eq!(
        server.errors(),
        [
            "[error] lua entry thread aborted: runtime error: content_by_lua(nginx.conf:2):2: boom\nstack traceback:\n\
          coroutine 0:\n\t[C]: in function 'error'\n\tcontent_by_lua(nginx.conf:2):2: in function 'f'\n\t\
          content_by_lua(nginx.conf:2):3: in main chunk"
        ]
    );
}

#[test]
fn log_lines_have_nginx_format() {
    let mut server = Server::of(
        "location / { content_by_lua_block {\n ngx.log(ngx.WARN, 'x ', 1) ngx.log(ngx.DEBUG, 'unseen')\n } }",
    );
    server.get("/q");
    assert_eq!(
        server.host.error_lines,
        [
            "[warn] [lua] content_by_lua(nginx.conf:2):2: x 1, client: 127.0.0.1, server: localhost, request: \"GET /q HTTP/1.1\", host: \"localhost\""
        ]
    );
}

#[test]
fn init_runs_before_requests_and_may_fail() {
    let mut server = Server::of_http(
        "init_by_lua_block { shared = { n = 1 } ngx.log(ngx.NOTICE, ngx.get_phase(), ngx.worker.id()) }
         init_worker_by_lua_block { shared.n = shared.n + 1 ngx.log(ngx.NOTICE, ngx.get_phase(), ngx.worker.id()) error('late') }
         server { listen 80; location / { content_by_lua_block { shared.n = shared.n + 1 ngx.say(shared.n) } } }",
        &[],
    );
    let errors = server.errors();
    assert_eq!(errors[0], "[notice] [lua] init_by_lua(nginx.conf:1):1: initnil");
    assert_eq!(errors[1], "[notice] [lua] init_worker_by_lua(nginx.conf:2):1: init_worker1");
    assert!(
        errors[2].starts_with("[error] init_worker_by_lua error: init_worker_by_lua(nginx.conf:2):1: late"),
        "{errors:?}"
    );
    assert_eq!(server.get("/").body(), "3\n");
    assert_eq!(server.get("/").body(), "4\n");
    let config = host::config_of("events {} http { init_by_lua_block { error('no') } }");
    let dicts = crate::Dicts::new(&config.lua.dicts, None);
    let vm =
        crate::open(&config, &dicts, crate::VmOptions { worker: 0, workers: 1 }, &mut server.host).unwrap();
    let fault = vm.init(&config, &mut server.host).unwrap_err();
    assert!(
        fault.starts_with("init_by_lua error: init_by_lua(nginx.conf:1):1: no\nstack traceback:"),
        "{fault}"
    );

    let file = [("/p/init.lua", "local x = = 1")];
    let config = host::config_of("events {} http { init_by_lua_file init.lua; }");
    let mut host = host::TestHost::new(&file);
    let dicts = crate::Dicts::new(&config.lua.dicts, None);
    let vm = crate::open(&config, &dicts, crate::VmOptions { worker: 0, workers: 1 }, &mut host).unwrap();
    let fault = vm.init(&config, &mut host).unwrap_err();
    assert_eq!(fault, "init_by_lua_file error: /p/init.lua:1: unexpected symbol near '='");
}

#[test]
fn dicts_are_carried_over_by_name_and_size() {
    let config =
        |text: &str| host::config_of(&format!("events {{}} http {{ {text} server {{ listen 80; }} }}"));
    let first = config("lua_shared_dict a 1m; lua_shared_dict b 1m;");
    let old = crate::Dicts::new(&first.lua.dicts, None);
    let second = config("lua_shared_dict a 1m; lua_shared_dict b 2m; lua_shared_dict c 1m;");
    let new = crate::Dicts::new(&second.lua.dicts, Some(&old));
    let same = |name: &str| match (old.zone(name), new.zone(name)) {
        (Some(old), Some(new)) => std::sync::Arc::ptr_eq(old, new),
        _ => false,
    };
    assert!(same("a") && !same("b") && new.zone("c").is_some());
}

#[test]
fn missing_functions_raise_an_error() {
    let name = "ngx.run_worker_thread";
    assert_eq!(failed(&format!("{name}(0, print)")), format!("1: {name} is not supported by pointsman"));
    assert_eq!(said("ngx.print(ngx.on_abort(print))"), "nillua_check_client_abort is off");
}

#[test]
fn a_request_that_ends_while_it_waits_leaves_nothing_behind() {
    let mut server = Server::of(
        "location / { content_by_lua_block { ngx.ctx.big = ('x'):rep(100000) .. ngx.var.arg_n ngx.exit(444) } }",
    );
    for n in 0..50 {
        server.get(&format!("/?n={n}"));
    }
    let before = server.vm.used_bytes();
    for n in 0..500 {
        server.get(&format!("/?n={n}"));
    }
    assert!(server.vm.used_bytes() < before + 8_000_000, "{} then {}", before, server.vm.used_bytes());
    assert!(server.dicts.zone("cats").is_some());
}

#[test]
fn timers_run_apart_from_requests() {
    let mut server = Server::of(
        "location / { content_by_lua_block {
             local function f(premature, a, b) ngx.ctx.x = a ngx.log(ngx.ERR, premature, a, b, ngx.get_phase()) ngx.sleep(0.5) ngx.log(ngx.ERR, 'woken ', ngx.ctx.x) end
             ngx.say(ngx.timer.at(0.1, f, 1, nil))
             ngx.say(ngx.timer.pending_count(), ngx.timer.running_count())
             ngx.say(pcall(ngx.timer.at, 1, print)) ngx.say(pcall(ngx.timer.every, 0, f))
         } }",
    );
    let body = server.get("/").body();
    assert!(body.starts_with("1\n10\nfalsebad argument #2 to '?' (Lua function expected)\n"), "{body}");
    assert_eq!(server.poll_after(0), Some(100));
    assert!(server.errors().is_empty());
    assert_eq!(server.poll_after(100), Some(500));
    assert_eq!(
        server.host.error_lines,
        [
            "[error] [lua] content_by_lua(nginx.conf:2):2: false1niltimer, context: ngx.timer, client: 127.0.0.1, server: 0.0.0.0:80"
        ]
    );
    assert_eq!(server.poll_after(500), None);
    assert!(
        server.host.error_lines[1].contains("woken 1, context: ngx.timer"),
        "{:?}",
        server.host.error_lines
    );
}

#[test]
fn failed_timers_are_logged_and_repeated_ones_run_again() {
    let mut server = Server::with(
        "init_worker_by_lua_block { n = 0
             ngx.timer.every(1, function(premature) n = n + 1 if n == 2 then error('second') end end) }
         server { listen 80; location / { content_by_lua_block {
             local function sleeper() ngx.sleep(10) end
             ngx.say(ngx.timer.at(0, sleeper)) ngx.say(ngx.timer.at(0, sleeper)) ngx.say(n)
         } } }",
        &[],
        |config| {
            config.lua.max_running_timers = Setting::new(1);
            config.lua.max_pending_timers = Setting::new(2);
        },
    );
    for _ in 0..3 {
        assert_eq!(server.poll_after(1000), Some(1000));
    }
    let errors = server.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].starts_with("[error] lua entry thread aborted: runtime error: init_worker_by_lua(nginx.conf:1):2: second\nstack traceback:\ncoroutine 0:\n\t[C]: in function 'error'\n\tinit_worker_by_lua(nginx.conf:1):2: in function <init_worker_by_lua(nginx.conf:1):2>"),
        "{errors:?}"
    );
    assert_eq!(server.get("/").body(), "1\nniltoo many pending timers\n3\n");
    server.poll_after(0);
    server.poll_after(1000);
    let errors = server.errors();
    assert!(
        errors[0].starts_with("[alert] lua failed to run timer with function defined at =init_worker_by_lua(nginx.conf:1):2: 1 lua_max_running_timers are not enough"),
        "{errors:?}"
    );
    let vm = server.vm.clone();
    let config = server.config.clone();
    vm.exit(&mut server.host, &config);
    assert_eq!(server.poll_after(0), Some(9000));
}

#[test]
fn a_wait_where_there_can_be_none_fails() {
    assert_eq!(
        failed(
            "local t = setmetatable({}, {__index = function() ngx.sleep(0.1) return 1 end}) table.sort({2, 1}, function() return t.x end)"
        ),
        "[error] lua entry thread aborted: runtime error: attempt to yield across C-call boundary"
    );
}

#[test]
fn an_unsafe_uri_begins_no_line_of_the_log() {
    let mut server = Server::of("location / { content_by_lua_block { return ngx.exec('/../a\\r\\nb') } }");
    assert_eq!(server.get("/").status, 500);
    assert!(server.errors()[0].starts_with("[error] unsafe URI \"/../a\\x0D\\x0Ab\" was detected"));
}
