//! The directives.

use super::{Charset, CharsetMap, CharsetSettings, InvalidValue};
use crate::config::Builder;
use crate::directive::{Args, Contexts, Directive};
use crate::modules::media_types;
use crate::setting::Setting;
use conf::{Body, Diagnostic};

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
    .doc("The charset of bodies whose Content-Type names none. If it differs from that of `charset`, bodies are \
         converted by a charset_map.")
    .example("source_charset utf-8;"),
    Directive::new("charset_map", Contexts::HTTP, Args::Block(2, 2), "charset1 charset2 { … }", charset_map)
        .doc(
            "Maps bytes of one charset to bytes of another, in hexadecimal; it is used in both directions. If the \
             second one is utf-8, its characters may have up to three bytes.",
        )
        .example("charset_map koi8-r utf-8 { 80 E282AC; C0 D18E; }"),
    Directive::flag("override_charset", Contexts::HSLI, |b| &mut b.settings().filters.charset.override_own)
        .default("off")
        .doc("Whether upstream responses that name another charset are converted too.")
        .example("override_charset on;"),
    Directive::new("charset_types", Contexts::HSL, Args::AtLeast(1), "mime-type ...", |b, d| {
        let types = media_types::read(b, d);
        b.write(d, |s| &mut s.filters.charset.types, types)
    })
    .default("text/html text/xml text/plain text/vnd.wap.wml application/javascript application/rss+xml")
    .doc("The media types that `charset` applies to, besides text/html; * is all.")
    .example("charset_types text/css application/json;"),
];

fn charset_map(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let [from, to] = [&d.args[0], &d.args[1]];
    let names = [from, to].map(|word| word.text().to_vec());
    let between = |what: &str| {
        let text = format!("{what} \"{}\" and \"{}\"", from.text(), to.text());
        Diagnostic::error(d.name.span, text)
    };
    if names[0].eq_ignore_ascii_case(&names[1]) {
        return Err(between("\"charset_map\" between the same charsets"));
    }
    if b.draft.http.charsets.find(&names[0], &names[1]).is_some() {
        return Err(between("duplicate \"charset_map\" between"));
    }
    let Body::Block(lines) = &d.body else { return Ok(()) };
    if let Some(line) = lines.iter().find(|line| line.args.len() != 1 || !matches!(line.body, Body::None)) {
        let fault = Diagnostic::error(line.name.span, "invalid parameters number");
        return Err(fault.help("a line has two numbers: 80 E282AC;"));
    }
    let pairs = lines.iter().map(|line| [&**line.name.text(), &**line.args[0].text()]);
    let map = CharsetMap::read([&names[0], &names[1]], pairs).map_err(|InvalidValue { line, word }| {
        let word = if word == 0 { &lines[line].name } else { &lines[line].args[0] };
        Diagnostic::error(word.span, format!("invalid value \"{}\"", word.text()))
            .help("a byte in hexadecimal, or up to three that are one character of utf-8")
    })?;
    b.draft.http.charsets.add(map);
    Ok(())
}

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
