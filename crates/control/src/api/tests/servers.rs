//! The servers of groups over the API.

use super::*;

#[tokio::test]
async fn a_server_is_added_changed_and_removed() {
    let api = TestApi::new("");
    let path = "/v1/groups/green/servers/127.0.0.1:9";
    let receipt = api.order("PUT", path, json!({"params": {"weight": 3}, "reason": "more load"})).await;
    assert_eq!(receipt.header("etag"), "\"1\"");
    let receipt = receipt.done();
    assert_eq!(receipt["servers"][0]["change"], "green: 127.0.0.1:9 added, weight=3");
    let patch = json!({"params": {"max_conns": 20, "fail_timeout": "1m", "drain": true}});
    api.order("PATCH", path, patch).await.done();

    let server = api.get(path).await;
    assert_eq!(server.header("etag"), "\"2\"");
    let server = server.done();
    assert_eq!(server["source"], "order");
    let params = json!({"weight": 3, "max_conns": 20, "fail_timeout": "60s", "drain": true});
    assert_eq!(server["params"], params);
    assert_eq!(server["said"]["says"], "added weight=3 max_conns=20 fail_timeout=60s drain");
    assert_eq!((&server["said"]["revision"], &server["said"]["actor"]), (&json!(2), &json!("unix:7(ann)")));

    api.order("DELETE", "/v1/groups/GREEN/servers/127.0.0.1:2", json!({"force": true})).await.done();
    let green = api.get("/v1/groups/green/servers").await.done();
    assert_eq!(green["used_by"], json!(["switch \"live\""]));
    assert_eq!(green["servers"].as_array().unwrap().len(), 1);
    assert_eq!(green["removed"][0]["server"], "127.0.0.1:2");
    let all = api.get("/v1/groups").await.done();
    assert_eq!((&all["revision"], all["groups"].as_array().unwrap().len()), (&json!(3), 2));
    assert_eq!(all["groups"][1], green);
}

#[tokio::test]
async fn many_changes_are_one_commit_and_its_history_is_that_of_groups() {
    let api = TestApi::new("");
    let changes = json!([
        {"do": "add", "server": "127.0.0.1:9", "params": {"weight": 2}},
        {"do": "remove", "server": "127.0.0.1:2"},
    ]);
    let receipt = api
        .order("POST", "/v1/groups/green/servers", json!({"changes": changes, "dry_run": true}))
        .await
        .done();
    assert_eq!((&receipt["outcome"], &receipt["revision"]), (&json!("would_commit"), &json!(0)));
    let receipt = api.order("POST", "/v1/groups/green/servers", json!({"changes": changes})).await.done();
    assert_eq!((&receipt["revision"], receipt["servers"].as_array().unwrap().len()), (&json!(1), 2));
    let stale = [("if-match", "\"0\"")];
    let again = json!({"changes": [{"do": "down", "server": "127.0.0.1:9"}]});
    let refused = api.order_with("POST", "/v1/groups/green/servers", &stale, again).await;
    assert_eq!(refused.code(), "revision_conflict");

    let history = api.get("/v1/switches/groups/history").await.done();
    assert_eq!(history["commits"][0]["kind"], "server");
    assert_eq!(history["commits"][0]["subjects"][0]["text"], "green: 127.0.0.1:2 removed");
    for (query, found) in [
        ("group=Green", 1),
        ("group=blue", 0),
        ("group=green&server=127.0.0.1:9", 1),
        ("group=green&server=127.0.0.1:8", 0),
    ] {
        let part = api.get(&format!("/v1/switches/groups/history?{query}")).await.done();
        assert_eq!(part["commits"].as_array().unwrap().len(), found, "{query}");
    }
    for path in ["groups/history?server=127.0.0.1:9", "live/history?group=green"] {
        assert_eq!(api.get(&format!("/v1/switches/{path}")).await.code(), "bad_request", "{path}");
    }
    assert_eq!(api.get("/v1/switches/groups/receipts/1").await.done()["servers"], receipt["servers"]);
    let undone = api.order("POST", "/v1/switches/groups/undo", json!({})).await.done();
    assert_eq!(undone["of"], 1);
    let green = api.get("/v1/groups/green/servers").await.done();
    assert_eq!(green["servers"][0]["server"], "127.0.0.1:2");
    let diff = api.get("/v1/switches/groups/diff?from=0&to=1").await.done();
    assert_eq!(diff["subjects"].as_array().unwrap().len(), 2);
    let backup = api.get("/v1/switches/groups/backup").await;
    assert_eq!(backup.status, 200);
}

