//! What SSI commands do.

use super::expression::{self, Fault, fault};
use super::machine::{Branch, Conditional, Encoding, MAX_PARAMETERS, SsiMachine};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::output::chain::Include;
use crate::subrequest::Subrequest;
use http::escape::{Escape, escape, escape_html};

/// What follows a command.
pub(super) enum Done {
    /// The next one.
    Next,
    /// The answer to this request.
    Include(Box<Include>),
}

type Values<'a> = &'a [Option<Vec<u8>>];
type Run = fn(&mut SsiMachine, &mut Exchange, &mut Env<'_>, Values<'_>, &mut Vec<u8>) -> Result<Done, Fault>;

struct Command {
    name: &'static str,
    /// The names of its parameters; those with a `!` must be there.
    parameters: &'static [&'static str],
    /// It belongs to an `if`, and may stand behind this part of it at most.
    conditional: Conditional,
    /// It is carried out in a block.
    ends_block: bool,
    run: Run,
}

const COMMANDS: &[Command] = &[
    Command { parameters: &["virtual", "file", "wait", "set", "stub"], ..plain("include", include) },
    Command { parameters: &["!var", "default", "encoding"], ..plain("echo", echo) },
    Command { parameters: &["errmsg", "timefmt"], ..plain("config", config) },
    Command { parameters: &["!var", "!value"], ..plain("set", set) },
    Command { parameters: &["!expr"], ..plain("if", begin_if) },
    Command { parameters: &["!expr"], conditional: Conditional::If, ..plain("elif", choose) },
    Command { conditional: Conditional::If, ..plain("else", otherwise) },
    Command { conditional: Conditional::Else, ..plain("endif", end_if) },
    Command { parameters: &["!name"], ..plain("block", block) },
    Command { ends_block: true, ..plain("endblock", end_block) },
];

const fn plain(name: &'static str, run: Run) -> Command {
    Command { name, parameters: &[], conditional: Conditional::None, ends_block: false, run }
}

/// Carries out the command that was read, or passes over it where its branch is not shown.
pub(super) fn carry_out(
    machine: &mut SsiMachine,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    out: &mut Vec<u8>,
) -> Result<Done, Fault> {
    let command = COMMANDS.iter().find(|command| command.name.as_bytes() == machine.command);
    let Some(command) = command else {
        if machine.branch.shows {
            return Err(fault(exchange, env, &[b"invalid SSI command: \"", &machine.command, b"\""]));
        }
        return Ok(Done::Next);
    };
    if !machine.branch.shows && !command.ends_block {
        if machine.branch.is_block {
            keep_text(machine, exchange, env)?;
            return Ok(Done::Next);
        }
        if command.conditional == Conditional::None {
            return Ok(Done::Next);
        }
    }
    let stands_well = match (command.conditional, machine.branch.conditional) {
        (Conditional::None, _) => true,
        (_, Conditional::None) | (Conditional::If, Conditional::Else) => false,
        _ => true,
    };
    if !stands_well {
        let text = [b"invalid context of SSI command: \"", &machine.command[..], b"\""];
        return Err(fault(exchange, env, &text.map(|part: &[u8]| part)));
    }
    let values = values(machine, exchange, env, command)?;
    (command.run)(machine, exchange, env, &values, out)
}

/// Writes a command that stands in a block into it, as nginx writes it.
fn keep_text(machine: &SsiMachine, exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), Fault> {
    let mut text = [b"<!--#", &machine.command[..]].concat();
    for (name, value) in &machine.parameters {
        text.extend_from_slice(&[b" ", &name[..], b"=\"", value, b"\""].concat());
    }
    text.extend_from_slice(b" -->");
    let shared = &mut exchange.subrequests.ssi.shared;
    if shared.room() < text.len() {
        return Err(fault(exchange, env, &[b"too much is kept by SSI commands, a block is cut short"]));
    }
    if let Some((_, block)) = shared.blocks.last_mut() {
        block.extend_from_slice(&text);
    }
    Ok(())
}

