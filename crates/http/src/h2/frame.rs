//! Frames (RFC 9113 §4 and §6): their headers, what their payloads hold, and how those of a server are written.
//!
//! Must never know a stream's state.

use crate::h2::error::{ConnectionFault, ErrorCode};

/// The bytes with which a client begins (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The size of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 9;

/// The largest payload that is sent, whatever the peer may take: the value that SETTINGS_MAX_FRAME_SIZE has without being sent.
pub const MAX_PAYLOAD_BYTES: u32 = 16_384;

/// The stream, or its side, ends with this frame.
pub const END_STREAM: u8 = 0x1;
/// SETTINGS and PING: an acknowledgement.
pub const ACK: u8 = 0x1;
/// The header block ends with this frame.
pub const END_HEADERS: u8 = 0x4;
/// The payload is padded.
pub const PADDED: u8 = 0x8;
/// HEADERS begins with a priority.
pub const PRIORITY: u8 = 0x20;

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant has the RFC's name")]
pub enum FrameKind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// A type that is not known, and so is ignored (RFC 9113 §4.1).
    Unknown(u8),
}

impl FrameKind {
    const fn from_byte(byte: u8) -> FrameKind {
        match byte {
            0 => FrameKind::Data,
            1 => FrameKind::Headers,
            2 => FrameKind::Priority,
            3 => FrameKind::RstStream,
            4 => FrameKind::Settings,
            5 => FrameKind::PushPromise,
            6 => FrameKind::Ping,
            7 => FrameKind::GoAway,
            8 => FrameKind::WindowUpdate,
            9 => FrameKind::Continuation,
            other => FrameKind::Unknown(other),
        }
    }

    const fn byte(self) -> u8 {
        match self {
            FrameKind::Data => 0,
            FrameKind::Headers => 1,
            FrameKind::Priority => 2,
            FrameKind::RstStream => 3,
            FrameKind::Settings => 4,
            FrameKind::PushPromise => 5,
            FrameKind::Ping => 6,
            FrameKind::GoAway => 7,
            FrameKind::WindowUpdate => 8,
            FrameKind::Continuation => 9,
            FrameKind::Unknown(other) => other,
        }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The size of the payload in bytes.
    pub len: u32,
    /// The type.
    pub kind: FrameKind,
    /// The flags; those that the type does not have mean nothing.
    pub flags: u8,
    /// The stream; 0 is the connection.
    pub stream: u32,
}

impl FrameHeader {
    /// Reads the header at the beginning of the input; `None` if more is needed.
    pub fn parse(input: &[u8]) -> Option<FrameHeader> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *input.first_chunk::<FRAME_HEADER_BYTES>()?;
        Some(FrameHeader {
            len: u32::from_be_bytes([0, l0, l1, l2]),
            kind: FrameKind::from_byte(kind),
            flags,
            // The top bit is reserved, and ignored.
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & !(1 << 31),
        })
    }

    /// Appends the header.
    pub fn write(self, out: &mut Vec<u8>) {
        let [_, l0, l1, l2] = self.len.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        out.extend_from_slice(&[l0, l1, l2, self.kind.byte(), self.flags, s0, s1, s2, s3]);
    }

    /// Returns true if this flag is set.
    pub const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A header block's part in a HEADERS frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadersPayload<'a> {
    /// The part of the block.
    pub block: &'a [u8],
    /// The stream on which the priority depends, if there is one.
    pub depends_on: Option<u32>,
}

/// Takes padding and priority off the payload of HEADERS (RFC 9113 §6.2).
///
/// # Errors
/// The padding is longer than what it pads, or the payload is too short for its flags.
pub fn headers_payload(header: FrameHeader, payload: &[u8]) -> Result<HeadersPayload<'_>, ConnectionFault> {
    let mut block = payload;
    let mut padding = 0;
    if header.has(PADDED) {
        let (first, rest) = block.split_first().ok_or(SHORT)?;
        (padding, block) = (usize::from(*first), rest);
    }
    let mut depends_on = None;
    if header.has(PRIORITY) {
        let (priority, rest) = block.split_first_chunk::<5>().ok_or(SHORT)?;
        let [p0, p1, p2, p3, _] = *priority;
        depends_on = Some(u32::from_be_bytes([p0, p1, p2, p3]) & !(1 << 31));
        block = rest;
    }
    let len = block.len().checked_sub(padding).ok_or(PADDING)?;
    Ok(HeadersPayload { block: &block[..len], depends_on })
}

const SHORT: ConnectionFault = ConnectionFault::size("sent a HEADERS frame that is too short for its flags");
/// Padding that is as long as the payload or longer (RFC 9113 §6.1).
pub(crate) const PADDING: ConnectionFault =
    ConnectionFault::protocol("sent a frame whose padding is longer than its payload");

