//! Users, passwords and files of them; requests go through the whole walk.

use crate::host::Env;
use crate::phase::{self, Step};
use crate::testing::{Node, TestHost, answer, exchange, server_of};

const USERS: &str = "# comment:{PLAIN}comment\n\r\n\nbob:{PLAIN}secret\r\nbobby:{PLAIN}other:Bob B.\nold:sa3tHJ3/KuYvI\nlast:{PLAIN}end";

/// Status, the field WWW-Authenticate, and the log.
fn ask(settings: &str, credentials: &str) -> (String, String, Vec<String>) {
    let config = server_of(settings);
    let mut host = TestHost::new()
        .file("/prefix/html/a", "a")
        .file("/etc/pointsman/users", USERS)
        .file("/abs/users", "eve:{PLAIN}apple\n")
        .node("/etc/pointsman/locked", Node::Locked(libc::EACCES));
    let authorization = match credentials {
        "" => String::new(),
        text => format!("Authorization: {text}\r\n"),
    };
    let request = format!("GET /a?x=off HTTP/1.1\r\nHost: x\r\n{authorization}\r\n");
    let answer = answer(&config, &mut host, &request);
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    let field = answer.lines().find_map(|line| line.strip_prefix("WWW-Authenticate: "));
    let lines =
        host.error_lines.iter().map(|line| line.split(", client").next().unwrap_or_default().to_owned());
    (status, field.unwrap_or_default().to_owned(), lines.collect())
}

const CLOSED: &str = "error_log e info; auth_basic \"closed $host\"; auth_basic_user_file users;";

fn basic(pair: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

#[test]
fn without_a_password_the_answer_is_401() {
    for none in ["", "Bearer x", "Basic", "Basic !", &basic("bob"), &basic(":secret")] {
        let (status, field, lines) = ask(CLOSED, none);
        assert_eq!((status.as_str(), field.as_str()), ("401", "Basic realm=\"closed x\""), "{none}");
        assert_eq!(lines, ["[info] no user/password was provided for basic authentication"]);
    }
}

#[test]
fn users_are_found_by_their_whole_name() {
    let cases = [
        ("bob:secret", "200", ""),
        ("bobby:other", "200", ""),
        ("last:end", "200", ""),
        ("bob:other", "401", "[error] user \"bob\": password mismatch"),
        ("bo:secret", "401", "[error] user \"bo\" was not found in \"/etc/pointsman/users\""),
        ("# comment:comment", "401", "[error] user \"# comment\" was not found in \"/etc/pointsman/users\""),
        (
            "old:password",
            "401",
            "[error] user \"old\": the password in \"/etc/pointsman/users\" is of a scheme that is not supported",
        ),
    ];
    for (pair, wanted, line) in cases {
        let (status, _, lines) = ask(CLOSED, &basic(pair));
        assert_eq!((status.as_str(), lines.join("|").as_str()), (wanted, line), "{pair}");
    }
}

#[test]
fn off_or_half_a_configuration_asks_for_no_password() {
    assert_eq!(ask("auth_basic r;", "").0, "200");
    assert_eq!(ask("auth_basic_user_file users;", "").0, "200");
    assert_eq!(ask(&format!("{CLOSED} location /a {{ auth_basic off; }}"), "").0, "200");
    assert_eq!(ask("auth_basic $arg_x; auth_basic_user_file users;", "").0, "200");
    assert_eq!(ask("auth_basic r; auth_basic_user_file /abs/users;", &basic("eve:apple")).0, "200");
}

#[test]
fn a_file_that_cannot_be_read() {
    let (status, _, lines) = ask("auth_basic r; auth_basic_user_file none;", &basic("a:b"));
    assert_eq!(status, "403");
    assert_eq!(lines, ["[error] open() \"/etc/pointsman/none\" failed (2: No such file or directory)"]);
    let (status, _, lines) = ask("auth_basic r; auth_basic_user_file locked;", &basic("a:b"));
    assert_eq!(status, "500");
    assert_eq!(lines, ["[crit] open() \"/etc/pointsman/locked\" failed (13: Permission denied)"]);
    let (status, _, lines) = ask("auth_basic r; auth_basic_user_file $arg_none;", &basic("a:b"));
    assert_eq!(status, "500");
    assert_eq!(lines, ["[crit] pread() \"/etc/pointsman/\" failed (21: Is a directory)"]);
}

#[test]
fn any_is_satisfied_by_one_and_asks_for_a_password_first() {
    let of = |settings: &str, credentials: &str| {
        let (status, field, _) = ask(&format!("{CLOSED} {settings}"), credentials);
        (status, field.is_empty())
    };
    let right = basic("bob:secret");
    assert_eq!(of("satisfy any; allow all;", ""), ("200".to_owned(), true));
    assert_eq!(of("satisfy any; deny all;", ""), ("401".to_owned(), false));
    assert_eq!(of("satisfy any; deny all;", &right), ("200".to_owned(), true));
    assert_eq!(of("satisfy all; deny all;", &right), ("403".to_owned(), true));
    assert_eq!(of("satisfy all; allow all;", ""), ("401".to_owned(), false));
    assert_eq!(of("satisfy all; allow all;", &right), ("200".to_owned(), true));
}

#[test]
fn auth_delay_holds_back_the_401() {
    for satisfy in ["all", "any"] {
        let (status, _, lines) = ask(&format!("{CLOSED} satisfy {satisfy}; auth_delay 2s;"), &basic("bob:x"));
        assert_eq!(status, "401");
        assert_eq!(
            lines,
            ["[error] user \"bob\": password mismatch", "[info] delaying unauthorized request"],
            "{satisfy}"
        );
    }
}

#[test]
fn an_error_page_keeps_the_field() {
    let (status, field, _) =
        ask(&format!("{CLOSED} error_page 401 /p; location /p {{ auth_basic off; return 200 p; }}"), "");
    assert_eq!((status.as_str(), field.is_empty()), ("401", false));
}

#[test]
fn user_is_known_where_the_password_was_looked_at_and_nowhere_else() {
    let user = |settings: &str, credentials: &str| {
        let config = server_of(settings);
        let mut host = TestHost::new().file("/etc/pointsman/users", USERS).file("/prefix/html/a", "a");
        let request = format!("GET /a HTTP/1.1\r\nHost: x\r\nAuthorization: {credentials}\r\n\r\n");
        let mut exchange = exchange(&config, &mut host, &request);
        let mut env = Env { config: &config, host: &mut host };
        let step = phase::advance(&mut exchange, &mut env);
        assert!(matches!(step, Step::Serve(_)), "{settings}: {step:?}");
        let at = exchange.route.location;
        String::from_utf8(exchange.route.access.user_at(at).to_vec()).unwrap()
    };
    let right = basic("bob:secret");
    assert_eq!(user(CLOSED, &right), "bob");
    assert_eq!(user(&format!("{CLOSED} satisfy any; deny all;"), &right), "bob");
    // Somebody else let it in, and no one has looked.
    assert_eq!(user(&format!("{CLOSED} satisfy any; allow all;"), &right), "");
    assert_eq!(user(&format!("{CLOSED} satisfy any; allow all;"), &basic("root:wrong")), "");
    assert_eq!(user("auth_basic r;", &right), "", "without a file of users");
    assert_eq!(user("auth_basic off; auth_basic_user_file users;", &right), "");
    // Another location is another door.
    let moved = format!(
        "{CLOSED} location = /a {{ try_files /none /b; }} location = /b {{ auth_basic off; return 200; }}"
    );
    assert_eq!(user(&moved, &right), "");
}
