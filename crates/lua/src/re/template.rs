//! Replacement templates: `$0`, `$1`, `${1}`, and `$$` for a dollar sign.

/// A parsed template.
#[derive(Debug, Default)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(Box<[u8]>),
    Group(usize),
}

/// A template is invalid; ngx_lua logs the reason, and Lua code gets only that it failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TemplateError {
    /// The reason, for the log.
    pub(crate) text: Vec<u8>,
}

impl Template {
    /// Parses `source`.
    pub(crate) fn parse(source: &[u8]) -> Result<Template, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some(dollar) = rest.iter().position(|&byte| byte == b'$') {
            if dollar > 0 {
                parts.push(Part::Text(rest[..dollar].into()));
            }
            let after = &rest[dollar + 1..];
            let (braced, name) = match after.first() {
                Some(b'$') => {
                    parts.push(Part::Text(b"$"[..].into()));
                    rest = &after[1..];
                    continue;
                }
                Some(b'{') => (true, &after[1..]),
                _ => (false, after),
            };
            let is_number = name.first().is_some_and(u8::is_ascii_digit);
            let length = name
                .iter()
                .take_while(|&&byte| match is_number {
                    true => byte.is_ascii_digit(),
                    false => byte.is_ascii_alphanumeric() || byte == b'_',
                })
                .count();
            if braced && !name.is_empty() && name.get(length) != Some(&b'}') {
                let shown = &name[..length];
                return Err(error(&[b"the closing bracket in \"", shown, b"\" variable is missing"]));
            }
            if length == 0 {
                let text: &[&[u8]] =
                    &[b"lua script: invalid capturing variable name found in \"", source, b"\""];
                return Err(error(text));
            }
            if !is_number {
                let shown = &name[..length];
                return Err(error(&[
                    b"attempt to use named capturing variable \"",
                    shown,
                    b"\" (named captures not supported yet)",
                ]));
            }
            let group = name[..length]
                .iter()
                .fold(0usize, |sum, &byte| sum.saturating_mul(10).saturating_add(usize::from(byte - b'0')));
            parts.push(Part::Group(group));
            rest = &name[length + usize::from(braced)..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Template { parts })
    }

    /// Appends the template with its groups filled in; a group that `group` does not know is empty.
    pub(crate) fn expand<'a>(&self, group: impl Fn(usize) -> Option<&'a [u8]>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Group(number) => out.extend_from_slice(group(*number).unwrap_or_default()),
            }
        }
    }
}

fn error(parts: &[&[u8]]) -> TemplateError {
    TemplateError { text: parts.concat() }
}