/// The identifiers of settings (RFC 9113 §6.5.2).
pub mod setting {
    /// SETTINGS_HEADER_TABLE_SIZE.
    pub const HEADER_TABLE_SIZE: u16 = 1;
    /// SETTINGS_ENABLE_PUSH.
    pub const ENABLE_PUSH: u16 = 2;
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// SETTINGS_INITIAL_WINDOW_SIZE.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    /// SETTINGS_MAX_FRAME_SIZE.
    pub const MAX_FRAME_SIZE: u16 = 5;
    /// SETTINGS_MAX_HEADER_LIST_SIZE.
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Returns the settings of a SETTINGS frame, in order; a rest of less than six bytes is left out.
pub fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload.as_chunks::<6>().0.iter().map(|[i0, i1, v0, v1, v2, v3]| {
        (u16::from_be_bytes([*i0, *i1]), u32::from_be_bytes([*v0, *v1, *v2, *v3]))
    })
}

/// Reads four bytes, as WINDOW_UPDATE and RST_STREAM have them.
pub fn number(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}

/// Appends a frame.
pub fn write(out: &mut Vec<u8>, kind: FrameKind, flags: u8, stream: u32, payload: &[u8]) {
    FrameHeader { len: payload.len() as u32, kind, flags, stream }.write(out);
    out.extend_from_slice(payload);
}

/// Appends a SETTINGS frame.
pub fn write_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let len = 6 * settings.len() as u32;
    FrameHeader { len, kind: FrameKind::Settings, flags: 0, stream: 0 }.write(out);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends a RST_STREAM frame.
pub fn write_reset(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    write(out, FrameKind::RstStream, 0, stream, &(code as u32).to_be_bytes());
}

/// Appends a WINDOW_UPDATE frame.
pub fn write_window_update(out: &mut Vec<u8>, stream: u32, by: u32) {
    write(out, FrameKind::WindowUpdate, 0, stream, &by.to_be_bytes());
}

/// Appends a GOAWAY frame.
pub fn write_go_away(out: &mut Vec<u8>, last_stream: u32, code: ErrorCode) {
    FrameHeader { len: 8, kind: FrameKind::GoAway, flags: 0, stream: 0 }.write(out);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&(code as u32).to_be_bytes());
}

/// Appends a header block: one HEADERS frame, and CONTINUATION frames behind it if a frame of `max_payload` is too small.
pub fn write_block(out: &mut Vec<u8>, stream: u32, block: &[u8], end_stream: bool, max_payload: usize) {
    let mut kind = FrameKind::Headers;
    let mut flags = if end_stream { END_STREAM } else { 0 };
    let mut rest = block;
    loop {
        let (part, after) = rest.split_at(rest.len().min(max_payload));
        let last = if after.is_empty() { END_HEADERS } else { 0 };
        write(out, kind, flags | last, stream, part);
        if after.is_empty() {
            return;
        }
        (kind, flags, rest) = (FrameKind::Continuation, 0, after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_read_as_it_is_written() {
        for kind in 0..=255 {
            let header = FrameHeader {
                len: 0x0001_0203,
                kind: FrameKind::from_byte(kind),
                flags: kind ^ 0x55,
                stream: 0x7fff_fffe - u32::from(kind),
            };
            let mut bytes = Vec::new();
            header.write(&mut bytes);
            assert_eq!(FrameHeader::parse(&bytes), Some(header));
            assert_eq!(FrameHeader::parse(&bytes[..8]), None);
        }
        assert_eq!(FrameHeader::parse(&[0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).unwrap().stream, 0x7fff_ffff);
    }

    #[test]
    fn padding_and_priority_are_taken_off() {
        let header = |flags| FrameHeader { len: 0, kind: FrameKind::Headers, flags, stream: 1 };
        let read = |flags, payload| headers_payload(header(flags), payload);
        assert_eq!(read(0, b"abc").unwrap().block, b"abc");
        assert_eq!(read(PADDED, b"\x02abc\0\0").unwrap().block, b"abc");
        let both = read(PADDED | PRIORITY, b"\x01\x80\0\0\x07\x10abc\0").unwrap();
        assert_eq!(both, HeadersPayload { block: b"abc", depends_on: Some(7) });
        assert_eq!(read(PADDED, b"\x04abc").unwrap_err().code, ErrorCode::Protocol);
        assert_eq!(read(PADDED, b"\x03abc").unwrap().block, b"");
        assert_eq!(read(PADDED, b"").unwrap_err().code, ErrorCode::FrameSize);
        assert_eq!(read(PRIORITY, b"\0\0\0\0").unwrap_err().code, ErrorCode::FrameSize);
    }

    #[test]
    fn large_block_is_continued() {
        let mut out = Vec::new();
        write_block(&mut out, 3, &[7; 25], true, 10);
        let mut at = 0;
        let mut frames = Vec::new();
        while let Some(header) = FrameHeader::parse(&out[at..]) {
            frames.push((header.kind, header.flags, header.len));
            at += FRAME_HEADER_BYTES + header.len as usize;
        }
        let continued = FrameKind::Continuation;
        let expected =
            [(FrameKind::Headers, END_STREAM, 10), (continued, 0, 10), (continued, END_HEADERS, 5)];
        assert_eq!(frames, expected);
        out.clear();
        write_block(&mut out, 3, b"", false, 10);
        assert_eq!(FrameHeader::parse(&out).unwrap().flags, END_HEADERS);
    }
}
