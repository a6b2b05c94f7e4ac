//! Application servers of the distribution: php-fpm, uWSGI, and a server of SCGI in Perl.

use super::*;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What an application server says of a request: its pool, and what CGI tells it.
const PHP: &str = r#"<?php
header('X-Pool: ' . getenv('POOL'));
if (isset($_GET['fail'])) { http_response_code(503); error_log('it failed'); exit; }
if (isset($_GET['large'])) { for ($n = 0; $n < 3000; $n++) { echo str_repeat('0123456789', 100); } exit; }
$of = fn ($name) => $_SERVER[$name] ?? '-';
echo implode('|', [$of('REQUEST_METHOD'), $of('REQUEST_URI'), $of('SCRIPT_NAME'), $of('PATH_INFO'), $of('QUERY_STRING'),
    $of('HTTP_X_SENT'), $of('HTTPS'), strlen(file_get_contents('php://input'))]), "\n";
"#;

const WSGI: &str = r#"
def application(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("201 Made", [("Content-Type", "text/plain"), ("X-Pool", "uwsgi")])
    names = ("REQUEST_METHOD", "REQUEST_URI", "PATH_INFO", "QUERY_STRING", "HTTP_X_SENT")
    return [("|".join(environ.get(name, "-") for name in names) + "|%d\n" % len(body)).encode()]
"#;

const SCGI: &str = r#"
use SCGI; use IO::Socket;
my $socket = IO::Socket::INET->new(Listen => 64, ReuseAddr => 1, LocalAddr => "127.0.0.1:$ARGV[0]") or die;
my $scgi = SCGI->new($socket, blocking => 1);
open(my $listens, '>', "$0.listens");
while (my $request = $scgi->accept) {
    $request->read_env;
    my $env = $request->env;
    my $body = "";
    read($request->connection, $body, $env->{CONTENT_LENGTH}) if $env->{CONTENT_LENGTH};
    my $said = join("|", map { $env->{$_} // "-" } qw(REQUEST_METHOD REQUEST_URI QUERY_STRING HTTP_X_SENT)) . "|" . length($body);
    print {$request->connection} "Status: 202 Fine\r\nContent-Type: text/plain\r\nX-Pool: scgi\r\n\r\n$said\n";
    $request->connection->flush;
    $request->close;
}
"#;

/// Returns true if a program is here, or says that its test is skipped; in CI it must be here.
fn has(program: &str, args: &[&str]) -> bool {
    let is_there = Command::new(program).args(args).output().is_ok_and(|output| output.status.success());
    assert!(is_there || std::env::var("CI").is_err(), "{program} is missing, and CI compares with it");
    if !is_there {
        eprintln!("skipped: {program} is not installed (.ci/install-test-packages)");
    }
    is_there
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn user() -> String {
    String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned()
}

fn wait_for(port: u16) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on {port}");
        std::thread::sleep(GLANCE);
    }
}

/// A server and what it serves.
struct Site {
    folder: TempDir,
    front: u16,
    _process: ProcessGroup,
}

impl Site {
    fn start(folder: TempDir, front: u16, http: &str) -> Site {
        for name in ["conf", "logs", "run"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let conf = format!(
            "user {}; worker_processes 2; daemon off; events {{ worker_connections 1000; }} http {{ {http} }}",
            user()
        );
        std::fs::write(folder.path().join("conf/nginx.conf"), conf).unwrap();
        let mut process = command(folder.path(), &[]);
        let process = ProcessGroup::start(process.stderr(Stdio::null())).unwrap();
        wait_for(front);
        Site { folder, front, _process: process }
    }

    fn ask(&self, request: &str, body: &[u8]) -> String {
        ask(self.front, request, body).unwrap_or_else(|error| panic!("{request}: {error}: {}", self.log()))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("logs/error.log")).unwrap_or_default()
    }
}

/// Sends one request and returns the response up to its end.
fn ask(port: u16, request: &str, body: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = format!("{request} HTTP/1.0\r\nHost: x\r\nX-Sent: yes\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Returns the status and the body of a response, and whether its head has this text.
fn parts<'a>(response: &'a str, field: &str) -> (&'a str, &'a str, bool) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((response, ""));
    (head.get(9..12).unwrap_or_default(), body, head.contains(field))
}

/// Starts a pool of php-fpm.
fn pool(folder: &Path, name: &str, port: u16) -> ProcessGroup {
    let conf = folder.join(format!("{name}.conf"));
    let log = folder.join(format!("{name}.log"));
    let account = if user() == "root" { "user = www-data\ngroup = www-data\n" } else { "" };
    let text = format!(
        "[global]\ndaemonize = no\nerror_log = {}\n[{name}]\nlisten = 127.0.0.1:{port}\nlisten.backlog = 511\n{account}pm = static\n\
         pm.max_children = 4\nenv[POOL] = {name}\ncatch_workers_output = no\n",
        log.display()
    );
    std::fs::write(&conf, text).unwrap();
    let mut command = Command::new("php-fpm8.2");
    command.arg("-y").arg(&conf).stdout(Stdio::null()).stderr(Stdio::null());
    let group = ProcessGroup::start(&mut command).unwrap();
    wait_for(port);
    group
}

/// Makes a folder whose site others may read, with the files that Debian's nginx has.
fn php_site() -> Option<TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["conf", "html", "html/wp-content"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("html/index.php"), PHP).unwrap();
    std::fs::write(folder.path().join("html/wp-content/style.css"), "a {}\n").unwrap();
    for (from, to) in [("fastcgi.conf", "fastcgi.conf"), ("snippets/fastcgi-php.conf", "fastcgi-php.conf")] {
        if std::fs::copy(Path::new("/etc/nginx").join(from), folder.path().join("conf").join(to)).is_err() {
            assert!(std::env::var("CI").is_err(), "nginx's files are missing, and CI compares with it");
            eprintln!("skipped: /etc/nginx/{from} is not there (.ci/install-test-packages)");
            return None;
        }
    }
    Some(folder)
}

/// WordPress's front controller, with Debian's own snippet.
const FRONT_CONTROLLER: &str = "
    root html; index index.php;
    location / { try_files $uri $uri/ /index.php?$args; }
    location ~ \\.php(/|$) { include fastcgi-php.conf; fastcgi_pass $live; }
";

#[test]
fn front_controller_runs_and_a_switch_between_two_pools_fails_no_request() {
    if !has("php-fpm8.2", &["-v"]) {
        return;
    }
    let Some(folder) = php_site() else { return };
    let [blue, green, front] = free_ports();
    let _pools = [pool(folder.path(), "blue", blue), pool(folder.path(), "green", green)];
    let http = format!(
        "include fastcgi.conf; upstream blue {{ server 127.0.0.1:{blue}; }} upstream green {{ server 127.0.0.1:{green}; }}
         switch $host $live {{ default blue; }}
         server {{ listen 127.0.0.1:{front}; {FRONT_CONTROLLER} }}"
    );
    let site = Site::start(folder, front, &http);

    let said = site.ask("GET /2026/hello?p=1", b"");
    assert_eq!(
        parts(&said, "X-Pool: blue"),
        ("200", "GET|/2026/hello?p=1|/index.php||p=1|yes|-|0\n", true),
        "{said}"
    );
    let said = site.ask("GET /index.php/a/b", b"");
    assert_eq!(
        parts(&said, "X-Pool: blue"),
        ("200", "GET|/index.php/a/b|/index.php|/a/b||yes|-|0\n", true),
        "{said}"
    );
    let said = site.ask("POST /index.php", &vec![b'x'; 300_000]);
    assert_eq!(
        parts(&said, "X-Pool"),
        ("200", "POST|/index.php|/index.php|||yes|-|300000\n", true),
        "{said}"
    );
    assert_eq!(parts(&site.ask("GET /wp-content/style.css", b""), "X-Pool").1, "a {}\n");
    assert_eq!(parts(&site.ask("GET /none.php", b""), "X-Pool").0, "404");
    assert_eq!(parts(&site.ask("GET /?large", b""), "X-Pool").1.len(), 3_000_000);
    assert_eq!(parts(&site.ask("GET /?fail", b""), "X-Pool").0, "503");
    assert!(site.log().contains("FastCGI sent in stderr: \"PHP message: it failed\""), "{}", site.log());

    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let failed: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut failed = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let said = ask(front, "GET /x?y", b"").unwrap_or_else(|error| error.to_string());
                        if parts(&said, "X-Pool").0 != "200" {
                            failed.push(said);
                        }
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    failed
                })
            })
            .collect();
        for turn in 0..10 {
            let until = asked.load(Ordering::Relaxed) + 50;
            while asked.load(Ordering::Relaxed) < until {
                std::thread::sleep(GLANCE);
            }
            let target = if turn % 2 == 0 { "green" } else { "blue" };
            say(site.folder.path(), &["switch", "x", target]).done();
            let said = site.ask("GET /", b"");
            assert!(parts(&said, &format!("X-Pool: {target}")).2, "{said}");
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(failed, [] as [String; 0], "of {}: {}", asked.into_inner(), site.log());
}

