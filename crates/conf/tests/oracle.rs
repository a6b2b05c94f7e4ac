//! Lexer and parser compared with real nginx, on random texts.
//!
//! Where no `nginx` is installed the tests say so and pass.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use pointsman_conf::{Directive, Loader, Parsed, parse};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

struct Disk;

impl Loader for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

/// A directory of its own for one test, and nginx to run in it.
struct Nginx {
    dir: PathBuf,
    /// The state of a small generator of random numbers: the same texts in every run.
    seed: u64,
}

impl Nginx {
    fn find(test: &str) -> Option<Nginx> {
        if Command::new("nginx").arg("-v").output().is_err() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "nginx is not installed, and CI compares with it"
            );
            eprintln!("skipped: no nginx here to compare with");
            return None;
        }
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("oracle-{test}"));
        fs::create_dir_all(&dir).unwrap();
        Some(Nginx { dir, seed: 0x2545_F491_4F6C_DD1D })
    }

    fn random(&mut self, below: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as usize % below
    }

    /// Returns a text of so many pieces.
    fn text(&mut self, pieces: &[&str], count: usize) -> String {
        (0..count).map(|_| pieces[self.random(pieces.len())]).collect()
    }

    /// Returns nginx's first `[emerg]`, without the place, and our parse of the same file.
    fn both(&self, text: &str) -> (Option<String>, Parsed) {
        let path = self.dir.join("nginx.conf");
        fs::write(&path, text).unwrap();
        let mut nginx = Command::new("nginx");
        nginx.args(["-t", "-q", "-e", "stderr", "-p"]).arg(&self.dir).arg("-c").arg(&path);
        let output = nginx.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let emerg = said.split_once("[emerg] ").map(|(_, emerg)| {
            let emerg =
                emerg.split_once(&format!(" in {}:", path.display())).map_or(emerg, |(words, _)| words);
            emerg
                .split_once(": ")
                .filter(|(pid, _)| pid.contains('#'))
                .map_or(emerg, |(_, words)| words)
                .to_owned()
        });
        assert_eq!(emerg.is_none(), output.status.success(), "{said}");
        (emerg, parse(&path, &Disk))
    }
}

const PIECES: [&str; 26] = [
    "a", "b", "\\", "\"", "'", "$", "{", "}", ";", "#", " ", "\t", "\r\n", "\n", ")", "(", "${", "\\\"",
    "\\'", "\\n", "\\t", "\\\\", " \"", "\" ", " '", "' ",
];

/// Those of which a right text is made more often.
const CALM: [&str; 14] =
    ["a", "b", "c;", " ", "\n", "'a'", "\"b;\" ", "${", "\\;", " \\{", " #}\n", "$", " ')' ", " \"\\\"{\" "];

/// Returns the name of the first directive that was complete.
fn first(directives: &[Directive]) -> Option<String> {
    directives.first().map(|directive| directive.name.value.to_string())
}

#[test]
fn the_first_word_matches_nginx() {
    let Some(mut nginx) = Nginx::find("names") else { return };
    let mut named = 0;
    for _ in 0..400 {
        let count = 2 + nginx.random(12);
        let text = nginx.text(&PIECES, count) + nginx.text(&[";", " ;\n", "", "{ }"], 1).as_str();
        let (emerg, parsed) = nginx.both(&text);
        let emerg = emerg.expect("a text without events{} is never right");
        let message = parsed.diagnostics.first().map(|diagnostic| diagnostic.message.as_str());
        if let Some(name) = emerg.strip_prefix("unknown directive \"").and_then(|rest| rest.strip_suffix('"'))
        {
            named += 1;
            let comment = message == Some(&emerg);
            assert!(comment || first(&parsed.tree.directives).as_deref() == Some(name), "{text:?}: {emerg}");
        } else if emerg.starts_with("no \"events\" section") {
            assert!(!parsed.has_errors(), "{text:?}: nginx found no fault, we {message:?}");
        } else {
            assert!(parsed.has_errors(), "{text:?}: {emerg}");
        }
    }
    assert!(named > 50, "only {named} texts had a first word");
}

