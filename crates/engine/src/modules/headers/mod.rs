//! `add_header`, `add_trailer`, `expires`: fields that the configuration adds to answers.
//!
//! Follows ngx_http_headers_filter_module. It never looks at what serves the answer.

mod expires;

pub use expires::{Expires, Lifetime};

use super::Module;
use super::static_files::last_modified_s;
use crate::config::{Builder, invalid_parameter, invalid_value};
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::{Exchange, Response};
use crate::host::Env;
use crate::output::HeadRefused;
use crate::setting::{Setting, settings};
use crate::template::Template;
use bstr::ByteSlice;
use conf::Diagnostic;
use http::Known;
use http::date::{http_date, parse_http_date};
use http::line_end;

/// One `add_header` or `add_trailer`.
#[derive(Clone, Debug)]
pub struct Field {
    /// The name as written.
    pub name: Box<[u8]>,
    /// The name's number, if it is one of those that an answer has once: the value replaces what is there.
    pub replaces: Option<Known>,
    /// The value; the field is not added when it comes to nothing.
    pub value: Template,
    /// To answers of any status.
    pub always: bool,
}

/// The treatment of the outer level's fields (`add_header_inherit`, nginx 1.29.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inherit {
    /// They are dropped.
    Off,
    /// They apply unless this level adds fields of its own.
    #[default]
    On,
    /// They follow this level's own.
    Merge,
}

settings! {
    /// Settings of one level.
    pub struct HeaderSettings {
        /// `add_header_inherit`.
        pub fields_inherit: Inherit = Inherit::On,
        /// `add_trailer_inherit`.
        pub trailers_inherit: Inherit = Inherit::On,
        /// `expires`.
        pub expires: Expires = Expires::Off,
    }
    not inherited {
        /// `add_header`.
        pub fields: Vec<Field> = Vec::new(),
        /// `add_trailer`.
        pub trailers: Vec<Field> = Vec::new(),
    }
}

impl HeaderSettings {
    /// Takes the fields and trailers of the level around this one, as `add_header_inherit` and `add_trailer_inherit`
    /// say.
    pub fn inherit_lists(&mut self, outer: &HeaderSettings) {
        inherit_fields(&mut self.fields, &outer.fields, *self.fields_inherit);
        inherit_fields(&mut self.trailers, &outer.trailers, *self.trailers_inherit);
    }
}

fn inherit_fields(own: &mut Setting<Vec<Field>>, outer: &Setting<Vec<Field>>, rule: Inherit) {
    match rule {
        Inherit::Off => {}
        Inherit::Merge if own.written() => outer.iter().for_each(|field| own.push(field.clone())),
        Inherit::On | Inherit::Merge => own.inherit(outer),
    }
}

/// The module.
pub static MODULE: Module = Module {
    header_filter: Some(filter),
    is_needed: Some(|_, settings| {
        !settings.headers.fields.is_empty() || !matches!(*settings.headers.expires, Expires::Off)
    }),
    ..Module::new("headers", &[DIRECTIVES])
};

const DIRECTIVES: &[Directive] = &[
    Directive::new("add_header", Contexts::HSLI, Args::Between(2, 3), "name value [always]", |b, d| {
        let field = field(b, d, true)?;
        b.settings().headers.fields.push(field);
        Ok(())
    })
    .doc(
        "Adds a field to responses with status 200, 201, 204, 206, 301 to 304, 307 and 308; with `always`, to all.",
    )
    .example("add_header X-Frame-Options DENY always;"),
    Directive::new("add_trailer", Contexts::HSLI, Args::Between(2, 3), "name value [always]", |b, d| {
        let field = field(b, d, false)?;
        b.settings().headers.trailers.push(field);
        Ok(())
    })
    .doc("Adds a trailer field to a chunked response, with the value at the end of the body.")
    .example("add_trailer X-Time $request_time;"),
    Directive::new("add_header_inherit", Contexts::HSLI, Args::Exactly(1), "on | off | merge", |b, d| {
        let rule = inherit_rule(d)?;
        b.write(d, |s| &mut s.headers.fields_inherit, rule)
    })
    .default("on")
    .doc(
        "Whether fields of the outer level are inherited: on (if there are none here), off, or merge.",
    )
    .example("add_header_inherit merge;"),
    Directive::new("add_trailer_inherit", Contexts::HSLI, Args::Exactly(1), "on | off | merge", |b, d| {
        let rule = inherit_rule(d)?;
        b.write(d, |s| &mut s.headers.trailers_inherit, rule)
    })
    .default("on")
    .doc(
        "Whether trailers of the outer level are inherited: on (if there are none here), off, or merge.",
    )
    .example("add_trailer_inherit merge;"),
    Directive::new(
        "expires",
        Contexts::HSLI,
        Args::Between(1, 2),
        "[modified] time | epoch | max | off",
        |b, d| {
            let rule = expires::parse(b, d)?;
            b.write(d, |s| &mut s.headers.expires, rule)
        },
    )
    .default("off")
    .doc(
        "Sets Expires and Cache-Control: a time from now, from the last change (modified), \
         of day (@), or epoch, max, off.",
    )
    .example("expires modified +24h;"),
];