#[tokio::test]
async fn refusals_name_what_is_wrong() {
    let api = TestApi::new("");
    let put = |server: &str, body: Value| {
        let path = format!("/v1/groups/green/servers/{server}");
        let api = &api;
        async move { api.order("PUT", &path, body).await }
    };
    for (server, body, code) in [
        ("backend:80", json!({}), "bad_server"),
        ("127.0.0.1:9", json!({"params": {"weight": 0}}), "bad_server"),
        ("127.0.0.1:9", json!({"params": {"fail_timeout": "100ms"}}), "bad_server"),
        ("127.0.0.1:9", json!({"params": {"fail_timeout": "soon"}}), "bad_order"),
        ("127.0.0.1:9", json!({"params": {"wait": 1}}), "bad_request"),
        ("127.0.0.1:9", json!({"hold": {}}), "bad_order"),
        ("127.0.0.1:2", json!({}), "server_exists"),
        ("127.0.0.1:1", json!({"gate": true}), "gate_failed"),
    ] {
        let answer = put(server, body.clone()).await;
        assert_eq!(answer.code(), code, "{server} {body}");
    }
    let gone = api.order("DELETE", "/v1/groups/green/servers/127.0.0.1:2", json!({})).await;
    assert_eq!(gone.code(), "group_emptied");
    let nowhere = api.order("PATCH", "/v1/groups/red/servers/127.0.0.1:2", json!({"params": {"weight": 2}}));
    assert_eq!(nowhere.await.code(), "unknown_group");
    assert_eq!(api.get("/v1/groups/red/servers").await.code(), "unknown_group");
    assert_eq!(api.get("/v1/groups/green/servers/127.0.0.1:7").await.code(), "unknown_server");
    let key = api.order("PUT", "/v1/switches/groups/keys/a", json!({"target": "green"})).await;
    assert!(["bad_key", "bad_order"].contains(&&*key.code()), "{}", key.text);
    assert_eq!(api.get("/v1/groups").await.done()["revision"], 0);
}

#[tokio::test]
async fn a_group_is_made_shown_and_removed() {
    let api = TestApi::new("targets blue green dynamic;");
    let servers = json!([{"server": "127.0.0.1:9", "params": {"weight": 3}}, {"server": "unix:/a.sock"}]);
    let order = json!({"like": "green", "servers": servers, "reason": "version 12"});
    let dry = json!({"like": "green", "servers": servers, "dry_run": true});
    assert_eq!(api.order("PUT", "/v1/groups/teal", dry).await.done()["outcome"], "would_commit");
    let receipt =
        api.order_with("PUT", "/v1/groups/teal", &[("idempotency-key", "k")], order.clone()).await.done();
    assert_eq!((&receipt["kind"], &receipt["revision"]), (&json!("group"), &json!(1)));
    assert_eq!(receipt["servers"][0]["change"], "teal: made, like green");
    let again =
        api.order_with("PUT", "/v1/groups/teal", &[("idempotency-key", "k")], order.clone()).await.done();
    assert_eq!(again["outcome"], "repeated");
    assert_eq!(api.order("PUT", "/v1/groups/teal", order).await.code(), "group_exists");

    let teal = api.get("/v1/groups/teal").await.done();
    assert_eq!(
        (&teal["source"], &teal["like"], &teal["state"]),
        (&json!("order"), &json!("green"), &json!("healthy"))
    );
    assert_eq!((&teal["made"]["revision"], &teal["made"]["reason"]), (&json!(1), &json!("version 12")));
    assert_eq!(
        (&teal["servers"][0]["state"], &teal["servers"][0]["source"]),
        (&json!("up"), &json!("order"))
    );
    let green = api.get("/v1/groups/green?window=10s").await.done();
    assert_eq!((&green["source"], green.get("made")), (&json!("file"), None));

    api.order("PUT", "/v1/switches/live/keys/a.example", json!({"target": "teal"})).await.done();
    assert_eq!(api.order("DELETE", "/v1/groups/teal", json!({})).await.code(), "group_in_use");
    api.order("DELETE", "/v1/switches/live/keys/a.example", json!({})).await.done();
    let stale = [("if-match", "\"0\"")];
    assert_eq!(
        api.order_with("DELETE", "/v1/groups/teal", &stale, json!({})).await.code(),
        "revision_conflict"
    );
    api.order("DELETE", "/v1/groups/teal", json!({"confirm_within": "10m"})).await.done();
    assert_eq!(api.get("/v1/groups/teal").await.code(), "unknown_group");
    let undone = api.order("POST", "/v1/switches/groups/undo", json!({})).await.done();
    assert_eq!(undone["of"], 2);
    assert_eq!(api.get("/v1/groups/teal").await.done()["servers"].as_array().unwrap().len(), 2);
    let new = [("if-none-match", "*")];
    for path in ["/v1/groups/teal", "/v1/groups/green/servers/127.0.0.1:2"] {
        let there = api.order_with("PUT", path, &new, json!({})).await;
        assert_eq!((there.status, &*there.code()), (412, "entry_conflict"), "{path}");
    }
    for (method, path) in [("PATCH", "/v1/groups/green/servers/127.0.0.1:2"), ("DELETE", "/v1/groups/teal")] {
        assert_eq!(api.order_with(method, path, &new, json!({})).await.code(), "bad_order", "{method}");
    }
    for (name, code) in [("Teal", "bad_group"), ("blue", "group_exists"), ("10.0.0.1", "bad_group")] {
        assert_eq!(api.order("PUT", &format!("/v1/groups/{name}"), json!({})).await.code(), code, "{name}");
    }
}

