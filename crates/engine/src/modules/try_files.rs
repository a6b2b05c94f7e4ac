//! `try_files`: the first of several files that is there, or else another URI (ngx_http_try_files_module).

use super::Module;
use super::static_files::confine::{self, Climbs};
use super::static_files::path::{self, Join, log_failure};
use crate::config::{Builder, number};
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::phase::{self, Phase, Verdict};
use crate::setting::settings;
use crate::template::Template;
use conf::Diagnostic;
use std::sync::Arc;

/// A file or directory to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The URI, without the slash that marks a directory.
    pub name: Template,
    /// It was written with a slash at its end: a directory is wanted.
    pub directory: bool,
}

/// The answer when no candidate exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// An internal redirect to a URI, with a query perhaps, or to `@name`.
    Redirect(Template),
    /// `=code`.
    Status(u16),
}

/// `try_files` of one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TryFiles {
    /// In order.
    pub candidates: Vec<Candidate>,
    /// The last argument.
    pub fallback: Fallback,
}

settings! {
    /// Settings of one level. They apply to it alone: neither a location nor an `if` block inherits it.
    pub struct TryFilesSettings {
    }
    not inherited {
        /// `try_files`, if it is there.
        pub rule: Option<Arc<TryFiles>> = None,
    }
}

/// The module.
pub static MODULE: Module = Module {
    handlers: &[(Phase::PreContent, handle)],
    is_needed: Some(|_, settings| settings.precontent.try_files.rule.is_some()),
    ..Module::new("try_files", &[DIRECTIVES])
};

const DIRECTIVES: &[Directive] = &[Directive::new(
    "try_files",
    Contexts::SERVER.or(Contexts::LOCATION),
    Args::AtLeast(2),
    "file ... uri | file ... =code",
    try_files,
)
.doc(
    "Serves the first file (or directory, if the name ends in a slash) that exists; otherwise the last argument: a \
     URI, a @name or =code.",
)
.example("try_files $uri $uri/ @app;")];

fn try_files(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let Some((last, words)) = d.args.split_last() else { return Ok(()) };
    let mut candidates = Vec::new();
    for word in words {
        let (name, directory) = match word.text().strip_suffix(b"/") {
            Some(name) => (name, true),
            None => (&**word.text(), false),
        };
        candidates.push(Candidate { name: b.template_of(name, word.span)?, directory });
    }
    let fallback = match last.text().strip_prefix(b"=") {
        None => Fallback::Redirect(b.template(last)?),
        Some(digits) => match number(digits).and_then(|code| u16::try_from(code).ok()) {
            Some(code @ 1..=999) => Fallback::Status(code),
            _ => {
                let fault = Diagnostic::error(last.span, format!("invalid code \"{}\"", last.text()));
                return Err(fault.help("a status from 1 to 999: =404"));
            }
        },
    };
    b.write(d, |s| &mut s.precontent.try_files.rule, Some(Arc::new(TryFiles { candidates, fallback })))
}

fn handle(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let Some(rule) = exchange.settings(env.config).precontent.try_files.rule.get() else {
        return Verdict::Next;
    };
    let mut path = std::mem::take(&mut exchange.scratch);
    path.clear();
    let verdict = search(exchange, env, rule, &mut path);
    exchange.scratch = path;
    verdict
}

/// Looks for the candidates in order; `path` is for their paths.
fn search(exchange: &mut Exchange, env: &mut Env<'_>, rule: &TryFiles, path: &mut Vec<u8>) -> Verdict {
    let join = path::join_of(exchange, env.config);
    if !path::can_map(exchange, env) {
        return Verdict::Refuse(500);
    }
    if path::append_root(exchange, env, path).is_err() {
        return Verdict::Refuse(403);
    }
    let root_len = path.len();
    for candidate in &rule.candidates {
        path.truncate(root_len);
        if append_name(exchange, env, &candidate.name, join, path).is_err() {
            continue;
        }
        match path::open(exchange, env, path, true) {
            Ok(found) if found.is_dir == candidate.directory => {
                take(exchange, &path[root_len..], join, candidate.directory);
                return Verdict::Next;
            }
            Ok(_) => {}
            Err(error) => {
                if !matches!(error.errno, libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG) {
                    log_failure(exchange, env, Level::Crit, path, error);
                }
            }
        }
    }
    match &rule.fallback {
        Fallback::Status(status) => Verdict::Refuse(*status),
        Fallback::Redirect(target) => {
            path.clear();
            target.append(exchange, env, path);
            cut_location(exchange, target, join, path, 0);
            redirect(exchange, env, path)
        }
    }
}

