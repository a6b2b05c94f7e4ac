//! Reloads under load: nothing is refused, reset or forgotten.

use super::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use testkit::StopAtEnd;

/// Returns one request on a connection of its own; the body, never in chunks, or what went wrong.
fn once(path: &Path, uri: &str) -> Result<String, String> {
    let mut text = String::new();
    let asked = UnixStream::connect(path).map(bounded).and_then(|mut stream| {
        write!(stream, "GET {uri} HTTP/1.0\r\nHost: a.example\r\n\r\n")?;
        stream.read_to_string(&mut text)
    });
    match (asked, text.split_once("\r\n\r\n")) {
        (Ok(_), Some((head, body))) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        (asked, _) => Err(format!("{asked:?} {text}")),
    }
}

fn reload(server: &Server, conf: &str) {
    std::fs::write(server.path("conf/nginx.conf"), conf).unwrap();
    server.say(&["reload"]).done();
}

#[test]
fn listeners_come_and_go_under_load() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green"]).done();
    let conf = std::fs::read_to_string(server.path("conf/nginx.conf")).unwrap();
    let extra = server.path("extra").display().to_string();
    let more = format!("http {{ server {{ listen unix:{extra}; location / {{ return 200 extra; }} }}\n");
    let tunnel = "location /ws { proxy_pass http://blue; proxy_http_version 1.1;
                  proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }\nlocation / {";
    let conf = conf.replacen("location / {", tunnel, 1);
    reload(&server, &conf);
    // A WebSocket, as far as a proxy can tell.
    let mut socket = server.connect();
    socket
        .write_all(
            b"GET /ws HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .unwrap();
    let mut origin = server.asked_blue();
    until_end_of_head(&mut origin);
    origin
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    until_end_of_head(&mut socket);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut failed: Vec<String> = Vec::new();
    std::thread::scope(|scope| {
        let stop_at_end = StopAtEnd(&stop);
        let ask = || {
            let mut failed = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                match once(&server.path("front"), "/") {
                    Ok(body) if body == "green" => drop(answered.fetch_add(1, Ordering::SeqCst)),
                    other => failed.push(format!("{other:?}")),
                }
            }
            failed
        };
        let threads = [scope.spawn(ask), scope.spawn(ask)];
        for turn in 0..8 {
            let seen = answered.load(Ordering::SeqCst);
            reload(&server, &if turn % 2 == 0 { conf.replacen("http {", &more, 1) } else { conf.clone() });
            let there = once(Path::new(&extra), "/");
            assert_eq!(there.is_ok_and(|body| body == "extra"), turn % 2 == 0);
            server.until("answers", || answered.load(Ordering::SeqCst) > seen + 10);
            // Both ways, also over the generation it began with.
            {
                let (from, to) = (&mut socket, &mut origin);
                from.write_all(b"ping").unwrap();
                let mut four = [0; 4];
                to.read_exact(&mut four).unwrap();
                to.write_all(&four).unwrap();
                from.read_exact(&mut four).unwrap();
                assert_eq!(&four, b"ping");
            }
        }
        drop(stop_at_end);
        for thread in threads {
            failed.extend(thread.join().unwrap());
        }
    });
    assert!(failed.is_empty(), "{} of {answered:?}: {:?}", failed.len(), failed.first());
}

#[test]
fn requests_begun_before_a_reload_may_be_bounded() {
    let server = Server::start("", "");
    let path = server.path("conf/nginx.conf");
    let conf = std::fs::read_to_string(&path).unwrap();
    reload(&server, &format!("worker_shutdown_timeout 100ms;\n{conf}"));
    let mut waiting = server.ask("a.example");
    let mut origin = server.asked_blue();
    until_end_of_head(&mut origin);
    reload(&server, &conf);
    // Begun later, it has all the time in the world.
    let mut later = server.ask("b.example");
    let mut other = server.asked_blue();
    let mut rest = Vec::new();
    let _ = waiting.read_to_end(&mut rest);
    assert_eq!(origin.read(&mut [0; 16]).unwrap_or(0), 0, "the upstream is let go too");
    until_end_of_head(&mut other);
    other.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").unwrap();
    let mut text = String::new();
    later.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("late"), "{text}");
}

fn until_end_of_head(stream: &mut UnixStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
}

#[test]
fn statistics_and_dicts_survive_a_reload_by_name() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green"]).done();
    let conf = std::fs::read_to_string(server.path("conf/nginx.conf")).unwrap();
    let (dead, green) =
        (server.path("dead").display().to_string(), server.path("green").display().to_string());
    let script = "lua_shared_dict first 1m; lua_shared_dict kept 1m; server {";
    let dict =
        "location /set { content_by_lua_block { ngx.shared.kept:set('word', 'here') ngx.print('set') } }
                location /get { content_by_lua_block { ngx.print(ngx.shared.kept:get('word')) } }
                location / {";
    let conf = conf.replacen("server {\n", &format!("{script}\n"), 1).replacen("location / {", dict, 1);
    let before = format!("upstream green {{ server unix:{green}; }}");
    assert!(conf.contains(&before) && conf.contains(script), "{conf}");
    let two = format!(
        "upstream green {{ server unix:{dead} max_fails=1 fail_timeout=1h; server unix:{green}; keepalive 4; }}"
    );
    reload(&server, &conf.replace(&before, &two));
    // The first scripts come with a worker process of their own, which is the only one that accepts by now.
    assert_eq!(once(&server.path("front"), "/set").unwrap(), "set");
    // Each thread finds out for itself that the first one is dead.
    let state = || {
        let status = server.say(&["status", "--json"]).json();
        let group =
            status["groups"].as_array().unwrap().iter().find(|group| group["name"] == "green").unwrap();
        let servers = group["servers"].as_array().unwrap().iter();
        let states: BTreeMap<String, String> = servers
            .map(|server| {
                (server["address"].as_str().unwrap().to_owned(), server["state"].as_str().unwrap().to_owned())
            })
            .collect();
        (states, group["traffic"]["total"].as_u64().unwrap())
    };
    let (dead_name, green_name) = (format!("unix:{dead}"), format!("unix:{green}"));
    server.until("it is known to be dead", || {
        assert_eq!(once(&server.path("front"), "/").unwrap(), "green");
        state().0[&dead_name] == "failed"
    });
    let total = state().1;
    // Another order of everything, and more of it: what stood first stands last.
    let turned = format!(
        "upstream green {{ server unix:{green}; keepalive 4; server unix:{dead} max_fails=1 fail_timeout=1h; }}"
    );
    let other = conf
        .replace(&before, "")
        .replacen("http {", &format!("http {{ upstream a0 {{ server 127.0.0.1:9; }}\n{turned}\n"), 1)
        .replace(
            "lua_shared_dict first 1m; lua_shared_dict kept 1m;",
            "lua_shared_dict kept 1m; lua_shared_dict zero 1m;",
        );
    reload(&server, &other);
    let (states, after) = state();
    assert_eq!(states[&dead_name], "failed", "{states:?}");
    assert_eq!(states[&green_name], "up", "{states:?}");
    assert!(after >= total, "{after} after {total}");
    assert_eq!(once(&server.path("front"), "/get").unwrap(), "here");
    assert_eq!(once(&server.path("front"), "/").unwrap(), "green");
    assert_eq!(server.say(&["status", "--json"]).json()["switches"][0]["revision"], 1);
}
