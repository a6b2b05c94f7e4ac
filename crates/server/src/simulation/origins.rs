//! Origins: they read requests, answer in every framing there is, and break what they like.
//!
//! What an origin does with a request is drawn when it has seen the request's head, and kept beside the request ([`Try`]),
//! so that what the client gets is compared with it.

use super::clients::{Asked, Manner};
use super::message::{Reader, body, chunks};
use super::wire::Wire;
use super::{LATE_MS, World, between_ms, switching};
use nix::errno::Errno;
use sim::{Seeded, holds, tell, violated};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};
use transport::simulated::SimulatedStream;
use upstream::Address;

/// How an answer is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// After so many bytes it ends in an orderly way, with a reset, or stalls.
    Close(usize),
    Reset(usize),
    Hang(usize),
    /// It is not HTTP.
    Garbage,
    /// There are bytes behind its end.
    Extra,
}

/// How an answer is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked(usize),
    UntilClose,
    Empty,
}

/// One try of a request at an origin.
#[derive(Debug)]
pub(super) struct Try {
    pub(super) fault: Fault,
    /// How long the answer's body is.
    pub(super) len: usize,
    /// Whether all of the response was sent.
    pub(super) done: Cell<bool>,
    /// How much of its body was sent.
    pub(super) put: Cell<usize>,
    /// Whether some of the request's body came before its client had sent all of it.
    streamed: Cell<bool>,
    /// The bytes that had gone through the link, and to the client, before.
    link_before: u64,
    client_before: u64,
}

/// A response of an origin, and how it is sent.
struct Script {
    wire: Vec<u8>,
    head: usize,
    framing: Framing,
    keeps: bool,
    /// The answer does not wait for the request's body.
    early: bool,
}

/// Counts an open connection as long as it exists.
struct OpenConn(Rc<World>);

impl Drop for OpenConn {
    fn drop(&mut self) {
        self.0.links.set(self.0.links.get() - 1);
    }
}

/// How long a connection that is never established is waited for.
struct Waiting<'a>(&'a World, Instant);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waited_ms.borrow_mut().push(between_ms(self.1, Instant::now()));
    }
}

/// Connects the product to an origin.
pub(super) async fn connect(world: &Rc<World>, address: &Address) -> io::Result<Wire> {
    switching::check_picked(world, address);
    let mut seeded = world.seeded.borrow_mut().fork();
    if seeded.chance(world.fate.unreachable) {
        if seeded.chance(60) {
            tell!("{address:?} refuses");
            return Err(Errno::ECONNREFUSED.into());
        }
        tell!("{address:?} is not there");
        let waiting = Waiting(world, Instant::now());
        std::future::pending::<()>().await;
        drop(waiting);
    }
    let pause_ms = if seeded.chance(70) { 0 } else { seeded.within(1..=60) };
    sleep(Duration::from_millis(pause_ms)).await;
    let (ours, theirs) = Wire::pair(&mut seeded);
    world.links.set(world.links.get() + 1);
    let open = OpenConn(Rc::clone(world));
    let address = address.clone();
    spawn_local(async move { serve(&open.0, &theirs, address, seeded).await });
    Ok(ours)
}

/// Answers requests on one connection.
async fn serve(world: &Rc<World>, wire: &Wire, address: Address, mut seeded: Seeded) {
    let side = switching::side(&address);
    let mut reader = Reader::default();
    loop {
        let Some((asked, one, script)) = await_request(world, wire, &mut reader, &mut seeded).await else {
            return;
        };
        if world.settings.switched {
            switching::check_side(world, &asked, side);
            switching::check_in_use(world, &asked, &address);
        }
        let whole = take_body(wire, &mut reader, &asked, &one, script.early).await;
        let Some(got_all) = whole else { return };
        let kept = answer(world, wire, &asked, &one, &script, got_all, &mut seeded).await;
        let may_go_on = kept && got_all;
        if !may_go_on {
            refuse_more(wire, &mut reader, &asked, got_all).await;
            return;
        }
        if seeded.chance(world.fate.faulty / 3) {
            sleep(Duration::from_millis(seeded.within(0..=300))).await;
            tell!("an idle connection is closed by its origin");
            return;
        }
    }
}

