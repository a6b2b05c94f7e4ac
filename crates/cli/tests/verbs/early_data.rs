//! Requests before the end of the handshake (`ssl_early_data`): what is served at once, what waits, and what is never served
//! twice.

use super::http2::{block, raw};
use super::*;
use http::h2::frame::{self, END_HEADERS, END_STREAM, FRAME_HEADER_BYTES, FrameHeader, FrameKind, PREFACE};
use rcgen::{CertificateParams, KeyPair};
use std::net::TcpStream;
use std::sync::Arc;
use testkit::ports::Port;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};

/// A server that takes early data, and a client's configuration with its sessions.
struct Early {
    server: Server,
    /// The certificate's.
    _files: TempDir,
    port: Port,
    certificate: CertificateDer<'static>,
}

impl Early {
    fn start() -> Early {
        let files = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        let pem = files.path().join("a.pem");
        std::fs::write(&pem, made.pem() + &key.serialize_pem()).unwrap();
        let port = testkit::ports::reserve().unwrap();
        let server = Server::start(
            "dict dict;",
            &format!(
                r#"lua_shared_dict dict 1m;
                 access_log {{folder}}/logs/access.log;
                 server {{ listen unix:{{folder}}/origin; return 200 "<$http_early_data>"; }}
                 server {{
                     listen 127.0.0.1:{} ssl; http2 on; client_header_timeout 60s;
                     ssl_certificate {pem}; ssl_certificate_key {pem};
                     ssl_early_data on; ssl_session_tickets off; ssl_session_cache shared:sessions:1m;
                     location / {{ return 200 "<$ssl_early_data>"; }}
                     location /origin {{ proxy_pass http://unix:{{folder}}/origin; }}
                     location /set {{
                         proxy_set_header Early-Data "s$ssl_early_data";
                         proxy_pass http://unix:{{folder}}/origin;
                     }}
                     location /control/ {{ control_api; }}
                     location /dict {{
                         content_by_lua_block {{
                             local ok, why = ngx.shared.dict:set("k.test", "green")
                             ngx.say("<", ok, why or "", ">")
                         }}
                     }}
                 }}"#,
                port.number,
                pem = pem.display()
            ),
        );
        Early { server, _files: files, port, certificate: made.der().clone() }
    }

    fn config(&self, alpn: &str) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.enable_early_data = true;
        config.resumption = Resumption::in_memory_sessions(8);
        config.alpn_protocols = vec![alpn.into()];
        Arc::new(config)
    }

    fn connect(&self, config: &Arc<ClientConfig>) -> Client {
        let name = ServerName::try_from("a.test").unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        Client { tls, socket: self.socket() }
    }

    fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(("127.0.0.1", self.port.number)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Begins a session, and returns once the client can resume it.
    fn begin_session(&self, config: &Arc<ClientConfig>) {
        let mut client = self.connect(config);
        client.tls.writer().write_all(&get("/first")).unwrap();
        client.go_on();
        assert_eq!(client.answer(), "<>");
    }

    /// Sends a request before the end of the handshake, which the client does not end. Returns what it has sent, too.
    fn ask_early(&self, config: &Arc<ClientConfig>, request: &[u8]) -> (Client, Vec<u8>) {
        self.begin_session(config);
        let mut client = self.connect(config);
        client.tls.early_data().expect("a session to resume").write_all(request).unwrap();
        let mut sent = Vec::new();
        while client.tls.wants_write() {
            client.tls.write_tls(&mut sent).unwrap();
        }
        client.socket.write_all(&sent).unwrap();
        (client, sent)
    }
}

struct Client {
    tls: ClientConnection,
    socket: TcpStream,
}

impl Client {
    /// Sends what there is to say: the end of the handshake, if that has not gone.
    fn go_on(&mut self) {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket).unwrap();
        }
        while self.tls.is_handshaking() {
            self.tls.complete_io(&mut self.socket).unwrap();
        }
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket).unwrap();
        }
    }

    /// Reads as much as `is_enough` wants, and says nothing meanwhile.
    fn read_until(&mut self, is_enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut read = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            match self.tls.reader().read(&mut chunk) {
                Ok(count) => read.extend_from_slice(&chunk[..count]),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}"),
            }
            if is_enough(&read) {
                return read;
            }
            assert!(
                self.tls.read_tls(&mut self.socket).expect("an answer in time") > 0,
                "the end came first"
            );
            self.tls.process_new_packets().unwrap();
        }
    }

    /// Returns what stands in angle brackets in the next answer, or its status.
    fn answer(&mut self) -> String {
        let text = self.read_until(|read| {
            let ends = |mark: &[u8]| read.windows(mark.len()).any(|part| part == mark);
            ends(b"\r\n\r\n") && (ends(b">") || !read.starts_with(b"HTTP/1.1 200"))
        });
        let text = String::from_utf8(text).unwrap();
        match text.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
            Some((inside, _)) if text.starts_with("HTTP/1.1 200") => format!("<{inside}>"),
            _ => text[9..12].to_owned(),
        }
    }

    fn ask(&mut self, request: &[u8]) -> String {
        self.tls.writer().write_all(request).unwrap();
        self.go_on();
        self.answer()
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n").into_bytes()
}

