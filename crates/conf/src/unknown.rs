//! The diagnostic for an unknown directive.
//!
//! Owns the explanation only: whether a name is known where it is used is for the engine to judge.

use crate::{Diagnostic, Word, known_directives, nearest};

/// Returns the diagnostic for a directive whose name is not in `known`: a comment of another language, a directive that
/// nginx has and pointsman has not, or a typo.
pub fn explain_unknown<'a>(word: &Word, known: impl Iterator<Item = &'a str>) -> Diagnostic {
    let name = word.value.to_string();
    if let Some(diagnostic) = foreign_comment(word) {
        return diagnostic;
    }
    if let Some(entry) = known_directives::find(&name) {
        let message =
            format!("directive \"{name}\" is known to {}, not supported by pointsman", entry.origin);
        return Diagnostic::error(word.span, message).label("not supported");
    }
    let unknown = Diagnostic::error(word.span, format!("unknown directive \"{name}\""));
    if let Some(code) = name.strip_suffix(':').or_else(|| name.strip_suffix('=')) {
        return unknown
            .label("nginx.conf has only a space between a name and its value")
            .help(format!("write `{code}`"));
    }
    let ours: Vec<&str> = known.collect();
    let lower = name.to_ascii_lowercase();
    let meant = nearest(&lower, ours.into_iter()).map(str::to_owned);
    let meant = meant.or_else(|| {
        nearest(&lower, known_directives::all().iter().map(|entry| entry.name)).map(str::to_owned)
    });
    match meant {
        Some(meant) => unknown.label("no directive has this name").help(format!("did you mean `{meant}`?")),
        None => unknown.label("no directive has this name"),
    }
}

/// Returns the diagnostic for a comment written as another language writes it, if the name begins like one.
pub(crate) fn foreign_comment(word: &Word) -> Option<Diagnostic> {
    if word.quoted {
        return None;
    }
    let (mark, language) = [("--", "a Lua comment"), ("//", "a C++ comment"), ("/*", "a C comment")]
        .into_iter()
        .find(|(mark, _)| word.value.starts_with(mark.as_bytes()))?;
    let message = format!("unknown directive \"{}\"", word.value);
    Some(
        Diagnostic::error(word.span, message)
            .label(format!("{language}; nginx.conf uses `#`"))
            .help(format!("write `#` instead of `{mark}`")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SourceId, Span};

    fn explain(name: &str) -> Diagnostic {
        let span = Span::new(SourceId(0), 0, name.len() as u32);
        let known = ["switch", "server", "listen", "proxy_pass"];
        explain_unknown(&Word { value: name.into(), span, quoted: false }, known.into_iter())
    }

    #[test]
    fn each_kind_of_unknown_name_has_its_own_explanation() {
        assert_eq!(explain("--").label.unwrap(), "a Lua comment; nginx.conf uses `#`");
        assert_eq!(explain("--").message, "unknown directive \"--\"");
        assert_eq!(explain("swich").help.unwrap(), "did you mean `switch`?");
        assert_eq!(explain("Listen").help.unwrap(), "did you mean `listen`?");
        assert_eq!(explain("fastcgi_pas").help.unwrap(), "did you mean `fastcgi_pass`?");
        assert_eq!(explain("listen:").help.unwrap(), "write `listen`");
        assert_eq!(
            explain("ssi").message,
            "directive \"ssi\" is known to nginx (ngx_http_ssi_filter_module), not supported by pointsman"
        );
        assert_eq!(explain("banana").help, None);
    }
}
