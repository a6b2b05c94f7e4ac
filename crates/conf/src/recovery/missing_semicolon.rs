//! Where a `;` (or `{`) was forgotten.
//!
//! A directive without its `;` swallows the lines after it. nginx complains about what it meets in the end; people want
//! the end of the line where the `;` is missing. Owns the judgement where the words of one directive are several.
//!
//! It must never split what nginx accepts, on however many lines it is.

use super::state::ParseState;
use crate::known_directives::Block;
use crate::lexer::Lexed;
use crate::syntax::{End, Grammar, Realm, Scope};
use crate::{Diagnostic, Directive};

/// The missing part of an unterminated statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Its `;`.
    Semicolon,
    /// The `{` of its block.
    Brace,
}

impl ParseState<'_> {
    /// Describes a directive whose words end at `end` and that nothing terminates.
    pub(crate) fn unterminated(&self, directive: &Directive, end: u32) -> (Diagnostic, Missing) {
        let after = self.span(end, end);
        let place = self.place(end);
        let name = &directive.name.value;
        if self.scope.grammar == Grammar::Directives && only_block(name, self.scope.realm) {
            let fault = Diagnostic::error(after, format!("directive \"{name}\" has no opening \"{{\""))
                .label("`{` is missing here")
                .help(format!("add `{{` {place}"));
            return (fault, Missing::Brace);
        }
        let message = match self.scope.grammar {
            _ if self.is_option() => "unexpected end of parameter, expecting \";\"".to_owned(),
            Grammar::Directives => format!("directive \"{name}\" is not terminated by \";\""),
            _ => format!("entry \"{name}\" is not terminated by \";\""),
        };
        let fault =
            Diagnostic::error(after, message).label("`;` is missing here").help(format!("add `;` {place}"));
        (fault, Missing::Semicolon)
    }
}

/// Returns the indexes of the words that begin a directive of their own, the first word excepted.
pub(crate) fn starts(words: &[Lexed], end: End, scope: Scope) -> Vec<usize> {
    match scope.grammar {
        Grammar::Words => Vec::new(),
        Grammar::Pairs => pair_starts(words),
        Grammar::Directives => directive_starts(words, end, scope.realm),
    }
}

/// Entries of two words, one on each line.
fn pair_starts(words: &[Lexed]) -> Vec<usize> {
    // Two words are an entry, even if each has a line and the first is also a word of its own.
    if words.len() == 2 {
        return Vec::new();
    }
    let starts: Vec<usize> = (1..words.len()).filter(|at| words[*at].starts_line).collect();
    let bounds = starts.iter().copied().chain([words.len()]);
    let mut start = 0;
    for bound in bounds {
        let flag = matches!(words[start].value.as_slice(), b"hostnames" | b"volatile" | b"ranges");
        if bound - start != 2 - usize::from(flag) {
            return Vec::new();
        }
        start = bound;
    }
    starts
}

fn directive_starts(words: &[Lexed], end: End, realm: Realm) -> Vec<usize> {
    let judge = Judge { words, end, realm };
    let lines: Vec<usize> =
        (1..words.len()).filter(|at| words[*at].starts_line && !words[*at].quoted).collect();
    let mut candidates: Vec<usize> = lines.iter().copied().filter(|at| judge.known(*at)).collect();
    if !judge.refused(&candidates, &lines) {
        return Vec::new();
    }
    if candidates.is_empty() && matches!(end, End::Open(_)) && judge.known(0) {
        candidates.extend(lines.last());
    }
    let mut starts = Vec::new();
    let mut start = 0;
    for (nth, &at) in candidates.iter().enumerate() {
        let next = candidates.get(nth + 1).copied().unwrap_or(words.len());
        let apart = judge.complete(start, at) && judge.complete(at, next);
        let neither = judge.complete(start, at) && !judge.whole(start, next);
        if apart || neither {
            starts.push(at);
            start = at;
        }
    }
    if judge.certainly_refused() || judge.complete(start, words.len()) { starts } else { Vec::new() }
}