/// Returns the values of a command's parameters, in its order.
fn values(
    machine: &mut SsiMachine,
    exchange: &Exchange,
    env: &mut Env<'_>,
    command: &Command,
) -> Result<Vec<Option<Vec<u8>>>, Fault> {
    let own = command.name.as_bytes();
    if machine.parameter_count > MAX_PARAMETERS {
        return Err(fault(exchange, env, &[b"too many SSI command parameters: \"", own, b"\""]));
    }
    let mut values = vec![None; command.parameters.len()];
    for (name, value) in machine.parameters.drain(..) {
        let is_named = |known: &&&str| known.trim_start_matches('!').as_bytes() == name;
        let Some(at) = command.parameters.iter().position(|known| is_named(&known)) else {
            let text = [b"invalid parameter name: \"", &name[..], b"\" in \"", own, b"\" SSI command"];
            return Err(fault(exchange, env, &text.map(|part: &[u8]| part)));
        };
        if values[at].is_some() {
            let text = [b"duplicate \"", &name[..], b"\" parameter in \"", own, b"\" SSI command"];
            return Err(fault(exchange, env, &text.map(|part: &[u8]| part)));
        }
        values[at] = Some(value);
    }
    for (name, value) in command.parameters.iter().zip(&values) {
        if let (Some(name), None) = (name.strip_prefix('!'), value) {
            let name = name.as_bytes();
            let text = [b"mandatory \"", name, b"\" parameter is absent in \"", own, b"\" SSI command"];
            return Err(fault(exchange, env, &text.map(|part: &[u8]| part)));
        }
    }
    Ok(values)
}

/// Returns the value of a parameter that must be there.
fn given<'a>(values: Values<'a>, at: usize) -> &'a [u8] {
    values.get(at).and_then(Option::as_deref).unwrap_or_default()
}

fn include(
    machine: &mut SsiMachine,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    values: Values<'_>,
    _: &mut Vec<u8>,
) -> Result<Done, Fault> {
    let [virtual_uri, file, wait, set, stub] = [0, 1, 2, 3, 4].map(|at| values[at].as_deref());
    let path = match (virtual_uri, file) {
        (Some(uri), Some(file)) => {
            let text = [b"inclusion may be either virtual=\"", uri, b"\" or file=\"", file, b"\""];
            return Err(fault(exchange, env, &text.map(|part: &[u8]| part)));
        }
        (None, None) => return Err(fault(exchange, env, &[b"no parameter in \"include\" SSI command"])),
        (Some(path), None) | (None, Some(path)) => path,
    };
    if set.is_some() && stub.is_some() {
        let text = b"\"set\" and \"stub\" cannot be used together in \"include\" SSI command";
        return Err(fault(exchange, env, &[text]));
    }
    if let Some(wait) = wait {
        if let (None, Some(file)) = (virtual_uri, file) {
            return Err(fault(exchange, env, &[b"\"wait\" cannot be used with file=\"", file, b"\""]));
        }
        if !wait.eq_ignore_ascii_case(b"no") && !wait.eq_ignore_ascii_case(b"yes") {
            let text = [b"invalid value \"", wait, b"\" in the \"wait\" parameter"];
            return Err(fault(exchange, env, &text.map(|part: &[u8]| part)));
        }
    }
    let mut path = expression::evaluate(exchange, env, path)?;
    if !path.starts_with(b"/") {
        let own = &exchange.request.uri;
        let folder = memchr::memrchr(b'/', own).map_or(0, |at| at + 1);
        path.splice(..0, own[..folder].iter().copied());
    }
    let mut uri = Vec::new();
    let Ok(args) = http::uri::decode_internal(&path, &mut uri).map(<[u8]>::to_vec) else {
        return Err(fault(exchange, env, &[b"unsafe URI \"", &path, b"\" was detected"]));
    };
    let mut request = Subrequest { uri, args, ..Subrequest::default() };
    if let Some(stub) = stub {
        let blocks = &exchange.subrequests.ssi.shared.blocks;
        let Some((_, text)) = blocks.iter().find(|(name, _)| name == stub) else {
            let text = [b"\"stub\"=\"", stub, b"\" for \"include\" not found"];
            return Err(fault(exchange, env, &text.map(|part: &[u8]| part)));
        };
        // It stands for the page of an error, too.
        request.bare = true;
        request.stub = Some(text.clone());
    }
    if let Some(name) = set {
        let name = name.to_ascii_lowercase();
        if expression::is_unset(exchange, &name) {
            expression::set(exchange, env, &name, Vec::new())?;
        }
        let settings = &exchange.settings(env.config).filters.ssi;
        request.kept = usize::try_from(*settings.output_buffer_size).unwrap_or(usize::MAX);
        machine.awaited = Some(name);
    }
    Ok(Done::Include(Box::new(Include { request, is_shown: set.is_none() })))
}

