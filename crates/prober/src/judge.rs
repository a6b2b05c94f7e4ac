//! The judgement of an answer: what it shows, or what it lacks.
//!
//! Must never: read from a connection.

use crate::http2::Http2Answer;
use engine::probe::{AnswerTest, BodyTest, FieldTest, GRPC_STATUSES, GrpcProbe, TextTest};
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

/// The reason why an answer's head fails.
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

/// Judges an answer of which all that is needed has come.
///
/// # Errors
/// What it lacks.
pub(crate) fn whole(expected: &AnswerTest, answer: &ResponseHead, content: &[u8]) -> Result<String, String> {
    let status = answer.status;
    match head(expected, answer) {
        Ok(None) => Ok(format!("answered {status}")),
        Ok(Some(test)) => body(test, status, &content[..content.len().min(test.most_bytes)]),
        Err(Lack::Field(lack)) => Err(format!("answered {status}, and {lack}")),
        Err(Lack::Status) => Err(format!("answered {status}{}", beginning(content))),
    }
}

/// The states of a service, by their numbers in HealthCheckResponse.
const SERVING_STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Judges the answer to a call of gRPC's health service.
///
/// # Errors
/// Why the server is not well.
pub(crate) fn grpc(probe: &GrpcProbe, answer: &Http2Answer) -> Result<String, String> {
    if answer.head.status != 200 {
        return Err(format!("answered {}, and not gRPC{}", answer.head.status, beginning(&answer.body)));
    }
    // Without a body the trailers are the head.
    let field = |name: &[u8]| answer.trailers.find(name).or_else(|| answer.head.headers.find(name));
    let status = field(b"grpc-status").and_then(|text| std::str::from_utf8(text).ok()?.parse::<u8>().ok());
    let Some(status) = status else { return Err("answered without a grpc-status".to_owned()) };
    let name = GRPC_STATUSES.get(usize::from(status)).copied().unwrap_or("an unknown status");
    if status != 0 || probe.status != 0 {
        let words = format!("answered grpc-status {status} ({name})");
        return match status == probe.status {
            true => Ok(words),
            false => Err(words + &beginning(field(b"grpc-message").unwrap_or_default())),
        };
    }
    match serving_state(&answer.body) {
        Some(1) => Ok("is SERVING".to_owned()),
        Some(state) => {
            let state = SERVING_STATES.get(state as usize).copied().unwrap_or("in an unknown state");
            Err(format!("is {state}"))
        }
        None => Err("answered with no HealthCheckResponse".to_owned()),
    }
}

/// Returns the state in a message with a HealthCheckResponse: field 1, a varint; 0 if it is left out.
fn serving_state(body: &[u8]) -> Option<u64> {
    let (prefix, rest) = body.split_first_chunk::<5>()?;
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    let mut rest = rest.get(..len as usize).filter(|_| prefix[0] == 0)?;
    let mut state = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if tag >> 3 == 1 {
                    state = value;
                }
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let len = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(len..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(state)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
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
