//! Clients: they send requests in pieces, one after another or without waiting, read as they like, and compare what they
//! get with what was sent.

use super::message::{Message, Reader, body, byte, chunks};
use super::origins::{Fault, Try};
use super::wire::Wire;
use super::{LATE_MS, World, between_ms, end};
use sim::{Seeded, holds, tell, violated};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};
use transport::stream::{Socket, Stream};

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Reads at once whatever comes.
    Prompt,
    /// Reads a little at a time.
    Slow,
    /// Stops reading for longer than the timeout.
    Stalls,
    /// Leaves after this many ms.
    Leaves(u64),
    /// Never sends the end of its last request.
    Mute,
}

/// A request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) id: u64,
    pub(super) method: &'static str,
    pub(super) body: Vec<u8>,
    pub(super) manner: Manner,
    /// The client's end of its connection.
    pub(super) wire: Rc<Wire>,
    /// Whether it is the last one, and announces that.
    last: bool,
    old: bool,
    /// When the first byte of it went, and the last.
    begun: Cell<Option<Instant>>,
    pub(super) said: Cell<Option<Instant>>,
    /// When its answer was whole.
    answered: Cell<Option<Instant>>,
    pub(super) tries: RefCell<Vec<Rc<Try>>>,
}

impl Asked {
    /// Returns when the first byte of it went.
    pub(super) fn begun(&self) -> Option<Instant> {
        self.begun.get()
    }
}

/// Plays one client: some connections, one after another.
pub(super) async fn visit(world: Rc<World>, number: u64, mut seeded: Seeded) {
    for turn in 0..=seeded.below(3) {
        sleep(Duration::from_millis(seeded.within(0..=400))).await;
        let (ours, theirs) = Wire::pair(&mut seeded);
        let port = 1_000 + number as u16 * 100 + turn as u16;
        world.harness.accept(Stream::Plain(Socket::Simulated(Box::new(theirs))), port);
        converse(&world, Rc::new(ours), &mut seeded).await;
    }
}

/// Draws the requests of one connection.
fn think_up(world: &World, wire: &Rc<Wire>, seeded: &mut Seeded) -> Vec<Rc<Asked>> {
    let manner = match seeded.below(10) {
        0..2 if world.fate.rude => Manner::Stalls,
        2..4 if world.fate.rude => Manner::Leaves(seeded.within(0..=1_000)),
        4 if world.fate.rude => Manner::Mute,
        5..8 => Manner::Slow,
        _ => Manner::Prompt,
    };
    let count = seeded.within(1..=4);
    let requests = (1..=count).map(|number| {
        let mut all = world.asked.borrow_mut();
        let id = all.len() as u64 + 1;
        let method = match world.settings.dawdling {
            false => *seeded.one_of(&["GET", "GET", "GET", "PUT", "POST"]),
            true => *seeded.one_of(&["GET", "PUT", "POST"]),
        };
        let len = if method == "GET" { 0 } else { *seeded.one_of(&[0, 5, 900, 3_000, 60_000]) };
        let old = number == count && seeded.chance(10);
        let asked = Rc::new(Asked {
            id,
            method,
            body: body(id, len),
            manner,
            wire: Rc::clone(wire),
            last: number == count && (old || seeded.chance(30)),
            old,
            begun: Cell::new(None),
            said: Cell::new(None),
            answered: Cell::new(None),
            tries: RefCell::default(),
        });
        all.push(Rc::clone(&asked));
        asked
    });
    requests.collect()
}

/// Returns the bytes of a request.
fn text(asked: &Asked, chunked: Option<usize>) -> Vec<u8> {
    let version = if asked.old { "1.0" } else { "1.1" };
    let mut text = format!("{} /{} HTTP/{version}\r\nHost: a.example\r\n", asked.method, asked.id);
    if asked.last && !asked.old {
        text += "Connection: close\r\n";
    }
    let chunked = chunked.filter(|_| !asked.old);
    match chunked {
        _ if asked.method == "GET" => {}
        Some(_) => text += "Transfer-Encoding: chunked\r\n",
        None => text += &format!("Content-Length: {}\r\n", asked.body.len()),
    }
    text += "\r\n";
    let mut bytes = text.into_bytes();
    match chunked {
        Some(size) if asked.method != "GET" => bytes.extend(chunks(&asked.body, size)),
        _ => bytes.extend(&asked.body),
    }
    bytes
}

