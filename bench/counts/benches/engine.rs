//! Instructions of what the engine does for every request: finding the location, expanding variables, the line in the
//! access log, and the whole walk to the proxy. `cargo xtask counts` runs and compares them.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the macros make items that have neither documentation nor users"
)]

use engine::config::{Config, Inputs, LogId, NoNames, build, find_location};
use engine::exchange::{Captures, Exchange};
use engine::host::{
    Counters, Env, FileError, Host, Level, Now, OpenRequest, Opened, ScriptCall, ScriptOutcome,
};
use engine::modules::proxy;
use engine::phase::{self, Content, Step};
use engine::{modules, output, start_request};
use gungraun::{library_benchmark, library_benchmark_group, main};
use http::ResponseHead;
use std::any::Any;
use std::hint::black_box;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const CONF: &str = r#"
events {}
http {
    log_format main '$remote_addr - $remote_user [$time_local] "$request" '
                    '$status $body_bytes_sent "$http_referer" '
                    '"$http_user_agent" "$http_x_forwarded_for"';
    access_log logs/access.log main;
    upstream app { server 10.0.0.1:8080; server 10.0.0.2:8080; }
    server { listen 80; server_name www.example.com example.com; return 301 https://shop.example.com$request_uri; }
    server {
        listen 80;
        server_name shop.example.com *.shop.example.com;
        proxy_set_header Host $host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Original "$request_method $request_uri";
        location / { proxy_pass http://app; }
        location = / { proxy_pass http://app; }
        location = /favicon.ico { return 204; }
        location /api/ { proxy_pass http://app; location /api/v2/ { proxy_pass http://app; } }
        location ^~ /static/ { root /srv; }
        location /images/ { root /srv; }
        location ~ \.php$ { return 403; }
        location ~* \.(?:gif|jpe?g|png)$ { root /srv; }
    }
}
"#;

const REQUEST: &[u8] = b"GET /api/v1/orders?page=2 HTTP/1.1\r\nHost: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: application/json\r\nReferer: https://shop.example.com/\r\n\r\n";

/// A world in which nothing happens.
#[derive(Default)]
struct Still {
    /// Bytes of the lines that were logged.
    logged: usize,
}

const ABSENT: FileError = FileError { errno: 2, call: "open()" };

impl Host for Still {
    fn now(&self) -> Now {
        Now { epoch_us: 1_700_000_000_123_456, monotonic_us: 5_000_000, utc_offset_s: 3600 }
    }
    fn random(&mut self) -> u64 {
        4
    }
    fn open(&mut self, _: OpenRequest<'_>) -> Result<Opened, FileError> {
        Err(ABSENT)
    }
    fn read_file(&mut self, _: &[u8]) -> Result<Vec<u8>, FileError> {
        Err(ABSENT)
    }
    fn removal(&mut self, _: &Path) -> Rc<dyn Any> {
        Rc::new(())
    }
    fn script(&mut self, _: &Config, _: &mut Exchange, _: ScriptCall) -> ScriptOutcome {
        ScriptOutcome::Finished
    }
    fn real_path(&mut self, _: &[u8]) -> Result<Vec<u8>, FileError> {
        Err(ABSENT)
    }
    fn hostname(&self) -> &[u8] {
        b"bench"
    }
    fn pid(&self) -> u32 {
        1
    }
    fn access_log(&mut self, _: &Config, _: LogId, line: &[u8]) {
        self.logged += line.len();
    }
    fn access_log_at(&mut self, _: &[u8], _: &[u8]) -> Result<(), FileError> {
        Err(ABSENT)
    }
    fn error_log(&mut self, _: &Config, _: LogId, _: Level, _: u64, _: &[u8]) {}
    fn counters(&self) -> Counters {
        Counters::default()
    }
}

fn config() -> Config {
    let parsed = conf::parse_text("/etc/nginx.conf", CONF.to_owned(), &conf::NoFiles);
    let inputs = Inputs {
        loader: &conf::NoFiles,
        names: &NoNames,
        prefix: PathBuf::from("/prefix"),
        file: PathBuf::from("/etc/nginx.conf"),
        identity: Default::default(),
    };
    match build(&parsed, &inputs) {
        Ok((config, _)) => config,
        Err(faults) => {
            panic!("{:?}", faults.iter().map(|f| f.nginx_line(&parsed.sources)).collect::<Vec<_>>())
        }
    }
}

/// One request on a connection that had others before. Benches take and return it in a box: it is large, and to move it is
/// no part of a piece.
struct World {
    config: Config,
    host: Still,
    exchange: Exchange,
    out: Vec<u8>,
}

impl World {
    fn begin(&mut self) {
        self.read();
        self.choose();
    }

    fn read(&mut self) {
        let World { config, host, exchange, .. } = self;
        exchange.reset(config, host.now());
        exchange.request.head.clear();
        let limits = start_request::head_limits(config, 0);
        assert!(exchange.request.head.decode(REQUEST, &limits).is_ok());
    }

    fn choose(&mut self) {
        let World { config, host, exchange, .. } = self;
        assert_eq!(start_request::start(exchange, &mut Env { config, host }), Ok(()));
    }

    fn walk(&mut self) {
        let World { config, host, exchange, .. } = self;
        let step = phase::advance(exchange, &mut Env { config, host });
        assert!(matches!(step, Step::Serve(Content::Proxy)));
    }
}

/// Returns a request that is read, and its server found.
fn begun() -> Box<World> {
    let mut exchange = Exchange::default();
    exchange.connection.remote = Some(SocketAddr::from(([192, 0, 2, 7], 40_000)));
    exchange.connection.local = Some(SocketAddr::from(([192, 0, 2, 1], 80)));
    let (host, out) = (Still::default(), Vec::with_capacity(4096));
    let mut world = Box::new(World { config: config(), host, exchange, out });
    // All that is allocated once is.
    for _ in 0..3 {
        world.begin();
        world.walk();
        write_log(&mut world);
        expand(&mut world);
        world.out.clear();
    }
    world.begin();
    world
}

/// Returns one that has come to its location.
fn routed() -> Box<World> {
    let mut world = begun();
    world.walk();
    world
}

fn write_log(world: &mut World) {
    let World { config, host, exchange, .. } = world;
    modules::log::access(exchange, &mut Env { config, host });
}

fn expand(world: &mut World) {
    let World { config, host, exchange, out } = world;
    let headers = &*config.location(exchange.route.location).settings.proxy.request.set_headers;
    assert_eq!(headers.len(), 5);
    for (_, template) in headers {
        template.append(exchange, &mut Env { config, host }, out);
    }
}

#[library_benchmark]
#[bench::access(setup = routed)]
fn log_line(mut world: Box<World>) -> Box<World> {
    write_log(&mut world);
    world
}

#[library_benchmark]
#[bench::forwarding(setup = routed)]
fn expand_variables(mut world: Box<World>) -> Box<World> {
    expand(&mut world);
    world
}

#[library_benchmark]
#[bench::to_proxy(setup = begun)]
fn walk(mut world: Box<World>) -> Box<World> {
    world.walk();
    world
}

fn server(uri: &'static [u8]) -> (Box<Config>, Box<Captures>, &'static [u8]) {
    (Box::new(config()), Box::default(), uri)
}

#[library_benchmark]
#[bench::exact(args = (b"/favicon.ico"), setup = server)]
#[bench::prefix_after_regexes(args = (b"/api/v1/orders"), setup = server)]
#[bench::prefix_alone(args = (b"/static/site.css"), setup = server)]
#[bench::regex(args = (b"/images/logo.png"), setup = server)]
fn find(
    (config, mut captures, uri): (Box<Config>, Box<Captures>, &'static [u8]),
) -> (Box<Config>, Box<Captures>) {
    let table = &config.location(config.servers[1].scope).inner;
    assert!(black_box(find_location(&config, table, black_box(uri), &mut captures)).is_ok());
    (config, captures)
}

/// As an origin answers that keeps its connections.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: origin/1.0\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: 1234\r\nConnection: keep-alive\r\n\
    Cache-Control: private, max-age=0\r\nETag: \"5f1d7a84-3039\"\r\nVary: Accept-Encoding\r\n\r\n";

/// Returns a request that is with an upstream, and the head of its answer.
fn answered() -> (Box<World>, Box<ResponseHead>) {
    let mut world = routed();
    let mut head = Box::new(ResponseHead::new());
    // Some answers before it: all that is allocated once is.
    for _ in 0..3 {
        answer(&mut world, &mut head);
        accept(&mut world, &mut head);
        send_head(&mut world);
    }
    answer(&mut world, &mut head);
    (world, head)
}

fn answer(world: &mut World, head: &mut ResponseHead) {
    world.begin();
    world.walk();
    head.clear();
    assert!(head.decode(ANSWER, 4096).is_ok());
}

/// Returns one whose answer is about to be sent.
fn accepted() -> Box<World> {
    let (mut world, mut head) = answered();
    accept(&mut world, &mut head);
    world
}

fn accept(world: &mut World, head: &mut ResponseHead) {
    let World { config, host, exchange, .. } = world;
    let env = &mut Env { config, host };
    let Ok(plan) = proxy::plan(exchange, env) else { panic!("the group is known") };
    assert!(proxy::framing(exchange, env, head).is_ok_and(|framing| framing.keep_alive));
    assert_eq!(proxy::accept_head(exchange, env, &plan, head), proxy::Disposition::Forward);
}

fn send_head(world: &mut World) {
    let World { config, host, exchange, .. } = world;
    assert_eq!(output::write_head(exchange, &mut Env { config, host }), Ok(()));
}

fn ask(world: &mut World) {
    let World { config, host, exchange, out } = world;
    let env = &mut Env { config, host };
    let Ok(plan) = proxy::plan(exchange, env) else { panic!("the group is known") };
    assert!(proxy::request_head(exchange, env, &plan, out).is_ok());
    proxy::upstream_url(exchange, &plan, "10.0.0.1:8080");
}

#[library_benchmark]
#[bench::proxied(setup = answered)]
fn accept_head((mut world, mut head): (Box<World>, Box<ResponseHead>)) -> (Box<World>, Box<ResponseHead>) {
    accept(&mut world, &mut head);
    (world, head)
}

#[library_benchmark]
#[bench::proxied(setup = accepted)]
fn write_head(mut world: Box<World>) -> Box<World> {
    send_head(&mut world);
    world
}

/// As [`routed`], with a request that was sent to an upstream before.
fn warm_routed() -> Box<World> {
    let mut world = routed();
    ask(&mut world);
    world.out.clear();
    world
}

#[library_benchmark]
#[bench::proxied(setup = warm_routed)]
fn request_head(mut world: Box<World>) -> Box<World> {
    ask(&mut world);
    world
}

/// Returns one that has been answered.
fn done() -> Box<World> {
    let mut world = accepted();
    send_head(&mut world);
    write_log(&mut world);
    world
}

#[library_benchmark]
#[bench::proxied(setup = done)]
fn reset(mut world: Box<World>) -> Box<World> {
    world.exchange.reset(&world.config, world.host.now());
    world
}

/// Returns a head that is read.
fn read() -> Box<World> {
    let mut world = begun();
    world.read();
    world
}

#[library_benchmark]
#[bench::get(setup = read)]
fn begin_request(mut world: Box<World>) -> Box<World> {
    world.choose();
    world
}

library_benchmark_group!(
    name = requests,
    benchmarks =
        [find, expand_variables, log_line, walk, begin_request, request_head, accept_head, write_head, reset]
);
main!(library_benchmark_groups = requests);
