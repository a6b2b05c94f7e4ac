//! The same requests to a real nginx and to [`Group`]: the peers tried, their order and the final status must agree.
//!
//! nginx runs on UNIX-domain sockets in a directory of its own, one process, one worker, so its state is one
//! group's state. `fail_timeout` is an hour: no window ends during the test, whatever the machine's speed.
//! Without an nginx on the machine each test says so and passes. `random` cannot be compared, being random.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pointsman_upstream::retry::{self, NextUpstream, TryFailure, TryState};
use pointsman_upstream::{
    Address, BalancerSpec, Group, GroupSpec, Lease, PeerSpec, PickInput, Tried, TryOutcome,
};

use crate::seeded::{Seeded, group, vary};

/// Well after the zero that new peers carry, as nginx's own clock is.
const NOW_MS: u64 = 1_000_000_000_000;
const HOUR_MS: u64 = 3_600_000;
const PATIENCE: Duration = Duration::from_secs(20);
const NEXT: &str = "error timeout http_500 http_404";

/// Returns the binary, or a word on why the test has nothing to do.
fn nginx_binary() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = places.map(|place| place.join("nginx")).find(|file| file.is_file());
    if found.is_none() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "nginx is not installed, and CI compares with it"
        );
        eprintln!("skipped: no nginx on this machine to compare with");
    }
    found
}

/// A directory that goes when the test ends. Short, because the path of a socket may have 107 bytes.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pm-up-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a new directory");
        Scratch(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it; the system's own cleaning takes what is left.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Nginx {
    process: Child,
    front: PathBuf,
}

impl Nginx {
    /// Starts it with these `http {}` contents and waits until it accepts.
    fn start(binary: &Path, scratch: &Scratch, http: &str) -> Nginx {
        let front = scratch.file("front.sock");
        let mut config =
            String::from("daemon off; master_process off; pid nginx.pid; error_log error.log crit;\n");
        config.push_str(
            "events { worker_connections 4096; }\nhttp { access_log off; client_body_temp_path tmp;\n",
        );
        config.push_str(
            "proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;\n",
        );
        config.push_str("set_real_ip_from unix:; real_ip_header X-Client;\n");
        writeln!(config, "{http}}}").expect("a String takes everything");
        std::fs::write(scratch.file("nginx.conf"), config).expect("a configuration file");
        let process = Command::new(binary)
            .arg("-p")
            .arg(&scratch.0)
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx starts");
        let mut nginx = Nginx { process, front };
        nginx.wait_until_it_accepts(scratch);
        nginx
    }

