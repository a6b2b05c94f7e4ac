//! The directives.

use super::{Command, FieldCommand};
use crate::config::Builder;
use crate::directive::{Args, Contexts, Directive};
use crate::template::Template;
use bstr::ByteSlice;
use conf::{Diagnostic, Word};

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new(
        "more_set_headers",
        Contexts::HSLI,
        Args::AtLeast(1),
        "[-t types] [-s statuses] [-a] 'name: value' ...",
        |b, d| read(b, d, Kind { is_input: false, clears: false }),
    )
    .doc(
        "Sets fields of responses of any status, also those of an upstream and the server's own. -s: only for these \
         statuses; -t: only for these media types; -a: adds a field instead of replacing it. Commands of outer \
         levels run first.",
    )
    .example("more_set_headers -s '404 502' 'Server: edge' 'X-Retry: yes';"),
    Directive::new(
        "more_clear_headers",
        Contexts::HSLI,
        Args::AtLeast(1),
        "[-t types] [-s statuses] name ...",
        |b, d| read(b, d, Kind { is_input: false, clears: true }),
    )
    .doc("Removes fields of responses; a trailing * matches any suffix. -s and -t as in more_set_headers.")
    .example("more_clear_headers Server 'X-Powered-*';"),
    Directive::new(
        "more_set_input_headers",
        Contexts::HSLI,
        Args::AtLeast(1),
        "[-t types] [-r] 'name: value' ...",
        |b, d| read(b, d, Kind { is_input: true, clears: false }),
    )
    .doc(
        "Sets fields of the request, after the rewrite phase. -t: only if its body has one of these media types; -r: \
         only if the field is present. The body is read with the framing that the client sent, whatever \
         Content-Length is set to.",
    )
    .example("more_set_input_headers 'Host: backend.example' 'X-Edge: 1';"),
    Directive::new(
        "more_clear_input_headers",
        Contexts::HSLI,
        Args::AtLeast(1),
        "[-t types] name ...",
        |b, d| read(b, d, Kind { is_input: true, clears: true }),
    )
    .doc("Removes fields of the request; a trailing * matches any suffix. -t as in more_set_input_headers.")
    .example("more_clear_input_headers Authorization 'X-Internal-*';"),
];

#[derive(Clone, Copy)]
struct Kind {
    is_input: bool,
    clears: bool,
}

/// The names of fields that an answer has in places of their own, so that none can be added to them.
const SINGLE: [&[u8]; 14] = [
    b"server",
    b"date",
    b"content-encoding",
    b"location",
    b"refresh",
    b"last-modified",
    b"content-range",
    b"accept-ranges",
    b"www-authenticate",
    b"expires",
    b"e-tag",
    b"content-length",
    b"content-type",
    b"cache-control",
];

fn read(b: &mut Builder<'_>, d: &conf::Directive, kind: Kind) -> Result<(), Diagnostic> {
    let name = d.name.text();
    let mut command =
        Command { is_input: kind.is_input, fields: Vec::new(), statuses: Vec::new(), types: Vec::new() };
    let (mut appends, mut replaces) = (false, false);
    let mut words = d.args.iter();
    while let Some(word) = words.next() {
        let text: &[u8] = word.text();
        let mut argument = || {
            words.next().ok_or_else(|| {
                Diagnostic::error(word.span, format!("{name}: option {} takes an argument.", word.text()))
            })
        };
        match text {
            b"" => {}
            b"-t" => {
                let types = argument()?.text();
                let types = types.split(|byte| byte.is_ascii_whitespace() || *byte == b';');
                command.types.extend(types.filter(|kind| !kind.is_empty()).map(Into::into));
            }
            b"-s" if !kind.is_input => statuses(argument()?, name.as_ref(), &mut command.statuses)?,
            b"-a" if !kind.is_input && !kind.clears => appends = true,
            b"-r" if kind.is_input => replaces = true,
            [b'-', ..] => {
                let text = format!("{name}: invalid option name: \"{}\"", word.text());
                return Err(Diagnostic::error(word.span, text));
            }
            _ => command.fields.push(field(b, d, word, kind.clears)?),
        }
    }
    if let Some(field) = command.fields.iter().find(|field| appends && is_single(&field.name)) {
        let shown = field.name.as_bstr();
        let text = format!("{name}: can not append builtin headers \"{shown}\"");
        return Err(Diagnostic::error(d.name.span, text).help("leave out -a: there can be one of it only"));
    }
    for field in &mut command.fields {
        (field.appends, field.replaces) = (appends, replaces);
    }
    b.settings().filters.headers_more.commands.push(command);
    Ok(())
}

fn is_single(name: &[u8]) -> bool {
    SINGLE.iter().any(|single| single.eq_ignore_ascii_case(name))
}

fn statuses(word: &Word, name: &[u8], statuses: &mut Vec<u16>) -> Result<(), Diagnostic> {
    for text in word.text().split(u8::is_ascii_whitespace).filter(|text| !text.is_empty()) {
        let status = text.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let status = status.and_then(|text| text.parse().ok()).ok_or_else(|| {
            let shown = name.as_bstr();
            let text = format!("{shown}: invalid digit found in the status code list \"{}\"", word.text());
            Diagnostic::error(word.span, text)
                .help("numbers with spaces between them, in quotes: -s '404 502'")
        })?;
        statuses.push(status);
    }
    Ok(())
}

/// Reads `name: value`. A name ends at a colon or a space; both may be repeated before the value.
fn field(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    word: &Word,
    clears: bool,
) -> Result<FieldCommand, Diagnostic> {
    let is_end = |byte: &u8| *byte == b':' || byte.is_ascii_whitespace();
    let text: &[u8] = word.text();
    let text = text.trim_ascii_start();
    let len = text.iter().position(is_end).unwrap_or(text.len());
    let (name, rest) = text.split_at(len);
    let command = d.name.text();
    if name.is_empty() {
        let text = format!("{command}: no key found in the header argument: {}", word.text());
        return Err(Diagnostic::error(word.span, text));
    }
    let is_wildcard = name.ends_with(b"*");
    if is_wildcard && name.len() < 2 {
        let text = format!("{command}: wildcard key too short: {}", word.text());
        return Err(Diagnostic::error(word.span, text));
    }
    if text.find_byteset(b"\r\n\0").is_some() {
        let text = format!("{command}: a line break in the header argument: {}", word.text());
        return Err(Diagnostic::error(word.span, text).help("a field is one line"));
    }
    let value = &rest[rest.iter().position(|byte| !is_end(byte)).unwrap_or(rest.len())..];
    let value = match clears {
        true => Template::default(),
        false => b.template_of(value, word.span)?,
    };
    Ok(FieldCommand { name: name.into(), is_wildcard, value, appends: false, replaces: false })
}
