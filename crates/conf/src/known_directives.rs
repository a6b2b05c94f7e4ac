//! The directives of nginx, ngx_lua and widely used modules: names, contexts and argument counts.
//!
//! Owns the data of `known_directives.txt` (facts about nginx 1.31, ngx_lua 0.10.32 and others) and answers questions
//! about it. It lists what *exists*, never what pointsman supports: that is the engine's table.

use std::sync::LazyLock;

/// The project that a directive comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectiveOrigin {
    /// A module of nginx itself, by its name.
    Nginx(&'static str),
    /// A module of the commercial nginx.
    Plus(&'static str),
    /// ngx_http_lua_module.
    NgxLua,
    /// Another project (`headers-more`, `echo`, `stream_lua`, …).
    Other(&'static str),
}

impl std::fmt::Display for DirectiveOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DirectiveOrigin::Nginx(module) => write!(f, "nginx ({module})"),
            DirectiveOrigin::Plus(module) => write!(f, "commercial nginx ({module})"),
            DirectiveOrigin::NgxLua => f.write_str("OpenResty (ngx_http_lua_module)"),
            DirectiveOrigin::Other(project) => write!(f, "nginx's third-party module {project}"),
        }
    }
}

/// The contents of a directive's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// No block: it ends with `;`.
    None,
    /// Directives.
    Directives,
    /// Entries whose first word is free (`types`).
    Words,
    /// Entries of two words, the first of them free (`map`, `geo`).
    Pairs,
    /// Lua code.
    Lua,
}

/// One directive of one module.
#[derive(Debug, PartialEq, Eq)]
pub struct KnownDirective {
    /// Its name.
    pub name: &'static str,
    /// The project it comes from.
    pub origin: DirectiveOrigin,
    /// Where it is allowed: main, events, http, server, location, if-in-server, if-in-location, upstream,
    /// limit_except; stream, stream-server, stream-upstream; mail, mail-server; any; or the name of another block.
    pub contexts: Vec<&'static str>,
    /// The contents of its block.
    pub block: Block,
    /// The argument counts allowed, one bit each (bit 0: none).
    counts: u8,
    /// This many arguments or more.
    at_least: Option<usize>,
    /// Every argument is checked by nginx, so the name of another directive among them is always refused.
    pub strict: bool,
}

impl KnownDirective {
    /// Returns true if nginx takes it with this many arguments.
    pub fn takes(&self, count: usize) -> bool {
        self.at_least.is_some_and(|least| count >= least) || (count < 8 && self.counts & (1 << count) != 0)
    }

    /// Returns true if it belongs to the mail part.
    pub fn is_mail(&self) -> bool {
        self.contexts.iter().all(|context| context.starts_with("mail"))
    }

    /// Returns true if it belongs to the stream part.
    pub fn is_stream(&self) -> bool {
        self.contexts.iter().all(|context| context.starts_with("stream"))
    }
}

static TEXT: &str = include_str!("known_directives.txt");
static ENTRIES: LazyLock<Vec<KnownDirective>> = LazyLock::new(|| TEXT.lines().filter_map(entry).collect());

/// Returns the directive of this name; nginx's own and HTTP's before others.
pub fn find(name: &str) -> Option<&'static KnownDirective> {
    find_all(name).first()
}

/// Returns all directives of this name, of all modules.
pub fn find_all(name: &str) -> &'static [KnownDirective] {
    let entries = &ENTRIES[..];
    let start = entries.partition_point(|entry| entry.name < name);
    let len = entries[start..].iter().take_while(|entry| entry.name == name).count();
    &entries[start..start + len]
}

/// Returns every directive, by name.
pub fn all() -> &'static [KnownDirective] {
    &ENTRIES
}

/// Parses a line: name, origin, module, contexts, shape.
fn entry(line: &'static str) -> Option<KnownDirective> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = line.split('\t');
    let name = fields.next()?;
    let (origin, module) = (fields.next()?, fields.next()?);
    let origin = match origin {
        "nginx" => DirectiveOrigin::Nginx(module),
        "nginx-plus" => DirectiveOrigin::Plus(module),
        "ngx_lua" => DirectiveOrigin::NgxLua,
        project => DirectiveOrigin::Other(project),
    };
    let contexts = fields.next()?.split(',').collect();
    let shape = fields.next()?;
    let (block, shape) = match shape.split_once('}') {
        None => (Block::None, shape),
        Some(("{", shape)) => (Block::Directives, shape),
        Some(("{words", shape)) => (Block::Words, shape),
        Some(("{pairs", shape)) => (Block::Pairs, shape),
        Some((_, shape)) => (Block::Lua, shape),
    };
    let strict = shape.ends_with('!');
    let shape = shape.trim_end_matches('!');
    let (counts, at_least) = match shape.strip_suffix('+') {
        Some(least) => (0, Some(least.parse().ok()?)),
        None if shape == "flag" => (1 << 1, None),
        None => (
            shape.split(',').filter_map(|count| count.parse::<u8>().ok()).fold(0, |set, n| set | 1 << n),
            None,
        ),
    };
    Some(KnownDirective { name, origin, contexts, block, counts, at_least, strict })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_parses_and_the_order_is_by_name() {
        let lines = TEXT.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(all().len(), lines);
        assert!(lines > 1000);
        assert!(all().windows(2).all(|pair| pair[0].name <= pair[1].name));
        for entry in all() {
            assert!((0..12).any(|count| entry.takes(count)), "{} takes no arguments at all", entry.name);
            assert!(!entry.contexts.contains(&""), "{} is allowed nowhere", entry.name);
        }
    }

    #[test]
    fn an_entry_has_contexts_counts_and_a_block() {
        let location = find("location").unwrap();
        assert_eq!(location.contexts, ["server", "location"]);
        assert_eq!(location.block, Block::Directives);
        assert!(location.takes(1) && location.takes(2) && !location.takes(3) && !location.takes(0));
        assert_eq!(find("proxy_pass").unwrap().origin, DirectiveOrigin::Nginx("ngx_http_proxy_module"));
        assert_eq!(find("lua_shared_dict").unwrap().origin, DirectiveOrigin::NgxLua);
        assert_eq!(find("set_by_lua_block").unwrap().block, Block::Lua);
        assert_eq!(find("map").unwrap().block, Block::Pairs);
        assert_eq!(find("echo").unwrap().origin, DirectiveOrigin::Other("echo"));
        assert!(find("server_name").unwrap().takes(99));
        assert!(find_all("server").len() >= 4);
        assert_eq!(find("sevrer"), None);
        assert_eq!(find(""), None);
        assert!(find("proxy_pass_errer").is_none());
    }
}
