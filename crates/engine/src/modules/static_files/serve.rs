//! A file as the answer (ngx_http_static_module).

use super::path::{self, log_failure, log_path};
use crate::exchange::Exchange;
use crate::host::{Env, FileError, Level, Opened};
use crate::modules::compression::{self, Candidate};
use crate::output::Coding;
use crate::phase::{Content, FilePart, Verdict};
use http::Known;
use http::escape::{Escape, escape};

/// Returns the file handler of the content phase; the last one.
pub(super) fn handle(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let is_post = match exchange.method() {
        b"GET" | b"HEAD" => false,
        b"POST" => true,
        _ => return Verdict::Refuse(405),
    };
    if exchange.request.uri.last() == Some(&b'/') {
        return Verdict::Next;
    }
    let mut path = std::mem::take(&mut exchange.scratch);
    path.clear();
    let verdict = answer(exchange, env, &mut path, is_post);
    exchange.scratch = path;
    verdict
}

fn answer(exchange: &mut Exchange, env: &mut Env<'_>, path: &mut Vec<u8>, is_post: bool) -> Verdict {
    if let Err(status) = path::append_path(exchange, env, path) {
        return Verdict::Refuse(status);
    }
    let compressed = precompressed(exchange, env, path);
    let coding = compressed.as_ref().map(|(coding, _)| *coding);
    let opened =
        match compressed.map_or_else(|| path::open(exchange, env, path, false), |(_, opened)| Ok(opened)) {
            Ok(opened) => opened,
            Err(error) => return refuse(exchange, env, path, error),
        };
    if opened.is_dir {
        exchange.response.location = Some(with_slash(exchange));
        return Verdict::Refuse(301);
    }
    let Some(file) = opened.file.filter(|_| opened.is_file) else {
        log_path(exchange, env, Level::Crit, ("\"", path.as_slice(), "\" is not a regular file"), None);
        return Verdict::Refuse(404);
    };
    if is_post {
        return Verdict::Refuse(405);
    }
    if !exchange.request.body_settled() {
        exchange.request.discard_wanted = true;
    }
    let wants_etag = *exchange.settings(env.config).static_files.etag;
    let response = &mut exchange.response;
    response.status = 200;
    response.content_length = Some(opened.len);
    response.last_modified_s = Some(opened.modified_s);
    if wants_etag {
        let mut tag = [0; ETAG_LEN];
        response.headers.push_known(Known::ETag, etag(opened.modified_s, opened.len, &mut tag));
    }
    super::set_content_type(exchange, env);
    if let Some(coding) = coding {
        exchange.response.headers.push_known(Known::ContentEncoding, coding.name());
    }
    exchange.response.allow_ranges = coding.is_none();
    Verdict::Serve(match opened.len {
        0 => Content::Empty,
        len => Content::File { file, parts: vec![FilePart::Range { offset: 0, len }] },
    })
}

/// Opens a compressed file beside the one that is asked for, if `gzip_static` or its like say so and there is one
/// (ngx_http_gzip_static_module).
fn precompressed(exchange: &mut Exchange, env: &mut Env<'_>, path: &mut Vec<u8>) -> Option<(Coding, Opened)> {
    let len = path.len();
    for Candidate { coding, is_accepted, varies } in compression::precompressed(exchange, env) {
        path.extend_from_slice(coding.ending());
        let opened = path::open(exchange, env, path, false).ok().filter(|opened| opened.is_file);
        path.truncate(len);
        exchange.output.varies |= opened.is_some() && varies;
        if let Some(opened) = opened.filter(|_| is_accepted) {
            return Some((coding, opened));
        }
    }
    None
}

fn refuse(exchange: &Exchange, env: &mut Env<'_>, path: &[u8], error: FileError) -> Verdict {
    let (level, status) = match error.errno {
        libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG => (Level::Error, 404),
        libc::EACCES | libc::EMLINK | libc::ELOOP => (Level::Error, 403),
        _ => (Level::Crit, 500),
    };
    if status != 404 || *exchange.settings(env.config).static_files.log_not_found {
        log_failure(exchange, env, level, path, error);
    }
    Verdict::Refuse(status)
}

/// Returns the URI of a directory that was asked for without its final slash.
fn with_slash(exchange: &Exchange) -> Vec<u8> {
    let mut to = Vec::new();
    escape(Escape::Uri, &exchange.request.uri, &mut to);
    to.push(b'/');
    if !exchange.request.args.is_empty() {
        to.push(b'?');
        to.extend_from_slice(&exchange.request.args);
    }
    to
}

/// Two numbers of sixteen hexadecimal digits, a dash and two quotes.
const ETAG_LEN: usize = 35;

/// Returns nginx's entity tag: time of change and length, in hexadecimal.
fn etag(modified_s: u64, len: u64, out: &mut [u8; ETAG_LEN]) -> &[u8] {
    let mut start = ETAG_LEN - 1;
    out[start] = b'"';
    for (mut number, before) in [(len, b'-'), (modified_s, b'"')] {
        loop {
            start -= 1;
            out[start] = b"0123456789abcdef"[(number & 15) as usize];
            number >>= 4;
            if number == 0 {
                break;
            }
        }
        start -= 1;
        out[start] = before;
    }
    &out[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_are_nginx_s() {
        for (modified_s, len, expected) in [
            (0x6b02_aac1, 6, "\"6b02aac1-6\""),
            (0, 0, "\"0-0\""),
            (u64::MAX, u64::MAX, "\"ffffffffffffffff-ffffffffffffffff\""),
        ] {
            assert_eq!(etag(modified_s, len, &mut [0; ETAG_LEN]), expected.as_bytes());
        }
    }
}
