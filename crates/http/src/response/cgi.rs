//! The head of a CGI response (RFC 3875, section 6): fields alone, of which `Status` says the status.
//!
//! After ngx_http_fastcgi_process_header and ngx_http_uwsgi_process_status_line.

use super::{ResponseHead, State};
use crate::error::ResponseError;
use crate::field::FieldScanner;
use crate::{Known, Progress, encode};

/// How the head of a CGI response begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgiForm {
    /// With its fields.
    Fields,
    /// With a status line, or with its fields.
    LineOrFields,
}

impl ResponseHead {
    /// Decodes the head of a CGI response, as [`ResponseHead::decode`] does one of HTTP.
    ///
    /// # Errors
    /// A malformed line, a head that is too large, or a status that is none. A status that another response would have to follow
    /// (1xx) is none: nothing follows.
    pub fn decode_cgi(
        &mut self,
        input: &[u8],
        max_bytes: usize,
        form: CgiForm,
    ) -> Result<Progress, ResponseError> {
        let within = &input[..input.len().min(max_bytes)];
        if self.state == State::Whole {
            return Ok(Progress::Complete { consumed: self.fields.pos() });
        }
        if !self.has_line() && (form == CgiForm::Fields || self.scan_line(within).is_err()) {
            self.clear();
            self.state = State::Fields;
            self.fields = FieldScanner::starting_at(0);
        }
        let progress = self.decode_rest(within, input.len() >= max_bytes)?;
        if let Progress::Complete { .. } = progress
            && self.line.is_empty()
        {
            self.settle_status()?;
        }
        Ok(progress)
    }

    /// Makes the status line of the fields.
    fn settle_status(&mut self) -> Result<(), ResponseError> {
        let Some(value) = self.headers.get(Known::Status) else {
            let line: &[u8] =
                if self.headers.has(Known::Location) { b"302 Moved Temporarily" } else { b"200 OK" };
            self.line.extend_from_slice(line);
            self.status = if self.headers.has(Known::Location) { 302 } else { 200 };
            return Ok(());
        };
        let digits = value.first_chunk::<3>().filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let status = digits
            .map_or(0, |digits| digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')));
        if !matches!(status, 101 | 200..) {
            return Err(ResponseError::InvalidStatus);
        }
        self.status = status;
        self.line.extend_from_slice(value);
        if self.line.len() == 3 {
            self.line.push(b' ');
            self.line.extend_from_slice(encode::reason(status).as_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(input: &[u8], piece: usize, max: usize, form: CgiForm) -> Result<String, ResponseError> {
        let mut head = ResponseHead::new();
        let mut end = 0;
        loop {
            end = (end + piece).min(input.len());
            if let Progress::Complete { consumed } = head.decode_cgi(&input[..end], max, form)? {
                let line = String::from_utf8_lossy(head.status_line()).into_owned();
                assert!(line.starts_with(&head.status.to_string()));
                assert!(!head.is_interim());
                return Ok(format!("{line}|{}|{consumed}", head.headers.len()));
            }
            if end == input.len() {
                return Ok("partial".into());
            }
        }
    }

    #[test]
    fn status_is_that_of_the_fields() {
        let cases: &[(&[u8], &str)] = &[
            (b"Content-Type: a\r\n\r\nbody", "200 OK|1|19"),
            (b"\r\n", "200 OK|0|2"),
            (b"Location: /x\n\n", "302 Moved Temporarily|1|14"),
            (b"Status: 404 Gone Fishing\r\nLocation: /\r\n\r\n", "404 Gone Fishing|2|41"),
            (b"Status: 404\r\n\r\n", "404 Not Found|1|15"),
            (b"A: 1\r\nstatus: 503.2\r\n\r\n", "503.2|2|23"),
        ];
        for (input, expected) in cases {
            for piece in 1..=input.len() {
                for form in [CgiForm::Fields, CgiForm::LineOrFields] {
                    let found = decoded(input, piece, 4096, form);
                    assert_eq!(found.as_deref(), Ok(*expected), "{:?} by {piece}", bstr::BStr::new(input));
                }
            }
        }
    }

    #[test]
    fn status_line_comes_first_where_there_may_be_one() {
        let input = b"HTTP/1.1 201 Made\r\nStatus: 404\r\n\r\n";
        for piece in 1..=input.len() {
            let found = decoded(input, piece, 4096, CgiForm::LineOrFields);
            assert_eq!(found.as_deref(), Ok("201 Made|1|34"), "by {piece}");
            // A field's parser passes over it.
            let found = decoded(input, piece, 4096, CgiForm::Fields);
            assert_eq!(found.as_deref(), Ok("404 Not Found|1|34"), "by {piece}");
        }
        let almost = b"HTTPS: on\r\n\r\n";
        for piece in 1..=almost.len() {
            assert_eq!(decoded(almost, piece, 99, CgiForm::LineOrFields).as_deref(), Ok("200 OK|1|13"));
        }
    }

    #[test]
    fn bad_heads_are_refused() {
        use ResponseError::{InvalidHeader, InvalidStatus, TooLarge};
        let cases: &[(&[u8], ResponseError)] = &[
            (b"Status: 20\r\n\r\n", InvalidStatus),
            (b"Status: OK\r\n\r\n", InvalidStatus),
            (b"Status:\r\n\r\n", InvalidStatus),
            (b"Status: 000\r\n\r\n", InvalidStatus),
            (b"Status: 100 Continue\r\n\r\n", InvalidStatus),
            (b"Status: 103\r\n\r\n", InvalidStatus),
            (b"A\0: 1\r\n\r\n", InvalidHeader),
            (b"A: 1234567890123456789012345\r\n", TooLarge),
        ];
        for (input, expected) in cases {
            for piece in 1..=input.len() {
                let found = decoded(input, piece, 24, CgiForm::Fields);
                assert_eq!(found, Err(*expected), "{:?} by {piece}", bstr::BStr::new(input));
            }
        }
    }

    #[test]
    fn an_invalid_status_is_quoted() {
        let mut head = ResponseHead::new();
        let input = b"Status: abc\r\n\r\n";
        let error = head.decode_cgi(input, 4096, CgiForm::Fields).unwrap_err();
        let mut text = Vec::new();
        head.explain(error, input, &mut text);
        assert_eq!(text, b"upstream sent invalid status \"abc\"");
    }
}
