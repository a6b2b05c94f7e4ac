//! From the text of a case file to a [`Case`].
//!
//! Owns the grammar of sections and of the `>`, `<`, `<<` and `!` lines. Placeholders such as `{port:front}` are filled in
//! when the case runs.

use std::path::{Path, PathBuf};

use crate::case::{Action, Address, Case, Dial, Kind, Line, LogScope, Step, Style, Talk, Text};
use crate::names;
use crate::tls::{Certificate, TlsClient};

/// One `===` heading with the lines below it.
struct Section<'a> {
    line: usize,
    words: Vec<&'a str>,
    /// Everything after the first word.
    rest: &'a str,
    only: Option<Kind>,
    text: Text,
}

impl Case {
    /// Reads a case file; its name is the path below the nearest folder called `cases`.
    pub fn load(path: &Path) -> Result<Case, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut case = parse(&text).map_err(|e| format!("{}:{e}", path.display()))?;
        case.path = path.to_owned();
        case.name = name_of(path);
        Ok(case)
    }
}

fn name_of(path: &Path) -> String {
    let parts: Vec<_> = path.with_extension("").iter().map(|p| p.to_string_lossy().into_owned()).collect();
    let from = parts.iter().rposition(|p| p == "cases").map_or(parts.len().saturating_sub(1), |at| at + 1);
    parts[from..].join("/")
}

/// Parses a case; an error is `LINE: what is wrong`.
pub(crate) fn parse(text: &str) -> Result<Case, String> {
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.iter().position(|l| l.starts_with("===")).unwrap_or(lines.len());
    let about = lines[..first].join("\n").trim().to_owned();
    if about.is_empty() {
        return Err("1: a case opens with a sentence that says what it states".to_owned());
    }
    let mut case = Case {
        name: String::new(),
        path: PathBuf::new(),
        text: text.to_owned(),
        about,
        needs: Vec::new(),
        oracle_skip: None,
        differs: None,
        steps: Vec::new(),
    };
    for section in sections(&lines, first)? {
        let at = section.line;
        read_section(&mut case, section).map_err(|e| format!("{at}: {e}"))?;
    }
    if case.differs.is_none()
        && let Some(step) = case.steps.iter().find(|s| s.only.is_some())
    {
        return Err(format!("{}: a section for one program alone needs `=== differs: REASON`", step.line));
    }
    Ok(case)
}

fn sections<'a>(lines: &[&'a str], first: usize) -> Result<Vec<Section<'a>>, String> {
    let mut out: Vec<Section<'a>> = Vec::new();
    for (at, line) in lines.iter().enumerate().skip(first) {
        if let Some(heading) = line.strip_prefix("===") {
            let (heading, only) = marked_for(heading.trim());
            let rest = heading.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim());
            let words: Vec<_> = heading.split_whitespace().collect();
            if words.is_empty() {
                return Err(format!("{}: a section without a name", at + 1));
            }
            out.push(Section {
                line: at + 1,
                words,
                rest,
                only,
                text: Text { line: at + 2, lines: Vec::new() },
            });
        } else if let Some(section) = out.last_mut() {
            section.text.lines.push((*line).to_owned());
        }
    }
    for section in &mut out {
        while section.text.lines.last().is_some_and(|l| l.trim().is_empty()) {
            section.text.lines.pop();
        }
    }
    Ok(out)
}

fn marked_for(heading: &str) -> (&str, Option<Kind>) {
    for (mark, kind) in [("[nginx]", Kind::Nginx), ("[pointsman]", Kind::Pointsman)] {
        if let Some(rest) = heading.strip_suffix(mark) {
            return (rest.trim(), Some(kind));
        }
    }
    (heading, None)
}

fn read_section(case: &mut Case, section: Section<'_>) -> Result<(), String> {
    match section.words[0] {
        "needs" => case.needs.extend(section.words[1..].iter().map(|w| (*w).to_owned())),
        "oracle" => {
            let reason = section.rest.strip_prefix("skip:").map(str::trim).unwrap_or_default();
            case.oracle_skip = Some(reason_of(reason, "oracle skip")?);
        }
        "differs:" => case.differs = Some(reason_of(section.rest, "differs")?),
        _ => {
            let (line, only) = (section.line, section.only);
            let action = action_of(section)?;
            case.steps.push(Step { line, only, action });
        }
    }
    Ok(())
}

fn reason_of(text: &str, what: &str) -> Result<String, String> {
    if text.is_empty() { Err(format!("`=== {what}: REASON` without a reason")) } else { Ok(text.to_owned()) }
}

