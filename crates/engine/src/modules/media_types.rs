//! Lists of media types: `gzip_types`, `charset_types`.

use crate::config::Builder;
use conf::Diagnostic;

/// Reads a list. text/html is always in it.
pub(super) fn read(b: &mut Builder<'_>, d: &conf::Directive) -> Vec<Box<[u8]>> {
    let mut types: Vec<Box<[u8]>> = vec![b"text/html"[..].into()];
    for word in &d.args {
        let kind = word.text().to_ascii_lowercase();
        if types.iter().any(|known| **known == *kind) {
            let text = format!("duplicate MIME type \"{}\"", word.text());
            b.diagnostics.push(Diagnostic::warn(word.span, text));
            continue;
        }
        types.push(kind.into());
    }
    types
}

/// Returns true if a type, perhaps with parameters, is in the list, or the list is for all (`*`).
pub(super) fn contains(types: &[Box<[u8]>], kind: &[u8]) -> bool {
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    // As in nginx, `*` is for answers without a type too.
    let is_known = |known: &[u8]| !kind.is_empty() && known.eq_ignore_ascii_case(kind);
    types.iter().any(|known| **known == *b"*" || is_known(known))
}
