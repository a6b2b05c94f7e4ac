//! Lines of the error log about paths, in nginx's words.

use crate::exchange::Exchange;
use crate::host::{Env, FileError, Level};
use crate::log_line;

/// Logs `open() "/path" failed (2: No such file or directory)`.
pub fn log_failure(exchange: &Exchange, env: &mut Env<'_>, level: Level, path: &[u8], error: FileError) {
    let mut text = error.call.as_bytes().to_vec();
    text.extend_from_slice(b" \"");
    text.extend_from_slice(path);
    text.extend_from_slice(b"\" failed");
    append_errno(error.errno, &mut text);
    log_line::error(exchange, env, level, &text);
}

/// Logs a sentence about a path, with the system's error behind it if there is one.
pub fn log_path(
    exchange: &Exchange,
    env: &mut Env<'_>,
    level: Level,
    (before, path, after): (&str, &[u8], &str),
    errno: Option<i32>,
) {
    let mut text = before.as_bytes().to_vec();
    text.extend_from_slice(path);
    text.extend_from_slice(after.as_bytes());
    if let Some(errno) = errno {
        append_errno(errno, &mut text);
    }
    log_line::error(exchange, env, level, &text);
}

/// Appends ` (2: No such file or directory)`.
fn append_errno(errno: i32, out: &mut Vec<u8>) {
    let shown = std::io::Error::from_raw_os_error(errno).to_string();
    let words = shown.rsplit_once(" (os error").map_or(shown.as_str(), |(words, _)| words);
    out.extend_from_slice(b" (");
    out.extend_from_slice(itoa::Buffer::new().format(errno).as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(words.as_bytes());
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_have_the_system_s_words() {
        let mut text = Vec::new();
        append_errno(libc::ENOENT, &mut text);
        assert_eq!(text, b" (2: No such file or directory)");
    }
}
