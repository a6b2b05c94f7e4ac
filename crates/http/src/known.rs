//! The header names a proxy meets every day, as an enum.
//!
//! Owns the list, its canonical spelling and the lookup from bytes. It must never allocate: the lookup runs once
//! for every field of every message.

/// A header name that is recognised while a head is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "each variant is documented by its header name")]
pub enum Known {
    Accept,
    AcceptCharset,
    AcceptEncoding,
    AcceptLanguage,
    AcceptRanges,
    AccessControlAllowOrigin,
    Age,
    Allow,
    AltSvc,
    Authorization,
    CacheControl,
    Connection,
    ContentDisposition,
    ContentEncoding,
    ContentLanguage,
    ContentLength,
    ContentLocation,
    ContentRange,
    ContentSecurityPolicy,
    ContentType,
    Cookie,
    Date,
    Depth,
    Destination,
    Dnt,
    EarlyData,
    ETag,
    Expect,
    Expires,
    Forwarded,
    From,
    Host,
    Http2Settings,
    IfMatch,
    IfModifiedSince,
    IfNoneMatch,
    IfRange,
    IfUnmodifiedSince,
    KeepAlive,
    LastModified,
    Link,
    Location,
    MaxForwards,
    Origin,
    Overwrite,
    Pragma,
    Priority,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Range,
    Referer,
    Refresh,
    RetryAfter,
    SecWebSocketAccept,
    SecWebSocketExtensions,
    SecWebSocketKey,
    SecWebSocketProtocol,
    SecWebSocketVersion,
    Server,
    SetCookie,
    Status,
    StrictTransportSecurity,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    UpgradeInsecureRequests,
    UserAgent,
    Vary,
    Via,
    Warning,
    WwwAuthenticate,
    XAccelBuffering,
    XAccelCharset,
    XAccelExpires,
    XAccelLimitRate,
    XAccelRedirect,
    XContentTypeOptions,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    XFrameOptions,
    XPad,
    XPoweredBy,
    XRealIp,
    XRequestId,
    XRequestedWith,
}

use Known as K;

