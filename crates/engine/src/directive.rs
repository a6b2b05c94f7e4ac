//! What a directive is: a table entry beside its module.
//!
//! From these tables come the checks of context and argument count, the "did you mean" of the diagnostics and
//! `docs/directives.md`. Nothing about a directive stands anywhere else.

use crate::config::Builder;
use conf::Diagnostic;

/// The places a directive may stand in, as a set of bits.
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

    /// http, server and location: where most settings may stand.
    pub const HSL: Contexts = Self::HTTP.or(Self::SERVER).or(Self::LOCATION);
    /// http, server, location and `if` in location.
    pub const HSLI: Contexts = Self::HSL.or(Self::LOCATION_IF);
    /// http and server.
    pub const HS: Contexts = Self::HTTP.or(Self::SERVER);

    /// Both sets together.
    pub const fn or(self, other: Contexts) -> Contexts {
        Contexts(self.0 | other.0)
    }

    /// Does this set have a place in common with the other?
    pub const fn meets(self, other: Contexts) -> bool {
        self.0 & other.0 != 0
    }

    /// The names nginx's documentation gives these places, in its order.
    pub fn names(self) -> Vec<&'static str> {
        const NAMES: [(Contexts, &str); 10] = [
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
        ];
        NAMES.iter().filter(|(bit, _)| self.meets(*bit)).map(|(_, name)| *name).collect()
    }
}

/// How many arguments a directive takes, and whether it opens a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Args {
    /// Just `on` or `off`.
    Flag,
    /// So many, no more and no fewer.
    Exactly(usize),
    /// From the first to the second number, both included.
    Between(usize, usize),
    /// So many or more.
    AtLeast(usize),
    /// A `{ … }` block after so many arguments.
    Block(usize, usize),
    /// A block of Lua code after so many arguments (`content_by_lua_block { … }`).
    LuaBlock(usize),
}

impl Args {
    /// The smallest and the largest number of arguments.
    pub const fn range(self) -> (usize, usize) {
        match self {
            Args::Flag => (1, 1),
            Args::Exactly(n) | Args::LuaBlock(n) => (n, n),
            Args::Between(low, high) | Args::Block(low, high) => (low, high),
            Args::AtLeast(n) => (n, usize::MAX),
        }
    }
}

/// Puts one directive's meaning into the configuration under construction.
pub type Apply = fn(&mut Builder<'_>, &conf::Directive) -> Result<(), Diagnostic>;

/// One directive.
#[derive(Debug)]
pub struct Directive {
    /// Its name in nginx.conf.
    pub name: &'static str,
    /// Where it may stand.
    pub contexts: Contexts,
    /// How many arguments it takes.
    pub args: Args,
    /// One line for `docs/directives.md`.
    pub doc: &'static str,
    /// One true example.
    pub example: &'static str,
    /// What it does to the configuration.
    pub apply: Apply,
}
