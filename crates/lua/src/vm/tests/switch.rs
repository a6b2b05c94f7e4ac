//! Dicts that are a switch's face: the tutorial's Lua over a real switch.

use super::Server;
use engine::Effect;
use engine::phase::SwitchOrder;

const SWITCH: &str = "lua_shared_dict routes 1m; lua_shared_dict other 1m;
    upstream blue { server 127.0.0.1:1; } upstream green { server 127.0.0.1:2; }
    switch $host $live { default blue; targets blue green; sticky $arg_uid; dict routes; }";

/// Returns a server with this inside; the first line of it is line 5 of the configuration.
fn server(text: &str) -> Server {
    Server::of_http(&format!("{SWITCH}\nserver {{ listen 80; server_name localhost;\n{text} }}"), &[])
}

/// Returns the output of a content script with `r` for the dict; the server is kept.
fn say(server: &mut Server, code: &str) -> String {
    let entries = std::mem::take(&mut server.host.entries);
    let revision = server.host.revision;
    let text = format!("location / {{ content_by_lua_block {{ local r = ngx.shared.routes {code} }} }}");
    *server = self::server(&text);
    server.host.entries = entries;
    server.host.revision = revision;
    let answer = server.get("/");
    answer.body().trim_end().replace('\n', "|")
}

fn said(entries: &[(&str, &str)], code: &str) -> String {
    let mut server = server("");
    server.host.entries = entries.iter().map(|(key, route)| ((*key).into(), (*route).into())).collect();
    say(&mut server, code)
}

#[test]
fn get_reads_the_table_that_the_request_has_pinned() {
    let entries = [("localhost", "green"), ("*.wild.test", "blue"), ("part.test", "green=50 blue=50")];
    for (code, wanted) in [
        ("ngx.say(r:get('localhost'))", "green"),
        ("ngx.say(r:get('LocalHost:8080'), ' ', r:get('localhost.'))", "green green"),
        // A wildcard is for the request's own key, and this request's is another.
        ("ngx.say(r:get('a.wild.test'), ' ', r:get_stale('a.wild.test'))", "nil nil"),
        ("ngx.say(r:get('none'), ' ', r:get('not a host'))", "nil nil"),
        ("ngx.say(r:get(nil))", "nilnil key"),
        ("ngx.say(ngx.shared.other:get('localhost'))", "nil"),
        ("local t = r:get('part.test') ngx.say(t == 'blue' or t == 'green')", "true"),
        // A number under a key that a wildcard covers is the script's own.
        ("r:set('x.wild.test', 5) ngx.say(r:get('x.wild.test'), ' ', r:get('y.wild.test'))", "5 nil"),
    ] {
        assert_eq!(said(&entries, code), wanted, "{code}");
    }
    let everybody = [("*", "green")];
    assert_eq!(said(&everybody, "ngx.say(r:get('localhost'), ' ', r:get('a_counter'))"), "green nil");
}

#[test]
fn the_key_of_the_request_is_noted_as_its_choice() {
    let mut server = server(
        "location / { set_by_lua_block $side { return ngx.shared.routes:get(ngx.var.http_host) or 'blue' }
                      proxy_pass http://$side; }
         location /other { content_by_lua_block { ngx.say(ngx.shared.routes:get('else')) } }",
    );
    server.host.entries.insert("localhost".to_owned(), "green".to_owned());
    server.get("/");
    let noted = |server: &Server| -> Vec<_> {
        server.host.choices.iter().map(|choice| (choice.key.clone(), choice.target.clone())).collect()
    };
    assert_eq!(noted(&server), [(b"localhost".to_vec(), "green".to_owned())]);
    server.get("/other");
    assert_eq!(noted(&server), []);
    server.host.entries.clear();
    server.get("/");
    assert_eq!(noted(&server), [(b"localhost".to_vec(), "blue".to_owned())]);
}

#[test]
fn set_of_a_string_is_an_order_that_the_script_waits_for() {
    let mut server = server(
        "location = /_switch_upstream { content_by_lua_block {
             local r, to = ngx.shared.routes, ngx.req.get_uri_args().upstream
             local from = r:get(ngx.var.http_host)

             local ok, err, forcible = r:set(ngx.var.http_host, to)
             ngx.say(from, ' ', ok, ' ', err, ' ', forcible, ' ', r:get(ngx.var.http_host))
         } }",
    );
    assert_eq!(server.get("/_switch_upstream?upstream=green").body(), "nil true nil false green\n");
    let order = SwitchOrder {
        switch: 0,
        key: b"localhost".to_vec(),
        target: Some(b"green".to_vec()),
        actor: "lua:nginx.conf:9".to_owned(),
    };
    assert_eq!(server.host.waits, [Effect::Switch(order)]);
    assert_eq!(
        server.get("/_switch_upstream?upstream=purple").body(),
        "green nil \"purple\" is no target of the switch false green\n"
    );
    assert_eq!(server.host.entries["localhost"], "green");
    assert_eq!(server.errors(), [""; 0]);
}

