//! Random messages are sent through pointsman, and whatever it passes on is sent to the other servers: no two may read
//! different messages in it.
//!
//! A server may refuse what another accepts; it must not read it as something else.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;

use super::exchange::{End, Exchange, Haste};
use super::mutant::mutant;
use super::recorder::OriginRecord;
use super::server::{HostileServer, Mode, NamedProgram};
use super::table::Family;
use crate::message::{self, Read, Request};

const THREADS: usize = 8;
/// How many disagreements are shown.
const SHOWN: usize = 20;
/// The client sends everything and ends its side; what comes until the server's end is the whole exchange.
const TO_THE_END: Haste = Haste::Expecting(0, End::Waits);

/// The results of all rounds.
#[derive(Debug, Default)]
struct Tally {
    rounds: AtomicU64,
    /// Messages that pointsman passed on.
    sent_on: AtomicU64,
    /// Rounds in which it passed nothing on.
    refused: AtomicU64,
    /// Messages that another server, or the strict reader, refused.
    refused_by_others: AtomicU64,
    disagreements: Mutex<Vec<String>>,
}

impl Tally {
    fn disagree(&self, text: String) {
        self.disagreements.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Runs `rounds` requests and as many responses; returns true if no server disagreed.
///
/// # Errors
/// A server could not be started.
pub fn run(
    families: &[Family],
    own: &NamedProgram,
    others: &[NamedProgram],
    rounds: u64,
    seed: u64,
) -> Result<bool, String> {
    let hostiles = || families.iter().flat_map(|family| &family.members);
    // Long ones test limits, and make every round slow.
    let requests: Vec<&[u8]> = hostiles().map(|h| h.client.as_slice()).filter(|b| b.len() < 2000).collect();
    let answers: Vec<&[u8]> =
        hostiles().filter_map(|h| h.answer.as_deref()).filter(|b| b.len() < 2000).collect();
    let conf =
        vec![vec!["proxy_ignore_client_abort on;".to_owned(), "client_max_body_size 0;".to_owned()]; THREADS];
    let start = |named: &NamedProgram, mode| HostileServer::start(&named.program, mode, &conf);
    let own_servers = [start(own, Mode::Buffered)?, start(own, Mode::Streamed)?];
    let other_servers: Vec<(&str, HostileServer)> = others
        .iter()
        .map(|other| Ok((other.name.as_str(), start(other, Mode::Buffered)?)))
        .collect::<Result<_, String>>()?;
    let mut good = true;
    for (what, known) in [("requests", &requests), ("answers", &answers)] {
        let tally = Tally::default();
        std::thread::scope(|scope| {
            for place in 0..THREADS {
                let (own_servers, other_servers, tally) = (&own_servers, &other_servers, &tally);
                scope.spawn(move || {
                    for round in (place as u64..rounds).step_by(THREADS) {
                        let mut random =
                            Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(round));
                        let bytes = mutant(&mut random, known);
                        let own = &own_servers[random.usize(..2)];
                        let played = match what {
                            "requests" => request(place, own, other_servers, &bytes, tally),
                            _ => answer(place, own, other_servers, &bytes, tally),
                        };
                        Tally::add(&tally.rounds, 1);
                        if let Err(why) = played {
                            tally.disagree(format!("round {round}: {why}\n  {}", bytes.escape_ascii()));
                        }
                    }
                });
            }
        });
        good &= report(what, &tally);
    }
    Ok(good)
}

fn report(what: &str, tally: &Tally) -> bool {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let disagreements = tally.disagreements.lock().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{what}: {} rounds, {} messages passed on, {} rounds without one, {} times refused by another, {} disagreements",
        count(&tally.rounds),
        count(&tally.sent_on),
        count(&tally.refused),
        count(&tally.refused_by_others),
        disagreements.len()
    );
    disagreements.iter().take(SHOWN).for_each(|text| println!("{text}"));
    disagreements.is_empty()
}