    fn wait_until_it_accepts(&mut self, scratch: &Scratch) {
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(&self.front).is_err() {
            let log = || std::fs::read_to_string(scratch.file("error.log")).unwrap_or_default();
            let ended = self.process.try_wait().expect("a child");
            assert!(ended.is_none(), "nginx ended: {}", log());
            assert!(Instant::now() < deadline, "nginx does not accept: {}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn send(&self, target: &str, client: IpAddr) -> UnixStream {
        let mut stream = UnixStream::connect(&self.front).expect("nginx accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        write!(stream, "GET {target} HTTP/1.0\r\nX-Client: {client}\r\n\r\n").expect("a request sent");
        stream
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It is ours alone and holds nothing worth a goodbye.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the status, and what `$upstream_addr` was.
fn receive(mut stream: UnixStream) -> (u16, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer and its end");
    let text = String::from_utf8_lossy(&bytes);
    let status = text.get(9..12).and_then(|digits| digits.parse().ok()).expect("a status line");
    let tried = text.lines().find_map(|line| line.strip_prefix("X-Tried: ")).unwrap_or_default();
    (status, tried.to_string())
}

/// Returns the block in nginx's language.
fn upstream_block(spec: &GroupSpec) -> String {
    let mut text = format!("upstream {} {{ ", spec.name);
    text.push_str(match spec.balancer {
        BalancerSpec::RoundRobin => "",
        BalancerSpec::LeastConn => "least_conn; ",
        BalancerSpec::IpHash => "ip_hash; ",
        BalancerSpec::Hash { consistent: false } => "hash $arg_key; ",
        BalancerSpec::Hash { consistent: true } => "hash $arg_key consistent; ",
        BalancerSpec::Random { .. } => unreachable!("chance is not compared"),
    });
    for peer in &spec.peers {
        let timeout = peer.fail_timeout_ms / 1000;
        write!(text, "server {} weight={} max_fails={}", peer.name, peer.weight, peer.max_fails)
            .expect("a String takes everything");
        write!(text, " fail_timeout={timeout}s max_conns={}", peer.max_conns)
            .expect("a String takes everything");
        text.push_str(if peer.down { " down" } else { "" });
        text.push_str(if peer.backup { " backup" } else { "" });
        text.push_str("; ");
    }
    text.push_str("}\n");
    text
}

fn location(spec: &GroupSpec, tries: u32) -> String {
    format!(
        "location = /{0} {{ proxy_pass http://{0}; proxy_next_upstream {NEXT}; proxy_next_upstream_tries {tries}; \
         add_header X-Tried $upstream_addr always; }}\n",
        spec.name
    )
}

/// The origins' behaviour for one request.
struct Script {
    key: String,
    client: IpAddr,
    /// What an origin answers, by its number; 200 if not named.
    answers: Vec<(usize, u16)>,
}

impl Script {
    fn random(origins: usize, random: &mut Seeded) -> Script {
        let mut answers = Vec::new();
        for origin in 0..origins {
            if random.chance(25) {
                answers.push((origin, [500, 404, 503][random.within(0..=2) as usize]));
            }
        }
        let key = if random.chance(5) { String::new() } else { format!("k{}", random.within(0..=200)) };
        let client: IpAddr = if random.chance(30) {
            [0x2001, 0xdb8, 0, 0, 0, 0, 7, random.within(0..=65535) as u16].into()
        } else {
            [random.within(1..=200) as u8, random.within(0..=255) as u8, 3, random.within(0..=255) as u8]
                .into()
        };
        Script { key, client, answers }
    }

    fn target(&self, group: &str) -> String {
        let answers: String =
            self.answers.iter().map(|(origin, status)| format!("&o{origin}={status}")).collect();
        format!("/{group}?key={}{answers}", self.key)
    }

    /// Returns the status of the origin that a label ends in the number of; none if nothing listens there.
    fn answer(&self, label: &str) -> Option<u16> {
        let number: usize = label.strip_suffix(".sock")?.rsplit_once("/o")?.1.parse().ok()?;
        Some(self.answers.iter().find(|(origin, _)| *origin == number).map_or(200, |&(_, status)| status))
    }
}

/// Returns one request through [`Group`], the way the crate's documentation says.
fn model(group: &mut Group, script: &Script, tries: u32) -> (u16, String) {
    let next = NextUpstream::from_words(NEXT.split(' ').map(str::as_bytes)).expect("nginx's words");
    let input = PickInput { key: script.key.as_bytes(), client: Some(script.client) };
    let mut tried = Tried::new(tries);
    let mut labels: Vec<String> = Vec::new();
    loop {
        let Ok(lease) = group.pick(NOW_MS, &input, &mut tried, &mut || panic!("no randomness")) else {
            labels.push(group.spec().name.clone());
            return (TryFailure::NoLive.status(), labels.join(", "));
        };
        let label = group.peer(&lease).label().to_string();
        let answer = script.answer(&label);
        labels.push(label);
        let state = TryState {
            non_idempotent: false,
            request_sent: answer.is_some(),
            body_streamed: false,
            tries_left: tried.tries_left(),
            elapsed_ms: 0,
            timeout_ms: 0,
        };
        let failure = answer.map_or(Some(TryFailure::Error), TryFailure::from_status);
        let retries = failure.is_some_and(|failure| retry::may_retry(next, failure, &state));
        let outcome = match (failure, answer) {
            (Some(failure), _) if retries => failure.outcome(),
            (Some(failure), None) => failure.outcome(),
            _ => TryOutcome::Success,
        };
        group.finish(lease, outcome, NOW_MS);
        if !retries {
            let status = answer.or(failure.map(TryFailure::status)).expect("an answer or a failure");
            return (status, labels.join(", "));
        }
    }
}

#[test]
fn sequences_of_tries_match_nginx() {
    const ORIGINS: usize = 8;
    let Some(binary) = nginx_binary() else { return };
    let scratch = Scratch::new();
    let mut random = Seeded::new(20);
    let balancers = [
        BalancerSpec::RoundRobin,
        BalancerSpec::LeastConn,
        BalancerSpec::IpHash,
        BalancerSpec::Hash { consistent: false },
        BalancerSpec::Hash { consistent: true },
    ];
    let mut specs: Vec<(GroupSpec, u32)> = Vec::new();
    for number in 0..60 {
        let balancer = balancers[number % balancers.len()];
        // A few are wider than one word of marks.
        let width = if number >= 50 { 90 } else { random.within(1..=7) + 10 * u64::from(number % 10 >= 5) };
        let mut peers = Vec::new();
        // In some most peers are down, so that a hash misses until it gives up.
        let sparse = number % 10 >= 5;
        for place in 0..width {
            // Nothing listens at the dead ones; the same server may be there twice.
            let (kind, most) = if random.chance(20) { ("dead", 2) } else { ("o", ORIGINS as u64 - 1) };
            let path = scratch.file(&format!("{kind}{}.sock", random.within(0..=most)));
            let mut peer = PeerSpec::new(format!("unix:{}", path.display()), Address::Unix(path));
            vary(&mut peer, place == 0, balancer, &mut random);
            peer.fail_timeout_ms = HOUR_MS;
            peer.down |= sparse && random.chance(75);
            peers.push(peer);
        }
        let tries = if random.chance(30) { random.within(1..=3) as u32 } else { 0 };
        specs.push((GroupSpec { name: format!("g{number}"), ..group(balancer, peers) }, tries));
    }
    let mut http: String = specs.iter().map(|(spec, _)| upstream_block(spec)).collect();
    for origin in 0..ORIGINS {
        let path = scratch.file(&format!("o{origin}.sock"));
        write!(http, "server {{ listen unix:{}; ", path.display()).expect("a String takes everything");
        for status in [404, 500, 503] {
            write!(http, "if ($arg_o{origin} = {status}) {{ return {status}; }} ")
                .expect("a String takes everything");
        }
        http.push_str("return 200; }\n");
    }
    writeln!(http, "server {{ listen unix:{};", scratch.file("front.sock").display()).expect("a String");
    http.extend(specs.iter().map(|(spec, tries)| location(spec, *tries)));
    http.push_str("}\n");
    let nginx = Nginx::start(&binary, &scratch, &http);

    let mut retried = 0;
    for (spec, tries) in specs {
        let mut group = Group::new(Arc::new(spec));
        for number in 0..60 {
            let script = Script::random(ORIGINS, &mut random);
            let target = script.target(&group.spec().name);
            let real = receive(nginx.send(&target, script.client));
            let ours = model(&mut group, &script, tries);
            retried += u32::from(ours.1.contains(", "));
            assert_eq!(
                ours,
                real,
                "request {number}, {target} from {}, of {:#?}",
                script.client,
                group.spec()
            );
        }
    }
    assert!(retried > 200, "too few requests were retried to prove anything: {retried}");
}

#[test]
fn consistent_hash_of_host_and_port_matches_nginx() {
    let Some(binary) = nginx_binary() else { return };
    let scratch = Scratch::new();
    let listeners: Vec<TcpListener> = (1..=9)
        .map(|host| {
            TcpListener::bind((Ipv4Addr::new(127, 0, 0, host), 0)).expect("a port on a loopback address")
        })
        .collect();
    let mut random = Seeded::new(5);
    let peers = listeners
        .iter()
        .map(|listener| {
            let address = listener.local_addr().expect("an address");
            let weight = random.within(1..=4) as u32;
            PeerSpec { weight, max_fails: 0, ..PeerSpec::new(address.to_string(), address.into()) }
        })
        .collect();
    for listener in listeners {
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                // Read something first: closing with unread bytes would reset the connection.
                let answered =
                    stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n"));
                drop(answered);
            }
        });
    }
    let spec = GroupSpec { name: "ring".into(), ..group(BalancerSpec::Hash { consistent: true }, peers) };
    let front = scratch.file("front.sock");
    let server = format!("server {{ listen unix:{};\n{}}}\n", front.display(), location(&spec, 0));
    let nginx = Nginx::start(&binary, &scratch, &format!("{}{server}", upstream_block(&spec)));
    let mut group = Group::new(Arc::new(spec));
    for key in 0..400 {
        let client = IpAddr::from([127, 0, 0, 1]);
        let real = receive(nginx.send(&format!("/ring?key=some-{key}"), client));
        let text = format!("some-{key}");
        let input = PickInput { key: text.as_bytes(), client: Some(client) };
        let lease = group.pick(NOW_MS, &input, &mut Tried::default(), &mut || 0).expect("a peer");
        assert_eq!((200, group.peer(&lease).address().to_string()), real, "key {text}");
        group.finish(lease, TryOutcome::Success, NOW_MS);
    }
}

/// A request that an origin holds until it may answer.
struct Held {
    lease: Lease,
    tried: Tried,
    from: IpAddr,
    client: UnixStream,
    origin: UnixStream,
}

#[test]
fn picks_with_open_connections_match_nginx() {
    let Some(binary) = nginx_binary() else { return };
    for (number, balancer) in
        [BalancerSpec::LeastConn, BalancerSpec::RoundRobin, BalancerSpec::IpHash].into_iter().enumerate()
    {
        let scratch = Scratch::new();
        let mut random = Seeded::new(number as u64 + 1);
        let (sender, accepted) = mpsc::channel();
        let mut peers = Vec::new();
        for origin in 0..6 {
            let path = scratch.file(&format!("o{origin}.sock"));
            let listener = UnixListener::bind(&path).expect("a socket");
            let sender = sender.clone();
            let label = format!("unix:{}", path.display());
            peers.push(PeerSpec {
                // Equal in proportion often enough, and a failure costs one or two of the effective weight.
                weight: random.within(1..=2) as u32 * 20,
                max_fails: 20,
                fail_timeout_ms: HOUR_MS,
                max_conns: random.within(2..=6) as u32,
                backup: origin == 5 && balancer.allows_backup(),
                ..PeerSpec::new(label.clone(), Address::Unix(path))
            });
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let Ok(stream) = stream else { return };
                    if sender.send((label.clone(), stream)).is_err() {
                        return;
                    }
                }
            });
        }
        let spec = GroupSpec { name: "held".into(), ..group(balancer, peers) };
        let front = scratch.file("front.sock");
        let server = format!("server {{ listen unix:{};\n{}}}\n", front.display(), location(&spec, 0));
        let nginx = Nginx::start(&binary, &scratch, &format!("{}{server}", upstream_block(&spec)));
        let mut world =
            HeldWorld { nginx, group: Group::new(Arc::new(spec)), accepted, held: Vec::new(), refused: 0 };
        for _ in 0..400 {
            world.step(&mut random);
        }
        world.end();
    }
}

