//! Clients that send too much, too often, too slowly, or nothing.

use super::*;
use rustix::process::{Resource, getrlimit, setrlimit};
use testkit::StopAtEnd;

const ECHO: &str = "server { listen unix:{folder}/front; location / { return 200 here; }
    location /active { return 200 <$connections_active>; } }";

/// Connections that send nothing are closed for those that do, long before `client_header_timeout`.
#[test]
fn silent_connections_make_room() {
    let main = "events { worker_connections 64; }";
    let server = Server::start(Setup { main, http: ECHO, ..Setup::default() });
    let silent: Vec<_> = (0..400).map(|_| server.connect()).collect();
    for _ in 0..50 {
        assert!(server.get("/").ends_with("here"), "{}", server.log());
    }
    assert!(server.said("64 worker_connections are not enough, reusing connections") > 0);
    // A flood of connections is no flood of lines: one of each kind a second.
    assert!(server.said("worker_connections") <= 2 * 30, "{}", server.log());
    drop(silent);
    assert!(server.get("/").ends_with("here"));
}

/// So many silent connections that are all kept, because there is room for them: each costs little, and a client that asks
/// meanwhile is answered.
#[test]
fn ten_thousand_silent_connections_cost_little() {
    const SILENT: usize = 10_000;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < SILENT as u64 + 1000) {
        eprintln!("ten_thousand_silent_connections_cost_little: skipped, needs {SILENT} descriptors");
        return;
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let main = "events { worker_connections 10900; }";
    let server = Server::start(Setup { main, http: ECHO, ..Setup::default() });
    assert!(server.get("/").ends_with("here"));
    let before_kib = server.memory_kib();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.extend((0..SILENT / 100).map(|_| server.connect()));
        assert!(server.get("/").ends_with("here"), "{}", server.log());
    }
    let grown = (server.memory_kib().saturating_sub(before_kib) << 10) / SILENT as u64;
    println!("{grown} bytes for each of {SILENT} silent connections");
    assert!(grown < 2048, "{grown} bytes for each connection");
    assert_eq!(silent.iter().filter(|stream| ended(stream)).count(), 0, "{}", server.log());
    assert_eq!(server.said("worker_connections"), 0, "{}", server.log());
    drop(silent);
    server.until("they are forgotten", || server.get("/active").ends_with("<1>"));
}

/// A head that is half sent holds memory for what has come of it, no more than nginx holds.
#[test]
fn half_sent_heads_cost_what_has_arrived() {
    const HALF_SENT: usize = 2000;
    // The allocator's memory comes in huge pages of 2 MiB: what is measured may be two of them too much.
    const ROUNDING: u64 = (4 << 20) / HALF_SENT as u64;
    let main = "events { worker_connections 4000; }";
    for (length, most) in [(20, 10_000), (1 << 10, 12_000), (31 << 10, 48_000)] {
        let server = Server::start(Setup { main, http: ECHO, ..Setup::default() });
        let grown = grown_by_heads(&server.path("front"), server.worker().unwrap(), HALF_SENT, length);
        let nginx = nginx_grown_by_heads(HALF_SENT, length);
        println!("{grown} bytes for each of {HALF_SENT} heads of {length} bytes, nginx: {nginx:?}");
        assert!(grown < most, "{grown} bytes for a head of {length}");
        assert!(
            nginx.is_none_or(|nginx| grown < nginx + ROUNDING),
            "{grown} bytes for a head of {length}, nginx {nginx:?}"
        );
        assert!(server.get("/").ends_with("here"), "{}", server.log());
    }
}