/// Waits for a request's head, and decides what becomes of it.
async fn await_request(
    world: &Rc<World>,
    wire: &Wire,
    reader: &mut Reader,
    seeded: &mut Seeded,
) -> Option<(Rc<Asked>, Rc<Try>, Script)> {
    let mut whole = None;
    while reader.begun().is_none() && whole.is_none() {
        reader.feed(&wire.read(4_000).await.ok().filter(|bytes| !bytes.is_empty())?);
        whole = understood(reader.next(false));
    }
    if let Some(whole) = whole {
        // Its end came with its head; it is looked at with the others.
        reader.put_back(whole);
    }
    let target = reader.begun()?.second().to_owned();
    let number: usize = target.trim_start_matches('/').parse().ok()?;
    let asked = world.asked.borrow().get(number.wrapping_sub(1)).cloned();
    let Some(asked) = asked else { violated("request-whole", format!("no client asked for {target}")) };
    check_tries(world, &asked);
    let (one, script) = decide(world, wire, &asked, seeded);
    let one = Rc::new(one);
    tell!(
        "try {} of {number}: {:?}, {} bytes, {:?}",
        asked.tries.borrow().len() + 1,
        one.fault,
        one.len,
        script.framing
    );
    asked.tries.borrow_mut().push(Rc::clone(&one));
    Some((asked, one, script))
}

fn understood<T>(read: Result<T, String>) -> T {
    read.unwrap_or_else(|text| violated("request-whole", text))
}

/// Checks that what must not be sent twice is not.
fn check_tries(world: &World, asked: &Asked) {
    let tries = asked.tries.borrow();
    let once = asked.method == "POST" && !world.settings.non_idempotent;
    holds!("sent-once", !once || tries.is_empty(), "a POST is tried again after {tries:?}");
    let spent = tries.iter().any(|one| one.streamed.get());
    holds!("sent-once", !spent, "a body that was passed on while it came is sent again after {tries:?}");
}

