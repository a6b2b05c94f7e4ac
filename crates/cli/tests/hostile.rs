//! Puts every message of `cases/hostile/` to our own binary, between a client and an origin that write down all bytes:
//! each is refused, or means the same to all three.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use testkit::hostile::{Family, Hostile, HostileServer, Mode, Program, faults, load, play_all};
use testkit::{Binary, Kind};

/// So many known messages were promised.
const AT_LEAST: usize = 150;

fn families() -> Vec<Family> {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cases/hostile")).unwrap()
}

/// What means something else over HTTP/2: nothing is upgraded, and a path holds what a path may.
const OF_HTTP1: [&str; 3] =
    ["upgrade/", "request-line/bytes-beyond-ASCII-in-the-target", "request-line/fragment"];

fn check(mode: Mode) {
    let families = families();
    let is_played = |hostile: &&Hostile| {
        mode != Mode::OverHttp2 || !OF_HTTP1.iter().any(|name| hostile.name.starts_with(name))
    };
    let hostiles: Vec<&Hostile> =
        families.iter().flat_map(|family| &family.members).filter(is_played).collect();
    let conf: Vec<_> = hostiles.iter().map(|hostile| hostile.conf.clone()).collect();
    let path = PathBuf::from(env!("CARGO_BIN_EXE_pointsman"));
    let program = Program::Nginx(Binary { path, kind: Kind::Pointsman });
    let server = HostileServer::start(&program, mode, &conf).unwrap();
    let outcomes = play_all(&server, &hostiles, None, 16).unwrap();
    let mut found = String::new();
    for (hostile, outcome) in hostiles.iter().zip(&outcomes) {
        for fault in faults(hostile, outcome) {
            found.push_str(&format!("{}: {fault} ({})\n", hostile.name, outcome.summary()));
        }
    }
    assert!(found.is_empty(), "\n{found}{}", server.evidence());
}

#[test]
fn hostile_messages_have_one_meaning_when_bodies_are_buffered() {
    check(Mode::Buffered);
}

#[test]
fn hostile_messages_have_one_meaning_when_bodies_are_streamed() {
    check(Mode::Streamed);
}

#[test]
fn hostile_messages_have_one_meaning_over_http2_to_an_upstream() {
    check(Mode::OverHttp2);
}

#[test]
fn there_are_as_many_as_promised_and_each_has_its_name() {
    let families = families();
    let names: Vec<&str> =
        families.iter().flat_map(|family| &family.members).map(|hostile| hostile.name.as_str()).collect();
    assert!(names.len() >= AT_LEAST, "only {}", names.len());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "two have the same name");
}