/// Returns how much a process grows for each head of this length whose end does not come.
fn grown_by_heads(front: &std::path::Path, process: u32, count: usize, length: usize) -> u64 {
    let mut head = String::from("GET / HTTP/1.1\r\n");
    for field in 0.. {
        let rest = length.saturating_sub(head.len());
        if rest < 10 {
            break;
        }
        head.push_str(&format!("X-{field}: {}\r\n", "x".repeat(rest.min(900) - 9)));
    }
    let send = |count| -> Vec<UnixStream> {
        (0..count)
            .map(|_| {
                let mut stream = UnixStream::connect(front).unwrap();
                stream.write_all(head.as_bytes()).unwrap();
                stream
            })
            .collect()
    };
    drop(send(20));
    let memory = || {
        // What was sent has been read when the numbers stay the same.
        let (mut last, mut same) = (0, 0);
        while same < 20 {
            let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
            let now: u64 = line.trim().split(' ').next().unwrap().parse().unwrap();
            same = if now == last { same + 1 } else { 0 };
            last = now;
            std::thread::sleep(Duration::from_millis(20));
        }
        last
    };
    let before_kib = memory();
    let sent = send(count);
    let after_kib = memory();
    drop(sent);
    (after_kib.saturating_sub(before_kib) << 10) / count as u64
}

/// Returns the same of an installed nginx.
fn nginx_grown_by_heads(count: usize, length: usize) -> Option<u64> {
    let folder = tempfile::tempdir().unwrap();
    let front = folder.path().join("front");
    let conf = format!(
        "user {}; worker_processes 1; daemon off; pid {dir}/pid; error_log {dir}/error.log;
         events {{ worker_connections 4000; }}
         http {{ access_log off; server {{ listen unix:{dir}/front; location / {{ return 200 here; }} }} }}",
        user(),
        dir = folder.path().display()
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, conf).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder.path()).arg("-c").arg(file).stderr(Stdio::null());
    let Ok(_process) = ProcessGroup::start(&mut command) else {
        assert!(std::env::var_os("CI").is_none(), "nginx is not installed");
        eprintln!("half_sent_heads_cost_what_has_arrived: not compared, nginx is not installed");
        return None;
    };
    let deadline = Instant::now() + PATIENCE;
    let worker = loop {
        let master = std::fs::read_to_string(folder.path().join("pid")).unwrap_or_default();
        let master = master.trim();
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        let worker = children.ok().and_then(|text| text.split_whitespace().next()?.parse().ok());
        if let Some(worker) = worker
            && UnixStream::connect(&front).is_ok()
        {
            break worker;
        }
        assert!(Instant::now() < deadline, "nginx does not start");
        std::thread::sleep(GLANCE);
    };
    Some(grown_by_heads(&front, worker, count, length))
}

/// The same with connections that were used once and are kept alive since.
#[test]
fn idle_connections_make_room() {
    let main = "events { worker_connections 32; }";
    let server = Server::start(Setup { main, http: ECHO, ..Setup::default() });
    let mut kept = Vec::new();
    for at in 0..200 {
        let mut stream = server.connect();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut head = [0; 17];
        stream.read_exact(&mut head).unwrap_or_else(|error| panic!("{at}: {error}\n{}", server.log()));
        assert_eq!(&head, b"HTTP/1.1 200 OK\r\n");
        kept.push(stream);
    }
    assert!(server.said("reusing connections") > 0);
}

/// Connections with a request under way are not closed for others: who comes late is told in the log.
#[test]
fn busy_connections_are_kept_and_the_late_are_refused() {
    let main = "events { worker_connections 16; }";
    let http = "server { listen unix:{folder}/front; client_body_timeout 600s;
        location / { return 200 here; }
        location /up { content_by_lua_block { ngx.req.read_body() ngx.print('went on') } } }";
    let server = Server::start(Setup { main, http, ..Setup::default() });
    let upload = b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n";
    let mut busy: Vec<_> = (0..16).map(|_| server.connect()).collect();
    busy.iter_mut().for_each(|stream| stream.write_all(upload).unwrap());
    server.until("they are all under way", || server.get("/").is_empty());
    server.until("it is said", || server.said("16 worker_connections are not enough") > 0);
    busy[0].write_all(b"123456789").unwrap();
    let mut answer = [0; 17];
    busy[0].read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK\r\n");
    drop(busy);
    server.until("there is room again", || server.get("/").ends_with("here"));
}

