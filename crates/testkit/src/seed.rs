//! The configurations this project was asked to run, and the transcript of what real nginx answered, as cases.
//!
//! They lie beside a checkout, not in it. Owns the reading of the transcript; the files themselves are run unchanged, on
//! their own ports in a network namespace, or with other ports where none is available.

use std::fmt::Write;
use std::path::Path;

use regex::Regex;

use crate::case::Case;
use crate::namespace;
use crate::parse::parse;

/// The ports that the configurations name.
const PORTS: [&str; 6] = ["80", "8081", "8082", "8083", "8084", "8099"];

/// One request of the transcript and its answer.
struct Exchange {
    command: String,
    answer: Vec<String>,
}

/// One configuration's part of the transcript.
#[derive(Default)]
struct Part {
    exchanges: Vec<Exchange>,
    error_log: Vec<String>,
    access_log: Vec<String>,
}

/// Cases made from the folder with the configurations and TRANSCRIPT.md; none if there is no such folder.
pub fn seed_cases(folder: &Path) -> Result<Vec<Case>, String> {
    let Ok(transcript) = std::fs::read_to_string(folder.join("TRANSCRIPT.md")) else { return Ok(Vec::new()) };
    let fixed = namespace::is_permitted();
    let mut cases = Vec::new();
    for name in ["switch", "merged.fixed"] {
        let part = part_of(&transcript, &format!("{name}.conf"))?;
        let mut text = opening(folder, name, fixed)?;
        for (number, exchange) in part.exchanges.iter().enumerate() {
            tell_exchange(&mut text, number, exchange, fixed)?;
        }
        tell_logs(&mut text, &part);
        cases.push(finish(&text, folder, name)?);
    }
    let mut text = opening(folder, "average.fixed", fixed)?;
    for (number, (path, answer)) in [
        ("/status", "no data yet"),
        ("/", "ok"),
        ("/status", "average upstream response time:  <*> (1 reqs)"),
    ]
    .iter()
    .enumerate()
    {
        let command = format!("curl -i http://127.0.0.1{path}");
        let answer = ["HTTP/1.1 200 OK", "<...>", "", *answer].map(str::to_owned).to_vec();
        tell_exchange(&mut text, number, &Exchange { command, answer }, fixed)?;
    }
    cases.push(finish(&text, folder, "average.fixed")?);
    for (name, said) in REFUSED {
        cases.push(finish(&(opening(folder, name, fixed)? + said), folder, name)?);
    }
    Ok(cases)
}

/// The text about the two that contain mistakes. nginx reports the line on which it finally stumbles and stops there;
/// pointsman names every fault on the line where it is.
const REFUSED: [(&str, &str); 2] = [
    (
        "merged",
        "=== differs: nginx counts on to the line of the next brace
=== refused [nginx]
<program>: [emerg] unknown directive \"--\" in {prefix}/conf/merged.conf:93
=== refused [pointsman]
<*>[emerg] <*>--<*> in {prefix}/conf/merged.conf:92
",
    ),
    (
        "average.fragment",
        "=== differs: nginx stops at the first fault and names a line behind it
=== conf conf/main.conf
events {} http { include average.fragment.conf; }
=== main conf/main.conf
=== refused [nginx]
<program>: [emerg] directive \"lua_shared_dict\" is not terminated by \";\" in {prefix}/conf/average.fragment.conf:3
=== refused [pointsman]
<*>[emerg] <*> in {prefix}/conf/average.fragment.conf:1
<*>[emerg] <*> in {prefix}/conf/average.fragment.conf:5
<*>[emerg] <*> in {prefix}/conf/average.fragment.conf:<re:6|17>
<*>[emerg] <*> in {prefix}/conf/average.fragment.conf:<re:20|30>
",
    ),
];

