//! Requests and responses as nginx has them. Where nginx 1.22 and 1.31 differ (the place of `Host`, what
//! `Connection` says, second fields that may come once), 1.31 is the measure.

mod cgi;
mod config;
mod http2;
mod request;
mod response;

use crate::config::Config;
use crate::exchange::{Body, Exchange};
use crate::host::Env;
use crate::modules::proxy::{Disposition, Plan, accept_head, framing, plan, request_head, upstream_url};
use crate::output::{self, HeadRefused};
use crate::phase::{self, Content, Effect, Step, Wake};
use crate::testing::{TestHost, config_of, exchange};
use http::{Progress, ResponseHead};
use upstream::retry::TryFailure;

/// Returns one server's inside, with two groups beside it.
fn config(server: &str) -> Config {
    config_of(&format!(
        "http {{ upstream backend {{ server 127.0.0.1:8081; }} upstream Other {{ server 127.0.0.1:8082; }}
         server {{ listen 80; server_name front; {server} }} }}"
    ))
}

/// Walks to the content; the body is read when it is asked for. `Err` is what else was answered.
fn walk(exchange: &mut Exchange, env: &mut Env<'_>, body: &[u8]) -> Result<(), Step> {
    loop {
        match phase::advance(exchange, env) {
            Step::Wait(Effect::ReadBody) => {
                exchange.request.body = Body::Memory(body.to_vec());
                exchange.route.wake = Some(Wake::Done);
            }
            Step::Serve(Content::Proxy) => return Ok(()),
            step => return Err(step),
        }
    }
}

/// A request that has come to its `proxy_pass`, with the head that is sent, and how much of that is the head.
struct Sent {
    exchange: Exchange,
    plan: Plan,
    head: Vec<u8>,
    head_len: usize,
}

/// Sends a request; a body may follow the head. `Err` is the status answered instead.
fn send(config: &Config, host: &mut TestHost, request: &str) -> Result<Sent, u16> {
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let mut exchange = exchange(config, host, request);
    let env = &mut Env { config, host };
    if let Err(step) = walk(&mut exchange, env, body.as_bytes()) {
        panic!("{step:?} for {request:?}");
    }
    let plan = plan(&mut exchange, env)?;
    let mut head = Vec::new();
    let head_len = request_head(&mut exchange, env, &plan, &mut head)?;
    upstream_url(&mut exchange, &plan, "127.0.0.1:8081");
    Ok(Sent { exchange, plan, head, head_len })
}

/// Returns the head that is sent for a request, or the status answered instead.
fn sent(server: &str, request: &str) -> String {
    match send(&config(server), &mut TestHost::new(), request) {
        Ok(sent) => String::from_utf8(sent.head).unwrap(),
        Err(status) => status.to_string(),
    }
}

/// Returns the target of the request that is sent for `GET target`.
fn target(server: &str, target: &str) -> String {
    let head = sent(server, &get(target));
    match head.split_once(" HTTP/1.1\r\n") {
        Some((line, _)) => line.strip_prefix("GET ").unwrap().to_owned(),
        None => head,
    }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n")
}

/// The result of an upstream's head.
#[derive(Debug)]
enum Became {
    Answer(Disposition),
    Failed(TryFailure),
}

fn accept(sent: &mut Sent, env: &mut Env<'_>, response: &str) -> Became {
    let mut head = ResponseHead::new();
    let progress = head.decode(response.as_bytes(), 4096);
    assert!(matches!(progress, Ok(Progress::Complete { .. })), "{progress:?} for {response:?}");
    match framing(&mut sent.exchange, env, &head) {
        Ok(_) => Became::Answer(accept_head(&mut sent.exchange, env, &sent.plan, &mut head)),
        Err(failure) => Became::Failed(failure),
    }
}

/// Returns the client's head for an upstream's, without what the server says of itself.
fn answered(server: &str, response: &str) -> String {
    answered_to(server, &get("/x"), response)
}

fn answered_to(server: &str, request: &str, response: &str) -> String {
    let config = config(server);
    let mut host = TestHost::new();
    let mut sent = send(&config, &mut host, request).map_err(|status| status.to_string()).unwrap();
    let env = &mut Env { config: &config, host: &mut host };
    let mut step = match accept(&mut sent, env, response) {
        Became::Failed(failure) => return format!("{failure:?}"),
        Became::Answer(Disposition::Forward | Disposition::Upgrade) => Step::Serve(Content::Proxy),
        Became::Answer(Disposition::Error(status)) => phase::refuse(&mut sent.exchange, env, status),
        Became::Answer(Disposition::InternalRedirect { uri, args }) => {
            phase::redirect_internally(&mut sent.exchange, env, &uri, &args).unwrap();
            phase::advance(&mut sent.exchange, env)
        }
    };
    if matches!(step, Step::Serve(_))
        && let Err(HeadRefused::Refuse(status)) = output::write_head(&mut sent.exchange, env)
    {
        step = phase::refuse(&mut sent.exchange, env, status);
    }
    let exchange = &mut sent.exchange;
    if let Step::Serve(content) = &mut step {
        output::write_head(exchange, env).unwrap();
        if let Content::Bytes(bytes) = content {
            output::write_body(exchange, env, bytes, true).unwrap();
        }
    }
    let text = String::from_utf8(std::mem::take(&mut exchange.output.wire)).unwrap();
    let ours = |line: &&str| {
        line.starts_with("Server: pointsman")
            || line.starts_with("Date: Sun, 09 Sep 2001")
            || *line == "Connection: close"
    };
    text.split("\r\n").filter(|line| !ours(line)).collect::<Vec<_>>().join("|")
}
