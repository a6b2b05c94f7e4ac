//! The result of decoding an input, as one text; for the tests inside the crate and outside it. The module around
//! it has the decoder's types in scope.

use super::{HeadLimits, Progress, RequestHead};

/// Describes everything a decoder returns for an input that comes in the given pieces.
pub(super) fn describe(input: &[u8], pieces: &mut dyn Iterator<Item = usize>, limits: &HeadLimits) -> String {
    let mut head = RequestHead::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (mut start, mut end) = (0, 0);
    let mut dropped = Vec::new();
    let result = loop {
        end = (end + pieces.next().unwrap_or(input.len())).min(input.len());
        match head.decode(&input[start..end], limits) {
            Ok(Progress::Partial) if end < input.len() => {
                // The decoder must do without what it has copied, whenever that is taken away.
                if end % 2 == 0 {
                    dropped.extend(head.dropped_lines(&input[start..end]).map(text));
                    start += head.forget_lines();
                }
            }
            other => break other,
        }
    };
    let mut path = Vec::new();
    let query = head.split_target(true, &mut path).map(text);
    let fields: String =
        head.headers.iter().map(|(_, name, value)| format!("{}={};", text(name), text(value))).collect();
    dropped.extend(head.dropped_lines(&input[start..end]).map(text));
    let outcome = match result {
        Ok(Progress::Complete { consumed }) => {
            format!("complete {} of which {}", start + consumed, head.len())
        }
        Ok(Progress::Partial) => "partial".into(),
        Err(error) => {
            let mut words = Vec::new();
            // A piece may end anywhere behind the fault; the message must not depend on it.
            head.explain(error, &input[start..], &mut words);
            format!("{} {}", error.status(), text(&words))
        }
    };
    format!(
        "{outcome}\n{}|{}|{}|{}|{:?}|{}|{query:?}|{}:{}\n{fields}\n{dropped:?}",
        // Of a refused line there is as much as had come.
        if head.has_line() { text(head.request_line()) } else { String::new() },
        text(head.method_bytes()),
        text(head.target()),
        text(head.protocol()),
        head.version,
        text(&path),
        text(head.host()),
        head.port(),
    )
}