fn opening(folder: &Path, name: &str, fixed: bool) -> Result<String, String> {
    let file = folder.join(format!("{name}.conf"));
    let mut conf = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut text = format!("{name}.conf, as the user wrote it.\n\n=== needs lua default-log\n");
    if fixed {
        text.push_str("=== needs namespace root\n");
    } else {
        for port in PORTS {
            let listen =
                Regex::new(&format!(r"(listen\s+|127\.0\.0\.1:){port};")).map_err(|e| e.to_string())?;
            conf = listen.replace_all(&conf, format!("${{1}}{{port:{port}}};")).into_owned();
        }
    }
    text.push_str("=== file conf/mime.types\ntypes { text/html html htm; text/plain txt; }\n");
    for port in ["81", "82", "83", "84"] {
        let _ = write!(text, "=== file html{port}/index.html\nserver name 80{port}\n");
    }
    let _ = write!(text, "=== main conf/{name}.conf\n=== conf conf/{name}.conf\n{conf}\n");
    Ok(text)
}

fn finish(text: &str, folder: &Path, name: &str) -> Result<Case, String> {
    let mut case = parse(text).map_err(|e| format!("seed/{name}: line {e}"))?;
    case.name = format!("seed/{name}");
    case.path = folder.join(format!("{name}.conf"));
    Ok(case)
}

/// Cuts one configuration's part out of the transcript.
fn part_of(transcript: &str, conf: &str) -> Result<Part, String> {
    let start = transcript.find(&format!("## {conf}\n")).ok_or_else(|| format!("no part on {conf}"))?;
    let text = &transcript[start + 3..];
    let text = &text[..text.find("\n## ").unwrap_or(text.len())];
    let mut part = Part::default();
    let mut before = "";
    let mut block: Option<Vec<String>> = None;
    for line in text.lines() {
        match (&mut block, line) {
            (None, "```") => block = Some(Vec::new()),
            (None, _) => before = line,
            (Some(lines), "```") => {
                let lines = std::mem::take(lines);
                if before.starts_with("error.log") {
                    part.error_log = lines;
                } else if before.starts_with("access.log") {
                    part.access_log = lines;
                } else if let Some(command) = lines.first().and_then(|l| l.strip_prefix("$ ")) {
                    part.exchanges
                        .push(Exchange { command: command.to_owned(), answer: lines[1..].to_vec() });
                }
                block = None;
            }
            (Some(lines), _) => lines.push(line.to_owned()),
        }
    }
    if part.exchanges.is_empty() || part.error_log.is_empty() || part.access_log.is_empty() {
        return Err(format!("the part on {conf} cannot be read"));
    }
    Ok(part)
}

/// Returns a curl command as a client section.
fn tell_exchange(text: &mut String, number: usize, exchange: &Exchange, fixed: bool) -> Result<(), String> {
    let (mut method, mut host, mut url) = ("GET", None, "");
    let words: Vec<&str> = exchange.command.split(' ').skip(1).collect();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        match *word {
            "-i" => {}
            "-X" | "-I" => method = "HEAD",
            "HEAD" => {}
            "-H" => {
                // The transcript quotes a header as 'Host: name'.
                host = words.get(at + 2).map(|w| w.trim_end_matches('\''));
                at += 2;
            }
            other => url = other.trim_matches('\''),
        }
        at += 1;
    }
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("cannot read `{}`", exchange.command))?;
    let (authority, path) =
        rest.split_once('/').ok_or_else(|| format!("cannot read `{}`", exchange.command))?;
    let port = authority.split_once(':').map_or("80", |(_, port)| port);
    let to = if fixed { format!("to=127.0.0.1:{port}") } else { format!("port={port}") };
    let _ = write!(text, "=== client c{number} {to}\n> {method} /{path} HTTP/1.1\n");
    let _ =
        write!(text, "> Host: {}\n> User-Agent: curl/7.88.1\n> Accept: */*\n>\n", host.unwrap_or(authority));
    for line in answer_lines(&exchange.answer) {
        let _ = writeln!(text, "< {line}");
    }
    text.push_str("! close\n");
    Ok(())
}

