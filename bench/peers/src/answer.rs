//! A server's answer as the load reads it: its status, and the length of its body.
//!
//! It refuses any other answer than the expected one.

/// The state of an answer that is being read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// The start of a head that came in pieces.
    head: Vec<u8>,
    /// Bytes of the body that are still to come; `None` while the head is not complete.
    rest: Option<u64>,
}

impl Answer {
    /// Reads bytes; returns true if the answer is complete. `expected` is the length that the body must have.
    pub(crate) fn feed(&mut self, bytes: &[u8], expected: u64) -> Result<bool, String> {
        let mut bytes = bytes;
        if self.rest.is_none() {
            let (taken, length) = if self.head.is_empty() {
                match read_head(bytes)? {
                    Some(found) => found,
                    None => {
                        self.head.extend_from_slice(bytes);
                        return Ok(false);
                    }
                }
            } else {
                let before = self.head.len();
                self.head.extend_from_slice(bytes);
                match read_head(&self.head)? {
                    Some((taken, length)) => (taken - before, length),
                    None => return Ok(false),
                }
            };
            if length != expected {
                return Err(format!("an answer has {length} bytes of body, not {expected}"));
            }
            self.head.clear();
            self.rest = Some(length);
            bytes = &bytes[taken..];
        }
        self.skip(bytes.len() as u64)
    }

    /// Skips bytes of the body; returns true if the answer is complete.
    pub(crate) fn skip(&mut self, count: u64) -> Result<bool, String> {
        let rest = self.rest.unwrap_or_default();
        let rest = rest.checked_sub(count).ok_or("bytes follow a complete answer")?;
        self.rest = Some(rest);
        if rest == 0 {
            self.rest = None;
        }
        Ok(rest == 0)
    }

    /// Returns the bytes of the body that are still to come, once the head is read.
    pub(crate) fn rest(&self) -> u64 {
        self.rest.unwrap_or_default()
    }
}

/// Returns the length of a head and of the body that it announces; `None` while the head is not complete.
fn read_head(bytes: &[u8]) -> Result<Option<(usize, u64)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(bytes).map_err(|e| format!("an answer is not HTTP: {e}"))? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    if head.code != Some(200) {
        return Err(format!("an answer has status {:?}", head.code));
    }
    let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let body = field.and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
    body.map(|body| Some((length, body))).ok_or_else(|| "an answer has no Content-Length".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_arrive_byte_by_byte() {
        let text = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 3\r\n\r\nabc";
        let mut answer = Answer::default();
        for (at, byte) in text.iter().enumerate() {
            assert_eq!(answer.feed(&[*byte], 3), Ok(at + 1 == text.len()));
        }
        assert_eq!(answer.feed(text, 3), Ok(true), "and the next one at once");
    }

    #[test]
    fn a_body_may_be_skipped() {
        let mut answer = Answer::default();
        assert_eq!(answer.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", 10), Ok(false));
        assert_eq!(answer.rest(), 7);
        assert_eq!(answer.skip(6), Ok(false));
        assert_eq!(answer.skip(1), Ok(true));
    }

    #[test]
    fn unexpected_answers_are_refused() {
        let fed = |text: &[u8]| Answer::default().feed(text, 3);
        assert!(fed(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nabc").is_err());
        assert!(fed(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd").is_err());
        assert!(fed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd").is_err());
        assert!(fed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn an_empty_body_is_complete_with_its_head() {
        assert_eq!(Answer::default().feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0), Ok(true));
    }
}
