//! `auth_basic`: a user and a password, from the field Authorization (ngx_http_auth_basic_module, RFC 7617).
//!
//! Owns the look-up in the password file, which is read anew for each request as in nginx, so that a change of it
//! holds at once. The schemes are [`password`]'s. A password must never get into a log.

mod password;
#[cfg(test)]
mod tests;

use super::Module;
use super::static_files::confine::{self, Climbs};
use super::static_files::path::log_failure;
use crate::directive::{Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::phase::{Phase, Verdict};
use crate::setting::settings;
use crate::template::Template;
use crate::variables;
use http::Known;
use password::Check;
use std::os::unix::ffi::OsStrExt;

settings! {
    /// Settings of one level.
    pub struct AuthBasicSettings {
        /// `auth_basic`: the realm; the value `off` is none.
        pub realm: Option<Template> = None,
        /// `auth_basic_user_file`.
        pub user_file: Option<Template> = None,
    }
}

/// The module.
pub static MODULE: Module = Module {
    handlers: &[(Phase::Access, handle)],
    is_needed: Some(|_, settings| settings.auth.basic.realm.is_some()),
    ..Module::new("auth_basic", &[DIRECTIVES])
};

const PLACES: Contexts = Contexts::HSL.or(Contexts::LIMIT_EXCEPT);

const DIRECTIVES: &[Directive] = &[
    Directive::template("auth_basic", PLACES, "string | off", |b| &mut b.settings().auth.basic.realm)
        .default("off")
        .doc(
            "Asks for a user and a password; the realm is what browsers show. `off` asks for \
         none.",
        )
        .example("auth_basic \"closed site\";"),
    Directive::template("auth_basic_user_file", PLACES, "file", |b| &mut b.settings().auth.basic.user_file)
        .doc(
            "The file of `user:password` lines, beside the configuration file unless its path is \
         absolute. Passwords: $2y$ (bcrypt), $5$, $6$, $1$, $apr1$, {SSHA}, {SHA}, {PLAIN}; \
         not plain crypt.",
        )
        .example("auth_basic_user_file conf/htpasswd;"),
];

fn handle(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let settings = &exchange.settings(env.config).auth.basic;
    let (Some(realm), Some(user_file)) = (settings.realm.get(), settings.user_file.get()) else {
        return Verdict::Next;
    };
    let realm = realm.value(exchange, env);
    if realm == b"off" {
        return Verdict::Next;
    }
    let mut credentials = Vec::new();
    let authorization = exchange.request.head.headers.get(Known::Authorization).unwrap_or_default();
    let Some(colon) = variables::basic_credentials(authorization, &mut credentials) else {
        let text = b"no user/password was provided for basic authentication";
        log_line::error(exchange, env, Level::Info, text);
        return ask(exchange, &realm);
    };
    let (user, password) = (&credentials[..colon], &credentials[colon + 1..]);
    let Ok(path) = path(exchange, env, user_file) else { return Verdict::Refuse(403) };
    let file = match env.host.read_file(&path) {
        Ok(file) => file,
        Err(error) => {
            let missing = error.errno == libc::ENOENT;
            let level = if missing { Level::Error } else { Level::Crit };
            log_failure(exchange, env, level, &path, error);
            return Verdict::Refuse(if missing { 403 } else { 500 });
        }
    };
    let Some(entry) = entry_of(&file, user) else {
        complain(exchange, env, &[b"user \"", user, b"\" was not found in \"", &path, b"\""]);
        return ask(exchange, &realm);
    };
    match password::check(entry, password) {
        Check::Right => {
            exchange.route.access.set_user(exchange.route.location, user);
            return Verdict::Allow;
        }
        Check::Wrong => complain(exchange, env, &[b"user \"", user, b"\": password mismatch"]),
        Check::UnknownScheme => {
            let words: [&[u8]; 5] = [
                b"user \"",
                user,
                b"\": the password in \"",
                &path,
                b"\" is of a scheme that is not supported",
            ];
            complain(exchange, env, &words);
        }
    }
    ask(exchange, &realm)
}

fn complain(exchange: &Exchange, env: &mut Env<'_>, words: &[&[u8]]) {
    log_line::error(exchange, env, Level::Error, &words.concat());
}

/// 401 and the field that tells what is wanted.
fn ask(exchange: &mut Exchange, realm: &[u8]) -> Verdict {
    let mut value = [b"Basic realm=\"", realm, b"\""].concat();
    http::line_end::blank(&mut value);
    exchange.response.headers.push_known(Known::WwwAuthenticate, &value);
    Verdict::Refuse(401)
}

/// Returns the file's path: beside the configuration file unless it is absolute. A request cannot lead it elsewhere.
fn path(exchange: &mut Exchange, env: &mut Env<'_>, user_file: &Template) -> Result<Vec<u8>, Climbs> {
    let mut path = Vec::new();
    confine::append(user_file, exchange, env, &mut path)?;
    if path.starts_with(b"/") {
        return Ok(path);
    }
    let folder = env.config.file.parent().map_or(&b""[..], |folder| folder.as_os_str().as_bytes());
    Ok([folder, b"/", &path].concat())
}

/// Returns the text after a user's name in the first line with it, up to another colon or the line's end.
fn entry_of<'a>(file: &'a [u8], user: &[u8]) -> Option<&'a [u8]> {
    let comment = |line: &&[u8]| line.starts_with(b"#") || line.starts_with(b"\r");
    let mut lines = file.split(|byte| *byte == b'\n').filter(|line| !comment(line));
    let rest = lines.find_map(|line| line.strip_prefix(user)?.strip_prefix(b":"))?;
    rest.split(|byte| matches!(byte, b'\r' | b':')).next()
}
