//! Request methods.
//!
//! Owns the methods that nginx knows by name; any other token is [`Method::Other`], whose bytes stay in the head.

/// A request method. RFC 9110 §9.3, RFC 5789 and RFC 4918; other tokens are passed on untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs, reason = "the variants are the methods' names")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Mkcol,
    Copy,
    Move,
    Options,
    Propfind,
    Proppatch,
    Lock,
    Unlock,
    Patch,
    Trace,
    Connect,
    /// A token that nginx has no name for; see `RequestHead::method_bytes`.
    Other,
}

impl Method {
    /// Returns the method of a token; methods are case-sensitive (RFC 9110 §9.1).
    pub const fn from_bytes(token: &[u8]) -> Method {
        match token {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"MKCOL" => Method::Mkcol,
            b"COPY" => Method::Copy,
            b"MOVE" => Method::Move,
            b"OPTIONS" => Method::Options,
            b"PROPFIND" => Method::Propfind,
            b"PROPPATCH" => Method::Proppatch,
            b"LOCK" => Method::Lock,
            b"UNLOCK" => Method::Unlock,
            b"PATCH" => Method::Patch,
            b"TRACE" => Method::Trace,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        }
    }

    /// Returns the token; empty for [`Method::Other`], whose bytes only the head knows.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Mkcol => "MKCOL",
            Method::Copy => "COPY",
            Method::Move => "MOVE",
            Method::Options => "OPTIONS",
            Method::Propfind => "PROPFIND",
            Method::Proppatch => "PROPPATCH",
            Method::Lock => "LOCK",
            Method::Unlock => "UNLOCK",
            Method::Patch => "PATCH",
            Method::Trace => "TRACE",
            Method::Connect => "CONNECT",
            Method::Other => "",
        }
    }

    /// Returns true if a request with this method must not be sent to a second server unless `proxy_next_upstream
    /// non_idempotent` allows it: for nginx, POST, LOCK and PATCH.
    pub const fn is_non_idempotent(self) -> bool {
        matches!(self, Method::Post | Method::Lock | Method::Patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tokens_agree() {
        for token in ["GET", "HEAD", "POST", "PUT", "DELETE", "MKCOL", "COPY", "MOVE", "OPTIONS", "PROPFIND"]
        {
            assert_eq!(Method::from_bytes(token.as_bytes()).name(), token);
        }
        for token in ["PROPPATCH", "LOCK", "UNLOCK", "PATCH", "TRACE", "CONNECT"] {
            assert_eq!(Method::from_bytes(token.as_bytes()).name(), token);
        }
        assert_eq!(Method::from_bytes(b"get"), Method::Other);
        assert_eq!(Method::from_bytes(b"PURGE"), Method::Other);
    }
}
