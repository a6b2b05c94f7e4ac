//! Who comes in, and what other pages and other users get: nothing.

use super::*;

/// Returns a request to `pointsman dashboard` at its own address, with these fields.
fn request(port: u16, method: &str, path: &str, fields: &str, body: &str) -> String {
    let host = if fields.lines().any(|line| line.to_lowercase().starts_with("host:")) {
        String::new()
    } else {
        format!("Host: 127.0.0.1:{port}\r\n")
    };
    format!(
        "{method} {path} HTTP/1.1\r\n{host}{fields}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

impl LocalDashboard {
    fn ask(&self, method: &str, path: &str, fields: &str, body: &str) -> Answer {
        http(self.port, &request(self.port, method, path, fields, body))
    }

    fn enter(&self, secret: &str) -> Answer {
        let fields = format!("Origin: http://127.0.0.1:{}\r\nContent-Type: application/json\r\n", self.port);
        self.ask("POST", "/session", &fields, &format!("{{\"secret\":\"{secret}\"}}"))
    }

    /// Returns the fields of a session: its cookie, and what an act needs beside it.
    fn session(&self) -> (String, String) {
        let answer = self.enter(&self.secret);
        assert_eq!(answer.status, 200, "{}", answer.text);
        let cookie = answer.head.split("set-cookie: ").nth(1).unwrap().split(';').next().unwrap();
        let cookie = format!("Cookie: {cookie}\r\n");
        let known: Value = serde_json::from_str(&answer.text).unwrap();
        let csrf = known["csrf"].as_str().unwrap();
        let act = format!(
            "{cookie}Origin: http://127.0.0.1:{}\r\nX-Pointsman-Csrf: {csrf}\r\nContent-Type: application/json\r\n",
            self.port
        );
        (cookie, act)
    }
}

const KEY: &str = "/v1/switches/live/keys/a.example";
const GREEN: &str = "{\"target\":\"green\",\"reason\":\"by hand\"}";

#[test]
fn secret_opens_once_and_nothing_is_answered_without_the_cookie() {
    let site = Site::start("", "");
    let local = site.dashboard(&["--operate"]);
    for path in ["/v1/switches", "/v1/events", "/assets/main.js", "/session"] {
        let answer = local.ask("GET", path, "", "");
        assert_eq!(answer.status, 401, "{path}");
        assert!(!answer.text.contains("live"), "{path}: {}", answer.text);
    }
    assert_eq!(local.enter(&local.secret.replace(|_| true, "0")).status, 401);
    let (cookie, act) = local.session();
    assert!(cookie.starts_with(&format!("Cookie: pointsman-{}=", local.port)));
    let again = local.enter(&local.secret);
    assert_eq!(again.status, 401, "the second use");
    assert!(again.text.contains("was used already"), "{}", again.text);
    let list = local.ask("GET", "/v1/switches", &cookie, "");
    assert!(list.status == 200 && list.text.contains("\"name\":\"live\""), "{}", list.text);
    let done = local.ask("PUT", KEY, &act, GREEN);
    assert_eq!(done.status, 200, "{}", done.text);
    // The actor is the user at the socket, and not a name that the page could choose.
    let uid = nix::unistd::geteuid();
    let commit = site.last_commit();
    assert!(commit["actor"].as_str().unwrap().starts_with(&format!("unix:{uid}")), "{commit}");
    assert_eq!(commit["reason"], "by hand");
}

#[test]
fn rebound_host_and_foreign_origin_get_nothing() {
    let site = Site::start("", "");
    let local = site.dashboard(&["--operate"]);
    let (cookie, act) = local.session();
    let port = local.port;
    for host in [
        format!("evil.example:{port}"),
        "127.0.0.1".to_owned(),
        format!("127.0.0.1:{}", port.wrapping_add(1)),
        format!("localhost.evil.example:{port}"),
        format!("[::1]:{port}"),
        format!("LOCALHOST:{port}"),
    ] {
        let answer = local.ask("GET", "/v1/switches", &format!("Host: {host}\r\n{cookie}"), "");
        assert_eq!(answer.status, 403, "{host}: {}", answer.text);
        assert!(answer.text.contains("host_not_allowed"), "{host}");
        let page = local.ask("GET", "/", &format!("Host: {host}\r\n"), "");
        assert_eq!(page.status, 403, "{host}: not even the page");
    }
    assert_eq!(
        local.ask("GET", "/v1/switches", &format!("Host: localhost:{port}\r\n{cookie}"), "").status,
        200
    );
    let own = format!("Origin: http://127.0.0.1:{port}\r\n");
    for origin in [
        "http://evil.example".to_owned(),
        format!("http://localhost:{port}"),
        format!("https://127.0.0.1:{port}"),
        "http://127.0.0.1".to_owned(),
        "null".to_owned(),
    ] {
        let fields = act.replace(&own, &format!("Origin: {origin}\r\n"));
        let answer = local.ask("PUT", KEY, &fields, GREEN);
        assert!(answer.status == 403 && answer.text.contains("cross_site"), "{origin}: {}", answer.text);
        let read = local.ask("GET", "/v1/events", &format!("{cookie}Origin: {origin}\r\n"), "");
        assert_eq!(read.status, 403, "{origin}");
    }
    assert_eq!(local.ask("PUT", KEY, &act.replace(&own, ""), GREEN).status, 403, "an act without an Origin");
    let no_token =
        act.lines().filter(|line| !line.starts_with("X-Pointsman")).map(|line| format!("{line}\r\n"));
    assert_eq!(
        local.ask("PUT", KEY, &no_token.collect::<String>(), GREEN).status,
        403,
        "an act without the token"
    );
    let fetched = local.ask("GET", "/v1/switches", &format!("{cookie}Sec-Fetch-Site: same-site\r\n"), "");
    assert_eq!(fetched.status, 403, "a page of another port");
    assert_eq!(site.json(&["history"])["commits"].as_array().unwrap().len(), 0);
}

#[test]
fn dashboard_is_read_only_unless_asked_to_operate() {
    let site = Site::start("", "");
    let local = site.dashboard(&[]);
    let (cookie, act) = local.session();
    let known: Value = serde_json::from_str(&local.ask("GET", "/session", &cookie, "").text).unwrap();
    assert_eq!(known["role"], "viewer");
    let refused = local.ask("PUT", KEY, &act, GREEN);
    assert!(
        refused.status == 403 && refused.text.contains("pointsman dashboard --operate"),
        "{}",
        refused.text
    );
    for (method, path) in
        [("POST", "/v1/reload"), ("DELETE", KEY), ("PUT", "/v1/switches/live/holds/a"), ("PATCH", "/v1/x")]
    {
        assert_eq!(local.ask(method, path, &act, "{}").status, 403, "{method} {path}");
    }
    assert_eq!(local.ask("GET", "/v1/groups", &cookie, "").status, 200);
}

#[test]
fn dashboard_ends_when_no_page_asks() {
    let site = Site::start("", "");
    let refused = site.say(&["dashboard", "--idle", "soon"]).unwrap_err();
    assert!(refused.contains("--idle"), "{refused}");
    let local = site.dashboard(&["--idle", "300ms"]);
    assert_eq!(local.process.wait(PATIENCE), Some(0));
}

#[test]
fn processes_of_another_user_are_not_let_in() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: only root can be another user");
    }
    let site = Site::start("", "");
    let local = site.dashboard(&["--operate"]);
    let (cookie, _) = local.session();
    // With all that the browser of the right user would send.
    let text = request(local.port, "GET", "/v1/switches", &cookie, "");
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}; printf '%s' \"$REQUEST\" >&3; cat <&3", local.port);
    let as_user = |id: &str| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", id, "--regid", id, "--clear-groups", "bash", "-c", &script])
            .env("REQUEST", &text);
        let output = output_of(&mut command, PATIENCE).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(as_user("0").contains("\"name\":\"live\""), "{}", as_user("0"));
    assert_eq!(as_user("65534"), "");
}

