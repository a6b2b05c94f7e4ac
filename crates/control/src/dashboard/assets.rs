//! The page's files.
//!
//! Owns their list, their types and who may read them: without a session only what a login needs. They are inside the program,
//! so the page works without the internet. Must never be made at run time: what is served is what is in the repository.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

const CSS: &str = "text/css; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// A file of the page.
struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    /// It is read before a login, too.
    is_open: bool,
}

macro_rules! asset {
    ($name:literal, $kind:expr, $is_open:expr) => {
        Asset {
            name: $name,
            kind: $kind,
            bytes: include_bytes!(concat!("assets/", $name)),
            is_open: $is_open,
        }
    };
}

const ASSETS: &[Asset] = &[
    asset!("dashboard.css", CSS, true),
    asset!("icon.svg", SVG, true),
    asset!("enter.js", SCRIPT, true),
    asset!("acts.js", SCRIPT, false),
    asset!("api.js", SCRIPT, false),
    asset!("attention.js", SCRIPT, false),
    asset!("chart.js", SCRIPT, false),
    asset!("compare.js", SCRIPT, false),
    asset!("dialog.js", SCRIPT, false),
    asset!("dom.js", SCRIPT, false),
    asset!("format.js", SCRIPT, false),
    asset!("groups.js", SCRIPT, false),
    asset!("history.js", SCRIPT, false),
    asset!("keys.js", SCRIPT, false),
    asset!("live.js", SCRIPT, false),
    asset!("main.js", SCRIPT, false),
    asset!("place.js", SCRIPT, false),
    asset!("timeline.js", SCRIPT, false),
    asset!("uPlot.iife.min.js", SCRIPT, false),
    asset!("uPlot.min.css", CSS, false),
    asset!("uPlot.LICENSE", TEXT, false),
];

/// The page itself, and the one that asks who is there.
const PAGES: (&[u8], &[u8]) = (include_bytes!("assets/dashboard.html"), include_bytes!("assets/enter.html"));

/// The names of the versions of [`ASSETS`].
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |asset: &Asset| {
        let hash = Sha256::digest(asset.bytes);
        let digits: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("\"{digits}\"")
    };
    ASSETS.iter().map(tag).collect()
});

/// Returns the page of a visitor, or the one that asks who is there.
pub(super) fn page(is_logged_in: bool) -> Response {
    let page = if is_logged_in { PAGES.0 } else { PAGES.1 };
    ([(header::CONTENT_TYPE, HTML), (header::CACHE_CONTROL, "no-store")], page).into_response()
}

/// Returns true if a file is read without a session.
pub(super) fn is_open(name: &str) -> bool {
    ASSETS.iter().any(|asset| asset.name == name && asset.is_open)
}

/// Returns a file; nothing if there is none of this name.
pub(super) fn file(name: &str, headers: &HeaderMap) -> Option<Response> {
    let at = ASSETS.iter().position(|asset| asset.name == name)?;
    let (asset, tag) = (&ASSETS[at], &TAGS[at]);
    // A newer program has newer files: a browser asks each time, and mostly gets no body.
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known =
        known.flat_map(|value| value.split(',')).any(|one| one.trim().trim_start_matches("W/") == tag);
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, asset.kind)], asset.bytes).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_together_are_small() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.bytes.len()).sum();
        let bytes = bytes + PAGES.0.len() + PAGES.1.len();
        assert!(bytes <= 300 * 1024, "{bytes} bytes uncompressed");
    }

    /// What the policy of the page forbids, and what would need the internet.
    #[test]
    fn pages_have_no_inline_code_and_name_no_other_host() {
        for page in [PAGES.0, PAGES.1] {
            let text = std::str::from_utf8(page).unwrap();
            for line in text.lines() {
                let has_code = line.contains("<script") && !line.contains("src=\"assets/");
                let has_style = line.contains("<style") || line.contains(" style=");
                let mut words = line.split([' ', '<']);
                let has_listener = words.any(|word| word.starts_with("on") && word.contains('='));
                assert!(!has_code && !has_style && !has_listener, "{line}");
            }
        }
        let own = ASSETS.iter().filter(|asset| !asset.name.starts_with("uPlot")).map(|asset| asset.bytes);
        for text in own.chain([PAGES.0, PAGES.1]).map(|bytes| std::str::from_utf8(bytes).unwrap()) {
            let hosts = text
                .match_indices("://")
                .map(|(at, _)| &text[at.saturating_sub(5)..(at + 13).min(text.len())]);
            let foreign: Vec<&str> = hosts.filter(|place| !place.contains("://www.w3.org")).collect();
            assert!(foreign.is_empty(), "{foreign:?}");
            for sink in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
            {
                assert!(!text.contains(sink), "{sink}");
            }
        }
    }

    #[test]
    fn every_file_that_a_page_or_module_names_is_there() {
        let is_there = |name: &str| ASSETS.iter().any(|asset| asset.name == name);
        for asset in ASSETS.iter().filter(|asset| asset.kind == SCRIPT && !asset.name.starts_with("uPlot")) {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            for (_, rest) in
                text.match_indices("from \"./").map(|(at, found)| text.split_at(at + found.len()))
            {
                let name = rest.split('"').next().unwrap();
                assert!(is_there(name), "{} imports {name}", asset.name);
            }
        }
        for (page, is_closed) in [(PAGES.0, true), (PAGES.1, false)] {
            let text = std::str::from_utf8(page).unwrap();
            for (_, rest) in
                text.match_indices("\"assets/").map(|(at, found)| text.split_at(at + found.len()))
            {
                let name = rest.split('"').next().unwrap();
                assert!(is_there(name) && (is_closed || is_open(name)), "{name}");
            }
        }
    }
}