/// Plays one or a few requests: all servers must read the same in what reaches the origin.
fn request(
    place: usize,
    own: &HostileServer,
    others: &[(&str, HostileServer)],
    bytes: &[u8],
    tally: &Tally,
) -> Result<(), String> {
    let (_, record) = pass(own, place, bytes, None)?;
    if record.requests.is_empty() {
        Tally::add(&tally.refused, 1);
    }
    Tally::add(&tally.sent_on, record.requests.len());
    Tally::add(&tally.refused_by_others, record.faults.len());
    for (number, raw) in record.connections.iter().enumerate() {
        let seen: Vec<&Request> =
            record.requests.iter().filter(|(connection, _)| *connection == number).map(|(_, r)| r).collect();
        for (name, server) in others {
            let (_, theirs) = pass(server, place, raw, None)?;
            for (at, (_, request)) in theirs.requests.iter().enumerate() {
                let same = |own: &&Request| {
                    own.method == request.method && own.path() == request.path() && own.body == request.body
                };
                if !seen.get(at).is_some_and(same) {
                    return Err(format!(
                        "{name} sees {} {} +{} as request {at} of {}",
                        request.method,
                        request.target,
                        request.body.len(),
                        raw.escape_ascii()
                    ));
                }
            }
            Tally::add(&tally.refused_by_others, seen.len().saturating_sub(theirs.requests.len()));
        }
    }
    Ok(())
}

/// Plays one response: all servers must read the same in what reaches the client.
fn answer(
    place: usize,
    own: &HostileServer,
    others: &[(&str, HostileServer)],
    bytes: &[u8],
    tally: &Tally,
) -> Result<(), String> {
    const ASKED: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    let (exchange, _) = pass(own, place, ASKED, Some(bytes))?;
    if let Some(fault) = &exchange.fault {
        // httparse refuses some values; no reader sees another end there.
        Tally::add(&tally.refused_by_others, 1);
        return if fault.contains("header value") || fault.contains("header name") || fault.contains("token") {
            Ok(())
        } else {
            Err(format!("the client cannot read it: {fault}: {}", exchange.bytes.escape_ascii()))
        };
    }
    let [answer] = exchange.answers.as_slice() else {
        Tally::add(&tally.refused, 1);
        return match exchange.answers.len() {
            0 => Ok(()),
            count => Err(format!("{count} answers to one request: {}", exchange.bytes.escape_ascii())),
        };
    };
    if answer.response.status == 502 || !answer.whole || answer.response.status == 101 {
        Tally::add(&tally.refused, 1);
        return Ok(());
    }
    Tally::add(&tally.sent_on, 1);
    for (name, server) in others {
        let (theirs, _) = pass(server, place, ASKED, Some(&exchange.bytes))?;
        match theirs.answers.as_slice() {
            [other] if other.response.status == 502 || !other.whole => {
                Tally::add(&tally.refused_by_others, 1);
            }
            [other]
                if other.response.status == answer.response.status
                    && other.response.body == answer.response.body => {}
            _ => {
                let statuses: Vec<_> =
                    theirs.answers.iter().map(|a| (a.response.status, a.response.body.len())).collect();
                return Err(format!("{name} makes {statuses:?} of {}", exchange.bytes.escape_ascii()));
            }
        }
    }
    Ok(())
}

/// Sends bytes through a server to an origin and back, to the end.
fn pass(
    server: &HostileServer,
    place: usize,
    bytes: &[u8],
    answer: Option<&[u8]>,
) -> Result<(Exchange, OriginRecord), String> {
    let origin = server.origin(place, answer.map(<[u8]>::to_vec), answer.is_some())?;
    let methods: Vec<String> = match message::request(bytes) {
        Read::Whole(..) => message::requests(bytes).0.into_iter().map(|request| request.method).collect(),
        _ => Vec::new(),
    };
    let exchange = server.exchange(place, bytes, &methods, TO_THE_END)?;
    Ok((exchange, origin.finish()))
}
