//! Rendering a summary: for people, for programs, for Prometheus.
//!
//! Owns: the bodies of `upstream_status` and `metrics`, and the choice of their form. Must never: compute a
//! number that the [`crate::Summary`] does not hold, but for quantiles and rates of it.

mod html;
mod json;
mod metric_defs;
mod openmetrics;
mod table;
mod text;

pub use html::html;
pub use json::json;
pub use openmetrics::{Exposition, metrics};
pub use text::text;

use crate::{Snapshot, Summary};

/// The forms of `upstream_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// `text/plain`, for a terminal.
    Text,
    /// `text/html`, for a browser.
    Html,
    /// `application/json`, for programs.
    Json,
}

impl Page {
    /// Chooses the form for a request: by the argument `format` if it names a form, else by its `Accept`, else text.
    /// Of several types in `Accept` the first that is known is taken; weights are not looked at.
    pub fn asked_for(format: Option<&[u8]>, accept: Option<&[u8]>) -> Page {
        match format {
            Some(b"text") => return Page::Text,
            Some(b"html") => return Page::Html,
            Some(b"json") => return Page::Json,
            _ => {}
        }
        let types = accept.unwrap_or_default().split(|&byte| byte == b',');
        let known = types.map(media_type).find_map(|kind| match kind {
            b"text/plain" => Some(Page::Text),
            b"text/html" | b"application/xhtml+xml" => Some(Page::Html),
            b"application/json" => Some(Page::Json),
            _ => None,
        });
        known.unwrap_or(Page::Text)
    }

    /// Returns the value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Page::Text => "text/plain; charset=utf-8",
            Page::Html => "text/html; charset=utf-8",
            Page::Json => "application/json",
        }
    }

    /// Renders the body.
    pub fn render(self, summary: &Summary, snapshot: &Snapshot) -> String {
        match self {
            Page::Text => text(summary, snapshot),
            Page::Html => html(summary, snapshot),
            Page::Json => json(summary, snapshot),
        }
    }
}

/// Returns a media range without its parameters and the space around it. Compared as written, because every client
/// sends lower case.
fn media_type(range: &[u8]) -> &[u8] {
    range.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii()
}

/// Returns a key as readable text, different for different keys: bytes that are no UTF-8, and the replacement character
/// itself, are written as that character and two hexadecimal digits.
fn readable_key(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    let escape = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            text.push_str(&format!("{}{byte:02x}", char::REPLACEMENT_CHARACTER));
        }
    };
    for chunk in key.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                char::REPLACEMENT_CHARACTER => escape(&mut text, "\u{fffd}".as_bytes()),
                char => text.push(char),
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

#[cfg(test)]
mod tests;
