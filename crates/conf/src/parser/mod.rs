//! Texts become one tree.
//!
//! Owns the entry points, the files of one parse and `include`; [`file`] reads one text. It must report every fault it
//! can tell apart, never more than one for the same cause, and always come to an end: depth, files and diagnostics are
//! limited.

mod file;

use crate::recovery::braces::BraceFixes;
use crate::syntax::Scope;
use crate::{Diagnostic, Directive, Loader, SourceId, SourceMap, Span, Tree, Word};
use bstr::ByteSlice;
use file::FileParser;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

/// Blocks within blocks. nginx has no limit and needs about five.
const MAX_DEPTH: usize = 100;
/// Files within files. nginx stops when it runs out of descriptors.
const MAX_INCLUDE_DEPTH: usize = 50;
/// Files of one parse, each counted as often as it is included.
const MAX_FILES: usize = 20_000;
/// Diagnostics of one parse: more than anyone would read.
const MAX_DIAGNOSTICS: usize = 200;

/// The result of a parse.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The directives; if there are faults, as they are with the faults corrected.
    pub tree: Tree,
    /// Everything that was read.
    pub sources: SourceMap,
    /// Every fault of the text, in the order of reading.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Returns true if a fault refuses the configuration.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Parses a configuration file, by its absolute path, and all it includes. Relative includes are searched in the
/// directory of this file, as nginx does, whichever file holds them.
///
/// ```
/// use pointsman_conf::{Loader, parse};
/// use std::io;
/// use std::path::{Path, PathBuf};
///
/// /// One file, in memory.
/// struct Memory(&'static str);
///
/// impl Loader for Memory {
///     fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
///         Ok(self.0.into())
///     }
///
///     fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
///         Ok(Vec::new())
///     }
/// }
///
/// let parsed = parse(Path::new("/etc/nginx.conf"), &Memory("events { }\nhttp {\n  gzip on\n  sendfile on;\n}"));
/// assert_eq!(parsed.tree.directives[1].children().len(), 2);
/// let fault = &parsed.diagnostics[0];
/// assert_eq!(
///     fault.nginx_line(&parsed.sources),
///     "directive \"gzip\" is not terminated by \";\" in /etc/nginx.conf:3"
/// );
/// assert_eq!(fault.help.as_deref(), Some("add `;` at the end of line 3"));
/// ```
pub fn parse(path: &Path, loader: &dyn Loader) -> Parsed {
    let mut parser = Parser::new(path.parent().unwrap_or(Path::new("/")), loader);
    let directives = parser.file(path, None, Scope::TOP);
    parser.finish(directives)
}

/// Parses the text of nginx's `-g` option, then a configuration file: what a process is started with.
pub fn parse_with_option(path: &Path, option: Option<&[u8]>, loader: &dyn Loader) -> Parsed {
    let mut parser = Parser::new(path.parent().unwrap_or(Path::new("/")), loader);
    let mut directives = Vec::new();
    if let Some(option) = option {
        let source = parser.sources.add(PathBuf::new(), option.to_vec(), true);
        directives = parser.text(source, Scope::TOP);
    }
    directives.extend(parser.file(path, None, Scope::TOP));
    parser.finish(directives)
}

/// Parses a text as if it were the file of this path.
pub fn parse_text(path: impl AsRef<Path>, text: impl Into<Vec<u8>>, loader: &dyn Loader) -> Parsed {
    let path = path.as_ref();
    let mut parser = Parser::new(path.parent().unwrap_or(Path::new("/")), loader);
    let source = parser.sources.add(path.to_owned(), text.into(), false);
    parser.open_files.push(path.to_owned());
    let directives = parser.text(source, Scope::TOP);
    parser.finish(directives)
}

/// Parses the text of nginx's `-g` option: directives without blocks. Relative includes are searched in `conf_dir`.
pub fn parse_option(text: impl Into<Vec<u8>>, conf_dir: &Path, loader: &dyn Loader) -> Parsed {
    let mut parser = Parser::new(conf_dir, loader);
    let source = parser.sources.add(PathBuf::new(), text.into(), true);
    let directives = parser.text(source, Scope::TOP);
    parser.finish(directives)
}

/// One parse over all its files.
struct Parser<'l> {
    loader: &'l dyn Loader,
    conf_dir: PathBuf,
    sources: SourceMap,
    diagnostics: Vec<Diagnostic>,
    by_path: HashMap<PathBuf, SourceId>,
    /// The files being read, each included by the one before.
    open_files: Vec<PathBuf>,
    files: usize,
    /// A limit was reached: nothing more is read.
    stopped: bool,
}

impl<'l> Parser<'l> {
    fn new(conf_dir: &Path, loader: &'l dyn Loader) -> Self {
        Parser {
            loader,
            conf_dir: conf_dir.to_owned(),
            sources: SourceMap::default(),
            diagnostics: Vec::new(),
            by_path: HashMap::new(),
            open_files: Vec::new(),
            files: 0,
            stopped: false,
        }
    }

