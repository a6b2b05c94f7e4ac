//! Parsing query strings, as `ngx.decode_args` and `ngx.req.get_uri_args` do.

/// One argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arg<'a> {
    /// The name, still escaped; never empty.
    pub(crate) name: &'a [u8],
    /// The value, still escaped; `None`, which is `true` in Lua, without a `=`.
    pub(crate) value: Option<&'a [u8]>,
}

/// The arguments of `query`, at most `max` (0: all of them). Nameless ones are skipped but counted, as in ngx_lua.
pub(crate) struct Args<'a> {
    rest: Option<&'a [u8]>,
    left: u32,
    limited: bool,
    truncated: bool,
}

impl<'a> Args<'a> {
    /// Starts at the front of `query`.
    pub(crate) fn new(query: &'a [u8], max: u32) -> Args<'a> {
        let rest = if query.is_empty() { None } else { Some(query) };
        Args { rest, left: max, limited: max > 0, truncated: false }
    }

    /// Returns whether there are more arguments than the limit; known once the iterator has ended.
    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = Arg<'a>;

    fn next(&mut self) -> Option<Arg<'a>> {
        loop {
            let rest = self.rest?;
            if self.limited && self.left == 0 {
                self.truncated = true;
                self.rest = None;
                return None;
            }
            self.left = self.left.saturating_sub(1);
            let (pair, after) = match rest.iter().position(|&byte| byte == b'&') {
                Some(at) => (&rest[..at], Some(&rest[at + 1..])),
                None => (rest, None),
            };
            // ngx_lua stops as soon as the limit is reached at a `&`, whether or not anything follows it.
            self.rest = after.filter(|after| !after.is_empty() || (self.limited && self.left == 0));
            let (name, value) = match pair.iter().position(|&byte| byte == b'=') {
                Some(at) => (&pair[..at], Some(&pair[at + 1..])),
                None => (pair, None),
            };
            if !name.is_empty() {
                return Some(Arg { name, value });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &str, max: u32) -> (Vec<String>, bool) {
        let mut args = Args::new(query.as_bytes(), max);
        let show = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let all = args
            .by_ref()
            .map(|arg| match arg.value {
                Some(value) => format!("{}={}", show(arg.name), show(value)),
                None => show(arg.name),
            })
            .collect();
        (all, args.is_truncated())
    }

    #[test]
    fn query_arguments_without_a_value_are_flags_and_those_without_a_name_are_dropped() {
        assert_eq!(parsed("a=1&b&c=&=x&&d=e=f", 0).0, ["a=1", "b", "c=", "d=e=f"]);
        assert_eq!(parsed("", 0).0, [""; 0]);
        assert_eq!(parsed("a&", 0).0, ["a"]);
    }

    #[test]
    fn the_limit_counts_and_tells() {
        assert_eq!(parsed("a=1&b=2&c=3", 2), (vec!["a=1".into(), "b=2".into()], true));
        assert_eq!(parsed("a=1&b=2", 2), (vec!["a=1".into(), "b=2".into()], false));
        assert_eq!(parsed("a=1&", 1), (vec!["a=1".into()], true));
    }
}
