//! `secure_link`: links that hold a hash over what they lead to, and perhaps an end of their time
//! (ngx_http_secure_link_module).
//!
//! Owns what `$secure_link` and `$secure_link_expires` say. What follows from it is the configuration's (`if ($secure_link)`).

use super::Module;
use crate::config::{Builder, once};
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::setting::settings;
use crate::template::Template;
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use conf::Diagnostic;
use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

settings! {
    /// Settings of one level.
    pub struct SecureLinkSettings {
        /// `secure_link`: the hash, and behind a comma the end of its time.
        pub link: Option<Template> = None,
        /// `secure_link_md5`: what the hash is over.
        pub md5: Option<Template> = None,
        /// `secure_link_secret`: the word of links in the old form.
        pub secret: Option<Vec<u8>> = None,
    }
}

/// The module.
pub static MODULE: Module = Module { finish: Some(check), ..Module::new("secure_link", &[DIRECTIVES]) };

const DIRECTIVES: &[Directive] = &[
    Directive::template("secure_link", Contexts::HSL, "expression", |b| {
        &mut b.settings().auth.secure_link.link
    })
    .doc(
        "The hash of a link in base64url, optionally followed by a comma and its expiry in seconds since the epoch. \
         $secure_link is 1 if it is the hash of secure_link_md5, 0 if it has expired, and empty if the hash is \
         wrong.",
    )
    .example("secure_link $arg_md5,$arg_expires; secure_link_md5 \"$secure_link_expires$uri secret\";"),
    Directive::template("secure_link_md5", Contexts::HSL, "expression", |b| {
        &mut b.settings().auth.secure_link.md5
    })
    .doc("The text that a link's hash is computed from.")
    .example("secure_link_md5 \"$uri$remote_addr secret\";"),
    Directive::new("secure_link_secret", Contexts::LOCATION, Args::Exactly(1), "word", |b, d| {
        let word = d.args[0].text().to_vec();
        once(b.settings().auth.secure_link.secret.write(Some(word)), d)
    })
    .doc(
        "The secret of links of the form /prefix/hash/link, where the hash is the hexadecimal MD5 of the link \
         followed by this word. $secure_link is the link if the hash is right, otherwise empty.",
    )
    .example("secure_link_secret word;"),
];

/// Both forms together mean nothing.
fn check(b: &mut Builder<'_>) {
    let mut faults = Vec::new();
    for scope in &b.draft.scopes {
        let own = &scope.settings.auth.secure_link;
        let mut level = Some(scope);
        let mut has_link = false;
        while let Some(scope) = level {
            let settings = &scope.settings.auth.secure_link;
            has_link |= settings.link.is_some() || settings.md5.is_some();
            level = scope.parent.map(|parent| &b.draft.scopes[parent]);
        }
        if own.secret.is_some() && has_link {
            let text = "\"secure_link_secret\" cannot be mixed with \"secure_link\" and \"secure_link_md5\"";
            faults.push(
                Diagnostic::error(scope.span, text)
                    .help("leave secure_link_secret out: it is the older form, without an end of its time"),
            );
        }
    }
    b.diagnostics.extend(faults);
}

/// nginx reads bits behind the last byte, and `=` or none.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The longest text of a hash.
const MAX_HASH_TEXT: usize = 24;

/// Splits the value of `secure_link`: the hash's text, and the end of its time if it has one. `None` if that is none.
fn split(value: &[u8]) -> Option<(&[u8], Option<u64>)> {
    let Some(comma) = memchr::memchr(b',', value) else { return Some((value, None)) };
    let until = conf::value::parse_number(&value[comma + 1..]).filter(|until| *until > 0)?;
    Some((&value[..comma], Some(until)))
}

/// Appends the value of `$secure_link`; false if it has none.
pub(crate) fn append(exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
    let settings = &exchange.settings(env.config).auth.secure_link;
    if let Some(secret) = &*settings.secret {
        let link = linked(exchange.request.head.target(), secret);
        out.extend_from_slice(link.unwrap_or_default());
        return link.is_some();
    }
    let (Some(link), Some(over)) = (&*settings.link, &*settings.md5) else { return false };
    let value = link.value(exchange, env);
    let Some((text, until_s)) = split(&value) else { return false };
    let text = &text[..memchr::memchr(b'=', text).unwrap_or(text.len())];
    let Some(hash) =
        Some(text).filter(|text| text.len() <= MAX_HASH_TEXT).and_then(|text| LENIENT.decode(text).ok())
    else {
        return false;
    };
    let expected = Md5::digest(over.value(exchange, env));
    if !bool::from(hash.as_slice().ct_eq(expected.as_slice())) {
        return false;
    }
    let is_over = until_s.is_some_and(|until_s| until_s < env.host.now().epoch_s());
    out.push(if is_over { b'0' } else { b'1' });
    true
}

/// Appends the value of `$secure_link_expires`; false if it has none.
pub(crate) fn append_expires(exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
    let settings = &exchange.settings(env.config).auth.secure_link;
    let Some(link) = &*settings.link else { return false };
    let value = link.value(exchange, env);
    match (split(&value), memchr::memchr(b',', &value)) {
        (Some((_, Some(_))), Some(comma)) => {
            out.extend_from_slice(&value[comma + 1..]);
            true
        }
        _ => false,
    }
}

/// Returns the link in a target `/prefix/hash/link`, if the hash is right. Arguments belong to the link, as in nginx.
fn linked<'t>(target: &'t [u8], secret: &[u8]) -> Option<&'t [u8]> {
    let mut parts = target.get(1..)?.splitn(3, |byte| *byte == b'/');
    let (_, hash, link) = (parts.next()?, parts.next()?, parts.next()?);
    let mut digest = Md5::new();
    digest.update(link);
    digest.update(secret);
    let mut expected = Vec::with_capacity(32);
    for byte in digest.finalize() {
        let digit = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
        expected.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    bool::from(hash.to_ascii_lowercase().as_slice().ct_eq(&expected)).then_some(link)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::faults_of;

    #[test]
    fn a_link_with_its_hash_is_read() {
        let hash = "45c1ad5f8c4a7cd6dbc2b5c2b9d0a8b5";
        assert_eq!(linked(format!("/p/{hash}/link").as_bytes(), b"word"), None);
        let right: String = Md5::digest(b"a/link?xword").iter().map(|byte| format!("{byte:02x}")).collect();
        let upper = right.to_uppercase();
        for hash in [&right, &upper] {
            assert_eq!(linked(format!("/p/{hash}/a/link?x").as_bytes(), b"word"), Some(&b"a/link?x"[..]));
        }
        assert_eq!(linked(format!("/p/{right}/a/link").as_bytes(), b"word"), None);
        for target in ["", "/", "/p", "/p/", "/p/x/link"] {
            assert_eq!(linked(target.as_bytes(), b"word"), None, "{target}");
        }
    }

    #[test]
    fn a_time_is_a_number_behind_a_comma() {
        assert_eq!(split(b"abc"), Some((&b"abc"[..], None)));
        assert_eq!(split(b"abc,5"), Some((&b"abc"[..], Some(5))));
        for value in ["abc,", "abc,0", "abc,x", "abc,-1"] {
            assert_eq!(split(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn the_two_forms_do_not_mix() {
        let faults = |inside: &str| {
            faults_of(&format!(
                "events {{}} http {{ server {{ secure_link $uri; location / {{ {inside} }} }} }}"
            ))
        };
        assert_eq!(faults("secure_link_md5 $uri;"), [] as [String; 0]);
        assert_eq!(faults("secure_link_secret word;").len(), 1);
    }
}
