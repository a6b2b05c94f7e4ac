//! Server-side includes (ngx_http_ssi_filter_module).
//!
//! Owns which answers are looked through and how their parts are put together. Commands are found by [`machine`] and carried
//! out by [`command`]; a request that `include` asks for is the server's to serve, into the body's place.

mod clock;
mod command;
mod directives;
mod expression;
pub mod machine;
pub mod record;

pub(crate) use clock::append_date;

use super::{Module, media_types, validators};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::output::ENOUGH;
use crate::output::chain::{BodyFilter, Flow, Included};
use crate::output::wire::HeadRefused;
use crate::setting::settings;
use command::Done;
use machine::{Parsed, SsiMachine};

/// The module.
pub static MODULE: Module = Module {
    header_filter: Some(filter),
    filters_subrequests: true,
    is_needed: Some(|_, settings| *settings.filters.ssi.on),
    ..Module::new("ssi", &[directives::DIRECTIVES])
};

settings! {
    /// Settings of one level.
    pub struct SsiSettings {
        /// `ssi`.
        pub on: bool = false,
        /// `ssi_silent_errors`.
        pub silent_errors: bool = false,
        /// `ssi_last_modified`.
        pub last_modified: bool = false,
        /// `ssi_value_length`, in bytes.
        pub value_length: u64 = 255,
        /// `ssi_types`, in lower case; text/html is always among them, and `*` is all.
        pub types: Vec<Box<[u8]>> = vec![b"text/html"[..].into()],
        /// `subrequest_output_buffer_size`, in bytes.
        pub output_buffer_size: u64 = 4096,
    }
}

/// Decides if commands are looked for, and changes the head for that.
fn filter(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    let settings = &exchange.settings(env.config).filters.ssi;
    let response = &exchange.response;
    if !*settings.on
        || response.content_length == Some(0)
        || !media_types::contains(settings.types.get(), response.content_type.as_deref().unwrap_or_default())
    {
        return Ok(());
    }
    begin(exchange, env);
    if !exchange.subrequests.is_inner() {
        let response = &mut exchange.response;
        validators::forget_length(response);
        validators::forget_ranges(response);
        match *settings.last_modified {
            true => validators::weaken_etag(response),
            false => validators::forget_version(response),
        }
    }
    Ok(())
}

/// Begins to look for commands.
pub(crate) fn begin(exchange: &mut Exchange, env: &Env<'_>) {
    let settings = &exchange.settings(env.config).filters.ssi;
    let value_length = usize::try_from(*settings.value_length).unwrap_or(usize::MAX);
    exchange.output.chain.push(BodyFilter::Ssi(Box::new(SsiMachine::new(value_length))));
}

/// Looks through what has come of the body.
pub(super) fn run(
    machine: &mut SsiMachine,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    input: &mut &[u8],
    out: &mut Vec<u8>,
) -> Flow {
    let silent = *exchange.settings(env.config).filters.ssi.silent_errors;
    if std::mem::take(&mut machine.has_failed) && !silent {
        out.extend_from_slice(&machine.error_text);
    }
    loop {
        if out.len() >= ENOUGH {
            return Flow::Full;
        }
        let mut text = Vec::new();
        let parsed = machine.parse(input, &mut text);
        for fault in std::mem::take(&mut machine.faults) {
            let line = [&fault[..], log_line::while_sending(exchange)].concat();
            log_line::error(exchange, env, Level::Error, &line);
        }
        put(machine, exchange, env, text, out);
        let done = match parsed {
            Parsed::Nothing => return Flow::Dry,
            Parsed::Faulty => Err(expression::Fault),
            Parsed::Command => command::carry_out(machine, exchange, env, out),
        };
        match done {
            Ok(Done::Next) => {}
            Ok(Done::Include(include)) => return Flow::Include(include),
            Err(expression::Fault) if silent => {}
            Err(expression::Fault) => out.extend_from_slice(&machine.error_text),
        }
    }
}

/// Puts text where the branch that it stands in has it.
fn put(machine: &SsiMachine, exchange: &mut Exchange, env: &mut Env<'_>, text: Vec<u8>, out: &mut Vec<u8>) {
    if text.is_empty() {
        return;
    }
    if machine.branch.shows {
        out.extend_from_slice(&text);
    } else if machine.branch.is_block {
        let shared = &mut exchange.subrequests.ssi.shared;
        if shared.room() < text.len() {
            log_line::error(
                exchange,
                env,
                Level::Error,
                b"too much is kept by SSI commands, a block is cut short",
            );
        } else if let Some((_, block)) = shared.blocks.last_mut() {
            block.extend_from_slice(&text);
        }
    }
}

/// Takes the answer that a command waited for.
pub(super) fn tell(machine: &mut SsiMachine, exchange: &mut Exchange, env: &mut Env<'_>, ended: Included) {
    machine.has_failed = ended.too_deep;
    if let Some(name) = machine.awaited.take()
        && !ended.too_deep
        && ended.status < 300
        && !ended.failed
    {
        // A fault is in the log, and leaves the variable as it was.
        let _ = expression::set(exchange, env, &name, ended.body);
    }
}

#[cfg(test)]
mod tests;
