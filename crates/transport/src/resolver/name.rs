//! Names as they are asked for, and how far an answer is followed and held.

use std::borrow::Cow;

/// How many aliases in a row are followed, before nginx calls the first name unknown.
pub(super) const MAX_ALIASES: usize = 50;

/// The longest time for which an answer is held, in ms: a year.
pub(super) const LONGEST_HOLD_MS: u64 = 365 * 86_400_000;

/// Returns the name as it is held and asked for: in lower case, without the dot of the root. Most come so.
pub(super) fn canonical(host: &str) -> Cow<'_, [u8]> {
    let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
    if host.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}
