//! CPU time that a server spends on a request.

use std::fmt;
use std::net::SocketAddr;

use testkit::proc::CpuTime;

use crate::client::Client;

const CONNECTIONS: usize = 64;

/// Returns the CPU time of a request in nanoseconds, over `requests` requests to the hosts that `host` names.
pub(crate) fn cpu_ns_per_request(
    front: SocketAddr,
    pid: u32,
    requests: u64,
    host: impl FnMut() -> String,
) -> Result<f64, String> {
    Requests::connect(front, pid)?.cpu_ns_each(requests, host)
}

/// Connections to a server, which stay open from one measurement to the next.
pub(crate) struct Requests {
    clients: Vec<Client>,
    pid: u32,
}

impl Requests {
    pub(crate) fn connect(front: SocketAddr, pid: u32) -> Result<Requests, String> {
        let clients = (0..CONNECTIONS).map(|_| Client::connect(front)).collect::<Result<_, _>>()?;
        Ok(Requests { clients, pid })
    }

    /// Returns the CPU time of a request in nanoseconds, over so many requests.
    pub(crate) fn cpu_ns_each(
        &mut self,
        requests: u64,
        mut host: impl FnMut() -> String,
    ) -> Result<f64, String> {
        let before = CpuTime::of(self.pid);
        let mut sent = 0;
        while sent < requests {
            for client in &mut self.clients {
                client.send_to("/", &host())?;
            }
            for client in &mut self.clients {
                let answer = client.answer()?;
                if answer.status != 200 {
                    return Err(format!("status {}", answer.status));
                }
                sent += 1;
            }
        }
        Ok(CpuTime::of(self.pid).since(&before).total_ns as f64 / sent as f64)
    }
}

/// A median, and between which values it lies with a confidence of 95 %.
pub(crate) struct Median {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Median {
    /// By the order statistics of a sign test.
    pub(crate) fn of(mut values: Vec<f64>) -> Median {
        values.sort_unstable_by(f64::total_cmp);
        let (count, half) = (values.len(), values.len() / 2);
        let away = (0.98 * (count as f64).sqrt()).ceil() as usize;
        let (low, high) = (half.saturating_sub(away), (half + away).min(count - 1));
        Median { value: values[half], low: values[low], high: values[high] }
    }

    /// Returns this one as a ratio to another, with an interval as for independent values.
    pub(crate) fn relative_to(&self, other: &Median) -> Median {
        let value = self.value / other.value;
        let half = |one: &Median| (one.high - one.low) / 2.0 / one.value;
        let wide = value * half(self).hypot(half(other));
        Median { value, low: value - wide, high: value + wide }
    }
}

impl fmt::Display for Median {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:.4} ({:.4} to {:.4})", self.value, self.low, self.high)
    }
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