/// Returns a caller with the rights of a location.
fn over_http() -> Origin {
    Origin {
        via: Via::Location,
        name: "anna".into(),
        address: "192.0.2.7".into(),
        ..Origin::at_socket(String::new())
    }
}

#[tokio::test]
async fn no_order_leads_back_into_this_server() {
    let here = "server { listen 127.0.0.1:8080; listen unix:/run/traffic; } server { listen 8081; }";
    let mut api = TestApi::of(&format!("{} {here}", two_groups("")), &[]);
    let socket = api.folder.path().join("run/pointsman.sock");
    std::fs::create_dir(api.folder.path().join("run")).unwrap();
    std::fs::create_dir(api.folder.path().join("logs")).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let link = api.folder.path().join("link");
    std::os::unix::fs::symlink(&socket, &link).unwrap();
    let handover = api.folder.path().join("logs/pointsman.pid.handover");
    let refused = [
        format!("unix:{}", socket.display()),
        format!("unix:{}", link.display()),
        format!("unix:{}", handover.display()),
        "unix:/run/traffic".to_owned(),
        "127.0.0.1:8080".to_owned(),
        "[::ffff:127.0.0.1]:8080".to_owned(),
        "127.0.0.5:8081".to_owned(),
        "224.0.0.1:80".to_owned(),
        "[ff02::1]:80".to_owned(),
        "255.255.255.255:80".to_owned(),
        "[::ffff:0.0.0.0]:80".to_owned(),
    ];
    for origin in [api.origin.clone(), over_http()] {
        api.origin = origin;
        for server in &refused {
            let changes = json!({"changes": [{"do": "add", "server": server}], "force": true});
            let path = "/v1/groups/green/servers";
            let answer = api.order_with("POST", path, &[("host", "localhost")], changes).await;
            assert_eq!((answer.status, &*answer.code()), (403, "server_not_allowed"), "{server}");
        }
    }
    drop(listener);
}

#[tokio::test]
async fn an_order_over_http_names_what_the_configuration_allows() {
    for (listed, refused, taken) in [
        ("", "10.0.0.9:80 169.254.169.254:80 unix:/run/app-1", "127.0.0.7:80 [::1]:80"),
        (
            "server_orders 10.0.0.0/8 unix:/run/app-*;",
            "127.0.0.7:80 11.0.0.1:80 unix:/run/other unix:/run/app-1/x unix:/run/app-/../x",
            "10.9.9.9:80 [::ffff:10.1.1.1]:80 unix:/run/app-1",
        ),
    ] {
        let mut api = TestApi::of(&format!("{listed} {}", two_groups("")), &[]);
        let put = async |api: &TestApi, server: &str| {
            let changes = json!({"changes": [{"do": "add", "server": server}]});
            api.order_with("POST", "/v1/groups/green/servers", &[("host", "localhost")], changes).await
        };
        let own = std::mem::replace(&mut api.origin, over_http());
        for server in refused.split(' ') {
            let answer = put(&api, server).await;
            assert_eq!((answer.status, &*answer.code()), (403, "server_not_allowed"), "{server}");
            assert!(answer.json()["remedy"].as_str().unwrap().contains("server_orders"), "{server}");
        }
        for server in taken.split(' ') {
            put(&api, server).await.done();
        }
        // A group that is made has what the configuration's groups may have.
        for (server, code) in
            refused.split(' ').map(|one| (one, 403)).chain(taken.split(' ').map(|one| (one, 200)))
        {
            let order = json!({"servers": [{"server": server}], "dry_run": true});
            let answer = api.order_with("PUT", "/v1/groups/red", &[("host", "localhost")], order).await;
            assert_eq!(answer.status, code, "{server}");
        }
        // What the configuration has may come back, and the socket names any other.
        let path = "/v1/groups/green/servers/127.0.0.1:2";
        api.order_with("DELETE", path, &[("host", "localhost")], json!({"force": true})).await.done();
        put(&api, "127.0.0.1:2").await.done();
        api.origin = own;
        for server in refused.split(' ').filter(|server| !server.contains("..")) {
            put(&api, server).await.done();
        }
    }
}
