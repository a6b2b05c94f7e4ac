//! The directives of the log module.

use super::format::{FormatFault, FormatPart};
use super::{AccessLog, AccessLogs, AccessTarget, Escaping, LogBuffer, LogFormat, LogTarget, json};
use crate::config::{Builder, LogId, invalid_parameter};
use crate::directive::{Args, Contexts, Directive};
use crate::host::Level;
use conf::{Diagnostic, Word};
use std::sync::Arc;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new(
        "log_format",
        Contexts::HTTP,
        Args::AtLeast(2),
        "name [escape=default|json|none] string ...",
        log_format,
    )
    .default(
        "combined '$remote_addr - $remote_user [$time_local] \"$request\" $status \
         $body_bytes_sent \"$http_referer\" \"$http_user_agent\"'",
    )
    .doc(
        "Defines a format for access logs; escape=default, json or none selects how special characters are escaped. \
         `combined` and `json` are predefined.",
    )
    .example("log_format short '$remote_addr \"$request\" $status $upstream_addr';"),
    Directive::new(
        "access_log",
        Contexts::HSLI.or(Contexts::LIMIT_EXCEPT),
        Args::AtLeast(1),
        "path [format [buffer=size] [flush=time] [if=condition]] | off",
        access_log,
    )
    .default("logs/access.log combined")
    .doc(
        "A file that gets a line for each request, in a format, with buffer=, flush= and if=; the path may contain \
         variables. off disables it.",
    )
    .example("access_log logs/access.log combined buffer=32k flush=5s if=$loggable;"),
    Directive::new(
        "error_log",
        Contexts::MAIN.or(Contexts::HSL),
        Args::AtLeast(1),
        "file | stderr | syslog [debug | info | notice | warn | error | crit | alert | emerg]",
        error_log,
    )
    .default("logs/error.log error")
    .doc(
        "A file or stderr for messages of at least this level, by default error. The debug_* masks mean debug.",
    )
    .example("error_log logs/error.log warn;"),
];

const COMBINED: &[u8] = br#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#;

/// Returns the format that is always there; it is made when it is first used.
fn combined(b: &mut Builder<'_>) -> Arc<LogFormat> {
    if let Some(known) = b.draft.formats.iter().find(|format| *format.name == *b"combined") {
        return Arc::clone(known);
    }
    let mut format = LogFormat { name: b"combined"[..].into(), ..LogFormat::default() };
    let variables = &mut b.draft.variables;
    let compiled = format.add(COMBINED, &mut |name| variables.id(name, None));
    debug_assert_eq!(compiled, Ok(()));
    let format = Arc::new(format);
    b.draft.formats.push(Arc::clone(&format));
    format
}

/// Returns the other format that is always there, unless the configuration has one of that name before it is used.
fn json(b: &mut Builder<'_>) -> Arc<LogFormat> {
    let format =
        LogFormat { name: json::NAME.into(), escaping: Escaping::None, parts: vec![FormatPart::Json] };
    let format = Arc::new(format);
    b.draft.formats.push(Arc::clone(&format));
    format
}

fn log_format(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let name = &d.args[0];
    let is_combined = name.text() == "combined";
    if is_combined || b.draft.formats.iter().any(|known| *known.name == **name.text()) {
        let fault = format!("duplicate \"log_format\" name \"{}\"", name.text());
        let fault = Diagnostic::error(name.span, fault);
        return Err(if is_combined {
            fault.help("combined is predefined: take another name")
        } else if name.text() == json::NAME {
            fault
                .help("if the json above is meant to be this one, put this before it; else take another name")
        } else {
            fault
        });
    }
    let mut format = LogFormat { name: (**name.text()).into(), ..LogFormat::default() };
    let mut parts = &d.args[1..];
    if let [first, rest @ ..] = parts
        && let Some(escaping) = first.text().strip_prefix(b"escape=")
    {
        format.escaping = match escaping {
            b"default" => Escaping::Default,
            b"json" => Escaping::Json,
            b"none" => Escaping::None,
            _ => {
                let shown = String::from_utf8_lossy(escaping);
                let fault = format!("unknown log format escaping \"{shown}\"");
                return Err(Diagnostic::error(first.span, fault).help("one of default, json and none"));
            }
        };
        parts = rest;
    }
    for word in parts {
        let variables = &mut b.draft.variables;
        format.add(word.text(), &mut |name| variables.id(name, Some(word.span))).map_err(
            |fault| match fault {
                FormatFault::InvalidParameter(text) => {
                    let shown = String::from_utf8_lossy(text);
                    Diagnostic::error(word.span, format!("invalid parameter \"{shown}\""))
                        .label("a variable's name is missing after `$`")
                }
                FormatFault::Unclosed(name) => {
                    let shown = String::from_utf8_lossy(name);
                    Diagnostic::error(
                        word.span,
                        format!("the closing bracket in \"{shown}\" variable is missing"),
                    )
                }
            },
        )?;
    }
    b.draft.formats.push(Arc::new(format));
    Ok(())
}