#[test]
fn an_argument_matches_nginx() {
    let Some(mut nginx) = Nginx::find("arguments") else { return };
    let mut compared = 0;
    for _ in 0..400 {
        let count = 1 + nginx.random(8);
        let text = format!("include /no/{};\n", nginx.text(&PIECES, count));
        let (emerg, parsed) = nginx.both(&text);
        let emerg = emerg.expect("the file does not exist");
        let ours = parsed.diagnostics.first().map(|diagnostic| diagnostic.message.as_str());
        if emerg.starts_with("open()") {
            compared += 1;
            assert_eq!(ours, Some(emerg.as_str()), "{text:?}");
        } else {
            assert!(parsed.has_errors() || first(&parsed.tree.directives).is_some(), "{text:?}: {emerg}");
        }
    }
    assert!(compared > 50, "only {compared} texts named a file");
}

#[test]
fn free_entries_are_accepted_and_refused_as_by_nginx() {
    let Some(mut nginx) = Nginx::find("entries") else { return };
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..600 {
        let count = 2 + nginx.random(8);
        // Half of them of the calmer pieces, or hardly one would be right.
        let pieces = if nginx.random(2) == 0 { &PIECES[..] } else { &CALM[..] };
        let entries = nginx.text(pieces, count) + ";";
        let text = format!("events {{ }}\nhttp {{\naccess_log off;\ntypes {{ {entries}\n}} }}\n");
        let (emerg, parsed) = nginx.both(&text);
        let strange = |directives: &[Directive], known: &[&str]| {
            directives.iter().any(|directive| !known.contains(&directive.name.value.to_string().as_str()))
        };
        let top = &parsed.tree.directives;
        let known = ["access_log", "types"];
        let ours = parsed.has_errors()
            || strange(top, &["events", "http"])
            || top.iter().any(|http| strange(http.children(), &known));
        assert_eq!(ours, emerg.is_some(), "{text:?}: {emerg:?}, {:?}", parsed.diagnostics);
        if ours { refused += 1 } else { taken += 1 }
    }
    assert!(taken > 50 && refused > 50, "{taken} were taken, {refused} refused");
}

#[test]
fn a_text_has_a_fault_if_nginx_refuses_it() {
    let Some(nginx) = Nginx::find("snippets") else { return };
    for (inside, right) in [
        ("", true),
        ("server_name_in_redirect\n off\n;", true),
        ("server { listen unix:/nowhere; server_name a\n root\n index\n b; }", true),
        ("gzip_types text/css\n text/xml\n;", true),
        ("proxy_next_upstream error\n timeout\n http_500;", true),
        ("log_format a 'x'\n\"y\"\n z;", true),
        ("map $uri $x { default 1; root\n 2; -- 3; //a 4; 'a b' \"c;\"; }", true),
        ("upstream u { server 127.0.0.1:1\n weight=2\n backup\n; server 127.0.0.1:2; }", true),
        ("add_header A\n 'b;\n c {'\n always;", true),
        ("error_page 404\n /a;", true),
        ("index a\n server;", true),
        ("root a\n index b;", false),
        ("upstream u { server 127.0.0.1:1\n server 127.0.0.1:2; }", false),
        ("server { listen unix:/nowhere\n server_name a; }", false),
        ("server { location /a\n return 200; } }", false),
        ("gzip on\n gzip_types a/b;", false),
        ("gzip on }", false),
        ("map $uri $x { a b\n c d; }", false),
        ("add_header A 'b'c;", false),
        ("add_header A 'b;\n add_header B 'c';", false),
        ("-- comment\n", false),
        ("root a; // comment\n", false),
        ("server { location ~ ^/a{2}$ { } }", false),
        ("root a;;", false),
        ("types { a b { } }", false),
        ("root a; } server {", false),
    ] {
        let text = format!("events {{ }}\nhttp {{\naccess_log off;\n{inside}\n}}\n");
        let (emerg, parsed) = nginx.both(&text);
        assert_eq!(emerg.is_none(), right, "the table is wrong about {inside:?}: {emerg:?}");
        let unknown = parsed.tree.directives.iter().any(|directive| directive.name.value == "server");
        assert_eq!(
            !parsed.has_errors() && !unknown,
            right,
            "{inside:?}: {emerg:?}, {:?}",
            parsed.diagnostics
        );
    }
}
