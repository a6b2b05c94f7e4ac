//! Client connections: sends the `>` lines, compares the answers with the `<` and `<<` lines.
//!
//! Owns the methods of the requests, because HEAD is answered without a body. It must never correct what the server sends.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{SockAddr, Socket, Type};

use crate::case::{Address, Dial, Line, Talk};
use crate::case_state::{CaseState, Edit, Waited};
use crate::connection::{Connection, PATIENCE};
use crate::failure::{Fault, difference, readable, readable_lines};
use crate::logs;
use crate::message::{self, Read, position};
use crate::pattern::{LineEnd, Pattern, Verdict, lines_match, payload};
use crate::tls;

/// The timeout for each answer of one attempt of a repeated client.
const ATTEMPT: Duration = Duration::from_millis(300);
/// The pause between two attempts.
const BETWEEN: Duration = Duration::from_millis(5);

/// A response as the lines of a case speak of it.
struct Response {
    /// Status line and header lines, without line ends.
    head: Vec<Vec<u8>>,
    body: Vec<u8>,
    /// It answers a HEAD request.
    to_head: bool,
}

/// A client connection of a case.
pub(crate) struct Client {
    connection: Connection,
    methods: VecDeque<String>,
    patience: Duration,
    /// Line of the section that opened it.
    line: usize,
}

impl Client {
    /// Connects, from an address of our own choice if the case names one.
    pub(crate) fn connect(state: &CaseState, how: &Dial, line: usize) -> Result<Client, Fault> {
        let Dial { to, from, behind, tls } = how;
        let fault = |e: &dyn std::fmt::Display| Fault::new(line, format!("cannot connect: {e}"));
        let address = match to {
            Address::Unix(path) => {
                SockAddr::unix(state.dir.path(path).map_err(|e| fault(&e))?).map_err(|e| fault(&e))?
            }
            Address::Literal(text) => {
                state.dir.fill_in(text).parse::<SocketAddr>().map_err(|e| fault(&e))?.into()
            }
            Address::Port(name) => {
                SocketAddr::from(([127, 0, 0, 1], state.dir.port(name).map_err(|e| fault(&e))?)).into()
            }
        };
        let socket = Socket::new(address.domain(), Type::STREAM, None).map_err(|e| fault(&e))?;
        if let Some(from) = from {
            let from: SocketAddr = format!("{from}:0").parse().map_err(|e| fault(&e))?;
            socket.bind(&from.into()).map_err(|e| fault(&e))?;
        }
        socket.connect_timeout(&address, PATIENCE).map_err(|e| fault(&e))?;
        let mut connection = Connection::new(socket).map_err(|e| fault(&e))?;
        if let Some(client) = behind {
            let header = format!("PROXY TCP4 {client} 192.0.2.1 1000 443\r\n");
            connection.send(header.as_bytes()).map_err(|e| fault(&e))?;
        }
        if let Some(tls) = tls {
            let layer = state.tls(tls).map_err(|e| fault(&e))?;
            connection.shake_hands(layer).map_err(|e| fault(&e))?;
        }
        Ok(Client { connection, methods: VecDeque::new(), patience: PATIENCE, line })
    }

