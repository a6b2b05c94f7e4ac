//! The directives.

use super::Pair;
use crate::directive::{Args, Contexts, Directive};
use crate::modules::media_types;
use conf::Diagnostic;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new("sub_filter", Contexts::HSL, Args::Exactly(2), "string replacement", |b, d| {
        if d.args[0].text().is_empty() {
            return Err(Diagnostic::error(d.args[0].span, "empty search pattern"));
        }
        let pair = Pair { text: b.template(&d.args[0])?, value: b.template(&d.args[1])? };
        let pairs = &mut b.settings().filters.sub.pairs;
        if pairs.written() && pairs.len() == MAX_PAIRS {
            return Err(Diagnostic::error(d.name.span, "number of search patterns exceeds 255"));
        }
        pairs.push(pair);
        Ok(())
    })
    .doc(
        "Replaces a text in response bodies, ignoring case; both texts may contain variables. Several are searched \
         for together, each until it is found once, unless sub_filter_once is off.",
    )
    .example("sub_filter http://127.0.0.1:8080/ https://$host/;"),
    Directive::new("sub_filter_types", Contexts::HSL, Args::AtLeast(1), "mime-type ...", |b, d| {
        let types = media_types::read(b, d);
        b.write(d, |s| &mut s.filters.sub.types, types)
    })
    .default("text/html")
    .doc("The media types of responses that sub_filter applies to, besides text/html; * is all.")
    .example("sub_filter_types text/css application/json;"),
    Directive::flag("sub_filter_once", Contexts::HSL, |b| &mut b.settings().filters.sub.once)
        .default("on")
        .doc("Whether each text is replaced only at its first occurrence.")
        .example("sub_filter_once off;"),
    Directive::flag("sub_filter_last_modified", Contexts::HSL, |b| {
        &mut b.settings().filters.sub.last_modified
    })
    .default("off")
    .doc("Whether a filtered response keeps its Last-Modified, and its ETag as a weak one.")
    .example("sub_filter_last_modified on;"),
];

/// As many as nginx takes.
const MAX_PAIRS: usize = 255;
