//! The tables: text files with families of hostile messages and their expected results.

use std::path::Path;

use crate::pattern::{LineEnd, payload};

use super::exchange::End;

/// A family of messages: one file.
#[derive(Clone, Debug)]
pub struct Family {
    /// Its title: the file's first line.
    pub title: String,
    /// Its description: the rest of the text before the first message.
    pub about: String,
    /// Its messages.
    pub members: Vec<Hostile>,
}

/// One message, or a few that belong together.
#[derive(Clone, Debug)]
pub struct Hostile {
    /// The file's name without its ending, and the message's name.
    pub name: String,
    /// Its sources: sections of RFCs, numbers of vulnerabilities.
    pub source: String,
    /// The client's bytes.
    pub client: Vec<u8>,
    /// The origin's answer to the first request; without it each request is answered with an echo.
    pub answer: Option<Vec<u8>>,
    /// The origin closes the connection after that answer.
    pub closes: bool,
    /// Directives of nginx.conf for its server.
    pub conf: Vec<String>,
    /// The expected result.
    pub expected: Expected,
}

/// The expected result of a hostile message.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The answers that the client gets, in order.
    pub answers: Vec<ExpectedAnswer>,
    /// The end of the client's connection.
    pub end: End,
    /// The requests that reach the origin, in order: method, target, body.
    pub requests: Vec<(String, String, Vec<u8>)>,
    /// The number of connections to the origin, including the probe's.
    pub connections: Option<usize>,
    /// Fields that the first request has at the origin.
    pub has: Vec<(String, Vec<u8>)>,
    /// Fields, in lower case, that the first request must not have at the origin.
    pub lacks: Vec<String>,
    /// The bytes at the origin after `101`.
    pub tunnel: Option<Vec<u8>>,
    /// Why the strict reader understands the client's bytes otherwise.
    pub reader_differs: Option<String>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedAnswer {
    /// Its status.
    pub status: u16,
    /// Its body, if that is said.
    pub body: Option<Vec<u8>>,
}

/// Loads all tables below a folder, in the order of their names.
///
/// # Errors
/// Those of files that cannot be read, with file and line.
pub fn load(folder: &Path) -> Result<Vec<Family>, String> {
    let show = |e: std::io::Error| format!("{}: {e}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(show)?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "hostile"));
    files.sort();
    files.iter().map(|path| family(path)).collect()
}

fn family(path: &Path) -> Result<Family, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut prose = Vec::new();
    let mut drafts: Vec<Draft> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let fault = |why: String| format!("{}:{}: {why}", path.display(), number + 1);
        if let Some(name) = line.strip_prefix("=== ") {
            drafts.push(Draft {
                name: format!("{stem}/{}", name.trim().replace(' ', "-")),
                ..Draft::default()
            });
        } else if let Some(draft) = drafts.last_mut() {
            draft.line(line).map_err(fault)?;
        } else {
            prose.push(line);
        }
    }
    let members = drafts
        .into_iter()
        .map(|draft| {
            let name = draft.name.clone();
            draft.finish().map_err(|why| format!("{}: {name}: {why}", path.display()))
        })
        .collect::<Result<_, _>>()?;
    let title = prose.first().copied().unwrap_or_default().to_owned();
    let about = prose.get(1..).unwrap_or_default().join("\n").trim().to_owned();
    Ok(Family { title, about, members })
}

#[derive(Default)]
struct Draft {
    name: String,
    source: String,
    up: Vec<String>,
    down: Vec<String>,
    closes: bool,
    conf: Vec<String>,
    answers: Option<(Vec<ExpectedAnswer>, End)>,
    requests: Vec<(String, String, Vec<u8>)>,
    connections: Option<usize>,
    has: Vec<(String, Vec<u8>)>,
    lacks: Vec<String>,
    tunnel: Option<Vec<u8>>,
    reader_differs: Option<String>,
}