/// A client that sends requests and reads no answer fills its own connection, not the memory; the others go on.
#[test]
fn pipelined_requests_wait_on_their_connection() {
    let http = "server { listen unix:{folder}/front; keepalive_requests 100000000; access_log off;
        location / { return 200 here; } }";
    let server = Server::start(Setup { http, ..Setup::default() });
    assert!(server.get("/").ends_with("here"));
    let before_kib = server.memory_kib();
    let requests = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2000);
    let deaf: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = server.connect();
            stream.set_nonblocking(true).unwrap();
            while stream.write(&requests).is_ok_and(|count| count > 0) {}
            stream
        })
        .collect();
    server.until("they are stuck", || {
        deaf.iter()
            .all(|mut stream| stream.write(b"G").is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock))
    });
    assert!(server.get("/").ends_with("here"));
    let grown_kib = server.memory_kib().saturating_sub(before_kib);
    assert!(grown_kib < 50 * 100, "{grown_kib} KiB for 50 connections");
}

/// A client that sends one request after another without a pause gets its turn, and no more than that.
#[test]
fn a_pipelining_flood_starves_no_one() {
    let http = "server { listen unix:{folder}/front; keepalive_requests 100000000; access_log off;
        location / { return 200 here; } }";
    let server = Server::start(Setup { http, ..Setup::default() });
    let over = std::sync::atomic::AtomicBool::new(false);
    let over = &over;
    std::thread::scope(|scope| {
        let _over = StopAtEnd(over);
        for _ in 0..8 {
            let mut sender = server.connect();
            let mut reader = sender.try_clone().unwrap();
            scope.spawn(move || {
                let requests = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
                while !over.load(std::sync::atomic::Ordering::Relaxed) && sender.write_all(&requests).is_ok()
                {
                }
                let _ = sender.shutdown(std::net::Shutdown::Both);
            });
            scope.spawn(move || {
                let mut bytes = vec![0; 1 << 16];
                while reader.read(&mut bytes).is_ok_and(|count| count > 0) {}
            });
        }
        let began = Instant::now();
        for _ in 0..20 {
            assert!(server.get("/").ends_with("here"));
        }
        // On an idle machine some milliseconds; a client that starves waits for as long as the flood lasts.
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    });
}

/// Clients that ask for much and read nothing hold their buffers and no more, and end with `send_timeout`.
#[test]
fn clients_that_do_not_read_cost_little_and_are_closed() {
    let http =
        "proxy_buffers 8 4k; proxy_buffer_size 4k; proxy_busy_buffers_size 8k; proxy_max_temp_file_size 0;
        server { listen unix:{folder}/front; send_timeout 2s;
            location / { return 200 here; }
            location /big { proxy_pass http://unix:{folder}/back; } }
        server { listen unix:{folder}/back; root {folder}/html; }";
    let server = Server::start(Setup { http, ..Setup::default() });
    std::fs::write(server.path("html/big"), vec![b'x'; 8 << 20]).unwrap();
    assert_eq!(server.status("/big"), 200);
    let before_kib = server.memory_kib();
    let deaf: Vec<_> = (0..100).map(|_| server.ask("/big")).collect();
    server.until("they are let go", || {
        server.said("client timed out") + server.said("(110:") > 0 || {
            let grown_kib = server.memory_kib().saturating_sub(before_kib);
            // The buffers of `proxy_buffers`, one read of 64 KiB, and what the allocator makes of both, in huge pages of
            // 2 MiB for each thread.
            assert!(grown_kib < 100 * 256 + (4 << 10), "{grown_kib} KiB for 100 connections");
            deaf.iter().all(ended)
        }
    });
    drop(deaf);
    assert!(server.get("/").ends_with("here"));
}

/// Has the server closed? Reads nothing away.
pub(super) fn ended(stream: &UnixStream) -> bool {
    let mut poll = [rustix::event::PollFd::new(stream, rustix::event::PollFlags::RDHUP)];
    let _ = rustix::event::poll(&mut poll, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }));
    poll[0].revents().intersects(rustix::event::PollFlags::RDHUP | rustix::event::PollFlags::HUP)
}

