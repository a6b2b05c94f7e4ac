//! The Lua blocks of a text.
//!
//! Owns where such a block ends when its braces do not say it. The code itself is not judged.

use super::braces::Repair;
use super::file::FileParser;
use crate::lua_block::{Unclosed, end_of_block};
use crate::{Body, Diagnostic, Directive, LuaCode};
use bstr::ByteSlice;

impl FileParser<'_, '_> {
    /// The block of a `*_by_lua_block`.
    pub(super) fn lua(&mut self, mut directive: Directive, at: u32) {
        let start = at as usize + 1;
        let head = directive.name.span.start;
        let found = end_of_block(self.text, start);
        let end = match found {
            Ok(end) if !self.repairs.list.contains(&Repair::CutLua(at)) => {
                // A block that ends further out than it began may have taken a brace that is not its own.
                if self
                    .indent(head)
                    .zip(self.indent(end as u32))
                    .is_some_and(|(opened, closed)| closed < opened)
                {
                    self.missing.get_or_insert(Repair::CutLua(at));
                }
                end
            }
            found => {
                let likely = self.likely_end(head, start);
                self.unclosed_lua(at, found.err(), likely);
                likely
            }
        };
        let line = self.parser.sources.line(self.source, at);
        let code = self.text[start..end].into();
        directive.body = Body::Lua(LuaCode { code, span: self.span(start as u32, end as u32), line });
        self.siblings().push(directive);
        self.lexer.jump(end + 1);
    }

    /// Reports a Lua block without an end.
    fn unclosed_lua(&mut self, at: u32, why: Option<Unclosed>, likely_end: usize) {
        let brace = self.span(at, at + 1);
        let fault = match why {
            Some(Unclosed::LongBracket(from)) if from < likely_end => {
                let level = self.text[from + 1..].iter().take_while(|byte| **byte == b'=').count();
                let closing = format!("]{}]", "=".repeat(level));
                let message = format!("Lua code block missing the closing long bracket \"{closing}\"");
                let span = self.span(from as u32, (from + level + 2) as u32);
                let fault = Diagnostic::error(span, message).label("this long bracket is not closed");
                fault.also(brace, "in this block of Lua code").help(format!("add `{closing}`"))
            }
            _ => {
                let message = "unexpected end of file, expecting terminating characters for lua code block";
                let fault = Diagnostic::error(brace, message).label("this block of Lua code is not closed");
                match self.text.get(likely_end) {
                    Some(_) => fault.also(
                        self.span(likely_end as u32, likely_end as u32 + 1),
                        "by its indentation it ends here, but a `{` of the code is not closed before",
                    ),
                    None => fault.help("add `}`"),
                }
            }
        };
        self.parser.report(fault);
    }

    /// Where a block without an end most likely ends: at the first `}` as far indented as its directive.
    fn likely_end(&self, head: u32, start: usize) -> usize {
        let Some(indent) = self.indent(head) else { return self.text.len() };
        let closes = |at: &usize| self.text[*at] == b'}' && self.indent(*at as u32) == Some(indent);
        let braces = self.text[start..].find_iter(b"}").map(|at| start + at);
        braces.into_iter().find(closes).unwrap_or(self.text.len())
    }
}