fn field(b: &mut Builder<'_>, d: &conf::Directive, in_head: bool) -> Result<Field, Diagnostic> {
    let (name, always) = (&d.args[0], d.args.get(2));
    if let Some(word) = always.filter(|word| word.text() != "always") {
        return Err(invalid_parameter(word).help("the only parameter is `always`"));
    }
    if name.text().is_empty() || name.text().find_byteset(FORBIDDEN).is_some() {
        return Err(invalid_value(name).help("a field's name has no line break in it"));
    }
    let replaces = match Known::from_bytes(name.text()) {
        Some(known @ (Known::LastModified | Known::ETag)) if in_head => Some(known),
        _ => None,
    };
    let value = b.template(&d.args[1])?;
    Ok(Field { name: name.text().as_bytes().into(), replaces, value, always: always.is_some() })
}

fn inherit_rule(d: &conf::Directive) -> Result<Inherit, Diagnostic> {
    match &**d.args[0].text() {
        b"on" => Ok(Inherit::On),
        b"off" => Ok(Inherit::Off),
        b"merge" => Ok(Inherit::Merge),
        _ => Err(invalid_value(&d.args[0]).help("on, off or merge")),
    }
}

/// Bytes that would end a line of the head.
const FORBIDDEN: &[u8] = b"\r\n\0";

/// Adds the location's fields to the head.
fn filter(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    let config = env.config;
    let settings = &exchange.settings(config).headers;
    let safe = is_safe(exchange.response.status);
    if safe {
        settings.expires.get().apply(exchange, env);
    }
    for field in settings.fields.iter().filter(|field| safe || field.always) {
        match field.value.constant() {
            Some(value) => add(&mut exchange.response, field, value),
            None => {
                let value = evaluate(exchange, env, &field.value);
                add(&mut exchange.response, field, &value);
                exchange.scratch = value;
            }
        }
    }
    Ok(())
}

/// Returns whether responses with this status get the fields that are not `always`.
fn is_safe(status: u16) -> bool {
    matches!(status, 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308)
}

/// Returns the value in the exchange's scratch buffer, which the caller puts back.
fn evaluate(exchange: &mut Exchange, env: &mut Env<'_>, template: &Template) -> Vec<u8> {
    let mut value = std::mem::take(&mut exchange.scratch);
    value.clear();
    template.append(exchange, env, &mut value);
    line_end::blank(&mut value);
    value
}

fn add(response: &mut Response, field: &Field, value: &[u8]) {
    match field.replaces {
        None if value.is_empty() => {}
        None => response.headers.push(&field.name, value),
        Some(known) => {
            if known == Known::LastModified {
                response.last_modified_s = parse_http_date(value);
            }
            match value {
                b"" => drop(response.headers.remove_known(known)),
                _ => response.headers.set(&field.name, value),
            }
        }
    }
}

/// Returns true if the response will have trailers, so that it must be chunked whatever its length.
pub fn wants_trailers(response: &Response, settings: &HeaderSettings) -> bool {
    settings.trailers.iter().any(|field| field.always || is_safe(response.status))
}

/// Adds the location's trailers with the values they have now, at the body's end.
pub fn add_trailers(exchange: &mut Exchange, env: &mut Env<'_>) {
    let config = env.config;
    let safe = is_safe(exchange.response.status);
    let trailers = &exchange.settings(config).headers.trailers;
    for field in trailers.iter().filter(|field| safe || field.always) {
        let value = evaluate(exchange, env, &field.value);
        if !value.is_empty() {
            exchange.response.trailers.push(&field.name, &value);
        }
        exchange.scratch = value;
    }
}

#[cfg(test)]
mod tests;
