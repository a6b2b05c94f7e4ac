//! `ssl_certificate_cache` and its kin: for how long certificates and keys that handshakes read are used again.

use crate::config::{invalid_parameter, number};
use conf::Diagnostic;

/// One cache, as the configuration wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateCache {
    /// The most certificates with their keys; of more, that goes which was not asked for for longest.
    pub max: usize,
    /// How long one that is not asked for stays, in ms.
    pub inactive_ms: u64,
    /// How long one is used before it is looked whether its files have changed, in ms.
    pub valid_ms: u64,
}

impl CertificateCache {
    /// Reads the arguments; `None` is off.
    pub(in crate::modules) fn read(d: &conf::Directive) -> Result<Option<CertificateCache>, Diagnostic> {
        let name = d.name.text();
        let (mut max, mut is_off) = (None, false);
        let (mut inactive_ms, mut valid_ms) = (10_000, 60_000);
        for word in &d.args {
            let text = word.str()?;
            let time = |text: &str| {
                conf::value::parse_time_ms(text.as_bytes()).ok_or_else(|| invalid_parameter(word))
            };
            match text.split_once('=') {
                None if text == "off" => is_off = true,
                Some(("max", count)) => {
                    let count = number(count.as_bytes()).filter(|count| *count > 0);
                    let count = count.ok_or_else(|| invalid_parameter(word))?;
                    max = Some(usize::try_from(count).unwrap_or(usize::MAX));
                }
                Some(("inactive", text)) => inactive_ms = time(text)?,
                Some(("valid", text)) => valid_ms = time(text)?,
                _ => return Err(invalid_parameter(word)),
            }
        }
        match (is_off, max) {
            (true, _) => Ok(None),
            (false, Some(max)) => Ok(Some(CertificateCache { max, inactive_ms, valid_ms })),
            (false, None) => {
                let text = format!("\"{name}\" must have the \"max\" parameter");
                Err(Diagnostic::error(d.span, text).help(format!("{name} max=1000;")))
            }
        }
    }
}
