//! The directives of the rewrite module.

use super::condition::{Condition, FileTest};
use super::{After, Operation};
use crate::config::{Builder, LocationId, Modifier, invalid_parameter, number, variable_name};
use crate::directive::{Args, Contexts, Directive};
use crate::modules::core::add_scope;
use crate::template::Template;
use crate::variables::VariableId;
use conf::{Diagnostic, Word};

const EVERYWHERE: Contexts =
    Contexts::SERVER.or(Contexts::SERVER_IF).or(Contexts::LOCATION).or(Contexts::LOCATION_IF);

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new("set", EVERYWHERE, Args::Exactly(2), "$variable value", |b, d| {
        let value = b.template(&d.args[1])?;
        let variable = define(b, &d.args[0])?;
        push(b, Operation::Set { variable, value });
        Ok(())
    })
    .doc("Sets a variable.")
    .example("set $backend blue;"),
    Directive::new(
        "rewrite",
        EVERYWHERE,
        Args::Between(2, 3),
        "regex replacement [last | break | redirect | permanent]",
        rewrite,
    )
    .doc(
        "Changes a URI that matches a regular expression; flags last, break, redirect, \
         permanent.",
    )
    .example("rewrite ^/old/(.*)$ /new/$1 last;"),
    Directive::new("return", EVERYWHERE, Args::Between(1, 2), "code [text] | code URL | URL", answer)
        .doc(
            "Ends the request with a status, a status with a text, a redirect to a URL, or with a URL alone for 302.",
        )
        .example("return 301 https://$host$request_uri;"),
    Directive::new("break", EVERYWHERE, Args::Exactly(0), "", |b, _| {
        push(b, Operation::Break);
        Ok(())
    })
    .doc("Stops processing the rewrite directives of this level.")
    .example("break;"),
    Directive::new(
        "if",
        Contexts::SERVER.or(Contexts::LOCATION),
        Args::Block(1, usize::MAX),
        "(condition) { … }",
        condition,
    )
    .doc("Applies settings and rewrite directives if a condition is true.")
    .example("if ($request_method = POST) { return 405; }"),
    Directive::flag("rewrite_log", EVERYWHERE.or(Contexts::HTTP), |b| &mut b.settings().rewrite.log)
        .default("off")
        .doc("Whether rewrites are logged at notice level.")
        .example("rewrite_log on;"),
    Directive::flag("uninitialized_variable_warn", EVERYWHERE.or(Contexts::HTTP), |b| {
        &mut b.settings().rewrite.warn_unset
    })
    .default("on")
    .doc("Whether using an uninitialized variable is logged.")
    .example("uninitialized_variable_warn off;"),
];

/// Defines the variable that an argument names (`$name`).
pub fn define(b: &mut Builder<'_>, word: &Word) -> Result<VariableId, Diagnostic> {
    let name = variable_name(word)?;
    b.draft.variables.define_set(name, word.span).map_err(|fault| Diagnostic::error(word.span, fault))
}

fn push(b: &mut Builder<'_>, operation: Operation) {
    b.settings().rewrite.operations.push(operation);
}

fn rewrite(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let compiled = b.regex(&d.args[0], d.args[0].text(), false)?;
    let text: &[u8] = d.args[1].text();
    let is_url = [&b"http://"[..], b"https://", b"$scheme"].iter().any(|scheme| text.starts_with(scheme));
    let after = match d.args.get(2).map(|word| (word, &**word.text())) {
        None if is_url => After::Redirect(302),
        None => After::Continue,
        Some((_, b"redirect")) => After::Redirect(302),
        Some((_, b"permanent")) => After::Redirect(301),
        Some((_, b"last" | b"break")) if is_url => After::Redirect(302),
        Some((_, b"last")) => After::Last,
        Some((_, b"break")) => After::Break,
        Some((word, _)) => {
            return Err(invalid_parameter(word).help("one of last, break, redirect and permanent"));
        }
    };
    let (text, drop_args) = match text {
        [text @ .., b'?'] => (text, true),
        text => (text, false),
    };
    let replacement = b.template_of(text, d.args[1].span)?;
    push(b, Operation::Rewrite { regex: compiled, replacement, drop_args, after });
    Ok(())
}

fn answer(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let text: &[u8] = word.text();
    let (status, text) = match number(text) {
        Some(status @ 0..=999) => (status as u16, d.args.get(1).map(|word| b.template(word)).transpose()?),
        Some(_) => {
            return Err(Diagnostic::error(word.span, format!("invalid return code \"{}\"", word.text())));
        }
        None => {
            let url =
                [&b"http://"[..], b"https://", b"$scheme"].iter().any(|scheme| text.starts_with(scheme));
            if d.args.len() == 2 || !url {
                return Err(Diagnostic::error(word.span, format!("invalid return code \"{}\"", word.text()))
                    .help("a status from 0 to 999, or a URL that begins with http://, https:// or $scheme"));
            }
            (302, Some(b.template(word)?))
        }
    };
    push(b, Operation::Return { status, text });
    Ok(())
}

