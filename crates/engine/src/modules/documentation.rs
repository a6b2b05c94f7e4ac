//! What the tables of directives say of each directive: examples that work, defaults that mean the same as nothing.

use crate::directive::{Args, Contexts};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The files that are named, or empty ones for all names. Any file is a key for tickets.
struct Files {
    are_read: bool,
}

impl conf::Loader for Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.file_name() {
            _ if self.are_read => std::fs::read(path),
            Some(name) if name == "tokens" => Ok(format!("ops:operator:{}", "0".repeat(64)).into_bytes()),
            _ => Ok(Vec::new()),
        }
    }
    fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
    fn read_private(&self, path: &Path) -> io::Result<Vec<u8>> {
        // Those of ACME are looked at a little.
        Ok(match path.file_name().and_then(|name| name.to_str()) {
            Some("account.key") => b"-----BEGIN PRIVATE KEY-----".to_vec(),
            Some("eab.key") => b"a2V5".to_vec(),
            Some("acme.key") => b"key acme { algorithm hmac-sha256; secret c2VjcmV0; };".to_vec(),
            _ => vec![0; 80],
        })
    }
}

/// Every name is known, so that an example may name servers that are not there.
struct AnyName;

impl crate::config::NameLookup for AnyName {
    fn lookup(&self, _: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
    }
}

/// Returns the text of a whole configuration with a directive's example in one of its places.
fn within(place: Contexts, example: &str) -> String {
    // What examples name without defining it. A zone is not named by the example that declares it.
    let mut named = "geo $geo { default de; } map $status $loggable { default 1; }".to_owned();
    if !example.starts_with("match") && place != Contexts::MATCH {
        named.push_str("match ready { }");
    }
    if !example.starts_with("limit_") || !example.contains("_zone ") {
        named.push_str("limit_req_zone $uri zone=one:1m rate=1r/s; limit_conn_zone $uri zone=addr:1m;");
    }
    for prefix in ["proxy", "fastcgi", "uwsgi", "scgi"] {
        if example.starts_with(&format!("{prefix}_cache kept")) {
            named.push_str(&format!("{prefix}_cache_path {prefix} keys_zone=kept:1m;"));
        }
    }
    if example.starts_with("control_ui") {
        named.push_str("control_tokens tokens;");
    }
    if example.starts_with("acme_certificate") {
        named.push_str("acme_issuer example { uri https://acme.example/directory; }");
    }
    if !example.starts_with("upstream") && place != Contexts::UPSTREAM {
        named.push_str("upstream blue { server 127.0.0.1:1; server 127.0.0.1:2; }");
        named.push_str("upstream green { server 127.0.0.1:3; server 127.0.0.1:4; }");
    }
    let http = |inside: &str| format!("events {{}} http {{ {named} {inside} }}");
    let location = |inside: &str| http(&format!("server {{ location / {{ {inside} }} }}"));
    match place {
        Contexts::MAIN if example.starts_with("events") => example.to_owned(),
        Contexts::MAIN => format!("events {{}} {example}"),
        Contexts::EVENTS => format!("events {{ {example} }}"),
        Contexts::HTTP => http(example),
        Contexts::SERVER => http(&format!("server {{ {example} }}")),
        Contexts::SERVER_IF => http(&format!("server {{ if ($uri) {{ {example} }} }}")),
        Contexts::LOCATION => location(example),
        Contexts::LOCATION_IF => location(&format!("if ($uri) {{ {example} }}")),
        Contexts::LIMIT_EXCEPT => location(&format!("limit_except GET {{ {example} }}")),
        Contexts::UPSTREAM => http(&format!("upstream blue {{ server 127.0.0.1:8081; {example} }}")),
        Contexts::ACME_ISSUER => {
            let uri = if example.starts_with("uri") { "" } else { "uri https://acme.example/directory;" };
            http(&format!("acme_issuer first {{ {uri} {example} }}"))
        }
        Contexts::SWITCH => {
            let default = if example.starts_with("default") { "" } else { "default blue;" };
            http(&format!("lua_shared_dict routes 1m; switch $uri $side {{ {default} {example} }}"))
        }
        Contexts::MATCH => http(&format!("match ready {{ {example} }}")),
        other => panic!("{other:?} is not one place"),
    }
}

