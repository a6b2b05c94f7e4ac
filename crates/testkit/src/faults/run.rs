//! Running cells: one server process for all of them, many cells at a time, each with servers of its own.
//!
//! Owns what every cell must fulfil whatever its fault: no incomplete answer looks complete, no request is repeated that
//! must not be, no connection is kept after a fault, a server is marked where that is due, and the proxy serves on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::conf::{self, Role};
use super::expect::{Answer, CellOutcome, Logged, expected, logged};
use super::got::Got;
use super::names::Names;
use super::requests::{Wire, next_path, path, talk};
use super::scene::{Link, Scene};
use super::script::{BODY, EARLY};
use super::servers::Origins;
use super::table::{Cell, Client, Fault, Framing, Stage};
use crate::connection::PATIENCE;
use crate::process::{Binary, Server, Setup, until};
use crate::test_dir::TestDir;

/// The observation of a cell.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The cell.
    pub cell: Cell,
    /// Its result.
    pub outcome: CellOutcome,
    /// Deviations of the result, and from what holds for all cells.
    pub faults: Vec<String>,
}

/// How many cells run at the same time: they mostly wait.
const AT_A_TIME: usize = 24;

/// Runs cells on a program; calls `tell` with each result, never with two at once.
///
/// # Errors
/// The server or the name server could not be started, or the server did not end well.
pub fn run(
    cells: &[Cell],
    binary: &Binary,
    at_a_time: Option<usize>,
    tell: &(dyn Fn(&Seen) + Sync),
) -> Result<Vec<Seen>, String> {
    let dir = TestDir::new("{port:front} {port:http2} {port:back} {port:names} {port:dead}")?;
    let conf = dir.fill_in(&conf::text(cells));
    dir.write("conf/nginx.conf", conf.as_bytes(), 0o644)?;
    let names = Names::start(cells, dir.port("names")?)?;
    let setup = Setup { binary, dir: &dir, needs: &[], conf: "conf/nginx.conf", daemon: false };
    let server = Server::start(setup).map_err(|e| format!("{e}\n{}", dir.evidence()))?;
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let (front, http2) = (at(dir.port("front")?), at(dir.port("http2")?));
    let run = Run { dir: &dir, names: &names, front, http2 };
    let next = AtomicUsize::new(0);
    let all = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_a_time.unwrap_or(AT_A_TIME).min(cells.len()) {
            scope.spawn(|| {
                while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let seen = run.cell(cell);
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    tell(&seen);
                    all.push(seen);
                }
            });
        }
    });
    server.signal("QUIT", false)?;
    match server.wait() {
        Some(0) => {}
        Some(code) => return Err(format!("exit code {code} after QUIT\n{}", dir.evidence())),
        None => return Err("the server did not exit after QUIT".to_owned()),
    }
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.sort_by_key(|seen| seen.cell.number);
    Ok(all)
}

struct Run<'a> {
    dir: &'a TestDir,
    names: &'a Names,
    front: SocketAddr,
    /// The same for clients of HTTP/2.
    http2: SocketAddr,
}

/// The raw observation of a cell.
struct Shown {
    got: Got,
    kept: bool,
    /// The request after it, on a connection of its own, if there had to be one.
    next: Option<Got>,
    links: Vec<Link>,
}

