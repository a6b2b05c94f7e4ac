//! Health checks cost about what they cost HAProxy, in the same run, and do not slow the traffic down; a server that dies or hangs is
//! out in time and back in time while as many are checked.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::ProcessGroup;
use testkit::proc::{CpuTime, tree};

use crate::Plan;
use crate::client::Client;
use crate::connection::TIMEOUT;
use crate::control::{Control, list, number};
use crate::cost::median_ratio;
use crate::durations::Durations;
use crate::server::{SEVERE, Server, SharedDir, address, prepare, signal, test_dir, until};

const GATEWAY: &str = include_str!("checks.conf");
const HAPROXY: &str = include_str!("checks.haproxy.cfg");
const SERVERS: &str = include_str!("checked.conf");

/// The servers that are asked, each twice a second: 200 checks a second.
const CHECKED: usize = 100;
const CHECKS_PER_S: f64 = 200.0;
/// How long CPU times are compared, after a while in which both get going.
const COMPARED: Duration = Duration::from_secs(20);
const WARM_UP: Duration = Duration::from_secs(3);
/// The CPU time of the checks may be so many times HAProxy's.
const MAX_CPU: f64 = 1.2;
/// The 99th percentile with checks may be so many times that without, at the median of the pairs: what is above 1 is noise.
const MAX_P99: f64 = 1.1;
const PAIRS: usize = 15;
const REQUESTS: u64 = 20_000;
const CONNECTIONS: usize = 32;

// As the configuration of the gateway has it for the server that dies.
const INTERVAL: Duration = Duration::from_millis(500);
const JITTER: Duration = Duration::from_millis(100);
const CHECK_TIMEOUT: Duration = Duration::from_millis(300);
const FAILS: u32 = 2;
const PASSES: u32 = 2;
const SLACK: Duration = Duration::from_secs(1);

/// Runs the test; returns a summary.
pub(crate) fn run(plan: &Plan) -> Result<String, String> {
    let haproxy = Command::new("haproxy").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if haproxy.is_err() {
        return Err("haproxy is not installed, and the checks are compared with its".to_owned());
    }
    let mortal = Mortal::start()?;
    let servers_dir = prepare(&servers())?;
    let ports = (0..CHECKED).map(|n| servers_dir.port(&port_name(n))).collect::<Result<Vec<_>, String>>()?;
    let servers =
        Server::start(&plan.program(), &servers_dir, address(&servers_dir, &port_name(CHECKED - 1))?)?;
    let (with_dir, with) = gateway(plan, &ports, &mortal, true)?;
    let (without_dir, without) = gateway(plan, &ports, &mortal, false)?;
    let cpu = compare_cpu(&with, &with_dir, &ports)?;
    let p99 = compare_p99(&with, &with_dir, &without, &without_dir)?;
    without.finish(&SEVERE)?;
    let times = out_and_back(&with_dir, &mortal)?;
    with.finish(&SEVERE)?;
    servers.finish(&SEVERE)?;
    Ok(format!("{cpu}; {p99}; {times}"))
}

fn port_name(number: usize) -> String {
    format!("s{number}")
}

/// Returns the configuration of the servers that are asked.
fn servers() -> String {
    let listen = |n| format!("        listen 127.0.0.1:{{port:{}}} backlog=1024;\n", port_name(n));
    SERVERS.replace("{listens}", &(0..CHECKED).map(listen).collect::<String>())
}

fn gateway(
    plan: &Plan,
    ports: &[u16],
    mortal: &Mortal,
    is_checked: bool,
) -> Result<(SharedDir, Server), String> {
    let line = |port: &u16| format!("        server 127.0.0.1:{port};\n");
    let check = |text: &'static str| if is_checked { text } else { "" };
    let text = GATEWAY
        .replace("{servers}", &ports.iter().map(line).collect::<String>())
        .replace("{mortal}", &mortal.address.to_string())
        .replace("{check}", check("health_check interval=500ms fails=3 uri=/asked-by-us;"))
        .replace(
            "{check of the mortal}",
            check("health_check interval=500ms jitter=100ms timeout=300ms fails=2 passes=2 uri=/health;"),
        );
    let dir = prepare(&text)?;
    let server = Server::start(&plan.program(), &dir, address(&dir, "front")?)?;
    Ok((dir, server))
}

