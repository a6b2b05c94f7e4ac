//! `index`: what is served for a directory (ngx_http_index_module).
//!
//! A URI that ends in `/` is redirected internally to the first index file that is there, so that the file's own
//! location serves it.

use super::confine;
use super::path::{self, log_failure, log_path};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::phase::{self, Verdict};

/// Returns the index handler of the content phase.
pub(super) fn handle(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    if exchange.request.uri.last() != Some(&b'/') || !matches!(exchange.method(), b"GET" | b"HEAD" | b"POST")
    {
        return Verdict::Next;
    }
    let mut found = std::mem::take(&mut exchange.scratch);
    found.clear();
    let verdict = search(exchange, env, &mut found);
    exchange.scratch = found;
    verdict
}

/// Looks for the index files in order; `found` is for their paths.
fn search(exchange: &mut Exchange, env: &mut Env<'_>, found: &mut Vec<u8>) -> Verdict {
    let config = env.config;
    let mut directory = None;
    let mut directory_tested = false;
    for name in exchange.settings(config).static_files.index.iter() {
        if let Some(absolute @ [b'/', ..]) = name.constant() {
            return redirect(exchange, env, absolute);
        }
        let directory_len = match directory {
            Some(len) => len,
            None => match path::append_path(exchange, env, found) {
                Ok(()) => *directory.insert(found.len()),
                Err(status) => return Verdict::Refuse(status),
            },
        };
        found.truncate(directory_len);
        if confine::append(name, exchange, env, found).is_err() {
            return Verdict::Refuse(403);
        }
        if found.get(directory_len) == Some(&b'/') {
            return redirect(exchange, env, &found[directory_len..]);
        }
        let error = match path::open(exchange, env, found, true) {
            Ok(_) => {
                let mut uri = exchange.request.uri.clone();
                uri.extend_from_slice(&found[directory_len..]);
                return redirect(exchange, env, &uri);
            }
            Err(error) => error,
        };
        match error.errno {
            libc::EMLINK | libc::ELOOP => return Verdict::Refuse(403),
            libc::ENOTDIR | libc::ENAMETOOLONG | libc::EACCES => {
                return missing(exchange, env, found, error.errno);
            }
            _ => {}
        }
        if !directory_tested {
            if let Err(refusal) = test_directory(exchange, env, found, directory_len) {
                return refusal;
            }
            directory_tested = true;
        }
        if error.errno != libc::ENOENT {
            log_failure(exchange, env, Level::Crit, found, error);
            return Verdict::Refuse(500);
        }
    }
    Verdict::Next
}

fn redirect(exchange: &mut Exchange, env: &mut Env<'_>, uri: &[u8]) -> Verdict {
    let args = std::mem::take(&mut exchange.request.args);
    match phase::redirect_internally(exchange, env, uri, &args) {
        Ok(()) => Verdict::Restart(exchange.route.cursor.phase),
        Err(status) => Verdict::Refuse(status),
    }
}

/// Checks that the directory exists. nginx does so only after the first index file was not found, because requests that
/// can be served should not pay for those that cannot.
fn test_directory(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    file: &[u8],
    directory_len: usize,
) -> Result<(), Verdict> {
    let mut directory = &file[..directory_len];
    // An `alias` without a slash at its end leaves none to cut.
    if let [rest @ .., b'/'] = directory
        && !rest.is_empty()
    {
        directory = rest;
    }
    match path::open(exchange, env, directory, true) {
        Ok(found) if found.is_dir => Ok(()),
        Ok(_) => {
            log_path(exchange, env, Level::Alert, ("\"", directory, "\" is not a directory"), None);
            Err(Verdict::Refuse(500))
        }
        Err(error) => match error.errno {
            libc::EMLINK | libc::ELOOP => Err(Verdict::Refuse(403)),
            libc::ENOENT => Err(missing(exchange, env, file, libc::ENOENT)),
            // The index file's own error was another one, so the directory may be searched, if not listed.
            libc::EACCES => Ok(()),
            _ => {
                log_failure(exchange, env, Level::Crit, directory, error);
                Err(Verdict::Refuse(500))
            }
        },
    }
}

fn missing(exchange: &Exchange, env: &mut Env<'_>, file: &[u8], errno: i32) -> Verdict {
    if errno == libc::EACCES {
        log_path(exchange, env, Level::Error, ("\"", file, "\" is forbidden"), Some(errno));
        return Verdict::Refuse(403);
    }
    if *exchange.settings(env.config).static_files.log_not_found {
        log_path(exchange, env, Level::Error, ("\"", file, "\" is not found"), Some(errno));
    }
    Verdict::Refuse(404)
}