/// The parameters after path and format.
#[derive(Default)]
struct Parameters<'w> {
    buffer_size: Option<u64>,
    flush_ms: u64,
    condition: Option<(&'w [u8], &'w Word)>,
}

fn parameters(words: &[Word]) -> Result<Parameters<'_>, Diagnostic> {
    let mut found = Parameters::default();
    for word in words {
        let text: &[u8] = word.text();
        if let Some(size) = text.strip_prefix(b"buffer=") {
            let fault = || format!("invalid buffer size \"{}\"", String::from_utf8_lossy(size));
            let size = conf::value::parse_buffer_size(size).filter(|size| *size > 0);
            found.buffer_size = Some(size.ok_or_else(|| Diagnostic::error(word.span, fault()))?);
        } else if let Some(time) = text.strip_prefix(b"flush=") {
            let fault = || format!("invalid flush time \"{}\"", String::from_utf8_lossy(time));
            let ms = conf::value::parse_time_ms(time).filter(|ms| *ms > 0);
            found.flush_ms = ms.ok_or_else(|| Diagnostic::error(word.span, fault()))?;
        } else if text == b"gzip" || text.starts_with(b"gzip=") {
            return Err(Diagnostic::error(
                word.span,
                "compressed access logs are not supported by pointsman",
            )
            .help("remove gzip, and let logrotate compress the files"));
        } else if let Some(condition) = text.strip_prefix(b"if=") {
            found.condition = Some((condition, word));
        } else {
            return Err(invalid_parameter(word).help("one of buffer=, flush= and if="));
        }
    }
    Ok(found)
}

fn access_log(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let path = &d.args[0];
    let present = &b.settings().log.access;
    let mut access = if present.written() { AccessLogs::clone(present) } else { AccessLogs::default() };
    if path.text() == "off" {
        if let Some(more) = d.args.get(1) {
            return Err(invalid_parameter(more).help("access_log off; takes nothing else"));
        }
        access.off = true;
        b.settings().log.access.replace(access);
        return Ok(());
    }
    refuse_syslog(path)?;
    let format = match d.args.get(1) {
        None => combined(b),
        Some(name) => named_format(b, name)?,
    };
    let parameters = parameters(d.args.get(2..).unwrap_or_default())?;
    if parameters.flush_ms > 0 && parameters.buffer_size.is_none() {
        let fault = format!("no buffer is defined for access_log \"{}\"", path.text());
        return Err(Diagnostic::error(path.span, fault).help("flush= needs buffer=: buffer=32k flush=5s"));
    }
    let buffer = parameters.buffer_size.map(|size| LogBuffer { size, flush_ms: parameters.flush_ms });
    let condition = match parameters.condition {
        Some((text, word)) => Some(b.template_of(text, word.span)?),
        None => None,
    };
    let target = if memchr::memchr(b'$', path.text()).is_some() {
        if buffer.is_some() {
            return Err(Diagnostic::error(path.span, "buffered logs cannot have variables in name"));
        }
        AccessTarget::PerRequest(b.template(path)?)
    } else {
        AccessTarget::Fixed(buffered_file(b, path, buffer)?)
    };
    access.logs.push(AccessLog { target, format, condition });
    b.settings().log.access.replace(access);
    Ok(())
}

/// Returns the file's number; nginx allows one kind of buffer for each file.
fn buffered_file(b: &mut Builder<'_>, path: &Word, buffer: Option<LogBuffer>) -> Result<LogId, Diagnostic> {
    let target = LogTarget::File(b.path(path)?);
    let id = b.draft.log(target);
    let file = &mut b.draft.logs[id.0 as usize];
    match (file.buffer, buffer) {
        (Some(known), Some(wanted)) if known != wanted => {
            let fault = format!("access_log \"{}\" already defined with conflicting parameters", path.text());
            return Err(Diagnostic::error(path.span, fault).help("one file has one buffer= and one flush="));
        }
        (None, Some(_)) => file.buffer = buffer,
        _ => {}
    }
    Ok(id)
}

