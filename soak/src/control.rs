//! A client of the control API over its unix socket.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::client::Client;
use crate::connection::TIMEOUT;

/// A connection to the control socket of a server.
pub(crate) struct Control(Client);

/// An answer of the API.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Control {
    /// Connects to the socket below a server's prefix. A server that just started may accept clients a moment before
    /// it listens there.
    pub(crate) fn open(prefix: &Path) -> Result<Control, String> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match Control::open_now(prefix) {
                Ok(control) => return Ok(control),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
        }
    }

    /// Connects to the socket, or fails at once.
    pub(crate) fn open_now(prefix: &Path) -> Result<Control, String> {
        Ok(Control(Client::connect_unix(&prefix.join("run/pointsman.sock"))?))
    }

    /// Queries something.
    pub(crate) fn get(&mut self, target: &str) -> Result<Value, String> {
        self.0.send(target)?;
        self.expect_ok("GET", target)
    }

    /// Gives an order; the reply may be a refusal.
    pub(crate) fn order(
        &mut self,
        method: &str,
        target: &str,
        expected_revision: Option<u64>,
        body: &Value,
    ) -> Result<Reply, String> {
        let revision = expected_revision.map(|revision| format!("\"{revision}\""));
        let mut fields = vec![("Content-Type", "application/json")];
        fields.extend(revision.iter().map(|revision| ("If-Match", revision.as_str())));
        self.0.send_body(method, target, &fields, &body.to_string())?;
        self.reply()
    }

    /// Gives an order that must be carried out.
    pub(crate) fn must(&mut self, method: &str, target: &str, body: &Value) -> Result<Value, String> {
        self.0.send_body(method, target, &[("Content-Type", "application/json")], &body.to_string())?;
        self.expect_ok(method, target)
    }

    /// Fails if the history of the switch `live` does not verify.
    pub(crate) fn check_history(&mut self) -> Result<(), String> {
        self.check_history_of("live")
    }

    /// Fails if the history of a switch, or of the groups, does not verify.
    pub(crate) fn check_history_of(&mut self, switch: &str) -> Result<(), String> {
        let history = self.get(&format!("/v1/switches/{switch}/history?limit=1&verify=true"))?;
        match history["verified"]["intact"] == json!(true) {
            true => Ok(()),
            false => Err(format!("the history is not intact: {history}")),
        }
    }

    /// Returns the revision of the switch `live`.
    pub(crate) fn revision(&mut self) -> Result<u64, String> {
        number(&self.get("/v1/switches/live/keys?limit=1")?, "revision")
    }

    fn expect_ok(&mut self, method: &str, target: &str) -> Result<Value, String> {
        let Reply { status, body } = self.reply()?;
        if status == 200 { Ok(body) } else { Err(format!("{method} {target}: {status} {body}")) }
    }

    fn reply(&mut self) -> Result<Reply, String> {
        let answer = self.0.answer()?;
        let body = serde_json::from_str(&answer.body).map_err(|e| format!("{e}: {}", answer.body))?;
        Ok(Reply { status: answer.status, body })
    }
}

/// Returns a number that a JSON object must have.
pub(crate) fn number(value: &Value, name: &str) -> Result<u64, String> {
    value[name].as_u64().ok_or_else(|| format!("no {name} in {value}"))
}

/// Returns the elements of a JSON array; none of anything else.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
