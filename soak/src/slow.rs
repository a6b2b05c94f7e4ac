//! A slow server in a fast group, and a slow group after a switch: both must show in the statistics within ten seconds.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Plan;
use crate::client::Client;
use crate::control::{Control, list};
use crate::origins::Origins;

/// The response times of the slow server of blue, and of both servers of green.
const SLOW_S: [&str; 2] = ["0.05", "0.02"];
const WITHIN: Duration = Duration::from_secs(10);
const CONNECTIONS: usize = 16;

/// Runs the test; returns a summary.
pub(crate) fn run(plan: &Plan) -> Result<String, String> {
    let origins = Origins::start(&plan.program(), Some(SLOW_S))?;
    let mut control = Control::open(origins.gateway_dir.prefix())?;
    let stop = AtomicBool::new(false);
    let front = origins.front;
    let summary = std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| load(front, &stop));
        }
        let summary = look(&origins, &mut control);
        stop.store(true, Ordering::SeqCst);
        summary
    })?;
    origins.finish()?;
    Ok(summary)
}

/// Sends requests of a key that is not switched, and of one that is.
fn load(front: SocketAddr, stop: &AtomicBool) -> Result<(), String> {
    let mut client = Client::connect(front)?;
    while !stop.load(Ordering::SeqCst) {
        for host in ["stays.example.com", "moves.example.com"] {
            client.send_to("/", host)?;
            client.answer()?;
        }
    }
    Ok(())
}

fn look(origins: &Origins, control: &mut Control) -> Result<String, String> {
    let slow_server = format!("127.0.0.1:{}", origins.ports[1]);
    let server = until("the slow server in status", || {
        let status = control.get("/v1/status?window=10s")?;
        let fast = p50(&status, "blue", &format!("127.0.0.1:{}", origins.ports[0]));
        let slow = p50(&status, "blue", &slow_server);
        Ok(matches!((fast, slow), (Some(fast), Some(slow)) if slow > 40_000 && fast < 10_000))
    })?;
    until("the slow server in /metrics", || slow_in_metrics(origins, &slow_server))?;
    control.must("PUT", "/v1/switches/live/keys/moves.example.com", &json!({"target": "green"}))?;
    let group = until("the slow group in compare", || {
        let compared = control.get("/v1/compare?a=blue&b=green&window=10s")?;
        Ok(list(&compared["judged"]).iter().any(|one| one["figure"] == "p50" && one["verdict"] == "worse"))
    })?;
    until("the slow group in status", || {
        let status = control.get("/v1/status?window=10s")?;
        Ok((0..2).all(|n| {
            let server = format!("127.0.0.1:{}", origins.ports[2 + n]);
            p50(&status, "green", &server).is_some_and(|p50| p50 > 15_000)
        }))
    })?;
    let page = Client::connect(origins.front)?.get("/status")?.body;
    let mean = page.lines().next().unwrap_or_default().to_owned();
    Ok(format!(
        "the slow server showed after {:.1} s, the slow group {:.1} s after the switch; the mean over everything: {mean}",
        server.as_secs_f64(),
        group.as_secs_f64()
    ))
}

/// Polls a condition for at most ten seconds; returns how long it took.
fn until(what: &str, mut holds: impl FnMut() -> Result<bool, String>) -> Result<Duration, String> {
    let started = Instant::now();
    loop {
        if holds()? {
            return Ok(started.elapsed());
        }
        if started.elapsed() > WITHIN {
            return Err(format!("{what} does not show after {} s", WITHIN.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn p50(status: &Value, group: &str, server: &str) -> Option<u64> {
    let group = status["groups"].as_array()?.iter().find(|one| one["name"] == group)?;
    let server = group["servers"].as_array()?.iter().find(|one| one["address"] == server)?;
    server["traffic"]["response"]["p50_us"].as_u64()
}

/// Returns true if `/metrics` shows most answers of a server above 25 ms.
fn slow_in_metrics(origins: &Origins, server: &str) -> Result<bool, String> {
    let page = Client::connect(origins.front)?.get("/metrics")?.body;
    let of = |bound: &str| {
        let mark = format!("le=\"{bound}\"");
        let line = page.lines().find(|line| {
            line.contains("response")
                && line.contains("_bucket{")
                && line.contains(server)
                && line.contains(&mark)
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    Ok(match (of("0.025"), of("+Inf")) {
        (Some(fast), Some(all)) => all > 10.0 && fast < all / 2.0,
        _ => false,
    })
}
