//! The ways in: the control socket and a location.

use super::*;
use crate::call::{ApiAnswer, ApiCall};
use crate::setup::Setup;
use engine::Config;
use engine::config::{Inputs, NameLookup, build};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

struct Files(HashMap<PathBuf, String>);

impl conf::Loader for Files {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        self.0.get(path).map(|text| text.clone().into_bytes()).ok_or(std::io::ErrorKind::NotFound.into())
    }
    fn glob(&self, _: &Path) -> std::io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

impl NameLookup for Files {
    fn lookup(&self, _: &str, _: u16) -> Result<Vec<SocketAddr>, String> {
        Err("Name or service not known".to_owned())
    }
}

/// Returns the configuration of what stands in `http`, with files beside it.
pub(crate) fn config(prefix: &Path, http: &str, files: &[(&'static str, String)]) -> Arc<Config> {
    let files =
        Files(files.iter().map(|(name, text)| (Path::new("/etc").join(name), text.clone())).collect());
    let parsed = conf::parse_text("/etc/nginx.conf", format!("events {{}} http {{ {http} }}"), &files);
    let inputs = Inputs {
        loader: &files,
        names: &files,
        prefix: prefix.to_owned(),
        file: "/etc/nginx.conf".into(),
        identity: Default::default(),
    };
    match build(&parsed, &inputs) {
        Ok((config, _)) => Arc::new(config),
        Err(faults) => {
            let lines: Vec<String> = faults.iter().map(|fault| fault.nginx_line(&parsed.sources)).collect();
            panic!("{lines:#?}")
        }
    }
}

#[tokio::test]
async fn the_socket_knows_the_user_of_its_peer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let began = Instant::now();
    let (control, _) = ControlHandle::start(Setup {
        config: config(folder.path(), &two_groups("state memory;"), &[]),
        listener: Some(listener),
        refused_peer: None,
        data_plane: FakeDataPlane::new(),
        clock_ms: Arc::new(move || began.elapsed().as_millis() as u64),
        log: Arc::new(|_, _| {}),
        upgrades: false,
        file_default: crate::FileDefault::default(),
        window_times: crate::WindowTimes::default(),
    })
    .unwrap();
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let put = "PUT /v1/switches/live/keys/a.example HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
               x-pointsman-actor: b%20b\r\ncontent-length: 18\r\n\r\n{\"target\":\"green\"}";
    // The connection is kept for the second order.
    let last = put.replace("b%20b", "c").replace("green", "blue").replace("length: 18", "length: 17");
    stream.write_all(put.as_bytes()).await.unwrap();
    stream.write_all(last.replace("host: x", "host: x\r\nconnection: close").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
    let uid = nix::unistd::geteuid();
    let name = nix::unistd::User::from_uid(uid)
        .unwrap()
        .map_or(format!("unix:{uid}"), |user| format!("unix:{uid}({})", user.name));
    assert!(text.contains(&format!("\"actor\":\"{name} for b b\"")), "{text}");
    assert!(text.contains(&format!("\"actor\":\"{name} for c\"")), "{text}");
    control.stop();
}

#[tokio::test]
async fn the_socket_refuses_the_process_that_serves() {
    refuses(std::process::id()).await;
}

#[tokio::test]
async fn the_socket_refuses_another_process_of_the_server() {
    // This process is the other one: it has announced itself before the one that listens.
    refuses(u32::MAX).await;
}

async fn refuses(own: u32) {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let _other = crate::store::ProcessEntry::announce(&state).unwrap();
    let path = folder.path().join("p.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (control, _) = ControlHandle::start(Setup {
        config: config(folder.path(), &two_groups("state memory;"), &[]),
        listener: Some(listener),
        refused_peer: Some(own),
        data_plane: FakeDataPlane::new(),
        clock_ms: Arc::new(|| 0),
        log: Arc::new(|_, _| {}),
        upgrades: false,
        file_default: crate::FileDefault::default(),
        window_times: crate::WindowTimes::default(),
    })
    .unwrap();
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let mut text = String::new();
    // What was sent may have been refused, too.
    let _ = stream.write_all(b"GET /v1/switches HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let _ = stream.read_to_string(&mut text).await;
    assert_eq!(text, "");
    control.stop();
}

struct Heard(mpsc::UnboundedSender<Piece>);

enum Piece {
    Head(u16, Vec<(String, String)>),
    Chunk(Vec<u8>),
}

impl ApiAnswer for Heard {
    fn head(&mut self, status: u16, headers: Vec<(String, String)>) {
        // The client may have gone.
        let _ = self.0.send(Piece::Head(status, headers));
    }
    fn chunk(&mut self, bytes: Vec<u8>) -> bool {
        self.0.send(Piece::Chunk(bytes)).is_ok()
    }
    fn gone(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.0.closed())
    }
}

fn api_call(method: &str, path: &str, query: &str, body: &str, headers: Vec<(Vec<u8>, Vec<u8>)>) -> ApiCall {
    ApiCall {
        method: method.into(),
        path: path.into(),
        query: query.into(),
        headers,
        body: body.into(),
        actor: Origin {
            via: Via::Location,
            name: String::new(),
            certificate: None,
            over_tls: false,
            address: "192.0.2.7".into(),
            local: None,
            server_names: Vec::new(),
        },
    }
}

async fn call(
    control: &ControlHandle,
    method: &str,
    path: &str,
    query: &str,
    body: &str,
) -> (u16, Vec<(String, String)>, String) {
    let (sender, mut heard) = mpsc::unbounded_channel();
    let headers = vec![
        (b"host".to_vec(), b"localhost".to_vec()),
        (b"content-type".to_vec(), b"application/json".to_vec()),
    ];
    control.call(api_call(method, path, query, body, headers), Box::new(Heard(sender)));
    let Some(Piece::Head(status, headers)) = heard.recv().await else { panic!("no head") };
    let mut text = Vec::new();
    while let Some(Piece::Chunk(bytes)) = heard.recv().await {
        text.extend(bytes);
    }
    (status, headers, String::from_utf8(text).unwrap())
}

/// Begins to listen to events through a location. The stream goes on while the receiver lives.
fn listen(control: &ControlHandle) -> mpsc::UnboundedReceiver<Piece> {
    let (sender, heard) = mpsc::unbounded_channel();
    let headers = vec![(b"host".to_vec(), b"localhost".to_vec())];
    control.call(api_call("GET", "/v1/events", "", "", headers), Box::new(Heard(sender)));
    heard
}

async fn status(heard: &mut mpsc::UnboundedReceiver<Piece>) -> u16 {
    let Some(Piece::Head(status, _)) = heard.recv().await else { panic!("no head") };
    status
}

#[tokio::test]
async fn streams_through_locations_are_bounded_and_end_with_their_clients() {
    let api = TestApi::new("state memory;");
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut heard = listen(&api.control);
        assert_eq!(status(&mut heard).await, 200);
        streams.push(heard);
    }
    assert_eq!(status(&mut listen(&api.control)).await, 429);
    streams.pop();
    // Not with the next event: there is none.
    let began = Instant::now();
    while status(&mut listen(&api.control)).await != 200 {
        assert!(began.elapsed().as_secs() < 5, "the place was not given back");
    }
}

#[tokio::test]
async fn a_location_gives_the_same_answers_with_its_clients_address() {
    let api = TestApi::new("state memory; keys length=40;");
    let body = r#"{"target":"green"}"#;
    let (status, headers, text) =
        call(&api.control, "PUT", "/v1/switches/live/keys/*.example", "", body).await;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains(r#""actor":"http:192.0.2.7""#), "{text}");
    assert!(headers.contains(&("content-length".into(), text.len().to_string())), "{headers:?}");
    assert!(headers.contains(&("etag".into(), "\"1\"".into())), "{headers:?}");
    let (status, _, text) =
        call(&api.control, "GET", "/v1/switches/live/keys", "contains=%2A&limit=1", "").await;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains(r#""key":"*.example""#), "{text}");
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v1/switches/live/keys/a b", 422),
        ("GET", "/v1/switches/live/keys/a%20b", 422),
        ("GET", "/v1/switches/live/keys/a%2Fb", 422),
        ("GET", "/v1/switches/live/keys/a%2eb", 200),
        ("GET", "/v1/switches/live/keys/a%b", 200),
        ("POST", "/v1/switches", 405),
        ("P T", "/v1/switches", 400),
    ] {
        let (got, _, text) = call(&api.control, method, path, "", "{}").await;
        assert_eq!(got, status, "{method} {path}: {text}");
    }
}