fn named_format(b: &mut Builder<'_>, name: &Word) -> Result<Arc<LogFormat>, Diagnostic> {
    let text: &[u8] = name.text();
    if text.eq_ignore_ascii_case(b"combined") {
        return Ok(combined(b));
    }
    if let Some(known) = b.draft.formats.iter().find(|format| format.name.eq_ignore_ascii_case(text)) {
        return Ok(Arc::clone(known));
    }
    if text == json::NAME {
        return Ok(json(b));
    }
    let mut fault = Diagnostic::error(name.span, format!("unknown log format \"{}\"", name.text()));
    let known: Vec<_> = b.draft.formats.iter().map(|format| String::from_utf8_lossy(&format.name)).collect();
    let near = name.str().ok().and_then(|name| conf::nearest(name, known.iter().map(|name| &**name)));
    fault = match near {
        Some(near) => fault.help(format!("did you mean {near}?")),
        None => fault.help("define a log_format before the access_log that uses it"),
    };
    Err(fault)
}

fn refuse_syslog(path: &Word) -> Result<(), Diagnostic> {
    if path.text().starts_with(b"syslog:") {
        return Err(Diagnostic::error(path.span, "logging to syslog is not supported by pointsman yet")
            .help("log to a file, which rsyslog (imfile) or systemd can read"));
    }
    Ok(())
}

fn error_log(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let path = &d.args[0];
    refuse_syslog(path)?;
    if path.text().starts_with(b"memory:") {
        return Err(Diagnostic::error(path.span, "logging to memory is not supported by pointsman")
            .help("log to a file, or to stderr"));
    }
    let level = level(&d.args[1..])?;
    let target = if path.text() == "stderr" { LogTarget::Stderr } else { LogTarget::File(b.path(path)?) };
    let id = b.draft.log(target);
    if b.context() == Contexts::MAIN {
        b.draft.main.error_log.push((id, level));
    } else {
        b.settings().log.errors.push((id, level));
    }
    Ok(())
}

/// ngx_log_set_levels. The masks (`debug_http`, …) tell apart debug lines of parts that pointsman does not have apart.
fn level(words: &[Word]) -> Result<Level, Diagnostic> {
    const MASKS: [&[u8]; 7] = [
        b"debug_core",
        b"debug_alloc",
        b"debug_mutex",
        b"debug_event",
        b"debug_http",
        b"debug_mail",
        b"debug_stream",
    ];
    let mut found: Option<(Level, bool)> = None;
    for word in words {
        let is_mask = MASKS.contains(&&**word.text());
        let level = match Level::from_name(word.text()) {
            Some(level) if level != Level::Stderr => level,
            None if is_mask => Level::Debug,
            _ => {
                return Err(Diagnostic::error(word.span, format!("invalid log level \"{}\"", word.text()))
                    .help(format!("one of {}", Level::NAMES[1..].join(", "))));
            }
        };
        match found {
            Some((_, true)) if is_mask => {}
            Some((_, _)) => {
                let what = if is_mask { "invalid" } else { "duplicate" };
                return Err(Diagnostic::error(word.span, format!("{what} log level \"{}\"", word.text())));
            }
            None => found = Some((level, is_mask)),
        }
    }
    Ok(found.map_or(Level::Error, |(level, _)| level))
}

/// Puts in what holds where nothing is said: the access log `logs/access.log` for servers without one, and for
/// `http` the error logs of the top.
pub(super) fn finish(b: &mut Builder<'_>) {
    if b.draft.main.error_log.is_empty() && !b.draft.scopes[0].settings.log.errors.written() {
        let id = b.draft.log(LogTarget::CommandLine);
        b.draft.scopes[0].settings.log.errors.replace(vec![(id, Level::Error)]);
    } else if !b.draft.scopes[0].settings.log.errors.written() {
        let top = b.draft.main.error_log.get().clone();
        b.draft.scopes[0].settings.log.errors.replace(top);
    }
    if b.draft.scopes[0].settings.log.access.written() {
        return;
    }
    let bare = |scope: &crate::config::Scope| {
        scope.context == Contexts::SERVER && !scope.settings.log.access.written()
    };
    if b.draft.scopes.iter().any(bare) {
        let format = combined(b);
        let target =
            AccessTarget::Fixed(b.draft.log(LogTarget::File(b.inputs.prefix.join("logs/access.log"))));
        let logs = AccessLogs { off: false, logs: vec![AccessLog { target, format, condition: None }] };
        for scope in b.draft.scopes.iter_mut().filter(|scope| bare(scope)) {
            scope.settings.log.access.replace(logs.clone());
        }
    }
}
