//! The control API over its unix socket, as a program that switches would use it.

use super::client::{Connection, PATIENCE};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// A connection to the control socket of a server.
pub(super) struct Control(Connection);

/// What the API said.
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Control {
    /// Connects to the socket at its usual place below a server's prefix. A server that was just started may listen
    /// for clients a moment before it listens there.
    pub(super) fn open(prefix: &Path) -> Result<Control, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Control::open_now(prefix) {
                Ok(control) => return Ok(control),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Connects to the socket of a server that listens there, or is gone.
    pub(super) fn open_now(prefix: &Path) -> Result<Control, String> {
        Ok(Control(Connection::open_at(&prefix.join("run/pointsman.sock"))?))
    }

    /// Asks for something; changes nothing.
    pub(super) fn get(&mut self, target: &str) -> Result<Value, String> {
        self.0.send(target)?;
        let said = self.said()?;
        match said.status {
            200 => Ok(said.body),
            status => Err(format!("{target}: {status} {}", said.body)),
        }
    }

    /// Gives an order; the answer may be a refusal.
    pub(super) fn order(
        &mut self,
        method: &str,
        target: &str,
        expect: Option<u64>,
        body: &Value,
    ) -> Result<Said, String> {
        let revision = expect.map(|revision| format!("\"{revision}\""));
        let mut fields = vec![("Content-Type", "application/json")];
        if let Some(revision) = &revision {
            fields.push(("If-Match", revision));
        }
        self.0.send_all(method, target, &fields, &body.to_string())?;
        self.said()
    }

    /// Gives an order that must be carried out.
    pub(super) fn must(&mut self, method: &str, target: &str, body: &Value) -> Result<Value, String> {
        let said = self.order(method, target, None, body)?;
        match said.status {
            200 => Ok(said.body),
            status => Err(format!("{method} {target}: {status} {}", said.body)),
        }
    }

    fn said(&mut self) -> Result<Said, String> {
        let answer = self.0.answer()?;
        let body = serde_json::from_str(&answer.body).map_err(|e| format!("{e}: {}", answer.body))?;
        Ok(Said { status: answer.status, body })
    }
}

/// A number that an answer must hold.
pub(super) fn number(value: &Value, name: &str) -> Result<u64, String> {
    value[name].as_u64().ok_or_else(|| format!("no {name} in {value}"))
}

/// The value below which this share of the sorted values lies.
pub(super) fn quantile(sorted: &[u64], share: f64) -> u64 {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99), quantile(&values, 1.0)), (50, 99, 100));
        assert_eq!(quantile(&[], 0.5), 0);
    }
}
