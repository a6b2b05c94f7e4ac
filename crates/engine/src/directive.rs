//! Directives: table entries beside their modules.
//!
//! From these tables come the checks of context and argument count, the "did you mean" of the diagnostics and the
//! pages of `docs/directives/`. Nothing about a directive is written anywhere else.
//!
//! An entry names the kind of its value where there is one (`Directive::flag`, `time`, `size`, `number`, `template`),
//! and brings code of its own ([`Directive::new`]) where there is none.

use crate::config::{Builder, once};
use crate::setting::Setting;
use crate::template::Template;
use conf::Diagnostic;

/// The contexts that a directive is allowed in, as a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contexts(pub u16);

impl Contexts {
    /// The top of the file.
    pub const MAIN: Contexts = Contexts(1);
    /// `events {}`.
    pub const EVENTS: Contexts = Contexts(2);
    /// `http {}`.
    pub const HTTP: Contexts = Contexts(4);
    /// `server {}` in `http`.
    pub const SERVER: Contexts = Contexts(8);
    /// `location {}`.
    pub const LOCATION: Contexts = Contexts(16);
    /// `if {}` in a server.
    pub const SERVER_IF: Contexts = Contexts(32);
    /// `if {}` in a location.
    pub const LOCATION_IF: Contexts = Contexts(64);
    /// `upstream {}`.
    pub const UPSTREAM: Contexts = Contexts(128);
    /// `limit_except {}`.
    pub const LIMIT_EXCEPT: Contexts = Contexts(256);
    /// `switch {}`.
    pub const SWITCH: Contexts = Contexts(512);
    /// `acme_issuer {}`.
    pub const ACME_ISSUER: Contexts = Contexts(1024);
    /// `match {}`.
    pub const MATCH: Contexts = Contexts(2048);

    /// http, server and location: the contexts of most settings.
    pub const HSL: Contexts = Self::HTTP.or(Self::SERVER).or(Self::LOCATION);
    /// http, server, location and `if` in location.
    pub const HSLI: Contexts = Self::HSL.or(Self::LOCATION_IF);
    /// http and server.
    pub const HS: Contexts = Self::HTTP.or(Self::SERVER);

    /// Returns both sets together.
    pub const fn or(self, other: Contexts) -> Contexts {
        Contexts(self.0 | other.0)
    }

    /// Returns whether this set has a context in common with the other.
    pub const fn meets(self, other: Contexts) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the names nginx's documentation gives these places, in its order.
    pub fn names(self) -> Vec<&'static str> {
        const NAMES: [(Contexts, &str); 12] = [
            (Contexts::MAIN, "main"),
            (Contexts::EVENTS, "events"),
            (Contexts::HTTP, "http"),
            (Contexts::SERVER, "server"),
            (Contexts::LOCATION, "location"),
            (Contexts::SERVER_IF, "if in server"),
            (Contexts::LOCATION_IF, "if in location"),
            (Contexts::UPSTREAM, "upstream"),
            (Contexts::LIMIT_EXCEPT, "limit_except"),
            (Contexts::SWITCH, "switch"),
            (Contexts::ACME_ISSUER, "acme_issuer"),
            (Contexts::MATCH, "match"),
        ];
        NAMES.iter().filter(|(bit, _)| self.meets(*bit)).map(|(_, name)| *name).collect()
    }
}

/// The number of a directive's arguments, and whether it opens a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Args {
    /// One argument, `on` or `off`.
    Flag,
    /// Exactly this many.
    Exactly(usize),
    /// From the first to the second number, both included.
    Between(usize, usize),
    /// This many or more.
    AtLeast(usize),
    /// A `{ … }` block after so many arguments.
    Block(usize, usize),
    /// A block of Lua code after so many arguments (`content_by_lua_block { … }`).
    LuaBlock(usize),
}

impl Args {
    /// Returns the smallest and the largest number of arguments.
    pub const fn range(self) -> (usize, usize) {
        match self {
            Args::Flag => (1, 1),
            Args::Exactly(n) | Args::LuaBlock(n) => (n, n),
            Args::Between(low, high) | Args::Block(low, high) => (low, high),
            Args::AtLeast(n) => (n, usize::MAX),
        }
    }
}

