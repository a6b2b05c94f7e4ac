//! Directives about the connection to the upstream, further tries, and the answer's body.

use super::{buffer_size, duplicate_value, one_of};
use crate::config::{Builder, invalid_value, once};
use crate::directive::{Args, Contexts, Directive};
use crate::modules::proxy::PassKind;
use conf::Diagnostic;
use upstream::retry::NextUpstream;

/// The connection, further tries, and the answer's body.
pub(in crate::modules::proxy) const CONNECTION: &[Directive] = &[
    Directive::new(
        "proxy_next_upstream",
        Contexts::HSL,
        Args::AtLeast(1),
        "error | timeout | invalid_header | http_500 | http_502 | http_503 | http_504 | \
         http_403 | http_404 | http_429 | non_idempotent | off ...",
        |b, d| next_upstream(b, d, PassKind::Proxy),
    )
    .default("error timeout")
    .doc(
        "Which failures lead to another try: error, timeout, invalid_header, http_500, \
         http_502, http_503, http_504, http_403, http_404, http_429, and non_idempotent for \
         POST, LOCK and PATCH; or off.",
    )
    .example("proxy_next_upstream error timeout http_502;"),
    Directive::number("proxy_next_upstream_tries", Contexts::HSL, |b| &mut b.settings().proxy.retry.tries)
        .default("0")
        .doc("How many tries there may be, the first included; 0 is as many as servers.")
        .example("proxy_next_upstream_tries 2;"),
    Directive::time("proxy_next_upstream_timeout", Contexts::HSL, |b| {
        &mut b.settings().proxy.retry.timeout_ms
    })
    .default("0")
    .doc("The time after which no other try is begun; 0 is without limit.")
    .example("proxy_next_upstream_timeout 10s;"),
    Directive::time("proxy_connect_timeout", Contexts::HSL, |b| {
        &mut b.settings().proxy.connection.connect_timeout_ms
    })
    .default("60s")
    .doc("How long connecting may take.")
    .example("proxy_connect_timeout 5s;"),
    Directive::time("proxy_send_timeout", Contexts::HSL, |b| {
        &mut b.settings().proxy.connection.send_timeout_ms
    })
    .default("60s")
    .doc("The longest silence between two writes to the upstream.")
    .example("proxy_send_timeout 30s;"),
    Directive::time("proxy_read_timeout", Contexts::HSL, |b| {
        &mut b.settings().proxy.connection.read_timeout_ms
    })
    .default("60s")
    .doc("The longest silence between two reads from the upstream.")
    .example("proxy_read_timeout 30s;"),
    Directive::flag("proxy_socket_keepalive", Contexts::HSL, |b| {
        &mut b.settings().proxy.connection.socket_keepalive
    })
    .default("off")
    .doc("Whether the system probes idle connections to upstreams (SO_KEEPALIVE).")
    .example("proxy_socket_keepalive on;"),
    Directive::flag("proxy_ignore_client_abort", Contexts::HSL, |b| {
        &mut b.settings().proxy.connection.ignore_client_abort
    })
    .default("off")
    .doc("Whether a request goes on when its client is gone.")
    .example("proxy_ignore_client_abort on;"),
    Directive::flag("proxy_buffering", Contexts::HSL, |b| &mut b.settings().proxy.buffers.buffering)
        .default("on")
        .doc(
            "Whether the upstream is read as fast as it sends, whatever the client takes. The \
         upstream's X-Accel-Buffering field may say otherwise.",
        )
        .example("proxy_buffering off;"),
    Directive::new("proxy_buffer_size", Contexts::HSL, Args::Exactly(1), "size", |b, d| {
        size_written(b, d);
        read_buffer_size(b, d, PassKind::Proxy)
    })
    .default("4k")
    .doc("The buffer for an answer's head, which must fit into it.")
    .example("proxy_buffer_size 8k;"),
    Directive::new("proxy_buffers", Contexts::HSL, Args::Exactly(2), "number size", buffers)
        .default("8 4k")
        .doc("How many buffers an answer may take, and how large each is.")
        .example("proxy_buffers 8 16k;"),
    Directive::new("proxy_busy_buffers_size", Contexts::HSL, Args::Exactly(1), "size", |b, d| {
        let size = buffer_size(&d.args[0])?;
        size_written(b, d);
        b.write(d, |s| &mut s.proxy.buffers.busy_size, Some(size))
    })
    .default("8k")
    .doc("How much of an answer may be on its way to the client while more is read.")
    .example("proxy_busy_buffers_size 16k;"),
    Directive::new("proxy_max_temp_file_size", Contexts::HSL, Args::Exactly(1), "size", |b, d| {
        let size = buffer_size(&d.args[0])?;
        size_written(b, d);
        b.write(d, |s| &mut s.proxy.buffers.max_temp_file_size, Some(size))
    })
    .default("1024m")
    .doc(
        "How much of an answer that the client does not take goes to a temporary file; 0 is \
         none.",
    )
    .example("proxy_max_temp_file_size 0;"),
    Directive::new("proxy_temp_file_write_size", Contexts::HSL, Args::Exactly(1), "size", |b, d| {
        let size = buffer_size(&d.args[0])?;
        size_written(b, d);
        b.write(d, |s| &mut s.proxy.buffers.temp_file_write_size, Some(size))
    })
    .default("8k")
    .doc("How much is written to the temporary file at a time.")
    .example("proxy_temp_file_write_size 16k;"),
    Directive::new(
        "proxy_temp_path",
        Contexts::HSL,
        Args::Between(1, 4),
        "path [level1 [level2 [level3]]]",
        temp_path,
    )
    .default("proxy_temp")
    .doc(
        "The directory for temporary files. They have no names, so its levels are without \
         effect.",
    )
    .example("proxy_temp_path proxy_temp 1 2;"),
    Directive::new("proxy_limit_rate", Contexts::HSL, Args::Exactly(1), "rate", limit_rate)
        .default("0")
        .doc(
            "How many bytes a second are read from the upstream, with buffering; 0 is without \
         limit.",
        )
        .example("proxy_limit_rate 100k;"),
];