impl Run<'_> {
    fn cell(&self, cell: &Cell) -> Seen {
        let nothing = || CellOutcome {
            answer: Answer::Wrong,
            tries: String::new(),
            marked: false,
            kept: false,
            reused: false,
        };
        match self.play(cell) {
            Ok(shown) => self.judge(cell, &shown),
            Err(fault) => Seen { cell: *cell, outcome: nothing(), faults: vec![fault] },
        }
    }

    fn play(&self, cell: &Cell) -> Result<Shown, String> {
        let scene = Arc::new(Scene::default());
        let port = self.dir.port("back")?;
        let origins = Origins::start(cell, port, &scene)?;
        let played = self.talk(cell, &scene, port);
        scene.note(|state| state.over = true);
        let ended = origins.finish();
        let (got, kept, next) = played?;
        ended?;
        let links = std::mem::take(&mut scene.look().links);
        Ok(Shown { got, kept, next, links })
    }

    fn talk(&self, cell: &Cell, scene: &Scene, port: u16) -> Result<(Got, bool, Option<Got>), String> {
        if cell.row.stage == Stage::Reused {
            self.warm_up(cell, scene)?;
        }
        let mut wire = match cell.client.is_http2() {
            true => Wire::connect_http2(self.http2)?,
            false => Wire::connect(self.front)?,
        };
        let is_stuck = || match cell.row.stage {
            Stage::LookUp => self.names.was_asked(cell),
            Stage::Connect => connecting(cell, port) >= 2,
            _ => scene.look().reached,
        };
        let got = talk(cell, &mut wire, scene, &is_stuck);
        if got == Got::Left {
            drop(wire);
            self.settle(cell, scene)?;
            let next = Wire::connect(self.front)?.get(&next_path(cell));
            return Ok((got, false, Some(next)));
        }
        let mut kept = false;
        let may_go_on = match got {
            Got::Whole(status, _) => status != 101 && cell.client != Client::Get10,
            Got::Cut(..) => cell.client.is_http2(),
            _ => false,
        };
        if may_go_on {
            let again = if cell.client == Client::Pipelined {
                wire.answer("GET")
            } else {
                self.settle(cell, scene)?;
                wire.get(&next_path(cell))
            };
            match again {
                Got::Whole(200, _) => kept = true,
                Got::Nothing => {}
                other => return Err(format!("the next request on the connection: {}", short(&other))),
            }
        }
        drop(wire);
        self.settle(cell, scene)?;
        let next = (!kept).then(|| Ok::<_, String>(Wire::connect(self.front)?.get(&next_path(cell))));
        let next = next.transpose()?;
        // Connections that met the fault are closed, or have served another request by now.
        scene.wait(|state| state.links.iter().all(|link| link.after_fault != Some(0) || link.end.is_some()));
        Ok((got, kept, next))
    }

    /// Sends a request that leaves an idle connection behind, and lets the fault happen to it.
    fn warm_up(&self, cell: &Cell, scene: &Scene) -> Result<(), String> {
        match Wire::connect(self.front)?.get(&format!("/c{}/warm", cell.number)) {
            Got::Whole(200, _) => {}
            other => return Err(format!("the request before the fault: {other:?}")),
        }
        self.turn()?;
        if matches!(cell.row.fault, Fault::IdleClose | Fault::IdleReset | Fault::IdleGarbage) {
            scene.note(|state| state.idle = true);
            if !scene.wait(|state| state.acted) {
                return Err("there was no idle connection to break".to_owned());
            }
            self.turn()?;
        }
        Ok(())
    }

    /// Waits until the fault is over, and the proxy's loop has run since.
    fn settle(&self, cell: &Cell, scene: &Scene) -> Result<(), String> {
        let played = |links: &[Link]| links.iter().any(|link| link.after_fault.is_some());
        if !scene.wait(|state| state.acted || !played(&state.links)) {
            return Err("the fault does not end".to_owned());
        }
        if cell.client == Client::Aborts && !self.was_logged(&path(cell)) {
            return Err("the proxy does not notice that the client has gone".to_owned());
        }
        self.turn()
    }

    /// Sends two requests through the proxy's loop, so that it has processed all earlier events.
    fn turn(&self) -> Result<(), String> {
        for _ in 0..2 {
            match Wire::connect(self.front)?.get("/control") {
                Got::Whole(204, _) => {}
                other => return Err(format!("a request unrelated to the fault: {other:?}")),
            }
        }
        Ok(())
    }

    fn log(&self, name: &str) -> String {
        let bytes = std::fs::read(self.dir.prefix().join("logs").join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn access_line(&self, path: &str) -> Option<(u16, String, String)> {
        let log = self.log("access.log");
        let rest = log.lines().find_map(|line| line.strip_prefix(path)?.strip_prefix(' '))?;
        let (status, rest) = rest.split_once(" [")?;
        let (tries, peers) = rest.split_once("] [")?;
        let tries = if tries == "-" { "" } else { tries };
        Some((status.parse().ok()?, tries.to_owned(), peers.trim_end_matches(']').to_owned()))
    }

    fn was_logged(&self, path: &str) -> bool {
        until(Instant::now() + PATIENCE, || self.access_line(path)).is_some()
    }

    fn judge(&self, cell: &Cell, shown: &Shown) -> Seen {
        let mut faults = Vec::new();
        let fault_path = path(cell);
        let line = until(Instant::now() + PATIENCE, || self.access_line(&fault_path));
        let (status, tries, _) = line.unwrap_or_else(|| {
            faults.push("nothing in the access log".to_owned());
            Default::default()
        });
        let next = until(Instant::now() + PATIENCE, || self.access_line(&next_path(cell)));
        let next_peers = next.map(|(_, _, peers)| peers).unwrap_or_default();
        let marked = cell.row.stage != Stage::LookUp
            && next_peers.starts_with(&conf::address(cell, Role::Backup).to_string());
        let answer = match &shown.got {
            Got::Whole(status, _) => Answer::Whole(*status),
            Got::Cut(status, _) => Answer::Cut(*status),
            Got::Nothing => Answer::Nothing,
            Got::Left => Answer::Gone(status),
            Got::Wrong(why) => {
                faults.push(why.clone());
                Answer::Wrong
            }
        };
        let met = |link: &&Link| link.after_fault.is_some();
        let reused = shown.links.iter().filter(met).any(|link| link.after_fault > Some(0));
        let outcome = CellOutcome { answer, tries, marked, kept: shown.kept, reused };
        let wanted = expected(cell);
        if outcome != wanted {
            faults.push(format!("expected {wanted:?}\n  seen     {outcome:?}"));
        }
        bodies(cell, shown, &mut faults);
        self.check_log(cell, &mut faults);
        Seen { cell: *cell, outcome, faults }
    }

    fn check_log(&self, cell: &Cell, faults: &mut Vec<String>) {
        let wanted = logged(&cell.row, cell.client);
        let mark = format!(" {} HTTP/", path(cell));
        let log = self.log("error.log");
        let bad = |line: &&str| ["[warn]", "[error]", "[crit]", "[alert]"].iter().any(|l| line.contains(l));
        let lines: Vec<&str> = log.lines().filter(bad).filter(|line| line.contains(&mark)).collect();
        let good = match wanted {
            Logged::Anything => true,
            Logged::Nothing => lines.is_empty(),
            Logged::Words(words) => lines.iter().any(|line| line.contains(words)),
        };
        if !good {
            faults.push(format!("in the error log, where {wanted:?} was expected: {lines:#?}"));
        }
    }
}

/// Checks what holds for every cell: complete answers are complete, requests arrive as they were sent, and none twice that
/// must not be repeated.
fn bodies(cell: &Cell, shown: &Shown, faults: &mut Vec<String>) {
    let row = cell.row;
    let empty = row.stage == Stage::AfterHead && row.framing == Framing::UntilClose;
    let half = row.stage == Stage::InBody && row.framing == Framing::UntilClose && row.fault == Fault::Close;
    match &shown.got {
        Got::Whole(200, body) => {
            let all = match half {
                _ if empty || cell.client == Client::Head => b"",
                true => &BODY[..BODY.len() / 2],
                false => BODY,
            };
            if body != all {
                faults.push(format!("a whole answer that is not: {} of {} bytes", body.len(), all.len()));
            }
        }
        Got::Whole(413, body) if body != EARLY => faults.push("an early answer that is not whole".to_owned()),
        _ => {}
    }
    match &shown.next {
        None | Some(Got::Whole(200, _)) => {}
        Some(other) => faults.push(format!("the next request: {}", short(other))),
    }
    let ours = |link: &&Link| link.requests.iter().any(|request| request.path.ends_with("/fault"));
    if cell.client.is_non_idempotent() && shown.links.iter().filter(ours).count() > 1 {
        faults.push("a request that must not be repeated went to two servers".to_owned());
    }
    for link in &shown.links {
        if link.after_fault == Some(0) && link.end.is_none() {
            faults.push("the connection that met the fault is still open".to_owned());
        }
        for request in &link.requests {
            if !request.right {
                faults.push(format!("another body than was sent: {request:?}"));
            }
            if link.role == Role::Backup && !request.whole {
                faults.push(format!("half a request: {request:?}"));
            }
        }
    }
}

/// Returns a client's result as text.
fn short(got: &Got) -> String {
    match got {
        Got::Whole(status, _) => status.to_string(),
        Got::Cut(status, body) => format!("{status}, cut after {} bytes", body.len()),
        Got::Nothing => "nothing".to_owned(),
        Got::Left => "the client left".to_owned(),
        Got::Wrong(why) => why.clone(),
    }
}

/// Counts the connections in progress to a cell's full queue: ours that fills it, and the proxy's.
fn connecting(cell: &Cell, port: u16) -> usize {
    const SYN_SENT: &str = "02";
    let [a, b, c, d] = conf::address(cell, Role::Primary).octets();
    let to = format!("{d:02X}{c:02X}{b:02X}{a:02X}:{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let words = table.lines().map(|line| line.split_whitespace().skip(2).take(2).collect::<Vec<_>>());
    words.filter(|words| words.as_slice() == [to.as_str(), SYN_SENT]).count()
}
