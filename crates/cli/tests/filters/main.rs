//! The filters in every combination, for every kind of request: our own binary answers as real nginx does.
//!
//! Each location has one set of filters and one kind of content. Every request is sent to both servers; status, the fields that
//! filters change, and the body with its coding undone must be the same. The order of fields and the framing are what
//! `cases/` is about.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use testkit::ProcessGroup;

/// The longest time that anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The filters: what is written in a location for each.
const FILTERS: [(&str, &str); 8] = [
    ("gzip", "gzip on; gzip_min_length 1;"),
    ("brotli", "brotli on; brotli_min_length 1;"),
    ("gunzip", "gunzip on;"),
    ("static", "gzip_static on;"),
    ("sub", "sub_filter text TEXT; sub_filter_once off;"),
    ("addition", "add_before_body /part; add_after_body /part;"),
    ("charset", "charset utf-8; source_charset koi8-r;"),
    ("ssi", "ssi on;"),
];

/// The contents: how each is reached below a location.
const CONTENTS: [(&str, &str); 4] = [
    ("file", "root {folder}/files; rewrite ^.*$ /page.html break;"),
    ("alone", "root {folder}/files; rewrite ^.*$ /alone.html break;"),
    ("upstream", "rewrite ^.*$ /page.html break; proxy_pass http://back;"),
    ("coded", "rewrite ^.*$ /coded.html break; proxy_pass http://back;"),
];

/// What else a request says.
const CONDITIONS: [&str; 6] = [
    "",
    "Range: bytes=2-9\r\n",
    "Range: bytes=2-3,5-9\r\n",
    "If-None-Match: \"5f5e1000-{len}\"\r\n",
    "If-None-Match: W/\"5f5e1000-{len}\"\r\n",
    "If-Modified-Since: Sun, 13 Sep 2020 12:26:40 GMT\r\n",
];

const ACCEPTED: [&str; 4] =
    ["", "Accept-Encoding: gzip\r\n", "Accept-Encoding: br\r\n", "Accept-Encoding: gzip, br\r\n"];

const MODULES: &str = "/usr/lib/nginx/modules";

