//! How directives about the connection to the upstream, further tries and the answer's body are read.

use super::{buffer_size, duplicate_value, one_of};
use crate::config::{Builder, invalid_parameter, invalid_value, once};
use crate::modules::proxy::{BufferSettings, PassKind};
use crate::setting::Setting;
use conf::Diagnostic;
use upstream::retry::NextUpstream;

/// The words of `proxy_next_upstream` and `grpc_next_upstream`.
pub(in crate::modules) const ALL_WORDS: &str = "error | timeout | invalid_header | http_500 | http_502 | http_503 | http_504 | \
     http_403 | http_404 | http_429 | non_idempotent | off ...";

/// The words of `fastcgi_next_upstream` and its like.
pub(in crate::modules) const GATEWAY_WORDS: &str = "error | timeout | invalid_header | http_500 | http_503 | http_403 | http_404 | http_429 | \
     non_idempotent | off ...";

/// Reads the size of the buffer of an answer's head.
pub(in crate::modules) fn read_buffer_size(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
) -> Result<(), Diagnostic> {
    let size = buffer_size(&d.args[0])?;
    let buffers = &mut kind.settings(b.settings()).buffers;
    if kind != PassKind::Grpc {
        buffers.written_at.0 = Some(d.words_span());
    }
    once(buffers.head_size.write(size), d)
}

/// Reads a size that others depend on, and remembers its span, for faults of all sizes together.
pub(in crate::modules) fn dependent_size(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
    setting: fn(&mut BufferSettings) -> &mut Setting<Option<u64>>,
) -> Result<(), Diagnostic> {
    let size = buffer_size(&d.args[0])?;
    let buffers = &mut kind.settings(b.settings()).buffers;
    buffers.written_at.0 = Some(d.words_span());
    once(setting(buffers).write(Some(size)), d)
}

/// Adds up several lines at one level, as nginx's bit masks do.
pub(in crate::modules) fn next_upstream(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
) -> Result<(), Diagnostic> {
    let words: Vec<Vec<u8>> = d.args.iter().map(|word| word.text().to_ascii_lowercase()).collect();
    let never = kind.row().never_retries;
    let unknown = |place: usize| {
        let known = NextUpstream::WORDS.iter().map(|(name, _)| *name).filter(|name| !never.contains(name));
        one_of(&d.args[place], &known.collect::<Vec<_>>())
    };
    if let Some(place) = words.iter().position(|word| never.iter().any(|name| name.as_bytes() == word)) {
        return Err(unknown(place));
    }
    let set = NextUpstream::from_words(words.iter().map(Vec::as_slice)).map_err(unknown)?;
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

/// Reads the local address of connections: one without variables must make sense.
pub(in crate::modules) fn bind(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    if let Some(more) = d.args.get(1) {
        let fault = invalid_parameter(more);
        return Err(match more.text() == "transparent" {
            true => fault
                .label("not supported: a foreign address takes rights that the process gives up")
                .help("bind to an address of this machine, and tell the upstream the client's in a field"),
            false => fault,
        });
    }
    let template = match word.text() == "off" {
        true => None,
        false => Some(b.template(word)?),
    };
    if let Some(address) = template.as_ref().and_then(|template| template.constant())
        && crate::modules::proxy::local_address(address).is_none()
    {
        let text = format!("invalid address \"{}\"", word.text());
        return Err(
            Diagnostic::error(word.span, text).help("an address of this machine: 192.0.2.1, or [::1]")
        );
    }
    once(kind.settings(b.settings()).connection.bind.write(template), d)
}

pub(in crate::modules) fn buffers(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
) -> Result<(), Diagnostic> {
    let count = conf::value::parse_number(d.args[0].text()).filter(|count| *count > 0);
    let count = count.ok_or_else(|| invalid_value(&d.args[0]).help("a number of buffers, at least 2"))?;
    let size = buffer_size(&d.args[1])?;
    if size == 0 {
        return Err(invalid_value(&d.args[1]));
    }
    let buffers = &mut kind.settings(b.settings()).buffers;
    buffers.written_at.0 = Some(d.words_span());
    once(buffers.buffers.write((count, size)), d)
}

pub(in crate::modules) fn temp_path(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
) -> Result<(), Diagnostic> {
    let path = b.path(&d.args[0])?;
    if path.as_os_str().is_empty() {
        return Err(invalid_value(&d.args[0]));
    }
    for word in &d.args[1..] {
        if !matches!(&**word.text(), b"1" | b"2" | b"3") {
            return Err(invalid_value(word).help("a level is 1, 2 or 3"));
        }
    }
    once(kind.settings(b.settings()).buffers.temp_path.write(Some(path)), d)
}

pub(in crate::modules) fn limit_rate(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
) -> Result<(), Diagnostic> {
    let rate = b.template(&d.args[0])?;
    if rate.constant().is_some() {
        buffer_size(&d.args[0])?;
    }
    once(kind.settings(b.settings()).buffers.limit_rate.write(Some(rate)), d)
}
