//! No request leads a path out of the directory that the configuration names.
//!
//! A client's URI is free of `..` once it is normalised, but what is cut from it (`alias` off by a slash, a capture) or
//! put into a path through a variable may have such segments again. nginx opens those paths. Here a `..` that is
//! in the configuration is obeyed, and one that a request brings along refuses the path.

use super::path_errors::log_path;
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::template::{Part, Template};
use crate::variables::Definition;
use std::ops::Range;

/// A path that a request would lead out of its directory; it has been logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Climbs;

/// Variables that are paths themselves: confined where they are put together, and with `..` of the configuration's own.
const PATHS: [&str; 3] = ["document_root", "realpath_root", "request_filename"];

/// Appends the path that a template makes for this request.
///
/// # Errors
/// A variable or a capture brought a `..` segment, or a part of one.
pub fn append(
    template: &Template,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Climbs> {
    append_in_rewrite(template, exchange, env, false, out)
}

/// Does the same as [`append`], with the captures as [`Template::value_in_rewrite`] has them.
///
/// # Errors
/// As [`append`].
pub fn append_in_rewrite(
    template: &Template,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    quote: bool,
    out: &mut Vec<u8>,
) -> Result<(), Climbs> {
    let start = out.len();
    let mut foreign: Vec<Range<usize>> = Vec::new();
    for part in template.parts() {
        let from = out.len();
        part.append(exchange, env, quote, out);
        if !is_own(env, part) && memchr::memchr(b'.', &out[from..]).is_some() {
            foreign.push(from..out.len());
        }
    }
    if foreign.is_empty() {
        return Ok(());
    }
    let is_foreign = |at: usize| foreign.iter().any(|range| range.contains(&at));
    match parents(&out[start..]).any(|at| is_foreign(start + at) || is_foreign(start + at + 1)) {
        true => Err(refused(exchange, env, out)),
        false => Ok(()),
    }
}

/// Returns whether a part's text is the configuration's own.
fn is_own(env: &Env<'_>, part: &Part) -> bool {
    match part {
        Part::Text(_) => true,
        Part::Capture(_) => false,
        Part::Variable(id) => match env.config.variables.entry(*id).definition {
            Definition::BuiltIn(variable) => PATHS.contains(&variable.name),
            _ => false,
        },
    }
}

/// Refuses a path whose end, from `rest` on, was cut from a request's URI and has a `..` segment. Where it was cut
/// counts as the beginning of a segment.
pub fn check_rest(exchange: &Exchange, env: &mut Env<'_>, path: &[u8], rest: usize) -> Result<(), Climbs> {
    let text = &path[rest..];
    // The other half of the segment may be before the cut.
    let is_completed = path[..rest].ends_with(b"/.") && matches!(text, [b'.'] | [b'.', b'/', ..]);
    match is_completed || parents(text).next().is_some() {
        true => Err(refused(exchange, env, path)),
        false => Ok(()),
    }
}

/// Returns the offsets of a path's `..` segments.
fn parents(path: &[u8]) -> impl Iterator<Item = usize> {
    let is_parent = |at: &usize| {
        (*at == 0 || path[at - 1] == b'/') && matches!(path.get(at + 2..), Some([] | [b'/', ..]))
    };
    memchr::memmem::find_iter(path, b"..").filter(is_parent)
}

fn refused(exchange: &Exchange, env: &mut Env<'_>, path: &[u8]) -> Climbs {
    let words = ("path \"", path, "\" is refused: the request put a \"..\" into it");
    log_path(exchange, env, Level::Error, words, None);
    Climbs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_segments_of_two_dots_are_parents() {
        for (path, expected) in [
            ("../a", &[0][..]),
            ("a/..", &[2]),
            ("/../..", &[1, 4]),
            ("..", &[0]),
            ("..a/b../...", &[]),
            ("/.../x", &[]),
            ("a/./b", &[]),
            ("", &[]),
        ] {
            assert_eq!(parents(path.as_bytes()).collect::<Vec<_>>(), expected, "{path}");
        }
    }
}