/// Every known name with the spelling it is sent with, in the order of the enum.
const NAMES: [(Known, &str); 89] = [
    (K::Accept, "Accept"),
    (K::AcceptCharset, "Accept-Charset"),
    (K::AcceptEncoding, "Accept-Encoding"),
    (K::AcceptLanguage, "Accept-Language"),
    (K::AcceptRanges, "Accept-Ranges"),
    (K::AccessControlAllowOrigin, "Access-Control-Allow-Origin"),
    (K::Age, "Age"),
    (K::Allow, "Allow"),
    (K::AltSvc, "Alt-Svc"),
    (K::Authorization, "Authorization"),
    (K::CacheControl, "Cache-Control"),
    (K::Connection, "Connection"),
    (K::ContentDisposition, "Content-Disposition"),
    (K::ContentEncoding, "Content-Encoding"),
    (K::ContentLanguage, "Content-Language"),
    (K::ContentLength, "Content-Length"),
    (K::ContentLocation, "Content-Location"),
    (K::ContentRange, "Content-Range"),
    (K::ContentSecurityPolicy, "Content-Security-Policy"),
    (K::ContentType, "Content-Type"),
    (K::Cookie, "Cookie"),
    (K::Date, "Date"),
    (K::Depth, "Depth"),
    (K::Destination, "Destination"),
    (K::Dnt, "DNT"),
    (K::EarlyData, "Early-Data"),
    (K::ETag, "ETag"),
    (K::Expect, "Expect"),
    (K::Expires, "Expires"),
    (K::Forwarded, "Forwarded"),
    (K::From, "From"),
    (K::Host, "Host"),
    (K::Http2Settings, "HTTP2-Settings"),
    (K::IfMatch, "If-Match"),
    (K::IfModifiedSince, "If-Modified-Since"),
    (K::IfNoneMatch, "If-None-Match"),
    (K::IfRange, "If-Range"),
    (K::IfUnmodifiedSince, "If-Unmodified-Since"),
    (K::KeepAlive, "Keep-Alive"),
    (K::LastModified, "Last-Modified"),
    (K::Link, "Link"),
    (K::Location, "Location"),
    (K::MaxForwards, "Max-Forwards"),
    (K::Origin, "Origin"),
    (K::Overwrite, "Overwrite"),
    (K::Pragma, "Pragma"),
    (K::Priority, "Priority"),
    (K::ProxyAuthenticate, "Proxy-Authenticate"),
    (K::ProxyAuthorization, "Proxy-Authorization"),
    (K::ProxyConnection, "Proxy-Connection"),
    (K::Range, "Range"),
    (K::Referer, "Referer"),
    (K::Refresh, "Refresh"),
    (K::RetryAfter, "Retry-After"),
    (K::SecWebSocketAccept, "Sec-WebSocket-Accept"),
    (K::SecWebSocketExtensions, "Sec-WebSocket-Extensions"),
    (K::SecWebSocketKey, "Sec-WebSocket-Key"),
    (K::SecWebSocketProtocol, "Sec-WebSocket-Protocol"),
    (K::SecWebSocketVersion, "Sec-WebSocket-Version"),
    (K::Server, "Server"),
    (K::SetCookie, "Set-Cookie"),
    (K::Status, "Status"),
    (K::StrictTransportSecurity, "Strict-Transport-Security"),
    (K::Te, "TE"),
    (K::Trailer, "Trailer"),
    (K::TransferEncoding, "Transfer-Encoding"),
    (K::Upgrade, "Upgrade"),
    (K::UpgradeInsecureRequests, "Upgrade-Insecure-Requests"),
    (K::UserAgent, "User-Agent"),
    (K::Vary, "Vary"),
    (K::Via, "Via"),
    (K::Warning, "Warning"),
    (K::WwwAuthenticate, "WWW-Authenticate"),
    (K::XAccelBuffering, "X-Accel-Buffering"),
    (K::XAccelCharset, "X-Accel-Charset"),
    (K::XAccelExpires, "X-Accel-Expires"),
    (K::XAccelLimitRate, "X-Accel-Limit-Rate"),
    (K::XAccelRedirect, "X-Accel-Redirect"),
    (K::XContentTypeOptions, "X-Content-Type-Options"),
    (K::XForwardedFor, "X-Forwarded-For"),
    (K::XForwardedHost, "X-Forwarded-Host"),
    (K::XForwardedPort, "X-Forwarded-Port"),
    (K::XForwardedProto, "X-Forwarded-Proto"),
    (K::XFrameOptions, "X-Frame-Options"),
    (K::XPad, "X-Pad"),
    (K::XPoweredBy, "X-Powered-By"),
    (K::XRealIp, "X-Real-IP"),
    (K::XRequestId, "X-Request-ID"),
    (K::XRequestedWith, "X-Requested-With"),
];

const SLOT_BITS: u32 = 10;
const EMPTY: u8 = u8::MAX;

/// Folds a name's length and four of its bytes into a slot of the table. The bytes are taken where real names
/// differ; the multiplier is found at compile time so that no two of ours share a slot.
const fn slot(name: &[u8], multiplier: u32) -> usize {
    let len = name.len();
    if len == 0 {
        return 0;
    }
    // 0x20 makes letters lower case; other bytes may coincide, which the full comparison settles.
    let key = (name[len / 4] | 0x20) as u32
        | (((name[len / 2] | 0x20) as u32) << 8)
        | (((name[len - 1] | 0x20) as u32) << 16)
        | (((name[len * 3 / 4] | 0x20) as u32) << 24);
    let mixed = (key ^ (len as u32).wrapping_mul(0x9E37_79B1)).wrapping_mul(multiplier);
    (mixed >> (32 - SLOT_BITS)) as usize
}

/// Tries one multiplier: the filled table, or nothing if two names meet.
const fn fill(multiplier: u32) -> Option<[u8; 1 << SLOT_BITS]> {
    let mut table = [EMPTY; 1 << SLOT_BITS];
    let mut i = 0;
    while i < NAMES.len() {
        assert!(NAMES[i].0 as usize == i, "NAMES must follow the order of the enum");
        let at = slot(NAMES[i].1.as_bytes(), multiplier);
        if table[at] != EMPTY {
            return None;
        }
        table[at] = i as u8;
        i += 1;
    }
    Some(table)
}