#[test]
fn connections_to_php_are_kept() {
    if !has("php-fpm8.2", &["-v"]) {
        return;
    }
    let Some(folder) = php_site() else { return };
    let [port, front] = free_ports();
    let _pool = pool(folder.path(), "blue", port);
    let http = format!(
        "include fastcgi.conf; upstream php {{ server 127.0.0.1:{port}; keepalive 4; }}
         server {{ listen 127.0.0.1:{front}; root html; location / {{
             rewrite ^ /index.php break; fastcgi_keep_conn on; fastcgi_pass php;
         }} }}"
    );
    let site = Site::start(folder, front, &http);
    for n in 0..20 {
        let said = site.ask(&format!("POST /x?{n}"), &vec![b'x'; n * 5000]);
        let expected = format!("POST|/x?{n}|/index.php|-|{n}|yes|-|{}\n", n * 5000);
        assert_eq!(parts(&said, "X-Pool"), ("200", &*expected, true), "{said} {}", site.log());
    }
}

#[test]
fn uwsgi_and_scgi_servers_are_asked() {
    if !has("uwsgi", &["--plugin", "python3", "--version"]) || !has("perl", &["-MSCGI", "-e", "1"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("conf")).unwrap();
    for name in ["uwsgi_params", "scgi_params"] {
        if std::fs::copy(Path::new("/etc/nginx").join(name), folder.path().join("conf").join(name)).is_err() {
            eprintln!("skipped: /etc/nginx/{name} is not there (.ci/install-test-packages)");
            return;
        }
    }
    std::fs::write(folder.path().join("app.py"), WSGI).unwrap();
    std::fs::write(folder.path().join("app.pl"), SCGI).unwrap();
    let [uwsgi, scgi, front] = free_ports();
    let mut command = Command::new("uwsgi");
    command
        .args(["--plugin", "python3", "--socket", &format!("127.0.0.1:{uwsgi}"), "--chdir"])
        .arg(folder.path());
    command
        .args(["--wsgi-file", "app.py", "--master", "--die-on-term"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _uwsgi = ProcessGroup::start(&mut command).unwrap();
    let mut command = Command::new("perl");
    command.arg(folder.path().join("app.pl")).arg(scgi.to_string()).stderr(Stdio::null());
    let _scgi = ProcessGroup::start(&mut command).unwrap();
    wait_for(uwsgi);
    // A connection without a request would end it.
    let listens = folder.path().join("app.pl.listens");
    let until = Instant::now() + PATIENCE;
    while !listens.exists() {
        assert!(Instant::now() < until, "the SCGI server does not listen");
        std::thread::sleep(GLANCE);
    }
    let http = format!(
        "upstream apps {{ server 127.0.0.1:{uwsgi}; }}
         server {{ listen 127.0.0.1:{front}; client_body_buffer_size 8k;
             location /u {{ include uwsgi_params; uwsgi_pass apps; }}
             location /s {{ include scgi_params; scgi_pass 127.0.0.1:{scgi}; }}
             location /live {{ include uwsgi_params; uwsgi_request_buffering off; uwsgi_pass apps; }}
         }}"
    );
    let site = Site::start(folder, front, &http);
    let body = vec![b'x'; 100_000];
    for (path, pool, said_back) in [
        ("/u/a?b", "X-Pool: uwsgi", "|/u/a?b|/u/a|b|yes|"),
        ("/live?", "X-Pool: uwsgi", "|/live?|/live||yes|"),
        ("/s/a?b", "X-Pool: scgi", "|/s/a?b|b|yes|"),
    ] {
        let status = if pool.ends_with("scgi") { "202" } else { "201" };
        let said = site.ask(&format!("GET {path}"), b"");
        assert_eq!(
            parts(&said, pool),
            (status, &*format!("GET{said_back}0\n"), true),
            "{said} {}",
            site.log()
        );
        let said = site.ask(&format!("POST {path}"), &body);
        assert_eq!(
            parts(&said, pool),
            (status, &*format!("POST{said_back}100000\n"), true),
            "{said} {}",
            site.log()
        );
    }
}
