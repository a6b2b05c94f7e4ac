//! Text with variables in it, compiled once at load (what nginx calls a complex value).

use crate::exchange::Exchange;
use crate::host::Env;
use crate::variables::{self, VariableId};

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Literal text.
    Text(Box<[u8]>),
    /// `$name`.
    Variable(VariableId),
    /// `$1`.
    Capture(usize),
}

impl Part {
    /// Appends the piece's value in this request; with `quote`, a capture as [`Template::value_in_rewrite`] has it.
    #[inline]
    pub fn append(&self, exchange: &mut Exchange, env: &mut Env<'_>, quote: bool, out: &mut Vec<u8>) {
        match self {
            Part::Text(text) => out.extend_from_slice(text),
            Part::Variable(id) => {
                variables::append(exchange, env, *id, out);
            }
            Part::Capture(n) => {
                let group = exchange.captures.group(*n).unwrap_or_default();
                match quote && exchange.request.escapes_captures() {
                    true => http::escape::escape(http::escape::Escape::Args, group, out),
                    false => out.extend_from_slice(group),
                }
            }
        }
    }
}

/// Text with variables in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    parts: Box<[Part]>,
}

/// A fault in a template's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// A `$` with no name after it.
    InvalidName,
    /// `${name` without `}`; holds the name.
    Unclosed(String),
}

impl Template {
    /// Compiles text; `resolve` turns a variable's name into its id.
    pub fn compile(
        text: &[u8],
        resolve: &mut dyn FnMut(&str) -> VariableId,
    ) -> Result<Template, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some(dollar) = memchr::memchr(b'$', rest) {
            literal.extend_from_slice(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            let (name, after) = take_name(rest)?;
            rest = after;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into_boxed_slice()));
            }
            parts.push(match name {
                Name::Capture(n) => Part::Capture(n),
                Name::Variable(name) => Part::Variable(resolve(name)),
            });
        }
        literal.extend_from_slice(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into_boxed_slice()));
        }
        Ok(Template { parts: parts.into_boxed_slice() })
    }

    /// Returns a template of text alone.
    pub fn text(text: &[u8]) -> Template {
        let parts = if text.is_empty() { vec![] } else { vec![Part::Text(text.into())] };
        Template { parts: parts.into_boxed_slice() }
    }

    /// Returns the text, if there is no variable in it.
    pub fn constant(&self) -> Option<&[u8]> {
        match &*self.parts {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Returns the variable, if the template is just one.
    pub fn lone_variable(&self) -> Option<VariableId> {
        match *self.parts {
            [Part::Variable(id)] => Some(id),
            _ => None,
        }
    }

    /// Returns its pieces.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Does the same as [`Template::value`]; numbered captures of a decoded path are escaped as parts of a query where the
    /// rewrite
    /// module does so (`quote`; ngx_http_script_copy_capture_code).
    pub fn value_in_rewrite(&self, exchange: &mut Exchange, env: &mut Env<'_>, quote: bool) -> Vec<u8> {
        let mut out = Vec::new();
        self.parts.iter().for_each(|part| part.append(exchange, env, quote, &mut out));
        out
    }

    /// Appends the text with the variables' values of this request. A variable that is not there is empty.
    pub fn append(&self, exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            part.append(exchange, env, false, out);
        }
    }

    /// Returns the text with the variables' values of this request.
    pub fn value(&self, exchange: &mut Exchange, env: &mut Env<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        self.append(exchange, env, &mut out);
        out
    }
}

/// Returns true if any of these has a value that is neither empty nor `0` (ngx_http_test_predicates).
pub fn is_any_set(of: &[Template], exchange: &mut Exchange, env: &mut Env<'_>) -> bool {
    of.iter().any(|template| {
        let value = template.value(exchange, env);
        !value.is_empty() && value != b"0"
    })
}

enum Name<'a> {
    Capture(usize),
    Variable(&'a str),
}

/// Returns the name at the start of the text after a `$`, as ngx_http_script_compile reads it.
fn take_name(text: &[u8]) -> Result<(Name<'_>, &[u8]), TemplateError> {
    if let [digit @ b'1'..=b'9', rest @ ..] = text {
        return Ok((Name::Capture(usize::from(digit - b'0')), rest));
    }
    let (braced, body) = match text {
        [b'{', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let len = body.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let (name, rest) = body.split_at(len);
    let rest = match (braced, rest) {
        (false, rest) => rest,
        (true, [b'}', rest @ ..]) => rest,
        (true, _) => return Err(TemplateError::Unclosed(String::from_utf8_lossy(name).into_owned())),
    };
    match std::str::from_utf8(name) {
        Ok(name) if braced && name.len() == 1 && (b'1'..=b'9').contains(&name.as_bytes()[0]) => {
            Ok((Name::Capture(usize::from(name.as_bytes()[0] - b'0')), rest))
        }
        Ok(name) if !name.is_empty() => Ok((Name::Variable(name), rest)),
        _ => Err(TemplateError::InvalidName),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str) -> Result<(Template, Vec<String>), TemplateError> {
        let mut names = Vec::new();
        let template = Template::compile(text.as_bytes(), &mut |name| {
            names.push(name.to_owned());
            VariableId(names.len() as u32 - 1)
        })?;
        Ok((template, names))
    }

    #[test]
    fn names_end_where_nginx_s_do() {
        let (template, names) = compile("a$host:${port}b$1${uri}-").unwrap();
        assert_eq!(names, ["host", "port", "uri"]);
        assert_eq!(template.parts().len(), 8);
        assert_eq!(template.parts()[4], Part::Text(b"b"[..].into()));
        assert_eq!(template.parts()[5], Part::Capture(1));
    }

    #[test]
    fn a_dollar_without_a_name_is_an_error() {
        assert_eq!(compile("a$").unwrap_err(), TemplateError::InvalidName);
        assert_eq!(compile("$-").unwrap_err(), TemplateError::InvalidName);
        assert_eq!(compile("${a").unwrap_err(), TemplateError::Unclosed("a".to_owned()));
    }

    #[test]
    fn only_plain_text_is_constant() {
        assert_eq!(compile("plain").unwrap().0.constant(), Some(&b"plain"[..]));
        assert_eq!(compile("$a").unwrap().0.constant(), None);
    }
}
