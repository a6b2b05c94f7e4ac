//! lua-resty-redis against Redis.

use super::{LIBRARIES, Server, are_there, redis};

fn has_redis() -> bool {
    are_there(&["/usr/bin/redis-server", &format!("{LIBRARIES}/redis.lua")])
}

#[test]
fn redis_commands_pipelines_and_pooled_connections_work() {
    if !has_redis() {
        return;
    }
    let server = Server::start(
        r#"server { listen unix:{folder}/front;
            location /all { content_by_lua_block {
                require "resty.core"
                local redis = require "resty.redis"
                local red = redis:new()
                red:set_timeouts(1000, 1000, 1000)
                assert(red:connect("unix:{folder}/redis"))
                ngx.say(red:set("dog", "an animal"), " ", red:get("dog"), " ", red:get("cat") == ngx.null)
                ngx.say(red:incr("n"), red:incrby("n", 41), " ", red:hmset("h", { a = 1, b = 2 }))
                ngx.say(table.concat(red:hmget("h", "a", "b"), ","))
                red:init_pipeline()
                red:set("p", 1) red:get("p") red:lpush("l", "x", "y") red:lrange("l", 0, -1) red:nonsense()
                local results = red:commit_pipeline()
                ngx.say(results[1], results[2], results[3], results[4][1], results[4][2], results[5][1], results[5][2])
                local long = string.rep("x", 300000)
                ngx.say(red:set("long", long), red:get("long") == long)
                ngx.say(red:eval("return {KEYS[1], ARGV[1]}", 1, "k", "v")[2])
                ngx.say(red:get_reused_times(), red:set_keepalive(10000, 10))
            } }
            location /again { content_by_lua_block {
                local red = require "resty.redis":new()
                assert(red:connect("unix:{folder}/redis"))
                ngx.say(red:get_reused_times(), " ", red:ping(), " ", red:set_keepalive(10000, 10))
            } }
            location /channel { content_by_lua_block {
                local redis = require "resty.redis"
                local one, other = redis:new(), redis:new()
                one:set_timeout(50)
                assert(one:connect("unix:{folder}/redis") and other:connect("unix:{folder}/redis"))
                ngx.say(table.concat(one:subscribe("news"), ","))
                ngx.say(select(2, one:read_reply()))
                ngx.say(other:publish("news", "it is Monday"))
                ngx.say(table.concat(one:read_reply(), ","))
            } }
        }"#,
    );
    let _redis = redis(server.folder.path());
    let (status, body) = server.get("/all");
    assert_eq!(status, 200, "{}", server.log());
    let lines: Vec<&str> = body.lines().collect();
    let unknown = lines[3];
    assert!(unknown.starts_with("OK12yxfalseERR unknown command"), "{unknown}");
    assert_eq!(
        [&lines[..3], &lines[4..]].concat(),
        ["OK an animal true", "142 OK", "1,2", "OKtrue", "v", "01"]
    );
    for times in 1..4 {
        assert_eq!(server.get("/again"), (200, format!("{times} PONG 1\n")));
    }
    let expected = "subscribe,news,1\ntimeout\n1\nmessage,news,it is Monday\n";
    assert_eq!(server.get("/channel"), (200, expected.to_owned()));
}

/// The gateway of the tutorial, with its choice in Redis instead of a dict.
#[test]
fn the_gateway_asks_redis_which_upstream() {
    if !has_redis() {
        return;
    }
    let server = Server::start(
        r#"upstream default_upstream { server unix:{folder}/blue; }
        upstream lua_upstream { server unix:{folder}/green; }
        server { listen unix:{folder}/blue; location / { return 200 blue; } }
        server { listen unix:{folder}/green; location / { return 200 green; } }
        server { listen unix:{folder}/front;
            location = /_switch_upstream { content_by_lua_block {
                local red = require "resty.redis":new()
                assert(red:connect("unix:{folder}/redis"))
                ngx.say(red:set("upstream:" .. ngx.var.host, ngx.var.arg_upstream))
                red:set_keepalive()
            } }
            location / {
                set $chosen default_upstream;
                access_by_lua_block {
                    local red = require "resty.redis":new()
                    red:set_timeout(500)
                    local ok, err = red:connect("unix:{folder}/redis")
                    if not ok then
                        ngx.log(ngx.WARN, "no redis: ", err)
                        return
                    end
                    local chosen = red:get("upstream:" .. ngx.var.host)
                    if chosen and chosen ~= ngx.null then ngx.var.chosen = chosen end
                    red:set_keepalive(10000, 100)
                }
                proxy_pass http://$chosen;
            }
        }"#,
    );
    assert_eq!(server.get("/"), (200, "blue".to_owned()), "without Redis");
    let _redis = redis(server.folder.path());
    assert_eq!(server.get("/"), (200, "blue".to_owned()));
    assert_eq!(server.get("/_switch_upstream?upstream=lua_upstream"), (200, "OK\n".to_owned()));
    assert_eq!(server.get("/"), (200, "green".to_owned()), "{}", server.log());
    let before = server.descriptors();
    for _ in 0..100 {
        assert_eq!(server.get("/").1, "green");
    }
    assert!(server.descriptors() <= before + 2, "a pooled connection is used again");
}