struct HeldWorld {
    nginx: Nginx,
    group: Group,
    /// The origins' labels, as nginx connects to them.
    accepted: mpsc::Receiver<(String, UnixStream)>,
    held: Vec<Held>,
    refused: u32,
}

impl HeldWorld {
    fn step(&mut self, random: &mut Seeded) {
        if random.chance(56) || self.held.is_empty() {
            let from = IpAddr::from([10, random.within(0..=255) as u8, 0, 1]);
            let client = self.nginx.send("/held", from);
            self.pick(Tried::default(), from, client);
            return;
        }
        let at = random.within(0..=self.held.len() as u64 - 1) as usize;
        let held = self.held.swap_remove(at);
        self.release(held, if random.chance(40) { 500 } else { 200 });
    }

    fn pick(&mut self, mut tried: Tried, from: IpAddr, client: UnixStream) {
        let input = PickInput { key: b"", client: Some(from) };
        match self.group.pick(NOW_MS, &input, &mut tried, &mut || 0) {
            Ok(lease) => {
                let (label, origin) = self.accepted.recv_timeout(PATIENCE).expect("nginx connects somewhere");
                let ours = self.group.peer(&lease).address().to_string();
                assert_eq!(ours, label, "{:#?}", self.group.peers());
                self.held.push(Held { lease, tried, from, client, origin });
            }
            Err(_) => {
                self.refused += 1;
                let (status, labels) = receive(client);
                assert_eq!(status, 502);
                assert!(labels.ends_with("held"), "no live upstreams shows the group's name: {labels}");
            }
        }
    }

    fn release(&mut self, held: Held, status: u16) {
        let Held { lease, tried, from, client, mut origin } = held;
        let mut head = [0; 4096];
        let read = origin.read(&mut head).expect("the request");
        assert!(head[..read].ends_with(b"\r\n\r\n"), "a whole head in one piece");
        write!(origin, "HTTP/1.0 {status} As You Like It\r\n\r\n").expect("an answer sent");
        drop(origin);
        if status == 500 && tried.tries_left() > 0 {
            self.group.finish(lease, TryOutcome::Failed, NOW_MS);
            self.pick(tried, from, client);
            return;
        }
        // nginx gives the peer back before it ends the client's connection.
        assert_eq!(receive(client).0, status);
        self.group.finish(lease, TryOutcome::Success, NOW_MS);
    }

    fn end(self) {
        assert!(self.refused > 0, "nothing was ever full");
        let HeldWorld { mut group, held, .. } = self;
        for Held { lease, .. } in held {
            group.finish(lease, TryOutcome::Success, NOW_MS);
        }
    }
}