#[test]
fn location_lets_in_who_has_a_token_and_only_over_its_page() {
    let site = Site::start("", "");
    let port = site.port.number;
    let ask = |method: &str, path: &str, fields: &str, body: &str| {
        http(port, &request(port, method, path, fields, body))
    };
    let bare = ask("GET", "/dashboard", "", "");
    assert!(bare.status == 301 && bare.head.contains("/dashboard/"), "{}", bare.head);
    assert!(ask("GET", "/dashboard/", "", "").text.contains("log in"));
    assert_eq!(ask("GET", "/dashboard/v1/switches", "", "").status, 401);
    // The API's own ways in are not the dashboard's.
    assert_eq!(ask("GET", "/dashboard/v1/switches", "Authorization: Bearer act\r\n", "").status, 401);
    let own = format!("Origin: http://127.0.0.1:{port}\r\nContent-Type: application/json\r\n");
    let enter = |fields: &str, secret: &str| {
        ask("POST", "/dashboard/session", fields, &format!("{{\"secret\":\"{secret}\"}}"))
    };
    let foreign = own.replace("127.0.0.1", "evil.example");
    assert_eq!(enter(&foreign, "act").status, 403);
    let answer = enter(&own, "act");
    assert_eq!(answer.status, 200, "{}", answer.text);
    let cookie = answer.head.split("set-cookie: ").nth(1).unwrap().split("\r\n").next().unwrap();
    assert!(cookie.starts_with("pointsman=") && cookie.contains("httponly; samesite=strict"), "{cookie}");
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    assert_eq!(ask("GET", "/dashboard/v1/switches", &cookie, "").status, 200);
    for _ in 0..5 {
        assert_eq!(enter(&own, "guess").status, 401);
    }
    let limited = enter(&own, "act");
    assert!(limited.status == 429 && limited.text.contains("too_many_logins"), "{}", limited.text);
    // A token that is gone takes its sessions along.
    site.write_tokens(&[("eve", "viewer", "look")]);
    site.say(&["reload"]).unwrap();
    assert_eq!(ask("GET", "/dashboard/v1/switches", &cookie, "").status, 401);
}