    /// Runs a script; returns `None` once the script has closed the connection.
    pub(crate) fn run(mut self, state: &CaseState, script: &[Line]) -> Result<Option<Client>, Fault> {
        for Line { line, talk } in script {
            let line = *line;
            let is_refused =
                matches!(talk, Talk::Act(words) if words.first().is_some_and(|word| word == "refused"));
            if let (Some(fault), false) =
                (self.connection.tls.as_ref().and_then(|tls| tls.fault.as_ref()), is_refused)
            {
                return Err(Fault::new(line, format!("TLS failed: {fault}")));
            }
            match talk {
                Talk::Up(lines) => self.send(state, line, lines)?,
                Talk::Down(lines) => self.receive(state, line, lines)?,
                Talk::DownRaw(lines) => self.receive_raw(state, line, lines)?,
                Talk::Act(words) => match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                    ["close"] => return Ok(None),
                    ["reset"] => {
                        self.connection.reset();
                        return Ok(None);
                    }
                    ["shutdown"] => self.connection.half_close(),
                    ["closed"] => state.expect_end(&mut self.connection, line)?,
                    ["logged", path, text @ ..] => {
                        logs::contains(state, line, path, &text.join(" "), self.patience)?;
                    }
                    ["refused", alert] => self.refused(line, alert)?,
                    ["certificate", name] => self.presented(state, line, name)?,
                    ["raise", event] => state.raise(event),
                    ["await", event] => state.wait_for(event, line)?,
                    _ => return Err(Fault::new(line, format!("a client cannot \"{}\"", words.join(" ")))),
                },
            }
        }
        Ok(Some(self))
    }

    /// Connects and runs a script repeatedly until it succeeds, for events that take time.
    pub(crate) fn until(
        state: &CaseState,
        how: &Dial,
        line: usize,
        script: &[Line],
    ) -> Result<Option<Client>, Fault> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let attempt = Client::connect(state, how, line)
                .and_then(|client| Client { patience: ATTEMPT, ..client }.run(state, script));
            match attempt {
                Err(_) if Instant::now() < deadline && state.fault().is_none() => std::thread::sleep(BETWEEN),
                Ok(client) => return Ok(client.map(|c| Client { patience: PATIENCE, ..c })),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Expects that the handshake has failed with this alert of the server.
    fn refused(&mut self, line: usize, alert: &str) -> Result<(), Fault> {
        // In TLS 1.3 the server may refuse after the client has finished.
        let refused =
            |connection: &Connection| connection.tls.as_ref().is_some_and(|tls| tls.fault.is_some());
        self.connection.read_until(self.patience, refused);
        let seen = match self.connection.tls.as_ref().and_then(|tls| tls.fault.as_ref()) {
            Some(rustls::Error::AlertReceived(alert)) => format!("{alert:?}"),
            other => format!("{other:?}"),
        };
        match seen == alert {
            true => Ok(()),
            false => Err(Fault::new(line, format!("the alert {alert} expected, {seen} seen"))),
        }
    }

    /// Expects that the server has sent this certificate.
    fn presented(&self, state: &CaseState, line: usize, name: &str) -> Result<(), Fault> {
        let fault = |what: String| Fault::new(line, what);
        let wanted = tls::der_of(&state.dir.path("conf").map_err(fault)?, name).map_err(fault)?;
        match self.connection.tls.as_ref().and_then(|tls| tls.certificate()) {
            Some(seen) if seen == wanted => Ok(()),
            _ => Err(fault(format!("the certificate is not {name}"))),
        }
    }

    /// Fails if bytes came that were not expected.
    pub(crate) fn finish(mut self) -> Result<(), Fault> {
        let line = self.line;
        let left = self.connection.leftover();
        if left.is_empty() {
            return Ok(());
        }
        let seen = readable(&left[..left.len().min(2000)]);
        Err(Fault::new(line, "this connection brought bytes that nothing expected").with(seen))
    }

    fn send(&mut self, state: &CaseState, line: usize, lines: &[String]) -> Result<(), Fault> {
        for text in lines {
            let mut words = text.split(' ');
            if let (Some(method), Some(_)) = (words.next(), words.next())
                && !method.is_empty()
                && method.bytes().all(|b| b.is_ascii_uppercase())
            {
                self.methods.push_back(method.to_owned());
            }
        }
        let bytes =
            payload(&state.dir.fill_in_lines(lines), LineEnd::Crlf).map_err(|e| Fault::new(line, e))?;
        state.send(&mut self.connection, &bytes, line)
    }

    fn receive(&mut self, state: &CaseState, line: usize, lines: &[String]) -> Result<(), Fault> {
        let deadline = Instant::now() + self.patience;
        let method = self.methods.front().map_or("GET", String::as_str);
        let to_head = method == "HEAD";
        let (read, used) = loop {
            let connection = &mut self.connection;
            match message::response(&connection.buffer, method, connection.has_ended()) {
                Read::Whole(response, used) => break (response, used),
                Read::Partial if connection.has_ended() => {
                    return Err(self.unfinished(line, "the connection ended inside a response"));
                }
                Read::Partial => match state.read(connection, deadline) {
                    Waited::News => {}
                    Waited::Late => return Err(self.unfinished(line, "no whole response came in time")),
                    Waited::Over => return Err(Fault::new(line, "the case ended before this response")),
                },
                Read::Bad(why) => return Err(self.unfinished(line, &why)),
            }
        };
        if read.has_trailers {
            return Err(self.unfinished(line, "trailers: expect them with << lines"));
        }
        let bytes: Vec<u8> = self.connection.buffer.drain(..used).collect();
        let head = head_lines(&bytes).map_err(|why| Fault::new(line, why))?;
        if !(100..200).contains(&read.status) || read.status == 101 {
            self.methods.pop_front();
        }
        compare(state, line, lines, &Response { head, body: read.body, to_head }, self.patience == PATIENCE)
    }

    fn unfinished(&self, line: usize, what: &str) -> Fault {
        let seen = &self.connection.buffer;
        Fault::new(line, what).with(format!("+ {}", readable(&seen[..seen.len().min(2000)])))
    }

    fn receive_raw(&mut self, state: &CaseState, line: usize, lines: &[String]) -> Result<(), Fault> {
        let pattern = Pattern::lines(&state.dir.fill_in_lines(lines), LineEnd::Crlf)
            .map_err(|e| Fault::new(line, e))?;
        let deadline = Instant::now() + self.patience;
        let used = claim(&mut self.connection, state, &pattern, deadline).map_err(|what| {
            let seen = readable_lines(&self.connection.buffer);
            Fault::new(line, what)
                .with(difference(lines, &seen, |i, j| seen[j].trim_end_matches("\\r") == lines[i]))
        })?;
        self.connection.buffer.drain(..used);
        Ok(())
    }
}

