//! The head of a response that comes over HTTP/2: fields as HPACK hands them on, the status first.
//!
//! Owns RFC 9113 §8.2 and §8.3 for responses. It makes the same head as HTTP/1 does, so that what passes a response on need
//! not know which protocol it came by.

use super::{ResponseHead, State};
use crate::known::Known;
use crate::{Version, encode, framing, request};

/// What each field adds to its name and value in the size of a list (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// A head under way.
#[derive(Debug)]
pub(crate) struct H2ResponseHead<'a> {
    head: &'a mut ResponseHead,
    /// How much the list may still take.
    left: usize,
    /// What is wrong with it, behind `upstream `.
    fault: Option<&'static str>,
}

impl<'a> H2ResponseHead<'a> {
    /// Begins a head; what was in `head` is forgotten.
    pub(crate) fn new(head: &'a mut ResponseHead, max_list_bytes: usize) -> H2ResponseHead<'a> {
        head.clear();
        H2ResponseHead { head, left: max_list_bytes, fault: None }
    }

    /// Takes the next field of the block.
    pub(crate) fn take(&mut self, name: &[u8], value: &[u8]) {
        if self.fault.is_none() {
            self.fault = self.take_field(name, value).err();
        }
    }

    fn take_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let size = name.len() + value.len() + FIELD_OVERHEAD;
        self.left = self.left.checked_sub(size).ok_or("sent too big header")?;
        request::H2Head::check_field(name, value)?;
        if name == b":status" {
            return self.take_status(value);
        }
        if name.first() == Some(&b':') {
            return Err("sent a header field with an invalid name");
        }
        if self.head.state != State::Whole {
            return Err("sent no :status header");
        }
        match Known::from_bytes(name) {
            // RFC 9113 §8.2.2.
            Some(
                Known::Connection
                | Known::ProxyConnection
                | Known::KeepAlive
                | Known::TransferEncoding
                | Known::Upgrade,
            ) => Err("sent a header field that is for HTTP/1 connections"),
            _ => {
                self.head.headers.push(name, value);
                Ok(())
            }
        }
    }

    fn take_status(&mut self, value: &[u8]) -> Result<(), &'static str> {
        if self.head.state == State::Whole {
            return Err(match self.head.headers.is_empty() {
                true => "sent duplicate :status header",
                false => "sent a header field with an invalid name",
            });
        }
        let &[a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = value else {
            return Err("sent invalid :status");
        };
        let digit = |byte: u8| u16::from(byte - b'0');
        let head = &mut *self.head;
        head.status = digit(a) * 100 + digit(b) * 10 + digit(c);
        if head.status == 101 {
            // RFC 9113 §8.6.
            return Err("sent unexpected :status \"101\"");
        }
        head.version = Version::Http2;
        head.line.extend_from_slice(value);
        head.line.push(b' ');
        head.line.extend_from_slice(encode::reason(head.status).as_bytes());
        head.state = State::Whole;
        Ok(())
    }

    /// Ends the head.
    ///
    /// # Errors
    /// It is malformed (RFC 9113 §8.1.1); the words of the error log, behind `upstream `.
    pub(crate) fn finish(self) -> Result<(), &'static str> {
        match self.fault {
            Some(words) => Err(words),
            None if self.head.state != State::Whole => Err("sent no :status header"),
            None if framing::content_length(&self.head.headers).is_err() => {
                Err("sent invalid \"Content-Length\" header")
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)]) -> Result<ResponseHead, &'static str> {
        let mut head = ResponseHead::new();
        let mut reader = H2ResponseHead::new(&mut head, 1000);
        fields.iter().for_each(|(name, value)| reader.take(name.as_bytes(), value.as_bytes()));
        reader.finish().map(|()| head)
    }

    #[test]
    fn head_is_that_of_http_1() {
        let head =
            read(&[(":status", "404"), ("content-type", "text/plain"), ("x-a", "1"), ("x-a", "")]).unwrap();
        assert_eq!(
            (head.status, head.version, head.status_line()),
            (404, Version::Http2, &b"404 Not Found"[..])
        );
        let fields: Vec<_> =
            head.headers.iter().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect();
        assert_eq!(fields.len(), 3);
        assert_eq!(fields[2], (b"x-a".to_vec(), Vec::new()));
        assert_eq!(read(&[(":status", "299")]).unwrap().status_line(), b"299 ");
        assert!(read(&[(":status", "100")]).unwrap().is_interim());
    }

    #[test]
    fn malformed_heads_are_refused() {
        let ok = (":status", "200");
        let huge = "x".repeat(1000);
        for fields in [
            &[][..],
            &[("x-a", "1")],
            &[("x-a", "1"), ok],
            &[ok, ok],
            &[ok, ("x-a", "1"), ok],
            &[ok, (":path", "/")],
            &[(":status", "20")],
            &[(":status", "2000")],
            &[(":status", "2x0")],
            &[(":status", "099")],
            &[(":status", "101")],
            &[ok, ("X-A", "1")],
            &[ok, ("x a", "1")],
            &[ok, ("x:a", "1")],
            &[ok, ("", "1")],
            &[ok, ("x-a", "1\r\nx-b: 2")],
            &[ok, ("x-a", " 1")],
            &[ok, ("connection", "close")],
            &[ok, ("transfer-encoding", "chunked")],
            &[ok, ("content-length", "1x")],
            &[ok, ("content-length", "1"), ("content-length", "2")],
            &[ok, ("x-a", &huge)],
        ] {
            assert!(read(fields).is_err(), "{fields:?}");
        }
    }
}
