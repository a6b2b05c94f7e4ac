//! The head of an answer over HTTP/2 (ngx_http_v2_header_filter): the same fields, as one piece for the connection to frame.

use super::wire::{Framing, Output};
use crate::clock::Now;
use crate::config::{Config, Settings};
use crate::exchange::Response;
use http::Known;
use http::h2::hpack::{encode_known, encode_status, encode_valid_field};
use http::h2::{PieceHeader, PieceKind};

/// The most that a frame may hold without a setting of the client.
const MAX_FRAME: u64 = 16_384;

/// Appends the head to the wire, and the end behind it if there is no body.
pub(super) fn encode_head(
    response: &Response,
    output: &mut Output,
    config: &Config,
    settings: &Settings,
    now: Now,
) {
    let before = output.wire.len();
    // The largest frame of the body, which the connection cannot know by itself.
    let size = PieceHeader {
        kind: PieceKind::FrameSize((*settings.core.http2.chunk_size).min(MAX_FRAME) as u16),
        len: 0,
    };
    output.wire.extend_from_slice(&size.bytes());
    let at = output.begin_piece();
    let wire = &mut output.wire;
    encode_status(wire, response.status);
    if !response.headers.has(Known::Server) {
        encode_known(wire, Known::Server, config.server_header(*settings.core.server_tokens).as_bytes());
    }
    if !response.headers.has(Known::Date) {
        encode_known(wire, Known::Date, &http::date::present_http_date(now.epoch_s()));
    }
    if let Some(kind) = &response.content_type {
        encode_valid_field(wire, Some(Known::ContentType), b"", kind);
    }
    let keeps_length = response.keeps_length();
    if let (Some(len), false) = (response.content_length, keeps_length) {
        encode_known(wire, Known::ContentLength, itoa::Buffer::new().format(len).as_bytes());
    }
    if let Some(modified_s) = response.last_modified_s
        && !response.headers.has(Known::LastModified)
    {
        encode_known(wire, Known::LastModified, &http::date::http_date(modified_s));
    }
    if output.varies && *settings.filters.gzip.vary {
        encode_known(&mut output.wire, Known::Vary, b"Accept-Encoding");
    }
    let wire = &mut output.wire;
    if let Some(location) = &response.location {
        encode_valid_field(wire, Some(Known::Location), b"", location);
    }
    for (known, name, value) in response.headers.iter() {
        let is_unwanted = match known {
            Some(Known::Server | Known::Date) => value.is_empty(),
            Some(Known::ContentLength) => !keeps_length,
            // These are of a connection of HTTP/1 (RFC 9113, section 8.2.2).
            Some(
                Known::Connection
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::TransferEncoding
                | Known::Upgrade,
            ) => true,
            _ => false,
        };
        if !is_unwanted {
            encode_valid_field(wire, known, name, value.trim_ascii());
        }
    }
    output.finish_piece(at, PieceKind::Head);
    if output.framing == Framing::None {
        output.wire.extend_from_slice(&PieceHeader { kind: PieceKind::End, len: 0 }.bytes());
    }
    output.head_len = (output.wire.len() - before) as u64;
}
