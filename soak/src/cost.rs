//! CPU time that a server spends on a request.

use std::net::SocketAddr;

use testkit::proc::CpuTime;

use crate::client::Client;

const CONNECTIONS: usize = 64;

/// Returns the CPU time of a request in nanoseconds, over `requests` requests to the hosts that `host` names.
pub(crate) fn cpu_ns_per_request(
    front: SocketAddr,
    pid: u32,
    requests: u64,
    mut host: impl FnMut() -> String,
) -> Result<f64, String> {
    let mut clients = (0..CONNECTIONS).map(|_| Client::connect(front)).collect::<Result<Vec<_>, _>>()?;
    let before = CpuTime::of(pid);
    let mut sent = 0;
    while sent < requests {
        for client in &mut clients {
            client.send_to("/", &host())?;
        }
        for client in &mut clients {
            let answer = client.answer()?;
            if answer.status != 200 {
                return Err(format!("status {}", answer.status));
            }
            sent += 1;
        }
    }
    Ok(CpuTime::of(pid).since(&before).total_ns as f64 / sent as f64)
}

/// Returns the median of ratios, and the lowest and the highest of them, as text.
pub(crate) fn median_ratio(mut ratios: Vec<f64>) -> (f64, String) {
    ratios.sort_unstable_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    let text = format!(
        "median {median:.3} of {} pairs ({:.3} to {:.3})",
        ratios.len(),
        ratios[0],
        ratios[ratios.len() - 1]
    );
    (median, text)
}
