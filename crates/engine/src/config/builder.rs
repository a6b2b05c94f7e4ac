//! From the parsed text to the typed configuration.
//!
//! The builder walks the tree, checks every directive against its table entry, lets it write its settings, and goes
//! on after a fault, so that all of them are named. What needs the whole text (inheritance, the search tables, names
//! that are defined further down) is done in [`super::finish`] afterwards.

use super::Settings;
use super::draft::{Draft, ListenDraft};
use crate::directive::{Args, Contexts, Directive};
use crate::modules::{self, MODULES};
use crate::regex::Regex;
use crate::setting::{Duplicate, Setting};
use crate::template::{Template, TemplateError};
use crate::variables::VariableId;
use conf::{Body, Diagnostic, Parsed, SourceMap, Span, Word};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Resolves the host names of a configuration, at load.
pub trait NameLookup {
    /// Returns all addresses of a host, or the system's words for why there are none.
    fn lookup(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String>;
}

/// A lookup that finds no host, for text that names none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl NameLookup for NoNames {
    fn lookup(&self, _: &str, _: u16) -> Result<Vec<SocketAddr>, String> {
        Err("Name or service not known".to_owned())
    }
}

/// The inputs of a configuration besides its text.
pub struct Inputs<'a> {
    /// Reads files that directives name.
    pub loader: &'a dyn conf::Loader,
    /// Resolves host names.
    pub names: &'a dyn NameLookup,
    /// The base of relative paths.
    pub prefix: PathBuf,
    /// The configuration file; `include` is relative to its directory.
    pub file: PathBuf,
    /// The server's name for itself.
    pub identity: modules::core::Identity,
}

/// One level of nesting during the walk.
#[derive(Clone, Copy, Debug)]
struct Place {
    context: Contexts,
    scope: usize,
}

/// The configuration under construction; what a directive's `apply` writes to.
pub struct Builder<'a> {
    /// The inputs.
    pub inputs: &'a Inputs<'a>,
    /// The text, for line numbers.
    pub sources: &'a SourceMap,
    /// All faults so far.
    pub diagnostics: Vec<Diagnostic>,
    /// The configuration so far.
    pub draft: Draft,
    places: Vec<Place>,
    /// The directive being applied.
    applying: Option<String>,
}

static TABLE: LazyLock<HashMap<&'static str, Vec<&'static Directive>>> = LazyLock::new(|| {
    let mut table: HashMap<_, Vec<_>> = HashMap::new();
    for directive in MODULES.iter().flat_map(|module| module.directives.iter().copied().flatten()) {
        table.entry(directive.name).or_default().push(directive);
    }
    table
});

/// Returns the entries of the table that have this name.
pub(super) fn entries(name: &str) -> &'static [&'static Directive] {
    TABLE.get(name).map_or(&[], Vec::as_slice)
}

/// Returns all names of the table.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.keys().copied()
}