#[test]
fn nil_and_delete_reset_a_key_to_the_default() {
    let entries = [("localhost", "green"), ("a", "green")];
    for (code, wanted) in [
        ("ngx.say(r:set('localhost', nil)) ngx.say(r:get('localhost'))", "truenilfalse|nil"),
        ("ngx.say(r:delete('A')) ngx.say(r:get('a'), r:get('localhost'))", "truenilfalse|nilgreen"),
        // Without an entry they are the plain dict's.
        ("r:set('n', 7) ngx.say(r:delete('n')) ngx.say(r:get('n'))", "truenilfalse|nil"),
    ] {
        assert_eq!(said(&entries, code), wanted, "{code}");
    }
    let mut server = server("");
    server.host.entries.insert("b".to_owned(), "green".to_owned());
    say(&mut server, "r:delete('b') r:delete('b')");
    assert_eq!(server.host.waits.len(), 1);
}

#[test]
fn a_script_s_own_values_and_entries_never_touch() {
    let hidden =
        "the key has an entry in the switch that this dict is the face of: it takes a string, or nil";
    let taken = "the key holds a value of the script's own: an entry of the switch must not hide it";
    let entries = [("localhost", "green"), ("*.w", "blue")];
    for (code, wanted) in [
        (
            "ngx.say(r:incr('count', 1, 0)) ngx.say(r:incr('count', 1)) ngx.say(r:get('count'))",
            "1nilfalse|2|2".to_owned(),
        ),
        (
            "r:incr('count', 1, 0) ngx.say(r:set('count', 'green')) ngx.say(r:get('count'))",
            format!("nil{taken}false|1"),
        ),
        ("r:set('Count', 1) ngx.say(r:set('COUNT', 'green'))", "truenilfalse".to_owned()),
        ("r:set('count', 1) ngx.say(r:set('COUNT:80', 'green'))", format!("nil{taken}false")),
        (
            "r:set('on', true) ngx.say(r:add('on', 'green')) ngx.say(r:get('on'))",
            format!("nil{taken}false|true"),
        ),
        ("r:lpush('list', 'a') ngx.say(r:set('list', 'green'))", format!("nil{taken}false")),
        ("ngx.say(r:set('localhost', 5)) ngx.say(r:get('localhost'))", format!("nil{hidden}false|green")),
        ("ngx.say(r:set('LOCALHOST', true))", format!("nil{hidden}false")),
        ("ngx.say(r:incr('localhost', 1, 0))", format!("nil{hidden}")),
        ("ngx.say(r:rpush('localhost', 'a'))", format!("nil{hidden}")),
        ("ngx.say(r:add('localhost', 5))", format!("nil{hidden}false")),
        ("ngx.say(r:incr('c.w', 1, 0)) ngx.say(r:set('*.w', 1))", format!("1nilfalse|nil{hidden}false")),
    ] {
        assert_eq!(said(&entries, code), wanted, "{code}");
    }
}

#[test]
fn add_and_replace_check_for_an_entry() {
    let entries = [("localhost", "green")];
    for (code, wanted) in [
        ("ngx.say(r:add('localhost', 'blue')) ngx.say(r:get('localhost'))", "nilexistsfalse|green"),
        ("ngx.say(r:add('new', 'blue')) ngx.say(r:get('new'))", "truenilfalse|blue"),
        ("ngx.say(r:safe_add('localhost', 'blue'))", "nilexistsfalse"),
        ("ngx.say(r:replace('none', 'blue'))", "nilnot foundfalse"),
        ("ngx.say(r:replace('localhost', 'blue')) ngx.say(r:get('localhost'))", "truenilfalse|blue"),
        ("ngx.say(r:safe_set('localhost', 'green=10 blue=90'))", "truenilfalse"),
        ("ngx.say(r:replace('localhost', nil))", "falseattempt to add or replace nil valuesfalse"),
        (
            "ngx.say(r:set('a', 'green', 60))",
            "nilan entry of a switch has no time to live: it lasts until the next orderfalse",
        ),
        ("ngx.say(r:set('a', 'green', 0, 7))", "nilan entry of a switch has no flagsfalse"),
        ("ngx.say(r:set('a', 'green', 0, 0))", "truenilfalse"),
        ("ngx.say(r:set('', 'green')) ngx.say(r:set('a', {}))", "nilempty key|nilbad value type"),
        ("ngx.say(r:set('a', 5, 0.5, 3)) ngx.say(r:get('a')) ngx.say(r:ttl('a'))", "truenilfalse|53|0.5"),
        ("ngx.say(#r:get_keys(), ' ', r:capacity())", "0 1048576"),
    ] {
        assert_eq!(said(&entries, code), wanted, "{code}");
    }
}

