//! Fields of answers.

use super::{Command, FieldCommand};
use crate::exchange::{Exchange, Response};
use crate::host::Env;
use crate::output::wire::HeadRefused;
use bstr::ByteSlice;
use http::{Known, line_end};

/// Carries out the location's commands.
pub(super) fn filter(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    let config = env.config;
    let commands = &exchange.settings(config).filters.headers_more.commands;
    for command in commands.iter().filter(|command| !command.is_input) {
        if !is_for(command, &exchange.response) {
            continue;
        }
        for field in &command.fields {
            let mut value = field.value.value(exchange, env);
            line_end::blank(&mut value);
            apply(field, &value, &mut exchange.response)?;
        }
    }
    Ok(())
}

fn is_for(command: &Command, response: &Response) -> bool {
    let kind = without_charset(response.content_type.as_deref().unwrap_or_default());
    (command.types.is_empty() || command.types.iter().any(|wanted| **wanted == *kind))
        && (command.statuses.is_empty() || command.statuses.contains(&response.status))
}

/// Returns a type without its charset; other parameters belong to it.
fn without_charset(kind: &[u8]) -> &[u8] {
    for (at, _) in kind.iter().enumerate().filter(|(_, byte)| **byte == b';') {
        let parameter = kind[at + 1..].trim_start_with(|c| c == ' ');
        if parameter.len() >= 8 && parameter[..8].eq_ignore_ascii_case(b"charset=") {
            return &kind[..at];
        }
    }
    kind
}

/// Sets a field, or clears it with an empty value.
fn apply(field: &FieldCommand, value: &[u8], response: &mut Response) -> Result<(), HeadRefused> {
    let headers = &mut response.headers;
    match Known::from_bytes(&field.name) {
        // The server writes these by itself unless an empty one says that they are not wanted.
        Some(known @ (Known::Server | Known::Date)) => headers.set_known(known, value),
        Some(Known::ContentType) => {
            headers.remove_known(Known::ContentType);
            response.content_type = (!value.is_empty()).then(|| value.to_vec());
        }
        Some(Known::ContentLength) => {
            response.content_length = match value {
                b"" => None,
                digits => Some(crate::config::number(digits).ok_or(HeadRefused::Close)?),
            };
            set(field, value, response);
        }
        Some(Known::AcceptRanges) => {
            response.allow_ranges &= !value.is_empty();
            set(field, value, response);
        }
        Some(Known::LastModified) => {
            if value.is_empty() {
                response.last_modified_s = None;
            }
            set(field, value, response);
        }
        Some(Known::Location) => set_location(value, response),
        Some(Known::CacheControl) if value.is_empty() && !headers.has(Known::CacheControl) => {}
        _ if field.appends => {
            if !value.is_empty() {
                headers.push(&field.name, value);
            }
        }
        _ => {
            if field.is_wildcard && response.location.is_some() && field.matches(b"Location") {
                set_location(value, response);
            }
            set(field, value, response);
        }
    }
    Ok(())
}

fn set_location(value: &[u8], response: &mut Response) {
    response.headers.remove_known(Known::Location);
    response.location = (!value.is_empty()).then(|| value.to_vec());
}

/// Gives the first field of the name, or of the beginning of a name, the value, and removes the others; adds it if there is
/// none.
fn set(field: &FieldCommand, value: &[u8], response: &mut Response) {
    let headers = &mut response.headers;
    if !field.is_wildcard {
        return match value {
            b"" => drop(headers.remove(&field.name)),
            _ => headers.set(&field.name, value),
        };
    }
    let is_own = |known: Option<Known>| matches!(known, Some(Known::Server | Known::Date));
    let first = (0..headers.len()).find(|at| headers.at(*at).is_some_and(|(_, name, _)| field.matches(name)));
    let Some(first) = first else {
        if !value.is_empty() {
            headers.push(&field.name, value);
        }
        return;
    };
    headers.set_value(first, value);
    let mut at = 0;
    headers.retain(|known, name, _| {
        at += 1;
        let is_first = at == first + 1;
        // Without an empty one the server would write its own.
        !field.matches(name) || is_first && (!value.is_empty() || is_own(known))
    });
}