impl<'a> Builder<'a> {
    /// Returns a builder that has read nothing yet.
    pub(super) fn new(parsed: &'a Parsed, inputs: &'a Inputs<'a>) -> Builder<'a> {
        Builder {
            inputs,
            sources: &parsed.sources,
            diagnostics: parsed.diagnostics.clone(),
            draft: Draft::new(&inputs.prefix),
            places: vec![Place { context: Contexts::MAIN, scope: 0 }],
            applying: None,
        }
    }

    /// Applies the directives of a block in the present place.
    pub fn apply_all(&mut self, directives: &[conf::Directive]) {
        for directive in directives {
            if let Err(fault) = self.apply(directive) {
                self.diagnostics.push(fault);
            }
        }
    }

    fn apply(&mut self, directive: &conf::Directive) -> Result<(), Diagnostic> {
        let name = directive.name.text().to_string();
        let Some(entries) = TABLE.get(&*name) else {
            if let Some(read) = modules::no_effect::read(directive, self.context()) {
                return read;
            }
            return Err(conf::explain_unknown(&directive.name, TABLE.keys().copied()));
        };
        let context = self.context();
        let Some(entry) = entries.iter().find(|entry| entry.contexts.meets(context)) else {
            // nginx has a directive of this name too, and it is the one that is meant outside of our block.
            let is_block =
                |place: Contexts| matches!(place, Contexts::SWITCH | Contexts::ACME_ISSUER | Contexts::MATCH);
            let is_ours_alone = entries.iter().all(|entry| is_block(entry.contexts));
            if is_ours_alone && conf::known_directives::find(&name).is_some() {
                return Err(conf::explain_unknown(&directive.name, TABLE.keys().copied()));
            }
            self.look_inside_misplaced(entries, directive);
            let mut places: Vec<_> = entries.iter().flat_map(|entry| entry.contexts.names()).collect();
            places.dedup();
            return Err(Diagnostic::error(
                directive.name.span,
                format!("\"{name}\" directive is not allowed here"),
            )
            .help(format!("\"{name}\" is allowed in: {}", places.join(", "))));
        };
        check_shape(entry, directive)?;
        self.applying = Some(name);
        entry.apply.run(self, directive)
    }

    /// Reads a part of `http {}` that is at the top by mistake as if it were in `http {}`, so that what else is
    /// wrong in it is named too.
    fn look_inside_misplaced(&mut self, entries: &[&'static Directive], directive: &conf::Directive) {
        let fits = entries.iter().find(|entry| entry.contexts.meets(Contexts::HTTP));
        if let (Contexts::MAIN, Some(entry)) = (self.context(), fits) {
            self.places.push(Place { context: Contexts::HTTP, scope: 0 });
            let result = check_shape(entry, directive).and_then(|()| entry.apply.run(self, directive));
            self.diagnostics.extend(result.err());
            self.places.pop();
        }
    }

    /// Returns the context of the present place.
    pub fn context(&self) -> Contexts {
        self.places.last().map_or(Contexts::MAIN, |place| place.context)
    }

    /// Applies a block's directives in another context, with the settings of the present place.
    pub fn block(&mut self, directive: &conf::Directive, context: Contexts) {
        let scope = self.scope_index();
        self.block_in(directive, context, scope);
    }

    /// Applies one directive of a block in another context, with the settings of the present place.
    pub fn within(&mut self, context: Contexts, directive: &conf::Directive) {
        let scope = self.scope_index();
        self.places.push(Place { context, scope });
        self.apply_all(std::slice::from_ref(directive));
        self.places.pop();
    }

    /// Applies a block's directives in another context and scope.
    pub fn block_in(&mut self, directive: &conf::Directive, context: Contexts, scope: usize) {
        if let Body::Block(inner) = &directive.body {
            self.places.push(Place { context, scope });
            self.apply_all(inner);
            self.places.pop();
        }
    }

    /// Returns the present scope's number: an index into `draft.scopes`, and the [`super::LocationId`] it will have.
    pub fn scope_index(&self) -> usize {
        self.places.last().map_or(0, |place| place.scope)
    }

    /// Returns the settings of the present place.
    pub fn settings(&mut self) -> &mut Settings {
        let index = self.scope_index();
        &mut self.draft.scopes[index].settings
    }

    /// Returns the settings for TLS of the present place: a server's, or the http level's.
    pub fn ssl(&mut self) -> &mut modules::ssl::SslSettings {
        match self.server_index() {
            Some(server) => &mut self.draft.servers[server].ssl,
            None => &mut self.draft.ssl,
        }
    }

    /// Returns the server around the present place.
    pub fn server_index(&self) -> Option<usize> {
        self.draft.scopes[self.scope_index()].server
    }

    /// Writes a setting; a second time at one level is a fault.
    pub fn write<T>(
        &mut self,
        directive: &conf::Directive,
        setting: impl FnOnce(&mut Settings) -> &mut Setting<T>,
        value: T,
    ) -> Result<(), Diagnostic> {
        once(setting(self.settings()).write(value), directive)
    }

    /// Reads each of a directive's parameters, so that all faults are named.
    ///
    /// # Errors
    /// The last fault; those before it are noted.
    pub fn each(
        &mut self,
        words: &[Word],
        read: impl FnMut(&Word) -> Result<(), Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let mut faults: Vec<_> = words.iter().map(read).filter_map(Result::err).collect();
        let last = faults.pop();
        self.diagnostics.extend(faults);
        last.map_or(Ok(()), Err)
    }

    /// Enters a `listen`.
    pub fn listen(&mut self, listen: ListenDraft) {
        self.draft.listens.push(listen);
    }

    /// Compiles an argument that may hold variables.
    pub fn template(&mut self, word: &Word) -> Result<Template, Diagnostic> {
        self.template_of(word.text().as_ref(), word.span)
    }

    /// Compiles a piece of an argument that may hold variables.
    pub fn template_of(&mut self, text: &[u8], span: Span) -> Result<Template, Diagnostic> {
        let variables = &mut self.draft.variables;
        Template::compile(text, &mut |name| variables.id(name, Some(span))).map_err(|fault| {
            let shown = String::from_utf8_lossy(text);
            match fault {
                TemplateError::InvalidName => {
                    Diagnostic::error(span, format!("invalid variable name in \"{shown}\""))
                }
                TemplateError::Unclosed(name) => {
                    Diagnostic::error(span, format!("the closing bracket in \"{name}\" variable is missing"))
                }
            }
        })
    }

    /// Compiles a regular expression; the variables that its named groups define are entered.
    pub fn regex(&mut self, word: &Word, pattern: &[u8], ignore_case: bool) -> Result<Regex, Diagnostic> {
        let pattern = std::str::from_utf8(pattern).map_err(|_| invalid_parameter(word))?;
        let regex = Regex::new(pattern, ignore_case).map_err(|fault| Diagnostic::error(word.span, fault))?;
        for (_, name) in regex.names() {
            let defined = self.draft.variables.define_capture(name, word.span);
            defined.map_err(|fault| Diagnostic::error(word.span, fault))?;
        }
        Ok(regex)
    }

    /// Returns the id of a variable that an argument names as `$name`.
    pub fn variable(&mut self, word: &Word) -> Result<VariableId, Diagnostic> {
        Ok(self.draft.variables.id(variable_name(word)?, Some(word.span)))
    }

    /// Returns an absolute path under the prefix.
    pub fn path(&self, word: &Word) -> Result<PathBuf, Diagnostic> {
        Ok(self.inputs.prefix.join(word.str()?))
    }

    /// Returns an absolute path under the directory of the configuration file (`include`, `auth_basic_user_file`).
    pub fn conf_path(&self, word: &Word) -> Result<PathBuf, Diagnostic> {
        Ok(self.inputs.file.parent().unwrap_or(Path::new("")).join(word.str()?))
    }

    /// Reads `on` or `off`.
    pub fn flag(&self, directive: &conf::Directive) -> Result<bool, Diagnostic> {
        let word = &directive.args[0];
        conf::value::parse_flag(word.text()).ok_or_else(|| {
            let (value, name) = (word.text(), directive.name.text());
            Diagnostic::error(
                word.span,
                format!("invalid value \"{value}\" in \"{name}\" directive, it must be \"on\" or \"off\""),
            )
        })
    }

    /// Reads a size in bytes (`k`, `m`, `g`).
    pub fn size(&self, word: &Word) -> Result<u64, Diagnostic> {
        conf::value::parse_size(word.text()).ok_or_else(|| {
            self.invalid_setting(word).help("a size is a number of bytes, or a number with k, m or g: 8k, 1m")
        })
    }

    /// Reads a time in milliseconds.
    pub fn time_ms(&self, word: &Word) -> Result<u64, Diagnostic> {
        conf::value::parse_time_ms(word.text()).ok_or_else(|| {
            self.invalid_setting(word)
                .help("a time is a number of seconds, or with units: 500ms, 30s, 1m30s, 2h, 1d")
        })
    }

    /// Returns nginx's words for a value of the wrong form: `"root" directive invalid value`.
    pub fn invalid_setting(&self, word: &Word) -> Diagnostic {
        let text = match &self.applying {
            Some(name) => format!("\"{name}\" directive invalid value"),
            None => "invalid value".to_owned(),
        };
        Diagnostic::error(word.span, text).label(format!("\"{}\"", word.text()))
    }

    /// Reads a whole number.
    pub fn number(&self, word: &Word) -> Result<u64, Diagnostic> {
        number(word.text()).ok_or_else(|| {
            let text = match &self.applying {
                Some(name) => format!("\"{name}\" directive invalid number"),
                None => "invalid number".to_owned(),
            };
            Diagnostic::error(word.span, text).label("a whole number is wanted here")
        })
    }
}

/// Reads a whole number in decimal digits.
pub fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// Returns the name in `$name`.
pub fn variable_name(word: &Word) -> Result<&str, Diagnostic> {
    match word.str()?.strip_prefix('$') {
        Some(name) if !name.is_empty() => Ok(name),
        _ => Err(Diagnostic::error(word.span, format!("invalid variable name \"{}\"", word.text()))
            .help("a variable's name begins with $")),
    }
}

/// Returns the general diagnostic for a wrong argument.
pub fn invalid_value(word: &Word) -> Diagnostic {
    Diagnostic::error(word.span, "invalid value").label(format!("\"{}\"", word.text()))
}

/// Returns nginx's words for a choice that is none of those there are: `invalid value "sometimes"`.
pub fn invalid_choice(word: &Word) -> Diagnostic {
    Diagnostic::error(word.span, format!("invalid value \"{}\"", word.text()))
}

/// Returns the error `invalid parameter "x"`.
pub fn invalid_parameter(word: &Word) -> Diagnostic {
    Diagnostic::error(word.span, format!("invalid parameter \"{}\"", word.text()))
}

/// Turns a second writing into nginx's `"x" directive is duplicate`.
pub fn once(written: Result<(), Duplicate>, directive: &conf::Directive) -> Result<(), Diagnostic> {
    written.map_err(|Duplicate| {
        let name = directive.name.text();
        Diagnostic::error(directive.name.span, format!("\"{name}\" directive is duplicate"))
            .help("remove one of the two: it is allowed once at a level")
    })
}

fn check_shape(entry: &Directive, directive: &conf::Directive) -> Result<(), Diagnostic> {
    let name = entry.name;
    match (&entry.args, &directive.body) {
        (Args::Block(..), Body::Block(_)) | (Args::LuaBlock(_), Body::Lua(_)) => {}
        (Args::Block(..) | Args::LuaBlock(_), _) => {
            return Err(Diagnostic::error(
                directive.span,
                format!("directive \"{name}\" has no opening \"{{\""),
            ));
        }
        (_, Body::None) => {}
        (_, _) => {
            return Err(Diagnostic::error(
                directive.span,
                format!("directive \"{name}\" is not terminated by \";\""),
            )
            .help(format!("\"{name}\" takes no block: end it with `;`")));
        }
    }
    let (low, high) = entry.args.range();
    let given = directive.args.len();
    if (low..=high).contains(&given) {
        return Ok(());
    }
    let wanted = match (low, high) {
        (low, high) if low == high => low.to_string(),
        (low, usize::MAX) => format!("at least {low}"),
        (low, high) => format!("{low} to {high}"),
    };
    Err(Diagnostic::error(
        directive.name.span,
        format!("invalid number of arguments in \"{name}\" directive"),
    )
    .label(format!("takes {wanted}, has {given}"))
    .help(format!("for example: {}", entry.example)))
}
