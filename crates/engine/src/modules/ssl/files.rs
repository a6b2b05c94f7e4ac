//! Files that directives name, with their bytes: read once, when the configuration is loaded.

use crate::config::Builder;
use crate::ssl_file::SslFile;
use conf::{Diagnostic, Span, Word, system_words};
use std::sync::Arc;

/// A text of a directive that the crate `tls` reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SslText {
    /// The text.
    pub text: String,
    /// Where it is.
    pub span: Span,
}

impl SslText {
    pub(in crate::modules) fn new(word: &Word) -> Result<SslText, Diagnostic> {
        Ok(SslText { text: word.str()?.to_owned(), span: word.span })
    }

    /// Reads the cipher suites of a command for OpenSSL (`ssl_conf_command`).
    pub(in crate::modules) fn of_conf_command(d: &conf::Directive) -> Result<SslText, Diagnostic> {
        let (directive, command) = (d.name.text(), &d.args[0]);
        if !command.text().eq_ignore_ascii_case(b"Ciphersuites") {
            let name = command.text();
            let text = format!("the command \"{name}\" of \"{directive}\" is not supported by pointsman");
            return Err(Diagnostic::error(command.span, text).help("supported is: Ciphersuites"));
        }
        SslText::new(&d.args[1])
    }
}

/// Reads the file that a directive names; `what` is its contents. `data:` has them in the configuration itself.
pub(in crate::modules) fn read(b: &Builder<'_>, word: &Word, what: &str) -> Result<SslFile, Diagnostic> {
    let text = word.str()?;
    if text.contains('$') {
        return Err(Diagnostic::error(
            word.span,
            format!("variables in the name of the {what} are not supported by pointsman"),
        )
        .help("write the name of one file"));
    }
    if let Some(data) = text.strip_prefix("data:") {
        let name: Arc<str> = "data:...".into();
        return Ok(SslFile::new(Arc::clone(&name), name, word.span, data.as_bytes().to_vec()));
    }
    if let Some((scheme @ ("engine" | "store"), _)) = text.split_once(':') {
        return Err(Diagnostic::error(
            word.span,
            format!("\"{scheme}:\" in the name of a {what} is known to nginx, not supported by pointsman"),
        )
        .help("write the name of a file"));
    }
    let path = b.conf_path(word)?;
    let bytes = b.inputs.loader.read_private(&path).map_err(|error| {
        let (path, why) = (path.display(), system_words(&error));
        Diagnostic::error(word.span, format!("cannot load {what} \"{path}\": open() failed ({why})"))
    })?;
    let name = path.display().to_string().into();
    Ok(SslFile::new(name, text.into(), word.span, bytes))
}
