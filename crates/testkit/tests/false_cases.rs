//! A test kit that cannot fail proves nothing: false statements must be reported, in words that help.
//!
//! They need some real server and run on nginx; where none is installed they say so and pass.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to stop")]

use std::path::{Path, PathBuf};

use pointsman_testkit::{Binary, Case, CaseOutcome, Kind, bless, run};

const CONF: &str = "=== http\nserver { listen {port:front}; location / { return 200 \"ok\\n\"; } \
    location /p { proxy_pass http://127.0.0.1:{port:back}; } location /f { root html; } }\n";
const ASK: &str = "=== client\n> GET / HTTP/1.1\n> Host: x\n>\n";
const HEAD: &str = "< HTTP/1.1 200 OK\n< Server: <server>\n< Date: <date>\n< Content-Type: text/plain\n";

fn nginx() -> Option<Binary> {
    let path = PathBuf::from("/usr/sbin/nginx");
    if !path.is_file() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "nginx is not installed, and CI compares with it"
        );
        eprintln!("nginx is not installed: nothing to hold false statements against");
        return None;
    }
    Some(Binary { path, kind: Kind::Nginx })
}

/// A case file that is gone with this value.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, text: &str) -> Written {
        let path = std::env::temp_dir().join(format!("testkit-{}-{name}.case", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Written(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs a false case; answers how the failure reads.
fn failure(name: &str, rest: &str) -> Option<String> {
    let binary = nginx()?;
    let written = Written::new(name, &format!("A false statement.\n{CONF}{rest}"));
    let case = Case::load(written.path()).unwrap();
    Some(run(&case, &binary).expect_err("a false case passed").to_string())
}

fn assert_fails(name: &str, rest: &str, words: &[&str]) {
    let Some(text) = failure(name, rest) else { return };
    for word in words {
        assert!(text.contains(word), "{name}: \"{word}\" is not in:\n{text}");
    }
}

#[test]
fn a_true_case_passes() {
    let Some(binary) = nginx() else { return };
    let rest = "< Content-Length: 3\n< Connection: keep-alive\n<\n< ok\n";
    let written = Written::new("true", &format!("A true statement.\n{CONF}{ASK}{HEAD}{rest}"));
    assert_eq!(run(&Case::load(written.path()).unwrap(), &binary).unwrap(), CaseOutcome::Passed);
}

#[test]
fn a_wrong_header_or_body_is_shown_beside_what_came() {
    let rest = "< Content-Length: 4\n< Connection: keep-alive\n<\n< okay\n";
    let words = ["not the expected one", "- Content-Length: 4", "+ Content-Length: 3", "- okay", "+ ok"];
    assert_fails("body", &format!("{ASK}{HEAD}{rest}"), &words);
    let rest = "< Connection: keep-alive\n< Content-Length: 3\n<\n< ok\n";
    assert_fails(
        "order",
        &format!("{ASK}{HEAD}{rest}"),
        &["- Connection: keep-alive", "+ Connection: keep-alive"],
    );
    assert_fails("missing", &format!("{ASK}< HTTP/1.1 200 OK\n<\n< ok\n"), &["+ Server: <server>"]);
}

#[test]
fn bytes_that_nothing_expects_are_a_failure() {
    let rest = "< HTTP/1.1 200 OK\n< <...>\n<\n< ok\n\n=== client\n> GET / HTTP/1.1\n> Host: x\n>\n";
    // The second answer has come once the log speaks of it.
    let wait = "=== wait logs/access.log\n<*>GET /<*>\n<*>GET /<*>\n";
    assert_fails("extra", &format!("{ASK}{rest}{wait}"), &["bytes that nothing expected", "HTTP/1.1 200 OK"]);
    assert_fails(
        "closed",
        &format!("{ASK}! closed\n"),
        &["bytes came where the connection was to be closed"],
    );
}

#[test]
fn origins_speak_up_when_the_proxy_says_something_else() {
    let origin = "=== origin back\n> GET /other HTTP/1.0\n< HTTP/1.1 200 OK\n<\n";
    let ask = "=== client\n> GET /p HTTP/1.1\n> Host: x\n>\n< HTTP/1.1 200 OK\n< <...>\n";
    assert_fails(
        "origin",
        &format!("{origin}{ask}"),
        &["the origin: these bytes did not come", "+ GET /p HTTP/1.0"],
    );
    let two = "=== origin back\n! close\n! next\n! close\n";
    let ask = "=== client\n> GET / HTTP/1.1\n> Host: x\n>\n< HTTP/1.1 200 OK\n< <...>\n<\n< ok\n";
    assert_fails("count", &format!("{two}{ask}"), &["2 connections expected, 0 came"]);
}

#[test]
fn logs_must_be_quiet_or_spoken_of() {
    let ask =
        "=== client\n> GET /f/none HTTP/1.1\n> Host: x\n>\n< HTTP/1.1 404 Not Found\n< <...>\n<\n< <...>\n";
    let words =
        ["logs/error.log has entries that no section expects", "+ <error>open() \"{prefix}/html/f/none\""];
    assert_fails("quiet", ask, &words);
    let log =
        "=== log logs/access.log\n127.0.0.1 - - [<clf>] \"GET /f/none HTTP/1.1\" 200 <int> \"-\" \"-\"\n";
    let words =
        ["logs/access.log is not as expected", "+ 127.0.0.1 - - [<clf>] \"GET /f/none HTTP/1.1\" 404"];
    assert_fails("log", &format!("{ask}{log}=== log logs/error.log\n<...>\n"), &words);
}

#[test]
fn a_server_that_starts_or_ends_otherwise_is_a_failure() {
    assert_fails(
        "start",
        "=== conf\nnonsense;\n=== start\n",
        &["it did not start: exit code 1", "unknown directive"],
    );
    assert_fails(
        "refused",
        "=== run -t\nexit 1\n",
        &["did not say what was expected", "- exit 1", "+ exit 0"],
    );
    assert_fails("exit", "=== signal QUIT\n=== exit 3\n", &["exit code 3 expected, 0 seen"]);
}

#[test]
fn blessing_writes_what_was_seen_into_the_file() {
    let Some(binary) = nginx() else { return };
    let text = format!(
        "To be blessed.\n{CONF}{ASK}< ?\n\n> GET /none HTTP/1.1\n> Host: {{port:front}}\n>\n< ?\n< <...>\n<\n< ?\n"
    );
    let written = Written::new("bless", &text);
    assert!(bless(&Case::load(written.path()).unwrap(), &binary).unwrap());
    let blessed = std::fs::read_to_string(written.path()).unwrap();
    assert!(
        blessed.contains(&format!("{HEAD}< Content-Length: 3\n< Connection: keep-alive\n<\n< ok\n")),
        "{blessed}"
    );
    assert!(blessed.ends_with("< HTTP/1.1 200 OK\n< <...>\n<\n< ok\n"), "{blessed}");
    assert_eq!(run(&Case::load(written.path()).unwrap(), &binary).unwrap(), CaseOutcome::Passed);
}
