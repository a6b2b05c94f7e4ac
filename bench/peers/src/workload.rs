//! The workloads: the requests, the sides with their configurations, and the goals.
//!
//! A workload is one entry here; its configurations are files in `bench/conf`.

use crate::load::Requests;
use crate::peer::Kind;

/// One workload.
pub(crate) struct Workload {
    /// Its letter for the command line; some share one.
    pub(crate) letter: char,
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) ask: Ask,
    /// The servers that are compared.
    pub(crate) sides: &'static [Side],
    /// The side that ratios refer to, and 70 % of whose highest rate is offered to all.
    pub(crate) reference: &'static str,
    /// An extra measurement.
    pub(crate) extra: Extra,
    pub(crate) goals: &'static [Goal],
}

/// A kind of program with a configuration; every program of the kind gets a side.
pub(crate) struct Side {
    pub(crate) kind: Kind,
    /// The file in `bench/conf`.
    pub(crate) conf: &'static str,
    /// Distinguishes it from another side of the same program.
    pub(crate) suffix: &'static str,
    /// A placeholder of the configuration, and its value.
    pub(crate) with: Option<(&'static str, &'static str)>,
    /// Idle connections beside the load.
    pub(crate) idle: usize,
}

/// The requests of a workload.
pub(crate) enum Ask {
    /// A path, and the length of the answer's body.
    Get(&'static str, u64),
    /// The same with a connection for each request.
    GetAlone(&'static str, u64),
    /// A body of so many bytes.
    Upload(usize),
    /// One host after the other, out of so many.
    Hosts(usize),
}

/// A measurement beside cost, rate, latency, system calls and memory.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Extra {
    Nothing,
    /// The spread of connections over two workers.
    Accepts,
    /// The time of a start and a reload.
    Restarts,
}

/// A goal of the project.
pub(crate) struct Goal {
    pub(crate) measure: Measure,
    pub(crate) side: &'static str,
    /// The side that it is a ratio to; without one the value itself counts.
    pub(crate) against: Option<&'static str>,
    pub(crate) at_most: f64,
}

/// A measurement of a side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Measure {
    /// CPU time per request.
    Cost,
    /// The 99th percentile of latency at the offered rate.
    P99,
    /// System calls per request at one connection.
    CallsAtOne,
    /// Memory per idle connection.
    IdleConnection,
    /// The largest distance of a worker's share of connections from an even one, as a share of that.
    AcceptSpread,
    Start,
    Reload,
}

impl Measure {
    /// Returns true if it is measured in rounds, which may disagree. Counts and single times do not depend on them.
    pub(crate) fn is_of_rounds(self) -> bool {
        matches!(self, Measure::Cost | Measure::P99)
    }

    /// Returns the name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Measure::Cost => "CPU per request",
            Measure::P99 => "p99 at the offered rate",
            Measure::CallsAtOne => "system calls per request at one connection",
            Measure::IdleConnection => "memory per idle connection",
            Measure::AcceptSpread => "uneven accepts",
            Measure::Start => "time to start",
            Measure::Reload => "time to reload",
        }
    }
}

const fn side(kind: Kind, conf: &'static str) -> Side {
    Side { kind, conf, suffix: "", with: None, idle: 0 }
}

const fn three(conf: &'static str) -> [Side; 3] {
    [side(Kind::Pointsman, conf), side(Kind::Nginx, conf), side(Kind::Haproxy, conf)]
}

const KEEPALIVE: Option<(&str, &str)> = Some(("{keepalive}", "keepalive 64;"));
const IDLE_CONNECTIONS: usize = 10_000;

static PROXY: [Side; 3] = three("proxy");
static RECONNECT: [Side; 3] = three("reconnect");
static STATIC: [Side; 2] = [side(Kind::Pointsman, "static"), side(Kind::Nginx, "static")];
static LUA: [Side; 2] = [side(Kind::Pointsman, "lua"), side(Kind::Nginx, "lua")];
static TUTORIAL: [Side; 4] = [
    side(Kind::Pointsman, "tutorial"),
    side(Kind::Nginx, "tutorial"),
    Side { suffix: "keepalive", with: KEEPALIVE, ..side(Kind::Pointsman, "tutorial") },
    Side { suffix: "keepalive", with: KEEPALIVE, ..side(Kind::Nginx, "tutorial") },
];
static SWITCH: [Side; 2] = [
    side(Kind::Pointsman, "switch"),
    Side { suffix: "keepalive", with: KEEPALIVE, ..side(Kind::Nginx, "tutorial") },
];
static IDLE: [Side; 4] = [
    side(Kind::Pointsman, "idle"),
    Side { suffix: "idle", idle: IDLE_CONNECTIONS, ..side(Kind::Pointsman, "idle") },
    side(Kind::Nginx, "idle"),
    Side { suffix: "idle", idle: IDLE_CONNECTIONS, ..side(Kind::Nginx, "idle") },
];
static NAMES: [Side; 4] = [
    side(Kind::Pointsman, "names"),
    Side { suffix: "one group", ..side(Kind::Pointsman, "proxy") },
    side(Kind::Nginx, "names"),
    side(Kind::Haproxy, "names"),
];

