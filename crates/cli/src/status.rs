//! `pointsman status`: the traffic on one screen.
//!
//! Owns the screen, which `top` redraws. Must never show a mean: it hides what percentiles show.

use crate::client::Call;
use crate::error::{Code, Error, say, say_json};
use crate::format::{Table, clock, count, groups_fault, micros_if, rate, share};
use crate::list;
use crate::server_verb::looked_up;
use crate::session::Session;
use clap::{Args, ValueEnum};
use control::api::types::{self, Traffic};
use engine::modules::ssl::CertificateExpiry;

/// The period that the figures cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Period {
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

impl Period {
    /// Returns the API's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Period::TenSeconds => "10s",
            Period::Minute => "1m",
            Period::FiveMinutes => "5m",
            Period::Hour => "1h",
        }
    }
}

/// Show groups, servers, rates, errors and response times
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Period that the figures cover
    #[arg(long, value_name = "TIME", value_enum, default_value = "10s")]
    window: Period,
}

impl Status {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let (status, body) = session.client.ask::<types::Status>(&call(self.window))?;
        if session.json {
            say_json(&body)?;
        } else {
            say(&screen(&status, session.switch_name()))?;
        }
        Ok(Code::Done)
    }
}

/// Returns the call for what the screen shows.
pub(crate) fn call(window: Period) -> Call {
    Call::get(format!("/v1/status?window={}", window.name()))
}

/// Returns a line for each server that its health checks take out: since when, and what they found last.
fn ill_servers(status: &types::Status) -> String {
    let mut text = String::new();
    for group in &status.groups {
        for server in &group.servers {
            for check in server.checks.iter().filter(|check| check.state != "up") {
                let since = server.since_ms.map(|since_ms| format!(" since {}", clock(since_ms)));
                let since = since.unwrap_or_default();
                let found = check.last.as_ref().map_or("not asked yet", |last| &*last.reason);
                let (name, address, state) = (&group.name, &server.address, &check.state);
                text.push_str(&format!("{name} {address} {state}{since}: {}: {found}\n", check.check));
            }
        }
    }
    text
}

/// Returns the screen, for 80 columns unless names are long, with all switches or the one named.
pub(crate) fn screen(status: &types::Status, switch: Option<&str>) -> String {
    let is_meant = |name: &str| switch.is_none_or(|switch| switch == name);
    let connections = &status.connections;
    let mut text = format!(
        "last {}; pointsman {}, {}, {}, {}\n\n",
        status.window,
        status.version,
        count(status.workers, "worker"),
        count(connections.active, "connection"),
        count(connections.requests, "request")
    );
    text.push_str(&groups_fault(status.groups_store_fault.as_ref()));
    text.extend(status.switches.first().and_then(list::orphaned).map(|note| format!("{note}\n")));
    let mut table = table("upstream");
    for group in &status.groups {
        let state = if group.state == "healthy" { String::new() } else { group.state.clone() };
        table.row([group.name.clone(), state].into_iter().chain(cells(&group.traffic)));
        for server in &group.servers {
            let mut state = server.state.clone();
            if server.backup {
                state.push_str(", backup");
            }
            match &*server.source {
                "order" => state.push_str(", by order"),
                "discovered" => state.push_str(", discovered"),
                _ => {}
            }
            table.row([format!("  {}", server.address), state].into_iter().chain(cells(&server.traffic)));
        }
    }
    if !table.is_empty() {
        text.push_str(&table.text());
    }
    text.push_str(&ill_servers(status));
    for one in &status.failing_lookups {
        text.push_str(&format!("{}{}", one.group, looked_up(&one.lookup).replacen("  ", " ", 1)));
    }
    let several = status.switches.len() > 1;
    let mut keys = status.keys.iter().filter(|key| is_meant(&key.switch)).peekable();
    if keys.peek().is_some() {
        let mut table = self::table("key");
        for key in keys {
            let mut name = key.key.clone().unwrap_or_else(|| "(others)".into());
            if several {
                name = format!("{}: {name}", key.switch);
            }
            table.row([name, key.target.clone()].into_iter().chain(cells(&key.traffic)));
        }
        text.push_str(&format!("\n{}", table.text()));
    }
    if !status.switches.is_empty() {
        text.push('\n');
        for switch in status.switches.iter().filter(|switch| is_meant(&switch.name)) {
            let option = if several { format!("--switch {} ", switch.name) } else { String::new() };
            text.push_str(&list::head(switch, &option));
        }
    }
    let now_s = status.time_ms / 1000;
    for known in &status.certificates {
        let expiry = CertificateExpiry { file: known.file.as_str().into(), until_s: known.until_s };
        if let Some(warning) = expiry.warning(now_s) {
            text.push_str(&format!("\n{warning}\n"));
        }
    }
    text
}

fn table(what: &str) -> Table {
    let beside = if what == "key" { "target" } else { "state" };
    Table::new(&[what, beside, ">req/s", ">errors", ">p50", ">p90", ">p99", ">max", ">in flight"])
}

fn cells(traffic: &Traffic) -> [String; 7] {
    let response = &traffic.response;
    [
        rate(traffic.per_second),
        share(traffic.errors, traffic.requests),
        micros_if(response.p50_us),
        micros_if(response.p90_us),
        micros_if(response.p99_us),
        micros_if(response.max_us),
        traffic.in_flight.map(|count| count.to_string()).unwrap_or_default(),
    ]
}