/// Code that puts one directive's meaning into the configuration under construction.
pub type ApplyCode = fn(&mut Builder<'_>, &conf::Directive) -> Result<(), Diagnostic>;

/// The storage of a directive's value: a setting of the present level, or one of the whole configuration.
pub type Field<T> = for<'a, 'b> fn(&'a mut Builder<'b>) -> &'a mut Setting<T>;

/// The effect of a directive's arguments on the configuration.
#[derive(Clone, Copy)]
pub enum Apply {
    /// By code of its own.
    Code(ApplyCode),
    /// Returns a directive whose value is `on` or `off`.
    Flag(Field<bool>),
    /// A time, kept in milliseconds.
    Time(Field<u64>),
    /// A size in bytes, with `k`, `m` or `g`.
    Size(Field<u64>),
    /// A whole number.
    Number(Field<u64>),
    /// A text with variables, evaluated for each request.
    Template(Field<Option<Template>>),
    /// A whole number that is read and has no effect: tables have the size that they need.
    IgnoredNumber,
    /// A size that is read and has no effect.
    IgnoredSize,
    /// The default, written out: anything else needs what is not here.
    DefaultOnly(&'static str),
}

impl Apply {
    /// Reads the arguments and writes the setting.
    ///
    /// # Errors
    /// The argument has another form, or the directive is a duplicate.
    pub fn run(self, b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
        match self {
            Apply::Code(code) => code(b, d),
            Apply::Flag(field) => {
                let on = b.flag(d)?;
                once(field(b).write(on), d)
            }
            Apply::Time(field) => {
                let ms = b.time_ms(&d.args[0])?;
                once(field(b).write(ms), d)
            }
            Apply::Size(field) => {
                let bytes = b.size(&d.args[0])?;
                once(field(b).write(bytes), d)
            }
            Apply::Number(field) => {
                let number = b.number(&d.args[0])?;
                once(field(b).write(number), d)
            }
            Apply::Template(field) => {
                let template = b.template(&d.args[0])?;
                once(field(b).write(Some(template)), d)
            }
            Apply::IgnoredNumber => b.number(&d.args[0]).map(drop),
            Apply::IgnoredSize => b.size(&d.args[0]).map(drop),
            Apply::DefaultOnly(default) if d.args.len() == 1 && d.args[0].text() == default => Ok(()),
            Apply::DefaultOnly(default) => Err(conf::explain_unknown(&d.name, std::iter::empty())
                .help(format!("only its default may be written out: {} {default};", d.name.text()))),
        }
    }
}

impl std::fmt::Debug for Apply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Apply::Code(_) => "Code",
            Apply::Flag(_) => "Flag",
            Apply::Time(_) => "Time",
            Apply::Size(_) => "Size",
            Apply::Number(_) => "Number",
            Apply::Template(_) => "Template",
            Apply::IgnoredNumber => "IgnoredNumber",
            Apply::IgnoredSize => "IgnoredSize",
            Apply::DefaultOnly(_) => "DefaultOnly",
        })
    }
}

/// One directive.
#[derive(Debug)]
pub struct Directive {
    /// Its name in nginx.conf.
    pub name: &'static str,
    /// The contexts that allow it.
    pub contexts: Contexts,
    /// The number of its arguments.
    pub args: Args,
    /// Its arguments as nginx's documentation writes them: `time`, `on | off`, `number size`.
    pub syntax: &'static str,
    /// The arguments that mean the same as leaving it out, if there are any.
    pub default: Option<&'static str>,
    /// One line for its documentation.
    pub doc: &'static str,
    /// One true example.
    pub example: &'static str,
    /// The effect of its arguments on the configuration.
    pub apply: Apply,
}

impl Directive {
    const fn of(
        name: &'static str,
        contexts: Contexts,
        args: Args,
        syntax: &'static str,
        apply: Apply,
    ) -> Directive {
        Directive { name, contexts, args, syntax, default: None, doc: "", example: "", apply }
    }

    /// Returns a directive with code of its own. `syntax` is its arguments as nginx's documentation writes them.
    pub const fn new(
        name: &'static str,
        contexts: Contexts,
        args: Args,
        syntax: &'static str,
        code: ApplyCode,
    ) -> Directive {
        Directive::of(name, contexts, args, syntax, Apply::Code(code))
    }

    /// Returns a directive whose value is `on` or `off`.
    pub const fn flag(name: &'static str, contexts: Contexts, field: Field<bool>) -> Directive {
        Directive::of(name, contexts, Args::Flag, "on | off", Apply::Flag(field))
    }

    /// Returns a directive whose value is a time, kept in milliseconds.
    pub const fn time(name: &'static str, contexts: Contexts, field: Field<u64>) -> Directive {
        Directive::of(name, contexts, Args::Exactly(1), "time", Apply::Time(field))
    }

    /// Returns a directive whose value is a size in bytes.
    pub const fn size(name: &'static str, contexts: Contexts, field: Field<u64>) -> Directive {
        Directive::of(name, contexts, Args::Exactly(1), "size", Apply::Size(field))
    }

    /// Returns a directive whose value is a whole number.
    pub const fn number(name: &'static str, contexts: Contexts, field: Field<u64>) -> Directive {
        Directive::of(name, contexts, Args::Exactly(1), "number", Apply::Number(field))
    }

    /// Returns a directive whose value is a text with variables. `syntax` is its one argument as nginx's documentation writes
    /// it.
    pub const fn template(
        name: &'static str,
        contexts: Contexts,
        syntax: &'static str,
        field: Field<Option<Template>>,
    ) -> Directive {
        Directive::of(name, contexts, Args::Exactly(1), syntax, Apply::Template(field))
    }

    /// Returns a directive for a table of nginx's own, whose number or size is read and has no effect.
    pub const fn ignored(name: &'static str, contexts: Contexts, apply: Apply) -> Directive {
        let syntax = if matches!(apply, Apply::IgnoredNumber) { "number" } else { "size" };
        Directive::of(name, contexts, Args::Exactly(1), syntax, apply)
    }

    /// Returns a directive for what is not here, whose default may be written out.
    pub const fn default_only(
        name: &'static str,
        contexts: Contexts,
        default: &'static str,
        example: &'static str,
    ) -> Directive {
        Directive {
            default: Some(default),
            doc: "Only its default may be written: pointsman does not have the feature, and refuses any other value.",
            example,
            ..Directive::of(name, contexts, Args::AtLeast(1), default, Apply::DefaultOnly(default))
        }
    }

    /// Sets the arguments that mean the same as leaving the directive out.
    pub const fn default(mut self, default: &'static str) -> Directive {
        self.default = Some(default);
        self
    }

    /// Sets the line for the documentation.
    pub const fn doc(mut self, doc: &'static str) -> Directive {
        self.doc = doc;
        self
    }

    /// Sets the example.
    pub const fn example(mut self, example: &'static str) -> Directive {
        self.example = example;
        self
    }
}
