//! The seeds of fuzzing: texts of the repository, and words of the formats.
//!
//! Seeds come from `cases/`, from the parser's golden files and from the examples of directives. No test relies on them:
//! they change with the cases, which the kept corpora do not.

use bstr::ByteSlice;
use conf::{Body, Directive};
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the seeds of a target from the repository at this path.
pub fn seeds(target: &str, root: &Path) -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = written(target).iter().map(|text| text.as_bytes().to_vec()).collect();
    let cases = Cases::read(root);
    match target {
        "config_text" | "bundle" => {
            seeds.extend(golden(root));
            seeds.extend(cases.configurations);
        }
        "config_build" => {
            seeds.extend(examples());
            seeds.extend(cases.configurations);
        }
        "fastcgi_records" => seeds.push(
            b"\x01\x07\0\x01\0\x02\0\0oh\x01\x06\0\x01\0\x06\x02\0\r\nbody\0\0\x01\x06\0\x01\0\0\0\0\x01\x03\0\x01\0\x08\0\0\0\0\0\0\0\0\0\0"
                .to_vec(),
        ),
        "h2_frames" => seeds.extend(h2_connections()),
        "hpack" => seeds.extend(hpack_blocks()),
        "lua_block" => seeds.extend(cases.parsed().1),
        "template" => seeds.extend(cases.parsed().0),
        "request_head" | "messages" => seeds.extend(cases.requests),
        "response_head" => seeds.extend(cases.responses),
        "chunked" => seeds.extend(cases.bodies()),
        "uri" => seeds.extend(cases.targets()),
        "proxy_protocol" => {
            seeds.extend(
                cases
                    .requests
                    .into_iter()
                    .filter(|request| request.starts_with(b"PROXY") || request.starts_with(b"\r\n\r\n\0")),
            );
        }
        "range" => {
            let lengths = [3, 5];
            let values = [
                "0-0",
                "0-",
                "-1",
                "5-2",
                "0-1,2-3",
                "1-1,1-1",
                " 1 - 2 ",
                "0-9223372036854775807",
                "-0",
                "9-",
                "x",
            ];
            seeds.extend(lengths.iter().flat_map(|length| {
                values.map(|value| [&[*length, 0], b"bytes=".as_slice(), value.as_bytes()].concat())
            }));
        }
        "store" => seeds.extend(damages()),
        "live_store" => seeds.extend(live_damages()),
        "name_reply" => seeds.extend(replies()),
        "paths" => seeds.extend(files_at_paths()),
        _ => {}
    }
    seeds.sort();
    seeds.dedup();
    seeds
}

/// Returns a header block of a request, with a field of each form.
fn request_block(path: &[u8]) -> Vec<u8> {
    let mut block = b"\x20\x3f\xe1\x1f\x82\x86\x41\x01h\x44".to_vec();
    block.push(path.len() as u8);
    block.extend_from_slice(path);
    block.extend_from_slice(b"\x40\x01x\x01y\x10\x01z\x83\x1c\x64\x2f\xbe\x00\x02ab\x00");
    block
}

fn hpack_blocks() -> Vec<Vec<u8>> {
    let blocks =
        [request_block(b"/"), request_block(b"/a?b"), b"\xbe\xbf\x82".to_vec(), b"\xff\x80\x01".to_vec()];
    let with_len = |block: &Vec<u8>| [&[block.len() as u8][..], block].concat();
    let mut seeds: Vec<Vec<u8>> = blocks.iter().map(with_len).collect();
    seeds.push(seeds.concat());
    seeds
}

