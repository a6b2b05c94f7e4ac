//! Requests that ask Redis, while Redis is killed, stopped and started again, and while the server is reloaded.

use super::{LIBRARIES, Server, are_there, redis, until};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const CONF: &str = r#"server { listen unix:{folder}/front;
    location / { content_by_lua_block {
        local red = require "resty.redis":new()
        red:set_timeouts(200, 200, 200)
        local ok, err = red:connect("unix:{folder}/redis", { pool = "disturbed" })
        if not ok then return ngx.say("none ", err) end
        local n, err = red:incr("requests")
        if not n then
            red:close()
            return ngx.say("none ", err)
        end
        -- Some leave their connection open, or fail, or set a timer that asks too.
        if n % 7 == 0 then return ngx.say("open") end
        if n % 11 == 0 then error("on purpose") end
        if n % 13 == 0 then
            ngx.timer.at(0, function()
                local red = require "resty.redis":new()
                red:set_timeout(200)
                if red:connect("unix:{folder}/redis") and red:get("requests") then red:set_keepalive(1000, 4) end
            end)
        end
        red:set_keepalive(1000, 4)
        ngx.say("asked")
    } }
}"#;

#[test]
fn every_request_is_answered_and_nothing_is_left() {
    if !are_there(&["/usr/bin/redis-server", &format!("{LIBRARIES}/redis.lua")]) {
        return;
    }
    let server = Server::start(CONF);
    let mut beside = Some(redis(server.folder.path()));
    until("the first answer", || server.get("/").1 == "asked\n");
    let before = server.descriptors();
    let (is_over, count) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; 3]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let (status, body) = server.get("/");
                    let kind = match (status, body.as_str()) {
                        (200, "asked\n" | "open\n") => 0,
                        (200, body) if body.starts_with("none ") => 1,
                        (500, _) => 2,
                        other => panic!("{other:?}\n{}", server.log()),
                    };
                    count[kind].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..12 {
            std::thread::sleep(Duration::from_millis(60));
            match round % 4 {
                0 => drop(beside.take()),
                1 => beside = Some(redis(server.folder.path())),
                2 => {
                    let redis = beside.as_ref().unwrap();
                    redis.signal("STOP");
                    server.reload();
                    std::thread::sleep(Duration::from_millis(300));
                    redis.signal("CONT");
                }
                _ => server.reload(),
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let [asked, refused, failed] = count.map(AtomicUsize::into_inner);
    assert!(asked > 100 && refused > 10 && failed > 0, "{asked} {refused} {failed}");
    // What was idle in a pool is closed a second later, and old generations are gone.
    until("no socket is left", || server.descriptors() <= before);
    until("it serves", || server.get("/").1 == "asked\n");
    let log = server.log();
    let odd: Vec<&str> = log
        .lines()
        .filter(|line| {
            line.contains("[alert]") || line.contains("[crit]") && !line.contains("connect() to unix:")
        })
        .collect();
    assert!(odd.is_empty(), "{odd:#?}");
}