/// A head that comes byte by byte has `client_header_timeout` in all, not for each byte.
#[test]
fn a_trickling_head_is_cut_off() {
    let http = "server { listen unix:{folder}/front; client_header_timeout 1s; return 200 here; }";
    let server = Server::start(Setup { http, ..Setup::default() });
    let mut stream = server.connect();
    let began = Instant::now();
    let mut sent = 0;
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    while stream.write_all(if sent == 0 { b"G" } else { b"E" }).is_ok() {
        sent += 1;
        // Waits a moment, and sees the end.
        if stream.read(&mut [0]).is_ok() {
            break;
        }
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(sent > 5);
}

/// Thousands of ranges are answered with the whole, once their heads weigh more than what they leave out.
#[test]
fn many_ranges_cost_no_more_than_the_file() {
    let http = "server { listen unix:{folder}/front; root {folder}/html; }";
    let server = Server::start(Setup { http, ..Setup::default() });
    std::fs::write(server.path("html/file"), vec![b'x'; 100_000]).unwrap();
    for ranges in ["0-0,".repeat(1900) + "0-0", "0-,".repeat(1900) + "0-", "-1,".repeat(1900) + "-1"] {
        let mut stream = server.connect();
        let head =
            format!("GET /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: bytes={ranges}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let answer = rest_of(stream);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{}", &answer[..answer.len().min(200)]);
        assert!(answer.len() < 101_000, "{}", answer.len());
    }
}

/// More fields than `max_headers` are refused, whatever their size.
#[test]
fn many_fields_are_refused() {
    let http = "server { listen unix:{folder}/front; return 200 here; }";
    let server = Server::start(Setup { http, ..Setup::default() });
    let with = |count: usize| {
        let mut stream = server.connect();
        let head =
            format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n", "a:b\r\n".repeat(count));
        stream.write_all(head.as_bytes()).unwrap();
        rest_of(stream)
    };
    assert!(with(990).starts_with("HTTP/1.1 200 "));
    assert!(with(1001).starts_with("HTTP/1.1 400 "));
    // Their size is bounded by large_client_header_buffers.
    let mut stream = server.connect();
    let _ = stream.write_all(format!("GET / HTTP/1.1\r\n{}", "name: value\r\n".repeat(4000)).as_bytes());
    let answer = rest_of(stream);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

/// A configuration may be as deep and as long as it likes: it is refused or read, and never ends the program.
#[test]
fn deep_configurations_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deep.conf");
    let texts = [
        format!("events {{}} http {{ server {{ {}", "location / { ".repeat(100_000)),
        "a{".repeat(100_000),
        "}".repeat(100_000),
        format!("events {{}} http {{ map $a $b {{ default {}; }} }}", "${".repeat(100_000)),
        format!("events {{}} http {{ map $a $b {{ ~{}a x; }} }}", "(".repeat(100_000)),
        format!("include {};", file.display()),
    ];
    for text in texts {
        std::fs::write(&file, &text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
        command.arg("-p").arg(folder.path()).args(["-t", "-e", "stderr", "-c"]).arg(&file);
        let output = output_of(&mut command, PATIENCE).unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{}: {told}", &text[..text.len().min(60)]);
        assert!(told.contains("[emerg]"), "{told}");
    }
}

/// A variable that is made of itself is refused where it is used, and not followed forever.
#[test]
fn variables_that_go_round_come_to_an_end() {
    let http = "map $uri $b { default $c; } map $uri $c { default $b; }
        server { listen unix:{folder}/front; location / { return 200 here; } location /round { return 200 \"<$b>\"; } }";
    let server = Server::start(Setup { http, ..Setup::default() });
    let answer = server.get("/round");
    assert!(answer.starts_with("HTTP/1.1 500 ") || answer.ends_with("<>"), "{answer}");
    assert!(server.get("/").ends_with("here"));
}
