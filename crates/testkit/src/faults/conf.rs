//! The configuration of a run: one group and one location for each cell, so that no cell sees another's marks.

use std::fmt::Write;
use std::net::Ipv4Addr;

use super::table::{Cell, Client, Fault, Stage};

/// The server of a cell that an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one that breaks.
    Primary,
    /// The one that is asked after the first has failed.
    Backup,
    /// No server listens here.
    Dead,
}

/// Returns a cell's own loopback address for this server.
pub(crate) fn address(cell: &Cell, role: Role) -> Ipv4Addr {
    let second = match role {
        Role::Primary => 1,
        Role::Backup => 2,
        Role::Dead => 3,
    };
    // 250 numbers to each third byte; 0 and 255 stay unused.
    let (third, fourth) = (cell.number / 250, cell.number % 250 + 1);
    Ipv4Addr::new(
        127,
        second,
        u8::try_from(third).unwrap_or(u8::MAX),
        u8::try_from(fourth).unwrap_or(u8::MAX),
    )
}

/// The timeout of a server that hangs, in ms; long enough for everything that does not hang on a busy machine.
const SHORT_MS: u64 = 700;

/// The timeout where nothing should time out.
const LONG_MS: u64 = 20_000;

/// Returns the name that a cell of the stage [`Stage::LookUp`] asks for.
pub(crate) fn host(cell: &Cell) -> String {
    format!("c{}.test", cell.number)
}

/// Returns the whole nginx.conf. Ports are filled in by the stage.
pub(crate) fn text(cells: &[Cell]) -> String {
    let mut out = String::from(
        "error_log logs/error.log info; pid logs/nginx.pid; worker_processes 1; worker_rlimit_nofile 8192;\n\
         events { worker_connections 4096; }\n\
         http {\n\
         log_format cell '$request_uri $status [$upstream_status] [$upstream_addr]';\n\
         access_log logs/access.log cell;\n\
         proxy_temp_path logs/proxy_temp; client_body_temp_path logs/body_temp;\n\
         client_max_body_size 8m; client_body_buffer_size 8m; keepalive_requests 100000;\n\
         proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_send_timeout 20s;\n",
    );
    for cell in cells {
        let _ = writeln!(
            out,
            "upstream u{} {{ server {}:{{port:back}} max_fails=1 fail_timeout=600s; server {}:{{port:back}} \
             backup; keepalive 4; }}",
            cell.number,
            address(cell, Role::Primary),
            address(cell, Role::Backup),
        );
    }
    out.push_str(
        "server { listen 127.0.0.1:{port:front}; listen 127.0.0.1:{port:http2} http2; location = /control { return 204; }\n",
    );
    for cell in cells {
        location(&mut out, cell);
    }
    out.push_str("}\n}\n");
    out
}

fn location(out: &mut String, cell: &Cell) {
    let Cell { number, row, client } = cell;
    let wait_ms = if row.fault.hangs() && *client != Client::Aborts { SHORT_MS } else { LONG_MS };
    let of = |stage| if row.stage == stage { wait_ms } else { LONG_MS };
    let read_ms = if matches!(row.stage, Stage::LookUp | Stage::Connect) { LONG_MS } else { wait_ms };
    let mut extra = String::new();
    match client {
        Client::PostStreamed => extra.push_str(" proxy_request_buffering off;"),
        // Bytes are passed on at once, so that it is known when the client has them.
        Client::Aborts => extra.push_str(" proxy_buffering off;"),
        _ => {}
    }
    if *client == Client::WebSocket || row.stage == Stage::Tunnel {
        extra.push_str(" proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;");
    }
    let _ = writeln!(
        out,
        "location /c{number}/ {{ proxy_pass http://u{number}; proxy_connect_timeout {}ms; \
         proxy_read_timeout {read_ms}ms;{extra} }}",
        of(Stage::Connect)
    );
    if row.stage == Stage::Connect && *client == Client::Aborts {
        // The server is not marked: the next request meets the same fault, and waits.
        let _ = writeln!(
            out,
            "location /c{number}/next {{ proxy_pass http://u{number}; proxy_connect_timeout {SHORT_MS}ms; }}"
        );
    }
    if row.stage == Stage::LookUp {
        let server = if row.fault == Fault::NoNameServer { "{port:dead}" } else { "{port:names}" };
        let _ = writeln!(
            out,
            "location /c{number}/fault {{ resolver 127.0.0.1:{server} ipv6=off; resolver_timeout {}ms; \
             set $peer {}; proxy_pass http://$peer:{{port:back}};{extra} }}",
            of(Stage::LookUp),
            host(cell)
        );
    }
}