/// Draws what becomes of a try.
fn decide(world: &World, wire: &Wire, asked: &Asked, seeded: &mut Seeded) -> (Try, Script) {
    let len = *seeded.one_of(&[0, 1, 10, 1_000, 6_000, 40_000, 150_000]);
    let framing = match seeded.below(10) {
        0..5 => Framing::Length,
        5..8 => Framing::Chunked(*seeded.one_of(&[1_500, 9_000, 70_000])),
        8 => Framing::UntilClose,
        _ => Framing::Empty,
    };
    let framing = match framing {
        Framing::Chunked(_) if world.settings.old_version => Framing::Length,
        framing => framing,
    };
    let len = if framing == Framing::Empty { 0 } else { len };
    let faulty = seeded.chance(world.fate.faulty);
    let keeps = framing != Framing::UntilClose && !world.settings.old_version && seeded.chance(85);
    let number = asked.tries.borrow().len() + 1;
    let mut text = String::new();
    if seeded.chance(10) && !world.settings.old_version {
        text += "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    }
    text += if framing == Framing::Empty { "HTTP/1.1 204 No Content\r\n" } else { "HTTP/1.1 200 OK\r\n" };
    text += &format!("X-Try: {}.{number}\r\n", asked.id);
    match framing {
        Framing::Length => text += &format!("Content-Length: {len}\r\n"),
        Framing::Chunked(_) => text += "Transfer-Encoding: chunked\r\n",
        Framing::UntilClose | Framing::Empty => {}
    }
    if !keeps {
        text += "Connection: close\r\n";
    }
    text += "\r\n";
    let head = text.len();
    let mut bytes = text.into_bytes();
    let content = body(asked.id, len);
    match framing {
        Framing::Chunked(size) => bytes.extend(chunks(&content, size)),
        _ => bytes.extend(content),
    }
    let at = |seeded: &mut Seeded| seeded.below(bytes.len());
    let fault = match seeded.below(10) {
        _ if !faulty => Fault::None,
        0..3 => Fault::Close(at(seeded)),
        3..5 => Fault::Reset(at(seeded)),
        5..8 => Fault::Hang(at(seeded)),
        8 => Fault::Garbage,
        _ if framing == Framing::UntilClose => Fault::None,
        _ => Fault::Extra,
    };
    if fault == Fault::Garbage {
        bytes = b"GARBAGE / not an answer\r\n\r\n".to_vec();
    }
    let early = !asked.body.is_empty() && seeded.chance(world.fate.faulty / 2);
    let one = Try {
        fault,
        len,
        done: Cell::new(false),
        put: Cell::new(0),
        streamed: Cell::new(false),
        link_before: wire.went().taken,
        client_before: asked.wire.came().put,
    };
    (one, Script { wire: bytes, head, framing, keeps, early })
}

/// Reads a request's body. `Some(true)` if it is whole, `Some(false)` if it is not waited for, `None` if it breaks off.
async fn take_body(wire: &Wire, reader: &mut Reader, asked: &Asked, one: &Try, early: bool) -> Option<bool> {
    loop {
        if let Some(message) = understood(reader.next(false)) {
            let body = &message.body;
            holds!(
                "request-whole",
                *body == asked.body,
                "{} of {} bytes came for the whole of it",
                body.len(),
                asked.body.len()
            );
            let said = asked.said.get().is_some();
            holds!("request-whole", said, "the request is whole, and its client has not said all of it");
            return Some(true);
        }
        let came = reader.begun().map_or(0, |message| message.body.len());
        if came > 0 && asked.said.get().is_none() {
            one.streamed.set(true);
        }
        let starts = reader.begun().is_none_or(|message| asked.body.starts_with(&message.body));
        holds!("request-whole", starts, "the first {came} bytes are not the client's");
        if early {
            return Some(false);
        }
        match wire.read(4_000).await {
            Ok(bytes) if !bytes.is_empty() => reader.feed(&bytes),
            _ => return None,
        }
    }
}

/// Sends the script, as far as the fault lets it. Returns true if another request may come.
async fn answer(
    world: &Rc<World>,
    wire: &Wire,
    asked: &Rc<Asked>,
    one: &Try,
    script: &Script,
    got_all: bool,
    seeded: &mut Seeded,
) -> bool {
    let think_ms = if seeded.chance(60) { 0 } else { seeded.within(1..=60) };
    sleep(Duration::from_millis(think_ms)).await;
    let silent = world.fate.silent && seeded.chance(20);
    if silent {
        sleep(Duration::from_millis(world.settings.read_ms + 50)).await;
    }
    let until = match one.fault {
        Fault::Close(at) | Fault::Reset(at) | Fault::Hang(at) => at,
        _ => script.wire.len(),
    };
    let mut at = 0;
    while at < until {
        let most =
            if at < script.head || seeded.chance(60) { until - at } else { 1 + seeded.below(until - at) };
        let piece = match one.fault {
            Fault::Extra if at + most == until => {
                let mut last = script.wire[at..until].to_vec();
                last.extend_from_slice(b"HTTP/1.1 200 OK\r\nX-Try: 0.0\r\nContent-Length: 3\r\n\r\nbad");
                note_body(one, script, until);
                one.done.set(true);
                wire.push(&last);
                return false;
            }
            _ => match wire.write(&script.wire[at..at + most]).await {
                Ok(count) => count,
                Err(_) => return false,
            },
        };
        at += piece;
        note_body(one, script, at);
        check_memory(world, wire, asked, one);
        if at >= script.head && at < until && seeded.chance(15) {
            sleep(Duration::from_millis(seeded.within(1..=40))).await;
        }
    }
    match one.fault {
        Fault::None | Fault::Garbage | Fault::Extra => {
            one.done.set(one.fault != Fault::Garbage);
            if script.framing == Framing::UntilClose {
                // A reader that waits for the end sees it.
                wire.shut_down_write();
            }
            one.fault == Fault::None && script.keeps
        }
        Fault::Close(_) => {
            one.done.set(script.framing == Framing::UntilClose && at >= script.head);
            wire.shut_down_write();
            false
        }
        Fault::Reset(_) => {
            wire.reset_on_close();
            wire.close();
            false
        }
        Fault::Hang(_) => {
            hang(world, wire, asked, script, at, got_all && !silent).await;
            false
        }
    }
}

/// Notes how much of the response, and so of its body, was sent.
fn note_body(one: &Try, script: &Script, at: usize) {
    let put = match script.framing {
        Framing::Chunked(size) => unchunked(at.saturating_sub(script.head), size, one.len),
        _ => at.saturating_sub(script.head),
    };
    one.put.set(if one.fault == Fault::Garbage { 0 } else { put });
}

/// Returns how much of a body is in the first bytes of its chunks.
fn unchunked(mut wire: usize, size: usize, len: usize) -> usize {
    let mut got = 0;
    while got < len {
        let run = size.min(len - got);
        let line = format!("{run:x}\r\n").len();
        got += wire.saturating_sub(line).min(run);
        if wire <= line + run + 2 {
            break;
        }
        wire -= line + run + 2;
    }
    got
}

/// Sends nothing more until the product gives up, and checks how long that took.
async fn hang(world: &World, wire: &Wire, asked: &Asked, script: &Script, at: usize, looks: bool) {
    wire.left().await;
    let now = Instant::now();
    let read_ms = world.settings.read_ms;
    if !looks || !world.fate.is_undisturbed() || (at >= script.head && at == script.wire.len()) {
        return;
    }
    let since = if at >= script.head { wire.went().last_put } else { wire.came().last_put };
    let silent_ms = between_ms(since, now);
    holds!(
        "timer-never-early",
        silent_ms >= read_ms,
        "{} is given up after {silent_ms} of {read_ms} ms",
        asked.id
    );
    if asked.manner == Manner::Prompt && !world.settings.is_slowed() {
        let in_time = silent_ms <= read_ms + LATE_MS;
        holds!("timer-in-time", in_time, "{} is given up after {silent_ms}, not {read_ms} ms", asked.id);
    }
}

/// Checks that what is between an origin and its client is bounded.
fn check_memory(world: &World, wire: &Wire, asked: &Asked, one: &Try) {
    let read = wire.went().taken - one.link_before;
    let gone = asked.wire.came().put - one.client_before;
    let kept = read.saturating_sub(gone);
    let settings = &world.settings;
    // A buffer of 64 KiB that is being passed on, and what waits behind it.
    let mut most = 2 * 65_536;
    if settings.buffering && settings.send_rate == 0 {
        most += 5 * settings.buffer + settings.file.max(settings.buffer);
    }
    holds!("memory-bounded", kept <= most, "{kept} bytes are kept, {most} may be");
}

/// Checks that after a response that was not whole, only the end comes.
async fn refuse_more(wire: &Wire, reader: &mut Reader, asked: &Asked, got_all: bool) {
    if got_all {
        let read = wire.read(100).await;
        let more = read.as_ref().is_ok_and(|bytes| !bytes.is_empty()) || reader.is_inside();
        holds!("reuse-safe", !more, "the connection on which {} was answered is used again", asked.id);
        return;
    }
    // The rest of a request that was answered early may still come.
    while wire.read(4_000).await.is_ok_and(|bytes| !bytes.is_empty()) {}
}