/// Returns the configuration: a location for each set of filters and each content.
fn configuration(folder: &Path) -> String {
    let mut locations = String::new();
    for set in 0..1_usize << FILTERS.len() {
        for (content, how) in CONTENTS {
            let filters = FILTERS.iter().enumerate().filter(|(at, _)| set & (1 << at) != 0);
            let filters: String = filters.map(|(_, (_, text))| *text).collect();
            writeln!(locations, "location /{set}/{content} {{ {filters} {how} }}").unwrap();
        }
    }
    format!(
        "daemon off; pid {{folder}}/pid; error_log {{folder}}/error.log warn; events {{}}
         http {{
             access_log off; default_type text/html; gzip_vary on; gzip_http_version 1.0;
             proxy_http_version 1.1; proxy_set_header Connection close; keepalive_requests 1000000;
             client_body_temp_path {{folder}}/t1; proxy_temp_path {{folder}}/t2; fastcgi_temp_path {{folder}}/t3;
             uwsgi_temp_path {{folder}}/t4; scgi_temp_path {{folder}}/t5;
             charset_map koi8-r utf-8 {{ C0 D18E; C1 D0B0; }}
             upstream back {{ server unix:{{folder}}/back; }}
             server {{
                 listen unix:{{folder}}/front;
                 location = /part {{ return 200 \"part text \"; }}
                 {locations}
             }}
             server {{
                 listen unix:{{folder}}/back;
                 root {{folder}}/files;
                 location = /coded.html {{ gzip_static always; }}
             }}
         }}"
    )
    .replace("{folder}", &folder.display().to_string())
}

struct Server {
    _process: ProcessGroup,
    folder: tempfile::TempDir,
}

/// Returns the body in koi8-r, with an SSI command in it.
fn page() -> Vec<u8> {
    let mut page = b"some text <!--#echo var=\"uri\" --> \xc0\xc1 and more text.\n".to_vec();
    page.extend(b"0123456789 text ".repeat(20));
    page
}

impl Server {
    fn start(program: &str, arguments: &[String]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        std::fs::create_dir_all(&files).unwrap();
        std::fs::create_dir_all(folder.path().join("logs")).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(&page()).unwrap();
        let coded = encoder.finish().unwrap();
        let time = std::time::UNIX_EPOCH + Duration::from_secs(0x5f5e_1000);
        for (name, bytes) in [
            ("page.html", &page()),
            ("page.html.gz", &coded),
            ("alone.html", &page()),
            ("coded.html", &page()),
            ("coded.html.gz", &coded),
        ] {
            std::fs::write(files.join(name), bytes).unwrap();
            std::fs::File::options().write(true).open(files.join(name)).unwrap().set_modified(time).unwrap();
        }
        std::fs::write(folder.path().join("nginx.conf"), configuration(folder.path())).unwrap();
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
        command.args(["-e", "error.log"]).args(arguments).stderr(Stdio::null());
        let process = ProcessGroup::start(&mut command).unwrap();
        let server = Server { _process: process, folder };
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(server.folder.path().join("front")).is_err() {
            assert!(Instant::now() < deadline, "{program} does not start: {}", server.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    fn connect(&self) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(self.folder.path().join("front")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(stream)
    }
}

/// An answer, as far as filters have to do with it.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: String,
    fields: BTreeMap<String, Vec<String>>,
    body: Vec<u8>,
}

/// The fields that filters change.
const FIELDS: [&str; 8] = [
    "accept-ranges",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "etag",
    "last-modified",
    "vary",
];

fn ask(connection: &mut BufReader<UnixStream>, request: &str) -> Answer {
    connection.get_mut().write_all(request.as_bytes()).unwrap();
    let mut line = String::new();
    let mut lines = Vec::new();
    loop {
        line.clear();
        assert!(connection.read_line(&mut line).unwrap() > 0, "no whole head: {lines:?}");
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in &lines[1..] {
        let (name, value) = line.split_once(':').unwrap();
        fields.entry(name.to_ascii_lowercase()).or_default().push(value.trim().to_owned());
    }
    let status = lines[0].split(' ').nth(1).unwrap().to_owned();
    let is_chunked = fields.contains_key("transfer-encoding");
    let mut body = Vec::new();
    if !request.starts_with("HEAD") && status != "304" {
        match fields.get("content-length") {
            Some(len) => {
                body.resize(len[0].parse().unwrap(), 0);
                connection.read_exact(&mut body).unwrap();
            }
            None if is_chunked => read_chunks(connection, &mut body),
            None => panic!("neither a length nor chunks: {lines:?}"),
        }
    }
    let coding = fields.get("content-encoding").map(|codings| codings.join(", "));
    let mut body = undone(coding.as_deref(), body);
    if let Some(kind) = fields.get_mut("content-type")
        && let Some((before, boundary)) = kind[0].split_once("boundary=")
    {
        // Each answer has its own.
        let text = String::from_utf8_lossy(&body).replace(boundary, "BOUNDARY");
        body = text.into_bytes();
        kind[0] = format!("{before}boundary=");
    }
    fields.retain(|name, _| FIELDS.contains(&name.as_str()));
    Answer { status, fields, body }
}

fn read_chunks(connection: &mut BufReader<UnixStream>, body: &mut Vec<u8>) {
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).unwrap();
        let len = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let mut chunk = vec![0; len + 2];
        connection.read_exact(&mut chunk).unwrap();
        body.extend_from_slice(&chunk[..len]);
        if len == 0 {
            return;
        }
    }
}

/// Undoes a coding; what is not all of a body stays as it is.
fn undone(coding: Option<&str>, body: Vec<u8>) -> Vec<u8> {
    let mut plain = Vec::new();
    let read = match coding {
        Some("gzip") => flate2::read::MultiGzDecoder::new(&*body).read_to_end(&mut plain),
        Some("br") => brotli::Decompressor::new(&*body, 4096).read_to_end(&mut plain),
        _ => return body,
    };
    if read.is_ok() { plain } else { body }
}

#[test]
fn every_combination_of_filters_answers_as_nginx_does() {
    let modules = ["ngx_http_brotli_filter_module.so", "ngx_http_brotli_static_module.so"];
    let modules: Vec<String> = modules.iter().map(|file| format!("{MODULES}/{file}")).collect();
    let has_nginx = Command::new("nginx").arg("-v").output().is_ok();
    if !has_nginx || modules.iter().any(|module| !Path::new(module).exists()) {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "nginx with its brotli modules is missing, and CI compares with it"
        );
        eprintln!("skipped: no nginx with brotli here to compare with");
        return;
    }
    let loaded: String = modules.iter().map(|module| format!("load_module {module}; ")).collect();
    let nginx = Server::start("nginx", &["-g".to_owned(), loaded]);
    let ours = Server::start(env!("CARGO_BIN_EXE_pointsman"), &[]);
    let mut connections = [nginx.connect(), ours.connect()];
    let len = format!("{:x}", page().len());
    let (mut asked, mut others) = (0, Vec::new());
    for set in 0..1_usize << FILTERS.len() {
        for (content, _) in CONTENTS {
            for method in ["GET", "HEAD"] {
                for accepted in ACCEPTED {
                    for condition in CONDITIONS {
                        let condition = condition.replace("{len}", &len);
                        let request = format!(
                            "{method} /{set}/{content} HTTP/1.1\r\nHost: x\r\n{accepted}{condition}\r\n"
                        );
                        let [theirs, own] = connections.each_mut().map(|it| ask(it, &request));
                        asked += 1;
                        if theirs != own {
                            others.push((set, request, theirs, own));
                        }
                    }
                }
            }
        }
    }
    let mut text = String::new();
    for (set, request, theirs, own) in others.iter().take(12) {
        let filters = FILTERS.iter().enumerate().filter(|(at, _)| set & (1 << at) != 0);
        let names: Vec<&str> = filters.map(|(_, (name, _))| *name).collect();
        writeln!(text, "{names:?} {request}nginx: {theirs:x?}\nours:  {own:x?}\n").unwrap();
    }
    assert!(others.is_empty(), "{} of {asked} answers differ\n{text}", others.len());
}
