//! Real nginx as the judge of ranges and dates: one file, asked for in many ways.
//!
//! Where no `nginx` is installed the tests say so and pass.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![cfg(unix)]

mod nginx;
#[allow(dead_code, reason = "the requests there are not asked for here")]
mod random;

use nginx::Nginx;
use pointsman_http::date;
use pointsman_http::range::{self, Boundary, RangeAnswer};
use random::Xorshift;
use std::fs::{self, File};
use std::time::{Duration, SystemTime};

const SERVERS: &str = "
server {
    listen unix:DIR/ready; root DIR; default_type text/x-file;
}
server {
    listen unix:DIR/three; root DIR; default_type text/x-file; max_ranges 3;
}
";

const MODIFIED_S: u64 = 784_111_777;

fn start(test: &str, content: &[u8]) -> Option<Nginx> {
    let nginx = Nginx::start(test, SERVERS)?;
    fs::write(nginx.dir.join("file"), content).unwrap();
    let file = File::options().write(true).open(nginx.dir.join("file")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED_S)).unwrap();
    Some(nginx)
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Status, `Content-Range` and body as they should be.
fn expected(
    value: &str,
    max_ranges: Option<u32>,
    content: &[u8],
    theirs: &str,
) -> (u16, Option<String>, Vec<u8>) {
    let length = content.len() as u64;
    let mut ranges = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut out = Vec::new();
    match range::parse(value.as_bytes(), length, max_ranges, &mut ranges) {
        RangeAnswer::Whole => (200, None, content.to_vec()),
        RangeAnswer::Unsatisfiable => {
            range::unsatisfied_content_range(length, &mut out);
            (416, Some(text(&out)), Vec::new())
        }
        RangeAnswer::Parts if ranges.len() == 1 => {
            range::content_range(&ranges[0], length, &mut out);
            let part = &content[ranges[0].start as usize..ranges[0].end as usize];
            (206, Some(text(&out)), part.to_vec())
        }
        RangeAnswer::Parts => {
            let number = theirs.rsplit_once('=').map_or("", |(_, digits)| digits);
            let boundary = Boundary::new(number.parse().unwrap());
            boundary.content_type(&mut out);
            assert_eq!(text(&out), theirs);
            let len = boundary.body_len(b"text/x-file", &ranges, length, &mut out);
            out.clear();
            for part in &ranges {
                boundary.part_head(b"text/x-file", part, length, &mut out);
                out.extend_from_slice(&content[part.start as usize..part.end as usize]);
            }
            boundary.end(&mut out);
            assert_eq!(out.len() as u64, len);
            (206, None, out)
        }
    }
}

#[test]
fn random_ranges_match_nginx() {
    const PIECES: [&str; 14] = ["0", "1", "5", "9", "99", "-", "-", "-", ",", ",", " ", "1-2", "0-0,", "x"];
    let content: Vec<u8> = (0..1000).map(|number| b'a' + (number % 26) as u8).collect();
    let Some(mut nginx) = start("ranges", &content) else { return };
    let mut random = Xorshift(0x5DEE_CE66_D000_000B);
    let mut counts = [0; 3];
    for round in 0..3_000 {
        let value = format!("bytes={}", random.text(&PIECES, 9));
        // Spaces at the end are not part of the value.
        let value = value.trim_end_matches(' ');
        let (socket, max_ranges) = if round % 2 == 0 { ("ready", None) } else { ("three", Some(3)) };
        let request = format!("GET /file HTTP/1.0\r\nRange: {value}\r\n\r\n");
        let (answer, _) = nginx.ask(socket, request.as_bytes());
        let at = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..at].to_vec()).unwrap();
        let status: u16 = head[9..12].parse().unwrap();
        let kind = field(&head, "Content-Type").unwrap_or_default();
        let (expected_status, content_range, body) = expected(value, max_ranges, &content, kind);
        assert_eq!(status, expected_status, "{socket} {value}");
        assert_eq!(field(&head, "Content-Range"), content_range.as_deref(), "{socket} {value}");
        if status != 416 {
            assert_eq!(bstr::BStr::new(&answer[at + 4..]), bstr::BStr::new(&body), "{socket} {value}");
        }
        counts[usize::from(status == 206) + 2 * usize::from(status == 416)] += 1;
    }
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
}

#[test]
fn random_dates_match_nginx() {
    const FORMS: [&str; 4] = [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun Nov 16 08:49:37 1994",
    ];
    let Some(mut nginx) = start("dates", b"x") else { return };
    let mut random = Xorshift(0x2722_0A95_FE6D_1B4F);
    let mut same = 0;
    for _ in 0..2_000 {
        let mut text = FORMS[random.below(4)].as_bytes().to_vec();
        if random.below(3) > 0 {
            // Not a letter: nginx takes `Nox` for November.
            let at = random.below(text.len());
            if !text[at].is_ascii_alphabetic() {
                text[at] = b"0123456789 -,:"[random.below(14)];
            }
        }
        let value = String::from_utf8(text).unwrap();
        let request = format!("GET /file HTTP/1.0\r\nIf-Modified-Since: {value}\r\n\r\n");
        let (answer, _) = nginx.ask("ready", request.as_bytes());
        let not_modified = answer.starts_with(b"HTTP/1.1 304");
        assert_eq!(not_modified, date::parse_http_date(value.as_bytes()) == Some(MODIFIED_S), "{value:?}");
        same += usize::from(not_modified);
    }
    assert!(same > 100 && same < 1_900, "{same}");
    let (answer, _) = nginx.ask("ready", b"GET /file HTTP/1.0\r\n\r\n");
    let head = String::from_utf8(answer).unwrap();
    assert_eq!(field(&head, "Last-Modified").map(str::as_bytes), Some(&date::http_date(MODIFIED_S)[..]));
}