/// Compares the CPU time of the checks with that of HAProxy's: both ask the same servers at the same time.
fn compare_cpu(ours: &Server, ours_dir: &SharedDir, ports: &[u16]) -> Result<String, String> {
    let dir = test_dir(HAPROXY)?;
    let line = |(n, port): (usize, &u16)| format!("    server s{n} 127.0.0.1:{port} check\n");
    let text = HAPROXY.replace("{servers}", &ports.iter().enumerate().map(line).collect::<String>());
    dir.write("haproxy.cfg", dir.fill_in(&text).as_bytes(), 0o644)?;
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f"]).arg(dir.prefix().join("haproxy.cfg"));
    let theirs =
        ProcessGroup::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    let theirs = theirs.map_err(|error| format!("haproxy: {error}"))?;
    let front = address(&dir, "front")?;
    until("haproxy", || TcpStream::connect(front).ok())?;
    std::thread::sleep(WARM_UP);
    let (our_pid, their_pid) = (ours.pid(), theirs.pid().as_raw().cast_unsigned());
    let mut control = Control::open(ours_dir.prefix())?;
    let (asked, their_asked) = (checks(&mut control)?, their_checks(front)?);
    let (ours, theirs_before, began) = (CpuTime::of(our_pid), CpuTime::of(their_pid), Instant::now());
    std::thread::sleep(COMPARED);
    let our_ns = CpuTime::of(our_pid).since(&ours).total_ns as f64;
    let their_ns = CpuTime::of(their_pid).since(&theirs_before).total_ns as f64;
    let seconds = began.elapsed().as_secs_f64();
    let rate = (checks(&mut control)? - asked) as f64 / seconds;
    let their_rate = (their_checks(front)? - their_asked) as f64 / seconds;
    theirs.signal(Signal::SIGTERM).map_err(|error| format!("haproxy: {error}"))?;
    theirs.wait(TIMEOUT).ok_or("haproxy does not end")?;
    for (who, rate) in [("we make", rate), ("HAProxy makes", their_rate)] {
        if (rate - CHECKS_PER_S).abs() > CHECKS_PER_S / 10.0 {
            return Err(format!("{who} {rate:.0} checks a second, not {CHECKS_PER_S}"));
        }
    }
    let per_check = |ns: f64, rate: f64| ns / seconds / rate / 1000.0;
    let (ours, theirs) = (per_check(our_ns, rate), per_check(their_ns, their_rate));
    let ratio = ours / theirs;
    let summary = format!(
        "{rate:.0} checks a second cost {ours:.1} us of CPU each, HAProxy's {their_rate:.0} {theirs:.1} us: {ratio:.2} times"
    );
    if ratio <= MAX_CPU { Ok(summary) } else { Err(format!("{summary}, more than {MAX_CPU}")) }
}

/// Returns how many checks of the pool have been made.
fn checks(control: &mut Control) -> Result<u64, String> {
    let group = control.get("/v1/groups/pool/servers")?;
    let of = |server: &Value| -> Result<u64, String> {
        let check = &server["checks"][0];
        Ok(number(check, "passed")? + number(check, "failed")?)
    };
    list(&group["servers"]).iter().map(of).sum()
}

/// Returns how many checks HAProxy has made: the servers count what they were asked by it.
fn their_checks(front: SocketAddr) -> Result<u64, String> {
    let answer = Client::connect(front)?.get("/counted")?;
    answer.body.trim().parse().map_err(|_| format!("no count: {}", answer.body))
}

/// Compares the 99th percentile of requests to a gateway that checks with that of one that does not. Of the two, the one that is
/// not asked is stopped.
fn compare_p99(
    with: &Server,
    with_dir: &SharedDir,
    without: &Server,
    without_dir: &SharedDir,
) -> Result<String, String> {
    let stop =
        |server: &Server, what: Signal| tree(server.pid()).into_iter().try_for_each(|pid| signal(pid, what));
    let mut ratios = Vec::new();
    for pair in 0..=PAIRS {
        let mut found = [0; 2];
        for (number, (server, dir)) in [(with, with_dir), (without, without_dir)].into_iter().enumerate() {
            let other = if number == 0 { without } else { with };
            stop(other, Signal::SIGSTOP)?;
            stop(server, Signal::SIGCONT)?;
            found[number] = p99_us(address(dir, "front")?)?;
            stop(other, Signal::SIGCONT)?;
        }
        // The first pair warms both up.
        if pair > 0 {
            ratios.push(found[0] as f64 / found[1].max(1) as f64);
        }
    }
    let (ratio, text) = median_ratio(ratios);
    let summary = format!("the 99th percentile of requests with checks as a ratio to that without: {text}");
    if ratio <= MAX_P99 { Ok(summary) } else { Err(format!("{summary}: above {MAX_P99}")) }
}