fn action_of(section: Section<'_>) -> Result<Action, String> {
    let mut args = Args { words: section.words[1..].to_vec() };
    let action = match section.words[0] {
        "conf" => {
            let path = args.positional().unwrap_or("conf/nginx.conf").to_owned();
            Action::Write { path, text: section.text, style: Style::Verbatim, mode: 0o644 }
        }
        "http" => {
            let path = "conf/nginx.conf".to_owned();
            Action::Write { path, text: section.text, style: Style::Http, mode: 0o644 }
        }
        "file" | "bytes" => Action::Write {
            style: if section.words[0] == "file" { Style::Verbatim } else { Style::Escaped },
            mode: u32::from_str_radix(args.option("mode").unwrap_or("644"), 8).map_err(|e| e.to_string())?,
            path: args.required("PATH")?,
            text: section.text,
        },
        "fill" => Action::Fill { path: args.required("PATH")?, bytes: args.number("BYTES")? },
        "symlink" => Action::Symlink { path: args.required("PATH")?, target: args.required("TARGET")? },
        "directory" => Action::Directory { path: args.required("PATH")? },
        "rename" => Action::Rename { from: args.required("FROM")?, to: args.required("TO")? },
        "remove" => Action::Remove { path: args.required("PATH")? },
        "origin" => Action::Origin {
            unix: args.option("unix").map(str::to_owned),
            repeat: args.flag("repeat"),
            name: args.required("NAME")?,
            scripts: scripts(&section.text)?,
        },
        "main" => Action::Main { path: args.required("PATH")? },
        "start" => Action::Start { daemon: args.flag("daemon") },
        "client" => Action::Client {
            how: Dial {
                to: address(&mut args),
                from: args.option("from").map(str::to_owned),
                behind: args.option("behind").map(str::to_owned),
                tls: tls(&mut args),
            },
            until: args.flag("until"),
            name: args.positional().unwrap_or("client").to_owned(),
            script: script(&section.text)?,
        },
        "certificate" => Action::Certificate(certificate(&mut args)?),
        "revoked" => Action::Revocations {
            path: args.required("PATH")?,
            issuer: args.required("ISSUER")?,
            serials: numbers(&std::mem::take(&mut args.words))?,
        },
        "names" => Action::Names { port: args.required("PORT")?, names: names::parse(&section.text.lines)? },
        "gone" => Action::Gone { port: args.required("PORT")? },
        "signal" => Action::Signal { worker: args.flag("worker"), name: args.required("NAME")? },
        "reload" => Action::Reload,
        "wait" => Action::Wait { path: args.required("PATH")?, text: section.text },
        "count" => {
            Action::Count { origin: args.required("ORIGIN")?, connections: args.number("CONNECTIONS")? }
        }
        "exit" => Action::Exit { code: i32::try_from(args.number("CODE")?).map_err(|e| e.to_string())? },
        "run" => Action::Run {
            args: std::mem::take(&mut args.words).into_iter().map(str::to_owned).collect(),
            text: section.text,
        },
        "refused" => Action::Refused { text: section.text },
        "log" => Action::Log {
            scope: match (args.flag("all"), args.flag("has")) {
                (true, _) => LogScope::All,
                (false, true) => LogScope::Has,
                (false, false) => LogScope::Warnings,
            },
            path: args.required("PATH")?,
            text: section.text,
        },
        other => return Err(format!("no section is called \"{other}\"")),
    };
    match args.words.first() {
        Some(word) => Err(format!("what is \"{word}\"?")),
        None => Ok(action),
    }
}

fn address(args: &mut Args<'_>) -> Address {
    if let Some(path) = args.option("unix") {
        Address::Unix(path.to_owned())
    } else if let Some(address) = args.option("to") {
        Address::Literal(address.to_owned())
    } else {
        Address::Port(args.option("port").unwrap_or("front").to_owned())
    }
}

/// Returns how the client speaks TLS; `None` in clear.
fn tls(args: &mut Args<'_>) -> Option<TlsClient> {
    let name = args.option("tls").map(str::to_owned);
    let is_wanted = name.is_some() || args.flag("tls");
    is_wanted.then(|| TlsClient {
        name,
        certificate: args.option("cert").map(str::to_owned),
        only_tls12: args.flag("tls12"),
        suite: args.option("suite").map(str::to_owned),
        resumes: args.flag("resumes"),
        alpn: args.option("alpn").map(str::to_owned),
    })
}

fn certificate(args: &mut Args<'_>) -> Result<Certificate, String> {
    let list = args.option("for").map(|list| list.split(',').map(str::to_owned).collect());
    let days = args.option("days").map_or(Ok(100), |days| days.parse().map_err(|_| "days= is no number"))?;
    let serial =
        args.option("serial").map_or(Ok(7), |serial| serial.parse().map_err(|_| "serial= is no number"))?;
    let (issuer, is_ca) = (args.option("by").map(str::to_owned), args.flag("ca"));
    let rsa = args.flag("rsa");
    let name = args.required("NAME")?;
    let names = list.unwrap_or_else(|| vec![name.clone()]);
    Ok(Certificate { name, names, issuer, is_ca, rsa, days, serial })
}

fn numbers(words: &[&str]) -> Result<Vec<u64>, String> {
    words.iter().map(|word| word.parse().map_err(|_| format!("{word} is not a number"))).collect()
}

/// The words of a heading, taken away as they are understood.
struct Args<'a> {
    words: Vec<&'a str>,
}