/// Returns what clients send behind preface and SETTINGS.
fn h2_connections() -> Vec<Vec<u8>> {
    use http::h2::frame::{self, FrameKind};
    let raw = |kind, flags, stream, payload: &[u8]| {
        let mut out = Vec::new();
        frame::write(&mut out, kind, flags, stream, payload);
        out
    };
    let head = |stream, flags: u8| raw(FrameKind::Headers, flags | 4, stream, &request_block(b"/"));
    let data = |stream, flags, len: usize| raw(FrameKind::Data, flags, stream, &vec![b'x'; len]);
    let block = request_block(b"/long");
    vec![
        [head(1, 1), head(3, 1)].concat(),
        [head(1, 0), data(1, 0, 100), data(1, 8, 130), raw(FrameKind::Headers, 5, 1, b"\x00\x01t\x01v")]
            .concat(),
        [head(1, 0), data(1, 1, 16_384), head(3, 0x20)].concat(),
        [raw(FrameKind::Headers, 1, 1, &block[..5]), raw(FrameKind::Continuation, 4, 1, &block[5..])]
            .concat(),
        [head(1, 0), raw(FrameKind::RstStream, 0, 1, &[0, 0, 0, 8]), data(1, 0, 9)].concat(),
        [raw(FrameKind::Settings, 0, 0, &[0, 4, 0, 0, 0, 9]), raw(FrameKind::Settings, 1, 0, &[])].concat(),
        [head(1, 0), raw(FrameKind::WindowUpdate, 0, 1, &[0, 0, 0, 9]), raw(FrameKind::Ping, 0, 0, &[7; 8])]
            .concat(),
        [raw(FrameKind::Priority, 0, 3, &[0, 0, 0, 1, 9]), raw(FrameKind::GoAway, 0, 0, &[0; 8])].concat(),
        [head(1, 0), head(2, 0)].concat(),
    ]
}

/// The contents of the end-to-end cases.
#[derive(Default)]
struct Cases {
    configurations: Vec<Vec<u8>>,
    requests: Vec<Vec<u8>>,
    responses: Vec<Vec<u8>>,
}

impl Cases {
    fn read(root: &Path) -> Cases {
        let mut cases = Cases::default();
        let mut paths = Vec::new();
        files_below(&root.join("cases"), &mut paths);
        for path in paths.iter().filter(|path| path.extension().is_some_and(|ending| ending == "case")) {
            let Ok(text) = fs::read(path) else { continue };
            for section in text.split_str(b"\n=== ").skip(1) {
                cases.section(section);
            }
        }
        cases
    }

    fn section(&mut self, section: &[u8]) {
        let (title, body) = section.split_once_str(b"\n").unwrap_or((section, b""));
        let sent = |mark: &str| -> Vec<u8> {
            let lines = body.lines().filter_map(|line| line.strip_prefix(mark.as_bytes()));
            lines.flat_map(|line| [line.strip_prefix(b" ").unwrap_or(line), b"\r\n"].concat()).collect()
        };
        if title == b"http" {
            let inside = named(body);
            self.configurations.push([b"events {} http {\n", &*inside, b"\n}\n"].concat());
        } else if title.starts_with(b"conf") {
            self.configurations.push(named(body));
        } else if title.starts_with(b"client") {
            self.requests.push(sent(">"));
        } else if title.starts_with(b"origin") {
            self.responses.push(sent("<"));
        }
    }

    /// Words with variables in them, and blocks of Lua.
    fn parsed(&self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let (mut words, mut lua) = (Vec::new(), Vec::new());
        let (_, nothing) = crate::files::split(b"");
        for text in &self.configurations {
            let parsed = conf::parse_text(crate::files::MAIN, text.clone(), &nothing);
            gather(&parsed.tree.directives, &mut words, &mut lua);
        }
        (words, lua)
    }

    fn bodies(&self) -> Vec<Vec<u8>> {
        let all = self.requests.iter().chain(&self.responses);
        all.filter(|text| text.to_ascii_lowercase().contains_str(b"chunked"))
            .filter_map(|text| text.split_once_str(b"\r\n\r\n"))
            .map(|(_, body)| body.to_vec())
            .collect()
    }

    fn targets(&self) -> Vec<Vec<u8>> {
        let words = self.requests.iter().flat_map(|text| text.lines());
        words
            .filter_map(|line| line.split(|byte| *byte == b' ').nth(1))
            .filter(|word| word.starts_with(b"/"))
            .map(<[u8]>::to_vec)
            .collect()
    }
}

fn files_below(folder: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            files_below(&path, out);
        } else {
            out.push(path);
        }
    }
}

