//! Where a block of Lua code ends.
//!
//! Owns the question that ngx_lua's lexer answers: which `}` closes the block, past short strings, long brackets and
//! comments. It must never judge the Lua itself; as in ngx_lua, a quote without its partner on the same line is just a
//! byte.

use bstr::ByteSlice;

/// Why a block has no end.
#[derive(Debug, PartialEq)]
pub(crate) enum Unclosed {
    /// No `}` is left for it.
    Brace,
    /// The long bracket at this offset is not closed.
    LongBracket(usize),
}

/// Returns the offset of the `}` that closes the block whose code begins at `start`.
pub(crate) fn end_of_block(text: &[u8], start: usize) -> Result<usize, Unclosed> {
    let mut depth = 1usize;
    let mut at = start;
    // Up to here no such quote has a partner (' and "): a quote is searched for once a line, not once a quote.
    let mut lone_until = [0usize; 2];
    while let Some(step) = text.get(at..).and_then(|rest| rest.find_byteset(b"{}[-\"'")) {
        at += step;
        match text[at] {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at);
                }
            }
            b'[' => {
                if let Some(level) = long_bracket(text, at) {
                    at = past_long_bracket(text, at, level)?;
                    continue;
                }
            }
            b'-' if text.get(at + 1) == Some(&b'-') => {
                at = match long_bracket(text, at + 2) {
                    Some(level) => past_long_bracket(text, at + 2, level)?,
                    None => at + text[at..].find_byte(b'\n').unwrap_or(text.len() - at),
                };
                continue;
            }
            quote @ (b'"' | b'\'') => {
                let lone = &mut lone_until[usize::from(quote == b'"')];
                if at >= *lone {
                    match closing_quote(text, at, quote) {
                        Ok(closing) => at = closing,
                        Err(line_end) => *lone = line_end,
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    Err(Unclosed::Brace)
}

/// Returns the offset of the quote that closes the one at `open`, or that of the end of the line without one.
fn closing_quote(text: &[u8], open: usize, quote: u8) -> Result<usize, usize> {
    let mut at = open + 1;
    loop {
        match text.get(at) {
            None | Some(b'\n') => return Err(at),
            Some(b'\\') if text.get(at + 1).is_some_and(|next| *next != b'\n') => at += 2,
            Some(b'\\') => return Err(at),
            Some(byte) if *byte == quote => return Ok(at),
            Some(_) => at += 1,
        }
    }
}

/// Returns the number of `=` of the long bracket that opens at `at`.
fn long_bracket(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..)?.strip_prefix(b"[")?;
    let level = rest.iter().take_while(|byte| **byte == b'=').count();
    (rest.get(level) == Some(&b'[')).then_some(level)
}

/// Returns the offset after the long bracket that opens at `at`.
fn past_long_bracket(text: &[u8], at: usize, level: usize) -> Result<usize, Unclosed> {
    let mut closing = vec![b'='; level + 2];
    closing[0] = b']';
    closing[level + 1] = b']';
    let from = at + level + 2;
    text[from..].find(&closing).map(|found| from + found + closing.len()).ok_or(Unclosed::LongBracket(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Result<&str, Unclosed> {
        end_of_block(text.as_bytes(), 0).map(|end| &text[..end])
    }

    #[test]
    fn braces_in_strings_brackets_and_comments_do_not_count() {
        for code in [
            "",
            " local t = { a = { 1 } } ",
            r#" ngx.say("}", '}', "\"}", '\'}', "\\") "#,
            " x = [[ } ]] y = [==[ ]] } ]==] ",
            " -- } it's\n --[[ } \n ]] --[=[ } ]] ]=] \n",
            " a[b[1]] = '}' -- don't } \n t = {} ",
            " -- [[ } \n",
            " x = #t - -1 ",
        ] {
            assert_eq!(block(&format!("{code}}} tail }}")), Ok(code));
        }
    }

    #[test]
    fn a_lone_quote_is_just_a_byte() {
        assert_eq!(block(" it's { \n } } x'"), Ok(" it's { \n } "));
        assert_eq!(block("\" \\\n} '"), Ok("\" \\\n"));
        let quotes = "\\'".repeat(200_000);
        assert_eq!(end_of_block(format!("'{quotes}\n}}").as_bytes(), 0), Ok(quotes.len() + 2));
    }

    #[test]
    fn an_unclosed_bracket_is_located() {
        assert_eq!(block("{ } "), Err(Unclosed::Brace));
        assert_eq!(block(" x = [=[ ]] }"), Err(Unclosed::LongBracket(5)));
        assert_eq!(block("--[[ }"), Err(Unclosed::LongBracket(2)));
        assert_eq!(block("--"), Err(Unclosed::Brace));
    }
}