/// Appends a name after the directory.
fn append_name(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    name: &Template,
    join: Join,
    path: &mut Vec<u8>,
) -> Result<(), Climbs> {
    let start = path.len();
    confine::append(name, exchange, env, path)?;
    match cut_location(exchange, name, join, path, start) {
        true => confine::check_rest(exchange, env, path, start),
        false => Ok(()),
    }
}

/// Under `alias` a name made with variables loses the location's name at its beginning, for `$uri` has it; nginx does
/// so with the last argument too.
fn cut_location(exchange: &Exchange, name: &Template, join: Join, path: &mut Vec<u8>, start: usize) -> bool {
    if let (Join::Without(len), None) = (join, name.constant())
        && let Some(location) = exchange.request.uri.get(..len)
        && path[start..].starts_with(location)
    {
        path.drain(start..start + len);
        return true;
    }
    false
}

/// The name that was found becomes the URI.
fn take(exchange: &mut Exchange, name: &[u8], join: Join, directory: bool) {
    let uri = &mut exchange.request.uri;
    match join {
        Join::Whole => uri.clear(),
        Join::Without(len) => uri.truncate(len),
        // The alias alone is the path of a directory; for a file, the name comes after it.
        Join::Nothing if directory => return,
        Join::Nothing => {
            uri.clear();
            exchange.route.uri_after_alias = true;
        }
    }
    uri.extend_from_slice(name);
}

fn redirect(exchange: &mut Exchange, env: &mut Env<'_>, target: &[u8]) -> Verdict {
    let (uri, args) = match target {
        [b'@', ..] => (target, &b""[..]),
        _ => http::uri::split_query(target),
    };
    match phase::redirect_internally(exchange, env, uri, args) {
        Ok(()) => Verdict::Restart(exchange.route.cursor.phase),
        Err(status) => Verdict::Refuse(status),
    }
}

#[cfg(test)]
mod tests {
    use crate::host::Level;
    use crate::testing::{Node, TestHost, answer, faults_of, server_of};

