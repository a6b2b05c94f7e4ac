//! Decompressed answers for clients that do not take compressed ones (ngx_http_gunzip_filter_module).
//!
//! Owns for whom an answer is decompressed. The bytes are the output's [`Decoder`]'s.

use super::{Module, gzip, validators};
use crate::config::number;
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::output::chain::{BodyFilter, Flow};
use crate::output::wire::{FilterFailed, HeadRefused};
use crate::output::{DecodeError, Decoder, ENOUGH};
use crate::setting::settings;
use http::Known;

settings! {
    /// Settings of one level.
    pub struct GunzipSettings {
        /// `gunzip`.
        pub on: bool = false,
    }
}

/// The module.
pub static MODULE: Module = Module {
    header_filter: Some(filter),
    filters_subrequests: true,
    is_needed: Some(|_, settings| *settings.filters.gunzip.on),
    ..Module::new("gunzip", &[DIRECTIVES])
};

const DIRECTIVES: &[Directive] = &[
    Directive::flag("gunzip", Contexts::HSL, |b| &mut b.settings().filters.gunzip.on)
        .default("off")
        .doc("Decompresses gzip responses for clients that do not accept gzip.")
        .example("gunzip on;"),
    Directive::new("gunzip_buffers", Contexts::HSL, Args::Exactly(2), "number size", |b, d| {
        let count = number(d.args[0].text()).filter(|count| *count > 0);
        count.ok_or_else(|| b.invalid_setting(&d.args[0]))?;
        b.size(&d.args[1]).map(drop)
    })
    .default("32 4k")
    .doc("Has no effect: decompressed data is sent in pieces of 32k.")
    .example("gunzip_buffers 16 8k;"),
];

/// Decides if the answer is decompressed, and changes its head for that.
fn filter(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    let settings = &exchange.settings(env.config).filters.gunzip;
    let coding = exchange.response.headers.get(Known::ContentEncoding);
    if !*settings.on || !coding.is_some_and(|coding| coding.eq_ignore_ascii_case(b"gzip")) {
        return Ok(());
    }
    exchange.output.varies = true;
    if gzip::accepts(exchange, env) {
        return Ok(());
    }
    exchange.output.chain.push(BodyFilter::Gunzip(Box::<Decoder>::default()));
    let response = &mut exchange.response;
    response.headers.remove_known(Known::ContentEncoding);
    validators::forget_length(response);
    validators::forget_ranges(response);
    validators::weaken_etag(response);
    Ok(())
}

/// Decompresses what has come of the body.
pub(super) fn run(
    decoder: &mut Decoder,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    input: &mut &[u8],
    is_last: bool,
    out: &mut Vec<u8>,
) -> Result<Flow, FilterFailed> {
    match decoder.run(input, is_last, out, ENOUGH) {
        Ok(true) => Ok(Flow::Dry),
        Ok(false) => Ok(Flow::Full),
        Err(error) => {
            // zlib's numbers, as nginx's log has them.
            let text: &[u8] = match error {
                DecodeError::Invalid => b"inflate() failed: 0, -3",
                DecodeError::Truncated => b"inflate() returned -5 on response end",
            };
            let line = [text, log_line::while_sending(exchange)].concat();
            log_line::error(exchange, env, Level::Error, &line);
            Err(FilterFailed)
        }
    }
}
