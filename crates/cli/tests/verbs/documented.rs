//! docs/switching.md: every command that stands there is run, and answers what stands there.
//!
//! What differs from run to run (times, durations, hashes, users) is compared by its kind. With POINTSMAN_BLESS=1 the answers
//! are written into the page. A block behind the line `<!-- not run -->` is left alone, and so is a command that is none of ours.

use super::*;
use std::fmt::Write as _;

/// Returns a line with what differs from run to run replaced by its kind.
fn plain(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let mut out: Vec<String> = Vec::new();
    let mut rest = words.iter().copied().peekable();
    while let Some(word) = rest.next() {
        let (bare, end) = word.split_at(word.trim_end_matches([',', ';', ':', '"', ')']).len());
        let is_number = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
        let unit = rest.peek().map(|next| next.trim_end_matches([',', ';', ':']));
        let kind = match bare {
            _ if is_number && matches!(unit, Some("us" | "ms" | "s" | "min")) => {
                let unit = rest.next().unwrap();
                let end = &unit[unit.trim_end_matches([',', ';', ':']).len()..];
                out.push(format!("SPAN{end}"));
                continue;
            }
            _ if is_number && unit.is_some_and(|unit| unit.starts_with("requests/s")) => "RATE",
            _ if is_number && out.last().is_some_and(|before| before == "process") => "PID",
            _ if bare.len() == 10 && digits(bare) == 8 && bare.matches('-').count() == 2 => "DATE",
            _ if digits(bare) >= 6 && bare.get(..8).is_some_and(|time| time.matches(':').count() == 2) => {
                "TIME"
            }
            // Refusals of one minute are one entry, which is written at its end.
            _ if bare.strip_prefix('j').is_some_and(|number| number.parse::<u64>().is_ok()) => "ENTRY",
            _ if is_number && unit == Some("entries") => "COUNT",
            _ if bare.len() == 64 && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) => "HASH",
            _ if bare.starts_with("unix:") && bare.contains('(') => "ACTOR",
            bare => bare,
        };
        let end = if kind == "ACTOR" { "" } else { end };
        out.push(format!("{kind}{end}"));
    }
    out.join(" ")
}

/// Splits a command as a shell does.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    for letter in command.chars() {
        match letter {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
            letter => word.push(letter),
        }
    }
    words.push(word);
    words
}

/// Returns the gateways of `make run` with a socket of the file system for each port.
fn start() -> Server {
    Server::start_from(
        |at, user| {
            let servers = |names: [&str; 2]| names.map(|name| format!("server unix:{};", at(name))).concat();
            let listens: String = ["b1", "b2", "g1", "g2"]
                .iter()
                .map(|name| {
                    format!("server {{ listen unix:{}; location / {{ return 200 {name}; }} }}", at(name))
                })
                .collect();
            format!(
                "user {user}; worker_processes 2; daemon off; events {{}}
                 http {{
                     upstream blue {{ {} }} upstream green {{ {} }}
                     switch $host $live {{ default blue; targets blue green; gate healthy=1 timeout=1s uri=/; }}
                     server {{ listen unix:{}; location / {{ proxy_pass http://$live; }} }}
                     {listens}
                 }}",
                servers(["b1", "b2"]),
                servers(["g1", "g2"]),
                at("front")
            )
        },
        &[],
    )
}

#[test]
fn the_page_on_switching_shows_what_is_printed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/switching.md");
    let page = std::fs::read_to_string(path).unwrap();
    let server = start();
    let mut out = String::new();
    let (mut is_console, mut is_run, mut ran) = (false, true, 0);
    let mut lines = page.lines().peekable();
    let mut differing = Vec::new();
    while let Some(line) = lines.next() {
        writeln!(out, "{line}").unwrap();
        match line {
            "<!-- not run -->" => is_run = false,
            "```console" => is_console = true,
            "```" => (is_console, is_run) = (false, is_run || is_console),
            _ => {}
        }
        let Some(command) = line.strip_prefix("$ ").filter(|_| is_console && is_run) else { continue };
        if command == "sleep 4" {
            server.until("it is reverted", || server.say(&["list"]).done().contains("revision 4,"));
            continue;
        }
        let Some(command) = command.strip_prefix("pointsman ") else { continue };
        let mut shown = Vec::new();
        while let Some(next) = lines.next_if(|next| !next.starts_with("$ ") && *next != "```") {
            shown.push(next);
        }
        let words = words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = server.say(&words);
        ran += 1;
        let printed = format!("{}{}", said.out, said.err);
        let is_refusal = |line: &str| line.trim_start().starts_with('j') && line.contains("  refused: ");
        let same = |a: &mut dyn Iterator<Item = &str>| {
            a.filter(|line| !is_refusal(line)).map(plain).collect::<Vec<_>>()
        };
        if same(&mut printed.lines()) != same(&mut shown.iter().copied()) {
            differing.push(format!("$ pointsman {command}\n{printed}instead of\n{}\n", shown.join("\n")));
            shown = printed.lines().collect();
        }
        shown.iter().for_each(|line| writeln!(out, "{line}").unwrap());
    }
    assert!(ran >= 18, "only {ran} commands were found");
    if std::env::var_os("POINTSMAN_BLESS").is_some() {
        std::fs::write(path, out).unwrap();
    } else {
        assert!(differing.is_empty(), "{}\nPOINTSMAN_BLESS=1 writes the page anew", differing.join("\n"));
    }
}

#[test]
fn varying_values_are_compared_by_kind() {
    for (one, other, same) in [
        ("  applied by all workers within 578 us", "  applied by all workers within 1.20 ms", true),
        ("until 13:16:31: pointsman receipt 1", "until 09:00:00: pointsman receipt 1", true),
        ("until 13:16:31: pointsman receipt 1", "until 13:16:31: pointsman receipt 2", false),
        (
            "     1  2026-11-22 13:11:37+00:00  unix:0(root)",
            "     1  2027-01-01 00:00:00+02:00  unix:1000(anna)",
            true,
        ),
        (
            "     1  2026-11-22 13:11:37+00:00  unix:0(root)",
            "     2  2026-11-22 13:11:37+00:00  unix:0(root)",
            false,
        ),
        ("now 8.26 requests/s, 0 in flight", "now 0 requests/s, 0 in flight", true),
        ("now 0 requests/s, 0 in flight", "now 0 requests/s, 1 in flight", false),
        ("localhost: green -> blue", "localhost: blue -> green", false),
    ] {
        assert_eq!(plain(one) == plain(other), same, "{one} {other}");
    }
}
