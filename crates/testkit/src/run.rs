//! Running one case: its steps in order, then a graceful end, then what the logs must say.
//!
//! Owns the order of these steps. A case that lost a port to another program is run again with other ports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::case::{Action, Case, Kind, Step, Style, Text};
use crate::case_state::{CaseState, Edit};
use crate::client::Client;
use crate::connection::PATIENCE;
use crate::failure::{Failure, Fault, difference};
use crate::logs;
use crate::names;
use crate::namespace;
use crate::origin::{Origin, Part};
use crate::pattern::{LineEnd, Pattern, filler, lines_match, payload};
use crate::process::{Binary, Server, Setup, command, has_listener, run_to_end, until};
use crate::tls;

/// The result of a case that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseOutcome {
    /// It passed.
    Passed,
    /// It does not apply here, for this reason.
    Skipped(String),
}

/// The text before and after the lines of an `http` section, on the same lines as its first and last.
const HTTP_BEFORE: &str = "error_log logs/error.log notice; pid logs/nginx.pid; worker_processes 1; \
    events { worker_connections 128; } http { access_log logs/access.log; ";
const HTTP_AFTER: &str = "}\n";

/// How often a case is tried if another program has taken a port.
const ATTEMPTS: usize = 3;

impl Case {
    /// Returns why the case does not apply to a program on this machine, if it does not.
    pub fn skipped(&self, binary: &Binary) -> Option<String> {
        let oracle_skip = self.oracle_skip.as_ref().filter(|_| binary.kind == Kind::Nginx);
        oracle_skip.cloned().or_else(|| self.needs.iter().find_map(|need| binary.lacks(need)))
    }
}

/// Runs a case on a program.
pub fn run(case: &Case, binary: &Binary) -> Result<CaseOutcome, Failure> {
    let alone = || attempt(case, binary, false).map(|(outcome, _)| outcome);
    if !case.needs.iter().any(|n| n == "namespace") || !namespace::is_permitted() {
        return alone();
    }
    namespace::within(alone).unwrap_or_else(|e| Err(fail(case, Fault::new(1, e), String::new())))
}

/// Runs a case and replaces expected by seen lines in the case file. Returns true if it changed.
pub fn bless(case: &Case, binary: &Binary) -> Result<bool, Failure> {
    let (_, mut edits) = attempt(case, binary, true)?;
    if edits.is_empty() {
        return Ok(false);
    }
    let failure = |what: String| fail(case, Fault::new(1, what), String::new());
    let text = std::fs::read_to_string(&case.path).map_err(|e| failure(e.to_string()))?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    edits.sort_by_key(|edit| std::cmp::Reverse(edit.line));
    edits.dedup_by_key(|edit| edit.line);
    for edit in edits {
        let from = (edit.line - 1).min(lines.len());
        let to = (from + edit.count).min(lines.len());
        lines.splice(from..to, edit.with);
    }
    std::fs::write(&case.path, lines.join("\n") + "\n").map_err(|e| failure(e.to_string()))?;
    Ok(true)
}

fn attempt(case: &Case, binary: &Binary, blessing: bool) -> Result<(CaseOutcome, Vec<Edit>), Failure> {
    if let Some(reason) = case.skipped(binary) {
        return Ok((CaseOutcome::Skipped(reason), Vec::new()));
    }
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let state = CaseState::new(&case.text, blessing);
        let state = Arc::new(state.map_err(|e| fail(case, Fault::new(1, e), String::new()))?);
        let mut run = CaseRun::new(case, binary, Arc::clone(&state));
        match run.all() {
            Ok(()) => return Ok((CaseOutcome::Passed, state.edits())),
            Err(fault) => {
                let evidence = state.dir.evidence();
                let taken =
                    evidence.contains("Address already in use") && fault.what.starts_with("it did not start");
                last = Some(fail(case, fault, evidence));
                if !taken {
                    break;
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| fail(case, Fault::new(1, "never ran"), String::new())))
}

fn fail(case: &Case, fault: Fault, evidence: String) -> Failure {
    Failure {
        file: case.path.clone(),
        line: fault.line,
        what: fault.what,
        difference: fault.difference,
        evidence,
    }
}

/// One attempt at a case.
struct CaseRun<'a> {
    case: &'a Case,
    binary: &'a Binary,
    state: Arc<CaseState>,
    server: Option<Server>,
    clients: BTreeMap<String, Client>,
    origins: Vec<Origin>,
    names: Vec<JoinHandle<()>>,
    /// Logs that a section compares, and whether the program was run to its end.
    spoken: BTreeSet<String>,
    ran: bool,
    /// The main configuration file, below the prefix.
    conf: String,
}