async fn converse(world: &Rc<World>, wire: Rc<Wire>, seeded: &mut Seeded) {
    let requests = think_up(world, &wire, seeded);
    let manner = requests[0].manner;
    tell!("a client that is {manner:?} asks {:?}", requests.iter().map(|one| one.id).collect::<Vec<_>>());
    let answered = Rc::new(Notify::new());
    let pipelines = seeded.chance(25);
    let turn = (!pipelines).then(|| Rc::clone(&answered));
    let writing = spawn_local(say(requests.clone(), turn, world.settings.dawdling, seeded.fork()));
    if let Manner::Leaves(after_ms) = manner {
        let wire = Rc::clone(&wire);
        spawn_local(async move {
            sleep(Duration::from_millis(after_ms)).await;
            wire.close();
        });
    }
    let heard = hear(world, &wire, &requests, &answered, seeded).await;
    if let Some(since) = heard
        && !requests[requests.len() - 1].last
        && manner == Manner::Prompt
        && seeded.chance(50)
    {
        await_close(world, &requests[requests.len() - 1], since).await;
    }
    writing.abort();
    tell!("the client of {} is done", requests[0].id);
    end::check_blame(world);
    wire.close();
}

/// Sends the requests, each when the one before is answered, or at once.
async fn say(requests: Vec<Rc<Asked>>, turn: Option<Rc<Notify>>, dawdling: bool, mut seeded: Seeded) {
    let count = requests.len();
    for (number, asked) in requests.into_iter().enumerate() {
        if number > 0
            && let Some(turn) = &turn
        {
            turn.notified().await;
            sleep(Duration::from_millis(if seeded.chance(60) { 0 } else { seeded.within(1..=60) })).await;
        }
        let chunked = seeded.chance(40).then(|| *seeded.one_of(&[10, 700, 50_000]));
        let mut bytes = text(&asked, chunked);
        let mute = asked.manner == Manner::Mute && number + 1 == count;
        if mute {
            bytes.truncate(1 + seeded.below(bytes.len() - 1));
        }
        let mut at = 0;
        asked.begun.set(Some(Instant::now()));
        let pieces = seeded.chance(40);
        let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").map_or(0, |at| at + 4);
        let pause_ms = if dawdling && seeded.chance(70) { seeded.within(1..=400) } else { 0 };
        while at < bytes.len() {
            let end = if pause_ms > 0 && at < head { head } else { bytes.len() };
            let most = if pieces { 1 + seeded.below(end - at) } else { end - at };
            let Ok(count) = asked.wire.write(&bytes[at..at + most]).await else { return };
            at += count;
            if pause_ms > 0 && at == head && at < bytes.len() {
                sleep(Duration::from_millis(pause_ms)).await;
            }
            if pieces && at < bytes.len() && seeded.chance(30) {
                sleep(Duration::from_millis(seeded.within(1..=9))).await;
            }
        }
        if mute {
            tell!("{} is never said to its end", asked.id);
            return;
        }
        asked.said.set(Some(Instant::now()));
    }
}