/// Returns a case's text with numbers for its ports.
fn named(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once_str(b"{port:") {
        out.extend_from_slice(before);
        out.extend_from_slice(b"8080");
        rest = after.split_once_str(b"}").map_or(&b""[..], |(_, after)| after);
    }
    out.extend_from_slice(rest);
    out.replace("{prefix}", "/prefix")
}

fn gather(all: &[Directive], words: &mut Vec<Vec<u8>>, lua: &mut Vec<Vec<u8>>) {
    for directive in all {
        words.extend(
            directive.args.iter().map(|word| word.text().to_vec()).filter(|word| word.contains(&b'$')),
        );
        if let Body::Lua(block) = &directive.body {
            lua.push(block.code.to_vec());
        }
        gather(directive.children(), words, lua);
    }
}

/// Returns the parser's golden files, which have the form of an input, with the main file named.
fn golden(root: &Path) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    files_below(&root.join("crates/conf/tests/golden"), &mut paths);
    let texts = paths.iter().filter(|path| path.extension().is_some_and(|ending| ending == "case"));
    texts
        .filter_map(|path| fs::read(path).ok())
        .map(|text| text.split_once_str(b"\n").map_or(text.clone(), |(_, rest)| rest.to_vec()))
        .collect()
}

/// Returns the example of each directive, in its context.
fn examples() -> Vec<Vec<u8>> {
    let upstreams = "upstream blue { server 127.0.0.1:1; } upstream green { server 127.0.0.1:2; }";
    engine::config::directives()
        .flat_map(|(_, directive)| {
            let example = directive.example;
            [
                format!("events {{}} {example} http {{ server {{ listen 80; }} }}"),
                format!("events {{}} http {{ {upstreams} {example} server {{ listen 80; location / {{ return 200 $uri; }} }} }}"),
                format!("events {{}} http {{ {upstreams} server {{ listen 80; {example} }} }}"),
                format!("events {{}} http {{ {upstreams} server {{ listen 80; location / {{ {example} }} }} }}"),
                format!("events {{}} http {{ {upstreams} switch $host $live {{ default blue; {example} }} server {{ listen 80; location / {{ proxy_pass http://$live; }} }} }}"),
                format!("events {{}} http {{ upstream u {{ server 127.0.0.1:1; {example} }} server {{ listen 80; location / {{ proxy_pass http://u; }} }} }}"),
            ]
        })
        .map(String::into_bytes)
        .collect()
}

/// Changes of each kind to both files of a store.
fn damages() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for choice in [0, 1] {
        for what in 0..16u8 {
            for at in [0u8, 18, 24, 100] {
                all.push(vec![choice, what, at, at, 0, 4, 1, 2, 3, 4]);
            }
        }
        for table in 0..7u8 {
            for column in 0..13u8 {
                all.push(vec![choice, 14, 0, 0, 0, 5, table, column, 0, table + column, 7]);
            }
        }
    }
    all
}

/// Damage of each kind to each file of an open store, between orders, quiet moments and crashes.
fn live_damages() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for choice in 0..3u8 {
        for what in [0u8, 4, 6, 8, 10, 12] {
            for (at, page) in [(24u8, 0u8), (9, 16)] {
                let damage = [4, what, at, page, 0, 4, 1, 2, 3, 4];
                all.push([&[choice, 0, 3][..], &damage, &[8, 6, 3, 7, 24, 6]].concat());
                all.push([&[choice, 3, 0, 8][..], &damage, &[3, 0, 6], &damage, &[7, 0, 6]].concat());
            }
        }
    }
    all
}

/// Returns each kind of file at each path.
fn files_at_paths() -> Vec<Vec<u8>> {
    let free = [255; 7];
    let at = |role: usize, kind: u8| {
        let mut roles = free;
        roles[role] = 0;
        [&[1, 0, kind][..], &roles, &[0, 1, 1]].concat()
    };
    (0..7)
        .flat_map(|role| (0..9).map(move |kind| at(role, kind)))
        .chain([[&[0][..], &free, &[1, 1]].concat()])
        .collect()
}