const fn ratio(measure: Measure, against: &'static str, at_most: f64) -> Goal {
    Goal { measure, side: "pointsman", against: Some(against), at_most }
}

const fn figure(measure: Measure, at_most: f64) -> Goal {
    Goal { measure, side: "pointsman", against: None, at_most }
}

const fn plain(letter: char, name: &'static str, title: &'static str, ask: Ask) -> Workload {
    let (reference, extra) = ("nginx", Extra::Nothing);
    Workload { letter, name, title, ask, sides: &PROXY, reference, extra, goals: &[] }
}

/// All workloads, in the order of the report.
pub(crate) static WORKLOADS: [Workload; 16] = [
    Workload {
        goals: &[
            ratio(Measure::Cost, "nginx", 0.78),
            ratio(Measure::P99, "nginx", 0.9),
            figure(Measure::CallsAtOne, 6.0),
        ],
        ..plain(
            'a',
            "proxy",
            "A tiny answer through the proxy, connections kept, access log on",
            Ask::Get("/", 22),
        )
    },
    plain('b', "body-1k", "The same with 1 KiB", Ask::Get("/1k", 1 << 10)),
    plain('b', "body-16k", "The same with 16 KiB", Ask::Get("/16k", 16 << 10)),
    Workload {
        goals: &[ratio(Measure::Cost, "nginx", 0.85)],
        ..plain('b', "body-100k", "The same with 100 KiB", Ask::Get("/100k", 100 << 10))
    },
    Workload {
        goals: &[ratio(Measure::Cost, "nginx", 0.85)],
        ..plain('b', "body-10m", "The same with 10 MiB", Ask::Get("/10m", 10 << 20))
    },
    Workload {
        sides: &TUTORIAL,
        goals: &[ratio(Measure::Cost, "nginx", 0.30), ratio(Measure::Cost, "nginx keepalive", 0.70)],
        ..plain('c', "tutorial", "The tutorial's switch, Lua and all, as written", Ask::Get("/", 22))
    },
    Workload {
        sides: &SWITCH,
        reference: "nginx keepalive",
        goals: &[ratio(Measure::Cost, "nginx keepalive", 0.62)],
        ..plain('d', "switch", "The same job natively: `switch` and its records", Ask::Get("/", 22))
    },
    Workload {
        sides: &STATIC,
        goals: &[ratio(Measure::Cost, "nginx", 0.80)],
        ..plain('e', "static-1k", "A file of 1 KiB", Ask::Get("/1k.bin", 1 << 10))
    },
    Workload {
        sides: &STATIC,
        ..plain('e', "static-100k", "A file of 100 KiB", Ask::Get("/100k.bin", 100 << 10))
    },
    Workload {
        extra: Extra::Accepts,
        goals: &[ratio(Measure::Cost, "nginx", 0.95), figure(Measure::AcceptSpread, 0.15)],
        ..plain('f', "connect", "A client connection for each request", Ask::GetAlone("/", 22))
    },
    Workload {
        sides: &RECONNECT,
        goals: &[ratio(Measure::Cost, "nginx", 0.95)],
        ..plain('g', "reconnect", "An upstream connection for each request", Ask::Get("/", 22))
    },
    Workload {
        sides: &IDLE,
        goals: &[
            Goal {
                measure: Measure::IdleConnection,
                side: "pointsman idle",
                against: Some("nginx idle"),
                at_most: 1.0,
            },
            Goal {
                measure: Measure::Cost,
                side: "pointsman idle",
                against: Some("pointsman"),
                at_most: 1.03,
            },
        ],
        ..plain('h', "idle", "(a) beside 10,000 idle connections", Ask::Get("/", 22))
    },
    plain('i', "upload", "An upload of 100 KiB", Ask::Upload(100 << 10)),
    Workload {
        sides: &NAMES,
        extra: Extra::Restarts,
        goals: &[
            ratio(Measure::Cost, "pointsman one group", 1.05),
            ratio(Measure::Start, "nginx", 1.0),
            ratio(Measure::Reload, "nginx", 1.0),
        ],
        ..plain(
            'j',
            "names",
            "1,000 server names, each with a group of its own",
            Ask::Hosts(crate::many_names::COUNT),
        )
    },
    Workload {
        sides: &LUA,
        goals: &[ratio(Measure::Cost, "nginx", 0.85)],
        ..plain('k', "lua", "A Lua access handler: ten variables, a header, a dict", Ask::Get("/", 22))
    },
    Workload {
        sides: &LUA,
        ..plain('k', "lua-file", "The same before a file of 1 KiB", Ask::Get("/1k.bin", 1 << 10))
    },
];

