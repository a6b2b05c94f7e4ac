//! Kept responses when the process is killed: what is served is whole and right, or not served as kept.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many responses the origin has.
const RESPONSES: u64 = 24;
/// How often the worker is killed; `POINTSMAN_KILLS` has it killed more often.
const KILLS: u64 = 12;

/// Returns the body of a response: its length and all its bytes follow from its number and version.
fn body(number: u64, version: u64) -> Vec<u8> {
    let mut state = (number << 32 | version).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let len = (number * number * 700 + version % 50) as usize;
    let mut body = format!("{number} {version} ").into_bytes();
    while body.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        body.extend_from_slice(&state.to_le_bytes());
    }
    body
}

/// Answers on a socket, each response in pieces and with a new version.
fn answer(origin: &UnixListener, ended: &AtomicBool, versions: &AtomicU64) {
    while !ended.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = origin.accept() else {
            std::thread::sleep(GLANCE);
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        let version = versions.fetch_add(1, Ordering::Relaxed);
        std::thread::spawn(move || {
            let mut request = [0; 2048];
            let count = stream.read(&mut request).unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..count]).into_owned();
            let number = text.split(' ').nth(1).and_then(|uri| uri[1..].parse().ok()).unwrap_or(0);
            let body = body(number, version);
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Accel-Expires: 1\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes());
            for piece in body.chunks(30_000) {
                // The server may be killed meanwhile.
                if stream.write_all(piece).is_err() {
                    return;
                }
                std::thread::yield_now();
            }
        });
    }
}

/// Asks for one response; `None` if it does not come whole. A whole one must be right.
fn ask(socket: &Path, number: u64) -> Option<bool> {
    let mut stream = bounded(UnixStream::connect(socket).ok()?);
    stream
        .write_all(format!("GET /{number} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let at = answer.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let (head, got) = (String::from_utf8_lossy(&answer[..at]).into_owned(), &answer[at..]);
    let len: usize = head.split("Content-Length: ").nth(1)?.split('\r').next()?.parse().ok()?;
    if !head.starts_with("HTTP/1.1 200") || got.len() < len {
        return None;
    }
    let text = String::from_utf8_lossy(&got[..got.len().min(60)]).into_owned();
    let mut words = text.split(' ');
    let named: u64 = words.next().unwrap().parse().unwrap();
    let version: u64 = words.next().unwrap().parse().unwrap();
    assert_eq!(named, number, "{head}");
    assert!(got == body(number, version), "a wrong body of {number}: {head}");
    Some(head.contains("X-Cache: HIT"))
}

#[test]
fn no_kill_leaves_a_wrong_or_half_response() {
    let kills = std::env::var("POINTSMAN_KILLS").map_or(KILLS, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let origin = UnixListener::bind(path("origin")).unwrap();
    origin.set_nonblocking(true).unwrap();
    let server = Server::start(
        "",
        "proxy_cache_path {folder}/kept levels=1 keys_zone=kept:1m;
         server {
             listen unix:{folder}/cached;
             proxy_cache kept;
             proxy_cache_lock on;
             add_header X-Cache $upstream_cache_status;
             location / { proxy_pass http://unix:ORIGIN:/; proxy_cache_key $uri; }
         }"
        .replace("ORIGIN", &path("origin").display().to_string())
        .as_str(),
    );
    let ended = Arc::new(AtomicBool::new(false));
    let (versions, hits, wholes) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let cached = server.path("cached");
    std::thread::scope(|scope| {
        scope.spawn(|| answer(&origin, &ended, &versions));
        for client in 0..4 {
            let (ended, hits, wholes, cached) = (&ended, &hits, &wholes, &cached);
            scope.spawn(move || {
                let mut state = 12345 + client;
                while !ended.load(Ordering::Relaxed) {
                    state = (state * 1_103_515_245 + 12345) % 2_147_483_648_u64;
                    if let Some(is_hit) = ask(cached, state / 65536 % RESPONSES) {
                        wholes.fetch_add(1, Ordering::Relaxed);
                        hits.fetch_add(u64::from(is_hit), Ordering::Relaxed);
                    }
                }
            });
        }
        for _ in 0..kills {
            let before = wholes.load(Ordering::Relaxed);
            let pid = server.say(&["status", "--json"]).json()["pid"].to_string();
            server.until("responses", || wholes.load(Ordering::Relaxed) >= before + 20);
            assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
            server.until("another worker", || {
                let said = server.say(&["status", "--json"]);
                said.code == 0 && said.json()["pid"] != pid.parse::<u64>().unwrap()
            });
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert!(hits.load(Ordering::Relaxed) > 0, "nothing was kept");
    // What the killed ones have left is gone, or will be with the next start.
    let left = std::fs::read_dir(server.path("kept")).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).filter(|name| name.len() > 2).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_purged_response_is_fetched_again() {
    let server = Server::start(
        "",
        "proxy_cache_path {folder}/kept levels=1 keys_zone=kept:1m;
         server {
             listen unix:{folder}/cached;
             proxy_cache kept;
             proxy_cache_valid 1h;
             proxy_cache_key $uri;
             add_header X-Cache $upstream_cache_status;
             location / { proxy_pass http://green; }
         }",
    );
    let is_hit = |path: &str| {
        let mut stream = bounded(UnixStream::connect(server.path("cached")).unwrap());
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.ends_with("green"), "{text}");
        text.contains("X-Cache: HIT")
    };
    for path in ["/a", "/b", "/c"] {
        assert!(!is_hit(path) && is_hit(path));
    }
    assert!(server.say(&["cache"]).done().contains("proxy_cache"));
    assert_eq!(server.say(&["cache", "purge", "kept", "/a", "/x"]).done(), "kept: 1 response purged\n");
    assert!(!is_hit("/a") && is_hit("/b"));
    assert_eq!(server.say(&["cache", "purge", "kept", "--all", "--json"]).json()["responses"], 3);
    assert!(!is_hit("/b") && !is_hit("/c"));
    let left = std::fs::read_dir(server.path("kept")).unwrap().flatten();
    let files: usize = left.map(|folder| std::fs::read_dir(folder.path()).unwrap().count()).sum();
    assert_eq!(files, 2, "those of what was asked for since");
    let refused = server.say(&["cache", "purge", "none", "--all"]);
    assert!(refused.code != 0 && refused.err.contains("there are kept"), "{}", refused.err);
    assert_eq!(server.say(&["cache", "purge", "kept"]).code, 2);
}
