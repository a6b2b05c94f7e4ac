//! CGI's parameters (RFC 3875) as gateways carry them to application servers: [`fastcgi`], [`uwsgi`], [`scgi`].
//!
//! Owns the names of parameters and their coding. The head that comes back is [`crate::ResponseHead`]'s.

pub mod fastcgi;
pub mod scgi;
pub mod uwsgi;

/// The gateway protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// FastCGI 1.0.
    FastCgi,
    /// The protocol of uWSGI.
    Uwsgi,
    /// SCGI.
    Scgi,
}

impl Gateway {
    /// Appends one parameter.
    pub fn append_param(self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        match self {
            Gateway::FastCgi => fastcgi::append_param(name, value, out),
            Gateway::Uwsgi => uwsgi::append_param(name, value, out),
            Gateway::Scgi => scgi::append_param(name, value, out),
        }
    }
}

/// Parameters are too large for what says their length: so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge(pub usize);

/// The prefix of the names of parameters for fields.
pub const FIELD_PREFIX: &[u8] = b"HTTP_";

/// Appends the name of the parameter that carries a field of this name (RFC 3875, section 4.1.18).
pub fn append_field_name(field: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(FIELD_PREFIX);
    out.extend(field.iter().map(|byte| if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }));
}

/// Returns true if a field of this name would be carried by the parameter whose name is `name` behind [`FIELD_PREFIX`].
pub fn is_field_name(name: &[u8], field: &[u8]) -> bool {
    let same = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(if *b == b'-' { &b'_' } else { b });
    name.len() == field.len() && name.iter().zip(field).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_fields_become_names_of_parameters() {
        let mut out = Vec::new();
        append_field_name(b"X-Forwarded_for.a", &mut out);
        assert_eq!(out, b"HTTP_X_FORWARDED_FOR.A");
        assert!(is_field_name(b"X_FORWARDED_FOR.A", b"x-forwarded_For.a"));
        assert!(!is_field_name(b"X-FORWARDED", b"x-forwarded"), "no parameter's name has a dash");
        assert!(!is_field_name(b"X", b"X-Y"));
    }

    #[test]
    fn each_gateway_has_its_coding() {
        let coded = |gateway: Gateway| {
            let mut out = Vec::new();
            gateway.append_param(b"AB", b"xyz", &mut out);
            out
        };
        assert_eq!(coded(Gateway::FastCgi), b"\x02\x03ABxyz");
        assert_eq!(coded(Gateway::Uwsgi), b"\x02\0AB\x03\0xyz");
        assert_eq!(coded(Gateway::Scgi), b"AB\0xyz\0");
    }
}
