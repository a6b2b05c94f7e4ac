//! Fields of requests.

use super::{Command, FieldCommand};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::phase::Verdict;
use http::{Known, Version, line_end};

/// Carries out the location's commands, after the rewriting.
pub(super) fn handle(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let config = env.config;
    let commands = &exchange.settings(config).filters.headers_more.commands;
    if commands.is_empty() || exchange.request.head.version == Version::Http09 {
        return Verdict::Next;
    }
    for command in commands.iter().filter(|command| command.is_input) {
        if !is_for(command, exchange) {
            continue;
        }
        for field in &command.fields {
            let mut value = field.value.value(exchange, env);
            line_end::blank(&mut value);
            if apply(field, &value, exchange).is_err() {
                return Verdict::Drop;
            }
        }
    }
    Verdict::Next
}

fn is_for(command: &Command, exchange: &Exchange) -> bool {
    let kind = exchange.request.head.headers.get(Known::ContentType).unwrap_or_default();
    command.types.is_empty() || command.types.iter().any(|wanted| **wanted == *kind)
}

/// A value that the field cannot have.
struct InvalidField;

fn apply(field: &FieldCommand, value: &[u8], exchange: &mut Exchange) -> Result<(), InvalidField> {
    let known = Known::from_bytes(&field.name);
    let head = &exchange.request.head;
    let is_there = |name: &[u8]| head.headers.contains(name);
    if !value.is_empty() && field.replaces && !is_there(&field.name) {
        return Ok(());
    }
    match known {
        Some(Known::Host) => {
            let mut host = Vec::new();
            if !value.is_empty() && http::authority::parse(value, &mut host).is_err() {
                return Err(InvalidField);
            }
            exchange.request.host = host;
        }
        // The connection was decided about before, as in nginx: what the client has said counts.
        Some(Known::Connection) => {
            exchange.response.close |= !http::framing::keep_alive(head.version, &head.headers);
        }
        Some(Known::ContentLength) if !value.is_empty() => {
            crate::config::number(value).ok_or(InvalidField)?;
        }
        _ => {}
    }
    let headers = &mut exchange.request.head.headers;
    match (value, field.is_wildcard) {
        (b"", true) => headers.retain(|_, name, _| !field.matches(name)),
        (b"", false) => drop(headers.remove(&field.name)),
        _ => headers.set(&field.name, value),
    }
    Ok(())
}
