//! Texts of SSI commands: variables in them, and the conditions of `if`.

use super::record::SsiShared;
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::regex::{Captures, Regex};
use crate::variables;

/// The command is not carried out: its error text is shown. The fault is logged.
#[derive(Debug)]
pub(super) struct Fault;

/// Logs a fault.
pub(super) fn fault(exchange: &Exchange, env: &mut Env<'_>, text: &[&[u8]]) -> Fault {
    log_line::error(
        exchange,
        env,
        Level::Error,
        &[&text.concat()[..], log_line::while_sending(exchange)].concat(),
    );
    Fault
}

/// Returns the value of an SSI variable, or of one of the configuration's. The name is in lower case.
pub(super) fn variable(exchange: &mut Exchange, env: &mut Env<'_>, name: &[u8]) -> Option<Vec<u8>> {
    let shared = &exchange.subrequests.ssi.shared;
    if let [digit @ b'0'..=b'9'] = name {
        let group = usize::from(digit - b'0');
        if group < shared.captures.groups.len() {
            return Some(shared.captures.group(group).unwrap_or_default().to_vec());
        }
    }
    if let Some((_, value)) = shared.variables.iter().find(|(known, _)| known == name) {
        return Some(value.clone());
    }
    let definition = env.config.variables.definition(std::str::from_utf8(name).ok()?)?;
    let mut value = Vec::new();
    variables::append_defined(exchange, env, &definition, &mut value).then_some(value)
}

/// Gives an SSI variable a value. The name is in lower case.
pub(super) fn set(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    name: &[u8],
    value: Vec<u8>,
) -> Result<(), Fault> {
    if exchange.subrequests.ssi.shared.room() < name.len() + value.len() {
        return Err(fault(exchange, env, &[b"too much is kept by SSI commands, \"", name, b"\" is not set"]));
    }
    let shared: &mut SsiShared = &mut exchange.subrequests.ssi.shared;
    match shared.variables.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => shared.variables.push((name.to_vec(), value)),
    }
    Ok(())
}

/// Returns a text with the values of its variables, and without its backslashes before `\`, quotes and `$`
/// (ngx_http_ssi_evaluate_string).
pub(super) fn evaluate(exchange: &mut Exchange, env: &mut Env<'_>, text: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'\\' => {
                let Some((&escaped, after)) = rest.split_first() else { break };
                rest = after;
                if !matches!(escaped, b'\\' | b'\'' | b'"' | b'$') {
                    out.push(b'\\');
                }
                out.push(escaped);
            }
            b'$' => {
                let (name, after) = match take_name(rest) {
                    Ok(found) => found,
                    Err(NameError::Missing) => {
                        return Err(fault(exchange, env, &[b"invalid variable name in \"", text, b"\""]));
                    }
                    Err(NameError::Unclosed(name)) => {
                        let text = [b"the closing bracket in \"", name, b"\" variable is missing"];
                        return Err(fault(exchange, env, &text.map(|part: &[u8]| part)));
                    }
                };
                rest = after;
                let value = variable(exchange, env, &name.to_ascii_lowercase());
                out.extend_from_slice(&value.unwrap_or_default());
            }
            _ => out.push(byte),
        }
    }
    Ok(out)
}

enum NameError<'a> {
    Missing,
    Unclosed(&'a [u8]),
}

/// Returns the name behind a `$`, in braces or not, and what follows.
fn take_name(text: &[u8]) -> Result<(&[u8], &[u8]), NameError<'_>> {
    let (braced, body) = match text {
        [b'{', body @ ..] => (true, body),
        body => (false, body),
    };
    if body.is_empty() {
        return Err(NameError::Missing);
    }
    let len = body.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let (name, rest) = body.split_at(len);
    match (braced, rest) {
        (true, [b'}', ..]) | (false, _) if name.is_empty() => Err(NameError::Missing),
        (true, [b'}', rest @ ..]) | (false, rest) => Ok((name, rest)),
        (true, _) => Err(NameError::Unclosed(name)),
    }
}

/// Returns whether the condition of an `if` holds: a text that is not empty, or `LEFT = RIGHT`, `!=`, where the right one
/// may be a regular expression between slashes.
pub(super) fn holds(exchange: &mut Exchange, env: &mut Env<'_>, text: &[u8]) -> Result<bool, Fault> {
    let is_left = |byte: &u8| byte.is_ascii_alphanumeric() || b"${}_\"'".contains(byte);
    let len = text.iter().take_while(|byte| is_left(byte)).count();
    let left = evaluate(exchange, env, &text[..len].to_ascii_lowercase())?;
    let rest = skip_spaces(&text[len..]);
    let (negated, rest) = match rest {
        [] => return Ok(!left.is_empty()),
        [b'=', rest @ ..] => (false, rest),
        [b'!', b'=', rest @ ..] => (true, rest),
        _ => return Err(fault(exchange, env, &[b"invalid expression in \"", text, b"\""])),
    };
    let equal = match skip_spaces(rest) {
        [b'/', pattern @ .., b'/'] => {
            let pattern = evaluate(exchange, env, pattern)?;
            matches(exchange, env, &pattern, &left)?
        }
        [b'/', _, ..] => return Err(fault(exchange, env, &[b"invalid expression in \"", text, b"\""])),
        right => {
            let is_escaped = matches!(right, [b'\\', b'/', ..]);
            evaluate(exchange, env, &right[usize::from(is_escaped)..])? == left
        }
    };
    Ok(equal != negated)
}

fn skip_spaces(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|byte| **byte == b' ').count()..]
}

/// Matches, and keeps the groups.
fn matches(exchange: &mut Exchange, env: &mut Env<'_>, pattern: &[u8], text: &[u8]) -> Result<bool, Fault> {
    let compiled = match std::str::from_utf8(pattern) {
        Ok(pattern) => Regex::new(pattern, false),
        Err(_) => Err("the regular expression is no UTF-8".to_owned()),
    };
    let regex = match compiled {
        Ok(regex) => regex,
        Err(words) => return Err(fault(exchange, env, &[words.as_bytes()])),
    };
    let mut captures = Captures::default();
    match regex.captures(text, &mut captures) {
        Ok(true) => {}
        Ok(false) => return Ok(false),
        Err(_) => {
            let text = [b"the match was given up on \"", text, b"\" using \"", pattern, b"\""];
            return Err(fault(exchange, env, &text.map(|part: &[u8]| part)));
        }
    }
    for (group, name) in regex.names() {
        let value = captures.group(group).unwrap_or_default().to_vec();
        set(exchange, env, &name.to_ascii_lowercase().into_bytes(), value)?;
    }
    // As in nginx, groups behind the last one that took part are none.
    while captures.groups.last().is_some_and(Option::is_none) {
        captures.groups.pop();
    }
    exchange.subrequests.ssi.shared.captures = captures;
    Ok(true)
}

/// Returns true if no SSI variable has this name, which is in lower case.
pub(super) fn is_unset(exchange: &Exchange, name: &[u8]) -> bool {
    !exchange.subrequests.ssi.shared.variables.iter().any(|(known, _)| known == name)
}