/// Reads the size of the buffer of an answer's head.
pub(in crate::modules) fn read_buffer_size(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
) -> Result<(), Diagnostic> {
    let size = buffer_size(&d.args[0])?;
    once(kind.settings(b.settings()).buffers.head_size.write(size), d)
}

/// Remembers the span of a size, for faults of all sizes together.
fn size_written(b: &mut Builder<'_>, d: &conf::Directive) {
    b.settings().proxy.buffers.written_at.0 = Some(d.words_span());
}

/// Several lines at one level add up, as nginx's bit masks do.
pub(in crate::modules) fn next_upstream(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
) -> Result<(), Diagnostic> {
    let words: Vec<Vec<u8>> = d.args.iter().map(|word| word.text().to_ascii_lowercase()).collect();
    let set = NextUpstream::from_words(words.iter().map(Vec::as_slice)).map_err(|place| {
        let known: Vec<&str> = NextUpstream::WORDS.iter().map(|(name, _)| *name).collect();
        one_of(&d.args[place], &known)
    })?;
    for (place, word) in words.iter().enumerate() {
        if words[..place].contains(word) {
            b.diagnostics.push(duplicate_value(&d.args[place]));
        }
    }
    let setting = &mut kind.settings(b.settings()).retry.next_upstream;
    let off = NextUpstream::OFF;
    let sum = match setting.written() {
        true if **setting == off || set == off => off,
        true => **setting | set,
        false => set,
    };
    setting.replace(sum);
    Ok(())
}

fn buffers(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let count = conf::value::parse_number(d.args[0].text()).filter(|count| *count > 0);
    let count = count.ok_or_else(|| invalid_value(&d.args[0]).help("a number of buffers, at least 2"))?;
    let size = buffer_size(&d.args[1])?;
    if size == 0 {
        return Err(invalid_value(&d.args[1]));
    }
    size_written(b, d);
    b.write(d, |s| &mut s.proxy.buffers.buffers, (count, size))
}

fn temp_path(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let path = b.path(&d.args[0])?;
    if path.as_os_str().is_empty() {
        return Err(invalid_value(&d.args[0]));
    }
    for word in &d.args[1..] {
        if !matches!(&**word.text(), b"1" | b"2" | b"3") {
            return Err(invalid_value(word).help("a level is 1, 2 or 3"));
        }
    }
    b.write(d, |s| &mut s.proxy.buffers.temp_path, Some(path))
}

fn limit_rate(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let rate = b.template(&d.args[0])?;
    if rate.constant().is_some() {
        buffer_size(&d.args[0])?;
    }
    b.write(d, |s| &mut s.proxy.buffers.limit_rate, Some(rate))
}