impl Draft {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let marked = |mark: char| line.strip_prefix(mark).map(|rest| rest.strip_prefix(' ').unwrap_or(rest));
        if let Some(text) = marked('>') {
            self.up.push(text.to_owned());
            return Ok(());
        }
        if let Some(text) = marked('<') {
            self.down.push(text.to_owned());
            return Ok(());
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" | "#" => {}
            "from" => self.source = rest.to_owned(),
            "conf" => self.conf.push(rest.to_owned()),
            "answers" => self.answers = Some(answers(rest)?),
            "origin" => self.requests.push(seen(rest)?),
            "connections" => {
                self.connections = Some(rest.parse().map_err(|_| format!("\"{rest}\" is no number"))?);
            }
            "has" => {
                let (name, value) = rest.split_once(": ").ok_or("no field")?;
                self.has.push((name.to_ascii_lowercase(), bytes(value)?));
            }
            "lacks" => self.lacks.push(rest.to_ascii_lowercase()),
            "tunnel" => self.tunnel = Some(quoted(rest)?),
            "closes" => self.closes = true,
            "reader" => {
                let why = rest.strip_prefix("differs: ").ok_or("\"reader differs: REASON\" is meant")?;
                self.reader_differs = Some(why.to_owned());
            }
            _ => return Err(format!("\"{word}\" is no word of a hostile table")),
        }
        Ok(())
    }

    fn finish(self) -> Result<Hostile, String> {
        let (answers, end) = self.answers.ok_or("no answers are expected")?;
        if self.source.is_empty() {
            return Err("it does not say where it is known from".to_owned());
        }
        let answer = if self.down.is_empty() { None } else { Some(payload(&self.down, LineEnd::Crlf)?) };
        Ok(Hostile {
            name: self.name,
            source: self.source,
            client: payload(&self.up, LineEnd::Crlf)?,
            answer,
            closes: self.closes,
            conf: self.conf,
            expected: Expected {
                answers,
                end,
                requests: self.requests,
                connections: self.connections,
                has: self.has,
                lacks: self.lacks,
                tunnel: self.tunnel,
                reader_differs: self.reader_differs,
            },
        })
    }
}

/// `200 "body" 400 closed`.
fn answers(mut text: &str) -> Result<(Vec<ExpectedAnswer>, End), String> {
    let mut found: Vec<ExpectedAnswer> = Vec::new();
    loop {
        text = text.trim_start();
        if text.starts_with('"') {
            let close = text[1..].find('"').ok_or("a quote is open")? + 2;
            let body = quoted(&text[..close])?;
            found.last_mut().ok_or("a body before a status")?.body = Some(body);
            text = &text[close..];
            continue;
        }
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        if let Ok(status) = word.parse() {
            found.push(ExpectedAnswer { status, body: None });
            text = rest;
            continue;
        }
        let end = match word {
            "open" => End::Open,
            "closed" => End::Closed,
            "cut" => End::Cut,
            "waits" => End::Waits,
            "tunnel" => End::Tunnel,
            _ => return Err(format!("\"{word}\" is no end of a connection")),
        };
        return if rest.is_empty() { Ok((found, end)) } else { Err(format!("\"{rest}\" behind the end")) };
    }
}

/// `POST /a "body"`.
fn seen(text: &str) -> Result<(String, String, Vec<u8>), String> {
    let (method, rest) = text.split_once(' ').ok_or("a method and a target are meant")?;
    let (target, body) = rest.split_once(' ').unwrap_or((rest, ""));
    let body = if body.is_empty() { Vec::new() } else { quoted(body)? };
    Ok((method.to_owned(), target.to_owned(), body))
}

fn quoted(text: &str) -> Result<Vec<u8>, String> {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    bytes(inner.ok_or_else(|| format!("{text} is not in quotes"))?)
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    payload(&[format!("{text}\\")], LineEnd::Crlf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read() {
        let folder = std::env::temp_dir().join(format!("hostile-table-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let text = "Title\n\nAbout.\n\n=== two words\nfrom RFC 9112 §6.3\n> GET / HTTP/1.1\n>\n> a\\x00\\\n< x\\\ncloses\nanswers 200 \"a b\" 400 closed\norigin GET / \"b\"\nhas Name: v\n";
        std::fs::write(folder.join("f.hostile"), text).unwrap();
        let families = load(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!((families[0].title.as_str(), families[0].about.as_str()), ("Title", "About."));
        let found = &families[0].members[0];
        assert_eq!((found.name.as_str(), found.source.as_str()), ("f/two-words", "RFC 9112 §6.3"));
        assert_eq!(found.client, b"GET / HTTP/1.1\r\n\r\na\0");
        assert_eq!((found.answer.as_deref(), found.closes), (Some(&b"x"[..]), true));
        assert_eq!(found.expected.answers[0].body.as_deref(), Some(&b"a b"[..]));
        assert_eq!((found.expected.answers[1].status, found.expected.end), (400, End::Closed));
        assert_eq!(found.expected.requests, [("GET".to_owned(), "/".to_owned(), b"b".to_vec())]);
        assert_eq!(found.expected.has, [("name".to_owned(), b"v".to_vec())]);
    }

    #[test]
    fn faults_in_a_table_are_reported() {
        for text in ["200", "200 \"x", "\"x\" open", "200 open more", "perhaps"] {
            assert!(answers(text).is_err(), "{text}");
        }
        let mut draft = Draft::default();
        assert!(draft.line("nonsense here").is_err());
        assert!(draft.finish().is_err());
    }
}
