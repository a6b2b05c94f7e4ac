//! The regular expressions of `ngx.re`: PCRE2 under ngx_lua's options, templates and error texts.
//!
//! One [`Regex`] belongs to one machine. It knows nothing of Lua; caching is done in Lua (`lua/regex.lua`). Every
//! match is bounded by PCRE2's match limit, so no pattern can block a thread.

mod errors;
mod pattern;
mod template;

pub(crate) use pattern::{Flags, Regex};
pub(crate) use template::Template;

/// Replaces the first match of `regex` in `subject`, or with `global` every match, by the filled-in `template`, and
/// appends the result to `out`. Returns the number of replacements, or PCRE 1's error number.
pub(crate) fn substitute(
    regex: &mut Regex,
    template: &Template,
    subject: &[u8],
    global: bool,
    out: &mut Vec<u8>,
) -> Result<u32, i32> {
    let (mut count, mut copied, mut at) = (0, 0, 0);
    while let Some(groups) = regex.exec(subject, at)? {
        count += 1;
        let (start, end) = regex.group(0).unwrap_or((at, at));
        out.extend_from_slice(subject.get(copied..start).unwrap_or_default());
        template.expand(
            |group| {
                let (from, to) = if group < groups { regex.group(group)? } else { return None };
                subject.get(from..to)
            },
            out,
        );
        copied = end;
        // After an empty match the search continues one byte further, so that it ends.
        at = if end == start { end + 1 } else { end };
        if !global || at > subject.len() {
            break;
        }
    }
    out.extend_from_slice(subject.get(copied..).unwrap_or_default());
    Ok(count)
}

#[cfg(test)]
mod tests;
