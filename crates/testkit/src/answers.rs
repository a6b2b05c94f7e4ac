//! The answers in the bytes that a client has received: final ones, whole or cut off.
//!
//! Clients of hostile messages and of the fault matrix read them here. Interim answers (1xx) are passed over.

use crate::message::{self, Read, Response};

/// An answer that a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The readable part of it; the body is as long as it came.
    pub response: Response,
    /// It came to its end.
    pub whole: bool,
}

/// The answers at the beginning of some bytes.
pub(crate) struct Answers {
    pub(crate) answers: Vec<Answer>,
    /// The number of bytes of the whole ones, and of interim ones before them.
    pub(crate) used: usize,
    /// Why what follows is no answer.
    pub(crate) fault: Option<String>,
}

impl Answers {
    /// Reads up to `most` answers to requests of these methods; of more, to GET. What follows `101` is not looked at.
    pub(crate) fn read(bytes: &[u8], methods: &[impl AsRef<str>], ended: bool, most: usize) -> Answers {
        let mut found = Answers { answers: Vec::new(), used: 0, fault: None };
        while found.used < bytes.len() && found.answers.len() < most && !found.switches() {
            let method = methods.get(found.answers.len()).map_or("GET", AsRef::as_ref);
            match message::response(&bytes[found.used..], method, ended) {
                Read::Whole(response, len) => {
                    found.used += len;
                    if !(100..200).contains(&response.status) || response.status == 101 {
                        found.answers.push(Answer { response, whole: true });
                    }
                }
                Read::Partial => {
                    let head = begun(&bytes[found.used..]);
                    found.answers.extend(head.map(|response| Answer { response, whole: false }));
                    break;
                }
                Read::Bad(why) => {
                    found.fault = Some(why);
                    break;
                }
            }
        }
        found
    }

    /// Returns the number of whole answers.
    pub(crate) fn whole(&self) -> usize {
        self.answers.iter().filter(|answer| answer.whole).count()
    }

    /// Returns true if the last answer makes the connection a tunnel.
    pub(crate) fn switches(&self) -> bool {
        self.answers.last().is_some_and(|answer| answer.response.status == 101)
    }
}

/// Returns the head of an answer whose body is not whole, if the head is.
fn begun(input: &[u8]) -> Option<Response> {
    match message::response(input, "HEAD", false) {
        Read::Whole(mut response, len) => {
            response.body = input[len..].to_vec();
            Some(response)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_told_from_a_cut_one_and_from_what_is_none() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
                      HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno";
        let read = |bytes: &[u8], most| Answers::read(bytes, &["GET"], false, most);
        let one = read(bytes, 1);
        assert_eq!((one.answers.len(), one.whole(), one.used), (1, 1, bytes.len() - 40));
        let both = read(bytes, usize::MAX);
        assert_eq!((both.answers.len(), both.whole(), both.used), (2, 1, one.used));
        assert_eq!(both.answers[1].response.body, b"no");
        assert!(read(b"SSH-2.0\r\n\r\n", 1).fault.is_some());
        assert!(read(b"HTTP/1.1 101 Switching Protocols\r\n\r\nbytes", 9).switches());
    }
}