impl Workload {
    /// Returns the requests, and the answer that they must get.
    pub(crate) fn requests(&self) -> Requests {
        let head = |method: &str, path: &str, host: &str, more: &str| {
            format!(
                "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n{more}\r\n"
            )
        };
        let one = |text: String, answer_bytes, closes| Requests {
            texts: vec![text.into_bytes()],
            answer_bytes,
            closes,
        };
        match self.ask {
            Ask::Get(path, bytes) => one(head("GET", path, "localhost", ""), bytes, false),
            Ask::GetAlone(path, bytes) => {
                one(head("GET", path, "localhost", "Connection: close\r\n"), bytes, true)
            }
            Ask::Upload(bytes) => {
                let length = format!("Content-Length: {bytes}\r\n");
                one(head("POST", "/", "localhost", &length) + &"u".repeat(bytes), 22, false)
            }
            Ask::Hosts(count) => Requests {
                texts: (0..count)
                    .map(|host| head("GET", "/", &crate::many_names::host(host), "").into_bytes())
                    .collect(),
                answer_bytes: 22,
                closes: false,
            },
        }
    }

    /// Returns the number of requests under strace: few if each transfers much.
    pub(crate) fn counted_requests(&self) -> u64 {
        match self.ask {
            Ask::Get(_, bytes) if bytes > 1 << 20 => 50,
            _ => 1_000,
        }
    }

    /// Returns true if a word is its letter or its name.
    pub(crate) fn is_called(&self, word: &str) -> bool {
        word == self.name || word.trim_matches(['(', ')']) == self.letter.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn goals_and_references_name_sides_that_are_there() {
        for workload in &WORKLOADS {
            let labels: HashSet<String> = workload
                .sides
                .iter()
                .map(|side| format!("{} {}", side.kind.name(), side.suffix).trim().to_owned())
                .collect();
            assert_eq!(labels.len(), workload.sides.len(), "{}", workload.name);
            let mut named = vec![workload.reference];
            for goal in workload.goals {
                named.push(goal.side);
                named.extend(goal.against);
            }
            for name in named {
                assert!(labels.contains(name), "{}: {name}", workload.name);
            }
        }
    }

    #[test]
    fn names_differ_and_every_letter_is_there() {
        let names: HashSet<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        assert_eq!(names.len(), WORKLOADS.len());
        for letter in 'a'..='k' {
            assert!(WORKLOADS.iter().any(|workload| workload.is_called(&letter.to_string())), "{letter}");
        }
    }

    #[test]
    fn the_origin_serves_what_workloads_ask_for() {
        for workload in WORKLOADS.iter().filter(|workload| workload.sides[0].conf == "proxy") {
            let requests = workload.requests();
            let text = String::from_utf8_lossy(&requests.texts[0]).into_owned();
            let path = text.split(' ').nth(1).expect("a path");
            let body = crate::origin::BODIES.iter().find(|(known, _)| *known == path);
            assert_eq!(body.map(|(_, bytes)| *bytes as u64), Some(requests.answer_bytes), "{path}");
        }
    }

    #[test]
    fn each_host_gets_a_request_of_its_own() {
        let names = WORKLOADS.iter().find(|workload| workload.is_called("names")).expect("it is there");
        let texts: HashSet<_> = names.requests().texts.into_iter().collect();
        assert_eq!(texts.len(), crate::many_names::COUNT);
    }
}
