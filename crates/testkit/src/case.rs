//! A case file as a value: its head and its steps, in the order in which they happen.
//!
//! Owns the words of the format (`cases/README.md` explains them). It must never start or open anything.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::tls::{Certificate, TlsClient};

/// The program that a case runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Our own binary.
    Pointsman,
    /// Real nginx, the oracle.
    Nginx,
}

/// One end-to-end case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Path below `cases/` without the extension, such as `routing/prefix`.
    pub name: String,
    /// The file it came from.
    pub path: PathBuf,
    /// The whole text of the file.
    pub(crate) text: String,
    /// The statement of the case: the text before its first section.
    pub about: String,
    /// Its requirements of the machine: `lua`, `ipv6`, `root`, `namespace`.
    pub needs: Vec<String>,
    /// Why real nginx cannot run it.
    pub oracle_skip: Option<String>,
    /// Why pointsman answers otherwise than nginx, where sections are marked `[nginx]` or `[pointsman]`.
    pub differs: Option<String>,
    /// The steps in their order.
    pub steps: Vec<Step>,
}

/// One section of a case file.
#[derive(Clone, Debug)]
pub struct Step {
    /// Line of the section's heading, from 1.
    pub line: usize,
    /// The program this step is for, if not for both.
    pub only: Option<Kind>,
    /// The action.
    pub(crate) action: Action,
}

/// Lines of text and their place in the case file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    /// Line number of the first one, from 1.
    pub(crate) line: usize,
    pub(crate) lines: Vec<String>,
}

/// The action of a section.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Write { path: String, text: Text, style: Style, mode: u32 },
    Fill { path: String, bytes: usize },
    Symlink { path: String, target: String },
    Directory { path: String },
    Rename { from: String, to: String },
    Remove { path: String },
    Origin { name: String, unix: Option<String>, repeat: bool, scripts: Vec<Vec<Line>> },
    Start { daemon: bool },
    Main { path: String },
    Client { name: String, how: Dial, until: bool, script: Vec<Line> },
    Certificate(Certificate),
    Revocations { path: String, issuer: String, serials: Vec<u64> },
    Names { port: String, names: Names },
    Gone { port: String },
    Signal { name: String, worker: bool },
    Reload,
    Wait { path: String, text: Text },
    Count { origin: String, connections: usize },
    Exit { code: i32 },
    Run { args: Vec<String>, text: Text },
    Refused { text: Text },
    Log { path: String, text: Text, scope: LogScope },
}

/// How the text of a file is interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Without interpretation.
    Verbatim,
    /// The inside of an `http {}` block, the rest of a configuration put around it.
    Http,
    /// With escapes and `<fill:N>`.
    Escaped,
}

/// The address that a client connects to.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Port(String),
    Literal(String),
    Unix(String),
}

/// How a client connects.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub(crate) to: Address,
    pub(crate) from: Option<String>,
    /// The client that a header of the PROXY protocol names, before anything else.
    pub(crate) behind: Option<String>,
    pub(crate) tls: Option<TlsClient>,
}

/// The lines of a log that a section compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogScope {
    /// Every entry from `warn` up, and every line that is no error-log entry.
    Warnings,
    /// Every line.
    All,
    /// These lines in this order, among others.
    Has,
}

/// One thing that happens on a connection.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Line number in the case file, from 1.
    pub(crate) line: usize,
    pub(crate) talk: Talk,
}

/// An event on a connection, as the client sees it: up to the server, down from it.
#[derive(Clone, Debug)]
pub(crate) enum Talk {
    /// `>` lines.
    Up(Vec<String>),
    /// `<` lines.
    Down(Vec<String>),
    /// `<<` lines: byte for byte.
    DownRaw(Vec<String>),
    /// `!` lines: a verb and its arguments.
    Act(Vec<String>),
}

/// An answer of a case's name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NameAnswer {
    /// These addresses, in this order.
    Addresses(Vec<Ipv4Addr>),
    /// There is no such name.
    NoSuchName,
    /// No reply is sent.
    Silence,
}

/// The names that a name server knows, in lower case.
pub(crate) type Names = BTreeMap<String, NameAnswer>;
