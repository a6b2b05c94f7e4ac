//! A server's answer as the load reads it: where its head ends, its status, how much body follows.
//!
//! It knows as much of HTTP as the servers under test need to be told apart from broken ones, and refuses the rest: an
//! answer that is not what was asked for must never count as one.

/// How far an answer has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// The start of a head that came in pieces.
    head: Vec<u8>,
    /// Bytes of the body that are still to come; nothing while the head is not whole.
    rest: Option<u64>,
}

impl Answer {
    /// Takes bytes in, and says whether the answer is whole. `expected` is how long the body must be.
    pub(super) fn feed(&mut self, bytes: &[u8], expected: u64) -> Result<bool, String> {
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

    /// Takes so many bytes of the body in without looking at them, and says whether the answer is whole.
    pub(super) fn skip(&mut self, count: u64) -> Result<bool, String> {
        let rest = self.rest.unwrap_or_default();
        let rest = rest.checked_sub(count).ok_or("bytes follow an answer that is whole")?;
        self.rest = Some(rest);
        if rest == 0 {
            self.rest = None;
        }
        Ok(rest == 0)
    }

    /// Bytes of body that are still to come, once the head is read.
    pub(super) fn rest(&self) -> u64 {
        self.rest.unwrap_or_default()
    }
}

/// How long a head is, and the body that it announces; nothing while the head is not whole.
fn read_head(bytes: &[u8]) -> Result<Option<(usize, u64)>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = &bytes[..end];
    let told = || String::from_utf8_lossy(&head[..head.len().min(400)]).into_owned();
    if !head.starts_with(b"HTTP/1.1 200") && !head.starts_with(b"HTTP/1.0 200") {
        return Err(format!("an answer is not 200: {}", told().lines().next().unwrap_or_default()));
    }
    let length = head.split(|byte| *byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        name.eq_ignore_ascii_case(b"content-length").then(|| std::str::from_utf8(value).ok())?
    });
    let length = length.and_then(|text| text.trim().parse().ok());
    length.map(|length| Some((end + 4, length))).ok_or_else(|| format!("no length in {}", told()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_come_byte_by_byte() {
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
    fn what_was_not_asked_for_is_no_answer() {
        let fed = |text: &[u8]| Answer::default().feed(text, 3);
        assert!(fed(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nabc").is_err());
        assert!(fed(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd").is_err());
        assert!(fed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd").is_err());
        assert!(fed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn an_empty_body_is_whole_with_its_head() {
        assert_eq!(Answer::default().feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0), Ok(true));
    }
}
