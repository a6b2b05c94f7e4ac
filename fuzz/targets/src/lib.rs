//! The fuzz targets, one function each: it takes bytes, and panics if they show a fault.
//!
//! Each compares the code with something else: a second reading of the same rules, the same bytes in other pieces, or the
//! inverse of its result. It depends on nothing but its argument, so that a finding can be repeated: `cargo fuzz` calls
//! these functions with new bytes, `cargo test` with all that were kept.

#![allow(clippy::unwrap_used, reason = "a panic is how a target tells what it found")]

#[cfg(feature = "whole")]
mod api;
mod bundle;
mod cache_files;
#[cfg(feature = "whole")]
mod charset_maps;
mod chunked;
#[cfg(feature = "whole")]
mod config_build;
mod config_text;
mod dice;
mod fastcgi_records;
mod field_values;
mod files;
#[cfg(feature = "whole")]
mod gzip_input;
mod h2_frames;
mod header_list;
mod hpack;
mod key_route;
#[cfg(feature = "whole")]
mod live_store;
mod lua_block;
mod messages;
mod name_reply;
mod pack;
#[cfg(feature = "whole")]
mod paths;
mod proxy_protocol;
mod range;
mod request_head;
mod response_head;
#[cfg(feature = "whole")]
mod seeds;
#[cfg(feature = "whole")]
mod ssi_text;
#[cfg(feature = "whole")]
mod store;
#[cfg(feature = "whole")]
mod template;
#[cfg(feature = "whole")]
mod tls_files;
#[cfg(feature = "whole")]
mod tls_records;
mod uri;
mod values;
#[cfg(feature = "whole")]
mod world;

pub use pack::{Pack, read_pack, write_pack};
#[cfg(feature = "whole")]
pub use seeds::{dictionary, seeds};

/// The function of a target.
pub type Target = fn(&[u8]);

/// All targets; the name is that of its file, its corpus and its findings.
pub const TARGETS: &[(&str, Target)] = &[
    #[cfg(feature = "whole")]
    ("api", api::check),
    ("bundle", bundle::check),
    ("cache_files", cache_files::check),
    #[cfg(feature = "whole")]
    ("charset_maps", charset_maps::check),
    ("chunked", chunked::check),
    #[cfg(feature = "whole")]
    ("config_build", config_build::check),
    ("config_text", config_text::check),
    ("fastcgi_records", fastcgi_records::check),
    ("field_values", field_values::check),
    #[cfg(feature = "whole")]
    ("gzip_input", gzip_input::check),
    ("h2_frames", h2_frames::check),
    ("header_list", header_list::check),
    ("hpack", hpack::check),
    ("key_route", key_route::check),
    #[cfg(feature = "whole")]
    ("live_store", live_store::check),
    ("lua_block", lua_block::check),
    ("messages", messages::check),
    ("name_reply", name_reply::check),
    #[cfg(feature = "whole")]
    ("paths", paths::check),
    ("proxy_protocol", proxy_protocol::check),
    ("range", range::check),
    ("request_head", request_head::check),
    ("response_head", response_head::check),
    #[cfg(feature = "whole")]
    ("ssi_text", ssi_text::check),
    #[cfg(feature = "whole")]
    ("store", store::check),
    #[cfg(feature = "whole")]
    ("template", template::check),
    #[cfg(feature = "whole")]
    ("tls_files", tls_files::check),
    #[cfg(feature = "whole")]
    ("tls_records", tls_records::check),
    ("uri", uri::check),
    ("values", values::check),
];

/// Runs the target of this name.
///
/// # Panics
/// Panics if there is no such target, or it finds a fault.
pub fn run(name: &str, data: &[u8]) {
    let (_, check) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name");
    check(data);
}