/// Reads the answers; gives the time of the last one's last byte, if all came and the connection stays.
async fn hear(
    world: &Rc<World>,
    wire: &Rc<Wire>,
    requests: &[Rc<Asked>],
    answered: &Notify,
    seeded: &mut Seeded,
) -> Option<Instant> {
    let mut reader = Reader::default();
    let mut number = 0;
    let mut stays = true;
    let manner = requests[0].manner;
    let ended = loop {
        while let Some(message) = next(&mut reader) {
            let Some(asked) = requests.get(number) else {
                violated("well-framed", format!("no request for {:?}", message.head));
            };
            check_whole(world, asked, &message);
            check_cut(world, &requests[..=number]);
            asked.answered.set(Some(Instant::now()));
            stays = message.keeps();
            number += 1;
            answered.notify_one();
        }
        if number == requests.len() && stays {
            holds!("well-framed", !reader.is_inside(), "there are bytes behind the last response");
            return Some(wire.came().last_put);
        }
        let most = pause(world, manner, seeded).await;
        match wire.read(most).await {
            Ok(bytes) if bytes.is_empty() => break true,
            Ok(bytes) => reader.feed(&bytes),
            Err(_) => break false,
        }
    };
    let rest = reader.rest(ended);
    let Some(asked) = requests.get(number) else {
        holds!("well-framed", rest.is_none(), "there are bytes behind the last response");
        return None;
    };
    check_cut(world, &requests[..=number]);
    match rest {
        Some(message) if message.whole => check_whole(world, asked, &message),
        rest => {
            let missing = &requests[number..];
            check_broken(world, missing, rest.as_ref(), ended, stays);
        }
    }
    None
}

fn next(reader: &mut Reader) -> Option<Message> {
    sim::note("well-framed");
    reader.next(true).unwrap_or_else(|text| violated("well-framed", text))
}

/// Returns how a client waits before it reads, and how much it reads then.
async fn pause(world: &World, manner: Manner, seeded: &mut Seeded) -> usize {
    let send_ms = world.settings.send_ms;
    match manner {
        Manner::Prompt | Manner::Mute => return 20_000,
        Manner::Leaves(_) => sleep(Duration::from_millis(seeded.within(0..=3))).await,
        Manner::Slow => sleep(Duration::from_millis(seeded.within(1..=20))).await,
        Manner::Stalls if seeded.chance(10) => {
            sleep(Duration::from_millis(send_ms + seeded.within(5..=500))).await;
        }
        Manner::Stalls => sleep(Duration::from_millis(seeded.within(1..=20))).await,
    }
    1 + seeded.below(30_000)
}

/// Returns the request's and the try's number of a response.
fn origin(message: &Message) -> Option<(u64, usize)> {
    let (id, number) = message.field("x-try")?.split_once('.')?;
    Some((id.parse().ok()?, number.parse().ok()?))
}

/// Returns the try that a response is from, whose bytes it must have.
fn check_owner(asked: &Asked, message: &Message) -> Option<Rc<Try>> {
    let (id, number) = origin(message)?;
    holds!("own-answer", id == asked.id, "{} is answered with what is {id}'s", asked.id);
    let own = message.body.iter().enumerate().all(|(at, is)| *is == byte(id, at));
    holds!("own-answer", own, "the answer of {id} has bytes that are not its own");
    let one = asked.tries.borrow().get(number.wrapping_sub(1)).cloned();
    if one.is_none() {
        violated("own-answer", format!("{id} was not tried {number} times"));
    }
    one
}

/// Checks a response that its client takes for whole.
fn check_whole(world: &World, asked: &Asked, message: &Message) {
    let status = message.second();
    tell!("{} is answered with {status}, {} bytes", asked.id, message.body.len());
    match check_owner(asked, message) {
        Some(one) => {
            let (got, len) = (message.body.len(), one.len);
            holds!(
                "whole-is-whole",
                one.done.get(),
                "{} bytes of {len} pass for the whole of {}",
                got,
                asked.id
            );
            // Where only the close marks the end, an early close looks the same.
            let until_close = matches!(one.fault, Fault::Close(_));
            let all = if until_close { one.put.get() } else { len };
            holds!("whole-is-whole", got == all, "{got} of {all} bytes pass for the whole of {}", asked.id);
        }
        None => {
            let known = ["400", "408", "413", "500", "502", "503", "504"].contains(&status);
            holds!("own-answer", known, "{} is answered with {:?}", asked.id, message.head);
            holds!("no-false-alarm", !world.fate.is_calm(), "{} is answered with {status}", asked.id);
        }
    }
    sim::note("no-false-alarm");
}