impl<'a> Args<'a> {
    fn option(&mut self, name: &str) -> Option<&'a str> {
        let at = self.words.iter().position(|w| w.split_once('=').is_some_and(|(n, _)| n == name))?;
        self.words.remove(at).split_once('=').map(|(_, value)| value)
    }

    fn flag(&mut self, name: &str) -> bool {
        let at = self.words.iter().position(|w| *w == name);
        at.map(|at| self.words.remove(at)).is_some()
    }

    fn positional(&mut self) -> Option<&'a str> {
        if self.words.is_empty() { None } else { Some(self.words.remove(0)) }
    }

    fn required(&mut self, what: &str) -> Result<String, String> {
        self.positional().map(str::to_owned).ok_or_else(|| format!("{what} is missing"))
    }

    fn number(&mut self, what: &str) -> Result<usize, String> {
        self.required(what)?.parse().map_err(|_| format!("{what} is not a number"))
    }
}

/// Returns the scripts of an origin, one per connection, parted by `! next`.
fn scripts(text: &Text) -> Result<Vec<Vec<Line>>, String> {
    let mut out = vec![Vec::new()];
    for line in script(text)? {
        match &line.talk {
            Talk::Act(words) if words == &["next"] => out.push(Vec::new()),
            _ => {
                if let Some(last) = out.last_mut() {
                    last.push(line);
                }
            }
        }
    }
    Ok(out)
}

/// Reads what happens on one connection. Neighbouring lines with the same mark are one message; a blank line parts.
fn script(text: &Text) -> Result<Vec<Line>, String> {
    let mut out: Vec<Line> = Vec::new();
    let mut open = false;
    for (at, line) in text.lines.iter().enumerate() {
        let number = text.line + at;
        if line.trim().is_empty() || line.starts_with('#') {
            open = false;
            continue;
        }
        let (mark, rest) = if let Some(rest) = line.strip_prefix("<<") {
            ("<<", rest)
        } else {
            let mark = ["<", ">", "!"].into_iter().find(|m| line.starts_with(m));
            let mark = mark.ok_or_else(|| format!("line {number} starts with none of > < << ! #"))?;
            (mark, &line[1..])
        };
        let content = rest.strip_prefix(' ').unwrap_or(rest).to_owned();
        let last = if open { out.last_mut().map(|l| &mut l.talk) } else { None };
        match (mark, last) {
            (">", Some(Talk::Up(lines)))
            | ("<", Some(Talk::Down(lines)))
            | ("<<", Some(Talk::DownRaw(lines))) => {
                lines.push(content);
            }
            _ => {
                let talk = match mark {
                    ">" => Talk::Up(vec![content]),
                    "<" => Talk::Down(vec![content]),
                    "<<" => Talk::DownRaw(vec![content]),
                    _ => Talk::Act(content.split_whitespace().map(str::to_owned).collect()),
                };
                out.push(Line { line: number, talk });
            }
        }
        open = true;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_named_by_its_place() {
        assert_eq!(name_of(Path::new("/x/cases/routing/prefix.case")), "routing/prefix");
        assert_eq!(name_of(Path::new("prefix.case")), "prefix");
    }

    #[test]
    fn reads_head_and_steps() {
        let case = parse(
            "It works.\n\n=== needs lua ipv6\n=== differs: ours is better\n=== http\nserver {}\n\n\
             === client a port=back from=127.0.0.2 [nginx]\n> GET / HTTP/1.0\n>\n< HTTP/1.1 200 OK\n! closed\n",
        )
        .unwrap();
        assert_eq!(case.about, "It works.");
        assert_eq!(case.needs, ["lua", "ipv6"]);
        assert_eq!(case.differs.as_deref(), Some("ours is better"));
        assert!(
            matches!(&case.steps[0].action, Action::Write { text, style: Style::Http, .. } if text.lines == ["server {}"])
        );
        let Action::Client { name, how, script, .. } = &case.steps[1].action else { panic!("not a client") };
        assert_eq!((name.as_str(), how.from.as_deref()), ("a", Some("127.0.0.2")));
        assert_eq!(script.len(), 3);
        assert!(matches!(&script[0].talk, Talk::Up(lines) if lines == &["GET / HTTP/1.0", ""]));
        assert_eq!(case.steps[1].only, Some(Kind::Nginx));
    }

    #[test]
    fn blank_lines_part_messages_and_next_parts_connections() {
        let case = parse("Why.\n=== origin o repeat\n> a\n\n> b\n! next\n< c\n").unwrap();
        let Action::Origin { scripts, repeat, .. } = &case.steps[0].action else { panic!("not an origin") };
        assert!(repeat);
        assert_eq!(scripts.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, message) in [
            ("=== http\n", "1: a case opens with"),
            ("Why.\n=== htpp\n", "2: no section is called \"htpp\""),
            ("Why.\n=== differs:\n", "2: `=== differs: REASON` without a reason"),
            ("Why.\n=== http [nginx]\n", "2: a section for one program alone needs"),
            ("Why.\n=== client a b\n", "2: what is \"b\"?"),
            ("Why.\n=== client\nGET /\n", "2: line 3 starts with none of"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