fn post(path: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

#[test]
fn early_requests_are_answered_at_once_if_they_change_nothing() {
    let early = Early::start();
    let config = early.config("http/1.1");
    let (mut client, _) = early.ask_early(&config, &get("/"));
    assert_eq!(client.answer(), "<1>", "before the end of the handshake");
    assert!(client.tls.is_early_data_accepted());
    assert_eq!(client.ask(&get("/")), "<>", "and after it");
    let (mut client, _) = early.ask_early(&config, &get("/origin"));
    assert_eq!(client.answer(), "<1>", "the upstream is told");
    assert_eq!(client.ask(&get("/origin")), "<>");
    let (mut client, _) = early.ask_early(&config, &get("/set"));
    assert_eq!(client.answer(), "<s1>", "in the configuration's words, if it has some");
    // Another method waits, which what it sees of the handshake shows.
    let (mut client, _) = early.ask_early(&config, &post("/"));
    client.go_on();
    assert!(client.tls.is_early_data_accepted());
    assert_eq!(client.answer(), "<>");
    // What is left of a request comes after the handshake.
    let half = get("/");
    let (mut client, _) = early.ask_early(&config, &half[..10]);
    assert_eq!(client.ask(&half[10..]), "<>");
    // A reload keeps the sessions.
    early.begin_session(&config);
    early.server.say(&["reload"]).done();
    let mut client = early.connect(&config);
    client.tls.early_data().unwrap().write_all(&get("/")).unwrap();
    client.tls.write_tls(&mut client.socket).unwrap();
    assert_eq!(client.answer(), "<1>");
}

#[test]
fn early_orders_are_refused_until_the_handshake_ends() {
    let early = Early::start();
    let config = early.config("http/1.1");
    let (mut client, _) = early.ask_early(&config, &get("/control/v1/switches"));
    assert_eq!(client.answer(), "425");
    let (mut client, _) = early.ask_early(&config, &get("/dict"));
    assert_eq!(client.answer(), "425");
    let table = early.server.say(&["list", "--json"]).done();
    assert!(!table.contains("k.test"), "{table}");
    let mut client = early.connect(&config);
    client.go_on();
    assert_eq!(client.ask(&get("/dict")), "<true>");
    assert!(early.server.say(&["list", "--json"]).done().contains("k.test"));
}

#[test]
fn early_requests_that_are_sent_again_are_not_served_again() {
    let early = Early::start();
    let config = early.config("http/1.1");
    let (mut client, sent) = early.ask_early(&config, &get("/once"));
    assert_eq!(client.answer(), "<1>");
    for _ in 0..8 {
        // On any thread.
        let mut socket = early.socket();
        socket.write_all(&sent).unwrap();
        let mut first = [0; 5];
        socket.read_exact(&mut first).unwrap();
        assert_eq!(first[0], 22, "a handshake, from its beginning");
    }
    let mut client = early.connect(&config);
    client.go_on();
    assert_eq!(client.ask(&get("/last")), "<>");
    let log = early.server.path("logs/access.log");
    early
        .server
        .until("the last request is logged", || std::fs::read_to_string(&log).unwrap().contains("/last"));
    let log = std::fs::read_to_string(&log).unwrap();
    assert_eq!(log.matches("GET /once ").count(), 1, "{log}");
}

#[test]
fn early_streams_of_http2_are_judged_one_by_one() {
    let early = Early::start();
    let config = early.config("h2");
    let ask = |stream: u32, method: &str| {
        let fields = [(":method", method), (":scheme", "https"), (":path", "/"), (":authority", "a.test")];
        raw(FrameKind::Headers, END_HEADERS | END_STREAM, stream, &block(&fields))
    };
    let mut start = PREFACE.to_vec();
    frame::write_settings(&mut start, &[]);
    // A session that has agreed on HTTP/2.
    let mut client = early.connect(&config);
    client.tls.writer().write_all(&[&start[..], &ask(1, "GET")].concat()).unwrap();
    client.go_on();
    assert_eq!(bodies(&mut client, 1), [(1, "<>".to_owned())]);
    let mut client = early.connect(&config);
    let requests = [&start[..], &ask(1, "POST"), &ask(3, "GET")].concat();
    client.tls.early_data().expect("a session to resume").write_all(&requests).unwrap();
    while client.tls.wants_write() {
        client.tls.write_tls(&mut client.socket).unwrap();
    }
    assert_eq!(bodies(&mut client, 1), [(3, "<1>".to_owned())], "the other one waits");
    client.go_on();
    assert_eq!(bodies(&mut client, 1), [(1, "<>".to_owned())]);
}

/// Reads so many bodies.
fn bodies(client: &mut Client, count: usize) -> Vec<(u32, String)> {
    let found = std::cell::RefCell::new(Vec::new());
    client.read_until(|read| {
        let mut rest = read;
        let mut bodies = Vec::new();
        while let Some(header) = FrameHeader::parse(rest) {
            let end = FRAME_HEADER_BYTES + header.len as usize;
            let Some(payload) = rest.get(FRAME_HEADER_BYTES..end) else { break };
            if header.kind == FrameKind::Data && !payload.is_empty() {
                bodies.push((header.stream, String::from_utf8_lossy(payload).into_owned()));
            }
            rest = &rest[end..];
        }
        let is_enough = bodies.len() >= count && rest.is_empty();
        found.replace(bodies);
        is_enough
    });
    found.into_inner()
}

#[test]
fn early_data_has_no_effect_with_tickets_and_that_is_said() {
    let early = Early::start();
    let conf = std::fs::read_to_string(early.server.path("conf/nginx.conf")).unwrap();
    for (line, other, words) in [
        ("ssl_session_tickets off;", "", "a ticket could be used twice"),
        ("ssl_session_cache shared:sessions:1m;", "", "no session is kept"),
        ("ssl_early_data on;", "ssl_early_data on; ssl_protocols TLSv1.2;", "TLS 1.3 is off"),
    ] {
        assert!(conf.contains(line));
        std::fs::write(early.server.path("conf/other.conf"), conf.replace(line, other)).unwrap();
        let said = early.server.say(&["-t", "-c", "conf/other.conf"]);
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(said.err.contains(&format!("\"ssl_early_data\" has no effect: {words}")), "{}", said.err);
    }
    let said = early.server.say(&["-t"]);
    assert!(!said.err.contains("ssl_early_data"), "{}", said.err);
}