const fn search() -> (u32, [u8; 1 << SLOT_BITS]) {
    let mut multiplier: u32 = 0x85EB_CA6B;
    loop {
        if let Some(table) = fill(multiplier) {
            return (multiplier, table);
        }
        multiplier = multiplier.wrapping_mul(0x0019_660D).wrapping_add(0x3C6E_F35F) | 1;
    }
}

const SEARCH: (u32, [u8; 1 << SLOT_BITS]) = search();
static TABLE: [u8; 1 << SLOT_BITS] = SEARCH.1;

impl Known {
    /// The number of known names.
    pub const COUNT: usize = NAMES.len();

    /// Returns the canonical spelling, in which pointsman sends it.
    pub const fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// Returns the known name that these bytes spell, whatever the case of their letters.
    #[inline]
    pub fn from_bytes(name: &[u8]) -> Option<Known> {
        let number = TABLE[slot(name, SEARCH.0)];
        let (known, canonical) = NAMES.get(number as usize)?;
        let canonical = canonical.as_bytes();
        // Most senders spell names as we do, and that comparison is several times faster.
        (name == canonical || name.eq_ignore_ascii_case(canonical)).then_some(*known)
    }

    /// Returns all known names, in the order of the enum.
    pub fn all() -> impl Iterator<Item = Known> {
        NAMES.iter().map(|(known, _)| *known)
    }

    /// Returns this name's bit in a set of names.
    pub(crate) const fn bit(self) -> u128 {
        1 << (self as u8)
    }

    /// Returns true if a request may have this field only once (`ngx_http_process_unique_header_line`, and `Host`).
    pub(crate) const fn is_unique_in_request(self) -> bool {
        UNIQUE & self.bit() != 0
    }

    /// Returns true if the field is about one connection only, so that no proxy may pass it on (RFC 9110 §7.6.1, and
    /// the older names that RFC 2616 §13.5.1 lists).
    pub(crate) const fn is_hop_by_hop(self) -> bool {
        HOP_BY_HOP & self.bit() != 0
    }
}

const UNIQUE: u128 = K::Host.bit()
    | K::IfModifiedSince.bit()
    | K::IfUnmodifiedSince.bit()
    | K::IfMatch.bit()
    | K::IfNoneMatch.bit()
    | K::ContentLength.bit()
    | K::ContentRange.bit()
    | K::IfRange.bit()
    | K::TransferEncoding.bit()
    | K::Expect.bit()
    | K::Authorization.bit()
    | K::ProxyAuthorization.bit();

const HOP_BY_HOP: u128 = K::Connection.bit()
    | K::KeepAlive.bit()
    | K::ProxyConnection.bit()
    | K::Te.bit()
    | K::Trailer.bit()
    | K::TransferEncoding.bit()
    | K::Upgrade.bit();

const _: () = assert!(NAMES.len() <= 128, "a set of known names is a u128");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for known in Known::all() {
            let name = known.name();
            assert_eq!(Known::from_bytes(name.as_bytes()), Some(known));
            assert_eq!(Known::from_bytes(name.to_ascii_lowercase().as_bytes()), Some(known));
            assert_eq!(Known::from_bytes(name.to_ascii_uppercase().as_bytes()), Some(known));
        }
    }

    #[test]
    fn near_misses_are_unknown() {
        for name in ["", "X", "Hos", "Hosts", "H\x4fs\x14", "Content_Length", "X-Custom", "\u{0}", "host "] {
            assert_eq!(Known::from_bytes(name.as_bytes()), None, "{name:?}");
        }
    }

    #[test]
    fn a_changed_byte_makes_a_name_unknown_or_another() {
        for known in Known::all() {
            for at in 0..known.name().len() {
                let mut name = known.name().as_bytes().to_vec();
                name[at] ^= 0x01;
                assert_ne!(Known::from_bytes(&name), Some(known));
            }
        }
    }

    #[test]
    fn the_canonical_spelling_is_that_of_nginx() {
        assert_eq!(Known::ETag.name(), "ETag");
        assert_eq!(Known::WwwAuthenticate.name(), "WWW-Authenticate");
        assert_eq!(Known::Te.name(), "TE");
        assert_eq!(Known::XRealIp.name(), "X-Real-IP");
    }
}