fn echo(
    machine: &mut SsiMachine,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    values: Values<'_>,
    out: &mut Vec<u8>,
) -> Result<Done, Fault> {
    let name = given(values, 0).to_ascii_lowercase();
    let found = expression::variable(exchange, env, &name);
    let value = found.unwrap_or_else(|| values[1].clone().unwrap_or_else(|| b"(none)".to_vec()));
    if value.is_empty() {
        return Ok(Done::Next);
    }
    match values[2].as_deref() {
        None => {}
        Some(b"none") => machine.encoding = Encoding::None,
        Some(b"url") => machine.encoding = Encoding::Url,
        Some(b"entity") => machine.encoding = Encoding::Entity,
        Some(other) => {
            // The one before stays.
            fault(exchange, env, &[b"unknown encoding \"", other, b"\" in the \"echo\" command"]);
        }
    }
    match machine.encoding {
        Encoding::None => out.extend_from_slice(&value),
        Encoding::Url => escape(Escape::Html, &value, out),
        Encoding::Entity => escape_html(&value, out),
    }
    Ok(Done::Next)
}

fn config(
    machine: &mut SsiMachine,
    exchange: &mut Exchange,
    _: &mut Env<'_>,
    values: Values<'_>,
    _: &mut Vec<u8>,
) -> Result<Done, Fault> {
    if let Some(text) = &values[0] {
        machine.error_text.clone_from(text);
    }
    if let Some(format) = &values[1] {
        exchange.subrequests.ssi.time_format = Some(format.clone());
    }
    Ok(Done::Next)
}

fn set(
    _: &mut SsiMachine,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    values: Values<'_>,
    _: &mut Vec<u8>,
) -> Result<Done, Fault> {
    let value = expression::evaluate(exchange, env, given(values, 1))?;
    expression::set(exchange, env, &given(values, 0).to_ascii_lowercase(), value)?;
    Ok(Done::Next)
}

fn begin_if(
    machine: &mut SsiMachine,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    values: Values<'_>,
    out: &mut Vec<u8>,
) -> Result<Done, Fault> {
    if machine.branch.conditional != Conditional::None {
        return Err(fault(exchange, env, &[b"the \"if\" command inside the \"if\" command"]));
    }
    choose(machine, exchange, env, values, out)
}

fn choose(
    machine: &mut SsiMachine,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    values: Values<'_>,
    _: &mut Vec<u8>,
) -> Result<Done, Fault> {
    if machine.branch.has_chosen {
        machine.branch.shows = false;
        return Ok(Done::Next);
    }
    let holds = expression::holds(exchange, env, given(values, 0))?;
    machine.branch.shows = holds;
    machine.branch.has_chosen = holds;
    machine.branch.conditional = Conditional::If;
    Ok(Done::Next)
}

fn otherwise(
    machine: &mut SsiMachine,
    _: &mut Exchange,
    _: &mut Env<'_>,
    _: Values<'_>,
    _: &mut Vec<u8>,
) -> Result<Done, Fault> {
    machine.branch.shows = !machine.branch.has_chosen;
    machine.branch.conditional = Conditional::Else;
    Ok(Done::Next)
}

fn end_if(
    machine: &mut SsiMachine,
    _: &mut Exchange,
    _: &mut Env<'_>,
    _: Values<'_>,
    _: &mut Vec<u8>,
) -> Result<Done, Fault> {
    machine.branch = Branch { is_block: machine.branch.is_block, ..Branch::default() };
    Ok(Done::Next)
}

fn block(
    machine: &mut SsiMachine,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    values: Values<'_>,
    _: &mut Vec<u8>,
) -> Result<Done, Fault> {
    let name = given(values, 0).to_vec();
    let shared = &mut exchange.subrequests.ssi.shared;
    if shared.room() < name.len() {
        return Err(fault(exchange, env, &[b"too much is kept by SSI commands, a block is not"]));
    }
    shared.blocks.push((name, Vec::new()));
    machine.branch.shows = false;
    machine.branch.is_block = true;
    Ok(Done::Next)
}

fn end_block(
    machine: &mut SsiMachine,
    _: &mut Exchange,
    _: &mut Env<'_>,
    _: Values<'_>,
    _: &mut Vec<u8>,
) -> Result<Done, Fault> {
    machine.branch.shows = true;
    machine.branch.is_block = false;
    Ok(Done::Next)
}