fn condition(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let condition = read_condition(b, d)?;
    let in_location = b.context() == Contexts::LOCATION;
    let outer = b.scope_index();
    let name = b.draft.scopes[outer].name.clone();
    let context = if in_location { Contexts::LOCATION_IF } else { Contexts::SERVER_IF };
    let server = b.server_index();
    let scope = add_scope(b, d, name, Modifier::Unnamed, None, context, server);
    b.block_in(d, context, scope);
    let location = in_location.then_some(LocationId(scope as u32));
    push(b, Operation::If { condition, location, operations: Vec::new() });
    Ok(())
}

/// Takes the operations of every `if` out of its scope and puts them where they are run.
pub(super) fn finish(b: &mut Builder<'_>) {
    let mut scope = b.draft.scopes.len();
    // Inner blocks come after outer ones: going backwards, each is whole when it is moved into the one around it.
    while scope > 0 {
        scope -= 1;
        let mut operations = std::mem::take(&mut b.draft.scopes[scope].settings.rewrite.operations);
        let mut blocks = b.draft.scopes.iter().enumerate().filter(|(_, inner)| {
            inner.parent == Some(scope) && inner.context.meets(Contexts::LOCATION_IF.or(Contexts::SERVER_IF))
        });
        let mut moved: Vec<usize> = Vec::new();
        for operation in &operations {
            if matches!(operation, Operation::If { .. })
                && let Some((index, _)) = blocks.next()
            {
                moved.push(index);
            }
        }
        let mut moved = moved.into_iter();
        for operation in &mut operations {
            if let Operation::If { operations, .. } = operation
                && let Some(index) = moved.next()
            {
                *operations = std::mem::take(&mut b.draft.scopes[index].settings.rewrite.operations);
            }
        }
        b.draft.scopes[scope].settings.rewrite.operations = operations;
    }
}

/// Reads the words between `(` and `)` as ngx_http_rewrite_if_condition does.
fn read_condition(b: &mut Builder<'_>, d: &conf::Directive) -> Result<Condition, Diagnostic> {
    let words: Vec<(Vec<u8>, &Word)> = strip_parentheses(d)?;
    let (first, word) = &words[0];
    let shown = String::from_utf8_lossy(first).into_owned();
    let fault = |word: &Word| Err(Diagnostic::error(word.span, format!("invalid condition \"{shown}\"")));
    if first.first() == Some(&b'$') {
        let name = std::str::from_utf8(&first[1..]).map_err(|_| invalid_parameter(word))?;
        if name.is_empty() {
            return Err(Diagnostic::error(word.span, "invalid variable name \"$\""));
        }
        let variable = b.draft.variables.id(name, Some(word.span));
        return match &words[1..] {
            [] => Ok(Condition::True(variable)),
            [(operator, place), (text, word)] => match &**operator {
                b"=" | b"!=" => {
                    let text = b.template_of(text, word.span)?;
                    Ok(Condition::Equals { variable, text, negated: operator[0] == b'!' })
                }
                b"~" | b"~*" | b"!~" | b"!~*" => {
                    let regex = b.regex(word, text, operator.ends_with(b"*"))?;
                    Ok(Condition::Matches { variable, regex, negated: operator[0] == b'!' })
                }
                _ => Err(Diagnostic::error(
                    place.span,
                    format!("unexpected \"{}\" in condition", place.text()),
                )
                .help("one of =, !=, ~, ~*, !~ and !~*")),
            },
            [(_, word), ..] => fault(word),
        };
    }
    let (negated, letter) = match &**first {
        [b'!', b'-', letter] => (true, *letter),
        [b'-', letter] => (false, *letter),
        _ => return fault(word),
    };
    let test = match letter {
        b'f' => FileTest::File,
        b'd' => FileTest::Directory,
        b'e' => FileTest::Exists,
        b'x' => FileTest::Executable,
        _ => return fault(word),
    };
    match &words[1..] {
        [(path, word)] => {
            let path: Template = b.template_of(path, word.span)?;
            Ok(Condition::File { path, test, negated })
        }
        _ => fault(word),
    }
}

fn strip_parentheses(d: &conf::Directive) -> Result<Vec<(Vec<u8>, &Word)>, Diagnostic> {
    let fault = |word: &Word| Diagnostic::error(word.span, format!("invalid condition \"{}\"", word.text()));
    let mut words: Vec<(Vec<u8>, &Word)> = d.args.iter().map(|word| (word.text().to_vec(), word)).collect();
    let (first, word) = &mut words[0];
    if first.first() != Some(&b'(') {
        return Err(fault(word).help("put the condition in parentheses: if ($variable) { … }"));
    }
    first.remove(0);
    let last = words.len() - 1;
    let (text, word) = &mut words[last];
    if text.last() != Some(&b')') {
        return Err(fault(word).help("the condition has no closing parenthesis"));
    }
    text.pop();
    words.retain(|(text, word)| !text.is_empty() || word.quoted);
    match words.is_empty() {
        true => Err(fault(&d.args[0])),
        false => Ok(words),
    }
}