/// Tells what nginx would accept.
struct Judge<'w> {
    words: &'w [Lexed],
    end: End,
    realm: Realm,
}

impl Judge<'_> {
    fn known(&self, at: usize) -> bool {
        self.realm.entries(&self.words[at].value).next().is_some()
    }

    /// Returns true if nginx refuses these words as one directive, because of their number or their end.
    fn refused(&self, candidates: &[usize], lines: &[usize]) -> bool {
        let all = self.words.len();
        match self.end {
            End::Close | End::Text => true,
            End::Semicolon(_) if !self.known(0) => false,
            End::Semicolon(_) => !self.ends_well(0, all) || self.swallows(candidates),
            End::Open(_) if !self.known(0) => lines.last().is_some_and(|at| self.opens(*at, all)),
            End::Open(_) => !self.opens(0, all),
        }
    }

    /// Returns true if these words are no directive under any reading.
    fn certainly_refused(&self) -> bool {
        match self.end {
            End::Close | End::Text => true,
            End::Semicolon(_) => false,
            End::Open(_) => {
                self.realm.entries(&self.words[0].value).all(|entry| entry.block == Block::None)
                    && self.known(0)
            }
        }
    }

    /// Returns true if nginx checks each argument of this directive, and one of them is the name of another directive
    /// with its arguments.
    fn swallows(&self, candidates: &[usize]) -> bool {
        let count = self.words.len() - 1;
        let mut entries =
            self.realm.entries(&self.words[0].value).filter(|e| e.block == Block::None && e.takes(count));
        entries.all(|entry| entry.strict)
            && candidates.iter().enumerate().any(|(nth, at)| {
                self.ends_well(*at, candidates.get(nth + 1).copied().unwrap_or(self.words.len()))
            })
    }

    /// Returns true if these words may be a directive of their own, with the end they have or would have.
    fn complete(&self, start: usize, end: usize) -> bool {
        if !self.known(start) {
            return true;
        }
        // A block may have lost its brace, but not if it ends with a `;`.
        let lost_brace = end < self.words.len() && self.only_block(start) && self.opens(start, end);
        self.whole(start, end) || lost_brace
    }

    /// Returns true if nginx takes these words as one directive, with the end they have or would have.
    fn whole(&self, start: usize, end: usize) -> bool {
        let open = end == self.words.len() && matches!(self.end, End::Open(_));
        if open { self.opens(start, end) } else { self.ends_well(start, end) }
    }

    /// Returns true if these words may end with `;`.
    fn ends_well(&self, start: usize, end: usize) -> bool {
        let mut entries = self.realm.entries(&self.words[start].value);
        entries.any(|entry| entry.block == Block::None && entry.takes(end - start - 1))
    }

    /// Returns true if these words may end with `{`.
    fn opens(&self, start: usize, end: usize) -> bool {
        opens(&self.words[start..end], self.realm)
    }

    fn only_block(&self, start: usize) -> bool {
        only_block(&self.words[start].value, self.realm)
    }
}

/// Returns true if these words may open a block.
pub(super) fn opens(words: &[Lexed], realm: Realm) -> bool {
    let Some((name, args)) = words.split_first() else { return false };
    // `location` takes two words only if the first is a modifier.
    let no_modifier = name.value == "location"
        && args.len() == 2
        && !matches!(args[0].value.as_slice(), b"=" | b"~" | b"~*" | b"^~");
    !no_modifier
        && realm.entries(&name.value).any(|entry| entry.block != Block::None && entry.takes(args.len()))
}

/// Returns true for the name of a directive that always has a block.
pub(super) fn only_block(name: &[u8], realm: Realm) -> bool {
    let mut entries = realm.entries(name);
    entries.clone().next().is_some() && entries.all(|entry| entry.block != Block::None)
}