/// Checks requests whose connection ended before they had a whole response.
fn check_broken(world: &World, missing: &[Rc<Asked>], rest: Option<&Message>, ended: bool, stays: bool) {
    let asked = &missing[0];
    let got = rest.map_or(0, |message| message.body.len());
    tell!("the connection is over: {} of {} has come", got, asked.id);
    let one = rest.and_then(|message| check_owner(asked, message));
    // A client that takes long to read the response before looks idle to the server meanwhile.
    let idle = between_ms(asked.wire.came().last_put, Instant::now()) >= world.settings.idle_ms;
    let idled = idle && asked.tries.borrow().is_empty() && rest.is_none();
    if world.fate.is_calm() && stays && !idled {
        violated("no-false-alarm", format!("{} has no whole answer: {:?}", asked.id, asked.tries));
    }
    let patient = matches!(asked.manner, Manner::Prompt | Manner::Slow);
    if let Some(one) = &one
        && one.fault == Fault::None
        && patient
        && world.fate.is_even()
    {
        violated("no-false-alarm", format!("{} breaks after {got} bytes of {}", asked.id, one.len));
    }
    let wire = &asked.wire;
    let heard_out = wire.went().put == wire.went().taken;
    if let Some(one) = one
        && patient
        && matches!(one.fault, Fault::Close(_) | Fault::Hang(_))
        && ended
        && heard_out
        && world.fate.is_even()
        && !world.settings.is_slowed()
    {
        let put = one.put.get();
        holds!("what-came-goes", got == put, "{got} bytes of {} came, {put} had gone", asked.id);
    }
    // After the last response the server does not wait for it.
    if asked.manner == Manner::Mute && rest.is_none() && ended && stays {
        check_mute(world, asked);
    }
}

/// Checks that a request that is never sent to its end is given up in time.
fn check_mute(world: &World, asked: &Asked) {
    let Some(begun) = asked.begun.get() else { return };
    let (now, heard) = (Instant::now(), asked.wire.went().last_put);
    let settings = &world.settings;
    if asked.said.get().is_some() || world.cut.get().is_some() || !asked.tries.borrow().is_empty() {
        return;
    }
    let (whole_ms, silent_ms) = (between_ms(begun, now), between_ms(heard, now));
    let least = settings.header_ms.min(settings.body_ms);
    let early = whole_ms < least;
    holds!("timer-never-early", !early, "{} is given up after {whole_ms} of {least} ms", asked.id);
    let most = settings.header_ms.max(settings.body_ms) + LATE_MS;
    let alone = asked.wire.came().put == 0;
    if alone {
        holds!(
            "timer-in-time",
            silent_ms <= most,
            "{} is given up after {silent_ms}, not {most} ms",
            asked.id
        );
    }
}

/// Checks that a request under way when everything was cut ends at once.
fn check_cut(world: &World, requests: &[Rc<Asked>]) {
    let [earlier @ .., asked] = requests else { return };
    let (Some(cut), Some(said)) = (world.cut.get(), asked.said.get()) else { return };
    let now = Instant::now();
    // What waits behind another request is not under way.
    let waits = earlier.last().is_some_and(|one| one.answered.get().is_none_or(|at| at >= cut));
    if waits || said >= cut || now < cut || asked.manner != Manner::Prompt {
        return;
    }
    let late_ms = between_ms(cut, now);
    holds!("cut-at-once", late_ms <= LATE_MS, "{} ends {late_ms} ms after it was cut", asked.id);
}

/// Waits until the product closes a connection without requests.
async fn await_close(world: &World, asked: &Asked, since: Instant) {
    let end = asked.wire.read(100).await;
    let silent = end.as_ref().map_or(true, Vec::is_empty);
    holds!("well-framed", silent, "bytes come without a request");
    let (idle_ms, took_ms) = (world.settings.idle_ms, between_ms(since, Instant::now()));
    // A request that was answered early is still sent to its end, and may be cut until then.
    let cut_off = world.cut.get().is_some_and(|cut| asked.said.get().is_none_or(|said| said >= cut));
    holds!("timer-never-early", cut_off || took_ms >= idle_ms, "closed after {took_ms} of {idle_ms} ms");
    if world.fate.is_calm() {
        let in_time = took_ms <= idle_ms + LATE_MS;
        holds!("timer-in-time", in_time, "closed after {took_ms}, not {idle_ms} ms");
    }
}
