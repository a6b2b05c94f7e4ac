//! The judgement of an answer: what it shows, or what it lacks.
//!
//! Must never: read from a connection.

use engine::probe::{AnswerTest, BodyTest, FieldTest, TextTest};
use http::ResponseHead;

/// The number of characters of a body that are shown.
const SHOWN: usize = 120;

/// Judges the head of an answer; returns the test of its body that is left.
///
/// # Errors
/// What it lacks; of a body, its beginning belongs behind it if the status is at fault.
pub(crate) fn head<'e>(expected: &'e AnswerTest, head: &ResponseHead) -> Result<Option<&'e BodyTest>, Lack> {
    if !expected.statuses.allow(head.status) {
        return Err(Lack::Status);
    }
    let values = |test: &FieldTest| test.passes(head.headers.find_all(test.name.as_bytes()));
    match expected.fields.iter().find(|test| !values(test)) {
        Some(test) => Err(Lack::Field(field_text(test))),
        None => Ok(expected.body.as_ref()),
    }
}

/// What an answer's head lacks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// A status that is well.
    Status,
    /// This, of its fields.
    Field(String),
}

fn field_text(test: &FieldTest) -> String {
    let name = &test.name;
    match (&test.value, test.is_refused) {
        (None, false) => format!("has no field {name}"),
        (None, true) => format!("has a field {name}"),
        (Some(TextTest::Equal(text)), false) => format!("its field {name} is not {text:?}"),
        (Some(TextTest::Equal(text)), true) => format!("its field {name} is {text:?}"),
        (Some(TextTest::Holds(body)), false) => {
            format!("its field {name} does not match {:?}", body.pattern())
        }
        (Some(TextTest::Holds(body)), true) => format!("its field {name} matches {:?}", body.pattern()),
    }
}

/// Judges a body.
///
/// # Errors
/// What it lacks.
pub(crate) fn body(test: &BodyTest, status: u16, body: &[u8]) -> Result<String, String> {
    match (test.passes(body), test.is_refused) {
        (true, false) => Ok(format!("answered {status}, and its body matches")),
        (true, true) => Ok(format!("answered {status}")),
        (false, is_refused) => Err(format!(
            "answered {status}, and its body {} {:?}{}",
            if is_refused { "matches" } else { "does not match" },
            test.wanted.pattern(),
            beginning(body)
        )),
    }
}

/// Returns the beginning of a body, on one line.
pub(crate) fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = words.chars().take(SHOWN).filter(|c| !c.is_control()).collect();
    match shown.as_str() {
        "" => String::new(),
        shown => format!(": {shown}{}", if words.chars().count() > SHOWN { "…" } else { "" }),
    }
}
