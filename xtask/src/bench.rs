//! `cargo xtask bench`: what a request costs in CPU time, beside nginx, in the same run.
//!
//! Both run the same configuration on one thread each, in turn, in short rounds, driven by `wrk` over loopback; what
//! counts is the kernel's own account of the server's processes, divided by the requests answered. Only ratios and
//! medians are told: a bare time of a noisy machine says nothing. It is bounded and ends by itself.

use crate::server::{Program, Server, free_ports};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask bench [--binary PATH] [--nginx PATH] [--rounds N] [--seconds N] [WORKLOAD…]\n\
    \x20 workloads: proxy, tutorial, static; all of them without a name";

/// The workloads: a name, which is that of its configuration in `bench/`, and whether there is an origin behind it.
const WORKLOADS: [(&str, bool); 3] = [("proxy", true), ("tutorial", true), ("static", false)];

/// Rounds of one side that differ by more than this say that the machine is too busy for a figure.
const MAX_SPREAD: f64 = 1.5;

struct Plan {
    ours: Program,
    nginx: Program,
    rounds: usize,
    seconds: u64,
    workloads: Vec<(&'static str, bool)>,
}

/// Runs the verb.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let plan = match parse(args) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let (mut passed, mut failed) = (0, 0);
    for (name, origin) in &plan.workloads {
        match run(&plan, name, *origin) {
            Ok(line) => {
                passed += 1;
                println!("{name}: {line}");
            }
            Err(error) => {
                failed += 1;
                println!("{name}: FAILED: {error}");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(args: &[String]) -> Result<Plan, String> {
    let mut plan = Plan {
        ours: Program::own(),
        nginx: Program { binary: PathBuf::from("nginx"), is_nginx: true },
        rounds: 5,
        seconds: 3,
        workloads: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} takes a value"));
        let number = |text: &String| {
            text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("{text} is no number"))
        };
        match arg.as_str() {
            "--binary" => plan.ours.binary = value()?.into(),
            "--nginx" => plan.nginx.binary = value()?.into(),
            "--rounds" => plan.rounds = number(value()?)? as usize,
            "--seconds" => plan.seconds = number(value()?)?,
            name => match WORKLOADS.iter().find(|(known, _)| *known == name) {
                Some(workload) => plan.workloads.push(*workload),
                None => return Err(format!("what is {name}?")),
            },
        }
    }
    if plan.workloads.is_empty() {
        plan.workloads = WORKLOADS.to_vec();
    }
    Ok(plan)
}

/// One workload on both sides, round by round.
fn run(plan: &Plan, name: &str, with_origin: bool) -> Result<String, String> {
    let [origin, ours, theirs] = free_ports::<3>()?;
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let conf = |file: &str, front: u16| -> Result<Vec<(&str, String)>, String> {
        let path = crate::root().join(format!("bench/{file}.conf"));
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let text = text.replace("{front}", &front.to_string()).replace("{origin}", &origin.to_string());
        Ok(vec![("conf/nginx.conf", text), ("html/index.html", "x".repeat(1024))])
    };
    let behind = match with_origin {
        true => Some(Server::start(&plan.nginx, "bench-origin", &conf("origin", origin)?, at(origin))?),
        false => None,
    };
    let sides = [
        (Server::start(&plan.ours, "bench-ours", &conf(name, ours)?, at(ours))?, ours),
        (Server::start(&plan.nginx, "bench-nginx", &conf(name, theirs)?, at(theirs))?, theirs),
    ];
    let mut costs: [Vec<f64>; 2] = Default::default();
    for _ in 0..plan.rounds {
        for ((server, port), costs) in sides.iter().zip(&mut costs) {
            costs.push(round(server.pid(), *port, plan.seconds)?);
        }
    }
    for (server, _) in sides {
        server.finish(&[])?;
    }
    if let Some(server) = behind {
        server.finish(&[])?;
    }
    let spread = costs.iter().map(|costs| spread(costs)).fold(1.0, f64::max);
    if spread > MAX_SPREAD {
        return Err(format!(
            "the rounds differ {spread:.2} times over: the machine is too busy for a figure"
        ));
    }
    let ratio = median(&costs[0]) / median(&costs[1]);
    Ok(format!(
        "CPU per request {ratio:.2} of nginx's ({} rounds of {} s each, in turn; rounds differ by at most {:.0} %)",
        plan.rounds,
        plan.seconds,
        (spread - 1.0) * 100.0
    ))
}

/// Drives one side for a while; answers the CPU time of a request, in clock ticks.
fn round(pid: u32, port: u16, seconds: u64) -> Result<f64, String> {
    let before = ticks(pid);
    let output = Command::new("wrk")
        .args(["-t1", "-c64", &format!("-d{seconds}s"), &format!("http://127.0.0.1:{port}/")])
        .output()
        .map_err(|error| format!("wrk (Debian package wrk): {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors")) {
        return Err(format!("a request failed: {}", line.trim()));
    }
    let count = text
        .lines()
        .find(|line| line.contains("requests in"))
        .and_then(|line| line.split_whitespace().next());
    match count.and_then(|count| count.parse::<f64>().ok()) {
        Some(count) if count > 0.0 => Ok((ticks(pid) - before) as f64 / count),
        _ => Err(format!("wrk said nothing of requests: {text}")),
    }
}

/// The CPU time of a process and its children, user and system, in the kernel's clock ticks.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let own = stat.rsplit_once(')').map_or(0, |(_, fields)| {
        // Behind the name: state is the first field, utime the twelfth, stime the thirteenth.
        fields.split_whitespace().skip(11).take(2).filter_map(|number| number.parse::<u64>().ok()).sum()
    });
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    own + children.split_whitespace().filter_map(|child| child.parse().ok()).map(ticks).sum::<u64>()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// How many times the dearest round costs what the cheapest does.
fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    most / least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_read() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let plan = parse(&words("static --rounds 2 --seconds 1")).expect("good");
        assert_eq!((plan.rounds, plan.seconds, plan.workloads), (2, 1, vec![("static", false)]));
        assert_eq!(parse(&[]).expect("good").workloads.len(), WORKLOADS.len());
        assert!(parse(&words("--rounds 0")).is_err());
        assert!(parse(&words("nothing")).is_err());
    }

    #[test]
    fn medians_and_spreads() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(spread(&[2.0, 1.0, 1.5]), 2.0);
    }

    #[test]
    fn our_own_time_is_counted() {
        let before = ticks(std::process::id());
        let mut sum = 0u64;
        while ticks(std::process::id()) < before + 2 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(ticks(std::process::id()) > before);
    }
}