fn replies() -> Vec<Vec<u8>> {
    let record =
        |kind: u8, data: &[u8]| [&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8], data].concat();
    vec![
        [&[2][..], &record(1, &[10, 0, 0, 1])].concat(),
        [&[3][..], &record(28, &[0; 16])].concat(),
        [&[4][..], &record(5, b"\x01b\xc0\x0c"), &record(1, &[10, 0, 0, 1])].concat(),
        [&[2][..], &record(5, b"\xc0\x0c")].concat(),
        b"\x02a.name.that.is.asked".to_vec(),
    ]
}

/// Seeds that are written out.
fn written(target: &str) -> &'static [&'static str] {
    match target {
        "request_head" | "messages" => &[
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /c HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "GET http://[::1]:80/x?y HTTP/1.1\r\nHost: b\r\nConnection: close, x\r\nExpect: 100-continue\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n\r\nGET /x\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
        ],
        "response_head" => &[
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.0 204\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 403.7 x\nbad name: y\n\n",
        ],
        "chunked" => &[
            "3\r\nabc\r\n0\r\n\r\n",
            "a;x=\"y\"\r\n0123456789\r\n0\r\nTrailer: a\r\nX: y\r\n\r\nrest",
            "7fffffffffffffff\r\n",
            "8000000000000000\r\n",
            "0000000000000000000000001 \t;\r\nx\r\n00\r\nContent-Length: 5\r\n\r\n",
        ],
        "field_values" => &[
            "uid\na=b; UID = 7; c",
            "a\nx=1&A=2&a",
            "a\nWWW.Example.COM.:8080",
            "a\n[2001:DB8::1]:443",
            "a\nSun, 06 Nov 1994 08:49:37 GMT",
            "a\nSunday, 06-Nov-94 08:49:37 GMT",
            "a\nSun Nov  6 08:49:37 1994",
            "a\nclose, keep-alive ,, Upgrade",
            "a\n9223372036854775807",
        ],
        "header_list" => &[
            "\0\0",
            "\u{3}\u{5}",
            "\t\t\t",
            "\0\u{2}a\u{5}\u{4}",
            "\0\0a\0\u{1}b\u{3}\0c\u{5}\0\0\u{6}\u{1}z\u{7}\0\0\u{8}\0x",
        ],
        "key_route" => &[
            "a.example\tgreen\n*.example\tblue=1 green=2\nwww.*\tred\n*\tblue\nb.a.example",
            "A.Example.:80\tgreen\n[::1]\tblue\n[::1]",
            "a.b.c.d\tred\n*.b.c.d\tgreen\n*.c.d\tblue\na.b.*\tred\na.b.c",
            "xn--a.example\tblue",
            "x=0 y=1\tx=0 y=1\n\u{e4}\ta=1 a=2",
        ],
        "template" => &[
            "a$host:${server_port}b$1${2}\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "$",
            "${a",
            "$live$mapped$circle$set_here$part",
        ],
        "uri" => &["/a/../b/./c//d%2e%2E/%2f?x#y", "/..", "/a%00", "?x", "/%3f%23%25"],
        "values" => &["1h30m", "1y2M3w4d5h6m7s", "10ms", "1 ", "16k", "2G", "9223372036854775807", "on"],
        "lua_block" => {
            &["x = { [[ } ]], \"}\", '}' } -- }\n", "--[==[ } ]==] y[1] = '\\'}'", "it's } \"", "[=[ }"]
        }
        "api" => API,
        _ => &[],
    }
}