    fn ask(server: &str, target: &str) -> (String, TestHost) {
        let config = server_of(server);
        let mut host = TestHost::new()
            .file("/www/a.txt", "hello\n")
            .file("/www/dir/index.html", "<p>\n")
            .file("/www/dir/b.txt", "b\n")
            .node("/www/locked", Node::Directory)
            .node("/www/locked/x", Node::Locked(libc::EACCES));
        let sent = answer(&config, &mut host, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        (sent, host)
    }

    fn body(server: &str, target: &str) -> String {
        let (sent, _) = ask(server, target);
        sent.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    fn status(server: &str, target: &str) -> String {
        ask(server, target).0.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    #[test]
    fn the_first_existing_candidate_is_served() {
        assert_eq!(body("root /www; try_files /none $uri =404;", "/a.txt"), "hello\n");
        assert_eq!(body("root /www; location / { try_files $uri /a.txt =404; }", "/x"), "hello\n");
        assert_eq!(body("root /www; try_files $uri $uri/ =404;", "/dir/"), "<p>\n");
        assert_eq!(status("root /www; try_files $uri $uri/ =404;", "/dir"), "301");
        assert_eq!(status("root /www; try_files $uri =404;", "/dir"), "404", "a directory is no file");
        assert_eq!(status("root /www; try_files $uri/ =404;", "/a.txt"), "404", "a file is no directory");
        // The type is that of the file that was found.
        let (sent, _) = ask("root /www; types { a/b txt; } location / { try_files /a.txt =404; }", "/x.html");
        assert!(sent.contains("Content-Type: a/b\r\n"), "{sent}");
    }

    #[test]
    fn the_last_argument_is_the_fallback() {
        let fallbacks =
            "location @app { return 200 \"$uri?$args\"; } location = /i.php { return 200 \"$uri?$args\"; }";
        for (last, expected) in [
            ("@app", "/x?q=/i.php"),
            ("/i.php", "/i.php?"),
            ("/i.php?u=$uri", "/i.php?u=/x"),
            ("$arg_q", "/i.php?"),
        ] {
            let server = format!("root /www; {fallbacks} location / {{ try_files $uri {last}; }}");
            assert_eq!(body(&server, "/x?q=/i.php"), expected, "{last}");
        }
        assert_eq!(status("root /www; location / { try_files $uri =503; }", "/x"), "503");
        assert_eq!(ask("root /www; location / { try_files $uri =444; }", "/x").0, "<drop>");
        assert_eq!(status("root /www; location / { try_files $uri @none; }", "/x"), "500");
        assert_eq!(status("root /www; location / { try_files $uri /none; }", "/x"), "500", "a circle");
    }

    #[test]
    fn try_files_is_not_inherited() {
        let server = "root /www; try_files /a.txt =404; location /own { }";
        assert_eq!(body(server, "/x"), "hello\n");
        assert_eq!(status(server, "/own"), "404");
        let with_if = "root /www; location / { if ($arg_x) { set $y 1; } try_files /a.txt =404; }";
        assert_eq!((status(with_if, "/x"), status(with_if, "/x?x=1")), ("200".to_owned(), "404".to_owned()));
    }

    #[test]
    fn under_alias_the_location_s_name_is_cut_from_names_with_variables() {
        assert_eq!(body("location /i/ { alias /www/; try_files $uri =404; }", "/i/a.txt"), "hello\n");
        assert_eq!(body("location /i/ { alias /www/; try_files dir/b.txt =404; }", "/i/x"), "b\n");
        assert_eq!(body("location /i { alias /www; try_files $uri $uri/ =404; }", "/i/dir/"), "<p>\n");
        assert_eq!(body("location ~ ^/r/(.*) { alias /www/dir; try_files /$1 =404; }", "/r/b.txt"), "b\n");
        assert_eq!(body("location ~ ^/r/(.*) { alias /www/$1; try_files '' =404; }", "/r/a.txt"), "hello\n");
        let rewritten = "location /i/ { rewrite ^ /a.txt break; alias /www/; try_files $uri =404; }";
        assert_eq!(status(rewritten, "/i/x"), "500");
    }

    #[test]
    fn an_unreadable_candidate_is_logged_and_skipped() {
        let (sent, host) = ask("root /www; location / { try_files $uri/y /a.txt =404; }", "/locked/x");
        assert!(sent.ends_with("hello\n"), "{sent}");
        let line =
            format!("[{}] stat() \"/www/locked/x/y\" failed (13: Permission denied), ", Level::Crit.name());
        assert!(
            matches!(host.error_lines.as_slice(), [only] if only.starts_with(&line)),
            "{:?}",
            host.error_lines
        );
    }

    #[test]
    fn faults_have_nginx_s_words() {
        for (text, expected) in [
            ("try_files a =x;", "invalid code \"=x\""),
            ("try_files a =1000;", "invalid code \"=1000\""),
            ("try_files a b; try_files a b;", "\"try_files\" directive is duplicate"),
            ("try_files a;", "invalid number of arguments in \"try_files\" directive"),
        ] {
            let faults = faults_of(&format!("http {{ server {{ listen 80; {text} }} }}"));
            assert_eq!(faults, [format!("{expected} in /etc/pointsman/nginx.conf:1")], "{text}");
        }
    }
}
