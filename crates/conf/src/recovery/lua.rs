//! Blocks of Lua code without an end.
//!
//! Owns the guess at where such a block ends, by indentation. The code itself is not judged.

use super::state::ParseState;
use crate::Diagnostic;
use crate::lua_block::Unclosed;
use bstr::ByteSlice;

impl ParseState<'_> {
    /// Returns where the unclosed block whose directive begins at `head` most likely ends: at the first `}` as far
    /// indented as the directive.
    pub(crate) fn likely_lua_end(&self, head: u32, start: usize) -> usize {
        let Some(indent) = self.indent(head) else { return self.text.len() };
        let closes = |at: &usize| self.indent(*at as u32) == Some(indent);
        self.text[start..].find_iter(b"}").map(|at| start + at).find(closes).unwrap_or(self.text.len())
    }

    /// Describes a block of Lua code, opened at `at`, that its braces do not close.
    pub(crate) fn unclosed_lua(&self, at: u32, why: Option<Unclosed>, likely_end: usize) -> Diagnostic {
        let brace = self.span(at, at + 1);
        if let Some(Unclosed::LongBracket(from)) = why
            && from < likely_end
        {
            let level = self.text[from + 1..].iter().take_while(|byte| **byte == b'=').count();
            let closing = format!("]{}]", "=".repeat(level));
            let message = format!("Lua code block missing the closing long bracket \"{closing}\"");
            let span = self.span(from as u32, (from + level + 2) as u32);
            return Diagnostic::error(span, message)
                .label("this long bracket is not closed")
                .also(brace, "in this block of Lua code")
                .help(format!("add `{closing}`"));
        }
        let message = "unexpected end of file, expecting terminating characters for lua code block";
        let fault = Diagnostic::error(brace, message).label("this block of Lua code is not closed");
        match self.text.get(likely_end) {
            Some(_) => fault.also(
                self.span(likely_end as u32, likely_end as u32 + 1),
                "by its indentation the block ends here, but a `{` in the code is still open",
            ),
            None => fault.help("add `}`"),
        }
    }
}
