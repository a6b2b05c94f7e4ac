//! The directives that application servers alone have.

use crate::config::{Builder, invalid_parameter, invalid_value, once};
use crate::directive::{Args, Contexts, Directive};
use crate::modules::proxy::PassKind;
use crate::modules::proxy::cgi::Param;
use crate::setting::Setting;
use conf::Diagnostic;

/// What each of the three has; `$pass` is an example of its `…_pass`.
macro_rules! gateway_directives {
    ($prefix:literal, $kind:expr, $pass:literal) => {{
        use crate::directive::{Args, Contexts, Directive};
        use crate::modules::cgi::directives::param;
        use crate::modules::proxy::read_pass;
        const DIRECTIVES: &[Directive] = &[
            Directive::new(
                concat!($prefix, "_pass"),
                Contexts::LOCATION.or(Contexts::LOCATION_IF),
                Args::Exactly(1),
                "address",
                |b, d| read_pass(b, d, $kind),
            )
            .doc("The application server that requests are passed to: a group, host:port or unix:/path; may contain \
                 variables.")
            .example($pass),
            Directive::new(
                concat!($prefix, "_param"),
                Contexts::HSL,
                Args::Between(2, 3),
                "parameter value [if_not_empty]",
                |b, d| param(b, d, $kind),
            )
            .doc(
                "A parameter for the application; one named HTTP_… replaces the client's field of that name, and \
                 removes it if its value is empty. Parameters at one level replace all of those of the outer level.",
            )
            .example(concat!($prefix, "_param SCRIPT_FILENAME $document_root$fastcgi_script_name;")),
        ];
        DIRECTIVES
    }};
}
pub(super) use gateway_directives;

/// FastCGI's own.
pub(super) const FASTCGI: &[Directive] = &[
    Directive::new("fastcgi_index", Contexts::HSL, Args::Exactly(1), "name", |b, d| {
        let name = d.args[0].text().to_vec().into_boxed_slice();
        once(PassKind::FastCgi.settings(b.settings()).cgi.index.write(name), d)
    })
    .doc("The file name that $fastcgi_script_name appends to a URI that ends in a slash.")
    .example("fastcgi_index index.php;"),
    Directive::new("fastcgi_split_path_info", Contexts::HSL, Args::Exactly(1), "regex", split)
        .doc(
            "A regular expression with two groups: the first is $fastcgi_script_name, the second $fastcgi_path_info. \
             A URI that it does not match is the script's name as a whole.",
        )
        .example("fastcgi_split_path_info ^(.+?\\.php)(/.*)$;"),
    Directive::flag("fastcgi_keep_conn", Contexts::HSL, |b| {
        &mut PassKind::FastCgi.settings(b.settings()).cgi.keep_conn
    })
    .default("off")
    .doc("Whether servers are asked to keep connections open; a group's keepalive needs it.")
    .example("fastcgi_keep_conn on;"),
    Directive::new("fastcgi_catch_stderr", Contexts::HSL, Args::Exactly(1), "string", |b, d| {
        let text = d.args[0].text().to_vec().into_boxed_slice();
        PassKind::FastCgi.settings(b.settings()).cgi.catch_stderr.push(text);
        Ok(())
    })
    .doc(
        "A text that makes a response invalid if it is found in the server's error stream before the head; see \
         fastcgi_next_upstream.",
    )
    .example("fastcgi_catch_stderr \"PHP Fatal error\";"),
    Directive::new("fastcgi_send_lowat", Contexts::HSL, Args::Exactly(1), "size", |b, d| {
        b.size(&d.args[0]).map(drop)
    })
    .default("0")
    .doc("Has no effect: on Linux, it has none in nginx either.")
    .example("fastcgi_send_lowat 0;"),
];

/// uwsgi's own.
pub(super) const UWSGI: &[Directive] = &[
    Directive::new("uwsgi_modifier1", Contexts::HSL, Args::Exactly(1), "number", |b, d| {
        modifier(b, d, |settings| &mut settings.modifier1)
    })
    .default("0")
    .doc("The first modifier of a request, which selects the server's plugin.")
    .example("uwsgi_modifier1 5;"),
    Directive::new("uwsgi_modifier2", Contexts::HSL, Args::Exactly(1), "number", |b, d| {
        modifier(b, d, |settings| &mut settings.modifier2)
    })
    .default("0")
    .doc("The second modifier of a request.")
    .example("uwsgi_modifier2 1;"),
    Directive::new("uwsgi_string", Contexts::HSL, Args::Exactly(1), "string", |b, d| {
        let text = d.args[0].text().to_vec().into_boxed_slice();
        once(PassKind::Uwsgi.settings(b.settings()).cgi.string.write(text), d)
    })
    .doc("Bytes sent after the parameters of a request, for modifiers that use them.")
    .example("uwsgi_string text;"),
];

/// Reads a parameter.
pub(super) fn param(b: &mut Builder<'_>, d: &conf::Directive, kind: PassKind) -> Result<(), Diagnostic> {
    let if_not_empty = match d.args.get(2) {
        None => false,
        Some(word) if word.text() == "if_not_empty" => true,
        Some(word) => return Err(invalid_parameter(word).help("if_not_empty, or nothing")),
    };
    let value = b.template(&d.args[1])?;
    let name = d.args[0].text().to_vec().into_boxed_slice();
    kind.settings(b.settings()).cgi.params.push(Param { name, value, if_not_empty });
    Ok(())
}

fn split(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let pattern: &[u8] = word.text();
    let regex = b.regex(word, pattern, false)?;
    if regex.group_count() != 2 {
        let text = format!("pattern \"{}\" must have 2 captures", word.text());
        return Err(Diagnostic::error(word.span, text)
            .help("the first is the script's name, the second what follows it: ^(.+?\\.php)(/.*)$"));
    }
    once(PassKind::FastCgi.settings(b.settings()).cgi.split.write(Some(regex)), d)
}

fn modifier(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    setting: fn(&mut crate::modules::proxy::CgiSettings) -> &mut Setting<u64>,
) -> Result<(), Diagnostic> {
    let number = b.number(&d.args[0])?;
    if number > 255 {
        return Err(invalid_value(&d.args[0]).help("a number from 0 to 255"));
    }
    once(setting(&mut PassKind::Uwsgi.settings(b.settings()).cgi).write(number), d)
}
