//! PEM: sections of base64 between lines of dashes, with the header lines of encrypted keys (RFC 1421, RFC 7468).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// One section.
pub(crate) struct Section {
    /// The text between the dashes: `CERTIFICATE`.
    pub(crate) label: String,
    /// Header lines, as they are.
    pub(crate) headers: Vec<String>,
    /// The decoded bytes.
    pub(crate) der: Zeroizing<Vec<u8>>,
}

/// Returns all sections; those that are not base64 are left out, and what is between sections is ignored.
pub(crate) fn sections(bytes: &[u8]) -> Vec<Section> {
    let text = String::from_utf8_lossy(bytes);
    let mut out = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let mut headers = Vec::new();
        let mut code = Zeroizing::new(String::new());
        let mut is_whole = false;
        for line in lines.by_ref() {
            if line == end {
                is_whole = true;
                break;
            }
            if line.contains(':') {
                headers.push(line.to_owned());
            } else {
                code.push_str(line);
            }
        }
        if let (true, Ok(der)) = (is_whole, STANDARD.decode(code.as_bytes())) {
            out.push(Section { label: label.to_owned(), headers, der: Zeroizing::new(der) });
        }
    }
    out
}

/// Returns the DER of every certificate.
pub(crate) fn certificates(bytes: &[u8]) -> Vec<Vec<u8>> {
    let is_certificate = |section: &Section| matches!(&*section.label, "CERTIFICATE" | "X509 CERTIFICATE");
    sections(bytes).into_iter().filter(is_certificate).map(|section| section.der.to_vec()).collect()
}

/// Encodes a certificate as OpenSSL writes it.
pub(crate) fn encode_certificate(der: &[u8]) -> String {
    let code = STANDARD.encode(der);
    let mut out = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (at, character) in code.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            out.push('\n');
        }
        out.push(character);
    }
    out.push_str("\n-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_among_other_text() {
        let text = b"x\n-----BEGIN A B-----\nProc-Type: 4,ENCRYPTED\n\nAQI=\n-----END A B-----\nsubject=y\n\
            -----BEGIN C-----\n!\n-----END C-----\n-----BEGIN CERTIFICATE-----\nAw==\n-----END CERTIFICATE-----\n\
            -----BEGIN CERTIFICATE-----\nAw==";
        let found = sections(text);
        assert_eq!(found.len(), 2);
        assert_eq!((&*found[0].label, &found[0].der[..]), ("A B", &[1, 2][..]));
        assert_eq!(found[0].headers, ["Proc-Type: 4,ENCRYPTED"]);
        assert_eq!(certificates(text), [[3]]);
        assert_eq!(sections(encode_certificate(&[7; 100]).as_bytes())[0].der[..], [7; 100]);
    }
}
