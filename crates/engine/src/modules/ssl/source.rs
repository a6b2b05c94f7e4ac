//! Where a certificate or its key comes from: a file that is read when the configuration is loaded, or one whose name has
//! variables, which each handshake reads (`ssl_certificate`, `proxy_ssl_certificate` and their keys).

use crate::config::{Builder, Config};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::modules::map::Computed;
use crate::ssl_file::SslFile;
use crate::template::{Part, Template};
use crate::variables::Definition;
use conf::{Diagnostic, Span, Word};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// See the module.
#[derive(Clone, Debug)]
pub enum SslSource {
    /// It is read, or ACME issues it.
    File(SslFile),
    /// A handshake reads it.
    Late(LateFile),
}

/// A file whose name has variables.
#[derive(Clone)]
pub struct LateFile {
    name: Arc<Template>,
    /// The folder that names without a leading slash are in.
    folder: Arc<Path>,
    /// The name, as the configuration writes it; nothing of it if it has the contents themselves.
    pub written: Arc<str>,
    /// Where the configuration names it.
    pub span: Span,
}

impl fmt::Debug for LateFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("LateFile").field("name", &self.written).finish_non_exhaustive()
    }
}

/// A file as one handshake needs it.
#[derive(Clone)]
pub enum HandshakeFile {
    /// It was read when the configuration was loaded.
    Known(SslFile),
    /// It is to be read.
    Path(Vec<u8>),
    /// A variable has the contents themselves, in PEM.
    Data(Arc<Zeroizing<Vec<u8>>>),
}

impl HandshakeFile {
    /// Returns true for the empty name.
    pub fn is_empty(&self) -> bool {
        matches!(self, HandshakeFile::Path(path) if path.is_empty())
    }
}

/// Contents are never shown.
impl fmt::Debug for HandshakeFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeFile::Known(file) => out.write_str(&file.name),
            HandshakeFile::Path(path) => write!(out, "{}", path.escape_ascii()),
            HandshakeFile::Data(_) => out.write_str("data:..."),
        }
    }
}

/// A certificate and its key as one handshake needs them.
pub type HandshakePair = (HandshakeFile, HandshakeFile);

const DATA: &[u8] = b"data:";

impl SslSource {
    /// Reads the name of a file that may have variables; `what` is its contents.
    pub(in crate::modules) fn read(
        b: &mut Builder<'_>,
        word: &Word,
        what: &str,
    ) -> Result<SslSource, Diagnostic> {
        let name = b.template(word)?;
        if name.constant().is_some() {
            return super::files::read(b, word, what).map(SslSource::File);
        }
        let text = word.text();
        let is_data = text.starts_with(DATA);
        let written = if is_data { "data:...".into() } else { text.to_string().into() };
        let folder = b.inputs.file.parent().unwrap_or(Path::new("")).into();
        Ok(SslSource::Late(LateFile { name: Arc::new(name), folder, written, span: word.span }))
    }

    /// Returns where the configuration names it.
    pub fn span(&self) -> Span {
        match self {
            SslSource::File(file) => file.span,
            SslSource::Late(late) => late.span,
        }
    }

    /// Returns its name as the configuration writes it.
    pub fn written(&self) -> &Arc<str> {
        match self {
            SslSource::File(file) => &file.written,
            SslSource::Late(late) => &late.written,
        }
    }

    /// Returns true if ACME issues it.
    pub fn is_issued(&self) -> bool {
        self.file().is_some_and(SslFile::is_issued)
    }

    /// Returns true if a handshake reads it.
    pub fn is_late(&self) -> bool {
        matches!(self, SslSource::Late(_))
    }

    /// Returns the file that was read, or that ACME issues.
    pub fn file(&self) -> Option<&SslFile> {
        match self {
            SslSource::File(file) => Some(file),
            SslSource::Late(_) => None,
        }
    }

    /// Returns the file as this handshake, or request, needs it.
    pub fn in_handshake(&self, exchange: &mut Exchange, env: &mut Env<'_>) -> HandshakeFile {
        match self {
            SslSource::File(file) => HandshakeFile::Known(file.clone()),
            SslSource::Late(late) => late.in_handshake(exchange, env),
        }
    }
}

impl LateFile {
    fn in_handshake(&self, exchange: &mut Exchange, env: &mut Env<'_>) -> HandshakeFile {
        let name = Zeroizing::new(self.name.value(exchange, env));
        match name.strip_prefix(DATA) {
            Some(data) => HandshakeFile::Data(Arc::new(Zeroizing::new(data.to_vec()))),
            None => HandshakeFile::Path(self.whole(&name)),
        }
    }

    /// Returns the whole path of a name; the empty one stays empty.
    fn whole(&self, name: &[u8]) -> Vec<u8> {
        match name.first() {
            None | Some(b'/') => name.to_vec(),
            Some(_) => [self.folder.as_os_str().as_bytes(), b"/", name].concat(),
        }
    }

    /// Returns patterns, as of glob(7), of the names that it may have: `*` stands for what a request has to say. Names of which
    /// nothing is known are left out.
    pub fn patterns(&self, config: &Config) -> Vec<Vec<u8>> {
        let known = |pattern: &Vec<u8>| !pattern.starts_with(b"*") && !pattern.starts_with(DATA);
        let patterns = patterns(&self.name, config, true).into_iter().filter(known);
        patterns.map(|pattern| self.whole(&pattern)).filter(|path| !path.is_empty()).collect()
    }
}

/// The most patterns of one name.
const MAX_PATTERNS: usize = 256;

fn patterns(name: &Template, config: &Config, looks_into_maps: bool) -> Vec<Vec<u8>> {
    let mut found = vec![Vec::new()];
    for part in name.parts() {
        let choices = match part {
            Part::Text(text) => vec![quoted(text)],
            Part::Variable(id) => match config.variables.entry(*id).definition {
                Definition::Computed { index, .. } if looks_into_maps => match config.computed.get(index) {
                    Some(Computed::Map(map)) => {
                        map.values().iter().flat_map(|value| patterns(value, config, false)).collect()
                    }
                    _ => vec![b"*".to_vec()],
                },
                _ => vec![b"*".to_vec()],
            },
            Part::Capture(_) => vec![b"*".to_vec()],
        };
        if found.len() * choices.len() > MAX_PATTERNS {
            return Vec::new();
        }
        found = found
            .iter()
            .flat_map(|front| choices.iter().map(move |choice| [&front[..], choice].concat()))
            .collect();
    }
    found
}

/// Returns a text as it is in a pattern.
fn quoted(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        if matches!(byte, b'*' | b'?' | b'[' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out
}