#[test]
fn an_order_that_cannot_wait_is_refused_and_logged() {
    let mut server = server(
        "location / {
             set_by_lua_block $a { local ok, err = ngx.shared.routes:set('a', 'green') return tostring(ok) .. ' ' .. err }
             content_by_lua_block {
                 ngx.say(ngx.var.a)
                 table.sort({2, 1}, function() ngx.ctx.r = {ngx.shared.routes:set('b', 'green')} return false end)
                 ngx.say(ngx.ctx.r[1], ' ', ngx.ctx.r[2])
             }
             log_by_lua_block { ngx.shared.routes:set('c', nil) ngx.shared.routes:delete('d') }
         }",
    );
    server.host.entries.insert("d".to_owned(), "green".to_owned());
    let answer = server.get("/").body();
    assert_eq!(
        answer,
        "nil a switch cannot wait for the store in set_by_lua*\nnil a switch cannot wait for the store in a call from C\n"
    );
    assert_eq!(
        server.errors(),
        [
            "[error] [lua] lua:nginx.conf:6: \"a\" is not switched: a switch cannot wait for the store in set_by_lua*",
            "[error] [lua] lua:nginx.conf:9: \"b\" is not switched: a switch cannot wait for the store in a call from C",
            "[error] [lua] lua:nginx.conf:12: \"d\" is not switched: a switch cannot wait for the store in log_by_lua* \
             while logging request",
        ]
    );
    assert_eq!(server.host.waits, []);
    // At the start no coroutine can wait, either.
    let text = format!(
        "{SWITCH} init_by_lua_block {{ ngx.shared.routes:set('a', 'green') ngx.shared.routes:set('n', 1) }}"
    );
    let mut server = Server::of_http(&text, &[]);
    let errors = server.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].ends_with("\"a\" is not switched: a switch cannot wait for the store in init_by_lua*"),
        "{errors:?}"
    );
}

#[test]
fn orders_wait_in_coroutines_and_in_files_too() {
    let mut server = Server::of_http(
        &format!(
            "{SWITCH} server {{ listen 80; server_name localhost; location / {{ content_by_lua_file /s.lua; }} }}"
        ),
        &[(
            "/s.lua",
            "local co = coroutine.wrap(function()\n  local ok, err = ngx.shared.routes:set('a', 'green')\n  \
             return ok, err\nend)\nngx.say(co())\nreturn ngx.shared.routes:delete('a')",
        )],
    );
    assert_eq!(server.get("/").body(), "truenil\n");
    let [Effect::Switch(first), Effect::Switch(last)] = &server.host.waits[..] else {
        panic!("{:?}", server.host.waits)
    };
    // Of a tail call Lua remembers only what phase it was in.
    assert_eq!((&*first.actor, &*last.actor), ("lua:/s.lua:2", "lua:content_by_lua*"));
}

#[test]
fn a_timer_s_function_waits_for_its_order() {
    let mut server = server(
        "location / { content_by_lua_block {
             ngx.timer.at(0, function()
                 local r = ngx.shared.routes
                 local ok, err = r:set('a', 'green')
                 ngx.log(ngx.WARN, tostring(ok), ' ', tostring(err), ' ', r:get('a'))
             end)
         } }",
    );
    for (outcome, wanted) in [(true, "true nil green"), (false, "nil the store is full green")] {
        server.get("/");
        server.poll_after(0);
        let (order, answer) = server.host.orders.pop().unwrap();
        assert_eq!((order.key.as_slice(), order.actor.as_str()), (&b"a"[..], "lua:nginx.conf:8"));
        assert_eq!(server.poll_after(0), None);
        assert_eq!(server.errors(), [""; 0]);
        answer(if outcome { server.host.carry_out(&order) } else { Err("the store is full".to_owned()) });
        server.poll_after(0);
        let lines = server.errors();
        assert!(lines.len() == 1 && lines[0].contains(wanted), "{lines:?}");
    }
    // It is not carried out: the function goes on all the same.
    server.get("/");
    server.poll_after(0);
    server.host.orders.clear();
    server.poll_after(0);
    let lines = server.errors();
    assert!(lines.len() == 1 && lines[0].contains("nil the control plane did not answer green"), "{lines:?}");
}

#[test]
fn a_text_from_before_the_dict_became_a_face_goes_when_there_is_an_entry() {
    let mut server = server(
        "location / { content_by_lua_block {
             local r = ngx.shared.routes
             ngx.say(r:get('localhost'), ' ', r:set('localhost', 'green'))
             ngx.say(r:get('localhost'), ' ', r:delete('localhost'))
             ngx.say(r:get('localhost'))
         } }",
    );
    let zone = server.dicts.zone("routes").unwrap();
    let stored =
        zone.store(crate::shdict::Op::Set, b"localhost", crate::shdict::Value::String(b"blue"), 0, 0, 0);
    assert_eq!(stored.result, Ok(()));
    assert_eq!(server.get("/").body(), "blue truenilfalse\ngreen truenilfalse\nnil\n");
}

#[test]
fn dicts_without_a_switch_are_plain() {
    let mut server = server(
        "location / { content_by_lua_block {
             local o = ngx.shared.other
             ngx.say(o:set('localhost', 'anything', 60), ' ', o:get('localhost'), ' ', o:set('localhost', 5))
         } }",
    );
    server.host.entries.insert("localhost".to_owned(), "green".to_owned());
    assert_eq!(server.get("/").body(), "true anything truenilfalse\n");
    assert_eq!(server.host.waits, []);
}
