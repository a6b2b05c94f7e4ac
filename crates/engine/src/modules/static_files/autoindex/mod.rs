//! `autoindex`: a directory's listing, where no index file is (ngx_http_autoindex_module).
//!
//! Owns what is listed and in which order; how it is written is [`format`]'s.

mod format;

use super::path::{self, log_failure};
use crate::config::invalid_choice;
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::{Env, FileError, FolderEntry, Level};
use crate::log_line;
use crate::phase::{Content, Verdict};
use crate::setting::settings;
use format::Listing;

/// The form of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingFormat {
    /// A page.
    Html,
    /// JSON.
    Json,
    /// JSON as the argument of a function that the client names.
    Jsonp,
    /// XML.
    Xml,
}

settings! {
    /// Settings of one level about listings.
    pub struct ListingSettings {
        /// `autoindex`.
        pub on: bool = false,
        /// `autoindex_exact_size`: sizes in bytes, in a page.
        pub exact_size: bool = true,
        /// `autoindex_format`.
        pub format: ListingFormat = ListingFormat::Html,
        /// `autoindex_localtime`: times of this machine, in a page.
        pub local_time: bool = false,
        /// `random_index`.
        pub random: bool = false,
    }
}

/// The directives about listings.
pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::flag("autoindex", Contexts::HSL, |b| &mut b.settings().static_files.listing.on)
        .default("off")
        .doc("Whether a directory without an index file is listed, without names that begin with a dot.")
        .example("autoindex on;"),
    Directive::new(
        "autoindex_format",
        Contexts::HSL,
        Args::Exactly(1),
        "html | xml | json | jsonp",
        |b, d| {
            let format = match &**d.args[0].text() {
                b"html" => ListingFormat::Html,
                b"xml" => ListingFormat::Xml,
                b"json" => ListingFormat::Json,
                b"jsonp" => ListingFormat::Jsonp,
                _ => return Err(invalid_choice(&d.args[0]).help("html, xml, json or jsonp")),
            };
            b.write(d, |s| &mut s.static_files.listing.format, format)
        },
    )
    .default("html")
    .doc("The format of directory listings. With jsonp, the argument `callback` names the function.")
    .example("autoindex_format json;"),
    Directive::flag("autoindex_exact_size", Contexts::HSL, |b| {
        &mut b.settings().static_files.listing.exact_size
    })
    .default("on")
    .doc("Whether HTML listings show exact sizes in bytes; otherwise rounded ones in K, M and G.")
    .example("autoindex_exact_size off;"),
    Directive::flag("autoindex_localtime", Contexts::HSL, |b| {
        &mut b.settings().static_files.listing.local_time
    })
    .default("off")
    .doc("Whether listings show times in the local time zone; otherwise in UTC.")
    .example("autoindex_localtime on;"),
    Directive::flag("random_index", Contexts::LOCATION, |b| &mut b.settings().static_files.listing.random)
        .default("off")
        .doc("Whether a random file of a directory is served as its index.")
        .example("random_index on;"),
];

/// Returns the handler of the content phase.
pub(super) fn handle(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let settings = exchange.settings(env.config);
    let listing = &settings.static_files.listing;
    if !*listing.on
        || exchange.request.uri.last() != Some(&b'/')
        || !matches!(exchange.method(), b"GET" | b"HEAD")
    {
        return Verdict::Next;
    }
    let callback = match *listing.format {
        ListingFormat::Jsonp => match callback(&exchange.request.args) {
            Ok(callback) => callback,
            Err(()) => {
                log_line::error(exchange, env, Level::Info, b"client sent invalid callback name");
                return Verdict::Refuse(400);
            }
        },
        _ => None,
    };
    let mut entries = match read(exchange, env) {
        Ok(entries) => entries,
        Err(status) => return Verdict::Refuse(status),
    };
    entries.retain(|entry| !entry.name.starts_with(b"."));
    entries.sort_by(|one, other| other.is_dir.cmp(&one.is_dir).then_with(|| one.name.cmp(&other.name)));
    let is_utf8 = settings.filters.charset.charset.as_ref().is_some_and(|charset| {
        charset.name.constant().is_some_and(|name| name.eq_ignore_ascii_case(b"utf-8"))
    });
    let utc_offset_s = if *listing.local_time { env.host.now().utc_offset_s } else { 0 };
    let shape = Listing { exact_size: *listing.exact_size, utc_offset_s, is_utf8 };
    let mut out = Vec::new();
    let kind: &[u8] = match (*listing.format, callback) {
        (ListingFormat::Html, _) => {
            format::html(&shape, &exchange.request.uri, &entries, &mut out);
            b"text/html"
        }
        (ListingFormat::Xml, _) => {
            format::xml(&entries, &mut out);
            b"text/xml; charset=utf-8"
        }
        (_, Some(callback)) => {
            format::jsonp(&callback, &entries, &mut out);
            b"application/javascript"
        }
        (_, None) => {
            format::json(&entries, &mut out);
            b"application/json"
        }
    };
    if !exchange.request.body_settled() {
        exchange.request.discard_wanted = true;
    }
    exchange.response.status = 200;
    exchange.response.set_content_type(kind);
    Verdict::Serve(Content::Bytes(out))
}

/// Reads the directory of the URI.
pub(super) fn read(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<Vec<FolderEntry>, u16> {
    let mut directory = Vec::new();
    path::append_path(exchange, env, &mut directory)?;
    if directory.len() > 1 && directory.ends_with(b"/") {
        directory.pop();
    }
    // The rules about links are those of files.
    let read = path::open(exchange, env, &directory, true).and_then(|found| match found.is_dir {
        true => env.host.read_folder(&directory),
        false => Err(FileError { errno: libc::ENOTDIR, call: "opendir()" }),
    });
    read.map_err(|error| {
        let (level, status) = match error.errno {
            libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG => (Level::Error, 404),
            libc::EACCES | libc::ELOOP | libc::EMLINK => (Level::Error, 403),
            _ => (Level::Crit, 500),
        };
        log_failure(exchange, env, level, &directory, FileError { call: "opendir()", ..error });
        status
    })
}

/// Returns the name in the argument `callback`, if it has one; the error is that it is none of a function.
fn callback(args: &[u8]) -> Result<Option<Vec<u8>>, ()> {
    let pieces = args.split(|byte| *byte == b'&');
    let Some(name) = pieces.filter_map(|piece| piece.strip_prefix(b"callback=")).next() else {
        return Ok(None);
    };
    let is_fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"_$.".contains(byte);
    match name {
        [] => Ok(None),
        name if name.iter().all(is_fine) => Ok(Some(name.to_vec())),
        _ => Err(()),
    }
}
