//! `match {}`: the tests that an answer to a check must pass.
//!
//! Owns their forms, which are nginx Plus'.

use crate::config::{Builder, invalid_value, once};
use crate::directive::{Args, Contexts, Directive};
use crate::probe::{AnswerTest, BodyMatch, BodyTest, FieldTest, Statuses, TextTest, status_range};
use crate::regex::Regex;
use crate::setting::Duplicate;
use conf::{Body, Diagnostic, Word};

/// The number of bytes of a body that are looked at, as in nginx Plus.
const MAX_BODY: usize = 256 << 10;

/// A `match {}`.
#[derive(Clone, Debug)]
pub struct MatchBlock {
    pub(super) name: Box<str>,
    pub(super) expected: AnswerTest,
    has_status: bool,
}

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new("match", Contexts::HTTP, Args::Block(1, 1), "name { … }", block)
        .doc("The conditions that the response to a health check must meet, all of them. Without `status`, any \
             status from 200 to 399 passes.")
        .example("match ready { status 200; header Content-Type ~ json; body ~ '\"ready\": *true'; }"),
    Directive::new("status", Contexts::MATCH, Args::AtLeast(1), "[!] code[-code] ...", status)
        .doc("The statuses that pass, or with ! those that fail.")
        .example("status 200-299 304;"),
    Directive::new(
        "header",
        Contexts::MATCH,
        Args::Between(1, 3),
        "name | ! name | name = text | name != text | name ~ pattern | name !~ pattern",
        header,
    )
    .doc(
        "A field that must be present, or absent (!); or equal a value (=), differ from it (!=), match a regular \
         expression (~) or not match it (!~). If there are several fields of the name, one is enough; for ! and != \
         none may be so.",
    )
    .example("header X-State = ready;"),
    Directive::new("body", Contexts::MATCH, Args::Exactly(2), "~ pattern | !~ pattern", body)
        .doc("A regular expression that the first 256 KiB of the body must match, or not (!~).")
        .example("body ~ ready;"),
];

fn block(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let name = d.args[0].str()?;
    if b.draft.http.health.matches.iter().any(|known| *known.name == *name) {
        return Err(Diagnostic::error(d.args[0].span, format!("duplicate match \"{name}\"")));
    }
    let block = MatchBlock { name: name.into(), expected: AnswerTest::default(), has_status: false };
    b.draft.http.health.matches.push(block);
    if let Body::Block(inner) = &d.body {
        for directive in inner {
            match &**directive.name.text() {
                b"require" => b.diagnostics.push(no_require(directive)),
                _ => b.within(Contexts::MATCH, directive),
            }
        }
    }
    Ok(())
}

fn no_require(d: &conf::Directive) -> Diagnostic {
    let text = "\"require\" of \"match\" is known to nginx Plus, not supported by pointsman";
    Diagnostic::error(d.name.span, text)
        .help("a check has no request whose variables could be tested: use status, header and body")
}

/// Returns the block that is being read: the last one.
fn draft<'d>(b: &'d mut Builder<'_>) -> &'d mut MatchBlock {
    let last = b.draft.http.health.matches.len() - 1;
    &mut b.draft.http.health.matches[last]
}

fn status(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let (are_refused, words) = match &d.args[..] {
        [not, rest @ ..] if not.text() == "!" => (true, rest),
        all => (false, all),
    };
    if words.is_empty() {
        return Err(
            Diagnostic::error(d.name.span, "no status after !").help("for example: status ! 500-599;")
        );
    }
    let mut ranges = Vec::new();
    b.each(words, |word| {
        let range = status_range(word.str()?);
        ranges.push(
            range.ok_or_else(|| invalid_value(word).help("a status or a range of them: 200, 200-399"))?,
        );
        Ok(())
    })?;
    let draft = draft(b);
    if std::mem::replace(&mut draft.has_status, true) {
        return once(Err(Duplicate), d);
    }
    draft.expected.statuses = Statuses { ranges: ranges.into(), are_refused };
    Ok(())
}

fn header(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let (name, value, is_refused) = match &d.args[..] {
        [name] => (name, None, false),
        [not, name] if not.text() == "!" => (name, None, true),
        [name, how, text] => {
            let (value, is_refused) = match &**how.text() {
                b"=" => (TextTest::Equal(text.str()?.into()), false),
                b"!=" => (TextTest::Equal(text.str()?.into()), true),
                b"~" => (TextTest::Holds(pattern(text)?), false),
                b"!~" => (TextTest::Holds(pattern(text)?), true),
                _ => return Err(invalid_value(how).help("one of =, !=, ~ and !~")),
            };
            (name, Some(value), is_refused)
        }
        words => {
            return Err(
                invalid_value(&words[0]).help("a name, ! and a name, or a name, a comparison and a text")
            );
        }
    };
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let text = name.str()?;
    if !is_name(text) {
        return Err(invalid_value(name).help("the name of a field: Content-Type"));
    }
    let test = FieldTest { name: text.into(), value, is_refused };
    let expected = &mut draft(b).expected;
    expected.fields = std::mem::take(&mut expected.fields).into_iter().chain([test]).collect();
    Ok(())
}

fn body(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let is_refused = match &**d.args[0].text() {
        b"~" => false,
        b"!~" => true,
        _ => return Err(invalid_value(&d.args[0]).help("~ or !~, and a regular expression")),
    };
    let test = BodyTest { wanted: pattern(&d.args[1])?, is_refused, most_bytes: MAX_BODY };
    let draft = draft(b);
    if draft.expected.body.replace(test).is_some() {
        return once(Err(Duplicate), d);
    }
    Ok(())
}

fn pattern(word: &Word) -> Result<BodyMatch, Diagnostic> {
    let regex = Regex::new(word.str()?, false);
    Ok(BodyMatch::Regex(regex.map_err(|fault| Diagnostic::error(word.span, fault))?))
}
