//! A time as an option's value.
//!
//! Owns its notation, which is nginx's. Must never judge how long is too long: the server does.

/// Checks a time in nginx's notation; the server parses it again.
pub(crate) fn time(text: &str) -> Result<String, String> {
    match conf::value::parse_time_ms(text.as_bytes()) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected a time such as 30s, 10m or 1h30m".into()),
    }
}

/// Returns the milliseconds of a time that [`time`] has accepted.
pub(crate) fn ms(text: &str) -> u64 {
    conf::value::parse_time_ms(text.as_bytes()).unwrap_or_default()
}
