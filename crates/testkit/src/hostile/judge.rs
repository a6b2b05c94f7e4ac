//! The judgement whether client, server and origin saw the same messages.

use std::fmt::Write as _;

use super::exchange::{End, Exchange, HTTP_09};
use super::recorder::OriginRecord;
use super::table::Hostile;
use crate::message::{self, Request};

/// The result of one message.
#[derive(Clone, Debug)]
pub struct HostileOutcome {
    /// At the client.
    pub exchange: Exchange,
    /// At the origin.
    pub record: OriginRecord,
}

impl HostileOutcome {
    /// Returns the requests that reached the origin, without the probe.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.record.requests.iter().map(|(_, request)| request).filter(|request| request.target != "/probe")
    }

    /// Summarises the answers, the connection and the requests at the origin.
    pub fn summary(&self) -> String {
        let statuses: Vec<_> =
            self.exchange.answers.iter().map(|answer| answer.response.status.to_string()).collect();
        let end = match self.exchange.end {
            End::Open => "open",
            End::Closed => "closed",
            End::Cut => "cut",
            End::Waits => "waits",
            End::Tunnel => "tunnel",
        };
        let mut text =
            if statuses.is_empty() { end.to_owned() } else { format!("{}, {end}", statuses.join(" ")) };
        for request in self.requests() {
            let _ = write!(text, "; {} {}", request.method, request.target);
            if !request.body.is_empty() {
                let _ = write!(text, " +{}", request.body.len());
            }
        }
        text
    }

    /// Lists what is wrong for any message: bytes at the origin that a strict reader cannot read, requests there that are
    /// not in a strict reading of the client's bytes, answers that are not for them.
    pub fn ambiguities(&self, hostile: &Hostile) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        if let Some(fault) = &self.exchange.fault {
            found.push(format!("the client was sent what is no answer: {fault}"));
        }
        for (connection, why) in &self.record.faults {
            found.push(format!("the origin cannot read connection {connection}: {why}"));
        }
        if hostile.expected.reader_differs.is_none() {
            let (strict, stopped) = message::requests(&hostile.client);
            let mut left = strict.iter();
            for seen in self.requests() {
                let same = |read: &&Request| {
                    read.method == seen.method && read.path() == seen.path() && read.body == seen.body
                };
                if !left.any(|read| same(&read)) {
                    let why = stopped.as_ref().err().map_or("nothing is left", String::as_str);
                    found
                        .push(format!("{} {} was sent on; a strict reader: {why}", seen.method, seen.target));
                }
            }
        }
        let has_head = self.exchange.answers.iter().all(|answer| answer.response.status != HTTP_09);
        if hostile.answer.is_none() && has_head {
            let numbers =
                self.exchange.answers.iter().filter_map(|answer| answer.response.field("x-request"));
            let numbers: Vec<_> = numbers.map(|text| String::from_utf8_lossy(text).into_owned()).collect();
            let wanted: Vec<_> = (0..self.requests().count()).map(|number| number.to_string()).collect();
            if numbers != wanted {
                found.push(format!(
                    "the client was answered for the requests {numbers:?}, the origin saw {wanted:?}"
                ));
            }
        }
        if let Some(probe) = &self.exchange.probe
            && probe.body != b"GET /probe 0"
        {
            found.push(format!("the probe was answered with {:?}", String::from_utf8_lossy(&probe.body)));
        }
        found
    }
}

/// Lists all deviations from the table.
pub fn faults(hostile: &Hostile, outcome: &HostileOutcome) -> Vec<String> {
    let mut found = outcome.ambiguities(hostile);
    let expected = &hostile.expected;
    let answers = &outcome.exchange.answers;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.response.status).collect();
    let wanted: Vec<u16> = expected.answers.iter().map(|answer| answer.status).collect();
    if statuses != wanted {
        found.push(format!("answers {statuses:?} instead of {wanted:?}"));
    }
    if outcome.exchange.end != expected.end {
        found.push(format!(
            "the connection's end is {:?} instead of {:?}",
            outcome.exchange.end, expected.end
        ));
    }
    for (answer, wanted) in answers.iter().zip(&expected.answers) {
        if wanted.body.as_ref().is_some_and(|body| *body != answer.response.body) {
            found.push(format!("a body is {:?}", String::from_utf8_lossy(&answer.response.body)));
        }
    }
    let seen: Vec<_> =
        outcome.requests().map(|r| (r.method.clone(), r.target.clone(), r.body.clone())).collect();
    if seen != expected.requests {
        found.push(format!("the origin saw {seen:?} instead of {:?}", expected.requests));
    }
    let connections = outcome.record.connections.len();
    if expected.connections.is_some_and(|wanted| wanted != connections) {
        found.push(format!("{connections} connections to the origin instead of {:?}", expected.connections));
    }
    if let Some(first) = outcome.requests().next() {
        for (name, value) in &expected.has {
            if first.field(name) != Some(value) {
                let is = first.field(name).map(String::from_utf8_lossy);
                found.push(format!("{name} is {is:?} at the origin"));
            }
        }
        for name in expected.lacks.iter().filter(|name| first.field(name).is_some()) {
            found.push(format!("{name} has come to the origin"));
        }
    }
    if expected.tunnel.as_ref().is_some_and(|wanted| *wanted != outcome.record.tunnel) {
        found.push(format!("through the tunnel came {:?}", String::from_utf8_lossy(&outcome.record.tunnel)));
    }
    found
}
