//! A request of SCGI: a netstring of parameters, each with a NUL behind its name and behind its value.
//!
//! Source: <https://python.ca/scgi/protocol.txt>.

/// Appends one parameter. A NUL in it would be the end of it, and what follows another parameter: it becomes a space.
pub fn append_param(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for text in [name, value] {
        out.extend(text.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }));
        out.push(0);
    }
}

/// Appends the netstring of these parameters.
pub fn append_netstring(params: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(params.len()).as_bytes());
    out.push(b':');
    out.extend_from_slice(params);
    out.push(b',');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_parameter_early() {
        let (mut params, mut out) = (Vec::new(), Vec::new());
        append_param(b"CONTENT_LENGTH", b"27", &mut params);
        append_param(b"A", b"x\0REMOTE_USER\0root", &mut params);
        append_netstring(&params, &mut out);
        assert_eq!(out, b"39:CONTENT_LENGTH\x0027\0A\0x REMOTE_USER root\0,");
    }
}