/// Returns the lines of a head; one that ends in anything but CR LF is a fault.
fn head_lines(message: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let end = position(message, b"\r\n\r\n").ok_or("a bare CR or LF in the head")?;
    let (mut lines, mut rest) = (Vec::new(), &message[..end]);
    while let Some(at) = position(rest, b"\r\n") {
        lines.push(rest[..at].to_vec());
        rest = &rest[at + 2..];
    }
    lines.push(rest.to_vec());
    let is_bare = lines.iter().any(|line| line.contains(&b'\n') || line.contains(&b'\r'));
    if is_bare { Err("a bare CR or LF in the head") } else { Ok(lines) }
}

/// Waits until a pattern matches the start of the buffer; returns the number of bytes that it claims.
pub(crate) fn claim(
    connection: &mut Connection,
    state: &CaseState,
    pattern: &Pattern,
    deadline: Instant,
) -> Result<usize, &'static str> {
    loop {
        match pattern.verdict(&connection.buffer, connection.has_ended()) {
            Verdict::Full(used) => return Ok(used),
            Verdict::Mismatch => return Err("these bytes did not come"),
            Verdict::Partial => {}
        }
        match state.read(connection, deadline) {
            Waited::News => {}
            Waited::Late => return Err("these bytes did not come in time"),
            Waited::Over => return Err("the case ended before these bytes came"),
        }
    }
}