const API: &[&str] = &[
    "PUT /v1/switches/live/keys/a.example\n\n{\"target\":\"green\",\"reason\":\"why\"}\n---\nGET /v1/switches/live/keys?limit=2\n\n\n---\nPOST /v1/switches/live/undo\n\n{}",
    "PUT /v1/switches/live/keys/%2A.example\nif-match: \"0\"\nidempotency-key: k\n\n{\"split\":{\"green\":10,\"blue\":90},\"dry_run\":true}\n---\nGET /v1/switches/live\n\n",
    "POST /v1/switches/live/commits\n\n{\"changes\":[{\"key\":\"a\",\"target\":\"green\"},{\"key\":\"b\",\"default\":true}],\"force\":true,\"wait\":\"drained\",\"timeout\":\"1s\"}\n---\nGET /v1/switches/live/history?limit=1&verify=true\n\n",
    "PUT /v1/switches/live/keys/a\n\n{\"target\":\"green\",\"confirm_within\":\"10m\"}\n---\nPOST /v1/switches/live/confirm\n\n{\"revision\":1}\n---\nGET /v1/switches/live/receipts/1\n\n",
    "PUT /v1/switches/live/holds/a\n\n{\"max\":3,\"timeout\":\"2s\",\"max_size\":\"1m\"}\n---\nDELETE /v1/switches/live/holds/a\n\n{\"per_second\":5}\n---\nGET /v1/switches\n\n",
    "DELETE /v1/switches/other/keys//a/b\n\n{\"hold\":{\"max\":1,\"timeout\":\"1s\",\"per_second\":1}}\n---\nGET /v1/status\n\n\n---\nGET /v1/openapi.json\n\n",
    "POST /v1/switches/live/undo\n\n{\"keys\":[\"a\"]}\n---\nPOST /v1/switches/live/undo\n\n{\"commit\":1}\n---\nGET /v1/switches/live/compare?window=60s\n\n",
    "PUT /v1/switches/live/keys/a\n\n{\"target\":\"red\"}\n---\nPATCH /v1/switches\n\n\n---\nGET /v1/nothing\n\n",
];

/// Returns the words of a target's format as a dictionary for libFuzzer.
pub fn dictionary(target: &str) -> String {
    let words: Vec<String> = match target {
        "config_text" | "config_build" | "bundle" => {
            let names = engine::config::directives().map(|(_, directive)| directive.name.to_owned());
            let more = [
                "=== a.conf\n",
                "include a.conf;",
                "include *;",
                "{",
                "}",
                ";",
                "on;",
                "off;",
                "default",
                "~*",
                "${",
                "_by_lua_block {",
            ];
            names.chain(more.map(str::to_owned)).collect()
        }
        "template" => {
            let tables = engine::variables::VARIABLES.iter().flat_map(|table| table.iter());
            tables.map(|variable| format!("${{{}}}", variable.name)).collect()
        }
        "request_head" | "messages" | "response_head" | "chunked" => {
            let names = http::Known::all().map(|known| format!("{}: ", known.name()));
            let more = [
                "chunked",
                "HTTP/1.1",
                "HTTP/1.0",
                "\r\n",
                "\r\n\r\n",
                "\n",
                "\r",
                "GET ",
                "POST ",
                "CONNECT ",
                "0\r\n\r\n",
                "close",
                "keep-alive",
            ];
            names.chain(more.map(str::to_owned)).collect()
        }
        "api" => [
            "target",
            "split",
            "default",
            "changes",
            "key",
            "keys",
            "commit",
            "revision",
            "reason",
            "confirm_within",
            "force",
            "wait",
            "published",
            "drained",
            "timeout",
            "hold",
            "max",
            "max_size",
            "per_second",
            "dry_run",
            "if-match: \"1\"\n",
            "idempotency-key: a\n",
            "\n---\n",
            "PUT ",
            "POST ",
            "DELETE ",
            "GET ",
            "/v1/switches/live",
            "/keys/",
            "/undo",
            "/commits",
            "/confirm",
            "/holds/",
            "/history",
            "limit=",
            "before=",
            "true",
            "null",
            "blue",
            "green",
            "red",
        ]
        .map(str::to_owned)
        .to_vec(),
        "lua_block" => {
            ["--[[", "]]", "[==[", "]==]", "--", "\\\"", "\\'", "{", "}", "\n"].map(str::to_owned).to_vec()
        }
        "uri" => ["/../", "/./", "//", "%2e", "%2f", "%00", "%25", "?", "#"].map(str::to_owned).to_vec(),
        _ => Vec::new(),
    };
    let quoted = |word: &String| {
        let bytes: String = word.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("\"{bytes}\"\n")
    };
    words.iter().map(quoted).collect()
}
