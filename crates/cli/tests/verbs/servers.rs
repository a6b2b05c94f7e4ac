//! The servers of groups: docs/servers.md as it is written.

use super::*;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A server on loopback that answers each request with its name.
struct Origin {
    address: String,
    stopped: Arc<AtomicBool>,
}

impl Origin {
    fn start(name: &'static str) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stopped = Arc::new(AtomicBool::new(false));
        let origin = Origin { address, stopped: stopped.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::spawn(move || serve(stream, name));
            }
        });
        origin
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(&self.address));
    }
}

/// Answers requests on a connection until it ends.
fn serve(mut stream: TcpStream, name: &str) {
    let (mut head, mut bytes) = (Vec::new(), [0; 1024]);
    loop {
        match stream.read(&mut bytes) {
            Ok(read @ 1..) => head.extend_from_slice(&bytes[..read]),
            _ => return,
        }
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// Runs the transcripts of docs/servers.md against a server of this configuration, with addresses of loopback for those of
/// the page.
#[test]
fn the_page_about_servers_says_what_is_printed() {
    let page = include_str!("../../../../docs/servers.md");
    let origins = [Origin::start("five"), Origin::start("six"), Origin::start("seven")];
    let names = ["10.0.0.5:8081", "10.0.0.6:8081", "10.0.0.7:8081"];
    let pairs: Vec<(&str, &str)> =
        names.iter().copied().zip(origins.iter().map(|origin| &*origin.address)).collect();
    let beside = format!(
        "upstream green_pool {{ server {}; server {}; }}
         server {{ listen unix:{{folder}}/pool; location / {{ proxy_pass http://green_pool; }} }}",
        pairs[0].1, pairs[1].1
    );
    let server = Server::start("targets blue green;", &beside);
    let swap = |text: &str, back: bool| {
        pairs.iter().fold(text.to_owned(), |text, (page, real)| {
            if back { text.replace(real, page) } else { text.replace(page, real) }
        })
    };
    let (mut written, mut printed) = (String::new(), String::new());
    for block in page.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        for part in block.split("$ pointsman ").skip(1) {
            let (line, expected) = part.split_once('\n').unwrap();
            let words = shell_words(&swap(line, false));
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let said = server.say(&words);
            written.push_str(&format!("$ pointsman {line}\n{expected}\n"));
            printed.push_str(&format!(
                "$ pointsman {line}\n{}{}\n",
                swap(&said.out, true),
                swap(&said.err, true)
            ));
        }
    }
    assert!(written.matches("$ pointsman").count() > 7);
    assert_eq!(without_chance(&written), without_chance(&printed), "printed:\n{printed}");
}

/// Splits a line into words; those in quotes are one.
fn shell_words(line: &str) -> Vec<String> {
    let quoted = |(number, part): (usize, &str)| match number % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        _ => vec![part.to_owned()],
    };
    line.split('\'').enumerate().flat_map(quoted).collect()
}

/// Returns a text without times, names of users and the widths of columns.
fn without_chance(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let units = ["us", "ms", "s", "min"];
        let mut out: Vec<String> = Vec::new();
        for (at, word) in words.iter().enumerate() {
            let is_number = word.starts_with(|c: char| c.is_ascii_digit());
            let next = words.get(at + 1).map(|next| next.trim_end_matches([',', ':', ';']));
            let is_time = is_number && next.is_some_and(|next| units.contains(&next));
            let is_unit = units.contains(&word.trim_end_matches([',', ':', ';'])) && at > 0;
            let is_moment = is_number && (word.matches(':').count() >= 2 || word.matches('-').count() == 2);
            let is_actor = word.starts_with("unix:") && word.contains('(');
            match (is_time || is_moment, is_unit, is_actor) {
                (true, ..) => out.push("TIME".into()),
                (_, true, _) => {}
                (.., true) => out.push("ACTOR".into()),
                _ => out.push((*word).to_owned()),
            }
        }
        lines.push(out.join(" "));
    }
    lines
}