/// Returns the lines of an answer with matchers where the transcript elides, and where our own name has another length.
fn answer_lines(answer: &[String]) -> Vec<String> {
    let title = answer.iter().find_map(|l| l.split_once("<title>")?.1.split_once("</title>").map(|(t, _)| t));
    let mut out = Vec::new();
    for line in answer {
        let line = match line.split_once(": ") {
            Some(("Server", "…")) => "Server: <server>".to_owned(),
            Some(("Date", "…")) => "Date: <date>".to_owned(),
            Some(("ETag", "…")) => "ETag: <etag>".to_owned(),
            Some(("Last-Modified", "…")) => "Last-Modified: <date>".to_owned(),
            Some(("Content-Length", _)) if title.is_some() => "Content-Length: <len>".to_owned(),
            _ => timed(line),
        };
        if line == "<html>" {
            out.push(format!("<page:{}>", title.unwrap_or_default()));
            break;
        }
        out.push(line);
    }
    out
}

/// Elides numbers that depend on timing.
fn timed(line: &str) -> String {
    const SOME: &str = "<re:[0-9.e-]+>";
    if line.contains('<') {
        return line.to_owned();
    }
    for before in ["average upstream response time: ", "Current upstream is :0", "change upstream from 0"] {
        if let Some((start, rest)) = line.split_once(before)
            && let Some(name) = before.strip_suffix('0').or(Some(before))
        {
            let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
            return format!("{start}{name}{SOME}{}", &rest[end..]);
        }
    }
    line.to_owned()
}

fn tell_logs(text: &mut String, part: &Part) {
    text.push_str("=== log logs/80.error.log\n");
    for line in &part.error_log {
        let line =
            line.replace("YYYY/MM/DD hh:mm:ss [error] P#T: *N ", "<error>").replace("PREFIX", "{prefix}");
        let _ = writeln!(text, "{line}");
    }
    text.push_str("=== log logs/80.access.log\n");
    for line in &part.access_log {
        let mut line = line.replace("dd/Mon/yyyy:hh:mm:ss +0000", "<clf>");
        // Error pages hold the server's name, and two answers hold a measured time.
        if line.contains("/status ") || line.contains("upstream=evil") || !line.contains("\" 200 ") {
            let mut words: Vec<&str> = line.split(' ').collect();
            if let Some(at) = words.iter().position(|w| w.starts_with("HTTP/1.1\""))
                && let Some(bytes) = words.get_mut(at + 2)
            {
                *bytes = "<int>";
            }
            line = words.join(" ");
        }
        let _ = writeln!(text, "{line}");
    }
    // What the backends behind port 80 log is not in the transcript.
    text.push_str("=== log logs/error.log\n<...>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curl_command_becomes_a_client() {
        let mut text = String::new();
        let exchange = Exchange {
            command: "curl -i -H 'Host: localhost' 'http://127.0.0.1/a?b=c'".to_owned(),
            answer: vec!["HTTP/1.1 200 OK".to_owned(), "Date: …".to_owned(), String::new(), "hi".to_owned()],
        };
        tell_exchange(&mut text, 7, &exchange, true).unwrap();
        assert!(
            text.starts_with("=== client c7 to=127.0.0.1:80\n> GET /a?b=c HTTP/1.1\n> Host: localhost\n"),
            "{text}"
        );
        assert!(text.ends_with("< HTTP/1.1 200 OK\n< Date: <date>\n< \n< hi\n! close\n"), "{text}");
    }

    #[test]
    fn measured_times_are_elided() {
        assert_eq!(
            timed("average upstream response time: 0.0003 (6 reqs)"),
            "average upstream response time: <re:[0-9.e-]+> (6 reqs)"
        );
        assert_eq!(
            timed("x change upstream from 0.002 to evil"),
            "x change upstream from <re:[0-9.e-]+> to evil"
        );
        assert_eq!(timed("Current upstream is :nil"), "Current upstream is :nil");
    }
}
