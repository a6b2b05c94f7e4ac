//! PCRE2 with limits, for every regular expression of a configuration.
//!
//! nginx's dialect is PCRE's; without a match limit one pattern and one hostile URI stop a worker, so every pattern
//! is compiled under a limit (PCRE2's `(*LIMIT_MATCH=…)`, see pcre2pattern(3)). A match that hits the limit counts
//! as no match and says so to the caller.

/// The most backtracking in one match; PCRE2's own default is ten times this.
pub const MATCH_LIMIT: u32 = 1_000_000;

/// The captures of the last match.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    /// The text that was matched against.
    pub subject: Vec<u8>,
    /// Start and end of group 0, 1, …; `None` where a group took no part.
    pub groups: Vec<Option<(usize, usize)>>,
}

impl Captures {
    /// Returns the text of group `n`.
    pub fn group(&self, n: usize) -> Option<&[u8]> {
        let (start, end) = (*self.groups.get(n)?)?;
        self.subject.get(start..end)
    }
}

/// A compiled regular expression.
#[derive(Clone, Debug)]
pub struct Regex {
    compiled: pcre2::bytes::Regex,
    pattern: String,
}

/// The match was given up: the pattern backtracks too much on this text.
#[derive(Debug, PartialEq, Eq)]
pub struct LimitReached;

impl Regex {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// PCRE2's own words, for the diagnostic.
    pub fn new(pattern: &str, ignore_case: bool) -> Result<Regex, String> {
        let limited = format!("(*LIMIT_MATCH={MATCH_LIMIT}){pattern}");
        let compiled = pcre2::bytes::RegexBuilder::new()
            .caseless(ignore_case)
            .jit_if_available(true)
            .build(&limited)
            .map_err(|error| explain(&error, pattern))?;
        Ok(Regex { compiled, pattern: pattern.to_owned() })
    }

    /// Returns the pattern as it was written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Names of the named groups with their numbers.
    pub fn names(&self) -> impl Iterator<Item = (usize, &str)> {
        self.compiled.capture_names().iter().enumerate().filter_map(|(n, name)| Some((n, name.as_deref()?)))
    }

    /// Returns the number of groups, the whole match not counted.
    pub fn group_count(&self) -> usize {
        self.compiled.captures_len() - 1
    }

    /// Returns whether the text matches.
    pub fn is_match(&self, text: &[u8]) -> Result<bool, LimitReached> {
        self.compiled.is_match(text).map_err(|_| LimitReached)
    }

    /// Matches and keeps the groups; leaves `captures` alone if the text does not match.
    pub fn captures(&self, text: &[u8], captures: &mut Captures) -> Result<bool, LimitReached> {
        let mut locations = self.compiled.capture_locations();
        match self.compiled.captures_read(&mut locations, text) {
            Ok(None) => Ok(false),
            Err(_) => Err(LimitReached),
            Ok(Some(_)) => {
                captures.subject.clear();
                captures.subject.extend_from_slice(text);
                captures.groups.clear();
                captures.groups.extend((0..locations.len()).map(|n| locations.get(n)));
                Ok(true)
            }
        }
    }
}

/// Returns nginx's words: `pcre2_compile() failed: missing closing parenthesis in "a(b"`.
fn explain(error: &pcre2::Error, pattern: &str) -> String {
    let text = error.to_string();
    // The library puts its own name and an offset, which counts our prefix, in front of PCRE2's words.
    let words = text.rsplit_once(": ").map_or(text.as_str(), |(_, words)| words);
    format!("pcre2_compile() failed: {words} in \"{pattern}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_names_are_found() {
        let regex = Regex::new("^/(?<kind>[a-z]+)/(\\d+)?", false).unwrap();
        let mut captures = Captures::default();
        assert_eq!(regex.captures(b"/abc/12", &mut captures), Ok(true));
        assert_eq!(captures.group(1), Some(&b"abc"[..]));
        assert_eq!(captures.group(2), Some(&b"12"[..]));
        assert_eq!(regex.names().collect::<Vec<_>>(), [(1, "kind")]);
        assert_eq!(regex.captures(b"nothing", &mut captures), Ok(false));
        assert_eq!(captures.group(1), Some(&b"abc"[..]));
    }

    #[test]
    fn an_exploding_pattern_is_given_up() {
        let regex = Regex::new("^(a+)+$", false).unwrap();
        let text = [b'a'; 64].into_iter().chain([b'!']).collect::<Vec<_>>();
        assert_eq!(regex.is_match(&text), Err(LimitReached));
    }
}