/// Asks on several connections at a time, so that requests wait for each other as they do under load.
fn p99_us(front: SocketAddr) -> Result<u64, String> {
    let mut clients = (0..CONNECTIONS).map(|_| Client::connect(front)).collect::<Result<Vec<_>, _>>()?;
    let mut durations = Durations::new()?;
    while durations.count() < REQUESTS {
        let began = Instant::now();
        for client in &mut clients {
            client.send("/")?;
        }
        for client in &mut clients {
            let answer = client.answer()?;
            durations.record(began.elapsed());
            if answer.status != 200 {
                return Err(format!("status {}: {}", answer.status, answer.body));
            }
        }
    }
    Ok(durations.quantile_us(0.99))
}

/// Lets a server die and hang, and measures when it is out and when it is back.
fn out_and_back(dir: &SharedDir, mortal: &Mortal) -> Result<String, String> {
    let mut control = Control::open(dir.prefix())?;
    let mut state = || -> Result<String, String> {
        let group = control.get("/v1/groups/mortals/servers")?;
        Ok(list(&group["servers"])[0]["state"].as_str().unwrap_or_default().to_owned())
    };
    let mut within = |what: &str, wanted: &str, bound: Duration| -> Result<Duration, String> {
        let began = Instant::now();
        while state()? != wanted {
            if began.elapsed() > bound {
                return Err(format!("a server that {what} is not {wanted} within {bound:?}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(began.elapsed())
    };
    let out_bound = (INTERVAL + JITTER) * FAILS + CHECK_TIMEOUT + SLACK;
    let back_bound = (INTERVAL + JITTER) * PASSES + SLACK;
    let mut text = String::new();
    for (mode, what) in [(DEAD, "dies"), (HANGING, "hangs")] {
        let (mut out, mut back) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..5 {
            within("is well", "up", TIMEOUT)?;
            mortal.mode.store(mode, SeqCst);
            out = out.max(within(what, "unhealthy", out_bound)?);
            mortal.mode.store(WELL, SeqCst);
            back = back.max(within("is well again", "up", back_bound)?);
        }
        text.push_str(&format!("; one that {what} is out within {out:.1?} and back within {back:.1?}"));
    }
    Ok(format!("a server may take {out_bound:?} to be out and {back_bound:?} to be back{text}"))
}

const WELL: u8 = 0;
const DEAD: u8 = 1;
const HANGING: u8 = 2;

/// A server that can die and come back.
struct Mortal {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
}

impl Mortal {
    fn start() -> Result<Mortal, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("bind: {error}"))?;
        let address = listener.local_addr().map_err(|error| format!("bind: {error}"))?;
        let mode = Arc::new(AtomicU8::new(WELL));
        let shared = Arc::clone(&mode);
        std::thread::spawn(move || {
            // What hangs is kept open until the process ends.
            let mut hanging = Vec::new();
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                match shared.load(SeqCst) {
                    DEAD => drop(stream),
                    HANGING => hanging.push(stream),
                    _ => drop(std::thread::spawn(move || serve(stream))),
                }
            }
        });
        Ok(Mortal { address, mode })
    }
}

fn serve(mut stream: TcpStream) {
    use std::io::{Read, Write};
    let (mut head, mut bytes) = (Vec::new(), [0; 512]);
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        head.extend_from_slice(&bytes[..read]);
        if head.ends_with(b"\r\n\r\n") {
            // A proxy that has gone does not matter.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configurations_name_all_servers() {
        assert_eq!(servers().matches("listen 127.0.0.1:{port:s").count(), CHECKED);
        assert!(HAPROXY.contains("inter 500ms") && GATEWAY.contains("{servers}"));
        assert!(CHECKS_PER_S == CHECKED as f64 / INTERVAL.as_secs_f64());
    }
}
