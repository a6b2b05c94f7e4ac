//! The directives.

use crate::directive::Args;
use crate::directive::{Apply, Contexts, Directive};
use crate::modules::media_types;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::flag("ssi", Contexts::HSLI, |b| &mut b.settings().filters.ssi.on)
        .default("off")
        .doc(
            "Processes SSI commands in responses: include, echo, set, if with elif, else and endif, config, block. \
             Subrequests of include are served one after another, in place of the command.",
        )
        .example("ssi on;"),
    Directive::flag("ssi_silent_errors", Contexts::HSL, |b| &mut b.settings().filters.ssi.silent_errors)
        .default("off")
        .doc("Omits the error text in place of a failed command; the error log still has the reason.")
        .example("ssi_silent_errors on;"),
    Directive::flag("ssi_last_modified", Contexts::HSL, |b| &mut b.settings().filters.ssi.last_modified)
        .default("off")
        .doc("Whether a response with commands keeps its Last-Modified, and its ETag as a weak one.")
        .example("ssi_last_modified on;"),
    Directive::size("ssi_value_length", Contexts::HSL, |b| &mut b.settings().filters.ssi.value_length)
        .default("255")
        .doc("The maximum length of a parameter's value, in bytes.")
        .example("ssi_value_length 1k;"),
    Directive::new("ssi_types", Contexts::HSL, Args::AtLeast(1), "mime-type ...", |b, d| {
        let types = media_types::read(b, d);
        b.write(d, |s| &mut s.filters.ssi.types, types)
    })
    .default("text/html")
    .doc("The media types of responses whose commands are processed, besides text/html; * is all.")
    .example("ssi_types application/xhtml+xml;"),
    Directive::ignored("ssi_min_file_chunk", Contexts::HSL, Apply::IgnoredSize)
        .default("1k")
        .doc("Has no effect: parts of a file between commands are sent from memory.")
        .example("ssi_min_file_chunk 4k;"),
    Directive::new("ssi_ignore_recycled_buffers", Contexts::HSL, Args::Flag, "on | off", |b, d| {
        b.flag(d).map(drop)
    })
    .default("off")
    .doc("Has no effect: there are no recycled buffers.")
    .example("ssi_ignore_recycled_buffers on;"),
    Directive::size("subrequest_output_buffer_size", Contexts::HSL, |b| {
        &mut b.settings().filters.ssi.output_buffer_size
    })
    .default("4k")
    .doc("The maximum length of a response that the command `include set=` stores; a longer one aborts the response.")
    .example("subrequest_output_buffer_size 64k;"),
];