fn compare(
    state: &CaseState,
    line: usize,
    lines: &[String],
    response: &Response,
    may_bless: bool,
) -> Result<(), Fault> {
    let filled = state.dir.fill_in_lines(lines);
    let blank = filled.iter().position(String::is_empty).unwrap_or(filled.len());
    let head: Result<Vec<_>, _> = filled[..blank].iter().map(|l| Pattern::escaped(l)).collect();
    let head = head.map_err(|e| Fault::new(line, e))?;
    let body_lines = filled.get(blank + 1..).unwrap_or_default();
    let body = Pattern::lines(body_lines, LineEnd::Lf).map_err(|e| Fault::new(line, e))?;
    let seen_head: Vec<&[u8]> = response.head.iter().map(Vec::as_slice).collect();
    if lines_match(&head, &seen_head) && body.matches(&response.body) {
        return Ok(());
    }
    let (head_text, body_text) = shown(state, response);
    let mut seen = head_text;
    seen.push(String::new());
    seen.extend(body_text);
    let mut expected = lines.to_vec();
    if blank == lines.len() {
        expected.push(String::new());
    }
    let patterns: Vec<_> = expected.iter().map(|l| Pattern::escaped(&state.dir.fill_in(l))).collect();
    let agrees = |i: usize, j: usize| {
        expected[i] == seen[j]
            || (i < blank
                && j < response.head.len()
                && patterns[i].as_ref().is_ok_and(|p| p.matches(&response.head[j])))
    };
    let fault =
        Fault::new(line, "the response is not the expected one").with(difference(&expected, &seen, agrees));
    if !may_bless {
        return Err(fault);
    }
    state.settle(
        || {
            // A head with an elision keeps it: only the status line and the body are replaced.
            let elided = expected[..blank].iter().any(|l| l == "<...>");
            let with = seen.iter().enumerate().map(|(j, text)| {
                // A line that already matched keeps its matchers.
                let kept = (0..expected.len()).find(|&i| agrees(i, j) && expected[i] != "<...>");
                kept.map_or(text.as_str(), |i| &expected[i])
            });
            let with: Vec<&str> = if elided {
                let head = expected.iter().take(blank).skip(1).map(String::as_str);
                with.clone().take(1).chain(head).chain(with.skip(response.head.len())).collect()
            } else {
                with.collect()
            };
            let with = with.iter().map(|t| if t.is_empty() { "<".to_owned() } else { format!("< {t}") });
            Edit { line, count: lines.len(), with: with.collect() }
        },
        fault,
    )
}

/// Returns a response as the lines of a case file, with the matchers that every case needs.
fn shown(state: &CaseState, response: &Response) -> (Vec<String>, Vec<String>) {
    let mut body = readable_lines(&response.body);
    let page = built_in_page(&response.body);
    if let Some(title) = &page {
        body = vec![format!("<page:{title}>")];
    }
    let name_ends = Pattern::escaped("<hr><center><server></center>\\r");
    let body = body.into_iter().map(|line| {
        let is_name = name_ends.as_ref().is_ok_and(|p| p.matches(line.replace("\\r", "\r").as_bytes()));
        if is_name { "<hr><center><server></center>\\r".to_owned() } else { state.dir.take_out(&line) }
    });
    let body = body.collect();
    // The length of a built-in page holds the length of the server's name.
    let error_to_head = response.to_head && !response.head[0].starts_with(b"HTTP/1.1 20");
    let head = response.head.iter().map(|line| {
        let mut text = state.dir.take_out(&readable(line));
        if text.ends_with(' ') {
            text.replace_range(text.len() - 1.., "\\x20");
        }
        match text.split_once(": ") {
            Some(("Date", _)) => "Date: <date>".to_owned(),
            Some(("Server", _)) => "Server: <server>".to_owned(),
            Some(("Content-Length", _)) if page.is_some() || error_to_head => {
                "Content-Length: <len>".to_owned()
            }
            _ => text,
        }
    });
    (head.collect(), body)
}

fn built_in_page(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let title = text.split_once("<title>")?.1.split_once("</title>")?.0;
    let page = Pattern::lines(&[format!("<page:{title}>")], LineEnd::Lf).ok()?;
    page.matches(body).then(|| title.to_owned())
}
