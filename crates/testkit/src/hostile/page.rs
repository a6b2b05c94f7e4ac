//! The page `docs/framing.md`: every message beside what three servers made of it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::judge::{Outcome, faults};
use super::server::{HostileServer, Mode, NamedProgram, Program, play_all};
use super::table::{Family, Hostile};

/// A server that is silent for so long has said all.
const QUIET: Duration = Duration::from_millis(1500);
const THREADS: usize = 24;

const HEAD: &str = "<!-- Made by `cargo xtask framing` from cases/hostile/: change it there. -->\n\
# Where messages end\n\n\
A proxy and the server behind it must see the same messages in the same bytes. Where they do not, one client can put\n\
words into another's mouth (request smuggling). So pointsman takes one framing decision for each message, refuses what\n\
could be read in two ways, and writes every head and every chunk that it sends anew.\n\n\
The tables are made by running: each message of `cases/hostile/` is sent to pointsman, nginx and HAProxy, in front of an\n\
origin that writes down every byte. `cargo test` holds pointsman to the same tables, with bodies buffered and streamed.\n\n";

const DECISIONS: &str = "## Stricter than nginx\n\n\
Most of this is nginx's own reading. It differs where nginx takes what some other server reads otherwise:\n\n\
- **A lone LF** ends a line only in a head whose first line ends with one: people type such heads by hand, and RFC 9112\n\
\x20 §2.2 allows it. In a head that began with CR LF it is refused, because a proxy in front may have seen it inside a\n\
\x20 value. In answers it is taken everywhere, as in nginx.\n\
- **A CR without its LF** is refused in requests: before the request line, and twice before an LF too, where nginx skips\n\
\x20 it.\n\
- **Chunks**: behind the size only spaces, tabs and an extension; no control byte in an extension; at most 32 digits;\n\
\x20 16 KiB of extensions more than there is data; 8 KiB of trailers, each of them a field. nginx skips anything.\n\
- **`101`** counts only if the client asked in HTTP/1.1, and never for `h2c`; otherwise the answer is 502.\n\
- **Two lengths, or a length and a coding, in an answer** are 502 also where the answer has no body.\n\n\
And not stricter: several spaces in a request line, a field line without a colon (a field without a value), names that\n\
nginx leaves out (`ignore_invalid_headers`), HTTP/0.9, control bytes other than CR, LF and NUL in values. None of these\n\
moves the end of a message, and what is sent on has one form.\n\n";

const KEY: &str = "## How to read the tables\n\n\
The statuses that the client got, and what became of its connection: `open` (a request behind it is answered as\n\
itself), `closed`, `cut` (the answer is visibly not whole), `waits` (for more bytes), `tunnel`. Behind it what the origin\n\
was asked, with the length of the body. **!** stands where a strict reader of RFC 9112 sees other messages on the two\n\
sides, or cannot read what was sent on; the list at the end says why. `9` stands for an answer in HTTP/0.9, `–` for a\n\
message that needs directives HAProxy has not.\n\n";

/// Runs all messages and writes the page at `path`; with `check` only compares. Returns true if all is as expected.
///
/// # Errors
/// A server could not be started, or the page not written.
pub fn run(
    families: &[Family],
    own: &NamedProgram,
    others: &[NamedProgram],
    path: &Path,
    check: bool,
) -> Result<bool, String> {
    let hostiles: Vec<&Hostile> = families.iter().flat_map(|family| &family.members).collect();
    let own_outcomes = play(own, &hostiles)?;
    let mut good = true;
    for (hostile, outcome) in hostiles.iter().zip(&own_outcomes) {
        for fault in faults(hostile, outcome) {
            println!("{}: {fault}", hostile.name);
            good = false;
        }
    }
    let mut columns = vec![own_outcomes];
    for server in others {
        columns.push(play(server, &hostiles)?);
    }
    let servers: Vec<&NamedProgram> = std::iter::once(own).chain(others).collect();
    let text = page(families, &servers, &columns);
    let old = std::fs::read_to_string(path).unwrap_or_default();
    if old == text {
        return Ok(good);
    }
    if check {
        println!("docs/framing.md is not what the servers say: run `cargo xtask framing`");
        let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), text.lines().collect());
        old.iter().filter(|line| !new.contains(line)).for_each(|line| println!("- {line}"));
        new.iter().filter(|line| !old.contains(line)).for_each(|line| println!("+ {line}"));
        return Ok(false);
    }
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    println!("wrote docs/framing.md");
    Ok(good)
}

fn play(server: &NamedProgram, hostiles: &[&Hostile]) -> Result<Vec<Outcome>, String> {
    let is_haproxy = matches!(server.program, Program::HaProxy(_));
    let conf: Vec<_> = hostiles.iter().map(|hostile| hostile.conf.clone()).collect();
    let running = HostileServer::start(&server.program, Mode::Buffered, &conf)?;
    let outcomes = play_all(&running, hostiles, Some(QUIET), THREADS);
    println!(
        "{}: {} messages{}",
        server.name,
        hostiles.len(),
        if is_haproxy { ", without directives" } else { "" }
    );
    outcomes
}

fn page(families: &[Family], servers: &[&NamedProgram], columns: &[Vec<Outcome>]) -> String {
    let mut text = format!("{HEAD}{DECISIONS}{KEY}");
    let mut marks = String::new();
    let mut tables = String::new();
    let mut counts = vec![0; servers.len()];
    let mut number = 0;
    for family in families {
        let _ = write!(tables, "## {}\n\n{}\n\n| message | known from |", family.title, family.about);
        servers.iter().for_each(|server| {
            let _ = write!(tables, " {} |", server.name);
        });
        let _ = writeln!(tables, "\n|---|---|{}", "---|".repeat(servers.len()));
        for hostile in &family.members {
            let name = hostile.name.split_once('/').map_or("", |(_, name)| name).replace('-', " ");
            let _ = write!(tables, "| {name} | {} |", hostile.source);
            for (column, server) in servers.iter().enumerate() {
                let outcome = &columns[column][number];
                if matches!(server.program, Program::HaProxy(_)) && needs_directives(hostile) {
                    tables.push_str(" – |");
                    continue;
                }
                let odd = outcome.ambiguities(hostile);
                let mark = if odd.is_empty() { "" } else { "**!** " };
                let _ = write!(tables, " {mark}{} |", shown(&outcome.told()));
                if !odd.is_empty() {
                    counts[column] += 1;
                    let _ =
                        writeln!(marks, "- {}, {}: {}", hostile.name, server.name, shown(&odd.join("; ")));
                }
            }
            tables.push('\n');
            number += 1;
        }
        tables.push('\n');
    }
    let _ = writeln!(text, "{number} messages. Marked: {}.\n", {
        let each: Vec<_> =
            servers.iter().zip(&counts).map(|(s, count)| format!("{} {count}", s.name)).collect();
        each.join(", ")
    });
    text + &tables + "## The marks\n\n" + &marks
}

/// Does it need more of nginx.conf than fields set anew?
fn needs_directives(hostile: &Hostile) -> bool {
    hostile.conf.iter().any(|line| !line.starts_with("proxy_set_header"))
}

/// Fit for a cell: no bars, no long runs, nothing a page cannot show.
fn shown(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(160) {
        match c {
            '|' => out.push_str("\\|"),
            '<' => out.push_str("&lt;"),
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push_str(&c.escape_default().to_string()),
            c => out.push(c),
        }
    }
    if text.chars().count() > 160 { out + "…" } else { out }
}
