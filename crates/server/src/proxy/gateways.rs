//! Responses of application servers: their heads, and what the programs complain of.

use super::fastcgi::{BodyRead, FastcgiUpstream, HeadRead};
use super::fault::{UpstreamFault, UpstreamStage};
use super::request::ProxyRequest;
use super::upstream_conn::UpstreamConn;
use crate::request::cx::RequestCx;
use engine::host::Level;
use engine::modules::proxy::Protocol;
use http::{CgiForm, Progress, ResponseHead};
use transport::body_reader::Piece;
use transport::read_buffer::ReadBuffer;

/// nginx cuts a line of its error log there; a record may be 64 KiB long.
const MAX_LOGGED: usize = 2048;

impl ProxyRequest<'_, '_> {
    /// Returns the next piece of a body that comes in records, and logs what the program complains of meanwhile.
    pub(super) fn next_fastcgi_piece(
        &mut self,
        fastcgi: &mut FastcgiUpstream,
        buffer: &mut ReadBuffer,
    ) -> Result<Option<Piece>, UpstreamFault> {
        loop {
            match fastcgi.next(buffer).map_err(UpstreamFault::BadRecords)? {
                BodyRead::Partial => return Ok(None),
                BodyRead::Piece(piece) => return Ok(Some(piece)),
                BodyRead::Excess(piece) => {
                    let text = "upstream sent more data than specified in \"Content-Length\" header";
                    self.cx.log(Level::Warn, format!("{text} {}", UpstreamStage::ReadingBody));
                    return Ok(Some(piece));
                }
                BodyRead::Stderr(text) => log_stderr(self.cx, &text, UpstreamStage::ReadingBody),
            }
        }
    }
}

/// Logs what a program complains of, without the ends of lines and sentences behind it.
pub(super) fn log_stderr(cx: &mut RequestCx<'_>, text: &[u8], stage: UpstreamStage) {
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r' | b'.' | b' ');
    let end = text.iter().rposition(|byte| !is_end(byte)).map_or(1, |at| at + 1);
    let shown = &text[..end.min(text.len()).min(MAX_LOGGED)];
    let line = [b"FastCGI sent in stderr: \"", shown, b"\" ", stage.to_string().as_bytes()].concat();
    cx.log(Level::Error, line);
}

/// Returns true if a complaint makes the response invalid (`fastcgi_catch_stderr`).
pub(super) fn catches(cx: &RequestCx<'_>, text: &[u8]) -> bool {
    cx.settings().proxy.cgi.catches(text)
}

/// Reads the head of a response, of at most `max_bytes`, as far as it has come.
pub(super) fn read_head(
    conn: &mut UpstreamConn,
    head: &mut ResponseHead,
    max_bytes: usize,
) -> Result<HeadRead, UpstreamFault> {
    let UpstreamConn { read_buffer, fastcgi, head_bytes, protocol, .. } = conn;
    let before = read_buffer.unread().len();
    let read = match fastcgi {
        Some(fastcgi) => fastcgi.read_head(read_buffer, head, max_bytes).map_err(UpstreamFault::BadRecords),
        None => {
            let input = read_buffer.unread();
            let progress = match protocol {
                Protocol::Cgi => head.decode_cgi(input, max_bytes, CgiForm::LineOrFields),
                _ => head.decode(input, max_bytes),
            };
            match progress {
                Ok(Progress::Partial) => Ok(HeadRead::Partial),
                Ok(Progress::Complete { consumed }) => {
                    read_buffer.consume(consumed);
                    Ok(HeadRead::Whole)
                }
                Err(error) => {
                    let mut line = Vec::new();
                    head.explain(error, input, &mut line);
                    Err(UpstreamFault::BadHead(line))
                }
            }
        }
    };
    *head_bytes += (before - read_buffer.unread().len()) as u64;
    read
}