fn faults(text: &str) -> Vec<String> {
    built(PathBuf::from("nginx.conf"), text, &Files { are_read: false }).err().unwrap_or_default()
}

/// Returns the configuration of a text, or its faults.
fn built(file: PathBuf, text: &str, loader: &Files) -> Result<crate::Config, Vec<String>> {
    let parsed = conf::parse_text(&file, text, loader);
    let prefix = PathBuf::from("/prefix");
    let inputs =
        crate::config::Inputs { loader, names: &AnyName, prefix, file, identity: Default::default() };
    let lines =
        |faults: Vec<conf::Diagnostic>| faults.iter().map(|one| one.nginx_line(&parsed.sources)).collect();
    crate::config::build(&parsed, &inputs).map(|(config, _)| config).map_err(lines)
}

#[test]
fn every_example_is_true() {
    let mut wrong = Vec::new();
    for (_, directive) in crate::config::directives() {
        let places = (0..16).map(|bit| Contexts(1 << bit)).filter(|place| directive.contexts.meets(*place));
        let mut answers = places.map(|place| faults(&within(place, directive.example)));
        let mut first = None;
        if !answers.any(|answer| {
            let good = answer.is_empty();
            first.get_or_insert(answer);
            good
        }) {
            wrong.push(format!("{}: {}: {first:?}", directive.name, directive.example));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_example_of_make_run_is_a_good_configuration() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/switch/nginx.conf");
    let text = std::fs::read_to_string(&file).expect("it is there");
    let faults = |text: &str| built(file.clone(), text, &Files { are_read: true }).err().unwrap_or_default();
    assert_eq!(faults(&text), [""; 0]);
    assert!(!faults(&text.replace("lua.conf", "luar.conf")).is_empty());
}

#[test]
fn every_directive_is_documented() {
    for (module, directive) in crate::config::directives() {
        let bare = directive.args.range().0 == 0 && !matches!(directive.args, Args::Block(..));
        assert!(bare || !directive.syntax.is_empty(), "{}: no syntax: {}", module.name, directive.name);
        assert!(!directive.doc.is_empty(), "{}: no doc: {}", module.name, directive.name);
        let named = directive.example.trim_start().starts_with(directive.name);
        assert!(named, "{}: the example is of another directive: {}", module.name, directive.name);
    }
}

/// Defaults whose setting stays empty when they are not written, each with the place that knows the value.
const FILLED_IN_LATER: &[(&str, &str)] = &[
    ("log_format", "`combined` is built in, and a name is defined once"),
    ("pid", "server: worker::requirements, where a test compares them"),
    ("user", "process: DEFAULT_USER, which the same test compares"),
    ("env", "TZ is always kept: the crate process, privileges"),
    ("use", "epoll is the one method"),
    ("client_body_temp_path", "server: Generation"),
    ("proxy_temp_path", "proxy::temp_path"),
    ("access_log", "log::finish, for a server that writes none"),
    ("error_log", "the log of the command line is used until another is written"),
    ("auth_basic", "no realm and `off` both ask for no password"),
    ("proxy_redirect", "`default` is allowed after `proxy_pass` alone"),
    ("proxy_busy_buffers_size", "proxy::Compiled"),
    ("proxy_max_temp_file_size", "proxy::Compiled"),
    ("proxy_temp_file_write_size", "proxy::Compiled"),
    ("proxy_limit_rate", "no rate and a rate of 0 are both without limit"),
    ("proxy_ssl_ciphers", "tls::suites"),
    ("proxy_ssl_name", "proxy::upstream_name"),
    ("fastcgi_temp_path", "proxy::temp_path"),
    ("fastcgi_busy_buffers_size", "proxy::Compiled"),
    ("fastcgi_max_temp_file_size", "proxy::Compiled"),
    ("fastcgi_temp_file_write_size", "proxy::Compiled"),
    ("fastcgi_limit_rate", "no rate and a rate of 0 are both without limit"),
    ("uwsgi_temp_path", "proxy::temp_path"),
    ("uwsgi_busy_buffers_size", "proxy::Compiled"),
    ("uwsgi_max_temp_file_size", "proxy::Compiled"),
    ("uwsgi_temp_file_write_size", "proxy::Compiled"),
    ("uwsgi_limit_rate", "no rate and a rate of 0 are both without limit"),
    ("scgi_temp_path", "proxy::temp_path"),
    ("scgi_busy_buffers_size", "proxy::Compiled"),
    ("scgi_max_temp_file_size", "proxy::Compiled"),
    ("scgi_temp_file_write_size", "proxy::Compiled"),
    ("scgi_limit_rate", "no rate and a rate of 0 are both without limit"),
    ("uwsgi_ssl_ciphers", "tls::suites"),
    ("uwsgi_ssl_name", "proxy::upstream_name"),
    ("grpc_ssl_ciphers", "tls::suites"),
    ("grpc_ssl_name", "proxy::upstream_name"),
    ("lua_ssl_ciphers", "tls::suites"),
    ("root", "static files: html under the prefix"),
];

/// Directives whose default is described in words, each with the reason why it cannot be written as arguments.
const DEFAULT_IN_WORDS: &[(&str, &str)] = &[
    ("state_path", "it depends on the issuer's name"),
    ("server_orders", "it depends on the servers of each group"),
    ("proxy_cache_key", "the URL as it is sent has no variable"),
    ("state", "it depends on the switch's name"),
    ("gate", "without the directive there is no check: the defaults are those of its arguments"),
];

/// The next test cannot see a default that is only described in words.
#[test]
fn a_default_in_words_is_in_the_table_too() {
    let has_default = |doc: &str| {
        ["default is ", "without the directive", "without it,", "without it that"]
            .iter()
            .any(|words| doc.to_ascii_lowercase().contains(words))
    };
    for (module, directive) in crate::config::directives() {
        let is_excused = DEFAULT_IN_WORDS.iter().any(|(name, _)| *name == directive.name);
        assert!(
            directive.default.is_some() || is_excused || !has_default(directive.doc),
            "{}: {}: no default, but: {}",
            module.name,
            directive.name,
            directive.doc
        );
    }
}

/// A default is what holds without the directive: a configuration that writes it out means the same.
#[test]
fn every_default_means_the_same_as_nothing() {
    let (mut wrong, mut bare) = (Vec::new(), BTreeMap::new());
    for (module, directive) in crate::config::directives() {
        let Some(default) = directive.default else { continue };
        if FILLED_IN_LATER.iter().any(|(name, _)| *name == directive.name) {
            continue;
        }
        let places = (0..16).map(|bit| Contexts(1 << bit)).filter(|place| directive.contexts.meets(*place));
        for place in places {
            let end = if default.ends_with('}') { "" } else { ";" };
            let line = format!("{} {default}{end}", directive.name);
            let without = bare.entry(place.0).or_insert_with(|| meaning(&within(place, "")));
            let with = meaning(&within(place, &line));
            if without.is_err() || *without != with {
                wrong.push(format!(
                    "{} {:?}: {line}: {}",
                    module.name,
                    place.names(),
                    difference(without, &with)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns the meaning of a configuration's text, as sorted lines (tables by name have no order), or its faults.
fn meaning(text: &str) -> Result<Vec<String>, Vec<String>> {
    let config = built(PathBuf::from("nginx.conf"), text, &Files { are_read: false })?;
    let settings: Vec<_> = config.locations.iter().map(|location| &location.settings).collect();
    let shown = format!(
        "{:#?}",
        (
            (&config.main, &config.control, &config.http, settings, &config.groups),
            (&config.listeners, &config.switches, &config.lua, &config.limits, &config.logs),
        )
    );
    let mut lines: Vec<String> = shown.lines().map(|line| line.trim().to_owned()).collect();
    lines.sort_unstable();
    Ok(lines)
}

fn difference(without: &Result<Vec<String>, Vec<String>>, with: &Result<Vec<String>, Vec<String>>) -> String {
    match (without, with) {
        (Ok(without), Ok(with)) => {
            let only = |these: &[String], those: &[String]| {
                let only = these.iter().filter(|line| !those.contains(line)).take(4);
                only.map(String::as_str).collect::<Vec<_>>().join(" ")
            };
            format!("{} is not {}", only(without, with), only(with, without))
        }
        (Err(faults), _) | (_, Err(faults)) => faults.join("; "),
    }
}
