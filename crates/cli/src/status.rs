//! `pointsman status`: how the traffic is, on one screen.
//!
//! Owns the screen, which `top` redraws. Must never show a mean: percentiles tell what it hides.

use crate::client::Call;
use crate::fault::{Code, Fault, say};
use crate::figures::{Table, micros_if, rate, share};
use crate::list;
use crate::verbs::Session;
use clap::{Args, ValueEnum};
use control::api::types::{self, Traffic};

/// How far back figures reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Window {
    /// Ten seconds
    #[value(name = "10s")]
    TenSeconds,
    /// A minute
    #[value(name = "1m")]
    Minute,
    /// Five minutes
    #[value(name = "5m")]
    FiveMinutes,
    /// An hour
    #[value(name = "1h")]
    Hour,
}

impl Window {
    /// As the API names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Window::TenSeconds => "10s",
            Window::Minute => "1m",
            Window::FiveMinutes => "5m",
            Window::Hour => "1h",
        }
    }
}

/// Show groups, servers, rates, errors and response times
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// How far back the figures reach
    #[arg(long, value_name = "TIME", value_enum, default_value = "10s")]
    window: Window,
}

impl Status {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Fault> {
        let (status, body) = session.client.ask::<types::Status>(&call(self.window))?;
        if session.json {
            say(&format!("{}\n", String::from_utf8_lossy(&body)))?;
        } else {
            say(&screen(&status))?;
        }
        Ok(Code::Done)
    }
}

/// The question behind the screen.
pub(crate) fn call(window: Window) -> Call {
    Call::get(format!("/v1/status?window={}", window.name()))
}

/// The screen.
pub(crate) fn screen(status: &types::Status) -> String {
    let connections = &status.connections;
    let mut text = format!(
        "pointsman {}, {} workers, {} connections ({} waiting), {} requests; figures of the last {}\n\n",
        status.version,
        status.workers,
        connections.active,
        connections.waiting,
        connections.requests,
        status.window
    );
    let heads = [
        "group",
        "server",
        "state",
        ">req/s",
        ">errors",
        ">p50",
        ">p90",
        ">p99",
        ">p99.9",
        ">max",
        ">in flight",
    ];
    let mut table = Table::new(&heads);
    for group in &status.groups {
        table
            .row([group.name.clone(), String::new(), String::new()].into_iter().chain(cells(&group.traffic)));
        for server in &group.servers {
            let place = [String::new(), server.address.clone(), server.state.clone()];
            table.row(place.into_iter().chain(cells(&server.traffic)));
        }
    }
    if !table.is_empty() {
        text.push_str(&table.text());
    }
    if !status.keys.is_empty() {
        let mut table = Table::new(&[
            "switch", "key", "target", ">req/s", ">errors", ">p50", ">p90", ">p99", ">p99.9", ">max",
        ]);
        for key in &status.keys {
            let name = key.key.clone().unwrap_or_else(|| "(others)".into());
            let place = [key.switch.clone(), name, key.target.clone()];
            table.row(place.into_iter().chain(cells(&key.traffic).into_iter().take(7)));
        }
        text.push_str(&format!("\n{}", table.text()));
    }
    if !status.switches.is_empty() {
        text.push('\n');
        for switch in &status.switches {
            text.push_str(&list::head(switch));
        }
    }
    text
}

fn cells(traffic: &Traffic) -> [String; 8] {
    let response = &traffic.response;
    [
        rate(traffic.per_second),
        share(traffic.errors, traffic.requests),
        micros_if(response.p50_us),
        micros_if(response.p90_us),
        micros_if(response.p99_us),
        micros_if(response.p999_us),
        micros_if(response.max_us),
        traffic.in_flight.to_string(),
    ]
}
