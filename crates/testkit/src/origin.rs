//! Scripted origins: listeners that play the server side of a proxied connection.
//!
//! Owns their threads and joins them. The first connection runs the first script, the second the second; a connection
//! without a script, and a script without a connection, is a fault.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use socket2::{SockAddr, Socket};

use crate::case::{Line, Talk};
use crate::case_state::{CaseState, Edit, Waited};
use crate::client::claim;
use crate::connection::{Connection, PATIENCE, accept_all, listen};
use crate::failure::{Fault, difference, readable, readable_lines};
use crate::message::request_length;
use crate::pattern::{LineEnd, Pattern, payload};

/// A listening origin.
pub(crate) struct Origin {
    name: String,
    line: usize,
    wanted: usize,
    repeat: bool,
    thread: JoinHandle<()>,
}

/// The address and the scripts of an origin.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) unix: Option<String>,
    pub(crate) repeat: bool,
    pub(crate) scripts: Vec<Vec<Line>>,
}

impl Origin {
    /// Listens, then accepts in a thread of its own.
    pub(crate) fn start(state: &Arc<CaseState>, part: Part) -> Result<Origin, Fault> {
        let line = part.line;
        let listener = listen_at(state, &part)
            .map_err(|e| Fault::new(line, format!("the origin cannot listen: {e}")))?;
        let (name, wanted, repeat) = (part.name.clone(), part.scripts.len(), part.repeat);
        let state = Arc::clone(state);
        let thread = std::thread::spawn(move || {
            accept_all(
                &listener,
                || state.is_over(),
                |connection, number| {
                    state.count_connection(&part.name);
                    if let Err(fault) = serve(&state, &part, connection, number) {
                        state.fail(fault);
                    }
                },
            );
        });
        Ok(Origin { name, line, wanted, repeat, thread })
    }

    /// Waits for its threads; the state must have been ended before.
    pub(crate) fn finish(self, state: &CaseState) -> Result<(), Fault> {
        if self.thread.join().is_err() {
            return Err(Fault::new(self.line, "the origin's thread panicked"));
        }
        let came = state.connections(&self.name);
        if !self.repeat && came < self.wanted {
            return Err(Fault::new(self.line, format!("{} connections expected, {came} came", self.wanted)));
        }
        Ok(())
    }
}

fn listen_at(state: &CaseState, part: &Part) -> Result<Socket, String> {
    let address = match &part.unix {
        Some(path) => SockAddr::unix(state.dir.path(path)?).map_err(|e| e.to_string())?,
        None => std::net::SocketAddr::from(([127, 0, 0, 1], state.dir.port(&part.name)?)).into(),
    };
    listen(&address, None).map_err(|e| e.to_string())
}

fn serve(state: &CaseState, part: &Part, connection: Connection, number: usize) -> Result<(), Fault> {
    if number >= part.scripts.len() && !part.repeat {
        return Err(Fault::new(part.line, format!("connection {} was not expected", number + 1)));
    }
    play(state, connection, &part.scripts[number.min(part.scripts.len() - 1)])
}

fn play(state: &CaseState, mut connection: Connection, script: &[Line]) -> Result<(), Fault> {
    let mut at = 0;
    while let Some(Line { line, talk }) = script.get(at) {
        let line = *line;
        at += 1;
        match talk {
            Talk::Up(lines) => receive(state, &mut connection, line, lines)?,
            Talk::Down(lines) | Talk::DownRaw(lines) => {
                let bytes = payload(&state.dir.fill_in_lines(lines), LineEnd::Crlf)
                    .map_err(|e| Fault::new(line, e))?;
                state.send(&mut connection, &bytes, line)?;
            }
            Talk::Act(words) => match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["close"] => return Ok(()),
                ["reset"] => {
                    connection.reset();
                    return Ok(());
                }
                ["shutdown"] => connection.half_close(),
                ["closed"] => state.expect_end(&mut connection, line)?,
                ["request"] => {
                    if !any_request(state, &mut connection, line)? {
                        return Ok(());
                    }
                }
                ["raise", event] => state.raise(event),
                ["await", event] => state.wait_for(event, line)?,
                ["loop"] => {
                    if !another(state, &mut connection) {
                        return Ok(());
                    }
                    at = 0;
                }
                _ => return Err(Fault::new(line, format!("an origin cannot \"{}\"", words.join(" ")))),
            },
        }
    }
    // The script is over: the peer may close, but may send nothing more.
    let last = script.last().map_or(0, |l| l.line);
    let deadline = Instant::now() + PATIENCE * 3;
    while !connection.has_ended() && connection.buffer.is_empty() {
        if state.read(&mut connection, deadline) != Waited::News {
            return Ok(());
        }
    }
    if connection.buffer.is_empty() {
        return Ok(());
    }
    let seen = readable(&connection.buffer[..connection.buffer.len().min(2000)]);
    Err(Fault::new(last, "the origin was sent more after its script").with(seen))
}

fn receive(
    state: &CaseState,
    connection: &mut Connection,
    line: usize,
    lines: &[String],
) -> Result<(), Fault> {
    let pattern =
        Pattern::lines(&state.dir.fill_in_lines(lines), LineEnd::Crlf).map_err(|e| Fault::new(line, e))?;
    let what = match claim(connection, state, &pattern, Instant::now() + PATIENCE) {
        Ok(used) => {
            connection.buffer.drain(..used);
            return Ok(());
        }
        Err(what) => what,
    };
    if state.blessing {
        let deadline = Instant::now() + PATIENCE;
        while request_length(&connection.buffer).is_none() && !connection.has_ended() {
            if state.read(connection, deadline) != Waited::News {
                break;
            }
        }
    }
    let whole = request_length(&connection.buffer).unwrap_or(connection.buffer.len());
    let request: Vec<u8> = connection.buffer.drain(..whole).collect();
    let seen: Vec<String> = readable_lines(&request)
        .into_iter()
        .map(|l| state.dir.take_out(l.strip_suffix("\\r").unwrap_or(&l)))
        .collect();
    let fault = Fault::new(line, format!("the origin: {what}"))
        .with(difference(lines, &seen, |i, j| lines[i] == seen[j]));
    let count = lines.len();
    state.settle(
        || {
            let with = seen.iter().map(|l| if l.is_empty() { ">".to_owned() } else { format!("> {l}") });
            Edit { line, count, with: with.collect() }
        },
        fault,
    )
}

/// Reads one request of any kind; returns false if the peer closed instead.
fn any_request(state: &CaseState, connection: &mut Connection, line: usize) -> Result<bool, Fault> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(used) = request_length(&connection.buffer) {
            connection.buffer.drain(..used);
            return Ok(true);
        }
        if connection.has_ended() && connection.buffer.is_empty() {
            return Ok(false);
        }
        if connection.has_ended() || state.read(connection, deadline) != Waited::News {
            return Err(Fault::new(line, "no whole request came").with(readable(&connection.buffer)));
        }
    }
}

/// Returns true if the peer sends more, false once it has closed or the case is over.
fn another(state: &CaseState, connection: &mut Connection) -> bool {
    let deadline = Instant::now() + PATIENCE * 3;
    while connection.buffer.is_empty() && !connection.has_ended() {
        if state.read(connection, deadline) != Waited::News {
            return false;
        }
    }
    !connection.buffer.is_empty()
}
