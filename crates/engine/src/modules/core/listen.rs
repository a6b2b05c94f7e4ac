//! `listen` and `server_name`.

use crate::config::{
    Builder, ListenAddress, ListenDraft, ListenOptions, NameMatch, invalid_parameter, number,
};
use crate::directive::{Args, Contexts, Directive};
use conf::{Diagnostic, Word};

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new(
        "listen",
        Contexts::SERVER,
        Args::AtLeast(1),
        "address[:port] | port | unix:path [default_server] [ssl] [http2] [proxy_protocol] [backlog=number] [rcvbuf=size] \
         [sndbuf=size] [ipv6only=on|off] [reuseport] [deferred] \
         [so_keepalive=on|off|[keepidle]:[keepintvl]:[keepcnt]]",
        listen,
    )
    .default("*:80")
    .doc(
        "An address to listen on: port, address:port, [IPv6]:port or unix:path, with \
         default_server and socket options. With proxy_protocol each connection begins with a header \
         of the PROXY protocol, version 1 or 2; with ssl, connections use TLS. Both apply to all servers of the \
         address, and so does http2, which is deprecated: see the directive of that name.",
    )
    .example("listen 127.0.0.1:8080 default_server;"),
    Directive::new("server_name", Contexts::SERVER, Args::AtLeast(1), "name ...", server_name)
        .default(r#""""#)
        .doc("The host names of this server: exact, *.example.com, www.example.*, or ~regex.")
        .example("server_name shop.example.com *.shop.example.com;"),
];

fn server_name(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let Some(server) = b.server_index() else { return Err(invalid_parameter(&d.name)) };
    for word in &d.args {
        let matcher = NameMatch::parse(word.text()).map_err(|fault| Diagnostic::error(word.span, fault))?;
        if let NameMatch::Regex(regex) = &matcher {
            for (_, name) in regex.names() {
                b.draft
                    .variables
                    .define_capture(name, word.span)
                    .map_err(|fault| Diagnostic::error(word.span, fault))?;
            }
        }
        let name = if matches!(matcher, NameMatch::Regex(_)) {
            word.text().to_vec()
        } else if word.text() == "$hostname" {
            return Err(Diagnostic::error(
                word.span,
                "\"$hostname\" in server_name is not supported by pointsman",
            )
            .help("write the machine's name out"));
        } else {
            word.text().to_ascii_lowercase()
        };
        b.draft.servers[server].names.push((name, word.span));
    }
    Ok(())
}

fn listen(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let Some(server) = b.server_index() else { return Err(invalid_parameter(&d.name)) };
    let word = &d.args[0];
    let mut is_warned = false;
    for text in port_range(word)? {
        let address = ListenAddress::parse(&text).map_err(|fault| Diagnostic::error(word.span, fault))?;
        let mut draft = ListenDraft {
            server,
            address,
            options: None,
            default_server: false,
            proxy_protocol: false,
            ssl: false,
            http2: false,
            own_socket: false,
            span: word.span,
        };
        b.each(&d.args[1..], |word| option(&mut draft, word))?;
        if draft.http2 && !std::mem::replace(&mut is_warned, true) {
            b.diagnostics.push(
                Diagnostic::warn(d.name.span, "the \"listen ... http2\" directive is deprecated")
                    .help("use the \"http2\" directive instead: `http2 on;`"),
            );
        }
        b.listen(draft);
    }
    Ok(())
}

/// `127.0.0.1:8080-8089` is ten addresses.
fn port_range(word: &Word) -> Result<Vec<String>, Diagnostic> {
    let text = word.str()?;
    let (host, ports) = match text.rsplit_once(':') {
        Some((host, ports)) if !text.starts_with("unix:") => (format!("{host}:"), ports),
        _ => (String::new(), text),
    };
    let Some((first, last)) = ports.split_once('-') else { return Ok(vec![text.to_owned()]) };
    let (Some(first), Some(last)) = (number(first.as_bytes()), number(last.as_bytes())) else {
        return Ok(vec![text.to_owned()]);
    };
    if first == 0 || last > 65535 || first > last {
        let fault = format!("invalid port range in \"{text}\" of the \"listen\" directive");
        return Err(Diagnostic::error(word.span, fault));
    }
    Ok((first..=last).map(|port| format!("{host}{port}")).collect())
}

/// Returns one option; those that set something about the socket imply `bind`, as in nginx.
fn option(draft: &mut ListenDraft, word: &Word) -> Result<(), Diagnostic> {
    let text = word.str()?;
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let wrong = || invalid_parameter(word);
    let invalid = |what: &str| Diagnostic::error(word.span, format!("invalid {what} \"{}\"", word.text()));
    let size = |value: &str| conf::value::parse_size(value.as_bytes()).map(|size| size as usize);
    match (name, value) {
        ("default_server" | "default", None) => {
            draft.default_server = true;
            return Ok(());
        }
        ("proxy_protocol", None) => {
            draft.proxy_protocol = true;
            return Ok(());
        }
        ("bind", None) => {
            draft.own_socket = true;
            return Ok(());
        }
        ("ssl", None) => {
            draft.ssl = true;
            return Ok(());
        }
        ("http2", None) => {
            draft.http2 = true;
            return Ok(());
        }
        ("quic" | "spdy", None) => {
            return Err(Diagnostic::error(
                word.span,
                format!(
                    "the \"{name}\" parameter of \"listen\" is known to nginx, not supported by pointsman"
                ),
            ));
        }
        _ => {}
    }
    draft.own_socket = true;
    let options = draft.options.get_or_insert_with(ListenOptions::default);
    match (name, value) {
        ("reuseport", None) => options.reuseport = true,
        ("deferred", None) => options.deferred = true,
        ("backlog", Some(value)) => {
            let length = number(value.as_bytes()).and_then(|n| i32::try_from(n).ok()).filter(|n| *n > 0);
            options.backlog = length.ok_or_else(|| invalid("backlog"))?;
        }
        ("rcvbuf", Some(value)) => options.rcvbuf = Some(size(value).ok_or_else(|| invalid("rcvbuf"))?),
        ("sndbuf", Some(value)) => options.sndbuf = Some(size(value).ok_or_else(|| invalid("sndbuf"))?),
        ("ipv6only", Some("on")) => options.ipv6only = true,
        ("ipv6only", Some("off")) => options.ipv6only = false,
        ("so_keepalive", Some("on")) => options.so_keepalive = Some(true),
        ("so_keepalive", Some("off")) => options.so_keepalive = Some(false),
        ("setfib" | "fastopen" | "accept_filter" | "so_keepalive" | "multipath", _) => {
            return Err(Diagnostic::error(
                word.span,
                format!(
                    "the \"{name}\" parameter of \"listen\" is known to nginx, not supported by pointsman"
                ),
            ));
        }
        _ => return Err(wrong()),
    }
    Ok(())
}