    fn finish(self, directives: Vec<Directive>) -> Parsed {
        Parsed { tree: Tree { directives }, sources: self.sources, diagnostics: self.diagnostics }
    }

    /// Records a fault, once: a file that is included twice has its faults once.
    fn report(&mut self, diagnostic: Diagnostic) {
        if self.stopped || self.diagnostics.contains(&diagnostic) {
            return;
        }
        self.diagnostics.push(diagnostic);
        if self.diagnostics.len() == MAX_DIAGNOSTICS {
            self.stop(Diagnostic::error(
                None,
                format!("more than {MAX_DIAGNOSTICS} faults, stopped reading"),
            ));
        }
    }

    fn stop(&mut self, diagnostic: Diagnostic) {
        if !self.stopped {
            self.diagnostics.push(diagnostic);
            self.stopped = true;
        }
    }

    /// Reads a text, and once more with each guess at its braces if they do not fit.
    fn text(&mut self, source: SourceId, scope: Scope) -> Vec<Directive> {
        const MAX_FIXES: usize = 4;
        let text = self.sources.shared_text(source);
        let before = (self.diagnostics.len(), self.files);
        let mut fixes = BraceFixes::default();
        for _ in 0..MAX_FIXES {
            let (directives, fix) = FileParser::new(self, source, &text, scope, &fixes).read();
            let Some(fix) = fix else { return directives };
            self.diagnostics.truncate(before.0);
            self.files = before.1;
            if !fixes.add(fix) {
                break;
            }
        }
        // The guesses lead nowhere: the text is reported as it is.
        FileParser::new(self, source, &text, scope, &BraceFixes::default()).read().0
    }

    /// Reads a file; `at` is the place of its `include`.
    fn file(&mut self, path: &Path, at: Option<Span>, scope: Scope) -> Vec<Directive> {
        self.files += 1;
        let name = path.display();
        if self.open_files.iter().any(|open| open == path) {
            let fault = Diagnostic::error(at, format!("file \"{name}\" includes itself"));
            self.report(fault.label("this include leads back to the file itself"));
            return Vec::new();
        }
        if self.open_files.len() >= MAX_INCLUDE_DEPTH {
            let fault = format!("more than {MAX_INCLUDE_DEPTH} files include one another");
            self.report(Diagnostic::error(at, fault).label("one include too many"));
            return Vec::new();
        }
        if self.files > MAX_FILES {
            self.stop(Diagnostic::error(at, format!("more than {MAX_FILES} files are included")));
            return Vec::new();
        }
        let source = match self.by_path.get(path) {
            Some(source) => *source,
            None => match self.loader.read(path) {
                Ok(text) if u32::try_from(text.len()).is_ok() => {
                    let source = self.sources.add(path.to_owned(), text, false);
                    self.by_path.insert(path.to_owned(), source);
                    source
                }
                Ok(_) => {
                    self.report(Diagnostic::error(at, format!("file \"{name}\" is too large")));
                    return Vec::new();
                }
                Err(error) => {
                    let message = format!("open() \"{name}\" failed ({})", system_words(&error));
                    let fault = Diagnostic::error(at, message);
                    self.report(match error.raw_os_error() {
                        Some(EOPNOTSUPP) => fault.help("it is a FIFO, a socket or a device: name a file"),
                        Some(EFBIG) => {
                            fault.help("split it: a file may have 64 MiB, and all together 512 MiB")
                        }
                        _ => fault,
                    });
                    return Vec::new();
                }
            },
        };
        self.open_files.push(path.to_owned());
        let directives = self.text(source, scope);
        self.open_files.pop();
        directives
    }

    /// Reads the files that an `include` names.
    fn include(&mut self, directive: &Directive, scope: Scope) -> Vec<Directive> {
        let [Word { value, span, .. }] = &directive.args[..] else {
            let message = "invalid number of arguments in \"include\" directive";
            let fault = Diagnostic::error(directive.words_span(), message);
            self.report(fault.label("`include` takes one path or pattern"));
            return Vec::new();
        };
        let path = self.conf_dir.join(value.to_path_lossy());
        if value.find_byteset(b"*?[").is_none() {
            return self.file(&path, Some(*span), scope);
        }
        match self.loader.glob(&path) {
            Ok(paths) => paths.iter().flat_map(|path| self.file(path, Some(*span), scope)).collect(),
            Err(error) => {
                let message = format!("glob() \"{}\" failed ({})", path.display(), system_words(&error));
                self.report(Diagnostic::error(*span, message));
                Vec::new()
            }
        }
    }
}

/// The loader's errors for what is not a file, and for one that is too large: the numbers that Linux has for them.
const EOPNOTSUPP: i32 = 95;
const EFBIG: i32 = 27;

/// Returns an error of the system as nginx writes it: `2: No such file or directory`.
pub fn system_words(error: &io::Error) -> String {
    let words = error.to_string();
    match error.raw_os_error() {
        Some(number) => format!("{number}: {}", words.split(" (os error").next().unwrap_or(&words)),
        None => words,
    }
}
