//! The directives.

use super::{Charset, CharsetSettings};
use crate::config::Builder;
use crate::directive::{Args, Contexts, Directive};
use crate::modules::media_types;
use crate::setting::Setting;
use conf::Diagnostic;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new("charset", Contexts::HSLI, Args::Exactly(1), "charset | off", |b, d| {
        charset(b, d, |settings| &mut settings.charset)
    })
    .default("off")
    .doc("The charset that Content-Type says for the types of charset_types.")
    .example("charset utf-8;"),
    Directive::new("source_charset", Contexts::HSLI, Args::Exactly(1), "charset", |b, d| {
        charset(b, d, |settings| &mut settings.source)
    })
    .doc("The charset that bodies have. It must be that of charset: bodies are not converted.")
    .example("source_charset utf-8;"),
    Directive::flag("override_charset", Contexts::HSLI, |b| &mut b.settings().filters.charset.override_own)
        .default("off")
        .doc("Whether an upstream's answer with another charset is logged as an error: it is not converted.")
        .example("override_charset on;"),
    Directive::new("charset_types", Contexts::HSL, Args::AtLeast(1), "mime-type ...", |b, d| {
        let types = media_types::read(b, d);
        b.write(d, |s| &mut s.filters.charset.types, types)
    })
    .default("text/html text/xml text/plain text/vnd.wap.wml application/javascript application/rss+xml")
    .doc("The types to which charset adds the charset, beside text/html; * is all.")
    .example("charset_types text/css application/json;"),
];

fn charset(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    setting: fn(&mut CharsetSettings) -> &mut Setting<Option<Charset>>,
) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let charset = match &**word.text() {
        b"off" => None,
        _ => Some(Charset { name: b.template(word)?, span: word.span }),
    };
    b.write(d, |s| setting(&mut s.filters.charset), charset)
}