impl<'a> CaseRun<'a> {
    fn new(case: &'a Case, binary: &'a Binary, state: Arc<CaseState>) -> CaseRun<'a> {
        let (clients, origins, spoken) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        let conf = "conf/nginx.conf".to_owned();
        CaseRun {
            case,
            binary,
            state,
            server: None,
            clients,
            origins,
            names: Vec::new(),
            spoken,
            ran: false,
            conf,
        }
    }

    fn applies(&self, step: &Step) -> bool {
        step.only.is_none_or(|kind| kind == self.binary.kind)
    }

    fn all(&mut self) -> Result<(), Fault> {
        let result = self.steps().and_then(|()| self.close());
        self.state.end();
        self.clients.clear();
        self.server = None;
        let mut result = match self.state.fault() {
            Some(fault) => Err(fault),
            None => result,
        };
        for thread in std::mem::take(&mut self.names) {
            // It noted its faults on the state; a panic shows on stderr.
            let _ = thread.join();
        }
        for origin in std::mem::take(&mut self.origins) {
            let finished = origin.finish(&self.state);
            result = result.and(finished);
        }
        result = result.and(self.state.fault().map_or(Ok(()), Err));
        result.and_then(|()| self.logs())
    }

    fn steps(&mut self) -> Result<(), Fault> {
        for step in self.case.steps.iter().filter(|s| s.only.is_none_or(|k| k == self.binary.kind)) {
            self.step(step)?;
            if let Some(fault) = self.state.fault() {
                return Err(fault);
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), Fault> {
        let line = step.line;
        let fault = |e: String| Fault::new(line, e);
        match &step.action {
            Action::Origin { name, unix, repeat, scripts } => {
                let part = Part {
                    name: name.clone(),
                    line,
                    unix: unix.clone(),
                    repeat: *repeat,
                    scripts: scripts.clone(),
                };
                self.origins.push(Origin::start(&self.state, part)?);
            }
            Action::Start { daemon } => self.start(line, *daemon)?,
            Action::Main { path } => self.conf.clone_from(path),
            Action::Client { name, how, until, script } => {
                self.started(line)?;
                let state = &self.state;
                let client = match self.clients.remove(name) {
                    Some(client) => client.run(state, script)?,
                    None if *until => Client::until(state, how, line, script)?,
                    None => Client::connect(state, how, line)?.run(state, script)?,
                };
                self.clients.extend(client.map(|client| (name.clone(), client)));
            }
            Action::Names { port, names } => {
                self.names.push(names::start(&self.state, port, names.clone(), line)?);
            }
            Action::Gone { port } => {
                let number = self.state.dir.port(port).map_err(fault)?;
                until(Instant::now() + PATIENCE, || (!has_listener(number)).then_some(()))
                    .ok_or_else(|| fault(format!("port {port} is still listened on")))?;
            }
            Action::Signal { name, worker } => self.started(line)?.signal(name, *worker).map_err(fault)?,
            Action::Reload => self.reload(line)?,
            Action::Wait { path, text } => {
                self.started(line)?;
                logs::wait(&self.state, line, path, text)?;
            }
            Action::Count { origin, connections } => {
                // The last ones may be on their way: a copy of a request goes beside its answer.
                let have_come = || (self.state.connections(origin) >= *connections).then_some(());
                let _ = until(Instant::now() + PATIENCE, have_come);
                let came = self.state.connections(origin);
                if came != *connections {
                    return Err(fault(format!(
                        "{connections} connections to {origin} expected, {came} came"
                    )));
                }
            }
            Action::Exit { code } => {
                let seen =
                    self.started(line)?.wait().ok_or_else(|| fault("the server did not exit".to_owned()))?;
                self.server = None;
                if seen != *code {
                    return Err(fault(format!("exit code {code} expected, {seen} seen")));
                }
            }
            Action::Run { args, text } => self.run_binary(line, args, text)?,
            Action::Refused { text } => self.refused(line, text)?,
            Action::Log { path, .. } => {
                self.spoken.insert(path.clone());
            }
            _ => self.change_files(&step.action).map_err(fault)?,
        }
        Ok(())
    }

    fn change_files(&self, action: &Action) -> Result<(), String> {
        let state = &self.state;
        let show = |e: std::io::Error| e.to_string();
        match action {
            Action::Write { path, text, style, mode } => {
                state.dir.write(path, &self.content(text, *style)?, *mode)
            }
            Action::Fill { path, bytes } => state.dir.write(path, &filler(*bytes), 0o644),
            Action::Symlink { path, target } => {
                let full = state.dir.path(path)?;
                std::os::unix::fs::symlink(state.dir.fill_in(target), full).map_err(show)
            }
            Action::Directory { path } => state.dir.directory(path).map(|_| ()),
            Action::Rename { from, to } => {
                std::fs::rename(state.dir.path(from)?, state.dir.path(to)?).map_err(show)
            }
            Action::Certificate(certificate) => {
                let (chain, key) = certificate.make(&state.dir.path("conf")?)?;
                state.dir.write(&format!("conf/{}.crt", certificate.name), chain.as_bytes(), 0o644)?;
                state.dir.write(&format!("conf/{}.key", certificate.name), key.as_bytes(), 0o644)
            }
            Action::Revocations { path, issuer, serials } => {
                let list = tls::revocations(&state.dir.path("conf")?, issuer, serials)?;
                state.dir.write(path, list.as_bytes(), 0o644)
            }
            Action::Remove { path } => std::fs::remove_file(state.dir.path(path)?).map_err(show),
            _ => Ok(()),
        }
    }

    fn content(&self, text: &Text, style: Style) -> Result<Vec<u8>, String> {
        let lines = self.state.dir.fill_in_lines(&text.lines);
        Ok(match style {
            Style::Escaped => payload(&lines, LineEnd::Lf)?,
            Style::Verbatim => (lines.join("\n") + "\n").into_bytes(),
            Style::Http => format!("{HTTP_BEFORE}{}\n{HTTP_AFTER}", lines.join("\n")).into_bytes(),
        })
    }

    fn setup(&self, daemon: bool) -> Setup<'_> {
        Setup { binary: self.binary, dir: &self.state.dir, needs: &self.case.needs, conf: &self.conf, daemon }
    }

    fn start(&mut self, line: usize, daemon: bool) -> Result<(), Fault> {
        let server = Server::start(self.setup(daemon));
        self.server = Some(server.map_err(|e| Fault::new(line, e))?);
        Ok(())
    }

    /// Returns the running server, and starts it if necessary.
    fn started(&mut self, line: usize) -> Result<&mut Server, Fault> {
        if self.server.is_none() {
            self.start(line, false)?;
        }
        self.server.as_mut().ok_or_else(|| Fault::new(line, "the server is not running"))
    }

    fn reload(&mut self, line: usize) -> Result<(), Fault> {
        let before = logs::reloads_done(&self.state);
        self.started(line)?.signal("HUP", false).map_err(|e| Fault::new(line, e))?;
        let state = &self.state;
        let done = until(Instant::now() + PATIENCE, || (logs::reloads_done(state) > before).then_some(()));
        done.ok_or_else(|| Fault::new(line, "logs/error.log has no end of the reload"))
    }

    fn run_binary(&mut self, line: usize, args: &[String], text: &Text) -> Result<(), Fault> {
        self.ran = true;
        let mut command = command(self.setup(false));
        command.args(args.iter().map(|a| self.state.dir.fill_in(a)));
        let (code, out, err) = run_to_end(command, &self.state.dir).map_err(|e| Fault::new(line, e))?;
        let mut seen = vec![format!("exit {code}")];
        seen.extend(out.lines().map(|l| format!("1> {l}")));
        seen.extend(err.lines().map(|l| format!("2> {l}")));
        self.compare_output(line, text, &seen)
    }

    fn refused(&mut self, line: usize, text: &Text) -> Result<(), Fault> {
        self.ran = true;
        let command = command(self.setup(false));
        let (code, _, err) = run_to_end(command, &self.state.dir).map_err(|e| Fault::new(line, e))?;
        let seen: Vec<String> = err.lines().map(str::to_owned).collect();
        if code != 1 {
            let seen = difference(&text.lines, &seen, |i, j| text.lines[i] == seen[j]);
            return Err(Fault::new(line, format!("exit code 1 expected, {code} seen")).with(seen));
        }
        self.compare_output(line, text, &seen)
    }

    /// Compares the output of a run. Ours may have more lines than nginx's, but must have those, in their order.
    fn compare_output(&self, line: usize, text: &Text, seen: &[String]) -> Result<(), Fault> {
        let patterns: Result<Vec<_>, _> =
            text.lines.iter().map(|l| Pattern::verbatim(&self.state.dir.fill_in(l))).collect();
        let patterns = patterns.map_err(|e| Fault::new(line, e))?;
        let good = match self.binary.kind {
            Kind::Nginx => lines_match(&patterns, &seen.iter().map(|l| l.as_bytes()).collect::<Vec<_>>()),
            Kind::Pointsman => {
                let named: Vec<_> = patterns.iter().filter(|p| !p.is_anything()).cloned().collect();
                logs::has_in_order(&named, &seen.iter().map(String::as_str).collect::<Vec<_>>())
            }
        };
        if good {
            return Ok(());
        }
        let shown: Vec<String> = seen.iter().map(|l| without_program_name(&self.state, l)).collect();
        let agrees = |i: usize, j: usize| patterns[i].matches(seen[j].as_bytes());
        let fault = Fault::new(line, "the program did not say what was expected").with(difference(
            &text.lines,
            &shown,
            agrees,
        ));
        self.state.settle(|| logs::bless(text, &shown, agrees), fault)
    }

    /// Returns the graceful end: no unexpected bytes, then QUIT and exit code 0.
    fn close(&mut self) -> Result<(), Fault> {
        let last = self.case.steps.last().map_or(1, |s| s.line);
        for (_, client) in std::mem::take(&mut self.clients) {
            client.finish()?;
        }
        let Some(server) = self.server.take() else { return Ok(()) };
        server.signal("QUIT", false).map_err(|e| Fault::new(last, e))?;
        match server.wait() {
            Some(0) => Ok(()),
            Some(code) => Err(Fault::new(last, format!("exit code {code} after QUIT"))),
            None => Err(Fault::new(last, "the server did not exit after QUIT")),
        }
    }

    fn logs(&self) -> Result<(), Fault> {
        for step in self.case.steps.iter().filter(|s| self.applies(s)) {
            if let Action::Log { path, text, scope } = &step.action {
                logs::check(&self.state, step.line, path, text, *scope)?;
            }
        }
        if self.ran || self.spoken.contains("logs/error.log") || !Path::new(&self.state.dir.prefix()).exists()
        {
            return Ok(());
        }
        logs::check_quiet(&self.state, self.case.steps.last().map_or(1, |s| s.line), "logs/error.log")
    }
}

/// Returns a line that a run printed, with the program's own name elided where it opens the line.
fn without_program_name(state: &CaseState, line: &str) -> String {
    let text = logs::shown(state, line);
    match text.split_once("nginx: ") {
        Some((before @ ("" | "2> "), after)) => format!("{before}<program>: {after}"),
        _ => text,
    }
}
